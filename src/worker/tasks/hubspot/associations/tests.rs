//! When associations are sent, and what holds their calls back.

use integration_engine::limits::rate::Rate;
use integration_engine::now::Now;

use super::*;
use crate::pg::clock;

const SECOND: Duration = Duration::from_secs(1);

fn retry() -> Policy {
    Policy {
        base: SECOND,
        max: 100 * SECOND,
        max_attempts: 3,
    }
}

fn task() -> Associations {
    Associations::new(&retry())
}

fn later(now: Now, by: Duration) -> Now {
    Now {
        instant: now.instant + by,
        clock: now.clock + by.as_secs() * 1_000_000,
        ..now
    }
}

fn owed(count: usize, since: Option<Instant>) -> AssociationsOwed {
    AssociationsOwed { count, since }
}

#[test]
fn nothing_is_owed_before_records_are_settled() {
    let now = clock::now().instant;
    let nothing = owed(0, None);
    assert!(!task().is_time(&nothing, true, now));
    assert_eq!(task().due_in(&nothing, now), None);
}

#[test]
fn company_is_waited_for_while_records_are_on_their_way() {
    let now = clock::now().instant;
    let few = owed(1, Some(now));
    assert!(!task().is_time(&few, false, now));
    assert_eq!(task().due_in(&few, now), Some(COMPANY));
    assert!(task().is_time(&few, false, now + COMPANY));
}

#[test]
fn full_call_or_quiet_records_leave_at_once() {
    let now = clock::now().instant;
    assert!(task().is_time(&owed(1, Some(now)), true, now));
    assert!(task().is_time(&owed(FULL, Some(now)), false, now));
}

#[test]
fn what_failed_is_looked_at_when_its_wait_is_over() {
    let now = clock::now().instant;
    let nothing = owed(0, None);
    let task = Associations {
        next_retry: Some(now + 5 * SECOND),
        ..task()
    };
    assert!(!task.is_time(&nothing, true, now));
    assert_eq!(task.due_in(&nothing, now), Some(5 * SECOND));
    assert!(task.is_time(&nothing, false, now + 5 * SECOND));
}

#[test]
fn budget_of_their_own_holds_calls_back() {
    let now = clock::now();
    let mut limits = Limits::new(&retry());
    limits.configure(Some(Rate {
        limit: 1,
        interval: 10 * SECOND,
    }));
    assert!(limits.permit(now));
    assert!(!limits.permit(now));
    assert!(limits.not_before(now.instant) > now.instant);
    assert!(limits.permit(later(now, 20 * SECOND)));
}

#[test]
fn calls_rest_after_failing_in_a_row() {
    let now = clock::now();
    let mut limits = Limits::new(&retry());
    let failing = TargetSignal::Failing {
        why: "HTTP 503".to_owned(),
    };
    for _ in 0..2 {
        limits.note(&failing, &BudgetReport::default(), now);
    }
    assert!(!limits.is_failing() && limits.permit(now));
    limits.note(&failing, &BudgetReport::default(), now);
    assert!(limits.is_failing() && !limits.permit(now));
    limits.note(&TargetSignal::Healthy, &BudgetReport::default(), now);
    assert!(!limits.is_failing());
}

#[test]
fn throttled_calls_wait_as_long_as_asked() {
    let now = clock::now();
    let mut limits = Limits::new(&retry());
    let throttled = TargetSignal::Throttled {
        wait: 7 * SECOND,
        why: "HTTP 429".to_owned(),
    };
    limits.note(&throttled, &BudgetReport::default(), now);
    assert!(!limits.permit(now) && !limits.is_failing());
    assert_eq!(limits.not_before(now.instant), now.instant + 7 * SECOND);
    assert!(limits.permit(later(now, 8 * SECOND)));
}

#[test]
fn used_up_day_is_waited_for() {
    let now = clock::now();
    let mut limits = Limits::new(&retry());
    let day = |until| TargetSignal::DailyLimit {
        until,
        why: "daily".to_owned(),
    };
    let until = integration_engine::record::Timestamp(now.timestamp.0 + 60_000);
    limits.note(&day(Some(until)), &BudgetReport::default(), now);
    assert_eq!(limits.not_before(now.instant), now.instant + 60 * SECOND);
    limits.note(&day(None), &BudgetReport::default(), now);
    assert_eq!(limits.not_before(now.instant), now.instant + 900 * SECOND);
}
