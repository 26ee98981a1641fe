//! Deletes what has been kept long enough, while there is traffic.

use std::time::{Duration, Instant};

use pgrx::spi::SpiResult;

use crate::store::{self, jobs::erasures, state};
use crate::worker::task::{Task, Turn};

/// Between times.
const PAUSE: Duration = Duration::from_secs(10 * 60);

/// See the module's documentation.
#[derive(Default)]
pub struct Tidy {
    /// `None`: not by this worker, and the one before may have been away for long.
    last: Option<Instant>,
    /// How many answers had come by then.
    answers: u64,
}

impl Tidy {
    /// How long until it is time; `None`: nothing was logged since.
    fn due_in(&self, answers: u64, now: Instant) -> Option<Duration> {
        let wait = self.last.map_or(Duration::ZERO, |last| {
            (last + PAUSE).saturating_duration_since(now)
        });
        (answers > self.answers).then_some(wait)
    }
}

impl Task for Tidy {
    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let answers = turn.requests.answers();
        if self.due_in(answers, turn.now()) != Some(Duration::ZERO) {
            return Ok(());
        }
        (self.last, self.answers) = (Some(turn.now()), answers);
        let settings = &turn.context.settings;
        store::transaction(|| {
            state::tidy(settings.request_log_retention, settings.inbox_retention)?;
            erasures::tidy()?;
            state::tidy_people(settings.activity_retention, settings.consent_log_retention)
        })
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        self.due_in(turn.requests.answers(), turn.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        crate::pg::clock::now().instant
    }

    #[test]
    fn first_answer_is_reason_enough() {
        let tidy = Tidy::default();
        assert_eq!(tidy.due_in(0, now()), None);
        assert_eq!(tidy.due_in(1, now()), Some(Duration::ZERO));
    }

    #[test]
    fn without_traffic_nothing_is_tidied_again() {
        let now = now();
        let tidy = Tidy {
            last: Some(now),
            answers: 5,
        };
        assert_eq!(tidy.due_in(5, now + 3 * PAUSE), None);
    }

    #[test]
    fn traffic_is_tidied_after_a_pause() {
        let now = now();
        let tidy = Tidy {
            last: Some(now),
            answers: 5,
        };
        assert_eq!(tidy.due_in(6, now), Some(PAUSE));
        assert_eq!(tidy.due_in(6, now + PAUSE / 2), Some(PAUSE / 2));
        assert_eq!(tidy.due_in(6, now + 2 * PAUSE), Some(Duration::ZERO));
    }
}
