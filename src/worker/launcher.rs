//! The launcher: one process a server, which sees to it that every database that has the extension
//! has a worker, and starts one again, after a while, when it has ended.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker,
    SignalWakeFlags,
};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::config;
use crate::latch::{self, Woken};

/// First and longest time before a worker that ended is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// A worker that lived so long is taken to have been well.
const WELL: Duration = Duration::from_secs(30);

/// Registers the launcher. Only while `shared_preload_libraries` are loaded.
pub fn register() {
    BackgroundWorkerBuilder::new("integration launcher")
        .set_type("integration launcher")
        .set_library("integration")
        .set_function("integration_launcher")
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

struct Child {
    process: DynamicBackgroundWorker,
    started: Instant,
}

#[derive(Default)]
struct Database {
    child: Option<Child>,
    /// Not to be started before.
    not_before: Option<Instant>,
    pause: Duration,
    wanted: bool,
}

#[pg_guard]
#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C-unwind" fn integration_launcher(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    // No database: its catalogs of the whole server are enough, and nobody's DROP DATABASE is held up.
    BackgroundWorker::connect_worker_to_spi(None, None);
    latch::enter_launcher();
    let mut databases: HashMap<u32, Database> = HashMap::new();
    loop {
        if BackgroundWorker::sighup_received() {
            // SAFETY: main thread, outside a transaction.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            // Other databases may be wanted now.
            latch::ask_for_rescan();
        }
        let ended = bury_children(&mut databases);
        let asked = latch::rescan_asked();
        if asked || ended {
            let present = list_databases();
            latch::keep_slots(&present);
            databases.retain(|oid, _| present.contains(oid));
            if asked {
                for oid in present {
                    let database = databases.entry(oid).or_default();
                    database.wanted = true;
                    database.not_before = None;
                }
            }
        }
        let wait = tend(&mut databases);
        if latch::wait(None, wait) == Woken::Stop {
            break;
        }
    }
    // Not 0, or the postmaster would never start it again.
    // SAFETY: nothing of ours needs a destructor.
    unsafe { pg_sys::proc_exit(1) };
}

/// Takes note of workers that ended; `true` when one did.
fn bury_children(databases: &mut HashMap<u32, Database>) -> bool {
    let now = Instant::now();
    let mut any = false;
    for (oid, database) in databases.iter_mut() {
        let Some(child) = database.child.take_if(|child| ended(&child.process)) else {
            continue;
        };
        let well = now.duration_since(child.started) > WELL;
        database.pause = if well {
            RESTART.0
        } else {
            (database.pause * 2).clamp(RESTART.0, RESTART.1)
        };
        database.not_before = Some(now + database.pause);
        // It tells through its slot whether it wants to be back.
        database.wanted = latch::is_wanted(*oid);
        any = true;
    }
    any
}

/// Starts what is to be started; tells how long until there is something to do.
fn tend(databases: &mut HashMap<u32, Database>) -> Option<Duration> {
    let now = Instant::now();
    let mut wait: Option<Duration> = None;
    let mut at_most = |limit: Duration| wait = Some(wait.map_or(limit, |known| known.min(limit)));
    for (oid, database) in databases.iter_mut() {
        if database.child.is_some() || !database.wanted {
            continue;
        }
        match database.not_before {
            Some(at) if at > now => at_most(at - now),
            _ => match start(*oid) {
                Some(process) => {
                    database.child = Some(Child {
                        process,
                        started: now,
                    });
                }
                None => {
                    database.not_before = Some(now + RESTART.1);
                    at_most(RESTART.1);
                }
            },
        }
    }
    wait
}

fn ended(process: &DynamicBackgroundWorker) -> bool {
    use pgrx::bgworkers::BackgroundWorkerStatus;
    matches!(
        process.pid(),
        Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied)
    )
}

/// `None`: no worker slot is free (`max_worker_processes`).
fn start(database: u32) -> Option<DynamicBackgroundWorker> {
    // SAFETY: a plain global of this process.
    let me = unsafe { pg_sys::MyProcPid };
    let started = BackgroundWorkerBuilder::new("integration worker")
        .set_type("integration worker")
        .set_library("integration")
        .set_function("integration_worker")
        .set_argument(Some(pg_sys::Datum::from(database)))
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .set_notify_pid(me)
        .load_dynamic();
    match started {
        Ok(process) => Some(process),
        Err(_) => {
            pgrx::warning!(
                "integration has no process slot for a worker; raise max_worker_processes"
            );
            None
        }
    }
}

/// Databases that can be connected to, templates left out.
fn list_databases() -> Vec<u32> {
    BackgroundWorker::transaction(|| {
        let mut found = Vec::new();
        // SAFETY: a scan of a shared catalog inside a transaction; each tuple is read before the
        // next one is fetched, and scan and relation are closed.
        unsafe {
            let relation =
                pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
            let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
            loop {
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                let data = (*tuple).t_data;
                let row = &*data
                    .cast::<u8>()
                    .add(usize::from((*data).t_hoff))
                    .cast::<pg_sys::FormData_pg_database>();
                let name = CStr::from_ptr(row.datname.data.as_ptr()).to_string_lossy();
                if row.datallowconn && !row.datistemplate && config::wants_database(&name) {
                    found.push(row.oid.to_u32());
                }
            }
            end_scan(scan);
            pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        }
        found
    })
}

/// # Safety
/// `scan` is open and is not used afterwards.
unsafe fn end_scan(scan: pg_sys::TableScanDesc) {
    // SAFETY: as the caller promises; this is what the inline `table_endscan` does.
    unsafe {
        let methods = (*(*scan).rs_rd).rd_tableam;
        if let Some(end) = (*methods).scan_end {
            end(scan);
        }
    }
}
