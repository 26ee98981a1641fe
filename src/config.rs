//! The settings as the rest of the code sees them: a plain [`Settings`], read on the main thread.

mod registry;

use std::collections::HashMap;
use std::time::Duration;

use integration_engine::delivery::call::{
    HubSpotOnDelete, HubSpotSettings, MailchimpSettings, OnDelete, Resubscribe,
};
use integration_engine::limits::rate::Rate;
use integration_engine::limits::retry::Policy;
use integration_engine::mailchimp;
use integration_engine::record::Target;
use pgrx::guc::GucSetting;

use crate::error::Error;
use crate::extension;
use crate::http::Network;
use crate::secret::Secret;
pub use registry::init;
use registry::{
    ACTIVITY_RETENTION, ALLOW_LITERAL_SECRETS, BATCH_WINDOW, CA_FILE, CONSENT_LOG_RETENTION,
    CRM_TIMEOUT, DATABASES, ENABLED, ENCRYPTION_KEY, ENVIRONMENT, GUARD_DELETES, GucText,
    HTTP_PROXY, HUBSPOT_ACCESS_TOKEN, HUBSPOT_API_VERSION, HUBSPOT_APP_ID,
    HUBSPOT_ASSOCIATION_RATE_LIMIT, HUBSPOT_BASE_URL, HUBSPOT_CLIENT_ID, HUBSPOT_CLIENT_SECRET,
    HUBSPOT_DAILY_LIMIT, HUBSPOT_EXTERNAL_ID_PROPERTY, HUBSPOT_MAX_CONNECTIONS, HUBSPOT_ON_DELETE,
    HUBSPOT_ON_REMOTE_DELETE, HUBSPOT_RATE_LIMIT, HUBSPOT_REFRESH_TOKEN, HUBSPOT_WEBHOOK_SECRET,
    INBOX_RETENTION, MAILCHIMP_API_KEY, MAILCHIMP_BASE_URL, MAILCHIMP_DOUBLE_OPT_IN,
    MAILCHIMP_LIST_ID, MAILCHIMP_MAX_CONNECTIONS, MAILCHIMP_ON_DELETE, MAILCHIMP_POLL_INTERVAL,
    MAILCHIMP_REQUEST_TIMEOUT, MAILCHIMP_RESUBSCRIBE, MAILCHIMP_WEBHOOK_SECRET,
    MAILCHIMP_WEBHOOK_SIGNING_SECRET, MANDRILL_WEBHOOK_KEY, MAX_ATTEMPTS, MAX_IN_FLIGHT_RECORDS,
    REQUEST_LOG_RETENTION, REQUEST_TIMEOUT, RETRY_BASE, RETRY_MAX, WEBHOOK_ALLOWED_IPS,
    WORKER_ROLE,
};

/// How a target is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Without a slash at the end.
    pub base_url: String,
    pub credential: Credential,
    pub max_connections: usize,
    /// How long a call with records may take.
    pub timeout: Duration,
    pub rate: Option<Rate>,
    /// Requests a day that are not to be exceeded.
    pub daily_limit: Option<u32>,
}

/// What a target lets us in with.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// Sent as it is.
    Fixed(Secret),
    /// HubSpot: access tokens are fetched with it.
    OAuth(OAuthApp),
}

#[derive(Clone, Debug, PartialEq)]
pub struct OAuthApp {
    pub client_id: Secret,
    pub client_secret: Secret,
    pub refresh_token: Secret,
}

/// What becomes of the CRM row of a record that was deleted in HubSpot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRemoteDelete {
    /// It stays, and is not sent there again by itself.
    Ignore,
    Delete,
}

/// What the worker goes by; plain values, read on the main thread.
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
    /// `None`: for ever, as below.
    pub activity_retention: Option<Duration>,
    pub consent_log_retention: Option<Duration>,
    /// `None`: Mailchimp's reports are read only when somebody asks for it.
    pub mailchimp_poll_interval: Option<Duration>,
}

