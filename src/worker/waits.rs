//! How long the worker may sleep, and what it is to be woken for.

use std::time::Duration;

use integration_engine::record::Lane;

use super::Worker;
use super::target::TargetWorker;
use crate::pg::shmem::Wake;

impl Worker {
    /// Whether requests are under way or there is more to send at once.
    pub(super) fn busy(&self) -> bool {
        let busy = |worker: &TargetWorker| worker.calls_in_flight > 0 || worker.urgent.underway;
        self.targets.iter().any(busy)
    }

    /// What the worker does not want to be woken for: changes for targets that may not send.
    pub(super) fn muted(&self) -> Wake {
        let silent = self.targets.iter().filter(|worker| {
            worker.told.is_some()
                && !worker.listens()
                && !worker.may_send(&self.context.settings, self.context.now.instant)
        });
        let now = self.context.now.instant;
        silent
            .flat_map(|worker| {
                let urgent = worker.lets_opt_outs_through(&self.context.settings, now);
                let unheard = move |lane: &&Lane| !urgent || **lane != Lane::OptOut;
                let lanes = worker.lanes.keys().filter(unheard);
                lanes.map(|lane| Wake::changes(worker.target, *lane))
            })
            .fold(Wake::NONE, Wake::union)
    }

    /// How long there is nothing to do unless somebody wakes us.
    pub(super) fn next_wait(&mut self) -> Option<Duration> {
        let now = self.context.now.instant;
        let mut wait = self
            .targets
            .iter()
            .filter_map(|worker| self.requests.next_look(worker, &self.context))
            .min();
        let mut at_most =
            |limit: Duration| wait = Some(wait.map_or(limit, |known| known.min(limit)));
        for worker in &self.targets {
            if let Some(delay) = worker.opt_out_in(&self.context.settings, now) {
                at_most(delay);
            }
        }
        if let Some(delay) = self.prepared.next_look(now) {
            at_most(delay);
        }
        let clock = self.context.now.clock;
        let able = |worker: &&TargetWorker| worker.may_send(&self.context.settings, now);
        let refused = self
            .targets
            .iter()
            .filter(able)
            .filter_map(|worker| worker.missing_scopes.next());
        if let Some(at) = refused.min() {
            at_most(Duration::from_micros(at.saturating_sub(clock).max(1_000)));
        }
        if self.called != Wake::NONE {
            at_most(Duration::ZERO);
        }
        let tasks = self.with_tasks(|tasks, turn| tasks.next_wait(turn));
        wait.into_iter().chain(tasks).min()
    }
}
