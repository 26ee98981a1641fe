//! Faults that the worker met when it read or wrote CRM tables: locks that pass, and faults that
//! keep a table from being read.
//!
//! They are in the worker's memory only: a lock is looked at again in a moment, and everything else
//! becomes a hold in the next transaction.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use integration_engine::limits::locks::{LONG, Locks};
use integration_engine::record::SourceId;
use pgrx::spi::SpiResult;

use crate::pg::clock;
use crate::pg::fence::{Access, Refusal};
use crate::pg::shmem;
use crate::store::holds::{self, HoldCause};
use crate::store::select;

#[derive(Default)]
struct Trouble {
    /// Increases with every change of the set of resting tables.
    generation: u64,
    locked: Locks<SourceId>,
    /// A table is gone: the configuration has to be read again.
    outdated: bool,
    /// The faults that are to be held.
    found: BTreeMap<(SourceId, HoldCause), String>,
}

thread_local! {
    static TROUBLE: RefCell<Trouble> = RefCell::default();
}

/// Notes the outcome of an attempt. Does nothing in processes other than the worker.
pub fn note<T>(source: SourceId, access: Access, attempt: &Result<T, Refusal>) {
    if !shmem::is_worker() {
        return;
    }
    TROUBLE.with_borrow_mut(|trouble| match attempt {
        Ok(_) => trouble.well(source),
        // What a write meets may be the lock of a row.
        Err(Refusal::Busy) if access == Access::Write => {}
        Err(Refusal::Busy) => trouble.locked(source),
        Err(Refusal::Gone) => {
            trouble.outdated = true;
            trouble.locked(source);
        }
        Err(refusal) => {
            if let Some(cause) = cause(refusal, access) {
                let why = refusal.clone().into_error().to_string();
                trouble.found.insert((source, cause), why);
            }
        }
    });
}

/// Returns the fault of the table as a whole; `None`: the error is about a row or a value.
fn cause(refusal: &Refusal, access: Access) -> Option<HoldCause> {
    match refusal {
        Refusal::Busy | Refusal::Gone => None,
        Refusal::Hidden(_) => Some(HoldCause::RowSecurity),
        Refusal::TimedOut => Some(HoldCause::Timeout),
        // A trigger that lacks a right, or a column that is gone, does not prevent reading.
        Refusal::Failed(error) => {
            (access != Access::Write && error.is_about_the_table()).then_some(HoldCause::Unreadable)
        }
    }
}

impl Trouble {
    fn well(&mut self, source: SourceId) {
        if self.locked.free(source) {
            self.generation += 1;
        }
    }

    fn locked(&mut self, source: SourceId) {
        self.generation += 1;
        if self.locked.met(source, clock::now().clock) {
            self.found
                .insert((source, HoldCause::Locked), String::new());
        }
    }
}

/// Notes a fault of a table and its reason, unless it is known.
pub fn find_once(source: SourceId, cause: HoldCause, why: impl FnOnce() -> String) {
    if !holds::is_held(source, cause) {
        TROUBLE.with_borrow_mut(|trouble| {
            let found = &mut trouble.found;
            found.entry((source, cause)).or_insert_with(why);
        });
    }
}

/// Notes that a table cannot be read.
pub fn find(source: SourceId, cause: HoldCause, why: String) {
    TROUBLE.with_borrow_mut(|trouble| trouble.found.insert((source, cause), why));
}

/// Returns whether a table turned out to be gone since the last call.
pub fn is_outdated() -> bool {
    TROUBLE.with_borrow_mut(|trouble| std::mem::take(&mut trouble.outdated))
}

/// Returns whether a fault was found that is to be held.
pub fn any() -> bool {
    TROUBLE.with_borrow(|trouble| !trouble.found.is_empty())
}

/// Holds the tables that cannot be read. Call it in a transaction of the worker's.
pub fn hold_what_was_found() -> SpiResult<()> {
    let found = TROUBLE.with_borrow_mut(|trouble| std::mem::take(&mut trouble.found));
    for ((source, cause), why) in found {
        match cause {
            HoldCause::Locked => hold_locked(source)?,
            _ => holds::hold(source, cause, &why)?,
        }
    }
    Ok(())
}

// Waiting for such a lock would hold up everybody who asks for one after us.
const LOCKED_BY: &str = "\
    SELECT format('%s %s %s on %s', coalesce(format('process %s', l.pid) || coalesce(' of ' || a.usename, ''), 'a prepared transaction'), \
                  CASE WHEN l.granted THEN 'holds' ELSE 'waits for' END, l.mode, l.relation::regclass) \
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() \
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
      AND EXISTS (SELECT FROM integration.tracked_table t WHERE t.id = $1 \
                  AND (l.relation IN (t.source, t.payload) OR l.relation IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(t.source) p))) \
    ORDER BY l.granted DESC, l.waitstart, l.pid LIMIT 1";

/// Holds a table that has been locked for long, and names who locks it. Call it in a transaction of
/// the worker's.
pub fn hold_locked(source: SourceId) -> SpiResult<()> {
    let by = select(LOCKED_BY, &[source.0.into()], |row| row.get::<String>(1))?;
    let by = by.into_iter().flatten().next();
    let by = by.unwrap_or_else(|| "somebody holds it on what its payload view reads".to_owned());
    let why = format!(
        "a lock has kept the table from being read for more than {} minutes: {by}",
        LONG.as_secs() / 60
    );
    holds::hold(source, HoldCause::Locked, &why)
}

/// Releases a table that is not locked any more.
pub fn free(source: SourceId) {
    TROUBLE.with_borrow_mut(|trouble| trouble.well(source));
}

/// Returns the tables that are left alone for a moment because somebody has locked them.
pub fn locked() -> Vec<SourceId> {
    TROUBLE.with_borrow(|trouble| trouble.locked.resting().collect())
}

/// Returns a number that changes whenever that set does.
pub fn generation() -> u64 {
    TROUBLE.with_borrow(|trouble| trouble.generation)
}

/// Lets locked tables be tried again whose rest is over. `now` is in monotonic microseconds.
pub fn look_again(now: u64) {
    TROUBLE.with_borrow_mut(|trouble| {
        if trouble.locked.look_again(now) {
            trouble.generation += 1;
        }
    });
}

/// Returns how long it is until then.
pub fn next_look(now: u64) -> Option<Duration> {
    TROUBLE.with_borrow(|trouble| {
        let next = trouble.locked.next_look()?;
        Some(Duration::from_micros(next.saturating_sub(now)))
    })
}
