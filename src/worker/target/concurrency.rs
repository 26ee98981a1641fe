//! The concurrency limit of a target: the setting, reduced when the service pushes back.

use integration_engine::delivery::outbound::Outbound;
use integration_engine::limits::breaker::micros;
use integration_engine::limits::concurrency::Finished;
use integration_engine::now::Now;
use integration_engine::record::Target;

use super::TargetWorker;
use crate::config::Settings;
use crate::http::Answer;
use crate::services::{self, dispatch};

/// Requests that the settings allow at once.
pub fn connections(target: Target, settings: &Settings) -> usize {
    settings
        .endpoint(target)
        .map_or(0, |endpoint| endpoint.max_connections)
}

/// Records in a full call.
pub const fn full(target: Target) -> usize {
    dispatch!(target, S => S::BATCH)
}

impl TargetWorker {
    /// In words, what the service does not stand at present though the settings allow it.
    pub fn held_back(&self, settings: &Settings) -> Option<String> {
        let most = (connections(self.target, settings), full(self.target));
        let held_back = self.concurrency.held_back(most)?;
        Some(format!(
            "{held_back}: more was too much for {}",
            self.target
        ))
    }

    /// Records this target takes in one call at most, at present.
    pub fn batch(&self) -> usize {
        self.concurrency.records(full(self.target))
    }

    /// Takes note of what the end of a request says about how much may be asked for at once. To be
    /// called while it still counts as under way.
    pub fn keep_pace(&mut self, settings: &Settings, answer: &Answer, records: usize, now: Now) {
        let Some(strain) = services::strain(self.target, answer.result.as_ref()) else {
            return;
        };
        let end = Finished {
            now: now.clock,
            took: micros(answer.duration),
            beside: self.calls_in_flight,
            records,
            strain,
        };
        let most = (connections(self.target, settings), full(self.target));
        self.concurrency.note(&end, most);
    }
}
