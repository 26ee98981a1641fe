//! What it means that PostgreSQL refused to apply an event to the CRM, by SQLSTATE, and when to try
//! again.
//!
//! Only what is about the value itself (a constraint, a type, a trigger that raises) is given up on.
//! Everything else passes, sooner or later, and is tried until it does.

use std::time::Duration;

use crate::limits::retry::{self, Policy};

/// Why a statement was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCause {
    /// Somebody else's transaction is in the way.
    Busy,
    /// The server, the table's definition or its rights do not allow it at present.
    Passing,
    /// The CRM does not take this value.
    Value,
}

/// Classes of SQLSTATEs that say nothing about the value: connection, transaction state, resources,
/// prerequisites, intervention, system, configuration, foreign servers, internal errors, and the
/// definitions of tables and rights (class 42).
const PASSING: [&str; 19] = [
    "08", "0B", "24", "25", "26", "28", "2D", "34", "3B", "3D", "3F", "42", "53", "55", "57", "58",
    "72", "F0", "HV",
];

/// Of class 42: the column does not take what has this type, or nothing at all.
const ABOUT_THE_VALUE: [&str; 5] = ["42804", "42846", "428C9", "42P21", "42P22"];

impl RefusalCause {
    /// Judges by the five characters of a SQLSTATE. An unknown class is one that a trigger made up.
    pub fn of(sqlstate: &str) -> RefusalCause {
        if matches!(sqlstate, "55P03" | "55006" | "40001" | "40P01") {
            return RefusalCause::Busy;
        }
        let class = sqlstate.get(..2).unwrap_or_default();
        let passing = PASSING.contains(&class) || matches!(class, "40" | "XX");
        match passing && !ABOUT_THE_VALUE.contains(&sqlstate) {
            true => RefusalCause::Passing,
            false => RefusalCause::Value,
        }
    }

    /// How patient to be.
    const fn policy(self) -> Policy {
        let (base, max, max_attempts) = match self {
            RefusalCause::Busy => (
                Duration::from_millis(200),
                Duration::from_secs(10),
                u32::MAX,
            ),
            RefusalCause::Passing => (Duration::from_secs(1), Duration::from_secs(300), u32::MAX),
            RefusalCause::Value => (Duration::from_millis(500), Duration::from_secs(10), 5),
        };
        Policy {
            base,
            max,
            max_attempts,
        }
    }

    /// How long to wait after attempt number `attempt` (1 is the first); `None`: it has failed.
    /// Half of the delay is fixed, `jitter` in `[0, 1)` spreads the rest.
    pub fn next_attempt(self, attempt: u32, jitter: f64) -> Option<Duration> {
        let policy = self.policy();
        (attempt < policy.max_attempts)
            .then(|| retry::next_delay(attempt, &policy, 0.5 + jitter / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sqlstate_tells_a_lock_from_a_state_and_from_a_value() {
        use RefusalCause::{Busy, Passing, Value};
        let cases = [
            // Locks, serialization, deadlocks.
            ("55P03", Busy),
            ("40001", Busy),
            ("40P01", Busy),
            ("55006", Busy),
            // Cancelled, shut down, read-only, out of resources, disks, foreign servers.
            ("57014", Passing),
            ("57P01", Passing),
            ("57P03", Passing),
            ("25006", Passing),
            ("25P03", Passing),
            ("53100", Passing),
            ("53200", Passing),
            ("53300", Passing),
            ("08006", Passing),
            ("58030", Passing),
            ("55000", Passing),
            ("HV000", Passing),
            ("XX000", Passing),
            ("40002", Passing),
            // A right, a table or a column that is missing can be put right.
            ("42501", Passing),
            ("42P01", Passing),
            ("42703", Passing),
            ("3F000", Passing),
            // The value.
            ("22001", Value),
            ("22003", Value),
            ("22P02", Value),
            ("22P05", Value),
            ("23502", Value),
            ("23503", Value),
            ("23505", Value),
            ("23514", Value),
            ("23P01", Value),
            ("44000", Value),
            ("27000", Value),
            ("21000", Value),
            ("54000", Value),
            ("0A000", Value),
            ("42804", Value),
            ("428C9", Value),
            ("09000", Value),
            ("38000", Value),
            ("39P01", Value),
            ("2F005", Value),
            ("20000", Value),
            // Triggers that raise, with codes of their own, too.
            ("P0001", Value),
            ("P0004", Value),
            ("CRM01", Value),
            ("", Value),
        ];
        for (sqlstate, expected) in cases {
            assert_eq!(RefusalCause::of(sqlstate), expected, "{sqlstate}");
        }
    }

    #[test]
    fn value_is_given_up_on_and_a_lock_never_is() {
        assert!(RefusalCause::Value.next_attempt(4, 0.5).is_some());
        assert_eq!(RefusalCause::Value.next_attempt(5, 0.5), None);
        for refusal in [RefusalCause::Busy, RefusalCause::Passing] {
            assert!(refusal.next_attempt(100_000, 0.5).is_some());
        }
    }

    proptest! {
        // Soon at first, never in a rush, and never so late that nobody would wait for it.
        #[test]
        fn delays_grow_and_are_bounded(attempt in 1u32..1_000_000, jitter in 0.0f64..1.0) {
            for (refusal, base, max) in [(RefusalCause::Busy, 200, 10_000), (RefusalCause::Passing, 1_000, 300_000)] {
                let delay = refusal.next_attempt(attempt, jitter).unwrap();
                prop_assert!(delay >= Duration::from_millis(base / 2));
                prop_assert!(delay <= Duration::from_millis(max));
                let next = refusal.next_attempt(attempt + 1, jitter).unwrap();
                prop_assert!(next >= delay);
            }
        }
    }
}
