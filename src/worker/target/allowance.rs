//! Whether a call may leave now: the target's budget, and those of calls with limits of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use integration_engine::delivery::call::Allowance;
use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::BudgetReport;
use integration_engine::limits::rate::Budget;
use integration_engine::now::Now;
use integration_engine::record::Target;
use integration_hubspot as hubspot;

use super::TargetWorker;
use crate::http::Answer;

impl TargetWorker {
    /// Whether a call may leave now; else how long to wait.
    pub fn permit(&mut self, allowance: Allowance, now: Now) -> Result<(), Duration> {
        if let Some(ends) = self.daily.used_up(now.instant) {
            return Err(ends - now.instant);
        }
        if !self.breaker.is_closed() {
            return self.breaker.permit(now.clock);
        }
        let budget = match allowance.own_rate() {
            // Whoever sets no limit for the target has none in the way, until the service says so.
            Some(rate) if self.budget.is_some() || self.budgets.contains_key(&allowance) => Some(
                self.budgets
                    .entry(allowance)
                    .or_insert_with(|| Budget::new(rate.limit, rate.interval)),
            ),
            Some(_) => None,
            None => self.budget.as_mut(),
        };
        match budget {
            Some(budget) => budget.permit(now.clock),
            None => self.breaker.permit(now.clock),
        }
    }

    /// What an answer says about a limit of its own; the target as a whole goes on.
    pub fn hear_of(&mut self, allowance: Allowance, signal: &TargetSignal, now: Now) -> bool {
        let (TargetSignal::Throttled { wait, .. }, Some(rate)) = (signal, allowance.own_rate())
        else {
            return false;
        };
        self.breaker.success();
        self.budgets
            .entry(allowance)
            .or_insert_with(|| Budget::new(rate.limit, rate.interval))
            .throttle(now.clock, *wait);
        true
    }

    /// The first answers of all are about the set-up: they tell what the limit is before much is sent.
    pub fn correct_budget(&mut self, answer: &Answer, now: Now) {
        let (Target::HubSpot, Some(budget), Ok(reply)) =
            (self.target, self.budget.as_mut(), &answer.result)
        else {
            return;
        };
        let report = BudgetReport {
            took: Some(answer.duration),
            ..hubspot::budget(reply)
        };
        budget.report(now.clock, &report);
    }

    /// Nothing is permitted before `wait` has passed.
    pub fn block(&mut self, wait: Duration, now: Now) {
        self.blocked_until = Some(now.instant + wait.max(Duration::from_millis(1)));
    }
}

/// The first planned call that may leave now.
pub fn next_permitted(worker: &mut TargetWorker, now: Now) -> Option<usize> {
    let mut denied: BTreeMap<Allowance, Duration> = BTreeMap::new();
    for index in 0..worker.planned.len() {
        let allowance = worker.planned[index].call.allowance();
        if denied.contains_key(&allowance) {
            continue;
        }
        match worker.permit(allowance, now) {
            Ok(()) => return Some(index),
            Err(wait) => denied.insert(allowance, wait),
        };
    }
    if let Some(wait) = denied.into_values().min() {
        worker.block(wait, now);
    }
    None
}
