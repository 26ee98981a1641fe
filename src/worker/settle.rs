//! From verdicts to the tables: links, retries, dead letters, settled queue rows, in one transaction.

mod clerk;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use integration_engine::delivery::outcome::{MemberStatus, Verdict};
use integration_engine::limits::retry::Retry;
use integration_engine::now::Now;
use integration_engine::queue::scan::Position;
use integration_engine::record::once::Once;
use integration_engine::record::{Lane, Op, RecordRef, RemoteId, Target, Timestamp};
use integration_engine::standing::Remembered;
use integration_engine::webhook::Event;
use pgrx::spi::SpiResult;

use super::associations::{self, Settled};
use super::target::{Flight, RowId, TargetWorker};
use super::{Outcome, World, adopt, deciders, process};
use crate::capture;
use crate::pg::shmem::Wake;
use crate::store::consent_log::{self, Change};
use crate::store::erasures;
use crate::store::inbox::{self, State};
use crate::store::letters::{self, Letter};
use crate::store::links::{self, Cause, Entry, intents};
use crate::store::standings::{self, SignUps};
use crate::store::{self, changes};
use clerk::Clerk;

/// What is to be written; collected first, so that every table is written once.
#[derive(Default)]
pub struct Ledger {
    pub pushed: Once<Entry>,
    pub noted: Once<Entry>,
    unlinked: Vec<RecordRef>,
    /// Contacts that went to HubSpot's recycle bin.
    archived: Vec<(RecordRef, RemoteId)>,
    /// Another record at the service than before.
    readopted: Vec<RecordRef>,
    pub retries: Once<Retry>,
    done: Vec<RecordRef>,
    /// Nothing is to be sent for them, nor are their associations.
    withheld: Vec<RecordRef>,
    superseded: Vec<RecordRef>,
    letters: Vec<Letter>,
    consent: Vec<Change>,
    remembered: Vec<Remembered>,
    rows: Vec<RowId>,
    /// Calls of which it was noted that they may create records.
    intents: BTreeSet<i64>,
    /// Changes of address at Mailchimp that no event told of.
    found: Vec<Event>,
    /// What is noted has to be safe on disk before the next call leaves.
    durable: bool,
}

/// What the CRM has to be told about a person's consent.
pub struct ConsentNews {
    pub record: RecordRef,
    pub status: MemberStatus,
}

/// Settles a target's outcomes. Gives what has to be recorded in the CRM.
pub fn settle(
    worker: &mut TargetWorker,
    world: &World,
    outcomes: Vec<Outcome>,
    empty: Vec<RowId>,
) -> SpiResult<Vec<ConsentNews>> {
    let mut ledger = Ledger {
        rows: empty,
        ..Ledger::default()
    };
    let mut news = Vec::new();
    for outcome in outcomes {
        let intent = intents::call_of(worker.target, &outcome.flight.record);
        ledger.intents.extend(intent);
        if let Verdict::Dead {
            member_status: Some(status),
            ..
        } = &outcome.verdict
        {
            news.push(ConsentNews {
                record: outcome.flight.record.clone(),
                status: *status,
            });
        }
        let outcome = adopt::judge(worker, world, outcome, &mut ledger)?;
        let mut clerk = Clerk {
            worker,
            world,
            ledger: &mut ledger,
        };
        clerk.enter(outcome);
    }
    write(worker, world, ledger)?;
    // Whoever sees in the tables that all is done sees it in the figures, too.
    process::publish_gauges(worker, world);
    Ok(news)
}

fn write(worker: &mut TargetWorker, world: &World, mut ledger: Ledger) -> SpiResult<()> {
    let target = worker.target;
    if ledger.durable {
        store::commit_durably()?;
    }
    links::write(target, Cause::Pushed, &ledger.pushed)?;
    links::write(target, Cause::Noted, &ledger.noted)?;
    links::remove(target, &ledger.unlinked)?;
    intents::end(&ledger.intents)?;
    erasures::note_archived(&ledger.archived)?;
    let settled = Settled {
        done: &ledger.done,
        pushed: &ledger.pushed,
        readopted: &ledger.readopted,
        unlinked: &ledger.unlinked,
    };
    for record in associations::note(worker, world, settled)? {
        ledger.retries.push(read_again(record, world.now.timestamp));
    }
    if worker.retrying > 0 {
        changes::drop_retries(target, &ledger.done)?;
        changes::drop_retries(target, &ledger.withheld)?;
    }
    changes::put_retries(target, &ledger.retries)?;
    deciders::attribute(world, &mut ledger.consent)?;
    consent_log::write(&ledger.consent)?;
    standings::remember(&ledger.remembered, SignUps::OfLeavers, "outbox")?;
    tell_inbox(ledger.found)?;
    // What was delivered but for one value has a new letter in place of its old one.
    if world.dead(target) > 0 {
        letters::supersede(target, &ledger.superseded)?;
    }
    letters::bury(target, &ledger.letters)?;
    if !ledger.letters.is_empty() || world.dead(target) > 0 {
        world.set_dead(target, letters::count(target)?);
    }
    if worker.retrying > 0 || !ledger.retries.is_empty() {
        outlook(worker, world.now)?;
    }
    let chunks = ledger.rows.iter().filter(|row| row.lane == Lane::Backfill);
    worker.chunks = worker.chunks.saturating_sub(chunks.count());
    delete_rows(target, ledger.rows)
}

/// A settled record whose associations could not be looked at.
fn read_again(record: RecordRef, now: Timestamp) -> Retry {
    Retry {
        record,
        op: Op::Upsert,
        lane: Lane::Retry,
        attempts: 0,
        wait_ms: 1_000,
        why: "its associations could not be read: the table is locked, or held".to_owned(),
        enqueued_at: now,
    }
}

/// Sources whose retries have to wait.
pub fn held(worker: &TargetWorker) -> Vec<i32> {
    worker.queue.held().map(|source| source.0).collect()
}

/// News that comes by the way of a webhook, in the same transaction as what it was learnt from.
fn tell_inbox(events: Vec<Event>) -> SpiResult<()> {
    for event in events {
        if inbox::put("mailchimp", event, State::Pending, None)? {
            capture::tell_at_commit(Wake::INBOX);
        }
    }
    Ok(())
}

/// Looks up when the next retry is due, and how many there are.
pub fn outlook(worker: &mut TargetWorker, now: Now) -> SpiResult<()> {
    let outlook = changes::retry_outlook(worker.target, &held(worker))?;
    worker.retrying = outlook.count;
    worker.retrying_opt_outs = outlook.opt_outs;
    worker.next_retry = outlook.next_in_ms.map(|ms| {
        // What is due already may be in memory: it is not asked for more than once in a while.
        now.instant + Duration::from_millis(ms.max(20).unsigned_abs())
    });
    Ok(())
}

fn delete_rows(target: Target, rows: Vec<RowId>) -> SpiResult<()> {
    let mut by_lane: BTreeMap<Lane, Vec<Position>> = BTreeMap::new();
    for row in rows {
        by_lane.entry(row.lane).or_default().push(row.position);
    }
    for (lane, positions) in by_lane {
        changes::settle(target, lane, &positions)?;
    }
    Ok(())
}

/// Whether a flight takes a record out of the target: what the guard counts.
pub fn deletes(flight: &Flight) -> bool {
    flight.op == Op::Delete
        && flight
            .link
            .as_ref()
            .is_some_and(|link| link.remote_id.is_some())
}
