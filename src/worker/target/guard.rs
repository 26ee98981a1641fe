//! The guard against mass deletions: `integration.guard_deletes`.

use std::time::Instant;

use integration_engine::delivery::target_state::TargetState;
use integration_engine::limits::rate::Rate;

use super::{TargetStatus, TargetWorker};

impl TargetWorker {
    /// Counts deletions; `true` when there are more in the guard's window than it allows.
    pub fn too_many_deletions(&mut self, count: usize, guard: Option<&Rate>, now: Instant) -> bool {
        let Some(guard) = guard else { return false };
        if count == 0 || self.guard_off_until.is_some_and(|until| now < until) {
            return false;
        }
        while self
            .deletions
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > guard.interval)
        {
            self.deletions.pop_front();
        }
        let lately: usize = self.deletions.iter().map(|(_, count)| count).sum();
        if lately + count > guard.limit as usize {
            let reason = format!(
                "more than {} deletions in {:?} (integration.guard_deletes); if they are meant: SELECT integration.resume('{}');",
                guard.limit, guard.interval, self.target
            );
            self.held = Some(TargetStatus::because(TargetState::Held, reason));
            return true;
        }
        self.deletions.push_back((now, count));
        false
    }

    /// Somebody has looked at it and wants the deletions done.
    pub fn release(&mut self, guard: Option<&Rate>, now: Instant) {
        self.held = None;
        self.deletions.clear();
        self.counted.clear();
        self.guard_off_until = guard.map(|guard| now + guard.interval);
    }

    /// It was held before this worker started.
    pub fn still_held(&mut self) {
        self.held = Some(TargetStatus::because(
            TargetState::Held,
            format!(
                "a guard stopped it; look at integration.alert, then SELECT integration.resume('{}');",
                self.target
            ),
        ));
    }
}
