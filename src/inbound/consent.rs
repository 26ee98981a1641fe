//! What people decided elsewhere, into the CRM's consent column.

use std::collections::BTreeSet;

use integration_engine::consent::standing::{self, Remembered, Standing};
use integration_engine::consent::{Party, ReportedConsent};
use integration_engine::crypto::subscriber_hash;
use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::{ConsentChange, LinkEntry};
use integration_engine::record::consent::{Consent, MemberStatus};
use integration_engine::record::mapping::{Field, SourceMap};
use integration_engine::record::{Lane, RecordRef, Target, Timestamp};
use integration_engine::sync::clock::{Tick, ValueHash, Writer};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::{ApplyContext, Fate, applied, ignored, unless_written};
use crate::capture;
use crate::store::consent::consent_log;
use crate::store::consent::objections;
use crate::store::consent::suppressions::{self, SignUps};
use crate::store::links::{self, LinkCause};
use crate::store::queue::changes;
use crate::store::{crm::apply, sources::Source};

/// A decision that was reported.
#[derive(Clone)]
pub struct Decided {
    pub reported: ReportedConsent,
    /// The audience it was made in.
    pub list: String,
    /// The address it is about, lower case.
    pub email: String,
    /// The event's number in the inbox; `None`: found by a comparison.
    pub event: Option<i64>,
    pub reason: Option<String>,
}

impl Decided {
    /// Takes note of it beyond the life of rows and links. `link`: of the record it is about, where
    /// there is one.
    pub fn remember(&self, link: Option<&Link>) -> SpiResult<()> {
        let Some((list, news)) = self.reported.remembered(&self.list, link) else {
            return Ok(());
        };
        let news = Remembered {
            list: list.to_owned(),
            address: self.email.clone(),
            news,
        };
        let sign_ups = match link {
            Some(_) => SignUps::OfLeavers,
            None => SignUps::All,
        };
        let origin = match self.event {
            Some(id) => format!("inbox {id}"),
            None => "reconcile".to_owned(),
        };
        suppressions::remember(&[news], sign_ups, &origin)
    }

    fn standing(&self, link: Option<&Link>) -> SpiResult<Option<Standing>> {
        let all = suppressions::of_address(&self.email)?;
        let hash = subscriber_hash(&self.email);
        Ok(standing::weigh(all.of(&hash), &self.list, link))
    }
}

/// Records a decision. `known`: the person's link at Mailchimp, if they have one.
pub fn record(
    apply_context: &ApplyContext,
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
        decided.remember(known.as_ref())?;
        return Ok(ignored("no consent column is mapped"));
    };
    let reported = decided.reported;
    let before = Before::of(&decided, known.as_ref(), field)?;
    if before.is_newer(&reported) {
        if reported.counts_though_older(&before.link) {
            decided.remember(known.as_ref())?;
        }
        undo(&record, &before, &reported)?;
        return Ok(ignored("older than the last change of consent"));
    }
    decided.remember(known.as_ref())?;
    let rows = source.read(map, &[&record.key])?;
    let row = rows.get(&record.key);
    let present = row.map(|row| row.get(index).cloned().flatten());
    let says = present.as_ref().map(|text| field.consent(text.as_deref()));
    let moved = row.is_some_and(|row| has_another_address(map, row, &decided.email));
    if let Some(why) = overruled(apply_context, &record, &reported, moved, says)? {
        undo(&record, &before, &reported)?;
        return Ok(ignored(why));
    }
    let value = field.consent_word(reported.status);
    let same = says.is_none_or(|says| says == field.consent(Some(value)));
    if !same {
        let present = present.flatten();
        let (key, column) = (&record.key, field.column.as_str());
        let outcome = apply::set_column(source, key, column, present.as_deref(), Some(value))?;
        if let Some(fate) = unless_written(outcome) {
            return Ok(fate);
        }
    }
    let (table, key, column) = (&source.name, record.key.as_str(), &field.column);
    let detail = match same {
        true => "noted; the CRM says the same".to_owned(),
        false => format!("{table} {key}: {column} = {value}"),
    };
    if reported.opts_in()
        && let Some(fate) = opt_in_all(apply_context, &decided.email)?
    {
        return Ok(fate);
    }
    store(record, known, field, decided, same)?;
    Ok(applied(detail))
}

/// The last change of consent that both sides know of a record's member.
pub fn last_said(source: &Source, link: &Link) -> Option<Tick> {
    let (_, field) = source.maps.get(&Target::Mailchimp)?.field_named("status")?;
    link.clock.get(field.id).copied()
}

/// Whether what the link knows is about the address that the decision is about.
fn is_of_address(link: &Link, email: &str) -> bool {
    link.remote_key.as_ref().is_none_or(|known| known == email)
}

/// What is known of a person when a decision of theirs is reported.
struct Before {
    link: Link,
    /// When the consent of this address was last changed, as both sides know.
    last: Option<Tick>,
    standing: Option<Standing>,
}

impl Before {
    fn of(decided: &Decided, known: Option<&Link>, field: &Field) -> SpiResult<Before> {
        let link = known.cloned().unwrap_or_default();
        let of_link = is_of_address(&link, &decided.email);
        Ok(Before {
            last: link.clock.get(field.id).filter(|_| of_link).copied(),
            standing: decided.standing(known)?,
            link,
        })
    }

    fn is_newer(&self, reported: &ReportedConsent) -> bool {
        reported.is_older(&self.link, self.last.as_ref(), self.standing.as_ref())
    }
}

