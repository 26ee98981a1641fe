//! Answers to an erasure's requests, and its end.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::erasure::{ErasureAnswer, ErasureStep};
use integration_engine::limits::retry;
use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use super::Erasures;
use super::begin::is_free;
use crate::pg;
use crate::services;
use crate::store;
use crate::store::jobs::erasures;
use crate::store::links;
use crate::store::queue::withheld::{self, Reason};
use crate::worker::associations;
use crate::worker::task::{Answered, Turn};

/// While the target as a whole is in trouble, a request is not put off for longer.
const TROUBLE: Duration = Duration::from_secs(60);

impl Erasures {
    /// Takes in an answer.
    pub(super) fn hear(&mut self, answered: &Answered, turn: &mut Turn) -> SpiResult<()> {
        let (settings, now) = (&turn.context.settings, turn.context.now);
        let asked = self.running.iter_mut().find_map(|running| {
            let mut calls = running.calls.iter_mut();
            let call = calls.find(|call| call.asked == Some(answered.token))?;
            Some((running.erasure.job, call))
        });
        let Some((job, call)) = asked else {
            return Ok(());
        };
        let place = call.place;
        call.asked = None;
        if !answered.current {
            return Ok(());
        }
        let (step, result) = (call.step.clone(), &answered.result);
        let answer = match services::erasure_answer(&step, result.as_ref(), &settings.hubspot_api) {
            ErasureAnswer::Not(why) => {
                let trouble = services::signal(step.target(), result) != TargetSignal::Healthy;
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
            pg::guarded(AssertUnwindSafe(|| {
                self.call_done(job, place, answer, turn)
            }))
        });
        match outcome {
            Ok(over) => {
                if over? {
                    self.end_erasure(job, now.instant)?;
                }
            }
            // It is asked once more, which does no harm.
            Err(why) => self.postpone(job, &why, now.instant),
        }
        Ok(())
    }

    /// A request has done its work; `true` when it was the last one.
    fn call_done(
        &mut self,
        job: i64,
        place: i32,
        answer: ErasureAnswer,
        turn: &mut Turn,
    ) -> SpiResult<bool> {
        let Some(running) = self.find(job) else {
            return Ok(false);
        };
        let (record, entity) = (running.erasure.record.clone(), running.erasure.entity);
        let Some(call) = running.calls.iter().find(|call| call.place == place) else {
            return Ok(false);
        };
        let target = call.step.target();
        let answer = match answer {
            ErasureAnswer::Found(id) if !is_free(turn.context, &running.erasure, &id)? => {
                ErasureAnswer::Absent
            }
            ErasureAnswer::Found(id) => {
                withheld::put(&record, Target::HubSpot, id.as_str(), Reason::Erased)?;
                ErasureAnswer::Found(id)
            }
            answer => answer,
        };
        let mut next = call.step.next(entity, answer, &running.erasure.addresses);
        let planned = |step: &ErasureStep| running.calls.iter().any(|call| call.step == *step);
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
                && let Some(worker) = turn.targets.iter_mut().find(|w| w.target == target)
            {
                let settled = associations::Settled {
                    unlinked: std::slice::from_ref(&record),
                    ..Default::default()
                };
                associations::note(worker, turn.context, settled)?;
            }
            links::remove(target, &[record])?;
        }
        self.reload(turn.targets)?;
        Ok(over)
    }

    /// All is done.
    pub(super) fn end_erasure(&mut self, job: i64, now: Instant) -> SpiResult<()> {
        let outcome = store::transaction(|| pg::guarded(AssertUnwindSafe(|| erasures::end(job))));
        match outcome {
            Ok(ended) => {
                if ended? {
                    self.running.retain(|running| running.erasure.job != job);
                    self.jobs.forget(job);
                } else {
                    // Somebody is changing the job, perhaps cancelling it.
                    self.jobs.try_again(now);
                }
            }
            Err(why) => self.postpone(job, &why, now),
        }
        Ok(())
    }
}
