//! Opt-outs, while everything else has to wait: for a connection, for Mailchimp to let us in again,
//! or for an outage to end. One call at a time, and less and less often if they are refused, too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::retry::backoff;
use integration_engine::record::{Lane, Target};
use pgrx::spi::SpiResult;

use super::target::{PlannedCall, TargetWorker};
use super::{Worker, fill, identity, intake, settle};
use crate::config::Settings;
use crate::pg::watch;
use crate::store::{self, queue::changes};

/// Mailchimp: at most 10 connections at a time.
const MOST_CONNECTIONS: usize = 10;

/// Between calls that are refused: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How the calls fare that go out of turn.
#[derive(Default)]
pub struct Urgent {
    pub underway: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Urgent {
    /// Takes note of an answer.
    pub fn hear(&mut self, signal: &TargetSignal, now: Instant) {
        self.underway = false;
        if *signal == TargetSignal::Healthy {
            *self = Urgent::default();
            return;
        }
        let wait = backoff(self.failures, FIRST_WAIT, LONGEST_WAIT);
        self.failures += 1;
        self.not_before = Some(now + wait);
    }

    fn rests(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|until| until > now)
    }
}

impl TargetWorker {
    /// Whether opt-outs are sent though nothing else may be. Not where somebody stopped the target,
    /// or has to set something right.
    pub fn lets_opt_outs_through(&self, settings: &Settings, now: Instant) -> bool {
        self.target == Target::Mailchimp
            && self.account.known()
            && self.status(settings, now).state.may_send_opt_outs()
    }

    fn may_send_opt_out(&self, settings: &Settings, now: Instant) -> bool {
        !self.urgent.underway
            && !self.urgent.rests(now)
            && self.calls_in_flight < MOST_CONNECTIONS
            && self.lets_opt_outs_through(settings, now)
    }

    /// How long until an opt-out that waits may be tried again.
    pub fn opt_out_in(&self, settings: &Settings, now: Instant) -> Option<Duration> {
        let waits = self.queue.has_ready(Lane::OptOut) && !self.urgent.underway;
        let until = self.urgent.not_before.filter(|until| *until > now)?;
        (waits && self.lets_opt_outs_through(settings, now)).then(|| until - now)
    }

    /// PlannedCall calls that carry an opt-out, and have to wait: it is planned anew.
    fn call_opt_outs_back(&mut self) {
        let planned = std::mem::take(&mut self.planned);
        for planned in planned {
            let queue = &self.queue;
            let mut changes = planned
                .flights
                .iter()
                .filter_map(|flight| queue.change(flight.handle));
            match changes.any(|change| change.lane == Lane::OptOut) {
                true => fill::give_back(self, planned),
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
            true => store::transaction(|| intake::read_opt_outs(worker, context))?,
            false => intake::Leftover::default(),
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
            false => fill::plan_opt_outs(worker, context).map(Some),
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
            fill::give_back(worker, planned);
        }
        let mut planned = VecDeque::from(planned);
        let objected = draft.objections.has_found();
        let told = store::transaction(|| {
            identity::move_links(worker.target, context, draft.moves)?;
            draft.objections.store()?;
            if !draft.heirs.is_empty() {
                changes::put_retries(worker.target, &draft.heirs)?;
                settle::outlook(worker, context.now)?;
            }
            if identity::note_intents(worker.target, &mut planned)? {
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
