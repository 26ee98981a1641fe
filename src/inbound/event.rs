//! A stored event: what it is about, and what has it applied.

use integration_engine::webhook::WebhookError;
use integration_hubspot as hubspot;
use integration_mailchimp as mailchimp;
use pgrx::spi::SpiResult;

use super::{Alert, ApplyContext, Fate, failed, foreign, ignored};
use crate::services::AnySubject;
use crate::store::inbound::inbox::{FOREIGN_ALERT, PendingEvent};

/// What an event is about.
pub fn subject(event: &PendingEvent) -> Result<AnySubject, WebhookError> {
    Ok(match event.origin.as_str() {
        "hubspot" => AnySubject::HubSpot(hubspot::webhook::replay(&event.payload)?),
        "mandrill" => AnySubject::Mandrill(mailchimp::webhook::replay_mandrill(&event.payload)),
        _ => AnySubject::Mailchimp(mailchimp::webhook::replay(&event.payload)),
    })
}

/// Applies an event.
pub fn apply(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    subject: Result<&AnySubject, &WebhookError>,
) -> SpiResult<Fate> {
    if let Ok(subject) = subject
        && let Some(from) = foreign::from(apply_context, subject)?
    {
        apply_context.alerts.borrow_mut().push(Alert {
            kind: FOREIGN_ALERT,
            // One for all of them.
            subject: String::new(),
            message: format!(
                "events of {from} come in, which is not ours; they are ignored. Have them no longer sent here"
            ),
        });
        return Ok(ignored(format!("of {from}, which is not ours")));
    }
    match subject {
        Ok(AnySubject::HubSpot(subject)) => {
            super::hubspot::apply(apply_context, subject, event.occurred_at)
        }
        Ok(AnySubject::Mailchimp(subject)) => {
            super::mailchimp::apply(apply_context, event, subject)
        }
        Ok(AnySubject::Mandrill(subject)) => super::mandrill::apply(apply_context, event, subject),
        Err(why) => Ok(failed(why.to_string())),
    }
}
