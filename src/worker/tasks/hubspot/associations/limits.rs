//! The limits of calls about associations: a budget and a breaker of their own.

use std::time::{Duration, Instant};

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::BudgetReport;
use integration_engine::limits::breaker::Breaker;
use integration_engine::limits::rate::{Budget, Rate};
use integration_engine::limits::retry::Policy;
use integration_engine::now::Now;

/// Failing calls in a row before association calls rest.
const BREAKER_THRESHOLD: u32 = 3;

/// When the service does not say when its day ends.
const DAY_UNKNOWN: Duration = Duration::from_secs(15 * 60);

/// See the module's documentation.
pub(super) struct Limits {
    budget: Option<Budget>,
    rate: Option<Rate>,
    breaker: Breaker,
    /// Nothing is sent before.
    blocked_until: Option<Instant>,
}

impl Limits {
    pub(super) fn new(retry: &Policy) -> Limits {
        Limits {
            budget: None,
            rate: None,
            breaker: Breaker::new(
                BREAKER_THRESHOLD,
                retry.base,
                retry.max.min(Duration::from_secs(60)),
            ),
            blocked_until: None,
        }
    }

    /// New settings: the budget starts anew if its rate changed.
    pub(super) fn configure(&mut self, rate: Option<Rate>) {
        if rate != self.rate {
            self.rate = rate;
            self.budget = rate.map(|rate| Budget::new(rate.limit, rate.interval));
        }
        self.blocked_until = None;
    }

    /// Whether the service fails as a whole.
    pub(super) fn is_failing(&self) -> bool {
        !self.breaker.is_closed()
    }

    /// The time, or when a call may leave again if that is later.
    pub(super) fn not_before(&self, at: Instant) -> Instant {
        self.blocked_until.map_or(at, |until| until.max(at))
    }

    /// Whether a call may leave now.
    pub(super) fn permit(&mut self, now: Now) -> bool {
        if self.blocked_until.is_some_and(|until| until > now.instant) {
            return false;
        }
        let denied = match (&mut self.budget, self.breaker.is_closed()) {
            (Some(budget), true) => budget.permit(now.clock).err(),
            _ => self.breaker.permit(now.clock).err(),
        };
        self.blocked_until = denied.map(|wait| now.instant + wait.max(Duration::from_millis(1)));
        denied.is_none()
    }

    /// Takes note of what an answer says about the service.
    pub(super) fn note(&mut self, signal: &TargetSignal, report: &BudgetReport, now: Now) {
        if let Some(budget) = &mut self.budget {
            budget.report(now.clock, report);
        }
        let rest = match signal {
            TargetSignal::Failing { .. } => {
                self.breaker.failure(now.clock, now.jitter(0));
                return;
            }
            TargetSignal::Healthy
            | TargetSignal::Unauthorized { .. }
            | TargetSignal::Forbidden { .. } => None,
            TargetSignal::Throttled { wait, .. } => {
                if let Some(budget) = &mut self.budget {
                    budget.throttle(now.clock, *wait);
                }
                Some(*wait)
            }
            TargetSignal::Crowded { wait, .. } => Some(*wait),
            TargetSignal::DailyLimit { until, .. } => Some(until.map_or(DAY_UNKNOWN, |until| {
                let wait = until.0.saturating_sub(now.timestamp.0).max(1_000);
                Duration::from_millis(wait.unsigned_abs())
            })),
        };
        self.breaker.success();
        if let Some(wait) = rest {
            self.blocked_until = Some(now.instant + wait);
        }
    }
}
