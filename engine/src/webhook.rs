//! Received events.
use crate::{form::FormError, hubspot::webhook::HubSpotSubject, mailchimp::webhook::{MailchimpSubject, MandrillSubject}, record::Timestamp};
#[derive(Clone, Debug, PartialEq)]
pub struct Event { pub event_key: String, pub kind: String, pub occurred_at: Timestamp, pub payload: serde_json::Value, pub subject: Subject }
#[derive(Clone, Debug, PartialEq)]
pub enum Subject { HubSpot(HubSpotSubject), Mailchimp(MailchimpSubject), Mandrill(MandrillSubject) }
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError { #[error(transparent)] Form(#[from] FormError) }
