//! Waiting for a condition, with a deadline and a description: the only place that sleeps.

use std::{
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer. Panics with the description when the time is up.
#[track_caller]
pub fn wait_until<T>(
    description: &str,
    timeout: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    match try_until(timeout, &mut ask) {
        Some(answer) => answer,
        None => panic!("waited {timeout:?} in vain until {description}"),
    }
}

/// Like [`wait_until`], for callers that can say more about what is wrong.
pub fn try_until<T>(timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// The condition must hold now and for all of `period`.
#[track_caller]
pub fn holds_for(description: &str, period: Duration, mut holds: impl FnMut() -> bool) {
    let broken = try_until(period, || (!holds()).then_some(()));
    assert!(
        broken.is_none(),
        "for {period:?} it had to hold that {description}"
    );
}
