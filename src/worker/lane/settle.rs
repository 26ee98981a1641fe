//! From verdicts to the tables: links, retries, dead letters, settled queue rows, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use integration_engine::delivery::settlement::{
    self, AddressChange, ConsentWriteback, Effects, InFlight, Outcome, QueueStep, Rules,
};
use integration_engine::limits::retry::Retry;
use integration_engine::queue::scan::Position;
use integration_engine::record::{Lane, Op, RecordRef, Target, Timestamp};
use integration_hubspot::HubSpotOnDelete;
use integration_mailchimp as mailchimp;
use pgrx::spi::SpiResult;

use crate::capture;
use crate::pg::shmem::Wake;
use crate::store::consent::consent_log;
use crate::store::consent::suppressions::{self, SignUps};
use crate::store::inbound::inbox::{self, EventState};
use crate::store::jobs::erasures;
use crate::store::links::{self, LinkCause, intents};
use crate::store::queue::changes;
use crate::store::queue::dead_letters;
use crate::store::{self};
use crate::worker::associations::{self, Settled};
use crate::worker::hubspot::adopt;
use crate::worker::mailchimp::deciders;
use crate::worker::target::{QueuedRow, TargetWorker};
use crate::worker::{Context, process};

/// Settles a target's outcomes. Returns what has to be recorded in the CRM.
pub fn settle(
    worker: &mut TargetWorker,
    context: &Context,
    outcomes: Vec<Outcome>,
    empty: Vec<QueuedRow>,
) -> SpiResult<Vec<ConsentWriteback>> {
    let rules = Rules {
        retry: &context.settings.retry,
        recycles: recycles(worker.target, context),
        now: context.now.timestamp,
    };
    let mut effects = Effects::with_capacity(outcomes.len());
    let mut calls = BTreeSet::new();
    for (index, outcome) in (0..).zip(outcomes) {
        calls.extend(intents::call_of(worker.target, &outcome.flight.record));
        let outcome = adopt::judge(worker, context, outcome, &mut effects)?;
        settlement::settle(outcome, &rules, context.now.jitter(index), &mut effects);
    }
    let writebacks = std::mem::take(&mut effects.writebacks);
    let mut rows = empty;
    rows.extend(leave_queue(worker, &effects));
    write(worker, context, effects, &calls, rows)?;
    // Whoever sees in the tables that all is done sees it in the figures, too.
    process::publish_gauges(worker, context);
    Ok(writebacks)
}

/// Whether people who are removed go to the service's recycle bin.
fn recycles(target: Target, context: &Context) -> bool {
    let archives = context.settings.hubspot_api.on_delete == HubSpotOnDelete::Archive;
    target == Target::HubSpot && archives
}

/// What becomes of the records in memory. Returns the queue rows that hold no change any more.
fn leave_queue(worker: &mut TargetWorker, effects: &Effects) -> Vec<QueuedRow> {
    let mut rows = Vec::new();
    for step in &effects.queue {
        match *step {
            QueueStep::Leave(handle) => rows.extend(worker.queue.close(handle).rows),
            QueueStep::Again(handle, batch_cap) => worker.queue.again(handle, batch_cap),
            QueueStep::PutBack(handle) => worker.queue.put_back(handle),
        }
    }
    if !worker.counted.is_empty() {
        for record in &effects.done {
            worker.counted.remove(record);
        }
    }
    rows
}

/// `calls`: those of which it was noted that they may create records.
fn write(
    worker: &mut TargetWorker,
    context: &Context,
    mut effects: Effects,
    calls: &BTreeSet<i64>,
    rows: Vec<QueuedRow>,
) -> SpiResult<()> {
    let target = worker.target;
    if effects.durable {
        store::commit_durably()?;
    }
    links::write(target, LinkCause::Pushed, &effects.pushed)?;
    links::write(target, LinkCause::Noted, &effects.noted)?;
    links::remove(target, &effects.unlinked)?;
    intents::end(calls)?;
    erasures::note_archived(&effects.archived)?;
    let settled = Settled {
        done: &effects.done,
        pushed: &effects.pushed,
        readopted: &effects.readopted,
        unlinked: &effects.unlinked,
    };
    for record in associations::note(worker, context, settled)? {
        effects
            .retries
            .push(read_again(record, context.now.timestamp));
    }
    if worker.retrying > 0 {
        changes::drop_retries(target, &effects.done)?;
        changes::drop_retries(target, &effects.withheld)?;
    }
    changes::put_retries(target, &effects.retries)?;
    deciders::attribute(context, &mut effects.consent)?;
    consent_log::write(&effects.consent)?;
    suppressions::remember(&effects.remembered, SignUps::OfLeavers, "outbox")?;
    apply_later(effects.address_changes, context.now.timestamp)?;
    // What was delivered but for one value has a new letter in place of its old one.
    if context.dead(target) > 0 {
        dead_letters::supersede(target, &effects.superseded)?;
    }
    dead_letters::insert(target, &effects.dead_letters)?;
    if !effects.dead_letters.is_empty() || context.dead(target) > 0 {
        context.set_dead(target, dead_letters::count(target)?);
    }
    if worker.retrying > 0 || !effects.retries.is_empty() {
        worker.look_up_retries(context.now)?;
    }
    let chunks = rows.iter().filter(|row| row.lane == Lane::Backfill);
    worker.chunks = worker.chunks.saturating_sub(chunks.count());
    delete_rows(target, rows)
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

/// Changes that come by the way of a webhook, in the same transaction as what they were learnt from.
fn apply_later(changes: Vec<AddressChange>, found_at: Timestamp) -> SpiResult<()> {
    for change in changes {
        let event = mailchimp::address_change(
            &change.list,
            &change.old,
            &change.new,
            change.changed_at,
            found_at,
        );
        if inbox::put("mailchimp", event, EventState::Pending, None)? {
            capture::tell_at_commit(Wake::INBOX);
        }
    }
    Ok(())
}

fn delete_rows(target: Target, rows: Vec<QueuedRow>) -> SpiResult<()> {
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
pub fn deletes(flight: &InFlight) -> bool {
    flight.op == Op::Delete
        && flight
            .link
            .as_ref()
            .is_some_and(|link| link.remote_id.is_some())
}
