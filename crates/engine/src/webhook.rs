//! What services tell us: received bodies as events, told apart but not yet acted upon.

use serde_json::{Map, Value, value::RawValue};

use crate::{
    delivery::outcome::MemberStatus,
    hubspot::webhook::HubSpotSubject,
    mailchimp::webhook::{MailchimpSubject, MandrillSubject},
    record::Timestamp,
    value::form::FormError,
};

/// HubSpot sends up to 100 events in a body, Mandrill up to 1,000.
pub(crate) const MAX_EVENTS: usize = 1_000;

/// Something that happened at a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The same for every delivery of the same event.
    pub event_key: String,
    /// The service's name for what happened, such as `contact.propertyChange`.
    pub kind: String,
    /// When it happened, by the service's clock. 0 where it does not say, or says nonsense.
    pub occurred_at: Timestamp,
    /// The event as received.
    pub payload: serde_json::Value,
    pub subject: Subject,
    /// What is wrong with it, though it can be read.
    pub flaw: Option<Flaw>,
}

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It held a NUL character, which PostgreSQL cannot store; the payload has U+FFFD in its place.
    Nul,
    /// It happened at no time that can be.
    Time,
}

/// What an entry of a body is: an event, or why it is none.
pub type Entry = Result<Event, WebhookError>;

/// An event as it is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub event: Event,
    /// Why it is not to be applied.
    pub refused: Option<&'static str>,
}

/// By how much the clocks of a service and of this server may differ, in milliseconds.
const SKEW: i64 = 5 * 60 * 1_000;

/// 2000-01-01 and 10000-01-01: before, there was no such service, and after, PostgreSQL's dates and
/// everybody else's differ.
const FIRST: Timestamp = Timestamp(946_684_800_000);
const LAST: Timestamp = Timestamp(253_402_300_800_000);

/// When something happened that a service dates: not in the future. What was dated so would go before
/// everything else that happens until then.
pub fn not_in_future(at: Timestamp, now: Timestamp) -> Timestamp {
    match at.0 > now.0.saturating_add(SKEW) {
        true => now,
        false => at,
    }
}

/// Judges an event that was received now. That somebody wants no more mail, or can get none, counts
/// whatever is wrong with the event.
pub fn accept(mut event: Event, now: Timestamp) -> Accepted {
    let unsaid = event.occurred_at == Timestamp(0) && event.flaw != Some(Flaw::Time);
    let impossible = !unsaid && !(FIRST..LAST).contains(&event.occurred_at);
    if impossible {
        event.flaw.get_or_insert(Flaw::Time);
    }
    // Mailchimp's clock has whole seconds: what it tells of the same second must not seem older.
    let now = match event.subject {
        Subject::HubSpot(_) => now,
        Subject::Mailchimp(_) | Subject::Mandrill(_) => Timestamp(now.0 - now.0.rem_euclid(1_000)),
    };
    event.occurred_at = match unsaid || impossible {
        true => now,
        false => not_in_future(event.occurred_at, now),
    };
    let refused = match event.flaw.filter(|_| !event.subject.ends_mail()) {
        None => None,
        Some(Flaw::Nul) => Some("it holds a NUL character (shown as U+FFFD)"),
        Some(Flaw::Time) => Some("it happened at an impossible time"),
    };
    Accepted { event, refused }
}

/// What it is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    HubSpot(HubSpotSubject),
    Mailchimp(MailchimpSubject),
    Mandrill(MandrillSubject),
}

impl Subject {
    /// Whether it says that the person wants no more mail, or can get none.
    fn ends_mail(&self) -> bool {
        match self {
            Subject::HubSpot(_) => false,
            Subject::Mailchimp(subject) => {
                let left = subject.member_status();
                left.is_some_and(|status| status != MemberStatus::Subscribed)
            }
            Subject::Mandrill(subject) => subject.member_status().is_some(),
        }
    }
}

