//! What processes share: who works for which database, what it has to look at, and figures for
//! the view `status`. Only plain atomics live in shared memory; nothing in it points into a
//! process's own memory.
#![allow(unsafe_code)]

mod flights;
mod wake;

pub use flights::Flights;
pub use wake::Wake;

use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::time::Duration;

use integration_engine::record::Target;
use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgAtomic, pg_shmem_init, pg_sys};

/// Databases that can have a worker at the same time.
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
    worker_pid: AtomicI32,
    /// Address of the worker's latch, which lives in shared memory (`PGPROC.procLatch`).
    worker_latch: AtomicUsize,
    wake: AtomicU32,
    /// The worker sleeps until somebody sets its latch; otherwise it looks by itself soon.
    asleep: AtomicBool,
    /// Webhooks refused since the server started.
    pub rejected: AtomicU64,
    pub targets: [Gauges; 2],
    flights: [Flights; 2],
}

/// Everything shared.
pub struct Shared {
    launcher_latch: AtomicUsize,
    /// The launcher has to look at the list of databases.
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

/// Whether the server is loading `shared_preload_libraries`, and not for an upgrade.
pub fn preloading() -> bool {
    // SAFETY: plain globals of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

/// Asks for the shared memory. Only while `shared_preload_libraries` are loaded.
pub fn init() {
    pg_shmem_init!(SHARED);
    PRELOADED.store(true, Ordering::Relaxed);
}

/// Whether the library was loaded through `shared_preload_libraries`.
pub fn preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Whether this process is a database's worker.
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

/// This database's slot, if it has one.
pub fn my_slot() -> Option<&'static Slot> {
    let database = my_database();
    shared()?
        .slots
        .iter()
        .find(|slot| slot.database.load(Ordering::Acquire) == database)
}

/// This database's slot, taking a free one if need be. `None`: not preloaded, or all are taken.
pub fn claim_slot() -> Option<&'static Slot> {
    let database = my_database();
    my_slot().or_else(|| {
        shared()?.slots.iter().find(|slot| {
            slot.database
                .compare_exchange(0, database, Ordering::AcqRel, Ordering::Acquire)
                .is_ok_and(|_| {
                    slot.wake.store(Wake::START.0, Ordering::Release);
                    true
                })
        })
    })
}

impl Slot {
    pub fn gauges(&self, target: Target) -> &Gauges {
        &self.targets[usize::from(target.number().unsigned_abs()) - 1]
    }

    pub fn flights(&self, target: Target) -> &Flights {
        &self.flights[usize::from(target.number().unsigned_abs()) - 1]
    }

