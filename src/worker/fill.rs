//! From the queue table to calls ready to go: read new rows, coalesce, read the records' present
//! state, and let the engine decide.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use integration_engine::call::{CallKind, Decision, Item, Work};
use integration_engine::outcome::Verdict;
use integration_engine::queue::{Change, Handle, RecordRef};
use integration_engine::record::{Entity, Lane, Op, RecordKey, SourceId, Target};
use integration_engine::scan::Scan;
use integration_engine::{hubspot, keys, mailchimp, value};
use pgrx::spi::SpiResult;

use super::target::{Flight, LaneScan, Planned, Property, RowId, TargetWorker};
use super::{Outcome, World};
use crate::store::{changes, links, sources::Source};

/// Queue rows read at once.
const ROWS: i64 = 1_000;

/// Records read and planned at once, so that memory stays bounded whatever they hold.
const BLOCK: usize = 1_000;

/// Records looked at for one round of calls: many may turn out to need none.
const MOST_SEEN: usize = 20 * BLOCK;

/// Retries loaded at once.
const RETRIES: i64 = 1_000;

/// Counted attempts after which a record travels in small company, and then alone: it may be what
/// makes its batches fail.
const SUSPECT_AFTER: u32 = 3;
const ALONE_AFTER: u32 = 5;

/// What reading the queue found besides changes of known records.
#[derive(Default)]
pub struct Leftover {
    /// Rows that hold nothing (any more) for us.
    pub empty: Vec<RowId>,
}

/// Reads new queue rows into memory, as far as there is room.
pub fn read_queue(worker: &mut TargetWorker, world: &World) -> SpiResult<Leftover> {
    let mut leftover = Leftover::default();
    let gauges = world.slot.map(|slot| slot.gauges(worker.target));
    let arrived = gauges.map(|gauges| gauges.arrived.load(std::sync::atomic::Ordering::Relaxed));
    let lanes: Vec<Lane> = worker.lanes.keys().copied().collect();
    let mut room = true;
    for lane in lanes {
        room &= read_lane(worker, lane, world, &mut leftover)?;
    }
    if room && let (Some(gauges), Some(arrived)) = (gauges, arrived) {
        gauges
            .scanned
            .store(arrived, std::sync::atomic::Ordering::Relaxed);
    }
    load_retries(worker, world)?;
    Ok(leftover)
}