/// A sign-up that does not count subscribed the member at Mailchimp all the same: they are opted out
/// there.
fn undo(record: &RecordRef, before: &Before, reported: &ReportedConsent) -> SpiResult<()> {
    let Before {
        link,
        last,
        standing,
    } = before;
    let Some(link) = reported.undone(link, last.as_ref(), standing.as_ref()) else {
        return Ok(());
    };
    let entry = LinkEntry {
        record: record.clone(),
        link,
    };
    links::write(Target::Mailchimp, LinkCause::Noted, &[entry].into())?;
    tell_mailchimp(record);
    Ok(())
}

/// The CRM's word has to reach the member, be it that the row itself has not changed.
fn tell_mailchimp(record: &RecordRef) {
    let key = record.key.as_str();
    capture::enqueue(Target::Mailchimp, record.source, Lane::OptOut, [key]);
}

/// Why a decision does not count for the row, if it does not. `moved`: the row has another address;
/// `says`: what its column says.
fn overruled(
    apply_context: &ApplyContext,
    record: &RecordRef,
    reported: &ReportedConsent,
    moved: bool,
    says: Option<Consent>,
) -> SpiResult<Option<&'static str>> {
    if !reported.is_of_member() && reported.status == MemberStatus::Cleaned && moved {
        return Ok(Some("the CRM row has another address by now"));
    }
    let opted_out = reported.opts_in()
        && says != Some(Consent::OptedIn)
        && changed_since(apply_context, record, reported.at)?;
    Ok(opted_out.then_some("the person opted out in the CRM since"))
}

/// Stores the link as it is to be, and logs the change. `same`: the CRM said so before.
fn store(
    record: RecordRef,
    known: Option<Link>,
    field: &Field,
    decided: Decided,
    same: bool,
) -> SpiResult<()> {
    let reported = decided.reported;
    // Mandrill knows nothing of the audience: without a link there is none to keep.
    let keeps = known.is_some() || reported.is_of_member();
    let link = known.unwrap_or_default();
    let before = link.member_status;
    let of_link = is_of_address(&link, &decided.email);
    let link = note(link, of_link, field, &reported);
    let after = match reported.is_of_member() {
        false => reported.status,
        true => link.member_status.unwrap_or(reported.status),
    };
    if keeps {
        if before.is_some() && link.member_status.is_none() {
            tell_mailchimp(&record);
        }
        let record = record.clone();
        links::write(
            Target::Mailchimp,
            LinkCause::Pulled,
            &[LinkEntry { record, link }].into(),
        )?;
    }
    if reported.by == Party::Mailchimp || !same {
        consent_log::write(&[ConsentChange {
            record,
            address: Some(decided.email),
            by: reported.by,
            before,
            after,
            at: reported.at,
            event: decided.event,
            reason: decided.reason,
        }])?;
    }
    Ok(())
}

/// Somebody's own word counts for all rows with their address: those that are noted as opted out are
/// opted in. Gives what becomes of the event if one of them cannot be written now.
fn opt_in_all(apply_context: &ApplyContext, email: &str) -> SpiResult<Option<Fate>> {
    if !apply_context.context.objections {
        return Ok(None);
    }
    for objection in objections::of(&BTreeSet::from([subscriber_hash(email)]))? {
        if !objection.opted_out {
            continue;
        }
        let source = apply_context.context.sources.get(&objection.record.source);
        let map = source.and_then(|source| source.maps.get(&Target::Mailchimp));
        let field = map.and_then(|map| map.field_named("status"));
        if let (Some(source), Some(map), Some((index, field))) = (source, map, field) {
            let key = &objection.record.key;
            let rows = source.read(map, &[key])?;
            if let Some(row) = rows
                .get(key)
                .filter(|row| !has_another_address(map, row, email))
            {
                let word = field.consent_word(MemberStatus::Subscribed);
                let present = row.get(index).and_then(Option::as_deref);
                let outcome = apply::set_column(source, key, &field.column, present, Some(word))?;
                if let Some(fate) = unless_written(outcome) {
                    return Ok(Some(fate));
                }
            }
        }
        objections::drop(&objection)?;
    }
    Ok(None)
}

/// What the link is to say afterwards. `of_link`: what it knows is about the address in question.
fn note(link: Link, of_link: bool, field: &Field, reported: &ReportedConsent) -> Link {
    let last = link.clock.get(field.id).filter(|_| of_link).copied();
    let mut link = reported.note(link, last.as_ref());
    let last = link.clock.get(field.id);
    if last.is_some_and(|last| last.by == Writer::Remote && last.at > reported.at) {
        return link;
    }
    link.clock.set(Tick {
        field: field.id,
        hash: ValueHash::of(Some(links::status_name(reported.status))),
        at: reported.at,
        by: Writer::Remote,
    });
    link
}

/// Whether the CRM has changed the record since, and Mailchimp has not been told yet. The worker may
/// not have read that: while Mailchimp is paused, nothing of its queue is.
fn changed_since(
    apply_context: &ApplyContext,
    record: &RecordRef,
    at: Timestamp,
) -> SpiResult<bool> {
    let worker = apply_context.worker(Target::Mailchimp);
    let read = worker.and_then(|worker| worker.queue.changed_at(record));
    if read.is_some_and(|changed| changed >= at) {
        return Ok(true);
    }
    changes::changed_since(Target::Mailchimp, record, at)
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
