//! How many requests may be made, and when: a budget over a rolling window.

use std::{collections::VecDeque, time::Duration};

use crate::outcome::BudgetReport;

/// So many requests (or changes) in any interval of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub limit: u32,
    pub interval: Duration,
}

/// Why a rate setting cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("«{0}» is not a rate; write it as 100/10s, 500/10min or off")]
pub struct RateError(String);

impl Rate {
    /// Reads `100/10s`, with ms, s, min, h or d as the unit; `off` is `None`.
    pub fn parse(text: &str) -> Result<Option<Rate>, RateError> {
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("off") {
            return Ok(None);
        }
        parse_rate(trimmed)
            .map(Some)
            .ok_or_else(|| RateError(text.to_owned()))
    }
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (limit, interval) = text.split_once('/')?;
    let limit = limit.trim().parse().ok().filter(|limit| *limit > 0)?;
    let interval = interval.trim();
    let digits = interval.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = interval.split_at(digits);
    let number: u64 = if number.is_empty() {
        1
    } else {
        number.parse().ok()?
    };
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" | "sec" => 1_000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let interval = Duration::from_millis(number.checked_mul(milliseconds)?);
    (!interval.is_zero()).then_some(Rate { limit, interval })
}

/// One part in so many of the limit is left unused, and the interval is taken to be so much longer:
/// requests that leave evenly spaced do not arrive so, and the service counts arrivals. Together
/// about 3.5 %.
const LIMIT_SAFETY: u64 = 50;
const INTERVAL_SAFETY: u64 = 64;
/// How unevenly requests arrive does not depend on the interval: at least this much is added to it.
const JITTER: u64 = 50_000;
/// A permit may be used up to so many gaps late without the pace falling behind.
const CATCH_UP_GAPS: u64 = 4;
/// An answer may tell of a window that ended this part of an interval ago, and of none before.
const REPORT_LAG: u64 = 4;
/// How much older it may be than the time it took to come, because we had no time for it.
const REPORT_SLACK: u64 = 64;
/// After a 429 a tenth of the budget is given up, but never more than half of it …
const SQUEEZE_STEP: u64 = 100;
const SQUEEZE_MAX: u64 = 500;
/// … and this much (in thousandths) is regained with every interval that passes without one.
const RECOVERY: u64 = 20;

/// A client-side budget that stays below the service's limit in every rolling interval.
///
/// All times are microseconds of one monotonic clock and must not decrease. From rest, half of
/// the budget may be used at once; beyond that requests are paced evenly.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: u32,
    interval: u64,
    /// When our requests were sent, oldest first.
    sent: VecDeque<u64>,
    /// Requests that others made on the same budget: when we heard of them, and how many.
    others: VecDeque<(u64, u32)>,
    /// The next evenly spaced moment.
    next_slot: u64,
    blocked_until: u64,
    /// Thousandths of the budget given up after a 429, and since when.
    squeeze: u64,
    squeezed_at: u64,
}

impl Budget {
    pub fn new(limit: u32, interval: Duration) -> Budget {
        Budget {
            limit: limit.max(1),
            interval: micros(interval).max(1),
            sent: VecDeque::new(),
            others: VecDeque::new(),
            next_slot: 0,
            blocked_until: 0,
            squeeze: 0,
            squeezed_at: 0,
        }
    }

    /// The limit in force: as configured or as the service last said.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// How many requests may still be made before some of the past ones leave the window.
    pub fn remaining(&mut self, now: u64) -> u32 {
        self.prune(now);
        self.allowed(now).saturating_sub(self.used(now))
    }

    /// Asks to send one request at `now`. `Ok` counts it as sent; `Err` says how long to wait
    /// before asking again.
    pub fn permit(&mut self, now: u64) -> Result<(), Duration> {
        self.prune(now);
        let free_at = self.free_at(now);
        if free_at > now {
            // Only a caller that is late may catch up, not a budget that was used up.
            self.next_slot = self.next_slot.max(free_at);
            return Err(Duration::from_micros(free_at - now));
        }
        let gap = self.gap(now);
        self.next_slot = self.next_slot.max(now.saturating_sub(CATCH_UP_GAPS * gap)) + gap;
        self.sent.push_back(now);
        Ok(())
    }

