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
        if self.config.revoked {
            return Err(errors::bad_token());
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
            ("POST", [_, "token", "introspect"]) => self.introspect(body, moment.now.mono),
            ("POST", ["v2", "private-apps", "get", "access-token-info"]) => self.token_info(body),
            ("GET", ["v1", "access-tokens", token]) => {
                let token = percent_decode_str(token).decode_utf8_lossy();
                match self.issued.iter().find(|issued| issued.token == token) {
                    Some(issued) => Reply::value(
                        200,
                        &json!({
                            "token": token, "hub_id": self.config.portal_id, "app_id": self.config.app_id, "user_id": 7006,
                            "token_type": "access", "scopes": self.config.scopes, "hub_domain": "sandbox.example.com", "user": "owner@example.com",
                            "expires_in": issued.expires.saturating_duration_since(moment.now.mono).as_secs(),
                        }),
                    ),
                    None => Problem::not_found().reply(),
                }
            }
            _ => Problem::not_found().reply(),
        }
    }

    fn is_client(&self, form: &Query) -> bool {
        form.get("client_id") == Some(&self.config.client_id)
            && form.get("client_secret") == Some(&self.config.client_secret)
    }

    /// The refresh token that is good now: the configured one, or the one it was rotated to.
    fn refresh_token(&self) -> Option<&str> {
        let given = &self.config.refresh_token;
        let rotated = self.rotated.as_ref().filter(|(from, _)| from == given);
        Some(rotated.map_or(&**given, |(_, token)| token)).filter(|_| !self.config.revoked)
    }

    fn introspect(&self, body: &[u8], now: Instant) -> Reply {
        let form = Query::parse(std::str::from_utf8(body).ok());
        if !self.is_client(&form) {
            return bad_client();
        }
        let token = form.get("token");
        let issued = self.issued.iter().find(|issued| {
            Some(&*issued.token) == token && issued.expires > now && !self.config.revoked
        });
        Reply::value(
            200,
            &match issued {
                Some(issued) => json!({
                    "active": true, "token_use": "access_token", "hub_id": self.config.portal_id, "app_id": self.config.app_id,
                    "client_id": self.config.client_id, "user_id": 7006, "scopes": self.config.scopes,
                    "expires_in": (issued.expires - now).as_secs(),
                }),
                None => json!({"active": false}),
            },
        )
    }

    fn token(&mut self, body: &[u8], now: Instant) -> Reply {
        let form = Query::parse(std::str::from_utf8(body).ok());
        if !self.is_client(&form) {
            return bad_client();
        }
        match form.get("grant_type") {
            Some("refresh_token")
                if form.get("refresh_token").is_some()
                    && form.get("refresh_token") == self.refresh_token() => {}
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
        if self.config.rotate_refresh_tokens {
            let token = format!("na1-{:016x}{:016x}", self.rng.u64(..), self.rng.u64(..));
            self.rotated = Some((self.config.refresh_token.clone(), token));
        }
        Reply::value(
            200,
            &json!({
                "token_type": "bearer", "access_token": token, "refresh_token": self.refresh_token(),
                "expires_in": self.config.expires_in, "hub_id": self.config.portal_id, "scopes": self.config.scopes,
            }),
        )
    }

    fn token_info(&self, body: &[u8]) -> Reply {
        let key = serde_json::from_slice::<Value>(body).unwrap_or_default();
        match (key["tokenKey"].as_str(), &self.config.token) {
            (Some(key), Some(token)) if key == token => Reply::value(
                200,
                &json!({
                    "hubId": self.config.portal_id, "appId": self.config.app_id, "userId": 7006, "scopes": self.config.scopes,
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
                    "portalId": self.config.portal_id, "accountType": "STANDARD", "timeZone": self.config.time_zone,
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

fn bad_client() -> Reply {
    token_error(
        "invalid_client",
        "BAD_CLIENT_ID",
        "missing or unknown client id",
    )
}

fn token_error(error: &str, status: &str, message: &str) -> Reply {
    Reply::value(
        400,
        &json!({
            "error": error, "error_description": message, "status": status, "message": message, "correlationId": CORRELATION,
        }),
    )
}
