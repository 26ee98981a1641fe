//! How many events wait, and how many failed, for the view `status`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use super::Backlog;
use crate::store::inbound::inbox::{self, WaitingEvents};
use crate::worker::Context;

/// Waiting events are counted no more often than this.
const COUNT: Duration = Duration::from_secs(1);

impl Backlog {
    /// Counts the waiting events. `some`: there may be any.
    pub(super) fn count(&mut self, context: &Context, some: bool) -> SpiResult<()> {
        let now = context.now.instant;
        let Some(slot) = context.slot else {
            return Ok(());
        };
        if some && self.counted_at.is_some_and(|at| now - at < COUNT) {
            return Ok(());
        }
        let waiting = match some {
            true => inbox::waiting()?,
            false => Target::ALL.map(|target| (target, WaitingEvents::default())),
        };
        self.counted_at = some.then_some(now);
        for (target, waiting) in waiting {
            let gauges = slot.gauges(target);
            gauges
                .inbox_pending
                .store(waiting.pending, Ordering::Relaxed);
            gauges
                .inbox_retrying
                .store(waiting.retrying, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts the failed events, and has the others looked at again: somebody asked for it.
    pub fn load(&mut self, context: &Context) -> SpiResult<()> {
        self.stale = true;
        self.counted_at = None;
        let Some(slot) = context.slot else {
            return Ok(());
        };
        for (target, failed) in inbox::failed()? {
            slot.gauges(target)
                .inbox_failed
                .store(failed, Ordering::Relaxed);
        }
        Ok(())
    }
}
