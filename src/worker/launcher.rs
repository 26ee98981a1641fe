//! The launcher: one process a server, which sees to it that every database with something to do has
//! a worker, and starts one again, after a while, when it has failed.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::CStr;
use std::time::Duration;

use integration_engine::server::roster::{LaunchStep, Presence, Roster};
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker,
    SignalWakeFlags,
};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::config;
use crate::pg::clock::Stopwatch;
use crate::pg::shmem::{self, Woken};

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

/// The launcher's memory.
struct Launcher {
    roster: Roster,
    processes: HashMap<u32, DynamicBackgroundWorker>,
    /// Databases that may have a worker.
    present: Vec<u32>,
    began: Stopwatch,
}

#[pg_guard]
#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C-unwind" fn integration_launcher(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    // No database: its catalogs of the whole server are enough, and nobody's DROP DATABASE is held up.
    BackgroundWorker::connect_worker_to_spi(None, None);
    shmem::enter_launcher();
    shmem::ask_for_rescan();
    let mut launcher = Launcher {
        roster: Roster::default(),
        processes: HashMap::new(),
        present: Vec::new(),
        began: Stopwatch::start(),
    };
    loop {
        if BackgroundWorker::sighup_received() {
            // SAFETY: main thread, outside a transaction.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            // Other databases may be wanted now, and those that rest may have something to do.
            shmem::ask_for_rescan();
        }
        let wait = launcher.turn();
        if shmem::wait(None, wait) == Woken::Stop {
            break;
        }
    }
    // Not 0, or the postmaster would never start it again.
    // SAFETY: nothing of ours needs a destructor.
    unsafe { pg_sys::proc_exit(1) };
}

impl Launcher {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Starts what is to be started; tells how long until there is something to do.
    fn turn(&mut self) -> Option<Duration> {
        let ended = self.reap();
        let asked = shmem::rescan_asked();
        let strange = shmem::seats()
            .iter()
            .any(|(database, _)| !self.present.contains(database));
        if asked || ended || strange {
            self.present = list_databases();
            shmem::keep_slots(&self.present);
            self.roster.keep(&self.present);
        }
        if asked {
            self.roster.look_at(&self.present);
        }
        loop {
            let mut seats = shmem::seats();
            seats.retain(|(database, _)| self.present.contains(database));
            let database = match self.roster.next(&seats, self.now()) {
                LaunchStep::Wait(wait) => {
                    if self.roster.is_short(self.now()) {
                        self.tell_short(&seats);
                    }
                    return wait;
                }
                LaunchStep::Start(database) => database,
            };
            shmem::take_note_of_start(database);
            match start(database) {
                Some(process) => {
                    self.roster.started(database, self.now());
                    self.processes.insert(database, process);
                }
                None => {
                    shmem::take_note_of_failure(database);
                    if self.roster.short(self.now()) {
                        pgrx::warning!(
                            "integration has no process slot for a worker; raise max_worker_processes"
                        );
                    }
                }
            }
        }
    }

    /// Whoever has asked for a worker in vain is shown to have none.
    fn tell_short(&self, seats: &[(u32, Presence)]) {
        let without = |database: &&u32| !self.processes.contains_key(*database);
        let databases = seats.iter().map(|(database, _)| database);
        for database in databases.filter(without) {
            shmem::take_note_of_start(*database);
            shmem::take_note_of_failure(*database);
        }
    }

    /// Takes note of processes that ended; `true` when one did.
    fn reap(&mut self) -> bool {
        let gone: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, process)| ended(process))
            .map(|(database, _)| *database)
            .collect();
        for database in &gone {
            self.processes.remove(database);
            shmem::take_note_of_failure(*database);
            self.roster
                .ended(*database, shmem::seat(*database), self.now());
        }
        !gone.is_empty()
    }
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
    started.ok()
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
