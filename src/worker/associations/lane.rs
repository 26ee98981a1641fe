//! The associations' lane of the HubSpot target: what is under way, its budget and its breaker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::BudgetReport;
use integration_engine::limits::breaker::Breaker;
use integration_engine::limits::rate::{Budget, Rate};
use integration_engine::now::Now;
use integration_hubspot::associations::AssociationCall;

use crate::config::Settings;
use crate::store::associations::OwedAssociation;

/// While records are on their way, associations wait for company, but for no longer.
pub(super) const COMPANY: Duration = Duration::from_secs(1);

/// Failing calls in a row before association calls rest.
const BREAKER_THRESHOLD: u32 = 3;

/// What is under way, and when there is more to do.
pub struct AssociationLane {
    /// How many have been noted since the table was last read.
    pub(super) noted: usize,
    /// The table may hold something new, since then.
    pub(super) stale: Option<Instant>,
    pub(super) planned: VecDeque<AssociationCall>,
    /// What the planned calls are about.
    pub(super) due: Vec<OwedAssociation>,
    pub(super) under_way: bool,
    budget: Option<Budget>,
    rate: Option<Rate>,
    pub(super) breaker: Breaker,
    /// Nothing is sent before.
    blocked_until: Option<Instant>,
    pub(super) next_retry: Option<Instant>,
}

impl AssociationLane {
    pub fn new(settings: &Settings, now: Instant) -> AssociationLane {
        AssociationLane {
            noted: 0,
            stale: Some(now),
            planned: VecDeque::new(),
            due: Vec::new(),
            under_way: false,
            budget: None,
            rate: None,
            breaker: Breaker::new(
                BREAKER_THRESHOLD,
                settings.retry.base,
                settings.retry.max.min(Duration::from_secs(60)),
            ),
            blocked_until: None,
            next_retry: None,
        }
    }

    /// New settings: the budget starts anew if its rate changed.
    pub fn configure(&mut self, settings: &Settings) {
        if settings.association_rate != self.rate {
            self.rate = settings.association_rate;
            self.budget = self.rate.map(|rate| Budget::new(rate.limit, rate.interval));
        }
        self.blocked_until = None;
    }

    pub fn look(&mut self, noted: usize, now: Instant) {
        if noted > 0 {
            self.noted += noted;
            self.stale.get_or_insert(now);
        }
    }

    /// How long until there is something to do; `None`: until something happens.
    pub fn next_look(&self, now: Instant) -> Option<Duration> {
        if self.under_way {
            return None;
        }
        let at = if self.planned.is_empty() {
            let stale = self.stale.map(|since| since + COMPANY);
            stale.into_iter().chain(self.next_retry).min()?
        } else {
            now
        };
        let at = self.blocked_until.map_or(at, |until| until.max(at));
        Some(
            at.saturating_duration_since(now)
                .max(Duration::from_millis(1)),
        )
    }

    pub(super) fn permitted(&mut self, now: Now) -> bool {
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

    pub(super) fn hear(&mut self, signal: &TargetSignal, report: &BudgetReport, now: Now) {
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
            TargetSignal::DailyLimit { until, .. } => {
                let wait = until.map_or(900_000, |until| (until.0 - now.timestamp.0).max(1_000));
                Some(Duration::from_millis(wait.unsigned_abs()))
            }
        };
        self.breaker.success();
        if let Some(wait) = rest {
            self.blocked_until = Some(now.instant + wait);
        }
    }
}
