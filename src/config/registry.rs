//! Every setting: its static, its registration, and what is refused at once.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};

use integration_engine::rate::Rate;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::base_url;

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

pub static HUBSPOT_ACCESS_TOKEN: GucText = text(c"");
pub static HUBSPOT_CLIENT_ID: GucText = text(c"");
pub static HUBSPOT_CLIENT_SECRET: GucText = text(c"");
pub static HUBSPOT_REFRESH_TOKEN: GucText = text(c"");
pub static HUBSPOT_WEBHOOK_SECRET: GucText = text(c"");
pub static HUBSPOT_BASE_URL: GucText = text(c"https://api.hubapi.com");
pub static HUBSPOT_API_VERSION: GucText = text(c"2026-09");
pub static HUBSPOT_RATE_LIMIT: GucText = text(c"100/10s");
pub static HUBSPOT_DAILY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static HUBSPOT_ASSOCIATION_RATE_LIMIT: GucText = text(c"100/10s");
pub static HUBSPOT_MAX_CONNECTIONS: GucSetting<i32> = GucSetting::<i32>::new(16);
pub static HUBSPOT_EXTERNAL_ID_PROPERTY: GucText = text(c"crm_id");
pub static HUBSPOT_APP_ID: GucText = text(c"");

pub static MAILCHIMP_API_KEY: GucText = text(c"");
pub static MAILCHIMP_BASE_URL: GucText = text(c"");
pub static MAILCHIMP_LIST_ID: GucText = text(c"");
pub static MAILCHIMP_WEBHOOK_SECRET: GucText = text(c"");
pub static MAILCHIMP_WEBHOOK_SIGNING_SECRET: GucText = text(c"");
pub static MANDRILL_WEBHOOK_KEY: GucText = text(c"");
pub static MAILCHIMP_MAX_CONNECTIONS: GucSetting<i32> = GucSetting::<i32>::new(8);
pub static MAILCHIMP_REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(130_000);
pub static MAILCHIMP_RESUBSCRIBE: GucText = text(c"never");
pub static MAILCHIMP_DOUBLE_OPT_IN: GucSetting<bool> = GucSetting::<bool>::new(false);
pub static MAILCHIMP_ON_DELETE: GucText = text(c"archive");
pub static HUBSPOT_ON_DELETE: GucText = text(c"archive");
pub static HUBSPOT_ON_REMOTE_DELETE: GucText = text(c"ignore");

pub static MAILCHIMP_POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(0);

pub static BATCH_WINDOW: GucSetting<i32> = GucSetting::<i32>::new(5);
pub static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(12);
pub static RETRY_BASE: GucSetting<i32> = GucSetting::<i32>::new(1_000);
pub static RETRY_MAX: GucSetting<i32> = GucSetting::<i32>::new(900_000);
pub static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
pub static MAX_IN_FLIGHT_RECORDS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
pub static GUARD_DELETES: GucText = text(c"500/10min");

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
    register_where();
    register_hubspot();
    register_mailchimp();
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

check_hook!(check_url, |url| url.is_empty() || base_url(url, "").is_ok());
check_hook!(check_rate, |rate| Rate::parse(rate).is_ok());
check_hook!(check_resubscribe, |word| matches!(
    word,
    "never" | "pending"
));
check_hook!(check_on_delete, |word| matches!(
    word,
    "archive" | "permanent" | "ignore"
));
check_hook!(check_hubspot_on_delete, |word| matches!(
    word,
    "archive" | "gdpr" | "ignore"
));
check_hook!(check_on_remote_delete, |word| matches!(
    word,
    "ignore" | "delete"
));

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

