//! Tables that cannot be read are tried again by themselves, now and then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use integration_engine::record::SourceId;
use pgrx::spi::SpiResult;

use crate::pg::fence::Refusal;
use crate::store::holds::HoldCause;
use crate::store::{self, crm::trouble, holds};
use crate::worker::task::{Task, Turn};

/// Between attempts: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The same of what takes all the time it may, and holds up everybody meanwhile.
const FIRST_REST: Duration = Duration::from_secs(5 * 60);
const LONGEST_REST: Duration = Duration::from_secs(60 * 60);

/// The same of a lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

struct NextCheck {
    at: Instant,
    wait: Duration,
}

/// When each held table is tried again.
#[derive(Default)]
pub struct Recheck {
    generation: u64,
    attempts: BTreeMap<(SourceId, HoldCause), NextCheck>,
    /// The configuration has been read again: what was wrong may have been put right.
    at_once: bool,
}

impl Recheck {
    /// How long until something is to be tried.
    fn due_in(&self, now: Instant) -> Option<Duration> {
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
                let first = || NextCheck {
                    at: now + wait,
                    wait,
                };
                self.attempts.entry(key).or_insert_with(first);
            }
        }
        if std::mem::take(&mut self.at_once) {
            for ((_, cause), attempt) in &mut self.attempts {
                if *cause != HoldCause::Timeout {
                    attempt.at = now;
                }
            }
        }
    }

    fn due(&mut self, now: Instant) -> Vec<(SourceId, HoldCause)> {
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

fn first_wait(cause: HoldCause) -> Duration {
    match cause {
        HoldCause::Timeout => FIRST_REST,
        HoldCause::Locked => LOCK_WAIT,
        _ => FIRST_WAIT,
    }
}

fn longest_wait(cause: HoldCause) -> Duration {
    match cause {
        HoldCause::Timeout => LONGEST_REST,
        HoldCause::Locked => LOCK_WAIT,
        _ => LONGEST_WAIT,
    }
}

impl Task for Recheck {
    fn load(&mut self, _turn: &mut Turn) -> SpiResult<()> {
        self.at_once = true;
        Ok(())
    }

    /// Holds what turned out to be unreadable, and releases what can be read again.
    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let now = turn.now();
        trouble::look_again(turn.context.now.clock);
        if trouble::any() {
            store::transaction(trouble::hold_what_was_found)?;
        }
        self.follow(now);
        for (id, cause) in self.due(now) {
            let Some(source) = turn.context.sources.get(&id) else {
                continue;
            };
            store::transaction(|| match source.probe() {
                Err(Refusal::Busy) if cause == HoldCause::Locked => trouble::hold_locked(id),
                Err(Refusal::Busy) => Ok(()),
                // Of anything else that is wrong with it, whoever reads it takes note.
                Ok(()) | Err(_) if cause == HoldCause::Locked => {
                    trouble::free(id);
                    holds::release(id, cause)
                }
                Ok(()) => holds::release(id, cause),
                Err(refusal) => holds::hold(id, cause, &refusal.into_error().to_string()),
            })?;
        }
        Ok(())
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        let locked = trouble::next_look(turn.context.now.clock);
        locked.into_iter().chain(self.due_in(turn.now())).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(cause: HoldCause, now: Instant) -> Recheck {
        let wait = first_wait(cause);
        let attempt = NextCheck {
            at: now + wait,
            wait,
        };
        Recheck {
            attempts: BTreeMap::from([((SourceId(1), cause), attempt)]),
            ..Recheck::default()
        }
    }

    fn now() -> Instant {
        crate::pg::clock::now().instant
    }

    #[test]
    fn nothing_held_needs_no_look() {
        assert_eq!(Recheck::default().due_in(now()), None);
    }

    #[test]
    fn held_table_is_tried_less_and_less_often() {
        let mut now = now();
        let mut task = held(HoldCause::Unreadable, now);
        for wait in [2, 4, 8, 16, 32, 60, 60] {
            assert!(task.due(now).is_empty());
            assert_eq!(task.due_in(now), Some(Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
            assert_eq!(task.due(now), [(SourceId(1), HoldCause::Unreadable)]);
        }
    }

    #[test]
    fn table_that_took_all_its_time_rests_longer() {
        let now = now();
        let mut task = held(HoldCause::Timeout, now);
        assert!(task.due(now + LONGEST_WAIT).is_empty());
        assert_eq!(task.due(now + FIRST_REST).len(), 1);
    }

    #[test]
    fn locked_table_is_tried_every_second() {
        let mut now = now();
        let mut task = held(HoldCause::Locked, now);
        for _ in 0..5 {
            now += LOCK_WAIT;
            assert_eq!(task.due(now).len(), 1);
        }
    }
}
