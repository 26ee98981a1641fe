//! Waiting for a condition, with a deadline and a description: the only place that sleeps.

use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant, SystemTime},
};

thread_local! {
    static LATER: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A time that comes after all that a test does, as Mailchimp writes it: two minutes from when the
/// test first asked, and so many seconds. What is dated further into the future is taken to have
/// happened when it came in.
pub fn later(seconds: u64) -> String {
    let begun = LATER.get().unwrap_or_else(|| {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 120;
        LATER.set(Some(now));
        now
    });
    let time = begun + seconds;
    let (mut days, rest) = (time / 86_400, time % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let (month, day) = (month + 1, days + 1);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

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
