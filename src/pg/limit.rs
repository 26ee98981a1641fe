//! How long code of others may run: `integration.crm_timeout`.
//!
//! `statement_timeout` has no effect in a background worker, and in a backend it is the caller's.
//! So a periodic timeout of our own checks the clock: it cancels the statement once its time is
//! over, and again every second, for code may catch a cancellation.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::pg::shmem::{self, Slot};

/// How often the clock is checked.
const TICK: Duration = Duration::from_millis(250);

/// How often a cancelled statement that has not ended is cancelled again.
const AGAIN: Duration = Duration::from_secs(1);

/// After catching so many cancellations, code is ended together with the worker. In a backend, the
/// caller decides.
const PATIENCE: i32 = 5;

/// The first identifier that PostgreSQL gives to extensions.
#[cfg(feature = "pg15")]
const USER_TIMEOUT: c_int = 12;
#[cfg(not(feature = "pg15"))]
const USER_TIMEOUT: c_int = 13;

unsafe extern "C-unwind" {
    fn RegisterTimeout(id: c_int, handler: unsafe extern "C" fn()) -> c_int;
    fn enable_timeout_every(id: c_int, first: pg_sys::TimestampTz, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
}

/// The id of our timeout in this process; below zero: not registered yet.
static TIMEOUT: AtomicI32 = AtomicI32::new(-1);
/// How many fences surround the running code; an inner fence uses the outer one's time.
static DEPTH: AtomicU32 = AtomicU32::new(0);
/// Ticks until the time is over; below zero: ticks since then.
static LEFT: AtomicI32 = AtomicI32::new(0);
/// After so many ticks, a statement that still runs is cancelled again.
static EVERY: AtomicI32 = AtomicI32::new(1);
static OVER: AtomicBool = AtomicBool::new(false);
/// The worker's slot in shared memory, and the table whose code it runs.
static SLOT: AtomicPtr<Slot> = AtomicPtr::new(std::ptr::null_mut());
static TABLE: AtomicU32 = AtomicU32::new(0);

/// Limits what runs while it exists.
pub struct Limit {
    outermost: bool,
}

impl Limit {
    /// Starts the clock.
    pub fn start(limit: Duration, table: pg_sys::Oid) -> Limit {
        let outermost = DEPTH.fetch_add(1, Ordering::Relaxed) == 0;
        if outermost {
            let tick = limit.min(TICK).max(Duration::from_millis(1));
            let ticks = |time: Duration| {
                i32::try_from(time.as_millis().div_ceil(tick.as_millis())).unwrap_or(i32::MAX)
            };
            OVER.store(false, Ordering::Relaxed);
            TABLE.store(table.to_u32(), Ordering::Relaxed);
            let slot = shmem::is_worker().then(shmem::my_slot).flatten();
            let slot = slot.map_or(std::ptr::null_mut(), |slot| (&raw const *slot).cast_mut());
            SLOT.store(slot, Ordering::Relaxed);
            LEFT.store(ticks(limit), Ordering::Relaxed);
            EVERY.store(ticks(AGAIN), Ordering::Relaxed);
            let every = c_int::try_from(tick.as_millis()).unwrap_or(1);
            // SAFETY: main thread of a process whose timeouts are initialised; the handler only
            // touches atomics and flags that signal handlers may set.
            unsafe {
                pg_guard_ffi_boundary(|| {
                    if TIMEOUT.load(Ordering::Relaxed) < 0 {
                        TIMEOUT.store(RegisterTimeout(USER_TIMEOUT, tick_over), Ordering::Relaxed);
                    }
                    let first = pg_sys::GetCurrentTimestamp() + i64::from(every) * 1_000;
                    enable_timeout_every(TIMEOUT.load(Ordering::Relaxed), first, every);
                });
            }
        }
        Limit { outermost }
    }

    /// Returns whether the time was over.
    pub fn exceeded(&self) -> bool {
        OVER.load(Ordering::Relaxed)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        DEPTH.fetch_sub(1, Ordering::Relaxed);
        if !self.outermost {
            return;
        }
        // SAFETY: main thread; the timeout is registered.
        unsafe {
            pg_guard_ffi_boundary(|| disable_timeout(TIMEOUT.load(Ordering::Relaxed), false));
        }
        if self.exceeded() {
            // What ran may have ended before it noticed the cancellation, which was meant for
            // nobody else.
            // SAFETY: a plain flag of this process.
            unsafe { (&raw mut pg_sys::QueryCancelPending).write_volatile(0) };
        }
    }
}

/// Runs in a signal handler.
unsafe extern "C" fn tick_over() {
    let left = LEFT.fetch_sub(1, Ordering::Relaxed) - 1;
    if left > 0 {
        return;
    }
    OVER.store(true, Ordering::Relaxed);
    let every = EVERY.load(Ordering::Relaxed);
    if (-left) % every == 0 {
        let slot = SLOT.load(Ordering::Relaxed);
        // SAFETY: plain flags of this process, which signal handlers may set; the slot is in shared
        // memory, which stays where it is, and consists of atomics.
        unsafe {
            if -left >= PATIENCE * every
                && let Some(slot) = slot.as_ref()
            {
                slot.blame(TABLE.load(Ordering::Relaxed));
                (&raw mut pg_sys::ProcDiePending).write_volatile(1);
            }
            (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
            (&raw mut pg_sys::InterruptPending).write_volatile(1);
        }
    }
}
