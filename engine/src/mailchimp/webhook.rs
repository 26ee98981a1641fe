//! Mailchimp events.
use crate::{outcome::MemberStatus, webhook::{Event, WebhookError}};
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailchimpSubject {
    Subscribe { list: String, email: String },
    Unsubscribe { list: String, email: String, action: Option<String>, reason: Option<String>, campaign: Option<String> },
    Profile { list: String, email: String },
    EmailChange { list: String, old_email: String, new_email: String },
    Cleaned { list: String, email: String, reason: Option<String>, campaign: Option<String> },
    Campaign { list: String, campaign: String, status: Option<String> },
    Other(String),
}
impl MailchimpSubject {
    pub fn member_status(&self) -> Option<MemberStatus> { unimplemented!() }
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MandrillSubject { pub email: Option<String>, pub event: String, pub message_id: Option<String>, pub url: Option<String> }
pub fn parse(_body: &[u8]) -> Result<Event, WebhookError> { unimplemented!() }
pub fn parse_mandrill(_body: &[u8]) -> Result<Vec<Event>, WebhookError> { unimplemented!() }
