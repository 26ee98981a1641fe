//! What people decided elsewhere, into the CRM's consent column.

use integration_engine::call::Link;
use integration_engine::clock::{Tick, ValueHash, Writer};
use integration_engine::consent::{self, Consent, Party};
use integration_engine::mapping::{Field, SourceMap};
use integration_engine::outcome::MemberStatus;
use integration_engine::queue::RecordRef;
use integration_engine::record::{Target, Timestamp};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::{Fate, Scene, applied, ignored, unless_written};
use crate::store::consent_log::{self, Change};
use crate::store::links::{self, Cause, Entry};
use crate::store::{apply, sources::Source};

/// A decision that was reported.
#[derive(Clone)]
pub struct Decided {
    pub status: MemberStatus,
    pub by: Party,
    /// The address it is about, lower case.
    pub email: String,
    pub at: Timestamp,
    /// The event's number in the inbox; `None`: found by a comparison.
    pub event: Option<i64>,
    pub reason: Option<String>,
    /// In an audience of Mailchimp's that the record has left: it counts for the CRM, but the
    /// member in the present one is as it was.
    pub elsewhere: bool,
}

impl Decided {
    /// Whether the member that the record is linked to has this status now. What Mandrill reports,
    /// Mailchimp has yet to be told.
    fn is_of_member(&self) -> bool {
        self.by != Party::Mandrill && !self.elsewhere
    }
}

/// Records a decision. `known`: the person's link at Mailchimp, if they have one.
pub fn record(
    scene: &Scene,
    source: &Source,
    record: RecordRef,
    known: Option<Link>,
    decided: Decided,
) -> SpiResult<Fate> {
    let Some((map, (index, field))) = source
        .maps
        .get(&Target::Mailchimp)
        .and_then(|map| Some((map, map.field_named("status")?)))
    else {
        return Ok(ignored("no consent column is mapped"));
    };
    let mut link = known.clone().unwrap_or_default();
    if is_older(&link, field, &decided) {
        return Ok(ignored("older than the last change of consent"));
    }
    let rows = source.read(map, &[&record.key])?;
    let row = rows.get(&record.key);
    if !decided.is_of_member()
        && decided.status == MemberStatus::Cleaned
        && row.is_some_and(|row| has_another_address(map, row, &decided.email))
    {
        return Ok(ignored("the CRM row has another address by now"));
    }
    let present = row.map(|row| row.get(index).cloned().flatten());
    let says = present
        .as_ref()
        .map(|text| consent::read(field.kind, text.as_deref()));
    if opts_in(&decided)
        && changed_since(scene, &record, decided.at)
        && says != Some(Consent::OptedIn)
    {
        return Ok(ignored("the person opted out in the CRM since"));
    }
    let before = link.member_status;
    note(&mut link, field, &decided);
    let value = consent::to_column(field.kind, decided.status);
    let wanted = consent::read(field.kind, Some(value));
    let same = says.is_none_or(|says| says == wanted);
    if !same {
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
    }
    let detail = match same {
        true => "noted; the CRM says the same".to_owned(),
        false => format!(
            "{} {}: {} = {value}",
            source.name,
            record.key.as_str(),
            field.column
        ),
    };
    // Mandrill knows nothing of the audience: without a link there is none to keep.
    if known.is_some() || decided.is_of_member() {
        let entry = Entry {
            record: record.clone(),
            link: link.clone(),
        };
        links::write(Target::Mailchimp, Cause::Pulled, &[entry])?;
    }
    let after = match decided.is_of_member() {
        false => decided.status,
        true => link.member_status.unwrap_or(decided.status),
    };
    if decided.by == Party::Mailchimp || !same {
        consent_log::write(&[Change {
            record,
            address: Some(decided.email),
            by: decided.by,
            before,
            after,
            at: decided.at,
            event: decided.event,
            reason: decided.reason,
        }])?;
    }
    Ok(applied(detail))
}

fn opts_in(decided: &Decided) -> bool {
    decided.status == MemberStatus::Subscribed
}

/// What the link is to say afterwards.
fn note(link: &mut Link, field: &Field, decided: &Decided) {
    let status = decided.status;
    link.clock.set(Tick {
        field: field.id,
        hash: ValueHash::of(Some(links::status_name(status))),
        at: decided.at,
        by: Writer::Remote,
    });
    if !decided.is_of_member() {
        return;
    }
    *link = std::mem::take(link).settled(status == MemberStatus::Subscribed);
    // News of an opt-out that we sent ourselves: it stays the CRM's, which may take it back.
    let ours = status == MemberStatus::UnsubscribedByMember
        && link.member_status == Some(MemberStatus::UnsubscribedByCrm);
    if !ours {
        link.member_status = Some(status);
    }
}

/// Whether the CRM has changed the record since, and Mailchimp has not been told yet.
fn changed_since(scene: &Scene, record: &RecordRef, at: Timestamp) -> bool {
    scene
        .worker(Target::Mailchimp)
        .and_then(|worker| worker.queue.changed_at(record))
        .is_some_and(|changed| changed >= at)
}

fn has_another_address(map: &SourceMap, row: &[Option<String>], email: &str) -> bool {
    let Some((index, _)) = map.field_named("email_address") else {
        return false;
    };
    let present = row
        .get(index)
        .and_then(Option::as_deref)
        .unwrap_or_default();
    value::email_key(present).is_ok_and(|present| present != email)
}

/// Events come in any order. Of two at the same second, the one that opts out counts.
fn is_older(link: &Link, field: &Field, decided: &Decided) -> bool {
    let opts_in = opts_in(decided);
    match link
        .clock
        .get(field.id)
        .filter(|tick| tick.by == Writer::Remote)
    {
        Some(last) => last.at > decided.at || (opts_in && last.at == decided.at),
        // Without a time, an opt-out that is known stays.
        None => {
            opts_in
                && link.member_status.is_some_and(|status| {
                    status != MemberStatus::Pending && status != MemberStatus::Subscribed
                })
        }
    }
}
