//! When to try again: exponential back-off with full jitter.

use std::time::Duration;

use crate::record::{Lane, Op, RecordRef, Timestamp, once::Keyed};

/// A change that waits for another attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub record: RecordRef,
    pub op: Op,
    /// That of opt-outs, which they keep, or that of retries.
    pub lane: Lane,
    pub attempts: u32,
    pub wait_ms: i64,
    pub why: String,
    pub enqueued_at: Timestamp,
}

impl Keyed for Retry {
    type Key = RecordRef;

    fn key(&self) -> RecordRef {
        self.record.clone()
    }

    /// The longest wait counts, and its reason: it may be the service that asked for it. No attempt
    /// is forgotten, and an opt-out stays one.
    fn merge(&mut self, later: Retry) {
        if later.wait_ms >= self.wait_ms {
            (self.wait_ms, self.why) = (later.wait_ms, later.why);
        }
        self.op = later.op;
        self.lane = self.lane.min(later.lane);
        self.attempts = self.attempts.max(later.attempts);
        self.enqueued_at = self.enqueued_at.min(later.enqueued_at);
    }
}

/// How patient to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Upper bound of the first delay; it doubles with every attempt.
    pub base: Duration,
    /// No delay is longer, unless the service itself asks for more.
    pub max: Duration,
    /// After so many counted attempts a change is given up on.
    pub max_attempts: u32,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Try again after this time, with so many attempts counted.
    RetryIn(Duration, u32),
    /// Give up.
    Exhausted,
}

/// Returns the wait after one more failure, when so many in a row came before: it doubles from
/// `first` up to `longest`.
pub fn backoff(failures_before: u32, first: Duration, longest: Duration) -> Duration {
    let factor = 2u32.saturating_pow(failures_before.min(31));
    first.saturating_mul(factor).min(longest)
}

/// The delay after attempt number `attempt` (1 is the first): evenly spread over
/// `0 … min(max, base · 2^(attempt−1))` by `jitter` in `[0, 1)`, so that what failed together does
/// not come back together.
pub fn next_delay(attempt: u32, policy: &Policy, jitter: f64) -> Duration {
    let bound = backoff(attempt.saturating_sub(1), policy.base, policy.max);
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        1.0
    };
    // Rounding may exceed the bound by a little.
    bound.mul_f64(jitter).min(bound)
}

/// What puts a record off for so long is tried a few times only: nobody would look for it weeks later.
const LONG: Duration = Duration::from_hours(24);
const FEW: u32 = 3;

/// What to do after a failure. `wait` is what the service asked for; it is never cut short. An
/// attempt that is not `counted` (the target as a whole is failing) never exhausts a change.
pub fn after_failure(
    attempts_before: u32,
    counted: bool,
    wait: Option<Duration>,
    policy: &Policy,
    jitter: f64,
) -> AfterFailure {
    let attempts = if counted {
        attempts_before.saturating_add(1)
    } else {
        attempts_before
    };
    let most = match wait {
        Some(wait) if wait >= LONG => policy.max_attempts.min(FEW),
        _ => policy.max_attempts,
    };
    if counted && attempts >= most {
        return AfterFailure::Exhausted;
    }
    let delay = next_delay(attempts.max(1), policy, jitter);
    let delay = match wait {
        // Spread over a tenth more: all that waited would otherwise come back at once.
        Some(wait) => wait.saturating_add(delay.min(wait / 10)),
        None => delay,
    };
    AfterFailure::RetryIn(delay, attempts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy {
        base: Duration::from_secs(1),
        max: Duration::from_secs(900),
        max_attempts: 12,
    };

    #[test]
    fn waits_double_up_to_the_longest() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        let seconds = |failures| backoff(failures, first, longest).as_secs();
        let cases = [(0, 1), (1, 2), (5, 32), (6, 60), (31, 60), (u32::MAX, 60)];
        for (failures, expected) in cases {
            assert_eq!(seconds(failures), expected, "{failures}");
        }
    }

    #[test]
    fn delays_double_up_to_the_maximum() {
        let seconds = |attempt| next_delay(attempt, &POLICY, 1.0).as_secs();
        let cases = [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 4),
            (10, 512),
            (11, 900),
            (u32::MAX, 900),
        ];
        for (attempt, expected) in cases {
            assert_eq!(seconds(attempt), expected, "attempt {attempt}");
        }
        assert_eq!(next_delay(5, &POLICY, 0.0), Duration::ZERO);
        assert_eq!(next_delay(1, &POLICY, 0.5), Duration::from_millis(500));
    }

    #[test]
    fn failures_are_counted_until_exhausted() {
        let second = Duration::from_secs(1);
        let cases = [
            (0, true, None, AfterFailure::RetryIn(second, 1)),
            (
                10,
                true,
                None,
                AfterFailure::RetryIn(Duration::from_secs(900), 11),
            ),
            (11, true, None, AfterFailure::Exhausted),
            (u32::MAX, true, None, AfterFailure::Exhausted),
            (
                11,
                false,
                None,
                AfterFailure::RetryIn(Duration::from_secs(900), 11),
            ),
            (0, false, None, AfterFailure::RetryIn(second, 0)),
            (
                0,
                false,
                Some(100 * second),
                AfterFailure::RetryIn(101 * second, 0),
            ),
            (
                1,
                true,
                Some(LONG),
                AfterFailure::RetryIn(LONG + 2 * second, 2),
            ),
            (2, true, Some(LONG), AfterFailure::Exhausted),
            (
                2,
                true,
                Some(LONG / 2),
                AfterFailure::RetryIn(LONG / 2 + 4 * second, 3),
            ),
            (
                2,
                false,
                Some(LONG),
                AfterFailure::RetryIn(LONG + 2 * second, 2),
            ),
            (
                0,
                true,
                Some(Duration::ZERO),
                AfterFailure::RetryIn(Duration::ZERO, 1),
            ),
        ];
        for (before, counted, wait, expected) in cases {
            assert_eq!(
                after_failure(before, counted, wait, &POLICY, 1.0),
                expected,
                "{before}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_bounds(
            attempt in any::<u32>(), jitter in any::<f64>(), base in any::<u64>(), max in any::<u64>(),
        ) {
            let policy = Policy {
                base: Duration::from_micros(base), max: Duration::from_micros(max), max_attempts: 1,
            };
            prop_assert!(next_delay(attempt, &policy, jitter) <= policy.max);
        }
    }
}
