//! What the worker met when it read or wrote CRM tables: locks that pass, and what keeps a table
//! from being read at all.
//!
//! Only in the worker's memory: a lock is looked at again in a moment, and everything else becomes
//! a hold as soon as there is a transaction to write it in.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use integration_engine::record::SourceId;
use pgrx::spi::SpiResult;

use super::holds::{self, Cause};
use crate::pg::fence::{Access, Refusal};
use crate::pg::shmem;

/// How long a locked table is left alone: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

struct Locked {
    /// Unknown until somebody who knows the time has looked.
    until: Option<Instant>,
    wait: Duration,
    /// The time is not over yet.
    rests: bool,
}

impl Locked {
    /// Until when it is left alone: it was found locked just now, unless that is known.
    fn until(&mut self, now: Instant) -> Instant {
        *self.until.get_or_insert(now + self.wait)
    }
}

#[derive(Default)]
struct Trouble {
    /// Goes up with every change of which tables rest.
    generation: u64,
    locked: BTreeMap<SourceId, Locked>,
    /// A table is gone: the configuration has to be read again.
    outdated: bool,
    /// What is to be held.
    found: BTreeMap<(SourceId, Cause), String>,
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
fn cause(refusal: &Refusal, access: Access) -> Option<Cause> {
    match refusal {
        Refusal::Busy | Refusal::Gone => None,
        Refusal::Hidden(_) => Some(Cause::RowSecurity),
        Refusal::TimedOut => Some(Cause::Timeout),
        // A trigger that lacks a right, or a column that is gone, keeps nobody from reading.
        Refusal::Failed(error) => {
            (access != Access::Write && error.is_about_the_table()).then_some(Cause::Unreadable)
        }
    }
}

impl Trouble {
    fn well(&mut self, source: SourceId) {
        if !self.locked.is_empty() && self.locked.remove(&source).is_some_and(|was| was.rests) {
            self.generation += 1;
        }
    }

    fn locked(&mut self, source: SourceId) {
        let wait = self
            .locked
            .get(&source)
            .map_or(FIRST_WAIT, |before| (before.wait * 2).min(LONGEST_WAIT));
        let locked = Locked {
            until: None,
            wait,
            rests: true,
        };
        self.locked.insert(source, locked);
        self.generation += 1;
    }
}

/// A table cannot be read, as those found out that read it.
pub fn find(source: SourceId, cause: Cause, why: String) {
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
        holds::hold(source, None, cause, &why)?;
    }
    Ok(())
}

/// The tables that are left alone for a moment, because somebody holds a lock on them.
pub fn locked() -> Vec<SourceId> {
    TROUBLE.with_borrow(|trouble| {
        let resting = trouble.locked.iter().filter(|(_, locked)| locked.rests);
        resting.map(|(source, _)| *source).collect()
    })
}

/// Returns a number that is another one whenever the former changes.
pub fn generation() -> u64 {
    TROUBLE.with_borrow(|trouble| trouble.generation)
}

/// Locked tables whose time is over are tried again.
pub fn look_again(now: Instant) {
    TROUBLE.with_borrow_mut(|trouble| {
        for locked in trouble.locked.values_mut() {
            if locked.rests && locked.until(now) <= now {
                locked.rests = false;
                trouble.generation += 1;
            }
        }
    });
}

/// How long until that is to be done.
pub fn next_look(now: Instant) -> Option<Duration> {
    TROUBLE.with_borrow_mut(|trouble| {
        let resting = trouble.locked.values_mut().filter(|locked| locked.rests);
        let next = resting.map(|locked| locked.until(now)).min()?;
        Some(next.saturating_duration_since(now))
    })
}
