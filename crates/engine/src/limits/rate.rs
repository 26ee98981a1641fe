//! How many requests may be made, and when: a budget over a rolling window.

use std::{collections::VecDeque, time::Duration};

use crate::limits::BudgetReport;

/// So many requests (or changes) in any interval of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
/// Of what others use, one part in so many more is left to them: of the latest of it no answer has
/// told yet, and ours that have just left the window are taken for being in it still.
const OTHERS_RESERVE: u64 = 8;
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
/// the budget may be used at once, but only a quarter until answers have told for as long as the
/// window is how much others use; beyond that requests are paced evenly.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: u32,
    interval: u64,
    /// When our requests were sent, oldest first.
    sent: VecDeque<u64>,
    /// How many of the requests in the window were others': when we heard that, and how many. The
    /// first is the highest of the last window's, each of the rest the highest of those after it.
    others: VecDeque<(u64, u32)>,
    /// Since when answers have been telling how much is used, and when one last did.
    told: Option<(u64, u64)>,
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
            told: None,
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
            self.told = match self.told {
                Some((since, last)) if self.is_in_window(last, now) => Some((since, now)),
                _ => Some((now, now)),
            };
            let used = max.saturating_sub(remaining);
            let ours = self.counted_of_ours(now, report.took);
            // An answer may have left before requests that are counted as ours here: what others
            // use is the most that was heard lately.
            let theirs = used.saturating_sub(ours);
            while self
                .others
                .back()
                .is_some_and(|(_, known)| *known <= theirs)
            {
                self.others.pop_back();
            }
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
        if used >= self.at_once(allowed, now) {
            free_at = free_at.max(self.next_slot);
        }
        free_at
    }

    /// How many may be sent without pacing.
    fn at_once(&self, allowed: u32, now: u64) -> u32 {
        let well_known = self.told.is_some_and(|(since, last)| {
            self.is_in_window(last, now) && !self.is_in_window(since, now)
        });
        allowed.div_ceil(if well_known { 2 } else { 4 })
    }

    fn is_in_window(&self, at: u64, now: u64) -> bool {
        at.saturating_add(self.window()) > now
    }

    /// When `surplus + 1` of the requests in the window will have left it.
    fn freed_at(&self, surplus: u32, now: u64) -> u64 {
        let window = self.window();
        let mut leaving: Vec<(u64, u32)> = self
            .sent
            .iter()
            .map(|at| (*at, 1))
            .chain(self.others_leaving())
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
        self.others.front().map_or(0, |(_, count)| *count)
    }

    /// By how much what is known of others falls if nothing more is heard, and heard when.
    fn others_leaving(&self) -> impl Iterator<Item = (u64, u32)> {
        let next = self.others.iter().skip(1).map(|(_, count)| *count);
        let known = self.others.iter().zip(next.chain(std::iter::once(0)));
        known.map(|((at, count), next)| (*at, count - next))
    }

    fn allowed(&self, now: u64) -> u32 {
        let limit = u64::from(self.limit);
        let reserve = u64::from(self.known_of_others()) / OTHERS_RESERVE;
        let safe = (limit - limit / LIMIT_SAFETY).saturating_sub(reserve);
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
