//! What the worker met when it read or wrote CRM tables: locks that pass, and what keeps a table
//! from being read at all.
//!
//! Only in the worker's memory: a lock is looked at again in a moment, and everything else becomes
//! a hold as soon as there is a transaction to write it in.

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
    /// Goes up with every change of which tables rest.
    generation: u64,
    locked: Locks<SourceId>,
    /// A table is gone: the configuration has to be read again.
    outdated: bool,
    /// What is to be held.
    found: BTreeMap<(SourceId, HoldCause), String>,
}

thread_local! {
    static TROUBLE: RefCell<Trouble> = RefCell::default();
}

/// Takes note of what became of an attempt. Nothing in other processes than the worker.
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

/// What is wrong with the table as a whole; `None`: nothing, it is about a row or a value.
fn cause(refusal: &Refusal, access: Access) -> Option<HoldCause> {
    match refusal {
        Refusal::Busy | Refusal::Gone => None,
        Refusal::Hidden(_) => Some(HoldCause::RowSecurity),
        Refusal::TimedOut => Some(HoldCause::Timeout),
        // A trigger that lacks a right, or a column that is gone, keeps nobody from reading.
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

/// Something is wrong with a table; why, unless that has been said.
pub fn find_once(source: SourceId, cause: HoldCause, why: impl FnOnce() -> String) {
    if !holds::is_held(source, cause) {
        TROUBLE.with_borrow_mut(|trouble| {
            let found = &mut trouble.found;
            found.entry((source, cause)).or_insert_with(why);
        });
    }
}

/// A table cannot be read, as those found out that read it.
pub fn find(source: SourceId, cause: HoldCause, why: String) {
    TROUBLE.with_borrow_mut(|trouble| trouble.found.insert((source, cause), why));
}

/// Whether a table turned out to be gone since this was last asked.
pub fn is_outdated() -> bool {
    TROUBLE.with_borrow_mut(|trouble| std::mem::take(&mut trouble.outdated))
}

/// Whether something was found that is to be held.
pub fn any() -> bool {
    TROUBLE.with_borrow(|trouble| !trouble.found.is_empty())
}

/// Holds what cannot be read. In a transaction of the worker's.
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

// Whoever waits for such a lock holds up those that come after it, too.
const LOCKED_BY: &str = "\
    SELECT format('%s %s %s on %s', coalesce(format('process %s', l.pid) || coalesce(' of ' || a.usename, ''), 'a prepared transaction'), \
                  CASE WHEN l.granted THEN 'holds' ELSE 'waits for' END, l.mode, l.relation::regclass) \
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() \
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
      AND EXISTS (SELECT FROM integration.tracked_table t WHERE t.id = $1 \
                  AND (l.relation IN (t.source, t.payload) OR l.relation IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(t.source) p))) \
    ORDER BY l.granted DESC, l.waitstart, l.pid LIMIT 1";

/// Holds a table that has been locked for long, and says who locks it. In a transaction of the
/// worker's.
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

/// A table that was locked for long is not any more.
pub fn free(source: SourceId) {
    TROUBLE.with_borrow_mut(|trouble| trouble.well(source));
}

/// The tables that are left alone for a moment, because somebody holds a lock on them.
pub fn locked() -> Vec<SourceId> {
    TROUBLE.with_borrow(|trouble| trouble.locked.resting().collect())
}

/// Returns a number that is another one whenever the former changes.
pub fn generation() -> u64 {
    TROUBLE.with_borrow(|trouble| trouble.generation)
}

/// Locked tables whose time is over are tried again. `now`: monotonic microseconds.
pub fn look_again(now: u64) {
    TROUBLE.with_borrow_mut(|trouble| {
        if trouble.locked.look_again(now) {
            trouble.generation += 1;
        }
    });
}

/// How long until that is to be done.
pub fn next_look(now: u64) -> Option<Duration> {
    TROUBLE.with_borrow(|trouble| {
        let next = trouble.locked.next_look()?;
        Some(Duration::from_micros(next.saturating_sub(now)))
    })
}
