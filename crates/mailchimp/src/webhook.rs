//! Mailchimp's webhooks: a form of one event, and Mandrill's, a form with a JSON list of events.

use jiff::{civil, tz::TimeZone};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use integration_engine::{
    event_order::{Affected, Reach},
    record::{Timestamp, consent::MemberStatus},
    value::form,
    webhook::{
        Entry, Event, EventSubject, Flaw, WebhookError, object_without_nul, objects, text,
        without_nul,
    },
};

/// What an event of an audience is about. Lists and campaigns by Mailchimp's ids, addresses as
/// received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailchimpSubject {
    Subscribe {
        list: String,
        email: String,
    },
    /// `action` is `unsub` or `delete`, `reason` `manual` or `abuse`; neither is certain to come.
    Unsubscribe {
        list: String,
        email: String,
        action: Option<String>,
        reason: Option<String>,
        campaign: Option<String>,
    },
    Profile {
        list: String,
        email: String,
    },
    EmailChange {
        list: String,
        old_email: String,
        new_email: String,
    },
    /// `reason` is `hard` (bounce) or `abuse`.
    Cleaned {
        list: String,
        email: String,
        reason: Option<String>,
        campaign: Option<String>,
    },
    Campaign {
        list: String,
        campaign: String,
        status: Option<String>,
    },
    /// Anything else, by its name.
    Other(String),
}

impl MailchimpSubject {
    /// The audience it happened in, where the event says so.
    pub fn list(&self) -> Option<&str> {
        let list = match self {
            MailchimpSubject::Subscribe { list, .. }
            | MailchimpSubject::Unsubscribe { list, .. }
            | MailchimpSubject::Profile { list, .. }
            | MailchimpSubject::EmailChange { list, .. }
            | MailchimpSubject::Cleaned { list, .. }
            | MailchimpSubject::Campaign { list, .. } => list,
            MailchimpSubject::Other(_) => return None,
        };
        Some(list.as_str()).filter(|list| !list.is_empty())
    }

    /// What the event says about the person's consent. Mailchimp does not say who unsubscribed
    /// them, so it is taken for their own will.
    pub fn member_status(&self) -> Option<MemberStatus> {
        match self {
            MailchimpSubject::Subscribe { .. } => Some(MemberStatus::Subscribed),
            MailchimpSubject::Unsubscribe { action, reason, .. } => {
                let deleted = action.as_deref() == Some("delete");
                let complained = reason.as_deref() == Some("abuse");
                Some(match deleted && !complained {
                    true => MemberStatus::Archived,
                    false => MemberStatus::UnsubscribedByMember,
                })
            }
            MailchimpSubject::Cleaned { .. } => Some(MemberStatus::Cleaned),
            MailchimpSubject::Profile { .. }
            | MailchimpSubject::EmailChange { .. }
            | MailchimpSubject::Campaign { .. }
            | MailchimpSubject::Other(_) => None,
        }
    }
}

/// What an event of a transactional message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MandrillSubject {
    /// The recipient.
    pub email: Option<String>,
    /// `send`, `open`, `click`, `hard_bounce`, `spam`, `unsub`, …; of list changes their type.
    pub event: String,
    pub message_id: Option<String>,
    /// What was clicked.
    pub url: Option<String>,
}

impl EventSubject for MailchimpSubject {
    fn in_whole_seconds(&self) -> bool {
        true
    }

    fn ends_mail(&self) -> bool {
        let left = self.member_status();
        left.is_some_and(|status| status != MemberStatus::Subscribed)
    }

    fn claim(&self) -> Affected {
        let (addresses, reach) = match self {
            MailchimpSubject::Subscribe { email, .. } => (vec![email], Reach::Record),
            MailchimpSubject::Unsubscribe { email, .. }
            | MailchimpSubject::Cleaned { email, .. } => (vec![email], Reach::OptOut),
            MailchimpSubject::Profile { email, .. } => (vec![email], Reach::Fields),
            MailchimpSubject::EmailChange {
                old_email,
                new_email,
                ..
            } => (vec![old_email, new_email], Reach::Record),
            MailchimpSubject::Campaign { .. } | MailchimpSubject::Other(_) => {
                (Vec::new(), Reach::Fields)
            }
        };
        Affected::of_addresses(addresses.into_iter().map(String::as_str), reach)
    }
}

