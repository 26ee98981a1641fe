//! Settings of HubSpot.

use std::ffi::{CStr, c_char, c_void};

use pgrx::guc::{GucFlags, GucSetting};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{
    GucText, SECRET, check_hook, check_rate, check_url, checked, number, secret, secret_hook,
    string, text,
};

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
pub static HUBSPOT_ON_DELETE: GucText = text(c"archive");
pub static HUBSPOT_ON_REMOTE_DELETE: GucText = text(c"ignore");

check_hook!(check_hubspot_on_delete, |word| matches!(
    word,
    "archive" | "gdpr" | "ignore"
));
check_hook!(check_on_remote_delete, |word| matches!(
    word,
    "ignore" | "delete"
));

secret_hook!(check_hubspot_access_token, "hubspot_access_token");
secret_hook!(check_hubspot_refresh_token, "hubspot_refresh_token");
secret_hook!(check_hubspot_client_secret, "hubspot_client_secret");
secret_hook!(check_hubspot_webhook_secret, "hubspot_webhook_secret");

pub(super) fn register() {
    let plain = GucFlags::empty();
    secret(
        c"integration.hubspot_access_token",
        c"HubSpot token, or env:NAME, or file:/path.",
        &HUBSPOT_ACCESS_TOKEN,
        Some(check_hubspot_access_token),
    );
    string(
        c"integration.hubspot_client_id",
        c"HubSpot app's client id, for OAuth; or env:NAME, or file:/path.",
        &HUBSPOT_CLIENT_ID,
        SECRET,
    );
    secret(
        c"integration.hubspot_refresh_token",
        c"HubSpot OAuth refresh token, used while no access token is set; or env:NAME, or file:/path.",
        &HUBSPOT_REFRESH_TOKEN,
        Some(check_hubspot_refresh_token),
    );
    secret(
        c"integration.hubspot_client_secret",
        c"HubSpot app's client secret, or env:NAME, or file:/path.",
        &HUBSPOT_CLIENT_SECRET,
        Some(check_hubspot_client_secret),
    );
    secret(
        c"integration.hubspot_webhook_secret",
        c"Secret that HubSpot webhooks are signed with; defaults to the client secret.",
        &HUBSPOT_WEBHOOK_SECRET,
        Some(check_hubspot_webhook_secret),
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