/// `false`: there is more than there is room for.
fn read_lane(
    worker: &mut TargetWorker,
    lane: Lane,
    world: &World,
    leftover: &mut Leftover,
) -> SpiResult<bool> {
    loop {
        // An opt-out is let in whatever the backlog.
        if lane != Lane::OptOut && worker.queue.len() >= world.settings.max_records {
            return Ok(false);
        }
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
        let rows = changes::next(worker.target, lane, window, ROWS)?;
        let full = rows.len() as i64 == ROWS;
        for row in rows {
            take_in(worker, lane, row, world, leftover)?;
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
    world: &World,
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
    let id = RowId {
        lane,
        position: row.position,
    };
    let Some(source) = world
        .sources
        .get(&row.source)
        .filter(|source| source.maps.contains_key(&worker.target))
    else {
        leftover.empty.push(id);
        return Ok(());
    };
    let keys = if row.truncate {
        links::keys(source.id, worker.target)?
    } else {
        keys::unpack(&row.keys).unwrap_or_default()
    };
    if keys.is_empty() {
        leftover.empty.push(id);
        return Ok(());
    }
    if let Some(slot) = world.slot {
        slot.gauges(worker.target)
            .scanned
            .fetch_add(keys.len() as i64, std::sync::atomic::Ordering::Relaxed);
    }
    let change = |key: RecordKey| Change {
        record: RecordRef {
            source: source.id,
            key,
        },
        entity: source.entity,
        lane,
        changed_at: row.enqueued_at,
        attempts: 0,
    };
    worker.queue.push_row(id, keys.into_iter().map(change));
    Ok(())
}

fn load_retries(worker: &mut TargetWorker, world: &World) -> SpiResult<()> {
    if !worker.retries_due(Instant::now()) || worker.queue.len() >= world.settings.max_records {
        return Ok(());
    }
    for due in changes::due_retries(worker.target, RETRIES)? {
        let Some(source) = world.sources.get(&due.record.source) else {
            continue;
        };
        worker.queue.push_retry(Change {
            record: due.record,
            entity: source.entity,
            lane: Lane::Retry,
            changed_at: due.enqueued_at,
            attempts: due.attempts,
        });
    }
    // Until these are settled the table is not asked again.
    worker.next_retry = None;
    Ok(())
}

/// What planning has come to so far.
#[derive(Default)]
struct Draft {
    flights: HashMap<usize, Flight>,
    sends: Vec<(CallKind, Item)>,
    outcomes: Vec<Outcome>,
    /// Records looked at.
    seen: usize,
}

/// Takes records out of the queue and plans calls for them. Gives what needs no call.
///
/// Records that turn out to need no call make room for others, so that calls leave full.
pub fn plan(worker: &mut TargetWorker, world: &World, batches: usize) -> SpiResult<Vec<Outcome>> {
    let wanted = (batches * worker.batch()).min(BLOCK);
    let mut draft = Draft::default();
    while draft.sends.len() < wanted && draft.seen < MOST_SEEN {
        let handles = worker.queue.take(wanted - draft.sends.len());
        if handles.is_empty() {
            break;
        }
        plan_block(worker, world, handles, &mut draft)?;
    }
    Ok(assemble(worker, world, draft))
}

fn plan_block(
    worker: &TargetWorker,
    world: &World,
    handles: Vec<Handle>,
    draft: &mut Draft,
) -> SpiResult<()> {
    let mut by_source: BTreeMap<SourceId, Vec<Handle>> = BTreeMap::new();
    for handle in handles {
        if let Some(record) = worker.queue.record(handle) {
            by_source.entry(record.source).or_default().push(handle);
        }
    }
    let (mut flights, mut works) = (Vec::new(), Vec::new());
    for (source, handles) in by_source {
        match world
            .sources
            .get(&source)
            .filter(|source| source.maps.contains_key(&worker.target))
        {
            Some(source) => read_source(worker, world, source, handles, &mut flights, &mut works)?,
            None => draft.outcomes.extend(
                handles
                    .into_iter()
                    .filter_map(|handle| untracked(worker, handle)),
            ),
        }
    }
    for (work, flight) in works.iter().zip(flights) {
        let index = draft.seen;
        draft.seen += 1;
        match decide(worker, world, work, index) {
            Decision::Settled(verdict) => draft.outcomes.push(Outcome {
                flight,
                verdict,
                request: None,
                resting: false,
            }),
            Decision::Send(kind, item) => {
                draft.sends.push((kind, item));
                draft.flights.insert(index, flight);
            }
        }
    }
    Ok(())
}

/// The table is tracked no longer: nothing is to be sent.
fn untracked(worker: &TargetWorker, handle: Handle) -> Option<Outcome> {
    let change = worker.queue.change(handle)?;
    let flight = Flight {
        handle,
        record: change.record,
        op: Op::Upsert,
        attempts: change.attempts,
        changed_at: change.changed_at,
        link: None,
    };
    Some(Outcome {
        flight,
        verdict: Verdict::Unchanged,
        request: None,
        resting: false,
    })
}

/// Reads rows and links of one source's records.
fn read_source(
    worker: &TargetWorker,
    world: &World,
    source: &Source,
    handles: Vec<Handle>,
    flights: &mut Vec<Flight>,
    works: &mut Vec<Work>,
) -> SpiResult<()> {
    let Some(map) = source.maps.get(&worker.target) else {
        return Ok(());
    };
    let records: Vec<(Handle, Change)> = handles
        .into_iter()
        .filter_map(|handle| Some((handle, worker.queue.change(handle)?)))
        .collect();
    let keys: Vec<&RecordKey> = records
        .iter()
        .map(|(_, change)| &change.record.key)
        .collect();
    let texts: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
    let mut rows = source.read(map, &keys)?;
    let mut links = links::read(source.id, worker.target, &texts)?;
    let first = works.len();
    for (handle, change) in records {
        let row = rows.remove(&change.record.key);
        let link = links.remove(&change.record.key);
        flights.push(Flight {
            handle,
            record: change.record.clone(),
            op: if row.is_some() {
                Op::Upsert
            } else {
                Op::Delete
            },
            attempts: change.attempts,
            changed_at: change.changed_at,
            link: link.clone(),
        });
        works.push(Work {
            source: source.id,
            key: change.record.key,
            row,
            link,
            changed_at: change.changed_at,
            batch_cap: cap(worker.queue.batch_cap(handle), change.attempts),
            rival: None,
        });
    }
    name_rivals(worker.target, world, source, &mut works[first..])
}

fn cap(asked: usize, attempts: u32) -> usize {
    match attempts {
        ALONE_AFTER.. => 1,
        SUSPECT_AFTER.. => asked.min(10),
        _ => asked,
    }
}

/// The e-mail address of a work's row, in the form links keep it.
fn address(source: &Source, target: Target, work: &Work) -> Option<String> {
    let name = match target {
        Target::HubSpot => "email",
        Target::Mailchimp => "email_address",
    };
    let (index, _) = source.maps.get(&target)?.field_named(name)?;
    value::email_key(work.row.as_ref()?.get(index)?.as_deref()?).ok()
}

/// Finds records of ours that are known to the target under the address a new record wants.
fn name_rivals(
    target: Target,
    world: &World,
    source: &Source,
    works: &mut [Work],
) -> SpiResult<()> {
    if source.entity != Entity::Contact {
        return Ok(());
    }
    let wanted: Vec<(usize, String)> = works
        .iter()
        .enumerate()
        .filter_map(|(index, work)| Some((index, address(source, target, work)?)))
        .filter(|(index, address)| {
            works[*index]
                .link
                .as_ref()
                .and_then(|link| link.remote_key.as_ref())
                != Some(address)
        })
        .collect();
    let addresses: Vec<String> = wanted.iter().map(|(_, address)| address.clone()).collect();
    let holders = links::holders(target, &addresses)?;
    for (index, address) in wanted {
        let mine = RecordRef {
            source: source.id,
            key: works[index].key.clone(),
        };
        let others = holders
            .get(&address)
            .into_iter()
            .flatten()
            .filter(|holder| **holder != mine);
        works[index].rival = others.map(|holder| describe(world, source, holder)).next();
    }
    Ok(())
}

fn describe(world: &World, seen_from: &Source, record: &RecordRef) -> String {
    match world.sources.get(&record.source) {
        Some(source) if source.id != seen_from.id => {
            format!("{} of {}", record.key.as_str(), source.name)
        }
        _ => record.key.as_str().to_owned(),
    }
}

fn decide(worker: &TargetWorker, world: &World, work: &Work, index: usize) -> Decision {
    let map = world
        .sources
        .get(&work.source)
        .and_then(|source| source.maps.get(&worker.target));
    let Some(map) = map else {
        return Decision::Settled(Verdict::Unchanged);
    };
    match worker.target {
        Target::HubSpot => {
            let mut settings = world.settings.hubspot_api.clone();
            settings.external_id_ready = ready_entities(&worker.properties);
            hubspot::decide(work, index, map, &settings)
        }
        Target::Mailchimp => mailchimp::decide(work, index, map, &world.settings.mailchimp_api),
    }
}

fn ready_entities(properties: &BTreeMap<Entity, Property>) -> Vec<Entity> {
    properties
        .iter()
        .filter(|(_, state)| **state == Property::Ready)
        .map(|(entity, _)| *entity)
        .collect()
}

/// Puts what is to be sent into calls.
fn assemble(worker: &mut TargetWorker, world: &World, draft: Draft) -> Vec<Outcome> {
    let Draft {
        mut flights,
        sends,
        outcomes,
        ..
    } = draft;
    let calls = match worker.target {
        Target::HubSpot => hubspot::assemble(sends, &world.settings.hubspot_api),
        Target::Mailchimp => mailchimp::assemble(sends, &world.settings.mailchimp_api),
    };
    for call in calls {
        let carried = call
            .items
            .iter()
            .filter_map(|item| flights.remove(&item.work))
            .collect();
        worker.planned.push_back(Planned {
            call,
            flights: carried,
        });
    }
    // A record that no call carries is planned again.
    for flight in flights.into_values() {
        worker.queue.put_back(flight.handle);
    }
    outcomes
}

/// Records in planned calls that no call was made for.
pub fn give_back(worker: &mut TargetWorker, planned: Planned) {
    for flight in planned.flights {
        worker.queue.put_back(flight.handle);
    }
}
