//! Rate limits. HubSpot: a rolling window per account and app, a daily count, and search with a
//! window of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::json;

use super::errors::CORRELATION;
use crate::config::HubSpotConfig;
use crate::reply::Reply;

/// Requests counted so far.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    window: VecDeque<Instant>,
    search: VecDeque<Instant>,
    pub today: u64,
    pub refused: u64,
}

impl Limits {
    /// Counts a request in, or refuses it with 429. Refused ones don't count.
    pub(crate) fn admit(
        &mut self,
        config: &HubSpotConfig,
        is_search: bool,
        now: Instant,
    ) -> Result<(), Reply> {
        let verdict = self.check(config, is_search, now);
        match verdict {
            Ok(()) => self.today += 1,
            Err(_) => self.refused += 1,
        }
        verdict
    }

    fn check(
        &mut self,
        config: &HubSpotConfig,
        is_search: bool,
        now: Instant,
    ) -> Result<(), Reply> {
        if config.daily_limit.is_some_and(|limit| self.today >= limit) {
            return Err(self.with_headers(
                refused("DAILY", "You have reached your daily limit."),
                config,
                is_search,
            ));
        }
        // Search doesn't count in the ten-second window, and that one not in search's.
        let (window, max, interval_ms, policy) =
            match (is_search, config.rate, config.search_per_second) {
                (true, _, Some(per_second)) => (&mut self.search, per_second, 1_000, "SECONDLY"),
                (false, Some(rate), _) => (
                    &mut self.window,
                    rate.max,
                    rate.interval_ms,
                    "TEN_SECONDLY_ROLLING",
                ),
                _ => return Ok(()),
            };
        let interval = Duration::from_millis(interval_ms);
        while window
            .front()
            .is_some_and(|first| now.saturating_duration_since(*first) >= interval)
        {
            window.pop_front();
        }
        if window.len() >= max as usize {
            let message = format!("You have reached your {} limit.", policy.to_lowercase());
            return Err(self.with_headers(refused(policy, &message), config, is_search));
        }
        window.push_back(now);
        Ok(())
    }

    /// The documented headers; none on search.
    pub(crate) fn with_headers(
        &self,
        mut reply: Reply,
        config: &HubSpotConfig,
        is_search: bool,
    ) -> Reply {
        if is_search {
            return reply;
        }
        if let Some(rate) = config.rate {
            let left = (rate.max as usize).saturating_sub(self.window.len());
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

pub(crate) fn refused(policy: &str, message: &str) -> Reply {
    Reply::value(
        429,
        &json!({
            "status": "error", "message": message, "errorType": "RATE_LIMIT", "correlationId": CORRELATION,
            "policyName": policy, "requestId": CORRELATION,
        }),
    )
}
