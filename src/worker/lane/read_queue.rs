//! From the queue table into memory: new rows, and retries whose time has come.

use std::sync::atomic::Ordering;

use integration_engine::queue::Change;
use integration_engine::queue::scan::Scan;
use integration_engine::queue::traces::Traces;
use integration_engine::record::{Lane, RecordKey, RecordRef, SourceId, keys};
use pgrx::spi::SpiResult;

use crate::store::links;
use crate::store::queue::changes::{self, ChangeOp};
use crate::worker::Context;
use crate::worker::target::{LaneScan, QueuedRow, TargetWorker};

/// Queue rows read at once, at most and at least.
const ROWS: (usize, usize) = (1_000, 16);

/// Keys in a full queue row: what is reckoned with before any row has been read.
const FULL_ROW: usize = 1_000;

/// Retries loaded at once.
const RETRIES: i64 = 1_000;

/// What reading the queue found besides changes of known records.
#[derive(Default)]
pub struct Leftover {
    /// Rows that hold nothing (any more) for us.
    pub empty: Vec<QueuedRow>,
    /// Sources that have to be looked up before the queue can be read on.
    pub unknown: Vec<SourceId>,
}

/// Reads new queue rows into memory, as far as there is room.
pub fn read_queue(worker: &mut TargetWorker, context: &Context) -> SpiResult<Leftover> {
    let mut leftover = Leftover::default();
    let gauges = context.slot.map(|slot| slot.gauges(worker.target));
    let arrived = gauges.map(|gauges| gauges.arrived.load(Ordering::Relaxed));
    let lanes: Vec<Lane> = worker.lanes.keys().copied().collect();
    let mut room = true;
    for lane in lanes {
        room &= read_lane(worker, lane, context, &mut leftover)?;
    }
    if room && let (Some(gauges), Some(arrived)) = (gauges, arrived) {
        let parked = i64::try_from(worker.parked.keys()).unwrap_or(0);
        gauges.scanned.store(arrived - parked, Ordering::Relaxed);
    }
    read_parked(worker, context, &mut leftover)?;
    load_retries(worker, context)?;
    Ok(leftover)
}

/// Reads opt-outs, whatever the room.
pub fn read_opt_outs(worker: &mut TargetWorker, context: &Context) -> SpiResult<Leftover> {
    let mut leftover = Leftover::default();
    read_lane(worker, Lane::OptOut, context, &mut leftover)?;
    read_parked(worker, context, &mut leftover)?;
    load_opt_outs(worker, context)?;
    Ok(leftover)
}

/// `false`: there is more than there is room for.
fn read_lane(
    worker: &mut TargetWorker,
    lane: Lane,
    context: &Context,
    leftover: &mut Leftover,
) -> SpiResult<bool> {
    loop {
        // An opt-out is let in whatever the backlog.
        if lane != Lane::OptOut && worker.in_memory() >= context.settings.max_records {
            return Ok(false);
        }
        let room = context
            .settings
            .max_records
            .saturating_sub(worker.in_memory());
        let Some(state) = worker.lanes.get_mut(&lane) else {
            return Ok(true);
        };
        if !begin(state)? {
            return Ok(true);
        }
        let Some(window) = state.scan.as_ref().and_then(Scan::window) else {
            state.seen = state.scan.take().map(|scan| scan.snapshot().clone());
            continue;
        };
        // A row holds one key or a thousand; as many are read as there is likely to be room for.
        let most = (room / state.keys_a_row.unwrap_or(FULL_ROW).max(1)).clamp(ROWS.1, ROWS.0);
        let rows = changes::next(worker.target, lane, window, most as i64)?;
        let full = rows.len() == most;
        state.keys_a_row = keys_a_row(&rows).or(state.keys_a_row);
        for row in rows {
            // What there is no room for stays in the table, and is read again from there.
            if lane != Lane::OptOut && worker.in_memory() >= context.settings.max_records {
                return Ok(false);
            }
            if !context.sources.contains_key(&row.source) && !context.gone.contains(&row.source) {
                leftover.unknown.push(row.source);
                return Ok(false);
            }
            take_in(worker, lane, row, context, leftover)?;
        }
        if let Some(scan) = worker
            .lanes
            .get_mut(&lane)
            .and_then(|state| state.scan.as_mut())
            && !full
        {
            scan.window_done();
        }
    }
}

/// How many keys rows hold on average, rounded up.
fn keys_a_row(rows: &[changes::ChangeRow]) -> Option<usize> {
    let keys: usize = rows.iter().map(|row| row.records).sum();
    (!rows.is_empty()).then(|| keys.div_ceil(rows.len()))
}