impl Settings {
    pub fn read(stored: &Stored) -> Settings {
        Settings {
            enabled: ENABLED.get(),
            environment: environment(),
            hubspot: hubspot_endpoint(stored),
            mailchimp: mailchimp_endpoint(stored),
            hubspot_api: HubSpotSettings {
                api_version: HUBSPOT_API_VERSION.get(),
                external_id_property: HUBSPOT_EXTERNAL_ID_PROPERTY.get(),
                external_id_ready: Vec::new(),
                external_id_shared: Vec::new(),
                on_delete: match HUBSPOT_ON_DELETE.get().as_str() {
                    "gdpr" => HubSpotOnDelete::Gdpr,
                    "ignore" => HubSpotOnDelete::Ignore,
                    _ => HubSpotOnDelete::Archive,
                },
            },
            on_remote_delete: match HUBSPOT_ON_REMOTE_DELETE.get().as_str() {
                "delete" => OnRemoteDelete::Delete,
                _ => OnRemoteDelete::Ignore,
            },
            association_rate: Rate::parse(&HUBSPOT_ASSOCIATION_RATE_LIMIT.get())
                .ok()
                .flatten(),
            mailchimp_api: mailchimp_api(),
            batch_window: millis(&BATCH_WINDOW),
            retry: Policy {
                base: millis(&RETRY_BASE),
                max: millis(&RETRY_MAX),
                max_attempts: MAX_ATTEMPTS.get().unsigned_abs(),
            },
            request_timeout: millis(&REQUEST_TIMEOUT),
            max_records: MAX_IN_FLIGHT_RECORDS.get().unsigned_abs() as usize,
            guard_deletes: Rate::parse(&GUARD_DELETES.get()).ok().flatten(),
            http_proxy: http_proxy(),
            ca_file: CA_FILE.filled(),
            request_log_retention: minutes(&REQUEST_LOG_RETENTION),
            inbox_retention: minutes(&INBOX_RETENTION),
            activity_retention: filled(minutes(&ACTIVITY_RETENTION)),
            consent_log_retention: filled(minutes(&CONSENT_LOG_RETENTION)),
            mailchimp_poll_interval: filled(Duration::from_secs(u64::from(
                MAILCHIMP_POLL_INTERVAL.get().unsigned_abs(),
            ))),
        }
    }

    /// No service can be reached.
    pub fn refuse(&mut self, why: &str) {
        self.hubspot = Err(why.to_owned());
        self.mailchimp = Err(why.to_owned());
    }

    /// How to reach the outside.
    pub fn network(&self) -> Network {
        Network {
            proxy: self.http_proxy.clone(),
            ca_file: self.ca_file.clone(),
        }
    }

    pub fn endpoint(&self, target: Target) -> Result<&Endpoint, &str> {
        match target {
            Target::HubSpot => self.hubspot.as_ref(),
            Target::Mailchimp => self.mailchimp.as_ref(),
        }
        .map_err(String::as_str)
    }
}

fn millis(setting: &GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::from(setting.get().unsigned_abs()))
}

/// 0 is off.
fn filled(duration: Duration) -> Option<Duration> {
    Some(duration).filter(|duration| !duration.is_zero())
}

fn minutes(setting: &GucSetting<i32>) -> Duration {
    Duration::from_secs(60 * u64::from(setting.get().unsigned_abs()))
}

/// Name of this installation, see `integration.environment`. An unreadable `env:` counts as empty.
pub fn environment() -> String {
    Secret::resolve(&ENVIRONMENT.get())
        .map(|value| value.reveal().to_owned())
        .unwrap_or_default()
}

/// Whether a worker is to run in this database.
pub fn wants_database(name: &str) -> bool {
    let wanted = DATABASES.get();
    wanted == "*" || wanted.split(',').any(|one| one.trim() == name)
}

/// How long one statement on a CRM table may take, whatever code of others it runs.
pub fn crm_timeout() -> Duration {
    millis(&CRM_TIMEOUT)
}

/// Whether the name of this installation is given from outside of the data directory.
pub fn environment_is_external() -> bool {
    ENVIRONMENT.get().starts_with("env:") && !environment().is_empty()
}

/// Whether a worker is to run in the database of this session. Inside a transaction.
pub fn wants_my_database() -> bool {
    DATABASES.get() == "*" || extension::database_name().is_some_and(|name| wants_database(&name))
}

/// It may hold a password. One that cannot be read is passed on as it stands, and refused there:
/// nothing is to go past a proxy.
fn http_proxy() -> Option<String> {
    let written = HTTP_PROXY.filled()?;
    let resolved = Secret::resolve(&written).map(|url| url.reveal().to_owned());
    Some(resolved.unwrap_or(written))
}

