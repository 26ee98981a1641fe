//! OAuth 2.0: which access token to send with, when to fetch a new one, what the token endpoint's
//! answers mean.
//!
//! The token itself is a parameter `T` that nothing here looks into, so that it can be a type that
//! does not print.

use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::HubSpot;
use integration_engine::{
    delivery::outcome::TargetSignal,
    limits::{breaker::micros, retry::backoff},
    record::Target,
    service::failure::{Class, classify},
    value::json::shortened,
    wire::{Method, Reply, Request, TransportError},
};

/// HubSpot: a token is good for 30 minutes, and is renewed about five minutes before its end.
const EARLY: Duration = Duration::from_secs(300);

/// So many tokens in a row that were only ever refused are more than bad luck. Not two: of calls
/// under way when a token runs out, those refused may be heard of before those accepted.
const HOPELESS: usize = 3;

/// Between attempts to get a token while the endpoint fails: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Monotonic microseconds, as `rate::Budget` counts them.
type Micros = u64;

#[derive(Clone, Debug)]
struct AccessToken<T> {
    token: T,
    renew_at: Micros,
    expires_at: Micros,
    /// A call made with it was accepted.
    worked: bool,
}

/// The tokens of one account. At most one renewal is under way at any time.
#[derive(Clone, Debug)]
pub struct Tokens<T> {
    access: Option<AccessToken<T>>,
    renewing: bool,
    not_before: Micros,
    failures: u32,
    /// Tokens in a row that were refused, oldest first, with which no call is known to have been
    /// accepted.
    refused: Vec<T>,
}

/// What is to be done before a call can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStep<T> {
    /// Send it with this token.
    Send(T),
    /// Fetch a new token; nobody else will.
    Renew,
    /// A renewal is under way.
    Underway,
    /// The last renewal failed; ask again after this.
    Wait(Duration),
}

/// What a 401 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnauthorized {
    /// The token had run out: the call is to be made again with another one.
    Resend,
    /// One new token after the other is refused.
    Unauthorized,
}

impl<T> Default for Tokens<T> {
    fn default() -> Tokens<T> {
        Tokens {
            access: None,
            renewing: false,
            not_before: 0,
            failures: 0,
            refused: Vec::new(),
        }
    }
}

impl<T: Clone + PartialEq> Tokens<T> {
    /// Asked when there is something to send, so that an idle account fetches no tokens.
    /// `Step::Renew` counts as begun.
    pub fn step(&mut self, now: Micros) -> TokenStep<T> {
        let access = self
            .access
            .as_ref()
            .filter(|access| now < access.expires_at);
        if let Some(access) = access.filter(|access| now < access.renew_at) {
            return TokenStep::Send(access.token.clone());
        }
        if self.renewing {
            return TokenStep::Underway;
        }
        if now < self.not_before {
            // While the endpoint fails, an old token is good until its end.
            return match access {
                Some(access) => TokenStep::Send(access.token.clone()),
                None => TokenStep::Wait(Duration::from_micros(self.not_before - now)),
            };
        }
        self.renewing = true;
        TokenStep::Renew
    }

    /// The token to send with, if there is one that has not run out.
    pub fn token(&self, now: Micros) -> Option<&T> {
        self.access
            .as_ref()
            .filter(|access| now < access.expires_at)
            .map(|access| &access.token)
    }

    /// A call made with `token` was accepted. That may be heard of after others were refused: then
    /// it had run out, and so says nothing against the credential, nor do those before it.
    pub fn accepted(&mut self, token: &T) {
        match &mut self.access {
            Some(access) if access.token == *token => {
                access.worked = true;
                self.refused.clear();
            }
            _ => {
                if let Some(place) = self.refused.iter().position(|known| known == token) {
                    self.refused.drain(..=place);
                }
            }
        }
    }

    /// A call made with `token` was answered 401. Many may have been under way with one token: it
    /// is dropped once.
    pub fn refused(&mut self, token: &T) -> OnUnauthorized {
        let Some(access) = self.access.take_if(|known| known.token == *token) else {
            return OnUnauthorized::Resend;
        };
        if access.worked {
            return OnUnauthorized::Resend;
        }
        self.refused.push(access.token);
        if self.refused.len() < HOPELESS {
            return OnUnauthorized::Resend;
        }
        self.refused.clear();
        OnUnauthorized::Unauthorized
    }

    /// A renewal brought a token.
    pub fn granted(&mut self, token: T, expires_in: Duration, now: Micros) {
        let early = EARLY.min(expires_in / 2);
        self.access = Some(AccessToken {
            token,
            renew_at: now.saturating_add(micros(expires_in - early)),
            expires_at: now.saturating_add(micros(expires_in)),
            worked: false,
        });
        self.renewing = false;
        self.failures = 0;
        self.not_before = 0;
    }

