//! Every setting: its static, its registration, and what is refused at once.
#![allow(unsafe_code)]

mod hubspot;
mod mailchimp;

use std::ffi::{CStr, CString, c_char, c_void};

use integration_engine::limits::rate::Rate;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::base_url;
use crate::pg::statement;
use crate::secret::Secret;

pub use hubspot::*;
pub use mailchimp::*;

type Text = GucSetting<Option<CString>>;

const fn text(default: &'static CStr) -> GucText {
    GucText {
        setting: Text::new(Some(default)),
        default,
    }
}

/// A text setting with the default it falls back to when set to nothing.
pub struct GucText {
    setting: Text,
    default: &'static CStr,
}

impl GucText {
    pub fn get(&self) -> String {
        let value = self.setting.get();
        let value = value.as_deref().unwrap_or(self.default);
        value.to_string_lossy().trim().to_owned()
    }

    /// `None` when empty.
    pub fn filled(&self) -> Option<String> {
        Some(self.get()).filter(|value| !value.is_empty())
    }
}

pub static DATABASES: GucText = text(c"*");
pub static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
pub static WORKER_ROLE: GucText = text(c"");
pub static ENVIRONMENT: GucText = text(c"");

pub static BATCH_WINDOW: GucSetting<i32> = GucSetting::<i32>::new(5);
pub static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(12);
pub static RETRY_BASE: GucSetting<i32> = GucSetting::<i32>::new(1_000);
pub static RETRY_MAX: GucSetting<i32> = GucSetting::<i32>::new(900_000);
pub static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
pub static CRM_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
pub static MAX_IN_FLIGHT_RECORDS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
pub static GUARD_DELETES: GucText = text(c"500/10min");

pub static ALLOW_LITERAL_SECRETS: GucSetting<bool> = GucSetting::<bool>::new(false);
pub static ENCRYPTION_KEY: GucText = text(c"");
pub static HTTP_PROXY: GucText = text(c"");
pub static CA_FILE: GucText = text(c"");
pub static WEBHOOK_ALLOWED_IPS: GucText = text(c"");

pub static REQUEST_LOG_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60);
pub static INBOX_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 60);
pub static ACTIVITY_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static CONSENT_LOG_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Secret settings are shown to superusers only; not in dumps of `pg_settings`, nor samples.
const SECRET: GucFlags = GucFlags::SUPERUSER_ONLY;

/// Registers every setting. Called from `_PG_init`.
pub fn init() {
    // First: what the others may hold depends on it.
    switch(
        c"integration.allow_literal_secrets",
        c"Whether secret settings may hold the secret itself, for all to read who read logs and catalogues; for sandboxes.",
        &ALLOW_LITERAL_SECRETS,
    );
    register_where();
    hubspot::register();
    mailchimp::register();
    register_delivery();
    register_network();
    // SAFETY: the prefix is a NUL-terminated constant, and this is `_PG_init`, after the last definition.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"integration".as_ptr()) };
}

fn string(name: &'static CStr, what: &'static CStr, setting: &'static GucText, flags: GucFlags) {
    GucRegistry::define_string_guc(name, what, c"", &setting.setting, GucContext::Suset, flags);
}

/// A text that is refused at once if it makes no sense.
fn checked(
    name: &'static CStr,
    what: &'static CStr,
    setting: &'static GucText,
    check: pg_sys::GucStringCheckHook,
) {
    // SAFETY: the hooks only read the value they are given.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            what,
            c"",
            &setting.setting,
            GucContext::Suset,
            GucFlags::empty(),
            check,
            None,
            None,
        );
    }
}

/// Wraps a test of a text as the hook that Postgres calls.
macro_rules! check_hook {
    ($name:ident, $test:expr) => {
        #[pg_guard]
        unsafe extern "C-unwind" fn $name(
            value: *mut *mut c_char,
            _extra: *mut *mut c_void,
            _source: pg_sys::GucSource::Type,
        ) -> bool {
            // SAFETY: Postgres passes a pointer to a C string, or to none.
            let text = unsafe {
                match value.as_ref() {
                    Some(text) if !text.is_null() => CStr::from_ptr(*text),
                    _ => return true,
                }
            };
            let test: fn(&str) -> bool = $test;
            test(text.to_string_lossy().trim())
        }
    };
}

