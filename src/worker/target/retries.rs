//! What is to be tried again: how many records, and from when on.

use std::time::{Duration, Instant};

use integration_engine::now::Now;
use pgrx::spi::SpiResult;

use super::TargetWorker;
use crate::store::queue::changes;

impl TargetWorker {
    /// Sources whose retries have to wait.
    pub fn held_sources(&self) -> Vec<i32> {
        self.queue.held().map(|source| source.0).collect()
    }

    /// Looks up when the next retry is due, and how many there are.
    pub fn look_up_retries(&mut self, now: Now) -> SpiResult<()> {
        let outlook = changes::retry_outlook(self.target, &self.held_sources())?;
        self.retrying = outlook.count;
        self.retrying_opt_outs = outlook.opt_outs;
        self.next_retry = outlook.next_in_ms.map(|ms| {
            // What is due already may be in memory: it is not asked for more than once in a while.
            now.instant + Duration::from_millis(ms.max(20).unsigned_abs())
        });
        Ok(())
    }

    /// Whether changes in the retry table are to be tried again.
    pub fn retries_due(&self, now: Instant) -> bool {
        self.next_retry.is_some_and(|at| at <= now)
    }
}
