//! When a poll begins.

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn first_poll_begins_at_once() {
    assert_eq!(left(HOUR, None, Timestamp(5)), Duration::ZERO);
}

#[test]
fn next_poll_begins_an_interval_after_the_last_one() {
    let begun = Timestamp(1_000);
    let cases = [
        (1_000, HOUR),
        (1_801_000, HOUR / 2),
        (3_601_000, Duration::ZERO),
        (9_000_000, Duration::ZERO),
    ];
    for (now, expected) in cases {
        assert_eq!(left(HOUR, Some(begun), Timestamp(now)), expected, "{now}");
    }
}

#[test]
fn clock_that_was_put_back_keeps_nothing_from_beginning() {
    assert_eq!(left(HOUR, Some(Timestamp(9)), Timestamp(1)), Duration::ZERO);
}