use check_hook;

/// Makes the hook of a secret setting, which refuses the secret itself and does not repeat it.
macro_rules! secret_hook {
    ($name:ident, $setting:literal) => {
        secret_hook!(
            $name,
            $setting,
            |_| false,
            concat!(
                "SELECT integration.set_secret('",
                $setting,
                "', '...'); keeps it encrypted, or set env:NAME or file:/path. "
            )
        );
    };
    ($name:ident, $setting:literal, $open:expr, $instead:expr) => {
        #[pg_guard]
        unsafe extern "C-unwind" fn $name(
            value: *mut *mut c_char,
            _extra: *mut *mut c_void,
            _source: pg_sys::GucSource::Type,
        ) -> bool {
            const MESSAGE: &CStr = match CStr::from_bytes_with_nul(
                concat!(
                    "integration.",
                    $setting,
                    " is to say where the secret is, not to hold it\0"
                )
                .as_bytes(),
            ) {
                Ok(message) => message,
                Err(_) => c"",
            };
            const HINT: &CStr = match CStr::from_bytes_with_nul(
                concat!(
                    "SELECT integration.set_secret('",
                    $setting,
                    "', '...'); keeps it encrypted, or set env:NAME or file:/path. ",
                    "In a sandbox set integration.allow_literal_secrets = on before it.\0"
                )
                .as_bytes(),
            ) {
                Ok(hint) => hint,
                Err(_) => c"",
            };
            // SAFETY: Postgres passes a pointer to a C string, or to none.
            unsafe { $crate::config::registry::refuse_literal(value, $open, MESSAGE, HINT) }
        }
    };
}

use secret_hook;

/// Whether a secret setting may hold a value; if not, what Postgres is to say.
///
/// # Safety
/// `value` is what a check hook is given.
unsafe fn refuse_literal(
    value: *mut *mut c_char,
    open: fn(&str) -> bool,
    message: &'static CStr,
    hint: &'static CStr,
) -> bool {
    // SAFETY: as promised.
    let text = unsafe {
        match value.as_ref() {
            Some(text) if !text.is_null() => CStr::from_ptr(*text).to_string_lossy(),
            _ => return true,
        }
    };
    let text = text.trim();
    if text.is_empty() || Secret::is_reference(text) || ALLOW_LITERAL_SECRETS.get() || open(text) {
        return true;
    }
    statement::hide(text);
    // SAFETY: Postgres reads both before it calls another hook, and frees neither.
    unsafe {
        pg_sys::GUC_check_errmsg_string = message.as_ptr().cast_mut();
        pg_sys::GUC_check_errhint_string = hint.as_ptr().cast_mut();
    }
    false
}

/// Defines a secret setting.
fn secret(
    name: &'static CStr,
    what: &'static CStr,
    setting: &'static GucText,
    check: pg_sys::GucStringCheckHook,
) {
    // SAFETY: the hooks only read the value they are given.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            what,
            c"",
            &setting.setting,
            GucContext::Suset,
            SECRET,
            check,
            None,
            None,
        );
    }
}

secret_hook!(
    check_encryption_key,
    "encryption_key",
    |_| false,
    "Set env:NAME or file:/path. "
);
// One without a password holds no secret.
secret_hook!(
    check_http_proxy,
    "http_proxy",
    |url| !url.contains('@'),
    "Set env:NAME or file:/path to an URL with a password. "
);

check_hook!(check_url, |url| url.is_empty() || base_url(url, "").is_ok());
check_hook!(check_rate, |rate| Rate::parse(rate).is_ok());

fn number(
    name: &'static CStr,
    what: &'static CStr,
    setting: &'static GucSetting<i32>,
    least: i32,
    most: i32,
    unit: GucFlags,
) {
    GucRegistry::define_int_guc(
        name,
        what,
        c"",
        setting,
        least,
        most,
        GucContext::Suset,
        unit,
    );
}

fn switch(name: &'static CStr, what: &'static CStr, setting: &'static GucSetting<bool>) {
    GucRegistry::define_bool_guc(
        name,
        what,
        c"",
        setting,
        GucContext::Suset,
        GucFlags::empty(),
    );
}

