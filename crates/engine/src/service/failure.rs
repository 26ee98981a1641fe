//! What an answer's status says, for every record in the call alike. The one place where HTTP
//! statuses are judged; what a refusal means for a single record is read elsewhere.

use std::time::Duration;

use jiff::fmt::rfc2822;
use serde_json::{Map, Value};

use crate::{
    limits::concurrency::Strain,
    record::{Target, Timestamp},
    service::Service,
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

/// Wait at least 2 s after 423.
const LOCKED_WAIT: Duration = Duration::from_secs(2);
/// A refusal by the network in front of the service lasts longer than one by its budget.
pub const BLOCKED_WAIT: Duration = Duration::from_secs(30);
/// 477 lasts up to a day and says how long.
const MOVING_WAIT: Duration = Duration::from_secs(60);
/// Where nobody says how long too many requests are too many.
const THROTTLED_WAIT: Duration = Duration::from_secs(10);

/// Judges an answer, or its absence.
pub fn classify<S: Service>(reply: Result<&Reply, &TransportError>) -> Class {
    let target = S::TARGET;
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
    match reply.status {
        200..=299 => return Class::Answered,
        400 | 409 | 413 | 414 | 422 => return Class::Rejected,
        404 | 405 => return Class::NotFound,
        _ => {}
    }
    let refusal = FailedReply::of(reply);
    S::judge(&refusal).unwrap_or_else(|| refusal.class::<S>())
}

/// What an answer, or its absence, says about how much is asked for at once; `None`: nothing.
pub fn strain<S: Service>(reply: Result<&Reply, &TransportError>) -> Option<Strain> {
    let slow = match reply {
        Ok(reply) => matches!(reply.status, 408 | 502 | 504 | 524),
        Err(error) => matches!(error, TransportError::Timeout(_)),
    };
    match classify::<S>(reply) {
        Class::Answered | Class::Rejected | Class::NotFound => Some(Strain::None),
        Class::Crowded { .. } => Some(Strain::Crowded),
        Class::Failing { .. } => Some(Strain::Slow).filter(|_| slow && S::SLOWS_DOWN),
        Class::Throttled { .. }
        | Class::DailyLimit { .. }
        | Class::Unauthorized { .. }
        | Class::Forbidden { .. } => None,
    }
}

/// An answer that is neither a success nor about the request itself.
pub struct FailedReply<'a> {
    pub status: u16,
    reply: &'a Reply,
    /// The error body, where it is JSON at all.
    pub body: Option<Map<String, Value>>,
    /// How long to wait, where it says so.
    pub wait: Option<Duration>,
}

impl<'a> FailedReply<'a> {
    fn of(reply: &'a Reply) -> FailedReply<'a> {
        FailedReply {
            status: reply.status,
            reply,
            body: serde_json::from_slice(&reply.body).ok(),
            wait: retry_after(reply),
        }
    }

    /// A text of the error body. One field of an unexpected type does not hide the others.
    pub fn text(&self, name: &str) -> &str {
        let body = self.body.as_ref();
        let value = body.and_then(|body| body.get(name)?.as_str());
        value.unwrap_or_default()
    }

    /// What it says, as the end of a sentence.
    pub fn said(&self) -> String {
        let text = match self.text("message") {
            "" => self.text("detail"),
            message => message,
        };
        match text.is_empty() {
            true => String::new(),
            false => format!(": {}", shortened(text, 300)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.reply.body.is_empty()
    }

    /// When the wait it asks for is over, by its own clock.
    pub fn until(&self) -> Option<Timestamp> {
        let (wait, now) = self.wait.zip(server_time(self.reply))?;
        let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        Some(Timestamp(now.saturating_add(wait)))
    }

    /// What it means by what HTTP says.
    fn class<S: Service>(&self) -> Class {
        let (target, wait) = (S::TARGET, self.wait);
        match self.status {
            401 => Class::Unauthorized {
                why: format!(
                    "{target} does not accept the credential (HTTP 401{}); check {}",
                    self.said(),
                    S::CREDENTIAL
                ),
            },
            // Not the service but the network in front of it.
            403 if self.body.is_none() => Class::Throttled {
                why: format!("{target} refused without a reason (HTTP 403)"),
                wait: wait.unwrap_or(BLOCKED_WAIT),
            },
            403 => Class::Forbidden {
                why: format!(
                    "{target}: the account or its user may not do this (HTTP 403{})",
                    self.said()
                ),
            },
            423 => Class::Crowded {
                why: format!("{target} is busy with other writes to the same data (HTTP 423)"),
                wait: wait.unwrap_or(LOCKED_WAIT).max(LOCKED_WAIT),
                counted: true,
            },
            429 => Class::Throttled {
                why: self.too_many(target),
                wait: wait.unwrap_or(THROTTLED_WAIT),
            },
            477 => Class::Failing {
                why: format!("{target} is moving the account to another data centre (HTTP 477)"),
                wait: Some(wait.unwrap_or(MOVING_WAIT)),
                counted: false,
            },
            status => Class::Failing {
                why: format!("{target} answered HTTP {status}{}", self.said()),
                wait,
                // Anything but these is a matter of set-up or of a proxy.
                counted: matches!(status, 408 | 500..=599),
            },
        }
    }

    pub fn too_many(&self, target: Target) -> String {
        format!("{target}: too many requests (HTTP 429{})", self.said())
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
