//! What an answer's status says, for every record in the call alike. The one place where HTTP
//! statuses are judged; what a refusal means for a single record is read elsewhere.

use std::time::Duration;

use jiff::fmt::rfc2822;

use crate::{
    limits::pace::Strain,
    record::{Target, Timestamp},
    value::json::shortened,
    wire::{Reply, TransportError},
};

/// What kind of answer it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Class {
    /// 2xx: the body has the verdicts.
    Answered,
    /// 400, 409, 413, 414, 422: the request, or a record in it, is not acceptable.
    Rejected,
    /// 404 or 405: something the path names is not there, or not in a state for this.
    NotFound,
    /// No usable answer; the records are not to blame. `counted` unless that is certain.
    Failing {
        why: String,
        wait: Option<Duration>,
        counted: bool,
    },
    /// Too many requests.
    Throttled { why: String, wait: Duration },
    /// The day's requests are used up.
    DailyLimit {
        why: String,
        until: Option<Timestamp>,
        wait: Duration,
    },
    /// Too much at the same time.
    Crowded {
        why: String,
        wait: Duration,
        counted: bool,
    },
    /// The credential is not accepted.
    Unauthorized { why: String },
    /// HubSpot: the credential may not do this, whatever else it may.
    Forbidden { why: String },
}

impl Class {
    /// What is wrong with the target, in words; `None` when the answer is about what was asked.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Class::Failing { why, .. }
            | Class::Throttled { why, .. }
            | Class::DailyLimit { why, .. }
            | Class::Crowded { why, .. }
            | Class::Unauthorized { why }
            | Class::Forbidden { why } => Some(why),
            Class::Answered | Class::Rejected | Class::NotFound => None,
        }
    }
}

/// HubSpot: the window of its usual limit.
const HUBSPOT_WINDOW: Duration = Duration::from_secs(10);
/// HubSpot: its search limit is per second.
const HUBSPOT_SEARCH_WINDOW: Duration = Duration::from_secs(1);
/// HubSpot: wait at least 2 s after 423.
const LOCKED_WAIT: Duration = Duration::from_secs(2);
/// Mailchimp sends no Retry-After; its limit is 10 connections at a time.
const MAILCHIMP_WAIT: Duration = Duration::from_secs(2);
/// A refusal by the network in front of the service lasts longer than one by its budget.
const BLOCKED_WAIT: Duration = Duration::from_secs(30);
/// How often to ask again while the day's requests are used up, if nobody says until when.
const DAILY_WAIT: Duration = Duration::from_secs(600);
/// HubSpot: 477 lasts up to a day and says how long.
const MOVING_WAIT: Duration = Duration::from_secs(60);

/// Judges an answer, or its absence.
pub fn classify(target: Target, reply: Result<&Reply, &TransportError>) -> Class {
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => {
            return Class::Failing {
                why: format!("{target}: {error}"),
                wait: None,
                // Nothing was sent: no record can have caused it.
                counted: !matches!(error, TransportError::Connect(_)),
            };
        }
    };
    let notice = Notice::of(reply);
    let wait = retry_after(reply);
    match reply.status {
        200..=299 => Class::Answered,
        400 | 409 | 413 | 414 | 422 => Class::Rejected,
        404 | 405 => Class::NotFound,
        401 => Class::Unauthorized {
            why: unauthorized(target, &notice),
        },
        403 => forbidden(target, reply, &notice, wait),
        423 => Class::Crowded {
            why: format!("{target} is busy with other writes to the same data (HTTP 423)"),
            wait: wait.unwrap_or(LOCKED_WAIT).max(LOCKED_WAIT),
            counted: true,
        },
        429 => too_many(target, reply, &notice, wait),
        477 => Class::Failing {
            why: format!("{target} is moving the account to another data centre (HTTP 477)"),
            wait: Some(wait.unwrap_or(MOVING_WAIT)),
            counted: false,
        },
        // The network in front of Mailchimp, which may block this server.
        503 if target == Target::Mailchimp && !notice.json && !reply.body.is_empty() => {
            Class::Failing {
                why: "the network in front of Mailchimp refuses requests (HTTP 503); it may have \
                      blocked this server's address"
                    .to_owned(),
                wait: Some(wait.unwrap_or(BLOCKED_WAIT)),
                counted: false,
            }
        }
        status => Class::Failing {
            why: format!("{target} answered HTTP {status}{}", notice.said()),
            wait,
            // Anything but these is a matter of set-up or of a proxy.
            counted: matches!(status, 408 | 500..=599),
        },
    }
}

/// What an answer, or its absence, says about how much is asked for at once; `None`: nothing.
pub fn strain(target: Target, reply: Result<&Reply, &TransportError>) -> Option<Strain> {
    let slow = match reply {
        Ok(reply) => matches!(reply.status, 408 | 502 | 504 | 524),
        Err(error) => matches!(error, TransportError::Timeout(_)),
    };
    match classify(target, reply) {
        Class::Answered | Class::Rejected | Class::NotFound => Some(Strain::None),
        Class::Crowded { .. } => Some(Strain::Crowded),
        // HubSpot limits requests a second, and takes no longer over many than over few.
        Class::Failing { .. } => Some(Strain::Slow).filter(|_| slow && target == Target::Mailchimp),
        Class::Throttled { .. }
        | Class::DailyLimit { .. }
        | Class::Unauthorized { .. }
        | Class::Forbidden { .. } => None,
    }
}

