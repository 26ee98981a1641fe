//! Mandrill events: what people did with transactional messages, and what that says of their consent.

use integration_engine::consent::{Party, ReportedConsent};
use integration_engine::delivery::call::Link;
use integration_engine::record::{RecordRef, Target};
use integration_engine::value;
use integration_mailchimp::webhook::MandrillSubject;
use pgrx::spi::SpiResult;

use super::consent::{self, Decided};
use super::{ApplyContext, Fate, applied, ignored};
use crate::store::inbound::inbox::PendingEvent;
use crate::store::{crm::people, inbound::activity, links};

pub fn apply(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    subject: &MandrillSubject,
) -> SpiResult<Fate> {
    let Some(activity) = subject.activity(&event.payload) else {
        return Ok(ignored(format!(
            "{} is no event of a message",
            subject.event
        )));
    };
    let Some(Ok(email)) = subject.email.as_deref().map(value::email_key) else {
        return Ok(ignored("no usable address"));
    };
    let kind = activity.kind;
    let decided = decided(apply_context, event, subject, &email);
    let found = people::by_email(apply_context.context.sources.values(), &email)?;
    let found = found.and_then(|(record, link)| {
        let source = apply_context.source(&record)?;
        Some((record, link, source))
    });
    let Some((record, link, source)) = found else {
        // For the row that may come.
        decided
            .iter()
            .try_for_each(|decided| decided.remember(None))?;
        return Ok(ignored("no CRM row is known under this address"));
    };
    let Some(decided) = decided else {
        activity::put(&record, event, activity)?;
        return Ok(applied(format!("{kind} noted")));
    };
    // Whoever has this address in other audiences is the same person to whom sent the message.
    let others = links::by_remote_key(Target::Mailchimp, &email)?;
    let others: Vec<(RecordRef, Link)> = others
        .into_iter()
        .filter(|(other, _)| *other != record && apply_context.source(other).is_some())
        .collect();
    let mut all = std::iter::once(&record).chain(others.iter().map(|(other, _)| other));
    if all.any(|record| apply_context.flying(Target::Mailchimp, record)) {
        return Ok(Fate::Later);
    }
    activity::put(&record, event, activity)?;
    for (other, link) in others {
        if let Some(source) = apply_context.source(&other) {
            let fate = consent::record(apply_context, source, other, Some(link), decided.clone())?;
            if matches!(fate, Fate::Refused(_)) {
                return Ok(fate);
            }
        }
    }
    match consent::record(apply_context, source, record, link, decided)? {
        Fate::Settled(crate::store::inbound::inbox::EventState::Ignored, why) => {
            Ok(applied(format!("{kind} noted; consent unchanged: {why}")))
        }
        fate => Ok(fate),
    }
}

/// What the event says the person decided, if it does.
fn decided(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    subject: &MandrillSubject,
    email: &str,
) -> Option<Decided> {
    let status = subject.member_status()?;
    Some(Decided {
        reported: ReportedConsent {
            status,
            by: Party::Mandrill,
            at: event.occurred_at,
            elsewhere: false,
        },
        list: apply_context.context.settings.mailchimp_api.list.clone(),
        email: email.to_owned(),
        event: Some(event.id),
        reason: Some(subject.event.clone()),
    })
}
