//! Whether a worker that is at something is busy with it, or stuck.

use std::time::Duration;

/// What is this quick is nobody's business.
const QUICK: Duration = Duration::from_secs(5);

/// However short the limit is, nobody is told sooner that it is not kept.
const NOTICED: Duration = Duration::from_secs(1);

/// What people are told of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing.
    Steady,
    /// It has been at one thing for a while.
    Busy,
    /// It has been at one thing for much longer than that may take: nothing ended it.
    Stuck,
}

/// Judges by how long the worker has been at one thing, and how long that may take.
pub fn pulse(lasts: Duration, may_take: Duration) -> Pulse {
    if lasts >= may_take.saturating_mul(2).max(NOTICED) {
        Pulse::Stuck
    } else if lasts >= QUICK {
        Pulse::Busy
    } else {
        Pulse::Steady
    }
}

/// Returns a time as people read it.
pub fn told(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_not_stuck() {
        let cases = [
            (0, 30_000, Pulse::Steady),
            (4_999, 30_000, Pulse::Steady),
            (5_000, 30_000, Pulse::Busy),
            (59_999, 30_000, Pulse::Busy),
            (60_000, 30_000, Pulse::Stuck),
            (600_000, 3_600_000, Pulse::Busy),
            (1_999, 1_000, Pulse::Steady),
            (2_000, 1_000, Pulse::Stuck),
            (999, 300, Pulse::Steady),
            (1_000, 300, Pulse::Stuck),
        ];
        for (lasts, may_take, expected) in cases {
            let judged = pulse(
                Duration::from_millis(lasts),
                Duration::from_millis(may_take),
            );
            assert_eq!(judged, expected, "{lasts} ms of {may_take}");
        }
    }

    #[test]
    fn times_are_told_in_one_unit() {
        for (seconds, text) in [
            (7, "7 s"),
            (119, "119 s"),
            (120, "2 min"),
            (3_599, "59 min"),
        ] {
            assert_eq!(told(Duration::from_secs(seconds)), text);
        }
    }
}