    /// A renewal failed; the next one waits.
    pub fn failed(&mut self, now: Micros) {
        self.renewing = false;
        let wait = backoff(self.failures, FIRST_WAIT, LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(micros(wait));
    }

    /// Somebody wants to know now: no waiting for the next attempt.
    pub fn hurry(&mut self) {
        self.not_before = 0;
    }
}

/// What the token endpoint says.
#[derive(Clone, PartialEq)]
pub enum TokenAnswer {
    Granted {
        access_token: String,
        expires_in: Duration,
        /// Whether HubSpot ever sends another one than it was asked with is not documented.
        refresh_token: Option<String>,
    },
    /// Revoked, or not ours: asking again will not help.
    Refused { why: String },
    /// It does not work just now.
    Failed { signal: TargetSignal },
}

/// HubSpot: `POST /oauth/{version}/token`, parameters in the body. Those hold secrets, and are
/// built where the request is sent.
pub fn token_request(version: &str) -> Request {
    post(format!("/oauth/{version}/token"))
}

/// HubSpot: `POST /oauth/{version}/token/introspect`: whose token it is, and its scopes.
pub fn introspect_request(version: &str) -> Request {
    post(format!("/oauth/{version}/token/introspect"))
}

/// HubSpot: the same for static tokens (`pat-…`); the token stands in the body.
pub fn token_info_request() -> Request {
    post("/oauth/v2/private-apps/get/access-token-info".to_owned())
}

/// Body of [`token_request`].
pub fn token_form(client_id: &str, client_secret: &str, refresh_token: &str) -> String {
    form(&[
        ("grant_type", "refresh_token"),
        ("client_id", client_id),
        ("client_secret", client_secret),
        ("refresh_token", refresh_token),
    ])
}

/// Body of [`introspect_request`].
pub fn introspect_form(client_id: &str, client_secret: &str, token: &str) -> String {
    form(&[
        ("client_id", client_id),
        ("client_secret", client_secret),
        ("token_type_hint", "access_token"),
        ("token", token),
    ])
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

/// What a rotated refresh token is kept under: a digest of the one in the settings. Once that is
/// another, what was kept is of no use.
pub fn seed(client_id: &str, refresh_token: &str) -> String {
    let mut digest = Sha256::new();
    for part in ["integration hubspot", client_id, refresh_token] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn post(path: String) -> Request {
    Request {
        target: Target::HubSpot,
        method: Method::Post,
        path,
        body: None,
    }
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// RFC 6749 and HubSpot's own words for the same.
#[derive(Default, Deserialize)]
#[serde(default)]
struct OAuthError {
    error: Option<String>,
    status: Option<String>,
    message: Option<String>,
    error_description: Option<String>,
}

/// Reads the answer to [`token_request`].
pub fn read_token(reply: Result<&Reply, &TransportError>) -> TokenAnswer {
    let status = reply.map_or(0, |reply| reply.status);
    match (classify::<HubSpot>(reply), reply) {
        (Class::Answered, Ok(reply)) => granted(reply),
        (
            Class::Rejected
            | Class::NotFound
            | Class::Unauthorized { .. }
            | Class::Forbidden { .. },
            Ok(reply),
        ) => {
            let why = complaint(reply);
            TokenAnswer::Refused {
                why: format!(
                    "HubSpot gives no access token (HTTP {status}: {why}); check \
                     integration.hubspot_client_id, hubspot_client_secret and hubspot_refresh_token"
                ),
            }
        }
        (class, _) => TokenAnswer::Failed {
            signal: match class {
                Class::Throttled { why, wait } => TargetSignal::Throttled { wait, why },
                Class::DailyLimit { why, until, .. } => TargetSignal::DailyLimit { until, why },
                Class::Crowded { why, wait, .. } => TargetSignal::Crowded { wait, why },
                Class::Failing { why, .. }
                | Class::Unauthorized { why }
                | Class::Forbidden { why } => TargetSignal::Failing { why },
                Class::Answered | Class::Rejected | Class::NotFound => TargetSignal::Failing {
                    why: format!("HubSpot's token endpoint answered HTTP {status}"),
                },
            },
        },
    }
}

fn granted(reply: &Reply) -> TokenAnswer {
    match serde_json::from_slice::<TokenBody>(&reply.body) {
        Ok(body) if !body.access_token.is_empty() => TokenAnswer::Granted {
            access_token: body.access_token,
            // HubSpot: 1,800 seconds.
            expires_in: Duration::from_secs(body.expires_in.unwrap_or(1_800).clamp(1, 86_400)),
            refresh_token: body.refresh_token.filter(|token| !token.is_empty()),
        },
        // The parser's message could quote a token.
        _ => TokenAnswer::Failed {
            signal: TargetSignal::Failing {
                why: "HubSpot's token endpoint answered with something else than a token"
                    .to_owned(),
            },
        },
    }
}

fn complaint(reply: &Reply) -> String {
    let body: OAuthError = serde_json::from_slice(&reply.body).unwrap_or_default();
    let code = body.status.or(body.error).unwrap_or_default();
    let message = body.message.or(body.error_description).unwrap_or_default();
    let said = [code, message]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ");
    shortened(&said, 300).into_owned()
}

#[cfg(test)]
mod tests;