impl EventSubject for MandrillSubject {
    fn in_whole_seconds(&self) -> bool {
        true
    }

    fn ends_mail(&self) -> bool {
        self.member_status().is_some()
    }

    fn claim(&self) -> Affected {
        let reach = match self.member_status() {
            Some(_) => Reach::OptOut,
            None => Reach::Fields,
        };
        Affected::of_addresses(self.email.as_deref().into_iter(), reach)
    }
}

/// Reads an audience's webhook. Every field but `type` may be absent.
pub fn parse(body: &[u8]) -> Result<Event<MailchimpSubject>, WebhookError> {
    let mut payload = form::tree(&form::pairs(body)?)?;
    let nul = without_nul(&mut payload);
    let kind = text(payload.get("type"))
        .filter(|kind| !kind.is_empty())
        .ok_or(WebhookError::Incomplete {
            position: 0,
            field: "type",
        })?;
    let fired_at = text(payload.get("fired_at")).unwrap_or_default();
    let occurred_at = utc(&fired_at);
    let event_key = event_key(&payload, &kind, &fired_at, occurred_at, body);
    let subject = subject(&payload, &kind);
    Ok(Event {
        event_key,
        kind,
        occurred_at: occurred_at.unwrap_or_default(),
        payload,
        subject,
        flaw: match nul {
            true => Some(Flaw::Nul),
            false => (occurred_at.is_none() && !fired_at.trim().is_empty()).then_some(Flaw::Time),
        },
    })
}

/// Reads the payload of an event that was stored.
pub fn replay(payload: &Value) -> MailchimpSubject {
    let kind = text(payload.get("type")).unwrap_or_default();
    subject(payload, &kind)
}

/// The merge fields that a stored event reports, by tag. Those of several parts (an address) are
/// JSON objects.
pub fn merges(payload: &Value) -> Vec<(String, Option<String>)> {
    let merges = payload.get("data").and_then(|data| data.get("merges"));
    let Some(Value::Object(merges)) = merges else {
        return Vec::new();
    };
    let value = |value: &Value| match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        other => Some(other.to_string()),
    };
    merges
        .iter()
        .map(|(tag, reported)| (tag.clone(), value(reported)))
        .collect()
}

/// Deliveries have no id of their own. The documented advice (type, id and time) does not tell
/// address changes and cleaned addresses apart, so the addresses come along.
fn event_key(
    payload: &Value,
    kind: &str,
    fired_at: &str,
    occurred_at: Option<Timestamp>,
    body: &[u8],
) -> String {
    let mut key = kind.to_owned();
    for name in ["list_id", "id", "new_id", "email", "new_email"] {
        key.push(':');
        key.push_str(&data(payload, name).unwrap_or_default());
    }
    key.push(':');
    match occurred_at {
        Some(_) => key.push_str(fired_at),
        None => key.push_str(&format!("{:016x}", xxh3_64(body))),
    }
    key
}

fn data(payload: &Value, name: &str) -> Option<String> {
    text(payload.get("data")?.get(name)).filter(|text| !text.is_empty())
}

