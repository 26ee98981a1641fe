//! Opt-outs, while everything else has to wait: for a connection, for Mailchimp to let us in again,
//! or for an outage to end. One call at a time, and less and less often if they are refused, too.

use std::collections::VecDeque;

use integration_engine::record::Lane;
use pgrx::spi::SpiResult;

use crate::pg::watch;
use crate::services::dispatch;
use crate::store::queue::changes;
use crate::store::{self};
use crate::worker::Worker;
use crate::worker::lane::{intents, plan, read_queue, settle};
use crate::worker::target::{PlannedCall, TargetWorker};

impl TargetWorker {
    /// Planned calls that carry an opt-out, and have to wait: it is planned anew.
    fn call_opt_outs_back(&mut self) {
        let planned = std::mem::take(&mut self.planned);
        for planned in planned {
            let queue = &self.queue;
            let mut changes = planned
                .flights
                .iter()
                .filter_map(|flight| queue.change(flight.handle));
            match changes.any(|change| change.lane == Lane::OptOut) {
                true => self.give_back(planned),
                false => self.planned.push_back(planned),
            }
        }
    }
}

impl Worker {
    /// Sends opt-outs that would have to wait.
    pub fn serve_opt_outs(&mut self, index: usize) -> SpiResult<()> {
        let (context, worker) = (&self.context, &mut self.targets[index]);
        if !worker.may_send_opt_out(&context.settings, context.now.instant) {
            return Ok(());
        }
        let leftover = match worker.unread_opt_outs(context.now.instant) {
            true => store::transaction(|| read_queue::read_opt_outs(worker, context))?,
            false => read_queue::Leftover::default(),
        };
        worker.call_opt_outs_back();
        let empty = leftover.empty;
        if !empty.is_empty() {
            store::transaction(|| settle::settle(worker, context, Vec::new(), empty))?;
        }
        if worker.queue.has_ready(Lane::OptOut) {
            self.send_opt_outs(index)?;
        }
        self.learn(&leftover.unknown).map(|_| ())
    }

    fn send_opt_outs(&mut self, index: usize) -> SpiResult<()> {
        let (context, worker) = (&self.context, &mut self.targets[index]);
        let plan = store::transaction(|| match watch::changed() {
            true => Ok(None),
            false => {
                dispatch!(worker.target, S => plan::plan_opt_outs::<S>(worker, context)).map(Some)
            }
        })?;
        let Some((draft, mut planned)) = plan else {
            return self.follow_catalog();
        };
        // What deletes is for the guard to see.
        let refused: Vec<PlannedCall> = planned
            .extract_if(.., |planned| planned.flights.iter().any(settle::deletes))
            .collect();
        // One at a time: what the others carry is read again when their turn comes.
        let others = planned.split_off(planned.len().min(1));
        for planned in refused.into_iter().chain(others) {
            worker.give_back(planned);
        }
        let mut planned = VecDeque::from(planned);
        let objected = draft.objections.has_found();
        let told = store::transaction(|| {
            intents::move_links(worker.target, context, draft.moves)?;
            draft.objections.store()?;
            if !draft.heirs.is_empty() {
                changes::put_retries(worker.target, &draft.heirs)?;
                worker.look_up_retries(context.now)?;
            }
            if intents::note_intents(worker.target, &mut planned)? {
                store::commit_durably()?;
            }
            settle::settle(worker, context, draft.outcomes, Vec::new())
        })?;
        if let Some(planned) = planned.pop_front() {
            self.requests.send_urgent(worker, context, planned);
        }
        self.context.objections |= objected;
        self.context.consent_writebacks.extend(told);
        Ok(())
    }
}
