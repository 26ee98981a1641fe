//! What a sandbox is started with. Every default follows the services' documents.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::hubspot::every_scope;

/// Everything that can be chosen at start; most of it can be changed later through
/// [`crate::Sandbox::configure`] or `POST /_sandbox/config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Port of the HubSpot side on 127.0.0.1; 0 takes a free one.
    pub hubspot_port: u16,
    /// Port of the Mailchimp side on 127.0.0.1; 0 takes a free one.
    pub mailchimp_port: u16,
    /// Seeds the order of batch results and made-up ids.
    pub seed: u64,
    /// Answers of either service are sent this much after the request was carried out.
    pub delay_ms: u64,
    /// Requests kept in the request log; older ones are forgotten, counters are not.
    pub log_capacity: usize,
    /// Webhook events kept until taken; further ones are dropped and counted.
    pub webhook_capacity: usize,
    pub hubspot: HubSpotConfig,
    pub mailchimp: MailchimpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hubspot_port: 0,
            mailchimp_port: 0,
            seed: 1,
            delay_ms: 0,
            log_capacity: 100_000,
            webhook_capacity: 100_000,
            hubspot: HubSpotConfig::default(),
            mailchimp: MailchimpConfig::default(),
        }
    }
}

/// The HubSpot account that the sandbox plays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubSpotConfig {
    /// Static token that is accepted; `None` accepts tokens from the OAuth endpoint only.
    pub token: Option<String>,
    /// OAuth client id, `client_secret` signs webhooks as well.
    pub client_id: String,
    pub client_secret: String,
    pub refresh_token: String,
    /// Every renewal brings another refresh token, and the one before is good no longer. HubSpot
    /// does not say that it does so.
    pub rotate_refresh_tokens: bool,
    /// The app was uninstalled, or its access revoked: none of its tokens is good.
    pub revoked: bool,
    /// What tokens are allowed to do.
    pub scopes: Vec<String>,
    /// Of the account; the day's limit is counted from midnight there.
    pub time_zone: String,
    /// Value of a header `Deprecation` in every answer. HubSpot documents no such header.
    pub deprecation: Option<String>,
    /// Lifetime of an access token. HubSpot: 30 minutes.
    pub expires_in: u64,
    /// Number of the account, in webhooks and account details.
    pub portal_id: u64,
    /// The app that the token belongs to: `sourceId` of the echoes of its writes.
    pub app_id: u64,
    /// The first id that every type of record hands out: ids are unique within their type only. Read
    /// when the sandbox starts and when it is reset.
    pub first_id: u64,
    /// Rolling window; `None` is off, and then no rate headers are sent.
    pub rate: Option<Rate>,
    /// What another app asks for on the usual budget, evenly spread. `None`: we have it to ourselves.
    pub others: Option<Rate>,
    /// The window of requests about associations, which count in no other. HubSpot: 100 in 10 s and
    /// more. `None` is off.
    pub association_rate: Option<Rate>,
    /// Search requests per second of the account. HubSpot: 5. `None` is off.
    pub search_per_second: Option<u32>,
    /// Search sees a change only this long after it. HubSpot: "a few moments".
    pub search_lag_ms: u64,
    /// Calls a day. HubSpot: 250,000 and more for static tokens. `None` is off (OAuth apps).
    pub daily_limit: Option<u64>,
    /// Which changes are sent as webhooks.
    pub subscriptions: Subscriptions,
    /// `contact.creation`, or `object.creation` with `objectTypeId` as project apps get.
    pub generic_events: bool,
    /// Public URL of the receiver, as it enters the v3 signature.
    pub webhook_uri: String,
    /// Deliver by HTTP to `webhook_uri` instead of only keeping events for `take_webhooks`.
    pub webhook_post: bool,
    /// Send the v1 signature as well as v3.
    pub sign_v1: bool,
    /// Refuse creates that lack what HubSpot requires (for example `dealname`).
    pub required_on_create: bool,
}

impl Default for HubSpotConfig {
    fn default() -> Self {
        Self {
            token: Some("pat-na1-00000000-0000-0000-0000-000000000000".into()),
            client_id: "00000000-0000-0000-0000-00000000c11e".into(),
            client_secret: "00000000-0000-0000-0000-0000000005ec".into(),
            refresh_token: "na1-0000-0000-0000-000000000000".into(),
            rotate_refresh_tokens: false,
            revoked: false,
            scopes: every_scope(),
            time_zone: "Europe/Berlin".into(),
            deprecation: None,
            expires_in: 1_800,
            portal_id: 12_345_678,
            app_id: 50_780_459,
            first_id: 541_935_000_001,
            rate: Some(Rate {
                max: 190,
                interval_ms: 10_000,
            }),
            others: None,
            association_rate: Some(Rate {
                max: 100,
                interval_ms: 10_000,
            }),
            search_per_second: Some(5),
            search_lag_ms: 0,
            daily_limit: Some(625_000),
            subscriptions: Subscriptions::All,
            generic_events: false,
            webhook_uri: "https://crm.example.com/webhooks/hubspot".into(),
            webhook_post: false,
            sign_v1: false,
            required_on_create: true,
        }
    }
}

