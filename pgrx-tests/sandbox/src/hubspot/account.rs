//! Tokens and account details.

use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::HubSpot;
use super::errors::{self, CORRELATION, Problem};
use super::write::Moment;
use crate::query::Query;
use crate::reply::Reply;

/// An access token that the token endpoint gave out.
#[derive(Debug)]
pub(crate) struct Issued {
    pub token: String,
    pub expires: Instant,
}

impl HubSpot {
    /// Checks the bearer token.
    pub(crate) fn authorize(&self, authorization: Option<&str>, now: Instant) -> Result<(), Reply> {
        let token = authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim);
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(errors::bad_token());
        };
        if self.config.token.as_deref() == Some(token) {
            return Ok(());
        }
        match self.issued.iter().find(|issued| issued.token == token) {
            Some(issued) if issued.expires > now => Ok(()),
            Some(issued) => Err(errors::expired_token((now - issued.expires).as_secs())),
            None => Err(errors::bad_token()),
        }
    }

    /// `/oauth/…`; needs no bearer token.
    pub(crate) fn oauth(
        &mut self,
        method: &str,
        rest: &[&str],
        body: &[u8],
        moment: &Moment,
    ) -> Reply {
        match (method, rest) {
            ("POST", [_, "token"]) => self.token(body, moment.now.mono),
            ("POST", ["v2", "private-apps", "get", "access-token-info"]) => self.token_info(body),
            ("GET", ["v1", "access-tokens", token]) => {
                let token = percent_decode_str(token).decode_utf8_lossy();
                match self.issued.iter().find(|issued| issued.token == token) {
                    Some(issued) => Reply::value(
                        200,
                        &json!({
                            "token": token, "hub_id": self.config.portal_id, "app_id": self.config.app_id, "user_id": 7006,
                            "token_type": "access", "scopes": SCOPES, "hub_domain": "sandbox.example.com", "user": "owner@example.com",
                            "expires_in": issued.expires.saturating_duration_since(moment.now.mono).as_secs(),
                        }),
                    ),
                    None => Problem::not_found().reply(),
                }
            }
            _ => Problem::not_found().reply(),
        }
    }

    fn token(&mut self, body: &[u8], now: Instant) -> Reply {
        let form = Query::parse(std::str::from_utf8(body).ok());
        let is = |name: &str, wanted: &str| form.get(name) == Some(wanted);
        if !is("client_id", &self.config.client_id)
            || !is("client_secret", &self.config.client_secret)
        {
            return token_error(
                "invalid_client",
                "BAD_CLIENT_ID",
                "missing or unknown client id",
            );
        }
        match form.get("grant_type") {
            Some("refresh_token") if is("refresh_token", &self.config.refresh_token) => {}
            Some("refresh_token") => {
                return token_error(
                    "invalid_grant",
                    "BAD_REFRESH_TOKEN",
                    "refresh token is invalid, expired or revoked",
                );
            }
            Some("authorization_code") => {
                return token_error(
                    "invalid_grant",
                    "BAD_AUTH_CODE",
                    "missing or unknown auth code",
                );
            }
            _ => {
                return token_error(
                    "unsupported_grant_type",
                    "BAD_GRANT_TYPE",
                    "unsupported grant type",
                );
            }
        }
        let token = format!("CJ{:016x}{:016x}", self.rng.u64(..), self.rng.u64(..));
        let expires = now + Duration::from_secs(self.config.expires_in);
        self.issued.push(Issued {
            token: token.clone(),
            expires,
        });
        Reply::value(
            200,
            &json!({
                "token_type": "bearer", "access_token": token, "refresh_token": self.config.refresh_token,
                "expires_in": self.config.expires_in, "hub_id": self.config.portal_id, "scopes": SCOPES,
            }),
        )
    }

    fn token_info(&self, body: &[u8]) -> Reply {
        let key = serde_json::from_slice::<Value>(body).unwrap_or_default();
        match (key["tokenKey"].as_str(), &self.config.token) {
            (Some(key), Some(token)) if key == token => Reply::value(
                200,
                &json!({
                    "hubId": self.config.portal_id, "appId": self.config.app_id, "userId": 7006, "scopes": SCOPES,
                }),
            ),
            _ => errors::bad_token(),
        }
    }

    /// `/account-info/{V}/…`
    pub(crate) fn account_info(&self, rest: &[&str]) -> Result<Reply, Problem> {
        match rest {
            ["details"] => Ok(Reply::value(
                200,
                &json!({
                    "portalId": self.config.portal_id, "accountType": "STANDARD", "timeZone": "Europe/Berlin",
                    "companyCurrency": "EUR", "additionalCurrencies": [], "utcOffset": "+01:00", "utcOffsetMilliseconds": 3_600_000,
                    "uiDomain": "app.hubspot.com", "dataHostingLocation": "na1",
                }),
            )),
            ["api-usage", "daily", "private-apps"] => Ok(Reply::value(
                200,
                &json!({"results": [{
                    "name": "sandbox", "usageLimit": self.config.daily_limit, "currentUsage": self.limits.today,
                    "collectedAt": "2026-01-01T00:00:00Z", "fetchStatus": "SUCCESS", "resetsAt": "2026-01-02T00:00:00Z",
                }]}),
            )),
            _ => Err(Problem::not_found()),
        }
    }
}

const SCOPES: [&str; 7] = [
    "oauth",
    "crm.objects.contacts.read",
    "crm.objects.contacts.write",
    "crm.objects.companies.read",
    "crm.objects.companies.write",
    "crm.objects.deals.read",
    "crm.objects.deals.write",
];

fn token_error(error: &str, status: &str, message: &str) -> Reply {
    Reply::value(
        400,
        &json!({
            "error": error, "error_description": message, "status": status, "message": message, "correlationId": CORRELATION,
        }),
    )
}
