//! What processes share: which worker serves which database, what it has to look at, and figures
//! for the view `status`. Only plain atomics are in shared memory; nothing in it points into a
//! process's own memory.
#![allow(unsafe_code)]

mod flights;
mod launch;
mod progress;
mod signals;
mod wake;

pub use flights::Flights;
pub use launch::{
    ask_for_rescan, begin_start, call_launcher, enter_launcher, interrupt_worker, keep_slots,
    reload, rescan_asked, seat, seats, take_note_of_failure, take_note_of_start,
};
pub use progress::{Busy, Doing, doing};
pub use signals::{Woken, end_on_sigterm, end_orderly, stop_asked, wait, without_signals};
pub use wake::Wake;

use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use integration_engine::record::Target;
use integration_engine::server::roster::Presence;
use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgAtomic, pg_shmem_init, pg_sys};

/// How many databases can have a worker at the same time.
const SLOTS: usize = 64;

/// Figures of one target, written by the worker.
#[derive(Default)]
pub struct Gauges {
    /// Keys queued by commits since the server started.
    pub arrived: AtomicI64,
    /// Keys of those that the worker has read.
    pub scanned: AtomicI64,
    /// Records in the worker's memory.
    pub held: AtomicI64,
    pub retrying: AtomicI64,
    pub in_flight: AtomicI64,
    pub dead: AtomicI64,
    /// The service's events that were not tried yet, that are tried again, and that failed.
    pub inbox_pending: AtomicI64,
    pub inbox_retrying: AtomicI64,
    pub inbox_failed: AtomicI64,
    /// Milliseconds since the epoch; 0: none.
    pub oldest_pending: AtomicI64,
    pub last_success: AtomicI64,
    /// Start of the minute that the next two count, in milliseconds since the epoch.
    pub minute: AtomicI64,
    pub requests: AtomicI64,
    pub errors: AtomicI64,
    /// -1: unknown.
    pub rate_remaining: AtomicI64,
    pub rate_limit: AtomicI64,
}

/// One database's worker.
#[derive(Default)]
pub struct Slot {
    database: AtomicU32,
    /// A [`Presence`].
    presence: AtomicU32,
    /// The reasons to wake that call a resting worker back.
    rouse: AtomicU32,
    /// The next worker is asked to end at once, and to be followed by another one.
    restart: AtomicBool,
    worker_pid: AtomicI32,
    /// Address of the worker's latch, which lives in shared memory (`PGPROC.procLatch`).
    worker_latch: AtomicUsize,
    wake: AtomicU32,
    /// Whether the worker sleeps until somebody sets its latch; otherwise it looks by itself soon.
    asleep: AtomicBool,
    progress: progress::WorkerProgress,
    /// The table whose code could only be ended together with a worker; 0: none.
    culprit: AtomicU32,
    /// Webhooks refused since the server started.
    pub rejected: AtomicU64,
    pub targets: [Gauges; 2],
    flights: [Flights; 2],
}

/// Everything shared.
pub struct Shared {
    launcher_latch: AtomicUsize,
    /// Whether the launcher has to look at the list of databases.
    rescan: AtomicBool,
    slots: [Slot; SLOTS],
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            launcher_latch: AtomicUsize::new(0),
            rescan: AtomicBool::new(true),
            slots: std::array::from_fn(|_| Slot::default()),
        }
    }
}

// SAFETY: it consists of atomics only, which are valid in whatever process maps them.
unsafe impl PGRXSharedMemory for Shared {}

// SAFETY: no other shared memory of this name exists.
static SHARED: PgAtomic<Shared> = unsafe { PgAtomic::new(c"integration") };

static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Whether this process is a database's worker.
static WORKER: AtomicBool = AtomicBool::new(false);

/// Returns whether the server is loading `shared_preload_libraries`, and not for an upgrade.
pub fn preloading() -> bool {
    // SAFETY: plain globals of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

/// Requests the shared memory. Call it only while `shared_preload_libraries` are loaded.
pub fn init() {
    pg_shmem_init!(SHARED);
    PRELOADED.store(true, Ordering::Relaxed);
}

/// Returns whether the library was loaded through `shared_preload_libraries`.
pub fn preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Returns whether this process is a database's worker.
pub fn is_worker() -> bool {
    WORKER.load(Ordering::Relaxed)
}

fn shared() -> Option<&'static Shared> {
    preloaded().then(|| SHARED.get())
}

