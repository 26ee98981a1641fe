//! Settings that are texts, and those that name where a secret is.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use pgrx::guc::{GucFlags, GucRegistry, GucSetting};

use super::kinds::{CONTEXT, Line, RefusedValue, Setting};
use super::table::TABLE;
use crate::pg::statement;
use crate::secret::Secret;

/// Returns why a text is refused; `None`: it is accepted.
pub type Check = fn(&str) -> Option<RefusedValue>;

/// A text, without the blanks around it.
pub struct Text {
    setting: GucSetting<Option<CString>>,
    default: &'static CStr,
    check: Check,
}

impl Text {
    pub const fn new(_name: &'static str, default: &'static CStr, check: Check) -> Text {
        Text {
            setting: GucSetting::<Option<CString>>::new(Some(default)),
            default,
            check,
        }
    }

    pub fn get(&self) -> String {
        let value = self.setting.get();
        let value = value.as_deref().unwrap_or(self.default);
        value.to_string_lossy().trim().to_owned()
    }

    /// `None` when empty.
    pub fn filled(&self) -> Option<String> {
        Some(self.get()).filter(|value| !value.is_empty())
    }

    fn define_with(&'static self, line: &Line, flags: GucFlags) {
        // SAFETY: the hook only reads the value it is given.
        unsafe {
            GucRegistry::define_string_guc_with_hooks(
                line.name,
                line.text,
                c"",
                &self.setting,
                CONTEXT,
                flags,
                line.check,
                None,
                None,
            );
        }
    }
}

impl Setting for Text {
    fn define(&'static self, line: Line) {
        self.define_with(&line, GucFlags::empty());
    }

    fn refusal(&self, written: &str) -> Option<RefusedValue> {
        (self.check)(written)
    }
}

/// Where a secret may be kept, other than in an environment variable or a file that the setting
/// names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SecretHome {
    /// By `integration.set_secret()`.
    InStore,
    Outside,
}

/// A secret. Only superusers see it; it is in neither dumps of `pg_settings` nor samples, and a
/// literal secret is refused.
pub struct SecretText {
    text: Text,
    /// Without a prefix.
    pub name: &'static str,
    kept: SecretHome,
    /// Returns whether a value need not be hidden.
    open: fn(&str) -> bool,
}

impl SecretText {
    pub const fn new(name: &'static str, kept: SecretHome, open: fn(&str) -> bool) -> SecretText {
        SecretText {
            text: Text::new(name, c"", |_| None),
            name,
            kept,
            open,
        }
    }

    /// `None` when empty.
    pub fn filled(&self) -> Option<String> {
        self.text.filled()
    }

    /// Returns whether a value may be written in the setting.
    pub fn may_hold(&self, written: &str) -> bool {
        Secret::is_reference(written) || TABLE.allow_literal_secrets.get() || (self.open)(written)
    }

    fn instead(&self) -> String {
        match self.kept {
            SecretHome::InStore => format!(
                "SELECT integration.set_secret('{}', '...'); keeps it encrypted, or set env:NAME or file:/path.",
                self.name
            ),
            SecretHome::Outside => "Set env:NAME or file:/path.".to_owned(),
        }
    }
}

impl Setting for SecretText {
    fn define(&'static self, line: Line) {
        self.text.define_with(&line, GucFlags::SUPERUSER_ONLY);
    }

    /// The message does not repeat the secret.
    fn refusal(&self, written: &str) -> Option<RefusedValue> {
        if written.is_empty() || self.may_hold(written) {
            return None;
        }
        statement::hide(written);
        Some(RefusedValue {
            message: Some(format!(
                "integration.{} is to say where the secret is, not to hold it",
                self.name
            )),
            detail: None,
            hint: format!(
                "{} In a sandbox set integration.allow_literal_secrets = on before it.",
                self.instead()
            ),
        })
    }

    fn stored_secret(&self) -> Option<&'static str> {
        (self.kept == SecretHome::InStore).then_some(self.name)
    }
}
