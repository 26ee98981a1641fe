//! Records that are about to be planned: their rows, their links, and what is in doubt about them.

use integration_engine::delivery::call::Work;
use integration_engine::delivery::outcome::{Category, Verdict};
use integration_engine::delivery::settlement::{InFlight, Outcome};
use integration_engine::queue::traces::Watched;
use integration_engine::queue::{Change, Handle};
use integration_engine::record::mapping::{Field, SourceMap};
use integration_engine::record::{Lane, Op, RecordKey, Target};
use integration_mailchimp as mailchimp;
use pgrx::spi::SpiResult;

use crate::services;
use crate::store::crm::reading::ReadRows;
use crate::store::links;
use crate::store::queue::withheld;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::Road;
use crate::worker::lane::plan::{Draft, named};
use crate::worker::target::TargetWorker;

/// Counted attempts after which a record travels in small company, and then alone: it may be what
/// makes its batches fail.
const SUSPECT_AFTER: u32 = 1;
const ALONE_AFTER: u32 = 2;

/// Takes out records that are not to be sent until somebody allows it again.
pub fn without_withheld<S: Road>(
    worker: &TargetWorker,
    context: &Context,
    source: &Source,
    handles: Vec<Handle>,
    draft: &mut Draft<S>,
) -> SpiResult<Vec<Handle>> {
    if !context.withheld {
        return Ok(handles);
    }
    let key = |handle: &Handle| Some(worker.queue.record(*handle)?.key.as_str());
    let keys: Vec<&str> = handles.iter().filter_map(key).collect();
    let withheld = withheld::among(source.id, worker.target, &keys)?;
    let (out, rest): (Vec<Handle>, Vec<Handle>) = handles.into_iter().partition(|handle| {
        let record = worker.queue.record(*handle);
        record.is_some_and(|record| withheld.contains(&record.key))
    });
    draft.seen += out.len();
    let outcomes = out
        .into_iter()
        .filter_map(|handle| unsent(worker, handle, Verdict::Withheld));
    draft.planning.outcomes.extend(outcomes);
    Ok(rest)
}

/// Nothing is to be sent for a record, whatever it is like now.
pub fn unsent(worker: &TargetWorker, handle: Handle, verdict: Verdict) -> Option<Outcome> {
    let change = worker.queue.change(handle)?;
    let rounds = worker.queue.rounds(handle);
    let flight = InFlight::of(handle, rounds, &change, Op::Upsert, None, &[]);
    Some(Outcome::uncalled(flight, verdict))
}

/// Reads rows and links of one source's records. `None`: the table cannot be read at present, and
/// its records have been put aside.
#[expect(
    clippy::too_many_lines,
    reason = "one source's facts, read in the order that its locks need"
)]
pub fn read_source<S: Road>(
    worker: &TargetWorker,
    context: &Context,
    source: &Source,
    handles: Vec<Handle>,
    draft: &mut Draft<S>,
) -> SpiResult<Option<(Vec<InFlight>, Vec<Work>)>> {
    let mut flights = Vec::with_capacity(handles.len());
    let mut works = Vec::with_capacity(handles.len());
    let Some(map) = source.maps.get(&worker.target) else {
        return Ok(Some((flights, works)));
    };
    let mut records: Vec<(Handle, Change)> = handles
        .into_iter()
        .filter_map(|handle| Some((handle, worker.queue.change(handle)?)))
        .collect();
    let keys: Vec<&RecordKey> = records
        .iter()
        .map(|(_, change)| &change.record.key)
        .collect();
    let Ok(mut reading) = source.read_apart(map, &keys) else {
        draft.seen += records.len();
        let handles = records.iter().map(|(handle, _)| *handle);
        draft.unread.extend(handles);
        draft.barred.insert(source.id);
        return Ok(None);
    };
    let mut rows = std::mem::take(&mut reading.rows);
    records.retain(|(handle, change)| {
        let Some(verdict) = unplannable(&reading, &change.record.key) else {
            return true;
        };
        draft.seen += 1;
        let outcome = unsent(worker, *handle, verdict);
        draft.planning.outcomes.extend(outcome);
        false
    });
    let moves = &draft.planning.moves;
    let keys: Vec<&RecordKey> = records
        .iter()
        .map(|(_, change)| &change.record.key)
        .collect();
    let texts: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
    let watched = watched(source, map);
    let mut links = links::read(source.id, worker.target, &texts)?;
    // What was planned before is stored later on.
    for moved in moves.iter().filter(|moved| moved.from.source == source.id) {
        links.remove(&moved.from.key);
    }
    for to in moves.iter().map(|moved| &moved.to) {
        if to.record.source == source.id && texts.contains(&to.record.key.as_str()) {
            links.insert(to.record.key.clone(), to.link.clone());
        }
    }
    for (handle, change) in records {
        let row = rows.remove(&change.record.key);
        let link = links.remove(&change.record.key);
        let audience = row.as_deref().and_then(|row| named(context, map, row));
        let op = match row {
            Some(_) => Op::Upsert,
            None => Op::Delete,
        };
        let rounds = worker.queue.rounds(handle);
        let flight = InFlight::of(handle, rounds, &change, op, link, &watched);
        let link = flight.doubted_link();
        flights.push(flight);
        works.push(Work {
            source: source.id,
            key: change.record.key,
            row,
            link,
            changed_at: change.changed_at,
            batch_cap: cap(worker.queue.batch_cap(handle), change.attempts).min(worker.batch()),
            rival: None,
            gives_way: false,
            audience_met: audience.is_some_and(|list| worker.audiences.is_met(&list)),
            syncing: matches!(change.lane, Lane::Backfill | Lane::Reconcile),
            standing: None,
            objection: None,
        });
    }
    if worker.target == Target::Mailchimp {
        for (flight, work) in flights.iter_mut().zip(&works) {
            flight.list = Some(mailchimp::list_of(
                work,
                map,
                &context.settings.mailchimp_api,
            ));
        }
    }
    Ok(Some((flights, works)))
}

/// The fields of a table that may be uncertain.
fn watched(source: &Source, map: &SourceMap) -> Vec<Watched> {
    let number = |field: &Field| source.number(&field.column);
    map.fields
        .iter()
        .filter_map(|field| services::watched(map.target, field, number(field)))
        .collect()
}

/// What a record comes to whose row says nothing.
fn unplannable(reading: &ReadRows, key: &RecordKey) -> Option<Verdict> {
    if reading.left_out.contains(key) {
        return Some(Verdict::Unchanged);
    }
    let why = reading.unreadable.get(key)?;
    Some(Verdict::Dead {
        category: Category::Unmappable,
        status: None,
        why: format!("the row cannot be read: {why}"),
        member_status: None,
    })
}

fn cap(asked: usize, attempts: u32) -> usize {
    match attempts {
        ALONE_AFTER.. => 1,
        SUSPECT_AFTER.. => asked.min(10),
        _ => asked,
    }
}