fn subject(payload: &Value, kind: &str) -> MailchimpSubject {
    let field = |name: &str| data(payload, name);
    let list = field("list_id").unwrap_or_default();
    let campaign = field("campaign_id");
    let subject = match kind {
        "subscribe" => field("email").map(|email| MailchimpSubject::Subscribe { list, email }),
        "unsubscribe" => field("email").map(|email| MailchimpSubject::Unsubscribe {
            list,
            email,
            action: field("action"),
            reason: field("reason"),
            campaign,
        }),
        "profile" => field("email").map(|email| MailchimpSubject::Profile { list, email }),
        "upemail" => field("old_email")
            .zip(field("new_email"))
            .map(|(old_email, new_email)| MailchimpSubject::EmailChange {
                list,
                old_email,
                new_email,
            }),
        "cleaned" => field("email").map(|email| MailchimpSubject::Cleaned {
            list,
            email,
            reason: field("reason"),
            campaign,
        }),
        "campaign" => field("id").map(|campaign| MailchimpSubject::Campaign {
            list,
            campaign,
            status: field("status"),
        }),
        _ => None,
    };
    subject.unwrap_or_else(|| MailchimpSubject::Other(kind.to_owned()))
}

/// `YYYY-MM-DD HH:MM:SS` without a zone; integrators take it as UTC.
fn utc(text: &str) -> Option<Timestamp> {
    let time: civil::DateTime = text.trim().parse().ok()?;
    TimeZone::UTC
        .to_timestamp(time)
        .ok()
        .map(|instant| Timestamp(instant.as_millisecond()))
}

/// Reads Mandrill's webhook: the field `mandrill_events` holds a JSON list, which is empty when an
/// address is being tried out.
pub fn parse_mandrill(body: &[u8]) -> Result<Vec<Entry<MandrillSubject>>, WebhookError> {
    let pairs = form::pairs(body)?;
    let (_, events) = pairs
        .iter()
        .find(|(name, _)| name == "mandrill_events")
        .ok_or(WebhookError::Incomplete {
            position: 0,
            field: "mandrill_events",
        })?;
    let entries = objects(events.as_bytes())?.into_iter().enumerate();
    let read = |(position, entry): (usize, Result<Map<String, Value>, WebhookError>)| {
        let mut event = entry?;
        let nul = object_without_nul(&mut event);
        let read = mandrill_event(event).ok_or(WebhookError::Incomplete {
            position,
            field: "event",
        });
        read.map(|event| Event {
            flaw: nul.then_some(Flaw::Nul).or(event.flaw),
            ..event
        })
    };
    Ok(entries.map(read).collect())
}

fn mandrill_event(event: Map<String, Value>) -> Option<Event<MandrillSubject>> {
    let field = |name: &str| text(event.get(name));
    let subject = mandrill_subject(&event)?;
    let kind = subject.event.clone();
    let seconds = field("ts").and_then(|text| text.parse::<i64>().ok());
    let nonsense = seconds.is_none() && event.get("ts").is_some_and(|ts| !ts.is_null());
    let event_key = [
        subject.message_id.as_deref(),
        Some(kind.as_str()),
        field("ts").as_deref(),
        subject.url.as_deref(),
        field("action").as_deref(),
        // List changes have no message to tell them apart by.
        subject
            .email
            .as_deref()
            .filter(|_| subject.message_id.is_none()),
    ]
    .map(Option::unwrap_or_default)
    .join(":");
    Some(Event {
        event_key,
        kind,
        occurred_at: Timestamp(seconds.unwrap_or_default().saturating_mul(1_000)),
        payload: Value::Object(event),
        subject,
        flaw: nonsense.then_some(Flaw::Time),
    })
}

fn mandrill_subject(event: &Map<String, Value>) -> Option<MandrillSubject> {
    let field = |name: &str| text(event.get(name));
    let message = event.get("msg");
    let in_message = |name: &str| text(message?.get(name));
    Some(MandrillSubject {
        email: in_message("email").or_else(|| text(event.get("reject")?.get("email"))),
        event: field("event").or_else(|| field("type"))?,
        url: field("url"),
        message_id: field("_id").or_else(|| in_message("_id")),
    })
}

/// Reads the payload of a Mandrill event that was stored.
pub fn replay_mandrill(payload: &Value) -> MandrillSubject {
    let known = payload.as_object().and_then(mandrill_subject);
    known.unwrap_or_else(|| MandrillSubject {
        email: None,
        event: String::new(),
        message_id: None,
        url: None,
    })
}

#[cfg(test)]
mod tests;
