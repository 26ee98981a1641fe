//! Answers to an erasure's requests, and its end.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::erasure::{Answer, Step};
use integration_engine::limits::retry;
use integration_engine::now::Now;
use integration_engine::record::Target;
use integration_engine::wire::{Reply, TransportError};
use pgrx::spi::SpiResult;

use super::begin::is_free;
use crate::http;
use crate::pg;
use crate::services;
use crate::store;
use crate::store::withheld::{self, Reason};
use crate::store::{erasures, links};
use crate::worker::target::TargetWorker;
use crate::worker::{Worker, answers, associations, reconcile};

/// While the target as a whole is in trouble, a request is not put off for longer.
const TROUBLE: Duration = Duration::from_secs(60);

/// An answer that came in.
pub struct Answered {
    pub job: i64,
    pub place: i32,
    /// It was sent with the credential we have now.
    pub current: bool,
    pub result: Result<Reply, TransportError>,
}

/// What an answer says about its target. That we may not erase people (HTTP 403) says nothing about
/// what else we may do there.
pub fn note(worker: &mut TargetWorker, answer: &http::Answer, current: bool, now: Now) {
    let result = &answer.result;
    let forbidden = matches!(result, Ok(reply) if reply.status == 403);
    let signal = answers::signal(worker.target, result);
    if forbidden && matches!(signal, TargetSignal::Unauthorized { .. }) {
        worker.calls_in_flight = worker.calls_in_flight.saturating_sub(1);
        worker.blocked_until = None;
        worker.breaker.success();
        return;
    }
    reconcile::note(worker, answer, current, now);
}

impl Worker {
    /// Takes in answers.
    pub(in crate::worker) fn take_erasures(&mut self, answered: Vec<Answered>) -> SpiResult<()> {
        for answered in answered {
            self.take_erasure(answered)?;
        }
        Ok(())
    }

    fn take_erasure(&mut self, answered: Answered) -> SpiResult<()> {
        let Answered { job, place, .. } = answered;
        let (settings, now) = (&self.world.settings, self.world.now);
        let Some(running) = self.erasures.find(job) else {
            return Ok(());
        };
        let Some(call) = running.calls.iter_mut().find(|call| call.place == place) else {
            return Ok(());
        };
        call.under_way = false;
        if !answered.current {
            return Ok(());
        }
        let (step, result) = (call.step.clone(), &answered.result);
        let answer = match services::erasure_answer(&step, result.as_ref(), &settings.hubspot_api) {
            Answer::Not(why) => {
                let trouble = answers::signal(step.target(), result) != TargetSignal::Healthy;
                call.failures += 1;
                let delay = retry::next_delay(
                    call.failures,
                    &settings.retry,
                    now.jitter(job.unsigned_abs().wrapping_add(place.unsigned_abs().into())),
                );
                let delay = if trouble { delay.min(TROUBLE) } else { delay };
                call.retry_at = Some(now.instant + delay);
                call.why = Some(format!("waits, and tries again: {why}"));
                return Ok(());
            }
            answer => answer,
        };
        let outcome = store::transaction(|| {
            pg::guarded(AssertUnwindSafe(|| self.call_done(job, place, answer)))
        });
        match outcome {
            Ok(over) => {
                if over? {
                    self.end_erasure(job)?;
                }
            }
            // It is asked once more, which does no harm.
            Err(why) => self.erasures.postpone(job, &why, self.world.now.instant),
        }
        Ok(())
    }

    /// A request has done its work; `true` when it was the last one.
    fn call_done(&mut self, job: i64, place: i32, answer: Answer) -> SpiResult<bool> {
        let Some(running) = self.erasures.find(job) else {
            return Ok(false);
        };
        let (record, entity) = (running.erasure.record.clone(), running.erasure.entity);
        let Some(call) = running.calls.iter().find(|call| call.place == place) else {
            return Ok(false);
        };
        let target = call.step.target();
        let answer = match answer {
            Answer::Found(id) if !is_free(&self.world, &running.erasure, &id)? => Answer::Absent,
            Answer::Found(id) => {
                withheld::put(&record, Target::HubSpot, id.as_str(), Reason::Erased)?;
                Answer::Found(id)
            }
            answer => answer,
        };
        let mut next = call.step.next(entity, answer, &running.erasure.addresses);
        let planned = |step: &Step| running.calls.iter().any(|call| call.step == *step);
        next.retain(|step| !planned(step));
        erasures::done(job, place, &next)?;
        let last = next.is_empty()
            && running
                .calls
                .iter()
                .all(|call| call.place == place || call.step.target() != target);
        let over = next.is_empty() && running.calls.len() == 1;
        if last {
            // Whoever has the address next must not inherit what is gone.
            if target == Target::HubSpot
                && let Some(worker) = self.targets.iter_mut().find(|w| w.target == target)
            {
                let settled = associations::Settled {
                    unlinked: std::slice::from_ref(&record),
                    ..Default::default()
                };
                associations::note(worker, &self.world, settled)?;
            }
            links::remove(target, &[record])?;
        }
        self.erasures.load(&mut self.targets)?;
        Ok(over)
    }

    /// All is done.
    pub(super) fn end_erasure(&mut self, job: i64) -> SpiResult<()> {
        let outcome = store::transaction(|| pg::guarded(AssertUnwindSafe(|| erasures::end(job))));
        match outcome {
            Ok(ended) => {
                if ended? {
                    self.erasures
                        .running
                        .retain(|running| running.erasure.job != job);
                    self.erasures.jobs.forget(job);
                } else {
                    // Somebody is changing the job, perhaps cancelling it.
                    self.erasures.jobs.try_again(self.world.now.instant);
                }
            }
            Err(why) => self.erasures.postpone(job, &why, self.world.now.instant),
        }
        Ok(())
    }
}