/// How long to wait for an answer that carries no records.
pub fn request_timeout() -> Duration {
    millis(&REQUEST_TIMEOUT)
}

/// Role the worker connects as, if one is set.
pub fn worker_role() -> Option<String> {
    WORKER_ROLE.filled()
}

/// Names of the secrets that can be stored, as of their settings.
pub const SECRETS: [&str; 9] = [
    "hubspot_access_token",
    "hubspot_client_id",
    "hubspot_client_secret",
    "hubspot_refresh_token",
    "hubspot_webhook_secret",
    "mailchimp_api_key",
    "mailchimp_webhook_secret",
    "mailchimp_webhook_signing_secret",
    "mandrill_webhook_key",
];

/// What `integration.set_secret()` keeps, by name: the secret, or why it cannot be opened. It goes
/// before the setting of the same name.
#[derive(Default)]
pub struct Stored(HashMap<String, Result<Secret, String>>);

impl FromIterator<(String, Result<Secret, String>)> for Stored {
    fn from_iter<I: IntoIterator<Item = (String, Result<Secret, String>)>>(secrets: I) -> Stored {
        Stored(secrets.into_iter().collect())
    }
}

impl Stored {
    /// `None`: neither stored nor set.
    fn find(&self, setting: &GucText, name: &str) -> Option<Result<Secret, String>> {
        let stored = self.0.get(name).cloned();
        stored
            .or_else(|| setting.filled().map(|written| resolve(&written, name)))
            .map(|found| found.map_err(|why| format!("integration.{name}: {why}")))
    }

    fn has(&self, setting: &GucText, name: &str) -> bool {
        self.0.contains_key(name) || setting.filled().is_some()
    }

    fn get(&self, setting: &GucText, name: &str) -> Result<Secret, String> {
        self.find(setting, name).unwrap_or_else(|| {
            Err(format!(
                "integration.{name} is not set; for example: SELECT integration.set_secret('{name}', '…');"
            ))
        })
    }
}

/// A client id stands in URLs; everything else is to be kept elsewhere.
fn resolve(written: &str, name: &str) -> Result<Secret, String> {
    let open = ALLOW_LITERAL_SECRETS.get() || name == "hubspot_client_id";
    if Secret::is_reference(written) || open {
        Secret::resolve(written)
    } else {
        Err(format!(
            "it holds the secret itself, which integration.allow_literal_secrets forbids; keep it with SELECT integration.set_secret('{name}', '…'); or set env:NAME or file:/path"
        ))
    }
}

fn hubspot_endpoint(stored: &Stored) -> Result<Endpoint, String> {
    Ok(Endpoint {
        base_url: base_url(&HUBSPOT_BASE_URL.get(), "integration.hubspot_base_url")?,
        credential: hubspot_credential(stored)?,
        daily_limit: Some(HUBSPOT_DAILY_LIMIT.get().unsigned_abs()).filter(|limit| *limit > 0),
        max_connections: HUBSPOT_MAX_CONNECTIONS.get().unsigned_abs() as usize,
        timeout: millis(&REQUEST_TIMEOUT),
        rate: Rate::parse(&HUBSPOT_RATE_LIMIT.get())
            .map_err(|why| format!("integration.hubspot_rate_limit: {why}"))?,
    })
}

/// A static token goes before OAuth. Only the refresh token tells that OAuth is meant: the client
/// secret is set for webhooks as well.
fn hubspot_credential(stored: &Stored) -> Result<Credential, String> {
    let oauth = stored.has(&HUBSPOT_REFRESH_TOKEN, "hubspot_refresh_token")
        || stored.has(&HUBSPOT_CLIENT_ID, "hubspot_client_id");
    if !oauth || stored.has(&HUBSPOT_ACCESS_TOKEN, "hubspot_access_token") {
        return stored
            .get(&HUBSPOT_ACCESS_TOKEN, "hubspot_access_token")
            .map(Credential::Fixed);
    }
    Ok(Credential::OAuth(OAuthApp {
        client_id: stored.get(&HUBSPOT_CLIENT_ID, "hubspot_client_id")?,
        client_secret: stored.get(&HUBSPOT_CLIENT_SECRET, "hubspot_client_secret")?,
        refresh_token: stored.get(&HUBSPOT_REFRESH_TOKEN, "hubspot_refresh_token")?,
    }))
}

