//! A day's requests: how many are used, whether that is all of them, and until when.

use std::time::{Duration, Instant};

use integration_engine::delivery::target_state::TargetState;
use integration_engine::limits::BudgetReport;
use integration_engine::limits::daily::{self, Day};
use integration_engine::now::Now;
use integration_engine::record::{Target, Timestamp};
use pgrx::spi::SpiResult;

use super::{TargetStatus, TargetWorker};
use crate::store::{self, server::accounts};
use crate::worker::Worker;

/// Where an account's day is not known, it is asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(15 * 60);

/// Where an account does not say in which time zone it is.
const ZONE: &str = "UTC";

/// The limit that the settings give a target's day, and what is used of it.
#[derive(Default)]
pub struct Daily {
    limit: Option<u32>,
    /// Counted only where there is a limit.
    today: Option<Today>,
}

/// The present day of an account.
struct Today {
    count: Day,
    zone: String,
    began: Instant,
    ends: Instant,
    /// When that is, as it is written there.
    midnight: String,
}

impl Daily {
    pub fn configure(&mut self, limit: Option<u32>) {
        self.limit = limit;
        if limit.is_none() {
            self.today = None;
        }
    }

    /// A request leaves.
    pub fn leave(&mut self) {
        if let Some(today) = &mut self.today {
            today.count.leave();
        }
    }

    /// The answer to a request has come, or will not come any more.
    pub fn settle(&mut self) {
        if let Some(today) = &mut self.today {
            today.count.settle();
        }
    }

    /// Takes in what an answer says of the day.
    pub fn hear(&mut self, report: &BudgetReport, now: Instant) {
        if let Some(today) = &mut self.today {
            let since_midnight = now.saturating_duration_since(today.began);
            today.count.hear(report, since_midnight);
        }
    }

    /// Until when nothing may leave any more, if the limit is reached.
    pub fn used_up(&self, now: Instant) -> Option<Instant> {
        let (limit, today) = self.limit.zip(self.today.as_ref())?;
        (today.ends > now && today.count.has_reached(limit)).then_some(today.ends)
    }

    /// What a target says of itself then.
    pub fn state(&self, target: Target, now: Instant) -> Option<TargetStatus> {
        self.used_up(now)?;
        let (limit, today) = self.limit.zip(self.today.as_ref())?;
        let reason = format!(
            "{target}: the {limit} requests a day that integration.{target}_daily_limit allows are used up; the next day's begin at {} {}",
            today.midnight, today.zone
        );
        Some(TargetStatus::because(TargetState::Throttled, reason))
    }

    /// Whether a day has to be begun.
    fn is_outdated(&self, zone: &str, now: Instant) -> bool {
        let current = |today: &Today| today.ends > now && today.zone == zone;
        self.limit.is_some() && !self.today.as_ref().is_some_and(current)
    }
}

impl Worker {
    /// Begins a target's day: what is used of it is in the log of requests, whoever made them.
    pub fn begin_days(&mut self) -> SpiResult<()> {
        let now = self.context.now.instant;
        for worker in &mut self.targets {
            let zone = zone(worker).to_owned();
            if !worker.daily.is_outdated(&zone, now) {
                continue;
            }
            let target = worker.target;
            let (day, logged) = store::transaction(|| {
                Ok::<_, pgrx::spi::Error>((
                    accounts::day(&zone)?,
                    accounts::requests_today(target, &zone)?,
                ))
            })?;
            worker.daily.today = day.map(|day| Today {
                count: Day::new(logged, self.requests.under_way(target)),
                zone,
                began: now.checked_sub(day.since_midnight).unwrap_or(now),
                ends: now + daily::until_next(day.to_midnight),
                midnight: day.ends,
            });
        }
        Ok(())
    }
}

/// HubSpot tells some with every answer how many of the day's requests are left.
pub fn used_up(report: &BudgetReport) -> bool {
    report.daily_remaining == Some(0)
}

/// Lets a target rest until its next day. Not to be called in a transaction.
pub fn rest(worker: &mut TargetWorker, until: Option<Timestamp>, why: &str, now: Now) {
    let (wait, ends) = match until {
        Some(until) => {
            let wait = until.0.saturating_sub(now.timestamp.0).max(1_000);
            let wait = Duration::from_millis(wait.unsigned_abs());
            (wait, format!("in {} s", wait.as_secs()))
        }
        None => midnight(worker),
    };
    let reason = format!("{why}; the next day's begin {ends}");
    worker.rest(
        now.instant,
        wait,
        TargetStatus::because(TargetState::Throttled, reason),
    );
}

fn midnight(worker: &TargetWorker) -> (Duration, String) {
    let zone = zone(worker);
    match store::transaction(|| accounts::day(zone)) {
        Ok(Some(day)) => (
            daily::rest(day.since_midnight, day.to_midnight),
            format!("at {} {zone}", day.ends),
        ),
        _ => (ASK_AGAIN, "at midnight".to_owned()),
    }
}

fn zone(worker: &TargetWorker) -> &str {
    let account = worker.account.stored.as_ref();
    account
        .and_then(|account| account.time_zone.as_deref())
        .unwrap_or(ZONE)
}
