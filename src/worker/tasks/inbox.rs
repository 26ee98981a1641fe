//! Applies events that were imported to the CRM.

use std::time::{Duration, Instant};

use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use crate::inbound::Backlog;
use crate::pg::shmem::Wake;
use crate::worker::task::{Task, Turn};

/// See the module's documentation.
#[derive(Default)]
pub struct Inbox {
    backlog: Backlog,
}

impl Task for Inbox {
    fn load(&mut self, turn: &mut Turn) -> SpiResult<()> {
        self.backlog.load(turn.context)
    }

    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let backlog = &mut self.backlog;
        backlog.stale |= turn.wake.has(Wake::INBOX);
        let fenced = turn.targets.iter().any(|worker| worker.fenced);
        if fenced || !turn.context.settings.enabled {
            return Ok(());
        }
        backlog.apply(turn.context, turn.targets)?;
        turn.context.withheld |= std::mem::take(&mut backlog.withholds);
        let (owed, now) = (std::mem::take(&mut backlog.owed), turn.now());
        let mut workers = turn.targets.iter_mut();
        if let Some(worker) = workers.find(|worker| worker.target == Target::HubSpot) {
            worker.associations.add(owed, now);
        }
        Ok(())
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        self.backlog.retry_in(turn.now())
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.backlog.retry_in(now).is_none()
    }
}
