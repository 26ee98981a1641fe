//! What the worker tells of itself, once a turn; nothing where nothing has changed.

use pgrx::spi::SpiResult;

use super::{Worker, process};
use crate::store;

impl Worker {
    /// Tells everybody how the targets are doing; tables are written only when something changed.
    pub(super) fn publish(&mut self) -> SpiResult<()> {
        let now = self.context.now.instant;
        let mut changed = Vec::new();
        for worker in &mut self.targets {
            process::publish_gauges(worker, &self.context);
            let status = worker.status(&self.context.settings, now);
            if worker.told.as_ref() != Some(&status) {
                worker.told = Some(status.clone());
                changed.push((worker.target, status, worker.held.is_some()));
            }
        }
        if !changed.is_empty() {
            store::transaction(|| process::tell_states(&changed))?;
        }
        self.with_tasks(|tasks, turn| tasks.tell(turn))?;
        process::report_statistics();
        Ok(())
    }
}