    /// Process id of the worker, if there is one.
    pub fn worker(&self) -> Option<i32> {
        Some(self.worker_pid.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// This process is the worker from here on. Another live one keeps the place.
    pub fn enter(&self) -> bool {
        // SAFETY: plain globals of this process, set before any extension code runs.
        let (pid, latch) = unsafe { (pg_sys::MyProcPid, pg_sys::MyLatch as usize) };
        let before = self.worker_pid.load(Ordering::Acquire);
        // SAFETY: signal 0 only asks whether the process exists.
        if before != 0 && before != pid && unsafe { libc::kill(before, 0) } == 0 {
            return false;
        }
        // However the process ends, its place is free.
        // SAFETY: registered once, at the start of a worker; the callback is guarded.
        unsafe { pg_sys::before_shmem_exit(Some(leave_at_exit), pg_sys::Datum::from(0)) };
        WORKER.store(true, Ordering::Relaxed);
        self.worker_latch.store(latch, Ordering::Release);
        self.worker_pid.store(pid, Ordering::Release);
        self.wake.store(Wake::START.0, Ordering::Release);
        true
    }

    /// This process is the worker no longer.
    pub fn leave(&self) {
        self.worker_latch.store(0, Ordering::Release);
        self.worker_pid.store(0, Ordering::Release);
    }

    /// Gives the place back: the database has no extension.
    pub fn free(&self) {
        self.leave();
        self.database.store(0, Ordering::Release);
    }

    /// Tells the worker what to look at. Cannot fail: it is called where a transaction has already
    /// been committed.
    pub fn wake(&self, what: Wake) {
        // A bit that is set already is one that the worker does not want to hear of now.
        let news = self.wake.fetch_or(what.0, Ordering::SeqCst) & what.0 != what.0;
        if news && self.asleep.swap(false, Ordering::SeqCst) {
            set_latch(self.worker_latch.load(Ordering::Acquire));
        }
    }

    /// What the worker was woken for since it last asked. Bits of `deaf` stay set: nobody sets the
    /// latch for them again.
    pub fn woken_for(&self, deaf: Wake) -> Wake {
        Wake(self.wake.fetch_and(deaf.0, Ordering::SeqCst))
    }

    /// The worker is about to sleep until it is woken; `false` when there is news already.
    pub fn fall_asleep(&self, deaf: Wake) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let news = self.wake.load(Ordering::SeqCst) & !deaf.0 != 0;
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

/// Sends a SIGTERM to this database's worker; the launcher starts it again.
pub fn restart_worker() -> bool {
    my_slot().and_then(Slot::worker).is_some_and(|pid| {
        // SAFETY: the process is our worker: its slot names it until it leaves.
        unsafe { libc::kill(pid, libc::SIGTERM) == 0 }
    })
}

/// This process is the launcher.
pub fn enter_launcher() {
    if let Some(shared) = shared() {
        // SAFETY: a plain global of this process.
        shared
            .launcher_latch
            .store(unsafe { pg_sys::MyLatch } as usize, Ordering::Release);
    }
}

/// Whether a database's slot is taken: its worker has not given it back.
pub fn is_wanted(database: u32) -> bool {
    shared().is_some_and(|shared| {
        shared
            .slots
            .iter()
            .any(|slot| slot.database.load(Ordering::Acquire) == database)
    })
}

/// Gives back the slots of databases that exist no longer.
pub fn keep_slots(databases: &[u32]) {
    let slots = shared().into_iter().flat_map(|shared| &shared.slots);
    for slot in slots {
        let database = slot.database.load(Ordering::Acquire);
        if database != 0 && !databases.contains(&database) {
            slot.free();
        }
    }
}

/// Asks the launcher to look for databases that want a worker.
pub fn call_launcher() {
    if let Some(shared) = shared() {
        shared.rescan.store(true, Ordering::Release);
        set_latch(shared.launcher_latch.load(Ordering::Acquire));
    }
}

/// The launcher's own reason to look at the list of databases.
pub fn ask_for_rescan() {
    if let Some(shared) = shared() {
        shared.rescan.store(true, Ordering::Release);
    }
}

/// Whether somebody asked for it since the last look.
pub fn rescan_asked() -> bool {
    shared().is_some_and(|shared| shared.rescan.swap(false, Ordering::AcqRel))
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There is something to do, or the time is over.
    Up,
    /// The server asks us to stop.
    Stop,
}

/// Waits for this process's latch, for bytes on a socket, or for the time to pass.
pub fn wait(socket: Option<i32>, time: Option<Duration>) -> Woken {
    if stop_asked() {
        return Woken::Stop;
    }
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    events |= if socket.is_some() {
        pg_sys::WL_SOCKET_READABLE
    } else {
        0
    };
    events |= if time.is_some() {
        pg_sys::WL_TIMEOUT
    } else {
        0
    };
    let millis = time.map_or(-1, |time| {
        i64::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX)
    });
    // SAFETY: main thread of a process with a latch; the socket, if any, is open.
    unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            socket.unwrap_or(-1),
            millis,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
    if stop_asked() { Woken::Stop } else { Woken::Up }
}

/// Whether a SIGTERM has come; it stays so.
pub fn stop_asked() -> bool {
    // SAFETY: a plain flag that signal handlers set.
    unsafe { pg_sys::ShutdownRequestPending != 0 }
}

/// Runs `start` with every signal blocked, so that threads it starts never get one: handlers call
/// Postgres, which only the main thread may.
pub fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are initialised by the calls before they are read, and the old mask is restored.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let started = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        started
    }
}