/// The key that secrets in tables are sealed with, if one is set.
pub fn encryption_key() -> Result<Option<Secret>, String> {
    // The store is opened with it, so it is not kept there.
    Stored::default()
        .find(&ENCRYPTION_KEY, "encryption_key")
        .transpose()
}

fn mailchimp_endpoint(stored: &Stored) -> Result<Endpoint, String> {
    let credential = stored.get(&MAILCHIMP_API_KEY, "mailchimp_api_key")?;
    let base = match MAILCHIMP_BASE_URL.filled() {
        Some(url) => base_url(&url, "integration.mailchimp_base_url")?,
        None => mailchimp::host_of(credential.reveal()),
    };
    // Mailchimp's documentation gives the root both with and without the version.
    let base = if base.ends_with("/3.0") {
        base
    } else {
        format!("{base}/3.0")
    };
    if MAILCHIMP_LIST_ID.filled().is_none() {
        return Err("integration.mailchimp_list_id is not set; it is the id of the audience contacts are sent to".to_owned());
    }
    Ok(Endpoint {
        base_url: base,
        credential: Credential::Fixed(credential),
        daily_limit: None,
        max_connections: MAILCHIMP_MAX_CONNECTIONS.get().unsigned_abs() as usize,
        timeout: millis(&MAILCHIMP_REQUEST_TIMEOUT),
        rate: None,
    })
}

/// Plain http is for loopback only.
fn base_url(written: &str, name: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(written).map_err(|why| format!("{name}: {why}"))?;
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => {
            return Err(format!(
                "{name} must be https (plain http is for loopback only)"
            ));
        }
    }
    Ok(written.trim_end_matches('/').to_owned())
}

fn mailchimp_api() -> MailchimpSettings {
    MailchimpSettings {
        list: MAILCHIMP_LIST_ID.get(),
        // What the tables say is not known here.
        several: false,
        resubscribe: match MAILCHIMP_RESUBSCRIBE.get().as_str() {
            "pending" => Resubscribe::Pending,
            _ => Resubscribe::Never,
        },
        double_opt_in: MAILCHIMP_DOUBLE_OPT_IN.get(),
        on_delete: match MAILCHIMP_ON_DELETE.get().as_str() {
            "permanent" => OnDelete::Permanent,
            "ignore" => OnDelete::Ignore,
            _ => OnDelete::Archive,
        },
    }
}

/// What incoming webhooks are checked against.
pub struct WebhookSettings {
    pub hubspot_secret: Option<Secret>,
    pub mailchimp_path_secret: Option<Secret>,
    pub mailchimp_signing_secret: Option<Secret>,
    pub mandrill_key: Option<Secret>,
    pub allowed_ips: Vec<String>,
}

impl WebhookSettings {
    /// A secret that is set but cannot be read is an error: nothing is accepted then.
    pub fn read(stored: &Stored) -> Result<WebhookSettings, Error> {
        let optional = |setting: &GucText, name: &str| {
            let found = stored.find(setting, name).transpose();
            found.map_err(Error::Setting)
        };
        Ok(WebhookSettings {
            hubspot_secret: match optional(&HUBSPOT_WEBHOOK_SECRET, "hubspot_webhook_secret")? {
                Some(secret) => Some(secret),
                None => optional(&HUBSPOT_CLIENT_SECRET, "hubspot_client_secret")?,
            },
            mailchimp_path_secret: optional(&MAILCHIMP_WEBHOOK_SECRET, "mailchimp_webhook_secret")?,
            mailchimp_signing_secret: optional(
                &MAILCHIMP_WEBHOOK_SIGNING_SECRET,
                "mailchimp_webhook_signing_secret",
            )?,
            mandrill_key: optional(&MANDRILL_WEBHOOK_KEY, "mandrill_webhook_key")?,
            allowed_ips: WEBHOOK_ALLOWED_IPS
                .get()
                .split(',')
                .map(|ip| ip.trim().to_owned())
                .filter(|ip| !ip.is_empty())
                .collect(),
        })
    }
}

/// Our HubSpot app's id, to know our own changes in webhooks.
pub fn hubspot_app_id() -> Option<String> {
    HUBSPOT_APP_ID.filled()
}