fn register_where() {
    string(
        c"integration.databases",
        c"Databases to work in: * or a comma-separated list.",
        &DATABASES,
        GucFlags::empty(),
    );
    switch(
        c"integration.enabled",
        c"Whether the worker sends and applies anything.",
        &ENABLED,
    );
    string(
        c"integration.worker_role",
        c"Role the worker runs as; empty: the extension's owner.",
        &WORKER_ROLE,
        GucFlags::empty(),
    );
    string(
        c"integration.environment",
        c"Name of this installation, part of what a copy is recognised by; may be env:NAME.",
        &ENVIRONMENT,
        GucFlags::empty(),
    );
}

fn register_delivery() {
    let (plain, ms) = (GucFlags::empty(), GucFlags::UNIT_MS);
    number(
        c"integration.batch_window",
        c"How long to wait for a batch to fill while requests are under way.",
        &BATCH_WINDOW,
        0,
        60_000,
        ms,
    );
    number(
        c"integration.max_attempts",
        c"Failed attempts before a change becomes a dead letter.",
        &MAX_ATTEMPTS,
        1,
        1_000,
        plain,
    );
    number(
        c"integration.retry_base",
        c"First back-off; doubles with each attempt.",
        &RETRY_BASE,
        1,
        3_600_000,
        ms,
    );
    number(
        c"integration.retry_max",
        c"Longest back-off.",
        &RETRY_MAX,
        1,
        86_400_000,
        ms,
    );
    number(
        c"integration.request_timeout",
        c"How long to wait for an answer; for Mailchimp see mailchimp_request_timeout.",
        &REQUEST_TIMEOUT,
        100,
        600_000,
        ms,
    );
    number(
        c"integration.crm_timeout",
        c"How long a statement on a CRM table may take, with the views, triggers and functions it runs.",
        &CRM_TIMEOUT,
        10,
        3_600_000,
        ms,
    );
    number(
        c"integration.max_in_flight_records",
        c"Records held in the worker's memory, per target.",
        &MAX_IN_FLIGHT_RECORDS,
        500,
        1_000_000,
        plain,
    );
    checked(
        c"integration.guard_deletes",
        c"Deletions of a target in an interval, such as 500/10min, before it is held; or off.",
        &GUARD_DELETES,
        Some(check_rate),
    );
}

fn register_network() {
    let (plain, minutes) = (GucFlags::empty(), GucFlags::UNIT_MIN);
    secret(
        c"integration.encryption_key",
        c"Key for secrets kept in tables: 32 bytes in base64 or hex, or a passphrase; as env:NAME or file:/path.",
        &ENCRYPTION_KEY,
        Some(check_encryption_key),
    );
    secret(
        c"integration.http_proxy",
        c"URL of a proxy for outgoing requests; with a password, as env:NAME or file:/path.",
        &HTTP_PROXY,
        Some(check_http_proxy),
    );
    string(
        c"integration.ca_file",
        c"File with additional certificate authorities, PEM.",
        &CA_FILE,
        plain,
    );
    string(
        c"integration.webhook_allowed_ips",
        c"Networks webhooks may come from, comma-separated; empty: any.",
        &WEBHOOK_ALLOWED_IPS,
        plain,
    );
    number(
        c"integration.request_log_retention",
        c"How long request_log rows are kept.",
        &REQUEST_LOG_RETENTION,
        1,
        i32::MAX,
        minutes,
    );
    number(
        c"integration.inbox_retention",
        c"How long applied inbox rows are kept.",
        &INBOX_RETENTION,
        1,
        i32::MAX,
        minutes,
    );
    number(
        c"integration.activity_retention",
        c"How long activity rows are kept, counted from when it happened; 0: for ever.",
        &ACTIVITY_RETENTION,
        0,
        i32::MAX,
        minutes,
    );
    number(
        c"integration.consent_log_retention",
        c"How long consent_log rows are kept, but for the last one of each person; 0: for ever.",
        &CONSENT_LOG_RETENTION,
        0,
        i32::MAX,
        minutes,
    );
}