fn register_hubspot() {
    let plain = GucFlags::empty();
    string(
        c"integration.hubspot_access_token",
        c"HubSpot token, or env:NAME, or file:/path.",
        &HUBSPOT_ACCESS_TOKEN,
        SECRET,
    );
    string(
        c"integration.hubspot_client_id",
        c"HubSpot app's client id, for OAuth; or env:NAME, or file:/path.",
        &HUBSPOT_CLIENT_ID,
        SECRET,
    );
    string(
        c"integration.hubspot_refresh_token",
        c"HubSpot OAuth refresh token, used while no access token is set; or env:NAME, or file:/path.",
        &HUBSPOT_REFRESH_TOKEN,
        SECRET,
    );
    string(
        c"integration.hubspot_client_secret",
        c"HubSpot app's client secret, or env:NAME, or file:/path.",
        &HUBSPOT_CLIENT_SECRET,
        SECRET,
    );
    string(
        c"integration.hubspot_webhook_secret",
        c"Secret that HubSpot webhooks are signed with; defaults to the client secret.",
        &HUBSPOT_WEBHOOK_SECRET,
        SECRET,
    );
    checked(
        c"integration.hubspot_base_url",
        c"Base URL of the HubSpot API.",
        &HUBSPOT_BASE_URL,
        Some(check_url),
    );
    string(
        c"integration.hubspot_api_version",
        c"HubSpot API version: a dated one such as 2026-09, or v3.",
        &HUBSPOT_API_VERSION,
        plain,
    );
    checked(
        c"integration.hubspot_rate_limit",
        c"HubSpot requests allowed in an interval, such as 100/10s, or off.",
        &HUBSPOT_RATE_LIMIT,
        Some(check_rate),
    );
    checked(
        c"integration.hubspot_association_rate_limit",
        c"HubSpot association requests allowed in an interval, which HubSpot counts apart from others, such as 100/10s, or off.",
        &HUBSPOT_ASSOCIATION_RATE_LIMIT,
        Some(check_rate),
    );
    number(
        c"integration.hubspot_daily_limit",
        c"HubSpot requests a day after which nothing is sent until the next, by HubSpot's count or, where it does not tell, by ours; 0: HubSpot's own limit.",
        &HUBSPOT_DAILY_LIMIT,
        0,
        i32::MAX,
        plain,
    );
    number(
        c"integration.hubspot_max_connections",
        c"HubSpot requests under way at once.",
        &HUBSPOT_MAX_CONNECTIONS,
        1,
        500,
        plain,
    );
    string(
        c"integration.hubspot_external_id_property",
        c"HubSpot property that holds the CRM key; unique.",
        &HUBSPOT_EXTERNAL_ID_PROPERTY,
        plain,
    );
    string(
        c"integration.hubspot_app_id",
        c"Id of our HubSpot app, to know our own changes in webhooks.",
        &HUBSPOT_APP_ID,
        plain,
    );
    checked(
        c"integration.hubspot_on_delete",
        c"When a row is deleted in the CRM: archive, gdpr (contacts are erased for good) or ignore.",
        &HUBSPOT_ON_DELETE,
        Some(check_hubspot_on_delete),
    );
    checked(
        c"integration.hubspot_on_remote_delete",
        c"When a record is deleted in HubSpot: ignore (the CRM row stays) or delete (it is deleted, too).",
        &HUBSPOT_ON_REMOTE_DELETE,
        Some(check_on_remote_delete),
    );
}

fn register_mailchimp() {
    let plain = GucFlags::empty();
    string(
        c"integration.mailchimp_api_key",
        c"Mailchimp API key, or env:NAME, or file:/path.",
        &MAILCHIMP_API_KEY,
        SECRET,
    );
    checked(
        c"integration.mailchimp_base_url",
        c"Base URL of the Mailchimp API; empty: from the key's data centre.",
        &MAILCHIMP_BASE_URL,
        Some(check_url),
    );
    string(
        c"integration.mailchimp_list_id",
        c"Audience that contacts are sent to.",
        &MAILCHIMP_LIST_ID,
        plain,
    );
    string(
        c"integration.mailchimp_webhook_secret",
        c"Secret in the path of the URL that receives Mailchimp webhooks.",
        &MAILCHIMP_WEBHOOK_SECRET,
        SECRET,
    );
    string(
        c"integration.mailchimp_webhook_signing_secret",
        c"Secret that Mailchimp webhooks are signed with, or several, separated by blanks.",
        &MAILCHIMP_WEBHOOK_SIGNING_SECRET,
        SECRET,
    );
    string(
        c"integration.mandrill_webhook_key",
        c"Key that Mandrill webhooks are signed with.",
        &MANDRILL_WEBHOOK_KEY,
        SECRET,
    );
    number(
        c"integration.mailchimp_max_connections",
        c"Mailchimp requests under way at once (Mailchimp: at most 10 connections a user).",
        &MAILCHIMP_MAX_CONNECTIONS,
        1,
        10,
        plain,
    );
    number(
        c"integration.mailchimp_request_timeout",
        c"How long to wait for Mailchimp's answer to a call with records. Mailchimp ends calls after 120 s; one that is abandoned before that goes on there.",
        &MAILCHIMP_REQUEST_TIMEOUT,
        100,
        600_000,
        GucFlags::UNIT_MS,
    );
    number(
        c"integration.mailchimp_poll_interval",
        c"How often what people did with campaigns is fetched; 0: only when integration.poll() is called.",
        &MAILCHIMP_POLL_INTERVAL,
        0,
        i32::MAX,
        GucFlags::UNIT_S,
    );
    checked(c"integration.mailchimp_resubscribe", c"When the CRM opts in a person who unsubscribed at Mailchimp: never, or pending (ask them).", &MAILCHIMP_RESUBSCRIBE, Some(check_resubscribe));
    switch(
        c"integration.mailchimp_double_opt_in",
        c"Whether new members are asked to confirm (status pending).",
        &MAILCHIMP_DOUBLE_OPT_IN,
    );
    checked(
        c"integration.mailchimp_on_delete",
        c"When a contact is deleted in the CRM: archive, permanent or ignore.",
        &MAILCHIMP_ON_DELETE,
        Some(check_on_delete),
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
    string(
        c"integration.encryption_key",
        c"Key for secrets kept in tables: 32 bytes in base64 or hex, or a passphrase; or env:NAME, or file:/path.",
        &ENCRYPTION_KEY,
        SECRET,
    );
    string(
        c"integration.http_proxy",
        c"URL of a proxy for outgoing requests.",
        &HTTP_PROXY,
        SECRET,
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
