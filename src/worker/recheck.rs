//! Tables that cannot be read are tried again by themselves, now and then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use integration_engine::record::SourceId;
use pgrx::spi::SpiResult;

use super::Worker;
use crate::pg::fence::Refusal;
use crate::store::holds::Cause;
use crate::store::{self, holds, trouble};

/// Between attempts: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The same of what takes all the time it may, and holds up everybody meanwhile.
const FIRST_REST: Duration = Duration::from_secs(5 * 60);
const LONGEST_REST: Duration = Duration::from_secs(60 * 60);

/// The same of a lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

struct Attempt {
    at: Instant,
    wait: Duration,
}

/// When each held table is tried again.
#[derive(Default)]
pub struct Rechecks {
    generation: u64,
    attempts: BTreeMap<(SourceId, Cause), Attempt>,
    /// The configuration has been read again: what was wrong may have been put right.
    at_once: bool,
}

impl Rechecks {
    /// Somebody changed the configuration.
    pub fn hurry(&mut self) {
        self.at_once = true;
    }

    /// How long until something is to be tried.
    pub fn next_look(&self, now: Instant) -> Option<Duration> {
        let next = self.attempts.values().map(|attempt| attempt.at).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Takes note of what is held.
    fn follow(&mut self, now: Instant) {
        if self.generation != holds::generation() {
            self.generation = holds::generation();
            let tried = holds::tried();
            self.attempts.retain(|key, _| tried.contains(key));
            for key in tried {
                let wait = first_wait(key.1);
                let first = || Attempt {
                    at: now + wait,
                    wait,
                };
                self.attempts.entry(key).or_insert_with(first);
            }
        }
        if std::mem::take(&mut self.at_once) {
            for ((_, cause), attempt) in &mut self.attempts {
                if *cause != Cause::Timeout {
                    attempt.at = now;
                }
            }
        }
    }

    fn due(&mut self, now: Instant) -> Vec<(SourceId, Cause)> {
        let due = self
            .attempts
            .iter_mut()
            .filter(|(_, attempt)| attempt.at <= now);
        due.map(|((source, cause), attempt)| {
            attempt.wait = (attempt.wait * 2).min(longest_wait(*cause));
            attempt.at = now + attempt.wait;
            (*source, *cause)
        })
        .collect()
    }
}

fn first_wait(cause: Cause) -> Duration {
    match cause {
        Cause::Timeout => FIRST_REST,
        Cause::Locked => LOCK_WAIT,
        _ => FIRST_WAIT,
    }
}

fn longest_wait(cause: Cause) -> Duration {
    match cause {
        Cause::Timeout => LONGEST_REST,
        Cause::Locked => LOCK_WAIT,
        _ => LONGEST_WAIT,
    }
}

impl Worker {
    /// Holds what turned out to be unreadable, and releases what can be read again.
    pub(super) fn recheck(&mut self) -> SpiResult<()> {
        let now = self.world.now.instant;
        trouble::look_again(self.world.now.clock);
        if trouble::any() {
            store::transaction(trouble::hold_what_was_found)?;
        }
        self.rechecks.follow(now);
        for (id, cause) in self.rechecks.due(now) {
            let Some(source) = self.world.sources.get(&id) else {
                continue;
            };
            store::transaction(|| match source.probe() {
                Err(Refusal::Busy) if cause == Cause::Locked => trouble::hold_locked(id),
                Err(Refusal::Busy) => Ok(()),
                // Of anything else that is wrong with it, whoever reads it takes note.
                Ok(()) | Err(_) if cause == Cause::Locked => {
                    trouble::free(id);
                    holds::release(id, cause)
                }
                Ok(()) => holds::release(id, cause),
                Err(refusal) => holds::hold(id, None, cause, &refusal.into_error().to_string()),
            })?;
        }
        Ok(())
    }

    /// An earlier worker had to be ended, for it could not be got out of a table's code otherwise.
    pub(super) fn hold_culprit(&self) -> SpiResult<()> {
        let Some(table) = self.world.slot.and_then(|slot| slot.take_culprit()) else {
            return Ok(());
        };
        let mut sources = self.world.sources.values();
        match sources.find(|source| source.oid == table) {
            Some(source) => holds::hold(
                source.id,
                None,
                Cause::Timeout,
                &Refusal::TimedOut.into_error().to_string(),
            ),
            None => Ok(()),
        }
    }
}
