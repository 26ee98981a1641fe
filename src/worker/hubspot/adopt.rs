//! Whether a remote record that was found is free to be this row's.

use integration_engine::delivery::address_owner::{self, Adoption, Owner};
use integration_engine::delivery::call::Link;
use integration_engine::delivery::outcome::{Category, Relink, Verdict};
use integration_engine::delivery::settlement::{
    Attempted, DeadLetter, Effects, InFlight, LinkEntry, Outcome,
};
use integration_engine::limits::retry::Retry;
use integration_engine::record::{Lane, Op, RecordRef, RemoteId, Target, Timestamp};
use pgrx::spi::SpiResult;

use crate::store::links;
use crate::store::queue::dead_letters;
use crate::worker::Context;
use crate::worker::lane::address_owner::describe;
use crate::worker::target::TargetWorker;

/// Whose a remote record is.
pub enum Claim {
    Free,
    /// A row that is there, with its link, and how to call it.
    Kept(Box<LinkEntry>, String),
    /// A row that is gone, which the target has not been told yet.
    Leaving(String),
}

/// Two rows are never linked to one HubSpot record: the verdict on a record that was found, or met
/// under an address or an id that was merged into it, becomes another one where it is another row's. (Mailchimp's members are told
/// apart by their addresses.)
pub fn judge(
    worker: &TargetWorker,
    context: &Context,
    mut outcome: Outcome,
    effects: &mut Effects,
) -> SpiResult<Outcome> {
    if let Verdict::Again {
        relink: Some(Relink::Found { address, .. }),
        ..
    } = &outcome.verdict
        && let Some((verdict, holder)) = one_member(context, &outcome.flight, address)?
    {
        outcome.verdict = verdict;
        outcome.flight.holder = Some(holder);
        return Ok(outcome);
    }
    let found = match &outcome.verdict {
        Verdict::Again {
            relink: Some(Relink::Adopt(id)),
            ..
        }
        | Verdict::Delivered {
            remote_id: Some(id),
            met: true,
            ..
        } => id.clone(),
        _ => return Ok(outcome),
    };
    if worker.target != Target::HubSpot {
        return Ok(outcome);
    }
    // What was noted is stored last.
    let settled = effects.noted.iter().chain(effects.pushed.iter());
    let claim = claim(context, &outcome.flight.record, &found, settled)?;
    let written = matches!(outcome.verdict, Verdict::Delivered { .. });
    contested(&mut outcome, &found, claim, written, effects);
    Ok(outcome)
}

/// The verdict on a record whose member goes on under an address that is another record's; with that
/// one.
fn one_member(
    context: &Context,
    flight: &InFlight,
    address: &str,
) -> SpiResult<Option<(Verdict, RecordRef)>> {
    let source = context.sources.get(&flight.record.source);
    let Some((source, identity)) = source.zip(flight.identity.as_ref()) else {
        return Ok(None);
    };
    let default = &context.settings.mailchimp_api.list;
    let mut holders = links::holders(Target::Mailchimp, &[address.to_owned()])?;
    let mut holders = holders.remove(address).unwrap_or_default().into_iter();
    let other = holders.find(|holder| {
        let list = holder.list.as_ref().unwrap_or(default);
        holder.record != flight.record && *list == identity.list
    });
    Ok(other.map(|other| {
        let verdict = Verdict::Dead {
            category: Category::Conflict,
            status: None,
            why: format!(
                "records {} and {} are one and the same member of Mailchimp, with the address {address}; \
                 change one of them, or merge them",
                flight.record.key.as_str(),
                describe(context, source, &other.record),
            ),
            member_status: None,
        };
        (verdict, other.record)
    }))
}

/// Whose a HubSpot record is, by what is stored and by links that are about to be.
pub fn claim<'e>(
    context: &Context,
    mine: &RecordRef,
    id: &RemoteId,
    noted: impl Iterator<Item = &'e LinkEntry>,
) -> SpiResult<Claim> {
    let Some(seen_from) = context.sources.get(&mine.source) else {
        return Ok(Claim::Free);
    };
    let noted = noted
        .filter(|entry| entry.link.remote_id.as_ref() == Some(id))
        .map(|entry| (entry.record.clone(), entry.link.clone()));
    let stored = links::by_remote_id(Target::HubSpot, id.as_str())?;
    for (record, link) in noted.chain(stored) {
        // Ids are unique within an object type only.
        let source = context.sources.get(&record.source);
        let Some(source) = source.filter(|source| source.entity == seen_from.entity) else {
            continue;
        };
        let Some(map) = source
            .maps
            .get(&Target::HubSpot)
            .filter(|_| record != *mine)
        else {
            continue;
        };
        let name = describe(context, seen_from, &record);
        let rows = source.try_read(map, &[&record.key]);
        let gone = rows.and_then(|rows| Ok(rows.is_empty() && source.is_gone(&record.key)?));
        return Ok(match gone {
            Ok(false) => Claim::Kept(Box::new(LinkEntry { record, link }), name),
            // Nobody knows while it cannot be read.
            Ok(true) | Err(_) => Claim::Leaving(name),
        });
    }
    Ok(Claim::Free)
}

