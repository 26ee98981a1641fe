//! Notices that a target fails as a whole, so that its records are not blamed for it.

use std::time::Duration;

use crate::limits::retry::{Policy, next_delay};

/// Whether calls are made. Times are microseconds of a monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All is well.
    Closed,
    /// Failing: no call before `until`.
    Open { until: u64 },
    /// One call is under way to see whether it works again.
    HalfOpen,
}

/// Opens after a number of failing calls in a row, then lets single probes through with back-off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    threshold: u32,
    backoff: Policy,
    state: BreakerState,
    /// Failing calls since the last success.
    failures: u32,
    /// Failed probes since it opened.
    probes: u32,
    /// A probe of which nothing was heard by then is taken for lost.
    probe_deadline: u64,
}

impl Breaker {
    /// Opens after `threshold` failures in a row (at least one), and then waits from `base` up to
    /// `max` between probes.
    pub fn new(threshold: u32, base: Duration, max: Duration) -> Breaker {
        Breaker {
            threshold: threshold.max(1),
            backoff: Policy {
                base,
                max,
                max_attempts: u32::MAX,
            },
            state: BreakerState::Closed,
            failures: 0,
            probes: 0,
            probe_deadline: 0,
        }
    }

    pub const fn state(&self) -> BreakerState {
        self.state
    }

    pub fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    /// May a call be made at `now`? `Err` says how long to wait before asking again. While half
    /// open, exactly one call is let through.
    pub fn permit(&mut self, now: u64) -> Result<(), Duration> {
        let free_at = match self.state {
            BreakerState::Closed => return Ok(()),
            BreakerState::Open { until } => until,
            BreakerState::HalfOpen => self.probe_deadline,
        };
        if now < free_at {
            return Err(Duration::from_micros(free_at - now));
        }
        self.state = BreakerState::HalfOpen;
        self.probe_deadline = now.saturating_add(micros(self.backoff.max));
        Ok(())
    }

    /// A call came back as it should.
    pub fn success(&mut self) {
        self.state = BreakerState::Closed;
        self.failures = 0;
        self.probes = 0;
    }

    /// A call failed in a way that is not its records' fault. `jitter` in `[0, 1)` spreads probes.
    pub fn failure(&mut self, now: u64, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            BreakerState::Closed if self.failures < self.threshold => {}
            // A straggler from before it opened says nothing new.
            BreakerState::Open { .. } => {}
            BreakerState::Closed | BreakerState::HalfOpen => {
                self.probes = self.probes.saturating_add(1);
                // Half of the delay is fixed: full jitter could probe at once, again and again.
                let delay = next_delay(self.probes, &self.backoff, 0.5 + jitter / 2.0);
                self.state = BreakerState::Open {
                    until: now.saturating_add(micros(delay)),
                };
            }
        }
    }
}

/// Microseconds of the monotonic clock that times are counted by.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn breaker() -> Breaker {
        Breaker::new(3, Duration::from_secs(2), Duration::from_secs(60))
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut breaker = breaker();
        for _ in 0..10 {
            breaker.failure(0, 0.0);
            breaker.failure(0, 0.0);
            breaker.success();
        }
        assert!(breaker.is_closed());
        for _ in 0..3 {
            breaker.failure(5 * SECOND, 0.0);
        }
        assert_eq!(breaker.state(), BreakerState::Open { until: 6 * SECOND });
    }

    #[test]
    fn one_probe_at_a_time_with_growing_pauses() {
        let mut breaker = breaker();
        for _ in 0..3 {
            breaker.failure(0, 0.0);
        }
        assert_eq!(breaker.permit(0), Err(Duration::from_secs(1)));
        assert_eq!(breaker.permit(SECOND), Ok(()));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.permit(SECOND).is_err(), "a second probe");
        breaker.failure(SECOND, 0.0);
        assert_eq!(breaker.state(), BreakerState::Open { until: 3 * SECOND });
        assert_eq!(breaker.permit(3 * SECOND), Ok(()));
        breaker.failure(3 * SECOND, 0.0);
        assert_eq!(breaker.state(), BreakerState::Open { until: 7 * SECOND });
        assert_eq!(breaker.permit(7 * SECOND), Ok(()));
        breaker.success();
        assert_eq!(breaker.permit(7 * SECOND), Ok(()));
        assert!(breaker.is_closed());
    }

    #[test]
    fn stragglers_do_not_lengthen_the_pause_and_a_late_success_ends_it() {
        let mut breaker = breaker();
        for _ in 0..50 {
            breaker.failure(0, 0.0);
        }
        assert_eq!(breaker.state(), BreakerState::Open { until: SECOND });
        breaker.success();
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_lost_probe_is_replaced() {
        let mut breaker = breaker();
        for _ in 0..3 {
            breaker.failure(0, 0.0);
        }
        assert_eq!(breaker.permit(SECOND), Ok(()));
        assert_eq!(breaker.permit(60 * SECOND), Err(Duration::from_secs(1)));
        assert_eq!(breaker.permit(61 * SECOND), Ok(()));
    }
}
