//! A day's requests: whether they are used up, and until when.

use std::time::{Duration, Instant};

use integration_engine::outcome::BudgetReport;
use integration_engine::rate;
use integration_engine::record::Timestamp;

use super::now_ms;
use super::target::{State, TargetWorker};
use crate::store::{self, account};

/// Where an account's day is not known, it is asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(15 * 60);

/// HubSpot tells with every answer how many of the day's requests are left.
pub fn used_up(report: &BudgetReport, own_limit: Option<u32>) -> bool {
    let Some(left) = report.daily_remaining else {
        return false;
    };
    let used = report.daily.map(|all| all.saturating_sub(left));
    left == 0
        || own_limit
            .zip(used)
            .is_some_and(|(limit, used)| used >= limit)
}

/// Lets a target rest until its next day. Not to be called in a transaction.
pub fn rest(worker: &mut TargetWorker, until: Option<Timestamp>, why: &str, now: Instant) {
    let (wait, ends) = match until {
        Some(until) => {
            let wait = until.0.saturating_sub(now_ms()).max(1_000);
            let wait = Duration::from_millis(wait.unsigned_abs());
            (wait, format!("in {} s", wait.as_secs()))
        }
        None => midnight(worker),
    };
    let reason = format!("{why}; the next day's begin {ends}");
    worker.rest(now, wait, State::because("throttled", reason));
}

fn midnight(worker: &TargetWorker) -> (Duration, String) {
    let zone = worker
        .trust
        .account
        .as_ref()
        .and_then(|account| account.time_zone.as_deref())
        .unwrap_or("UTC");
    match store::transaction(|| account::day(zone)) {
        Ok(Some(day)) => (
            rate::daily_rest(day.since_midnight, day.to_midnight),
            format!("at {} {zone}", day.ends),
        ),
        _ => (ASK_AGAIN, "at midnight".to_owned()),
    }
}