fn my_database() -> u32 {
    // SAFETY: a plain global of this process.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// Returns this database's slot, if it has one.
pub fn my_slot() -> Option<&'static Slot> {
    let database = my_database();
    shared()?
        .slots
        .iter()
        .find(|slot| slot.database.load(Ordering::Acquire) == database)
}

/// Returns this database's slot, and takes a free one if need be. `None`: the library is not
/// preloaded, or all slots are taken.
pub fn claim_slot() -> Option<&'static Slot> {
    let database = my_database();
    my_slot().or_else(|| {
        let claimed = shared()?.slots.iter().find(|slot| {
            slot.database
                .compare_exchange(0, database, Ordering::AcqRel, Ordering::Acquire)
                .is_ok_and(|_| {
                    slot.wake.store(Wake::START.0, Ordering::Release);
                    true
                })
        });
        if claimed.is_none() {
            // Some slots may belong to databases that no longer exist.
            call_launcher();
        }
        claimed
    })
}

impl Slot {
    /// Notes that the worker is about to end because of a table's code. Runs in a signal handler.
    pub fn blame(&self, table: u32) {
        self.culprit.store(table, Ordering::Relaxed);
    }

    /// Returns the table because of which an earlier worker ended, once.
    pub fn take_culprit(&self) -> Option<pg_sys::Oid> {
        let table = self.culprit.swap(0, Ordering::Relaxed);
        (table != 0).then(|| pg_sys::Oid::from(table))
    }

    pub fn gauges(&self, target: Target) -> &Gauges {
        &self.targets[usize::from(target.number().unsigned_abs()) - 1]
    }

    pub fn flights(&self, target: Target) -> &Flights {
        &self.flights[usize::from(target.number().unsigned_abs()) - 1]
    }

