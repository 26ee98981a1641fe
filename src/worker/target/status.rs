//! What keeps a target from sending, if anything.

use std::time::Instant;

use integration_engine::delivery::target_state::TargetState;

use super::{TargetStatus, TargetWorker};
use crate::config::Settings;

impl TargetWorker {
    /// What it says of itself now, worst reason first.
    pub fn status(&self, settings: &Settings, now: Instant) -> TargetStatus {
        if let Err(why) = settings.endpoint(self.target) {
            return TargetStatus::because(TargetState::Unconfigured, why);
        }
        if self.fenced {
            return TargetStatus {
                state: TargetState::Fenced,
                reason: self.fenced_why.clone(),
            };
        }
        if !settings.enabled {
            return TargetStatus::because(TargetState::Paused, "integration.enabled is off");
        }
        if let Some(paused) = self.paused.as_ref().or(self.held.as_ref()) {
            return paused.clone();
        }
        if let Some(why) = self.account.foreign(self.target) {
            return TargetStatus::because(TargetState::Held, why);
        }
        if let Some(held) = self.all_held() {
            return held;
        }
        match &self.not_before {
            Some((until, state)) if *until > now => return state.clone(),
            _ => {}
        }
        if let Some(used_up) = self.daily.state(self.target, now) {
            return used_up;
        }
        if let Some(refused) = &self.account.refused {
            return refused.clone();
        }
        if !self.breaker.is_closed() {
            return TargetStatus::because(
                TargetState::Outage,
                format!(
                    "{} does not answer as it should; changes wait. Last: {}",
                    self.target, self.last_failure
                ),
            );
        }
        TargetStatus {
            state: TargetState::Running,
            reason: [
                self.held_tables().map(str::to_owned),
                self.held_back(settings),
            ]
            .into_iter()
            .flatten()
            .reduce(|tables, pace| format!("{tables}\n{pace}")),
        }
    }

    /// Whether calls may be planned and sent at all.
    pub fn may_send(&self, settings: &Settings, now: Instant) -> bool {
        self.status(settings, now).state.may_send()
    }

    /// Whether the service may be asked who we are: as for sending, but for what the answer is about.
    pub fn may_identify(&self, settings: &Settings, now: Instant) -> bool {
        let resting = self
            .not_before
            .as_ref()
            .is_some_and(|(until, _)| *until > now)
            || self.daily.used_up(now).is_some();
        let stopped = self.fenced || self.paused.is_some() || self.held.is_some();
        settings.enabled && settings.endpoint(self.target).is_ok() && !stopped && !resting
    }
}