    /// Takes in what an answer's headers say. Others may share the budget: what the service has
    /// counted beyond our own requests is theirs.
    pub fn report(&mut self, now: u64, report: &BudgetReport) {
        self.prune(now);
        if let Some(max) = report.max.filter(|max| *max > 0) {
            self.limit = max;
        }
        if let Some(interval) = report.interval.filter(|interval| !interval.is_zero()) {
            self.interval = micros(interval);
        }
        if let (Some(remaining), Some(max)) = (report.remaining, report.max) {
            let used = max.saturating_sub(remaining);
            let ours = self.counted_of_ours(now, report.took);
            let theirs = used
                .saturating_sub(ours)
                .saturating_sub(self.known_of_others());
            if theirs > 0 {
                self.others.push_back((now, theirs));
            }
        }
    }

    /// The service refused a request: send nothing for `wait`, and go slower for a while.
    pub fn throttle(&mut self, now: u64, wait: Duration) {
        // Requests that were under way together are refused together; they count once.
        if now >= self.blocked_until {
            self.squeeze = (self.squeezed(now) + SQUEEZE_STEP).min(SQUEEZE_MAX);
            self.squeezed_at = now;
        }
        self.blocked_until = self.blocked_until.max(now.saturating_add(micros(wait)));
    }

    fn free_at(&self, now: u64) -> u64 {
        let mut free_at = self.blocked_until;
        let allowed = self.allowed(now);
        let used = self.used(now);
        if used >= allowed {
            free_at = free_at.max(self.freed_at(used - allowed, now));
        }
        if used >= allowed.div_ceil(2) {
            free_at = free_at.max(self.next_slot);
        }
        free_at
    }

    /// When `surplus + 1` of the requests in the window will have left it.
    fn freed_at(&self, surplus: u32, now: u64) -> u64 {
        let window = self.window();
        let mut leaving: Vec<(u64, u32)> = self
            .sent
            .iter()
            .map(|at| (*at, 1))
            .chain(self.others.iter().copied())
            .filter(|(at, _)| at.saturating_add(window) > now)
            .collect();
        leaving.sort_unstable();
        let mut left = 0;
        for (at, count) in leaving {
            left += count;
            if left > surplus {
                return at.saturating_add(window);
            }
        }
        now
    }

    /// Everything of ours that the service may have counted when it answered.
    fn counted_of_ours(&self, now: u64, took: Option<Duration>) -> u32 {
        let most = self.interval / REPORT_LAG;
        let lag = took.map_or(most, |took| {
            (2 * micros(took)).saturating_add(self.interval / REPORT_SLACK)
        });
        let remembered = self.window() + lag.min(most);
        let gone = self
            .sent
            .partition_point(|at| at.saturating_add(remembered) <= now);
        u32::try_from(self.sent.len() - gone).unwrap_or(u32::MAX)
    }

    /// Requests in the window that ends now: ours and others'.
    fn used(&self, now: u64) -> u32 {
        let window = self.window();
        let gone = self
            .sent
            .partition_point(|at| at.saturating_add(window) <= now);
        let ours = u32::try_from(self.sent.len() - gone).unwrap_or(u32::MAX);
        ours.saturating_add(self.known_of_others())
    }

    fn known_of_others(&self) -> u32 {
        self.others.iter().map(|(_, count)| count).sum()
    }

    fn allowed(&self, now: u64) -> u32 {
        let limit = u64::from(self.limit);
        let safe = limit - limit / LIMIT_SAFETY;
        u32::try_from(safe * (1_000 - self.squeezed(now)) / 1_000)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    fn squeezed(&self, now: u64) -> u64 {
        let intervals = now.saturating_sub(self.squeezed_at) / self.interval;
        self.squeeze
            .saturating_sub(intervals.saturating_mul(RECOVERY))
    }

    fn window(&self) -> u64 {
        self.interval + (self.interval / INTERVAL_SAFETY).max(JITTER)
    }

    // Rounded up: the pace must not outrun the window, or it stutters.
    fn gap(&self, now: u64) -> u64 {
        self.window().div_ceil(u64::from(self.allowed(now)))
    }

    fn prune(&mut self, now: u64) {
        let window = self.window();
        let remembered = window + self.interval / REPORT_LAG;
        while self
            .sent
            .front()
            .is_some_and(|at| at.saturating_add(remembered) <= now)
        {
            self.sent.pop_front();
        }
        while self
            .others
            .front()
            .is_some_and(|(at, _)| at.saturating_add(window) <= now)
        {
            self.others.pop_front();
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX / 4)
        .min(u64::MAX / 4)
}

#[cfg(test)]
mod tests;