    /// Returns the worker's process id, if there is a worker.
    pub fn worker(&self) -> Option<i32> {
        Some(self.worker_pid.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// Returns whether a worker runs, is to run, or rests.
    pub fn presence(&self) -> Presence {
        Presence::from_number(self.presence.load(Ordering::SeqCst))
    }

    fn set_presence(&self, presence: Presence) {
        self.presence.store(presence.number(), Ordering::SeqCst);
    }

    fn change_presence(&self, from: Presence, to: Presence) -> bool {
        let (from, to) = (from.number(), to.number());
        self.presence
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Makes this process the worker. Another live one keeps its place.
    pub fn enter(&'static self) -> bool {
        if !self.take_place() {
            return false;
        }
        // However the process ends, its place becomes free.
        // SAFETY: registered once, at the start of a worker; the callback is guarded.
        unsafe { pg_sys::before_shmem_exit(Some(leave_at_exit), pg_sys::Datum::from(0)) };
        WORKER.store(true, Ordering::Relaxed);
        self.wake.fetch_or(Wake::START.0, Ordering::SeqCst);
        progress::begin(&self.progress);
        launch::tell_launcher();
        true
    }

    fn take_place(&self) -> bool {
        // SAFETY: plain globals of this process, set before any extension code runs.
        let (pid, latch) = unsafe { (pg_sys::MyProcPid, pg_sys::MyLatch as usize) };
        let before = self.worker_pid.load(Ordering::SeqCst);
        // SAFETY: signal 0 only asks whether the process exists.
        if before != 0 && before != pid && unsafe { libc::kill(before, 0) } == 0 {
            return false;
        }
        let taken =
            self.worker_pid
                .compare_exchange(before, pid, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_err() {
            return false;
        }
        self.worker_latch.store(latch, Ordering::SeqCst);
        self.set_presence(Presence::Running);
        true
    }

    fn give_place(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.worker_latch.store(0, Ordering::SeqCst);
        self.worker_pid.store(0, Ordering::SeqCst);
    }

    /// Ends this process's time as the worker.
    pub fn leave(&self) {
        let restart = self.restart.swap(false, Ordering::SeqCst);
        let presence = if restart {
            Presence::Wanted
        } else {
            Presence::Down
        };
        // This comes first: a process that takes the place from here on says so itself.
        self.set_presence(presence);
        self.give_place();
        launch::tell_launcher();
    }

    /// Ends this process's time as the worker, and asks for another one at once.
    pub fn hand_over(&self) {
        self.restart.store(true, Ordering::SeqCst);
        self.leave();
    }

    /// Ends this process's time as the worker because there is nothing to do; returns `false` if
    /// there is news. A worker comes back when it is woken for one of `rouse`.
    pub fn rest(&self, rouse: Wake) -> bool {
        self.rouse.store(rouse.0, Ordering::SeqCst);
        self.set_presence(Presence::Resting);
        self.give_place();
        // Whoever wakes us from here on sees that we rest, and calls the launcher. Earlier wake-ups
        // are seen here.
        let missed = self.wake.swap(0, Ordering::SeqCst);
        if missed & rouse.0 == 0 {
            return true;
        }
        self.wake.fetch_or(missed, Ordering::SeqCst);
        // Another process may have come already.
        !self.take_place()
    }

    /// Returns the place: the database has no extension, or is not wanted.
    pub fn free(&self) {
        self.set_presence(Presence::Down);
        self.give_place();
        self.database.store(0, Ordering::SeqCst);
        // The extension may have just been created.
        if self.wake.load(Ordering::SeqCst) & Wake::CONFIG.0 != 0 {
            call_launcher();
        }
    }

    /// Asks for a worker, if none runs.
    pub fn call(&self) {
        // One that is being started may have failed, and then another one is to follow at once.
        let none = [Presence::Down, Presence::Resting, Presence::Starting];
        if none
            .into_iter()
            .any(|presence| self.change_presence(presence, Presence::Wanted))
        {
            launch::tell_launcher();
        }
    }

    /// Tells the worker what to look at. Cannot fail, for it is called after the transaction has
    /// been committed.
    pub fn wake(&self, what: Wake) {
        // A bit that is set already is one that the worker has muted, or has been woken for.
        let news = self.wake.fetch_or(what.0, Ordering::SeqCst) & what.0 != what.0;
        if !news {
            return;
        }
        if self.asleep.swap(false, Ordering::SeqCst) {
            set_latch(self.worker_latch.load(Ordering::SeqCst));
        }
        let roused = what.0 & self.rouse.load(Ordering::SeqCst) != 0;
        if roused && self.presence() == Presence::Resting {
            self.call();
        }
    }

    /// Returns what the worker was woken for since the last call. Bits of `muted` stay set: nobody
    /// sets the latch for them again.
    pub fn woken_for(&self, muted: Wake) -> Wake {
        Wake(self.wake.fetch_and(muted.0, Ordering::SeqCst))
    }

    /// Returns whether the worker has been woken for something that it has not taken yet.
    pub fn is_woken_for(&self, what: Wake) -> bool {
        self.wake.load(Ordering::SeqCst) & what.0 != 0
    }

    /// Announces that the worker is about to sleep until it is woken; returns `false` if there is
    /// news already.
    pub fn fall_asleep(&self, muted: Wake) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let news = self.wake.load(Ordering::SeqCst) & !muted.0 != 0;
        if news {
            self.asleep.store(false, Ordering::SeqCst);
        }
        !news
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn leave_at_exit(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: a plain global of this process.
    let pid = unsafe { pg_sys::MyProcPid };
    if let Some(slot) = my_slot().filter(|slot| slot.worker() == Some(pid)) {
        slot.leave();
    }
}

fn set_latch(latch: usize) {
    if latch != 0 {
        // SAFETY: the address is that of a PGPROC's latch, in the server's shared memory, which is
        // mapped at one address in all processes. If its process has gone, waking whoever has the
        // PGPROC now is harmless.
        unsafe { pg_sys::SetLatch(latch as *mut pg_sys::Latch) };
    }
}
