//! What services tell us: received bodies as events, told apart but not yet acted upon.

use serde_json::{Map, Value, value::RawValue};

use crate::{event_order::Affected, record::Timestamp, value::form::FormError};

/// HubSpot sends up to 100 events in a body, Mandrill up to 1,000.
pub const MAX_EVENTS: usize = 1_000;

/// Something that happened at a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<T> {
    /// The same for every delivery of the same event.
    pub event_key: String,
    /// The service's name for what happened, such as `contact.propertyChange`.
    pub kind: String,
    /// When it happened, by the service's clock. 0 where it does not say, or says nonsense.
    pub occurred_at: Timestamp,
    /// The event as received.
    pub payload: serde_json::Value,
    pub subject: T,
    /// What is wrong with it, though it can be read.
    pub flaw: Option<Flaw>,
}

impl<T> Event<T> {
    /// The same event about something else.
    pub fn map<U>(self, subject: impl FnOnce(T) -> U) -> Event<U> {
        Event {
            event_key: self.event_key,
            kind: self.kind,
            occurred_at: self.occurred_at,
            payload: self.payload,
            subject: subject(self.subject),
            flaw: self.flaw,
        }
    }
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
pub type Entry<T> = Result<Event<T>, WebhookError>;

/// An event as it is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted<T> {
    pub event: Event<T>,
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
pub fn accept<T: EventSubject>(mut event: Event<T>, now: Timestamp) -> Accepted<T> {
    let unsaid = event.occurred_at == Timestamp(0) && event.flaw != Some(Flaw::Time);
    let impossible = !unsaid && !(FIRST..LAST).contains(&event.occurred_at);
    if impossible {
        event.flaw.get_or_insert(Flaw::Time);
    }
    // What it tells of the same second must not seem older.
    let now = match event.subject.in_whole_seconds() {
        false => now,
        true => Timestamp(now.0 - now.0.rem_euclid(1_000)),
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

/// What an event is about.
pub trait EventSubject {
    /// Whether the service tells times in whole seconds.
    fn in_whole_seconds(&self) -> bool;

    /// Whether it says that the person wants no more mail, or can get none.
    fn ends_mail(&self) -> bool;

    /// Whom it is about, and in which way.
    fn claim(&self) -> Affected;
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
pub type Object = Result<Map<String, Value>, WebhookError>;

/// The objects of a JSON list. Each is read by itself: one that is no JSON that can be read (half a
/// character, a number beyond all bounds) spoils no other.
pub fn objects(body: &[u8]) -> Result<Vec<Object>, WebhookError> {
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

/// Replaces NUL characters, which PostgreSQL stores in no text. Returns whether there were any.
pub fn without_nul(value: &mut Value) -> bool {
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
pub fn object_without_nul(object: &mut Map<String, Value>) -> bool {
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
pub fn text(value: Option<&serde_json::Value>) -> Option<String> {
    match value? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}
