//! The settings as the rest of the code sees them: a plain [`Settings`], read on the main thread.

mod define;
mod endpoint;
mod kinds;
mod stored;
mod table;
mod texts;

use std::time::Duration;

use integration_engine::limits::rate::Rate;
use integration_engine::limits::retry::Policy;
use integration_engine::record::Target;
use integration_hubspot::HubSpotSettings;
use integration_mailchimp::MailchimpSettings;

use crate::pg::extension;
use crate::secret::Secret;
pub use endpoint::{Credential, Endpoint, OAuthApp};
pub use stored::{StoredSecrets, WebhookSettings, encryption_key};
use table::TABLE;
pub use table::stored_secrets;

/// Registers every setting with PostgreSQL. Called from `_PG_init`.
pub fn init() {
    table::define();
    define::reserve_prefix();
}

/// What happens to the CRM row of a record that was deleted in HubSpot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRemoteDelete {
    /// It stays, and is not sent there again by itself.
    Ignore,
    Delete,
}

/// The settings that the worker uses: plain values, read on the main thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub enabled: bool,
    pub environment: String,
    pub hubspot: Result<Endpoint, String>,
    pub mailchimp: Result<Endpoint, String>,
    pub hubspot_api: HubSpotSettings,
    pub on_remote_delete: OnRemoteDelete,
    /// HubSpot counts requests about associations apart from all others.
    pub association_rate: Option<Rate>,
    pub mailchimp_api: MailchimpSettings,
    pub batch_window: Duration,
    pub retry: Policy,
    pub request_timeout: Duration,
    pub max_records: usize,
    pub guard_deletes: Option<Rate>,
    pub http_proxy: Option<String>,
    pub ca_file: Option<String>,
    pub request_log_retention: Duration,
    pub inbox_retention: Duration,
    /// `None`: for ever; the same below.
    pub activity_retention: Option<Duration>,
    pub consent_log_retention: Option<Duration>,
    /// `None`: Mailchimp's reports are read only on request.
    pub mailchimp_poll_interval: Option<Duration>,
}

impl Settings {
    pub fn read(stored: &StoredSecrets) -> Settings {
        Settings {
            enabled: TABLE.enabled.get(),
            environment: environment(),
            hubspot: endpoint::hubspot(stored),
            mailchimp: endpoint::mailchimp(stored),
            hubspot_api: HubSpotSettings {
                api_version: TABLE.hubspot_api_version.get(),
                external_id_property: TABLE.hubspot_external_id_property.get(),
                external_id_ready: Vec::new(),
                external_id_shared: Vec::new(),
                on_delete: TABLE.hubspot_on_delete.get(),
            },
            on_remote_delete: TABLE.hubspot_on_remote_delete.get(),
            association_rate: Rate::parse(&TABLE.hubspot_association_rate_limit.get())
                .ok()
                .flatten(),
            mailchimp_api: mailchimp_api(),
            batch_window: TABLE.batch_window.get(),
            retry: Policy {
                base: TABLE.retry_base.get(),
                max: TABLE.retry_max.get(),
                max_attempts: TABLE.max_attempts.get(),
            },
            request_timeout: TABLE.request_timeout.get(),
            max_records: TABLE.max_in_flight_records.get() as usize,
            guard_deletes: Rate::parse(&TABLE.guard_deletes.get()).ok().flatten(),
            http_proxy: http_proxy(),
            ca_file: TABLE.ca_file.filled(),
            request_log_retention: TABLE.request_log_retention.get(),
            inbox_retention: TABLE.inbox_retention.get(),
            activity_retention: TABLE.activity_retention.filled(),
            consent_log_retention: TABLE.consent_log_retention.filled(),
            mailchimp_poll_interval: TABLE.mailchimp_poll_interval.filled(),
        }
    }

    /// Settings with which no service can be reached.
    pub fn refuse(&mut self, why: &str) {
        self.hubspot = Err(why.to_owned());
        self.mailchimp = Err(why.to_owned());
    }

    pub fn endpoint(&self, target: Target) -> Result<&Endpoint, &str> {
        match target {
            Target::HubSpot => self.hubspot.as_ref(),
            Target::Mailchimp => self.mailchimp.as_ref(),
        }
        .map_err(String::as_str)
    }
}

/// Returns the name of this installation, see `integration.environment`. An unreadable `env:`
/// counts as empty.
pub fn environment() -> String {
    Secret::resolve(&TABLE.environment.get())
        .map(|value| value.reveal().to_owned())
        .unwrap_or_default()
}

/// Returns whether a worker is to run in this database.
pub fn wants_database(name: &str) -> bool {
    let wanted = TABLE.databases.get();
    wanted == "*" || wanted.split(',').any(|one| one.trim() == name)
}

/// Returns how long one statement on a CRM table may take, whatever code of others it runs.
pub fn crm_timeout() -> Duration {
    TABLE.crm_timeout.get()
}

/// Returns whether the name of this installation comes from outside the data directory.
pub fn environment_is_external() -> bool {
    TABLE.environment.get().starts_with("env:") && !environment().is_empty()
}

/// Returns whether a worker is to run in the database of this session. Call it inside a
/// transaction.
pub fn wants_my_database() -> bool {
    TABLE.databases.get() == "*"
        || extension::database_name().is_some_and(|name| wants_database(&name))
}

/// It may contain a password. One that cannot be read is passed on as it is and refused there, so
/// that nothing bypasses a proxy.
fn http_proxy() -> Option<String> {
    let written = TABLE.http_proxy.filled()?;
    let resolved = Secret::resolve(&written).map(|url| url.reveal().to_owned());
    Some(resolved.unwrap_or(written))
}

/// Returns how long to wait for an answer that carries no records.
pub fn request_timeout() -> Duration {
    TABLE.request_timeout.get()
}

/// Returns the role with which the worker connects, if one is set.
pub fn worker_role() -> Option<String> {
    TABLE.worker_role.filled()
}

/// Returns our HubSpot app's id, by which our own changes are recognised in webhooks.
pub fn hubspot_app_id() -> Option<String> {
    TABLE.hubspot_app_id.filled()
}

fn mailchimp_api() -> MailchimpSettings {
    MailchimpSettings {
        list: TABLE.mailchimp_list_id.get(),
        // The contents of the tables are not known here.
        several: false,
        resubscribe: TABLE.mailchimp_resubscribe.get(),
        double_opt_in: TABLE.mailchimp_double_opt_in.get(),
        on_delete: TABLE.mailchimp_on_delete.get(),
    }
}
