//! Secrets, from the store or from their settings.

use std::collections::HashMap;

use super::table::TABLE;
use super::texts::SecretText;
use crate::error::Error;
use crate::secret::Secret;

/// What `integration.set_secret()` keeps, by name: the secret, or why it cannot be opened. It takes
/// precedence over the setting of the same name.
#[derive(Default)]
pub struct StoredSecrets(HashMap<String, Result<Secret, String>>);

impl FromIterator<(String, Result<Secret, String>)> for StoredSecrets {
    fn from_iter<I: IntoIterator<Item = (String, Result<Secret, String>)>>(
        secrets: I,
    ) -> StoredSecrets {
        StoredSecrets(secrets.into_iter().collect())
    }
}

impl StoredSecrets {
    /// Returns a secret; `None`: it is neither stored nor set.
    pub(super) fn find(&self, setting: &SecretText) -> Option<Result<Secret, String>> {
        let name = setting.name;
        let stored = self.0.get(name).cloned();
        stored
            .or_else(|| setting.filled().map(|written| resolve(&written, setting)))
            .map(|found| found.map_err(|why| format!("integration.{name}: {why}")))
    }

    pub(super) fn has(&self, setting: &SecretText) -> bool {
        self.0.contains_key(setting.name) || setting.filled().is_some()
    }

    pub(super) fn get(&self, setting: &SecretText) -> Result<Secret, String> {
        let name = setting.name;
        self.find(setting).unwrap_or_else(|| {
            Err(format!(
                "integration.{name} is not set; for example: SELECT integration.set_secret('{name}', '…');"
            ))
        })
    }
}

fn resolve(written: &str, setting: &SecretText) -> Result<Secret, String> {
    if setting.may_hold(written) {
        Secret::resolve(written)
    } else {
        let name = setting.name;
        Err(format!(
            "it holds the secret itself, which integration.allow_literal_secrets forbids; keep it with SELECT integration.set_secret('{name}', '…'); or set env:NAME or file:/path"
        ))
    }
}

/// Returns the key that secrets in tables are sealed with, if one is set.
pub fn encryption_key() -> Result<Option<Secret>, String> {
    // The store is opened with it, so it is not kept there.
    StoredSecrets::default()
        .find(&TABLE.encryption_key)
        .transpose()
}

/// The secrets that incoming webhooks are checked with.
pub struct WebhookSettings {
    pub hubspot_secret: Option<Secret>,
    pub mailchimp_path_secret: Option<Secret>,
    pub mailchimp_signing_secret: Option<Secret>,
    pub mandrill_key: Option<Secret>,
    pub allowed_ips: Vec<String>,
}

impl WebhookSettings {
    /// A secret that is set but cannot be read is an error: nothing is accepted then.
    pub fn read(stored: &StoredSecrets) -> Result<WebhookSettings, Error> {
        let optional =
            |setting: &SecretText| stored.find(setting).transpose().map_err(Error::Setting);
        Ok(WebhookSettings {
            hubspot_secret: match optional(&TABLE.hubspot_webhook_secret)? {
                Some(secret) => Some(secret),
                None => optional(&TABLE.hubspot_client_secret)?,
            },
            mailchimp_path_secret: optional(&TABLE.mailchimp_webhook_secret)?,
            mailchimp_signing_secret: optional(&TABLE.mailchimp_webhook_signing_secret)?,
            mandrill_key: optional(&TABLE.mandrill_webhook_key)?,
            allowed_ips: TABLE
                .webhook_allowed_ips
                .get()
                .split(',')
                .map(|ip| ip.trim().to_owned())
                .filter(|ip| !ip.is_empty())
                .collect(),
        })
    }
}
