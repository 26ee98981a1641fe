//! Settings of Mailchimp.

use std::ffi::{CStr, c_char, c_void};

use pgrx::guc::{GucFlags, GucSetting};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{
    GucText, check_hook, check_url, checked, number, secret, secret_hook, string, switch, text,
};

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
pub static MAILCHIMP_POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(0);

check_hook!(check_resubscribe, |word| matches!(
    word,
    "never" | "pending"
));
check_hook!(check_on_delete, |word| matches!(
    word,
    "archive" | "permanent" | "ignore"
));

secret_hook!(check_mailchimp_api_key, "mailchimp_api_key");
secret_hook!(check_mailchimp_webhook_secret, "mailchimp_webhook_secret");
secret_hook!(
    check_mailchimp_webhook_signing_secret,
    "mailchimp_webhook_signing_secret"
);
secret_hook!(check_mandrill_webhook_key, "mandrill_webhook_key");

pub(super) fn register() {
    let plain = GucFlags::empty();
    secret(
        c"integration.mailchimp_api_key",
        c"Mailchimp API key, or env:NAME, or file:/path.",
        &MAILCHIMP_API_KEY,
        Some(check_mailchimp_api_key),
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
    secret(
        c"integration.mailchimp_webhook_secret",
        c"Secret in the path of the URL that receives Mailchimp webhooks.",
        &MAILCHIMP_WEBHOOK_SECRET,
        Some(check_mailchimp_webhook_secret),
    );
    secret(
        c"integration.mailchimp_webhook_signing_secret",
        c"Secret that Mailchimp webhooks are signed with, or several, separated by blanks.",
        &MAILCHIMP_WEBHOOK_SIGNING_SECRET,
        Some(check_mailchimp_webhook_signing_secret),
    );
    secret(
        c"integration.mandrill_webhook_key",
        c"Key that Mandrill webhooks are signed with.",
        &MANDRILL_WEBHOOK_KEY,
        Some(check_mandrill_webhook_key),
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
