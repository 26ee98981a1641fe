//! Mailchimp events into CRM rows: consent first of all.

use integration_engine::consent::place::AudiencePlace;
use integration_engine::consent::{Party, ReportedConsent, standing};
use integration_engine::crypto::subscriber_hash;
use integration_engine::delivery::call::Link;
use integration_engine::record::consent::MemberStatus;
use integration_engine::record::{RecordRef, RemoteId, Target};
use integration_engine::sync::clock::Writer;
use integration_engine::value;
use integration_mailchimp::webhook::{self, MailchimpSubject};
use pgrx::spi::SpiResult;

use super::audience::place;
use super::consent::{self, Decided};
use super::fields::{Knowledge, Reported};
use super::{ApplyContext, Fate, applied, failed, ignored};
use crate::store::inbound::inbox::{EventState, PendingEvent};
use crate::store::links;

pub fn apply(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    subject: &MailchimpSubject,
) -> SpiResult<Fate> {
    let default = &apply_context.context.settings.mailchimp_api.list;
    let list = subject.list().unwrap_or(default).to_owned();
    let status = subject.member_status();
    match subject {
        MailchimpSubject::Subscribe { email, .. } => {
            let consent = change_consent(apply_context, event, &list, email, status, None)?;
            // What they filled in counts as well, if the member is a row's; what they left empty
            // says nothing.
            match consent {
                Fate::Settled(state, detail) => {
                    let mut filled = webhook::merges(&event.payload);
                    filled.retain(|(_, value)| value.is_some());
                    let fields = profile(apply_context, event, &list, email, &filled)?;
                    Ok(both(state, detail, fields))
                }
                Fate::Later | Fate::Refused(_) => Ok(consent),
            }
        }
        MailchimpSubject::Unsubscribe { email, reason, .. }
        | MailchimpSubject::Cleaned { email, reason, .. } => {
            change_consent(apply_context, event, &list, email, status, reason.clone())
        }
        MailchimpSubject::Profile { email, .. } => {
            let merges = webhook::merges(&event.payload);
            profile(apply_context, event, &list, email, &merges)
        }
        MailchimpSubject::EmailChange {
            old_email,
            new_email,
            ..
        } => change_address(apply_context, event, &list, old_email, new_email),
        MailchimpSubject::Campaign {
            campaign, status, ..
        } => Ok(applied(format!(
            "campaign {campaign} is {}; it changes no row",
            status.as_deref().unwrap_or("mentioned")
        ))),
        MailchimpSubject::Other(kind) => Ok(ignored(format!("{kind} changes nothing in the CRM"))),
    }
}

/// What became of an event that is news in two ways.
fn both(state: EventState, detail: String, fields: Fate) -> Fate {
    match fields {
        Fate::Settled(EventState::Ignored, _) => Fate::Settled(state, detail),
        Fate::Settled(other, more) => {
            let state = match state {
                EventState::Applied => EventState::Applied,
                _ => other,
            };
            Fate::Settled(state, format!("{detail}; {more}"))
        }
        Fate::Later | Fate::Refused(_) => fields,
    }
}

fn change_consent(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    list: &str,
    email: &str,
    status: Option<MemberStatus>,
    reason: Option<String>,
) -> SpiResult<Fate> {
    let Some(status) = status else {
        return Ok(ignored("says nothing about consent"));
    };
    let Ok(email) = value::email_key(email) else {
        return Ok(ignored("no usable address"));
    };
    let mut decided = Decided {
        reported: ReportedConsent {
            status,
            by: Party::Mailchimp,
            at: event.occurred_at,
            elsewhere: false,
        },
        list: list.to_owned(),
        email,
        event: Some(event.id),
        reason,
    };
    let (record, link, elsewhere) = match place(apply_context, list, &decided.email)? {
        AudiencePlace::Here(record, link) => (record, link, false),
        // That somebody wants no more mail, or can get none, counts wherever it was said. Being
        // archived in an audience does not.
        AudiencePlace::Left(record, link) if standing::left(status) => (record, link, true),
        AudiencePlace::Left(..) => {
            let why = format!("another audience: {list}, which the record has left");
            return Ok(ignored(why));
        }
        AudiencePlace::Elsewhere => {
            return remembered(&decided, &format!("another audience: {list}"));
        }
        AudiencePlace::Nowhere => {
            return remembered(&decided, "no CRM row is known under this address");
        }
    };
    let Some(source) = apply_context.source(&record) else {
        return remembered(&decided, "the table is tracked no longer");
    };
    if apply_context.flying(Target::Mailchimp, &record) {
        return Ok(Fate::Later);
    }
    decided.reported.elsewhere = elsewhere;
    let mut link = link;
    let another = link
        .remote_key
        .as_ref()
        .is_some_and(|known| *known != decided.email);
    if another && !elsewhere {
        let spot = (list, decided.email.as_str());
        let last = consent::last_said(source, &link);
        let of_row = decided
            .reported
            .of_present_address(link, last.as_ref(), spot);
        let Some(of_row) = of_row else {
            let why = "the CRM row with this address is linked to a member with another one";
            return remembered(&decided, why);
        };
        (decided.reported, link) = of_row;
    }
    consent::record(apply_context, source, record, Some(link), decided)
}

