//! Mailchimp events into CRM rows: consent first of all.

use integration_engine::call::Link;
use integration_engine::clock::{Tick, ValueHash, Writer};
use integration_engine::consent::{self, Consent};
use integration_engine::mailchimp::webhook::MailchimpSubject;
use integration_engine::mapping::Field;
use integration_engine::outcome::MemberStatus;
use integration_engine::queue::RecordRef;
use integration_engine::record::{Target, Timestamp};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::{Fate, Scene, applied, ignored, unless_written};
use crate::store::links::{self, Cause, Entry};
use crate::store::{apply, sources::Source};

pub fn apply(scene: &Scene, event: &MailchimpSubject, at: Timestamp) -> SpiResult<Fate> {
    let (list, email) = match event {
        MailchimpSubject::Subscribe { list, email }
        | MailchimpSubject::Unsubscribe { list, email, .. }
        | MailchimpSubject::Cleaned { list, email, .. } => (list, email),
        MailchimpSubject::Profile { .. } => return Ok(ignored("profiles are kept in the CRM")),
        MailchimpSubject::EmailChange { .. } => {
            return Ok(ignored("addresses are kept in the CRM"));
        }
        MailchimpSubject::Campaign { .. } => return Ok(ignored("campaign events change no row")),
        MailchimpSubject::Other(kind) => {
            return Ok(ignored(format!("{kind} changes nothing in the CRM")));
        }
    };
    if !list.is_empty() && *list != scene.world.settings.mailchimp_api.list {
        return Ok(ignored(format!("another audience: {list}")));
    }
    let Some(status) = event.member_status() else {
        return Ok(ignored("says nothing about consent"));
    };
    let Ok(email) = value::email_key(email) else {
        return Ok(ignored("no usable address"));
    };
    let records = links::by_remote_key(Target::Mailchimp, &email)?;
    let Some((record, link)) = records.into_iter().next() else {
        return Ok(ignored("no CRM row is linked to this address"));
    };
    let Some(source) = scene.source(&record) else {
        return Ok(ignored("the table is tracked no longer"));
    };
    if scene.flying(Target::Mailchimp, &record) {
        return Ok(Fate::Later);
    }
    change_consent(scene, source, record, link, status, at)
}

fn change_consent(
    scene: &Scene,
    source: &Source,
    record: RecordRef,
    mut link: Link,
    status: MemberStatus,
    at: Timestamp,
) -> SpiResult<Fate> {
    let Some((map, (index, field))) = source
        .maps
        .get(&Target::Mailchimp)
        .and_then(|map| Some((map, map.field_named("status")?)))
    else {
        return Ok(ignored("no consent column is mapped"));
    };
    let opts_in = status == MemberStatus::Subscribed;
    if is_older(&link, field, at, opts_in) {
        return Ok(ignored("older than the last change of consent"));
    }
    let rows = source.read(map, &[&record.key])?;
    let present = rows
        .get(&record.key)
        .map(|row| row.get(index).cloned().flatten());
    let newer_in_crm = scene
        .worker(Target::Mailchimp)
        .and_then(|worker| worker.queue.changed_at(&record))
        .is_some_and(|changed| changed >= at);
    let says = present
        .as_ref()
        .map(|text| consent::read(field.kind, text.as_deref()));
    if opts_in && newer_in_crm && says != Some(Consent::OptedIn) {
        return Ok(ignored("the person opted out in the CRM since"));
    }
    let tick = Tick {
        field: field.id,
        hash: ValueHash::of(Some(links::status_name(status))),
        at,
        by: Writer::Remote,
    };
    // News of an opt-out that we sent ourselves: it stays the CRM's, which may take it back.
    let ours = status == MemberStatus::UnsubscribedByMember
        && link.member_status == Some(MemberStatus::UnsubscribedByCrm);
    link.member_status = Some(if ours {
        MemberStatus::UnsubscribedByCrm
    } else {
        status
    });
    link.clock.set(tick);
    let entry = Entry {
        record: record.clone(),
        link,
    };
    let value = consent::to_column(field.kind, status);
    let wanted = consent::read(field.kind, Some(value));
    if says.is_none_or(|says| says == wanted) {
        links::write(Target::Mailchimp, Cause::Pulled, &[entry])?;
        return Ok(applied("noted; the CRM says the same"));
    }
    let outcome = apply::set_column(
        source,
        &record.key,
        &field.column,
        present.flatten().as_deref(),
        Some(value),
    )?;
    if let Some(fate) = unless_written(outcome) {
        return Ok(fate);
    }
    links::write(Target::Mailchimp, Cause::Pulled, &[entry])?;
    Ok(applied(format!(
        "{} {}: {} = {value}",
        source.name,
        record.key.as_str(),
        field.column
    )))
}

/// Events come in any order. Of two at the same second, the one that opts out counts.
fn is_older(link: &Link, field: &Field, at: Timestamp, opts_in: bool) -> bool {
    match link
        .clock
        .get(field.id)
        .filter(|tick| tick.by == Writer::Remote)
    {
        Some(last) => last.at > at || (opts_in && last.at == at),
        // Without a time, an opt-out that is known stays.
        None => {
            opts_in
                && link.member_status.is_some_and(|status| {
                    status != MemberStatus::Pending && status != MemberStatus::Subscribed
                })
        }
    }
}
