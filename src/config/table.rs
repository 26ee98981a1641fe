//! The table of settings. Each is a line of it, and a row with the same text in the README's table;
//! all begin with `integration.`.
#![allow(unsafe_code)]

use integration_engine::limits::rate::Rate;
use integration_hubspot::HubSpotOnDelete;
use integration_mailchimp::{OnDelete, Resubscribe};

use super::OnRemoteDelete;
use super::define::{c_text, settings};
use super::endpoint::base_url;
use super::kinds::Unit::{Milliseconds, Minutes, Seconds};
use super::kinds::{Choice, Count, Line, RefusedValue, Setting, Span, Switch};
use super::texts::SecretHome::{InStore, Outside};
use super::texts::{SecretText, Text};

settings! {
    // It comes first: what others may contain depends on it.
    allow_literal_secrets: Switch = (false), "Whether secret settings may hold the secret itself, for all to read who read logs and catalogues; for sandboxes, set before the others.";

    // Where.
    databases: Text = (c"*", any), "Databases to work in: * for every one that has the extension, or a comma-separated list.";
    enabled: Switch = (true), "Whether the worker sends and applies anything.";
    worker_role: Text = (c"", any), "Role the worker runs as, a member of the role that owns the extension; empty: the server's first superuser.";
    environment: Text = (c"", any), "Name of this installation, best as env:NAME; a copy under another name sends nothing.";

    // HubSpot.
    hubspot_access_token: SecretText = (InStore, never), "HubSpot token; secret.";
    hubspot_client_id: SecretText = (InStore, always), "HubSpot app's client id, for OAuth; secret.";
    hubspot_client_secret: SecretText = (InStore, never), "HubSpot app's client secret, for OAuth and webhooks; secret.";
    hubspot_refresh_token: SecretText = (InStore, never), "HubSpot OAuth refresh token, used while no access token is set; secret.";
    hubspot_webhook_secret: SecretText = (InStore, never), "What HubSpot webhooks are signed with; empty: the client secret; secret.";
    hubspot_base_url: Text = (c"https://api.hubapi.com", url), "Base URL of the HubSpot API; plain http is for loopback only.";
    hubspot_api_version: Text = (c"2026-09", any), "HubSpot API version: a dated one, or v3; those before 2026-09 ignore what administrators require of properties.";
    hubspot_rate_limit: Text = (c"100/10s", rate), "HubSpot requests allowed in an interval, or off; corrected by what HubSpot says.";
    hubspot_association_rate_limit: Text = (c"100/10s", rate), "The same for requests about associations, which HubSpot counts apart.";
    hubspot_daily_limit: Count = (0, 0..=i32::MAX), "HubSpot requests a day after which nothing is sent until the next, by HubSpot's count where it tells, else by ours; 0: HubSpot's own limit.";
    hubspot_max_connections: Count = (16, 1..=500), "HubSpot requests under way at once.";
    hubspot_external_id_property: Text = (c"crm_id", any), "Unique HubSpot property that says which row a record is.";
    hubspot_app_id: Text = (c"", any), "Id of our HubSpot app, to know our own changes in webhooks.";
    hubspot_on_delete: Choice<HubSpotOnDelete> = (&[(c"archive", HubSpotOnDelete::Archive), (c"gdpr", HubSpotOnDelete::Gdpr), (c"ignore", HubSpotOnDelete::Ignore)]), "What a row that was deleted in the CRM means for HubSpot: archive, gdpr (contacts are erased for good) or ignore.";
    hubspot_on_remote_delete: Choice<OnRemoteDelete> = (&[(c"ignore", OnRemoteDelete::Ignore), (c"delete", OnRemoteDelete::Delete)]), "What a record that was deleted in HubSpot means for the CRM row: ignore (it stays) or delete.";

    // Mailchimp.
    mailchimp_api_key: SecretText = (InStore, never), "Mailchimp API key or OAuth access token; secret.";
    mailchimp_base_url: Text = (c"", url), "Base URL of the Mailchimp API, plain http for loopback only; empty: by the key, https://us19.api.mailchimp.com for one that ends in -us19, https://api.mailchimp.com for one that names no data centre.";
    mailchimp_list_id: Text = (c"", any), "Audience of contacts that name no other one.";
    mailchimp_webhook_secret: SecretText = (InStore, never), "Secret in the path of the URL that receives Mailchimp webhooks; secret.";
    mailchimp_webhook_signing_secret: SecretText = (InStore, never), "What Mailchimp webhooks are signed with; several webhooks' secrets are separated by blanks; secret.";
    mandrill_webhook_key: SecretText = (InStore, never), "What Mandrill (Mailchimp Transactional) webhooks are signed with; secret.";
    mailchimp_max_connections: Count = (8, 1..=10), "Mailchimp requests under way at once; 10 is what Mailchimp allows to all programs of a user together; an opt-out may use one more, up to these ten.";
    mailchimp_request_timeout: Span = (130_000, 100..=600_000, Milliseconds), "How long to wait for Mailchimp's answer to a call with records; Mailchimp ends calls after 120 s, and one that is given up before goes on there.";
    mailchimp_poll_interval: Span = (0, 0..=i32::MAX, Seconds), "How often what people did with campaigns is fetched; 0: only by poll().";
    mailchimp_resubscribe: Choice<Resubscribe> = (&[(c"never", Resubscribe::Never), (c"pending", Resubscribe::Pending)]), "What becomes of people who unsubscribed at Mailchimp and opted in again in the CRM: never (nothing) or pending (Mailchimp asks them).";
    mailchimp_double_opt_in: Switch = (false), "Whether new members are asked to confirm.";
    mailchimp_on_delete: Choice<OnDelete> = (&[(c"archive", OnDelete::Archive), (c"permanent", OnDelete::Permanent), (c"ignore", OnDelete::Ignore)]), "What a contact that was deleted in the CRM means for the member: archive, permanent (it is erased for good) or ignore.";

    // Delivery.
    batch_window: Span = (5, 0..=60_000, Milliseconds), "How long to wait for a batch to fill while requests are under way.";
    max_attempts: Count = (12, 1..=1_000), "Failed attempts before a change becomes a dead letter.";
    retry_base: Span = (1_000, 1..=3_600_000, Milliseconds), "First back-off; doubles with each attempt.";
    retry_max: Span = (900_000, 1..=86_400_000, Milliseconds), "Longest back-off.";
    request_timeout: Span = (30_000, 100..=600_000, Milliseconds), "How long to wait for an answer; of Mailchimp, only to calls without records.";
    crm_timeout: Span = (30_000, 10..=3_600_000, Milliseconds), "How long one statement on a CRM table may take, with the views, triggers and functions it runs.";
    max_in_flight_records: Count = (10_000, 500..=1_000_000), "Records in the worker's memory, per target.";
    guard_deletes: Text = (c"500/10min", rate), "Deletions of a target in an interval before it is held until resume(); or off.";

    // Network.
    encryption_key: SecretText = (Outside, never), "What secrets in tables are encrypted with: 32 bytes in base64 or hex, or a passphrase; secret; empty: the key file that set_secret() makes.";
    http_proxy: SecretText = (Outside, without_password), "URL of a proxy for outgoing requests, secret if it has a password; one that leads nowhere makes both targets unconfigured.";
    ca_file: Text = (c"", any), "File with additional certificate authorities, PEM; one that cannot be read makes both targets unconfigured.";
    webhook_allowed_ips: Text = (c"", any), "Networks webhooks may come from, comma-separated; empty: any.";

    // Keeping.
    request_log_retention: Span = (7 * 24 * 60, 1..=i32::MAX, Minutes), "How long request_log rows are kept.";
    inbox_retention: Span = (30 * 24 * 60, 1..=i32::MAX, Minutes), "How long applied inbox rows are kept.";
    activity_retention: Span = (0, 0..=i32::MAX, Minutes), "How long activity rows are kept, counted from when it happened; 0: for ever.";
    consent_log_retention: Span = (0, 0..=i32::MAX, Minutes), "How long consent_log rows are kept, but for the last one of each person; 0: for ever.";
}

fn any(_text: &str) -> Option<RefusedValue> {
    None
}

fn url(text: &str) -> Option<RefusedValue> {
    if text.is_empty() {
        return None;
    }
    let why = base_url(text).err()?;
    Some(RefusedValue {
        detail: Some(why),
        hint: "Write it as https://api.example.com; plain http is for loopback only.".to_owned(),
        ..RefusedValue::default()
    })
}

fn rate(text: &str) -> Option<RefusedValue> {
    Rate::parse(text).err()?;
    Some(RefusedValue {
        hint:
            "Write a number and an interval (ms, s, min, h or d), as 100/10s or 500/10min; or off."
                .to_owned(),
        ..RefusedValue::default()
    })
}

/// A client id appears in URLs.
fn always(_text: &str) -> bool {
    true
}

fn never(_text: &str) -> bool {
    false
}

fn without_password(url: &str) -> bool {
    !url.contains('@')
}