/// What was decided by somebody who is no row's is remembered for the row that may come.
fn remembered(decided: &Decided, why: &str) -> SpiResult<Fate> {
    decided.remember(None)?;
    Ok(ignored(why))
}

/// The record that Mailchimp knows under an address in an audience.
fn linked(
    apply_context: &ApplyContext,
    list: &str,
    email: &str,
) -> SpiResult<Option<(RecordRef, Link)>> {
    let found = links::by_remote_key(Target::Mailchimp, email)?;
    Ok(found.into_iter().find(|(record, link)| {
        apply_context.source(record).is_some() && apply_context.is_in(link, list)
    }))
}

fn profile(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    list: &str,
    email: &str,
    merges: &[(String, Option<String>)],
) -> SpiResult<Fate> {
    let Ok(email) = value::email_key(email) else {
        return Ok(ignored("no usable address"));
    };
    let Some((record, link)) = linked(apply_context, list, &email)? else {
        return Ok(ignored(match place(apply_context, list, &email)? {
            AudiencePlace::Left(..) | AudiencePlace::Elsewhere => {
                format!("another audience: {list}")
            }
            AudiencePlace::Here(..) | AudiencePlace::Nowhere => {
                "no CRM row is linked to this address".to_owned()
            }
        }));
    };
    let Some(source) = apply_context.source(&record) else {
        return Ok(ignored("the table is tracked no longer"));
    };
    if apply_context.flying(Target::Mailchimp, &record) || apply_context.learns(Target::Mailchimp) {
        return Ok(Fate::Later);
    }
    let reported = Reported {
        apply_context,
        source,
        target: Target::Mailchimp,
        knowledge: Knowledge::News,
        record,
        link,
        moved: false,
        at: event.occurred_at,
    };
    reported.take(merges)
}

/// The member is the same one under another address. The link follows whoever wins, for later
/// writes have to find the member.
fn change_address(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    list: &str,
    old_email: &str,
    new_email: &str,
) -> SpiResult<Fate> {
    let (Ok(old), Ok(new)) = (value::email_key(old_email), value::email_key(new_email)) else {
        return Ok(ignored("no usable address"));
    };
    let holder = linked(apply_context, list, &new)?;
    let Some((record, mut link)) = linked(apply_context, list, &old)? else {
        return Ok(ignored(match holder {
            Some(_) => "the CRM row is linked to the new address already",
            None => "no CRM row is linked to the old address",
        }));
    };
    let Some(source) = apply_context.source(&record) else {
        return Ok(ignored("the table is tracked no longer"));
    };
    if let Some((other, _)) = holder.filter(|(other, _)| *other != record) {
        return Ok(failed(format!(
            "record {} is linked to the new address; they are one member at Mailchimp now",
            other.key.as_str()
        )));
    }
    if apply_context.flying(Target::Mailchimp, &record) {
        return Ok(Fate::Later);
    }
    let field = source
        .maps
        .get(&Target::Mailchimp)
        .and_then(|map| map.field_named("email_address"));
    let last = field.and_then(|(_, field)| link.clock.get(field.id).copied());
    if last.is_some_and(|last| last.by == Writer::Remote && last.at > event.occurred_at) {
        return Ok(ignored("older than the last change of address"));
    }
    // A member without an id of their own goes by the hash of the address.
    let old_hash = subscriber_hash(&old);
    if link
        .remote_id
        .as_ref()
        .is_some_and(|id| id.as_str() == old_hash)
    {
        link.remote_id = Some(RemoteId::from(subscriber_hash(&new).as_str()));
    }
    link.remote_key = Some(new);
    let reported = Reported {
        apply_context,
        source,
        target: Target::Mailchimp,
        knowledge: Knowledge::News,
        record,
        link,
        moved: true,
        at: event.occurred_at,
    };
    reported.take(&[("email_address".to_owned(), Some(new_email.to_owned()))])
}
