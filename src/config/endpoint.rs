//! How the services are reached, and with which credential.

use std::time::Duration;

use integration_engine::limits::rate::Rate;
use integration_mailchimp as mailchimp;

use super::stored::StoredSecrets;
use super::table::TABLE;
use crate::secret::Secret;

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
    /// How many requests a day are allowed.
    pub daily_limit: Option<u32>,
}

/// A target's credential.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// It is sent as it is.
    Fixed(Secret),
    /// HubSpot: it is exchanged for access tokens.
    OAuth(OAuthApp),
}

#[derive(Clone, Debug, PartialEq)]
pub struct OAuthApp {
    pub client_id: Secret,
    pub client_secret: Secret,
    pub refresh_token: Secret,
}

pub fn hubspot(stored: &StoredSecrets) -> Result<Endpoint, String> {
    Ok(Endpoint {
        base_url: base_url(&TABLE.hubspot_base_url.get())
            .map_err(|why| format!("integration.hubspot_base_url: {why}"))?,
        credential: hubspot_credential(stored)?,
        daily_limit: TABLE.hubspot_daily_limit.filled(),
        max_connections: TABLE.hubspot_max_connections.get() as usize,
        timeout: TABLE.request_timeout.get(),
        rate: Rate::parse(&TABLE.hubspot_rate_limit.get())
            .map_err(|why| format!("integration.hubspot_rate_limit: {why}"))?,
    })
}

/// A static token takes precedence over OAuth. Only the refresh token shows that OAuth is meant,
/// since the client secret is set for webhooks as well.
fn hubspot_credential(stored: &StoredSecrets) -> Result<Credential, String> {
    let oauth = stored.has(&TABLE.hubspot_refresh_token) || stored.has(&TABLE.hubspot_client_id);
    if !oauth || stored.has(&TABLE.hubspot_access_token) {
        return stored
            .get(&TABLE.hubspot_access_token)
            .map(Credential::Fixed);
    }
    Ok(Credential::OAuth(OAuthApp {
        client_id: stored.get(&TABLE.hubspot_client_id)?,
        client_secret: stored.get(&TABLE.hubspot_client_secret)?,
        refresh_token: stored.get(&TABLE.hubspot_refresh_token)?,
    }))
}

pub fn mailchimp(stored: &StoredSecrets) -> Result<Endpoint, String> {
    let credential = stored.get(&TABLE.mailchimp_api_key)?;
    let base = match TABLE.mailchimp_base_url.filled() {
        Some(url) => {
            base_url(&url).map_err(|why| format!("integration.mailchimp_base_url: {why}"))?
        }
        None => mailchimp::host_of(credential.reveal()),
    };
    // Mailchimp's documentation gives the root both with and without the version.
    let base = if base.ends_with("/3.0") {
        base
    } else {
        format!("{base}/3.0")
    };
    if TABLE.mailchimp_list_id.filled().is_none() {
        return Err("integration.mailchimp_list_id is not set; it is the id of the audience contacts are sent to".to_owned());
    }
    Ok(Endpoint {
        base_url: base,
        credential: Credential::Fixed(credential),
        daily_limit: None,
        max_connections: TABLE.mailchimp_max_connections.get() as usize,
        timeout: TABLE.mailchimp_request_timeout.get(),
        rate: None,
    })
}

/// Plain http is for loopback only.
pub fn base_url(written: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(written).map_err(|why| why.to_string())?;
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => return Err("it must be https (plain http is for loopback only)".to_owned()),
    }
    Ok(written.trim_end_matches('/').to_owned())
}
