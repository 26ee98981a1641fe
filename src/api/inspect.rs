//! A look at the worker from outside.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use integration_engine::record::{RecordKey, RecordRef, SourceId, Target};
use integration_engine::server::heartbeat::{self, Pulse};
use integration_engine::server::roster::Presence;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::config;
use crate::error::Error;
use crate::pg::shmem::{self, Busy, Doing, Gauges, Slot};
use crate::pg::{clock, extension};

type Stamp = Option<TimestampWithTimeZone>;

fn stamp(millis: &AtomicI64) -> Stamp {
    let millis = millis.load(Ordering::Relaxed);
    (millis != 0).then(|| to_timestamp(millis as f64 / 1_000.0))
}

/// How long anything that is not code of others may take.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// Returns why nothing is sent if there is no worker, or what the worker is doing if that takes
/// long.
fn remark(slot: Option<&Slot>) -> Option<String> {
    if !shmem::preloaded() {
        return Some("the library is not preloaded: ALTER SYSTEM SET shared_preload_libraries = 'integration'; then restart the server".to_owned());
    }
    let presence = slot.map_or(Presence::Down, Slot::presence);
    match presence {
        Presence::Running => {
            let slot = slot?;
            at_work(slot.worker()?, &slot.busy()?)
        }
        Presence::Resting => Some("no table is tracked; the worker starts with the first".to_owned()),
        Presence::Wanted | Presence::Starting => None,
        Presence::Down => Some("no worker is running for this database; the server log says why, see also integration.databases and max_worker_processes".to_owned()),
    }
}

fn at_work(pid: i32, busy: &Busy) -> Option<String> {
    let table = busy.table.and_then(extension::table_name);
    let (what, may_take) = match (busy.doing, table) {
        (Doing::Reading, Some(table)) => (format!("reading table {table}"), config::crm_timeout()),
        (Doing::Writing, Some(table)) => {
            (format!("writing to table {table}"), config::crm_timeout())
        }
        _ => ("its own tables".to_owned(), HOUSEKEEPING),
    };
    let lasts = heartbeat::told(busy.lasts);
    match heartbeat::pulse(busy.lasts, may_take) {
        Pulse::Steady => None,
        Pulse::Busy => Some(format!("busy with {what} for {lasts}")),
        Pulse::Stuck => Some(format!(
            "no progress for {lasts}: the worker (process {pid}) is busy with {what}; see pg_stat_activity; SELECT integration.reload(); interrupts it"
        )),
    }
}

/// Returns when the worker last made progress: now, if it only waits.
fn last_progress(slot: Option<&Slot>) -> Stamp {
    let slot = slot.filter(|slot| slot.worker().is_some())?;
    let at = slot
        .busy()
        .map_or_else(|| clock::now().timestamp.0, |busy| busy.since);
    Some(to_timestamp(at as f64 / 1_000.0))
}

/// Returns this database's slot. A clone of a database that is in step is made known to the
/// launcher.
fn known_slot() -> Option<&'static Slot> {
    shmem::my_slot().or_else(|| {
        let slot = config::wants_my_database().then(shmem::claim_slot)??;
        slot.call();
        Some(slot)
    })
}

/// Returns the worker's figures, for the view `status`.
#[pg_extern(volatile)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelt out")]
fn _gauges() -> TableIterator<
    'static,
    (
        name!(target, &'static str),
        name!(worker, bool),
        name!(why, Option<String>),
        name!(pending, i64),
        name!(retrying, i64),
        name!(in_flight, i64),
        name!(dead, i64),
        name!(oldest_pending, Option<TimestampWithTimeZone>),
        name!(last_success_at, Option<TimestampWithTimeZone>),
        name!(requests_1m, i64),
        name!(errors_1m, i64),
        name!(rate_remaining, Option<i64>),
        name!(rate_limit, Option<i64>),
        name!(heartbeat_at, Option<TimestampWithTimeZone>),
        name!(inbox_pending, i64),
        name!(inbox_retrying, i64),
        name!(inbox_failed, i64),
    ),
> {
    let slot = known_slot();
    let worker = slot.is_some_and(|slot| slot.presence() != Presence::Down);
    let nothing = Gauges::default();
    let rows: Vec<_> = Target::ALL
        .into_iter()
        .map(|target| {
            let gauges = slot.map_or(&nothing, |slot| slot.gauges(target));
            let get = |gauge: &AtomicI64| gauge.load(Ordering::Relaxed);
            let unread = (get(&gauges.arrived) - get(&gauges.scanned)).max(0);
            let recent = clock::now().timestamp.0 - get(&gauges.minute) < 60_000;
            let known = |gauge: &AtomicI64| Some(get(gauge)).filter(|value| *value > 0);
            (
                target.name(),
                worker,
                remark(slot),
                get(&gauges.held) + unread,
                get(&gauges.retrying),
                get(&gauges.in_flight),
                get(&gauges.dead),
                stamp(&gauges.oldest_pending),
                stamp(&gauges.last_success),
                if recent { get(&gauges.requests) } else { 0 },
                if recent { get(&gauges.errors) } else { 0 },
                known(&gauges.rate_limit).map(|_| get(&gauges.rate_remaining)),
                known(&gauges.rate_limit),
                last_progress(slot),
                get(&gauges.inbox_pending),
                get(&gauges.inbox_retrying),
                get(&gauges.inbox_failed),
            )
        })
        .collect();
    TableIterator::new(rows)
}

/// Returns whether a record is in a request under way.
#[pg_extern(volatile)]
fn _in_flight(target: &str, source: i32, key: &str) -> bool {
    let record = RecordRef {
        source: SourceId(source),
        key: RecordKey::from(key),
    };
    let slot = shmem::my_slot().filter(|slot| slot.worker().is_some());
    slot.zip(Target::from_name(target))
        .is_some_and(|(slot, target)| slot.flights(target).holds(record.hash()))
}

/// Returns the version of the extension, and which build of it runs: profile, and commit if there
/// is one.
#[pg_extern(immutable, parallel_safe)]
fn version() -> &'static str {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " (",
        env!("INTEGRATION_BUILD"),
        ")"
    )
}

/// Restarts this database's worker; returns `false` if there is none.
#[pg_extern]
fn reload() -> Result<bool, ErrorReport> {
    if !shmem::preloaded() {
        return Err(Error::NotPreloaded.into());
    }
    Ok(config::wants_my_database() && shmem::reload())
}