/// Why a body holds no events we can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("the body is not a list of events")]
    NotAList,
    #[error("the body has {count} events; at most {MAX_EVENTS} are read")]
    TooMany { count: usize },
    #[error("event {position} cannot be read: {why}")]
    Unreadable { position: usize, why: String },
    #[error("event {position} has no readable {field}")]
    Incomplete {
        position: usize,
        field: &'static str,
    },
}

/// An object of a list, or why it cannot be read.
pub(crate) type Object = Result<Map<String, Value>, WebhookError>;

/// The objects of a JSON list. Each is read by itself: one that is no JSON that can be read (half a
/// character, a number beyond all bounds) spoils no other.
pub(crate) fn objects(body: &[u8]) -> Result<Vec<Object>, WebhookError> {
    let not_json = |error: serde_json::Error| WebhookError::NotJson(error.to_string());
    let body = std::str::from_utf8(body).map_err(|why| WebhookError::NotJson(why.to_string()))?;
    if !body.trim_start().starts_with('[') {
        let _: serde::de::IgnoredAny = serde_json::from_str(body).map_err(not_json)?;
        return Err(WebhookError::NotAList);
    }
    let list: Vec<&RawValue> = serde_json::from_str(body).map_err(not_json)?;
    if list.len() > MAX_EVENTS {
        return Err(WebhookError::TooMany { count: list.len() });
    }
    let read = |(position, raw): (usize, &&RawValue)| {
        serde_json::from_str(raw.get()).map_err(|error| WebhookError::Unreadable {
            position,
            why: error.to_string(),
        })
    };
    Ok(list.iter().enumerate().map(read).collect())
}

/// Replaces NUL characters, which PostgreSQL stores in no text. Gives whether there were any.
pub(crate) fn without_nul(value: &mut Value) -> bool {
    match value {
        Value::String(text) if text.contains('\0') => {
            *text = text.replace('\0', "\u{fffd}");
            true
        }
        Value::Array(list) => list
            .iter_mut()
            .fold(false, |any, each| without_nul(each) | any),
        Value::Object(object) => object_without_nul(object),
        _ => false,
    }
}

/// The same of an object and its names.
pub(crate) fn object_without_nul(object: &mut Map<String, Value>) -> bool {
    let mut any = object
        .values_mut()
        .fold(false, |any, each| without_nul(each) | any);
    if object.keys().any(|name| name.contains('\0')) {
        any = true;
        let clean = |(name, value): (String, Value)| (name.replace('\0', "\u{fffd}"), value);
        *object = std::mem::take(object).into_iter().map(clean).collect();
    }
    any
}

