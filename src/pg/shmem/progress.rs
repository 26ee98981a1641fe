//! What a worker is doing, and since when: this distinguishes a busy worker from a stuck one.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use pgrx::pg_sys;

use super::Slot;
use crate::pg::clock;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Nothing: it waits to be woken, or for answers.
    Waiting,
    /// Reading rows of a CRM table, or of its payload view.
    Reading,
    /// Writing to a CRM table.
    Writing,
    /// Anything on our own tables.
    Housekeeping,
}

impl Doing {
    fn from_number(number: u32) -> Doing {
        match number {
            1 => Doing::Reading,
            2 => Doing::Writing,
            3 => Doing::Housekeeping,
            _ => Doing::Waiting,
        }
    }

    fn number(self) -> u32 {
        match self {
            Doing::Waiting => 0,
            Doing::Reading => 1,
            Doing::Writing => 2,
            Doing::Housekeeping => 3,
        }
    }
}

/// The progress of a worker, in shared memory.
#[derive(Default)]
pub struct WorkerProgress {
    doing: AtomicU32,
    /// The CRM table, 0 for none.
    table: AtomicU32,
    /// Milliseconds since the epoch.
    since: AtomicI64,
}

/// What a worker that does not wait is doing.
pub struct Busy {
    pub doing: Doing,
    pub table: Option<pg_sys::Oid>,
    /// When it last made progress, in milliseconds since the epoch.
    pub since: i64,
    pub lasts: Duration,
}

thread_local! {
    /// This process's own progress, once it is a worker.
    static MINE: Cell<Option<&'static WorkerProgress>> = const { Cell::new(None) };
}

pub(super) fn begin(progress: &'static WorkerProgress) {
    MINE.set(Some(progress));
    doing(Doing::Housekeeping, None);
}

/// Notes that the worker made progress, and what it is doing now. Does nothing in other processes.
pub fn doing(what: Doing, table: Option<pg_sys::Oid>) {
    if let Some(mine) = MINE.get() {
        mine.since
            .store(clock::now().timestamp.0, Ordering::Relaxed);
        mine.doing.store(what.number(), Ordering::Relaxed);
        let table = table.map_or(0, pg_sys::Oid::to_u32);
        mine.table.store(table, Ordering::Relaxed);
    }
}

impl Slot {
    /// Returns what the worker is doing; `None`: it waits, or there is none.
    pub fn busy(&self) -> Option<Busy> {
        self.worker()?;
        let progress = &self.progress;
        let doing = Doing::from_number(progress.doing.load(Ordering::Relaxed));
        let table = progress.table.load(Ordering::Relaxed);
        let since = progress.since.load(Ordering::Relaxed);
        let millis = clock::now().timestamp.0.saturating_sub(since);
        (doing != Doing::Waiting).then(|| Busy {
            doing,
            table: (table != 0).then(|| pg_sys::Oid::from(table)),
            since,
            lasts: Duration::from_millis(u64::try_from(millis).unwrap_or(0)),
        })
    }
}