/// So many requests in a rolling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub max: u32,
    pub interval_ms: u64,
}

/// HubSpot sends `propertyChange` only for properties that are subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subscriptions {
    All,
    None,
    /// `contact.creation`, `contact.propertyChange:email`, ….
    Only(Vec<String>),
}

impl Subscriptions {
    /// Whether `class.kind` (and, for property changes, the property) is wanted.
    pub(crate) fn wants(&self, class: &str, kind: &str, property: Option<&str>) -> bool {
        let Self::Only(list) = self else {
            return *self == Self::All;
        };
        list.iter().any(|entry| {
            let (event, wanted) = entry
                .split_once(':')
                .map_or((&**entry, None), |(e, p)| (e, Some(p)));
            event.split_once('.') == Some((class, kind)) && (wanted.is_none() || wanted == property)
        })
    }
}

/// The Mailchimp account that the sandbox plays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailchimpConfig {
    pub api_key: String,
    /// Of the account that the key belongs to.
    pub account_id: String,
    /// The audience that exists from the start.
    pub list_id: String,
    /// More audiences that exist from the start, with the same settings and webhook.
    pub other_lists: Vec<String>,
    /// Mailchimp: 10 simultaneous connections per user. `None` is off.
    pub max_connections: Option<usize>,
    /// Over that limit answer a 403 without JSON, as the CDN does, instead of 429.
    pub throttle_with_403: bool,
    /// Domains whose addresses look fake to Mailchimp. It is known to refuse example.com in
    /// practice, but tests need a harmless domain, so that one is not on the list by default.
    pub fake_domains: Vec<String>,
    /// Addresses with one of these words in them are refused as "looks fake or invalid".
    pub fake_words: Vec<String>,
    /// Addresses with one of these words in them have signed up to a lot of lists lately, and are
    /// refused for now.
    pub busy_words: Vec<String>,
    /// Members whose address is not ASCII are not found under its MD5, only under the address itself
    /// and the contact's id. How Mailchimp hashes such addresses is not documented.
    pub other_hashes: bool,
    pub double_optin: bool,
    /// Merge fields that the plan allows in an audience.
    pub merge_field_limit: usize,
    /// Whether a bulk call may turn an `unsubscribed` (by admin or API) into `subscribed`.
    /// Seen in the field: it is ignored without an error.
    pub bulk_resubscribes: bool,
    /// Reports leave out what happened in the very second of `since`. Mailchimp does not say
    /// whether it does.
    pub reports_since_exclusive: bool,
    /// A webhook that exists from the start, with all events and the given sources.
    pub webhook: Option<MailchimpHook>,
    /// Deliver by HTTP to the hooks' URLs as well.
    pub webhook_post: bool,
}

impl Default for MailchimpConfig {
    fn default() -> Self {
        Self {
            api_key: "00000000000000000000000000000000-us1".into(),
            account_id: "8d3a3db4d97663a9074efcc16".into(),
            list_id: "a6b5da1054".into(),
            other_lists: Vec::new(),
            max_connections: Some(10),
            throttle_with_403: false,
            fake_domains: Vec::new(),
            fake_words: vec!["fake".into()],
            busy_words: Vec::new(),
            other_hashes: false,
            double_optin: false,
            merge_field_limit: 80,
            bulk_resubscribes: false,
            reports_since_exclusive: false,
            webhook: Some(MailchimpHook::default()),
            webhook_post: false,
        }
    }
}

/// A webhook registered before the sandbox started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailchimpHook {
    /// Ends with the path secret that the receiver checks.
    pub url: String,
    /// `None`: a hook from before signing existed, no signature header.
    pub signing_secret: Option<String>,
    /// Changes by the contact, by people in the web app, by API clients.
    pub user: bool,
    pub admin: bool,
    pub api: bool,
}

impl Default for MailchimpHook {
    fn default() -> Self {
        Self {
            url: "https://crm.example.com/webhooks/mailchimp/path-secret".into(),
            signing_secret: Some("whsec-sandbox".into()),
            user: true,
            admin: true,
            api: false,
        }
    }
}

/// The two services; each has a port of its own so that one can be down alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    HubSpot,
    Mailchimp,
}

impl Service {
    pub(crate) fn port_in(self, config: &Config) -> SocketAddr {
        let port = match self {
            Self::HubSpot => config.hubspot_port,
            Self::Mailchimp => config.mailchimp_port,
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}