/// What both services' error bodies have in common, where they are JSON at all.
#[derive(Default)]
struct Notice {
    json: bool,
    message: String,
    detail: String,
    category: String,
    policy: String,
    errors: Vec<serde_json::Value>,
    context: serde_json::Value,
}

impl Notice {
    fn of(reply: &Reply) -> Notice {
        if reply.status < 300 {
            return Notice::default();
        }
        match serde_json::from_slice::<serde_json::Value>(&reply.body) {
            Ok(serde_json::Value::Object(mut object)) => {
                // One field of an unexpected type must not hide the others.
                let text = |value: Option<serde_json::Value>| match value {
                    Some(serde_json::Value::String(text)) => text,
                    _ => String::new(),
                };
                Notice {
                    json: true,
                    message: text(object.remove("message")),
                    detail: text(object.remove("detail")),
                    category: text(object.remove("category")),
                    policy: text(object.remove("policyName")),
                    errors: match object.remove("errors") {
                        Some(serde_json::Value::Array(errors)) => errors,
                        _ => Vec::new(),
                    },
                    context: object.remove("context").unwrap_or_default(),
                }
            }
            _ => Notice::default(),
        }
    }

    fn said(&self) -> String {
        let text = if self.message.is_empty() {
            &self.detail
        } else {
            &self.message
        };
        match text.is_empty() {
            true => String::new(),
            false => format!(": {}", shortened(text, 300)),
        }
    }

    /// The scopes a HubSpot token lacks.
    fn scopes(&self) -> Vec<&str> {
        let contexts = std::iter::once(&self.context)
            .chain(self.errors.iter().filter_map(|error| error.get("context")));
        let mut scopes: Vec<&str> = contexts
            .flat_map(|context| {
                ["requiredGranularScopes", "requiredScopes"]
                    .into_iter()
                    .filter_map(|name| context.get(name)?.as_array())
            })
            .flatten()
            .filter_map(serde_json::Value::as_str)
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }
}

fn unauthorized(target: Target, notice: &Notice) -> String {
    let setting = match target {
        Target::HubSpot => "integration.hubspot_access_token (or its OAuth settings)",
        Target::Mailchimp => "integration.mailchimp_api_key",
    };
    format!(
        "{target} does not accept the credential (HTTP 401{}); check {setting}",
        notice.said()
    )
}

fn forbidden(target: Target, reply: &Reply, notice: &Notice, wait: Option<Duration>) -> Class {
    if !notice.json && target == Target::Mailchimp {
        // It throttles in this way. If it goes on, the network in front of it blocks this server.
        return Class::Crowded {
            why:
                "Mailchimp refused without a reason (HTTP 403): too many requests at once, or this \
                  server's address is blocked"
                    .to_owned(),
            wait: wait.unwrap_or(MAILCHIMP_WAIT),
            counted: false,
        };
    }
    if !notice.json {
        // Not the service but the network in front of it.
        return Class::Throttled {
            why: format!("{target} refused without a reason (HTTP {})", reply.status),
            wait: wait.unwrap_or(BLOCKED_WAIT),
        };
    }
    let scopes = notice.scopes();
    let why = match scopes.is_empty() {
        false => format!(
            "{target}: the token lacks the scopes {}; grant them",
            scopes.join(", ")
        ),
        true if notice.category == "MISSING_SCOPES" => {
            format!(
                "{target}: the token lacks a scope (HTTP 403{})",
                notice.said()
            )
        }
        true => format!(
            "{target}: the account or its user may not do this (HTTP 403{})",
            notice.said()
        ),
    };
    match target {
        Target::HubSpot => Class::Forbidden { why },
        Target::Mailchimp => Class::Unauthorized { why },
    }
}

fn too_many(target: Target, reply: &Reply, notice: &Notice, wait: Option<Duration>) -> Class {
    let why = format!("{target}: too many requests (HTTP 429{})", notice.said());
    if target == Target::Mailchimp {
        // Not requests a second but connections at a time are limited.
        return Class::Crowded {
            why,
            wait: wait.unwrap_or(MAILCHIMP_WAIT),
            counted: false,
        };
    }
    let daily = notice.policy.eq_ignore_ascii_case("DAILY")
        || notice.message.to_ascii_lowercase().contains("daily limit");
    if daily {
        let until = wait.zip(server_time(reply)).map(|(wait, now)| {
            Timestamp(now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
        });
        return Class::DailyLimit {
            why,
            until,
            wait: wait.unwrap_or(DAILY_WAIT),
        };
    }
    let window = match notice.policy.eq_ignore_ascii_case("SECONDLY") {
        true => HUBSPOT_SEARCH_WINDOW,
        false => HUBSPOT_WINDOW,
    };
    Class::Throttled {
        why,
        wait: wait.unwrap_or(window),
    }
}

/// `Retry-After`, in seconds or as a date; a date counts from the answer's own `Date`.
pub fn retry_after(reply: &Reply) -> Option<Duration> {
    let text = reply.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let until = http_date(text)?;
    let wait = until.saturating_sub(server_time(reply)?).max(0);
    Some(Duration::from_millis(wait.unsigned_abs()))
}

/// Milliseconds since the epoch by the service's clock.
fn server_time(reply: &Reply) -> Option<i64> {
    http_date(reply.header("date")?)
}

fn http_date(text: &str) -> Option<i64> {
    let zoned = rfc2822::DateTimeParser::new()
        .parse_timestamp(text.trim())
        .ok()?;
    Some(zoned.as_millisecond())
}

#[cfg(test)]
mod tests;
