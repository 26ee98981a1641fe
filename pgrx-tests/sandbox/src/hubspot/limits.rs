//! Rate limits. HubSpot: a rolling window per account and app, a daily count; search and
//! associations with windows of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::json;

use super::errors::CORRELATION;
use crate::config::{HubSpotConfig, Rate};
use crate::reply::Reply;

/// Which window a request counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Usual,
    Search,
    Associations,
}

impl Family {
    pub(crate) fn of(segments: &[&str]) -> Family {
        match segments {
            [.., "search"] => Family::Search,
            ["crm", "associations", ..] | ["crm", _, "associations", ..] => Family::Associations,
            _ => Family::Usual,
        }
    }
}

/// Requests counted so far.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    window: VecDeque<Instant>,
    search: VecDeque<Instant>,
    associations: VecDeque<Instant>,
    /// When another app last asked for something.
    others_at: Option<Instant>,
    pub today: u64,
    pub refused: u64,
}

impl Limits {
    /// Counts a request in, or refuses it with 429. Refused ones don't count.
    pub(crate) fn admit(
        &mut self,
        config: &HubSpotConfig,
        family: Family,
        now: Instant,
    ) -> Result<(), Reply> {
        self.admit_others(config, now);
        let verdict = self.check(config, family, now);
        match verdict {
            Ok(()) => self.today += 1,
            Err(_) => self.refused += 1,
        }
        verdict
    }

    /// What another app asked for since the last time; it is refused what is beyond the limit.
    fn admit_others(&mut self, config: &HubSpotConfig, now: Instant) {
        let (Some(others), Some(rate)) = (config.others.filter(|rate| rate.max > 0), config.rate)
        else {
            self.others_at = None;
            return;
        };
        let gap = Duration::from_millis(others.interval_ms) / others.max;
        let interval = Duration::from_millis(rate.interval_ms);
        // It has been at it for as long as the window is.
        let mut last = self
            .others_at
            .or_else(|| now.checked_sub(interval))
            .unwrap_or(now);
        while last + gap <= now {
            last += gap;
            forget(&mut self.window, interval, last);
            if self.window.len() < rate.max as usize {
                self.window.push_back(last);
                self.today += 1;
            }
        }
        self.others_at = Some(last);
    }

    fn check(&mut self, config: &HubSpotConfig, family: Family, now: Instant) -> Result<(), Reply> {
        if config.daily_limit.is_some_and(|limit| self.today >= limit) {
            return Err(self.with_headers(
                refused("DAILY", "You have reached your daily limit."),
                config,
                family,
            ));
        }
        // What has a window of its own doesn't count in the usual one.
        let rolling = |rate: Rate| (rate.max, rate.interval_ms, "TEN_SECONDLY_ROLLING");
        let (window, limit) = match family {
            Family::Usual => (&mut self.window, config.rate.map(rolling)),
            Family::Associations => (&mut self.associations, config.association_rate.map(rolling)),
            Family::Search => (
                &mut self.search,
                config.search_per_second.map(|max| (max, 1_000, "SECONDLY")),
            ),
        };
        let Some((max, interval_ms, policy)) = limit else {
            return Ok(());
        };
        let interval = Duration::from_millis(interval_ms);
        forget(window, interval, now);
        if window.len() >= max as usize {
            let message = format!("You have reached your {} limit.", policy.to_lowercase());
            return Err(self.with_headers(refused(policy, &message), config, family));
        }
        window.push_back(now);
        Ok(())
    }

    /// The documented headers; none on search.
    pub(crate) fn with_headers(
        &self,
        mut reply: Reply,
        config: &HubSpotConfig,
        family: Family,
    ) -> Reply {
        let (rate, used) = match family {
            Family::Search => return reply,
            Family::Usual => (config.rate, self.window.len()),
            Family::Associations => (config.association_rate, self.associations.len()),
        };
        if let Some(rate) = rate {
            let left = (rate.max as usize).saturating_sub(used);
            reply = reply
                .with("x-hubspot-ratelimit-max", rate.max.to_string())
                .with("x-hubspot-ratelimit-remaining", left.to_string())
                .with(
                    "x-hubspot-ratelimit-interval-milliseconds",
                    rate.interval_ms.to_string(),
                );
        }
        if let Some(limit) = config.daily_limit {
            reply = reply
                .with("x-hubspot-ratelimit-daily", limit.to_string())
                .with(
                    "x-hubspot-ratelimit-daily-remaining",
                    limit.saturating_sub(self.today).to_string(),
                );
        }
        reply
    }
}

/// Requests that left the window.
fn forget(window: &mut VecDeque<Instant>, interval: Duration, now: Instant) {
    while window
        .front()
        .is_some_and(|first| now.saturating_duration_since(*first) >= interval)
    {
        window.pop_front();
    }
}

pub(crate) fn refused(policy: &str, message: &str) -> Reply {
    Reply::value(
        429,
        &json!({
            "status": "error", "message": message, "errorType": "RATE_LIMIT", "correlationId": CORRELATION,
            "policyName": policy, "requestId": CORRELATION,
        }),
    )
}
