//! What services tell us: received bodies as events, told apart but not yet acted upon.

use crate::{
    form::FormError,
    hubspot::webhook::HubSpotSubject,
    mailchimp::webhook::{MailchimpSubject, MandrillSubject},
    record::Timestamp,
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
    /// When it happened, by the service's clock. 0 where it does not say.
    pub occurred_at: Timestamp,
    /// The event as received.
    pub payload: serde_json::Value,
    pub subject: Subject,
}

/// What it is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    HubSpot(HubSpotSubject),
    Mailchimp(MailchimpSubject),
    Mandrill(MandrillSubject),
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
    #[error("event {position} has no readable {field}")]
    Incomplete {
        position: usize,
        field: &'static str,
    },
}

/// The objects of a JSON list.
pub(crate) fn list_of_objects(
    body: &[u8],
) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, WebhookError> {
    let body: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| WebhookError::NotJson(error.to_string()))?;
    let serde_json::Value::Array(list) = body else {
        return Err(WebhookError::NotAList);
    };
    if list.len() > MAX_EVENTS {
        return Err(WebhookError::TooMany { count: list.len() });
    }
    list.into_iter()
        .map(|event| match event {
            serde_json::Value::Object(event) => Ok(event),
            _ => Err(WebhookError::NotAList),
        })
        .collect()
}

/// A text, or a whole number with all its digits.
pub(crate) fn text(value: Option<&serde_json::Value>) -> Option<String> {
    match value? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}