/// A text, or a whole number with all its digits.
pub(crate) fn text(value: Option<&serde_json::Value>) -> Option<String> {
    match value? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{hubspot, mailchimp, value::form};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn hubspot(at: &str) -> Accepted {
        let body = format!(
            r#"[{{"portalId":1,"occurredAt":{at},"subscriptionType":"contact.deletion","objectId":5}}]"#
        );
        let event = hubspot::webhook::parse(body.as_bytes()).unwrap().remove(0);
        accept(event.unwrap(), NOW)
    }

    fn mailchimp(kind: &str, fired_at: &str) -> Accepted {
        let body = format!("type={kind}&fired_at={fired_at}&data[email]=a%40b.co&data[list_id]=l");
        accept(mailchimp::webhook::parse(body.as_bytes()).unwrap(), NOW)
    }

    #[test]
    fn times_are_those_at_which_something_can_have_happened() {
        let cases = [
            ("1799999999999", 1_799_999_999_999, true),
            // Clocks differ a little.
            ("1800000299000", 1_800_000_299_000, true),
            // But nothing happened in the future.
            ("1800000301000", NOW.0, true),
            ("253402300799000", NOW.0, true),
            ("253402300800000", NOW.0, false),
            ("9223372036854775807", NOW.0, false),
            ("5", NOW.0, false),
            ("-1", NOW.0, false),
        ];
        for (at, expected, taken) in cases {
            let accepted = hubspot(at);
            assert_eq!(accepted.event.occurred_at, Timestamp(expected), "{at}");
            assert_eq!(accepted.refused.is_none(), taken, "{at}");
        }
    }

    #[test]
    fn opt_out_counts_whenever_it_is_said_to_have_happened() {
        let cases = [
            ("profile", "2026-13-45+00:00:00", false),
            ("profile", "1812-01-01+00:00:00", false),
            ("subscribe", "yesterday", false),
            ("unsubscribe", "2026-13-45+00:00:00", true),
            ("cleaned", "1812-01-01+00:00:00", true),
            // Nothing said is nothing wrong.
            ("profile", "", true),
        ];
        for (kind, fired_at, taken) in cases {
            let accepted = mailchimp(kind, fired_at);
            assert_eq!(accepted.refused.is_none(), taken, "{kind} {fired_at}");
            assert_eq!(accepted.event.occurred_at, NOW, "{kind} {fired_at}");
        }
        let body = b"type=subscribe&fired_at=2100-01-01+00:00:00&data[email]=a%40b.co";
        let event = mailchimp::webhook::parse(body).unwrap();
        let accepted = accept(event, Timestamp(NOW.0 + 999));
        assert_eq!(accepted.event.occurred_at, NOW, "in whole seconds");
    }

    #[test]
    fn entry_that_cannot_be_read_spoils_no_other() {
        let good = r#"{"portalId":1,"occurredAt":1790000000000,"subscriptionType":"contact.deletion","objectId":5}"#;
        let bad = [
            r#"{"half":"\ud800"}"#,
            r#"{"huge":1e999}"#,
            "1",
            "null",
            r#"{"portalId":1,"occurredAt":1e300,"subscriptionType":"contact.deletion"}"#,
        ];
        for bad in bad {
            let body = format!("[{good},{bad},{good}]");
            let entries = hubspot::webhook::parse(body.as_bytes()).unwrap();
            let read: Vec<bool> = entries.iter().map(Result::is_ok).collect();
            assert_eq!(read, [true, false, true], "{bad}");
        }
    }

    #[test]
    fn nul_is_replaced_and_refused() {
        let body = r#"[{"portalId":1,"occurredAt":1790000000000,"subscriptionType":"contact.propertyChange","objectId":5,
            "propertyName":"x","propertyValue":"a\u0000b","more":{"c\u0000":["\u0000"]}}]"#;
        let event = hubspot::webhook::parse(body.as_bytes()).unwrap().remove(0);
        let accepted = accept(event.unwrap(), NOW);
        assert!(accepted.refused.is_some());
        let text = accepted.event.payload.to_string();
        assert!(!text.contains("\\u0000"), "{text}");
        assert_eq!(accepted.event.payload["propertyValue"], "a\u{fffd}b");
        let of = |kind: &str| {
            let body = format!("type={kind}&data[email]=a%40b.co&data[merges][FNAME]=%00");
            let event = mailchimp::webhook::parse(body.as_bytes()).unwrap();
            accept(event, NOW).refused.is_none()
        };
        assert_eq!((of("profile"), of("unsubscribe")), (false, true));
        let events = json!([{"event": "open", "ts": 1, "x": "\u{0}"}, {"event": "spam", "msg": {"email": "a@b.co\u{0}"}}]);
        let events = events.to_string();
        let mut body = form_urlencoded::Serializer::new(String::new());
        let body = body.append_pair("mandrill_events", &events).finish();
        assert!(form::pairs(body.as_bytes()).is_ok());
        let taken = mailchimp::webhook::parse_mandrill(body.as_bytes()).unwrap();
        let taken = taken.into_iter().map(|event| accept(event.unwrap(), NOW));
        let taken: Vec<bool> = taken.map(|event| event.refused.is_none()).collect();
        assert_eq!(taken, [false, true]);
    }
}