/// Gives up on a row whose record was merged into another row's: a dead letter names both. The
/// row's link stays as it is, for HubSpot goes on to know the old id: whenever the row changes, it
/// is found out again, and no second record is made of it.
pub fn give_up_merged(
    context: &Context,
    record: &RecordRef,
    id: &RemoteId,
    (holder, name): (&RecordRef, &str),
) -> SpiResult<String> {
    let why = one_and_the_same(record, name, id);
    let letter = DeadLetter {
        record: record.clone(),
        attempted: Attempted::Write(Op::Upsert),
        category: Category::Conflict,
        status: None,
        why: why.clone(),
        request: None,
        attempts: 0,
        enqueued_at: context.now.timestamp,
        holder: Some(holder.clone()),
        column: None,
    };
    dead_letters::insert(Target::HubSpot, &[letter])?;
    context.set_dead(Target::HubSpot, dead_letters::count(Target::HubSpot)?);
    Ok(why)
}

fn one_and_the_same(record: &RecordRef, other: &str, id: &RemoteId) -> String {
    format!(
        "records {} and {other} are one and the same record {} of HubSpot; change one of them, or \
         merge them",
        record.key.as_str(),
        id.as_str()
    )
}

/// What becomes of a verdict on a record that was found. `written`: it has been written to already.
fn contested(
    outcome: &mut Outcome,
    id: &RemoteId,
    claim: Claim,
    written: bool,
    effects: &mut Effects,
) {
    let flight = &mut outcome.flight;
    let again = |relink, why: &str| Verdict::Again {
        relink: Some(relink),
        batch_cap: None,
        why: why.to_owned(),
    };
    let owner = match &claim {
        Claim::Free => Owner::Nobody,
        Claim::Kept(..) => Owner::Kept,
        Claim::Leaving(_) => Owner::Leaving,
    };
    let adoption = address_owner::adoption(owner, flight.op, flight.entity, written);
    outcome.verdict = match (adoption, claim) {
        (Adoption::Stands, _) => return,
        (Adoption::Forget, _) => again(Relink::Forget, "the record is another row's"),
        (Adoption::Create, _) => again(Relink::Vacant, "the company is another row's"),
        (_, Claim::Kept(holder, other)) => {
            flight.holder = Some(holder.record.clone());
            send_whole(*holder, flight.changed_at, effects);
            Verdict::Dead {
                category: Category::Conflict,
                status: None,
                why: one_and_the_same(&flight.record, &other, id),
                member_status: None,
            }
        }
        (_, Claim::Leaving(other)) => Verdict::Retry {
            why: format!(
                "HubSpot record {} is still linked to record {other}, whose row is gone or cannot be read",
                id.as_str()
            ),
            status: None,
            wait: None,
            counted: true,
        },
        (_, Claim::Free) => return,
    };
}

/// What was written under a second address or a former id of a record is made good: its holder
/// forgets what was agreed, and is sent again.
fn send_whole(holder: LinkEntry, changed_at: Timestamp, effects: &mut Effects) {
    let why = "another record was written under a second address or a former id of this one";
    let (retry, entry) = whole_again(holder, why.to_owned(), changed_at);
    effects.retries.push(retry);
    effects.noted.push(entry);
}

/// What is to be stored for a record to be sent whole: nothing is agreed any more, and it is due.
pub fn whole_again(known: LinkEntry, why: String, changed_at: Timestamp) -> (Retry, LinkEntry) {
    let retry = Retry {
        record: known.record.clone(),
        op: Op::Upsert,
        lane: Lane::Retry,
        attempts: 0,
        wait_ms: 0,
        why,
        enqueued_at: changed_at,
    };
    let link = Link {
        clock: Default::default(),
        ..known.link
    };
    (retry, LinkEntry { link, ..known })
}
