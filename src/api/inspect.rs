//! Looking at the worker from outside.

use std::sync::atomic::{AtomicI64, Ordering};

use integration_engine::queue::RecordRef;
use integration_engine::record::{RecordKey, SourceId, Target};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::latch::{self, Gauges};
use crate::worker::now_ms;

type Stamp = Option<TimestampWithTimeZone>;

fn stamp(millis: &AtomicI64) -> Stamp {
    let millis = millis.load(Ordering::Relaxed);
    (millis != 0).then(|| to_timestamp(millis as f64 / 1_000.0))
}

/// Why nothing is sent, if there is no worker.
fn why_no_worker() -> &'static str {
    if latch::preloaded() {
        "no worker is running for this database; the server log says why, see also integration.databases and max_worker_processes"
    } else {
        "the library is not preloaded: ALTER SYSTEM SET shared_preload_libraries = 'integration'; then restart the server"
    }
}

/// The worker's figures, for the view `status`.
#[pg_extern(volatile)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelt out")]
fn _gauges() -> TableIterator<
    'static,
    (
        name!(target, &'static str),
        name!(worker, bool),
        name!(why, &'static str),
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
    ),
> {
    let slot = latch::my_slot();
    let worker = slot.is_some_and(|slot| slot.worker().is_some());
    let nothing = Gauges::default();
    let rows: Vec<_> = Target::ALL
        .into_iter()
        .map(|target| {
            let gauges = slot.map_or(&nothing, |slot| slot.gauges(target));
            let get = |gauge: &AtomicI64| gauge.load(Ordering::Relaxed);
            let unread = (get(&gauges.arrived) - get(&gauges.scanned)).max(0);
            let recent = now_ms() - get(&gauges.minute) < 60_000;
            let known = |gauge: &AtomicI64| Some(get(gauge)).filter(|value| *value > 0);
            (
                target.name(),
                worker,
                if worker { "" } else { why_no_worker() },
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
            )
        })
        .collect();
    TableIterator::new(rows)
}

/// Whether a record is in a request under way.
#[pg_extern(volatile)]
fn _in_flight(target: &str, source: i32, key: &str) -> bool {
    let record = RecordRef {
        source: SourceId(source),
        key: RecordKey::from(key),
    };
    let slot = latch::my_slot().filter(|slot| slot.worker().is_some());
    slot.zip(Target::from_name(target))
        .is_some_and(|(slot, target)| slot.flights(target).holds(record.hash()))
}

/// Version of the extension.
#[pg_extern(immutable, parallel_safe)]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Restarts this database's worker; `false` when there is none.
#[pg_extern]
fn reload() -> Result<bool, ErrorReport> {
    if !latch::preloaded() {
        return Err(Error::NotPreloaded.into());
    }
    let running = latch::restart_worker();
    latch::call_launcher();
    Ok(running)
}
