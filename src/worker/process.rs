//! The worker as a process: how it starts, what it looks up about its server, what it tells.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use integration_engine::record::Target;
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::SpiResult;

use super::target::{TargetStatus, TargetWorker};
use crate::pg::settings;
use crate::pg::watch;
use crate::pg::{extension, shmem};
use crate::store::queue::changes;
use crate::store::state;
use crate::worker::hubspot::missing_scopes;
use crate::worker::{Context, preflight, run, session};
use crate::{config, store};

#[pg_guard]
#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C-unwind" fn integration_worker(database: pg_sys::Datum) {
    shmem::end_on_sigterm();
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
    // SAFETY: the launcher passes the oid of a database.
    let database = unsafe { pg_sys::Oid::from_datum(database, false) };
    shmem::begin_start(database.map_or(0, pg_sys::Oid::to_u32));
    BackgroundWorker::connect_worker_to_spi_by_oid(database, None);
    settings::pin_for_worker();
    // The launcher sees by the slot what comes next; the code decides whether the server logs the end.
    let code = i32::from(work().is_err());
    // SAFETY: everything with a destructor has been dropped.
    unsafe { pg_sys::proc_exit(code) };
}

fn work() -> Result<(), ()> {
    if !wanted() {
        if let Some(slot) = shmem::my_slot().filter(|slot| slot.worker().is_none()) {
            slot.free();
        }
        return Ok(());
    }
    let Some(slot) = shmem::claim_slot() else {
        pgrx::warning!("integration works in at most 64 databases; this one gets no worker");
        return Ok(());
    };
    if !slot.enter() {
        return Ok(());
    }
    // Before anything of ours is looked at. Why it cannot be done is told with the configuration.
    let _ = store::transaction(session::assume_role);
    watch::begin();
    let ended = run(slot).map_err(|why| pgrx::warning!("integration worker ends: {why}"));
    match ended {
        Ok(WorkerEnd::Restart) => slot.hand_over(),
        Ok(WorkerEnd::Unwanted) => slot.free(),
        Ok(WorkerEnd::Rest) => {}
        Ok(WorkerEnd::Stop) | Err(()) => slot.leave(),
    }
    ended.map(|_| ())
}

/// Why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// The server asked for it.
    Stop,
    /// Another one is to take its place.
    Restart,
    /// There is nothing to do.
    Rest,
    /// This database is to have none.
    Unwanted,
}

/// Whether this database is to have a worker.
pub fn wanted() -> bool {
    BackgroundWorker::transaction(|| config::wants_my_database() && extension::present())
}

/// Whether the extension is (still) installed here.
pub fn extension_present() -> bool {
    BackgroundWorker::transaction(extension::present)
}

/// Re-reads the configuration files if the server was told to; whether it was.
pub fn settings_changed() -> bool {
    let changed = BackgroundWorker::sighup_received();
    if changed {
        // SAFETY: main thread, outside a transaction.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
    changed
}

/// Looks at what is in the queue: once, at the start.
pub fn look_back(targets: &mut [TargetWorker], context: &Context) -> SpiResult<()> {
    for worker in targets {
        let heritage = changes::heritage(worker.target)?;
        worker.inherited_until = heritage.latest;
        if let Some(slot) = context.slot {
            let gauges = slot.gauges(worker.target);
            let arrived = gauges.arrived.load(Ordering::Relaxed);
            gauges
                .scanned
                .store(arrived - heritage.count, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Figures for the view `status`.
pub fn publish_gauges(worker: &TargetWorker, context: &Context) {
    let Some(slot) = context.slot else { return };
    let gauges = slot.gauges(worker.target);
    let planned: usize = worker
        .planned
        .iter()
        .map(|planned| planned.flights.len())
        .sum();
    let flying = worker.queue.flying().saturating_sub(planned);
    // Every record counts once: what is retried is not pending, what is under way neither of both.
    let (retried, retried_flying) = worker.queue.retried();
    let held = worker.queue.len() - flying - (retried - retried_flying);
    let retrying = worker.retrying.max(retried as i64) - retried_flying as i64;
    gauges
        .held
        .store(held as i64 + worker.erasures, Ordering::Relaxed);
    gauges.in_flight.store(flying as i64, Ordering::Relaxed);
    gauges.retrying.store(retrying, Ordering::Relaxed);
    gauges.oldest_pending.store(
        worker.queue.oldest().map_or(0, |at| at.0),
        Ordering::Relaxed,
    );
}

/// Writes the states that changed, and raises or clears alerts.
pub fn tell_states(changed: &[(Target, TargetStatus, bool)]) -> SpiResult<()> {
    for (target, TargetStatus { state, reason }, guarded) in changed {
        let name = state.name();
        state::put_state(*target, name, reason.as_deref(), *guarded)?;
        let mut holds = vec![
            "provision",
            preflight::DROPPED,
            preflight::UNREAD,
            missing_scopes::ALERT,
        ];
        if state.is_alarming() {
            let message = reason.as_deref().unwrap_or_default();
            state::raise(name, *target, "", message)?;
            holds.push(name);
        }
        state::clear_alerts(*target, &holds)?;
    }
    Ok(())
}

/// Without this autovacuum would never learn what we wrote.
pub fn report_statistics() {
    // SAFETY: main thread, outside a transaction; it only looks at the clock when nothing is to be told.
    unsafe { pg_sys::pgstat_report_stat(false) };
}
