//! Turns lines of the table into settings that PostgreSQL knows.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};

use pgrx::pg_sys;

use super::kinds::Setting;

/// Creates the table of settings: a struct with a field for each, and its registration.
///
/// A line is `name: Kind = (arguments of the kind), "text";`.
macro_rules! settings {
    ($($name:ident: $kind:ty = ($($argument:expr),*), $text:literal;)*) => {
        /// A field for each setting, of the same name.
        pub struct SettingsTable {
            $(pub $name: $kind,)*
        }

        pub static TABLE: SettingsTable = SettingsTable {
            $($name: <$kind>::new(stringify!($name), $($argument),*),)*
        };

        /// Registers every setting with PostgreSQL, in the order of the table.
        pub fn define() {
            $({
                #[pgrx::pg_guard]
                unsafe extern "C-unwind" fn check(
                    value: *mut *mut std::ffi::c_char,
                    _extra: *mut *mut std::ffi::c_void,
                    _source: pgrx::pg_sys::GucSource::Type,
                ) -> bool {
                    // SAFETY: PostgreSQL calls this as a check hook.
                    unsafe { $crate::config::define::allows(&TABLE.$name, value) }
                }
                TABLE.$name.define(Line {
                    name: c_text(concat!("integration.", stringify!($name), "\0")),
                    text: c_text(concat!($text, "\0")),
                    check: Some(check),
                });
            })*
        }

        /// Returns the names of the secrets that `integration.set_secret()` keeps.
        pub fn stored_secrets() -> impl Iterator<Item = &'static str> {
            let settings: [&'static dyn Setting; _] = [$(&TABLE.$name),*];
            settings.into_iter().filter_map(Setting::stored_secret)
        }
    };
}

pub(super) use settings;

/// Reserves our prefix: a misspelt setting is refused from now on.
pub fn reserve_prefix() {
    // SAFETY: the prefix is a NUL-terminated constant, and this is `_PG_init`, after the last definition.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"integration".as_ptr()) };
}

/// Returns a constant that ends with a NUL, as PostgreSQL requires.
pub const fn c_text(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a NUL within a text"),
    }
}

/// Returns whether a setting may have a value; if not, tells PostgreSQL why, and what is allowed.
///
/// # Safety
///
/// `value` is what a check hook is given.
pub unsafe fn allows(setting: &dyn Setting, value: *mut *mut c_char) -> bool {
    // SAFETY: PostgreSQL passes a pointer to a C string, or to none.
    let text = unsafe {
        match value.as_ref() {
            Some(text) if !text.is_null() => CStr::from_ptr(*text).to_string_lossy(),
            _ => return true,
        }
    };
    let Some(refusal) = setting.refusal(text.trim()) else {
        return true;
    };
    // SAFETY: PostgreSQL reads the three when the hook has returned false, and frees none.
    unsafe {
        if let Some(message) = refusal.message {
            pg_sys::GUC_check_errmsg_string = for_report(message);
        }
        if let Some(detail) = refusal.detail {
            pg_sys::GUC_check_errdetail_string = for_report(detail);
        }
        pg_sys::GUC_check_errhint_string = for_report(refusal.hint);
    }
    false
}

/// Returns a copy where PostgreSQL keeps the parts of an error until it has been reported.
fn for_report(text: String) -> *mut c_char {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: the context exists from the start of the process, and the text ends with a NUL.
    unsafe { pg_sys::MemoryContextStrdup(pg_sys::ErrorContext, text.as_ptr()) }
}