/// Begins a walk if there may be something new; `false` when there is nothing to walk.
fn begin(state: &mut LaneScan) -> SpiResult<bool> {
    if state.scan.is_none() {
        if !state.stale {
            return Ok(false);
        }
        let Some(now) = changes::snapshot()? else {
            return Ok(false);
        };
        state.stale = false;
        state.scan = Some(match &state.seen {
            None => Scan::everything(now),
            Some(before) => Scan::between(before, now),
        });
    }
    Ok(true)
}

fn take_in(
    worker: &mut TargetWorker,
    lane: Lane,
    row: changes::ChangeRow,
    context: &Context,
    leftover: &mut Leftover,
) -> SpiResult<()> {
    let Some(scan) = worker
        .lanes
        .get_mut(&lane)
        .and_then(|state| state.scan.as_mut())
    else {
        return Ok(());
    };
    scan.advance(row.position);
    if !scan.snapshot().sees(row.position.xid) {
        // Committed after this walk's snapshot: the next one reads it.
        return Ok(());
    }
    if worker.queue.holds(row.source) {
        let keys = row.records;
        worker.parked.skip(row.source, lane, row.position, keys);
        return Ok(());
    }
    push(worker, lane, row, context, leftover)
}

/// Reads what was passed over of tables that are held no longer.
fn read_parked(
    worker: &mut TargetWorker,
    context: &Context,
    leftover: &mut Leftover,
) -> SpiResult<()> {
    while worker.in_memory() < context.settings.max_records
        && let Some((lane, runs)) = worker.parked.next(ROWS.0)
    {
        for row in changes::in_runs(worker.target, lane, &runs)? {
            worker.parked.read(row.records);
            if worker.queue.holds(row.source) {
                let keys = row.records;
                worker.parked.skip(row.source, lane, row.position, keys);
            } else {
                push(worker, lane, row, context, leftover)?;
            }
        }
    }
    Ok(())
}

/// Takes a row's changes into memory.
fn push(
    worker: &mut TargetWorker,
    lane: Lane,
    row: changes::ChangeRow,
    context: &Context,
    leftover: &mut Leftover,
) -> SpiResult<()> {
    let id = QueuedRow {
        lane,
        position: row.position,
    };
    let Some(source) = context
        .sources
        .get(&row.source)
        .filter(|source| source.maps.contains_key(&worker.target))
    else {
        leftover.empty.push(id);
        return Ok(());
    };
    let keys = match row.op {
        ChangeOp::Truncate => links::keys(source.id, worker.target)?,
        ChangeOp::Upsert | ChangeOp::Delete => keys::unpack(&row.keys).unwrap_or_default(),
    };
    if keys.is_empty() {
        leftover.empty.push(id);
        return Ok(());
    }
    if let Some(slot) = context.slot {
        slot.gauges(worker.target)
            .scanned
            .fetch_add(keys.len() as i64, Ordering::Relaxed);
    }
    let inherited = row.enqueued_at <= worker.inherited_until;
    let traces = Traces::new(inherited, row.op != ChangeOp::Upsert, row.changed);
    let change = |key: RecordKey| Change {
        record: RecordRef {
            source: source.id,
            key,
        },
        entity: source.entity,
        lane,
        changed_at: row.enqueued_at,
        attempts: 0,
        traces: traces.clone(),
    };
    worker.queue.push_row(id, keys.into_iter().map(change));
    Ok(())
}

fn load_retries(worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
    if worker.in_memory() >= context.settings.max_records {
        return load_opt_outs(worker, context);
    }
    if !worker.retries_due(context.now.instant) {
        return Ok(());
    }
    let due_now =
        changes::due_retries(worker.target, Lane::Retry, RETRIES, &worker.held_sources())?;
    if due_now.is_empty() {
        // The server's clock has not got there yet.
        return worker.look_up_retries(context.now);
    }
    push_retries(worker, context, due_now);
    // Until some of these are settled, which looks again, the table is not asked.
    worker.next_retry = None;
    Ok(())
}

/// Opt-outs that are to be tried again are let in whatever the backlog.
fn load_opt_outs(worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
    if !worker.retrying_opt_outs || !worker.retries_due(context.now.instant) {
        return Ok(());
    }
    let due_now =
        changes::due_retries(worker.target, Lane::OptOut, RETRIES, &worker.held_sources())?;
    // As above.
    worker.retrying_opt_outs = due_now.is_empty();
    push_retries(worker, context, due_now);
    Ok(())
}

fn push_retries(worker: &mut TargetWorker, context: &Context, due_now: Vec<changes::DueRetry>) {
    for due in due_now {
        let Some(source) = context.sources.get(&due.record.source) else {
            continue;
        };
        worker.queue.push_retry(Change {
            record: due.record,
            entity: source.entity,
            lane: due.lane,
            changed_at: due.enqueued_at,
            attempts: due.attempts,
            traces: Traces::new(due.enqueued_at <= worker.inherited_until, false, None),
        });
    }
}
