//! Erasures: people who are to be removed from the services and from here.
//!
//! A record is withheld from the transaction on that asked for its erasure. What is under way for it
//! then is waited for; only then is it known what the services hold. Requests leave before those of
//! records, out of the same budget, and each can be repeated: after a crash they are simply made
//! again.

mod begin;
mod take;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use integration_engine::erasure::ErasureStep;
use integration_engine::record::{Entity, SourceId};
use pgrx::spi::SpiResult;

use crate::services;
use crate::store;
use crate::store::jobs::erasures::{self, Erasure};
use crate::worker::jobs::{self, Jobs, News};
use crate::worker::target::TargetWorker;
use crate::worker::task::{Answered, Question, QuestionKind, Task, Token, Turn};
use crate::worker::{Context, requests};

/// Erasures in memory; the others follow when these are done.
const MOST: usize = 500;

/// Erasures begun in one turn: each looks through inbox and logs, and nobody shall wait for long.
const BEGUN_AT_ONCE: usize = 1;

/// Requests of a target under way at once: records shall not wait for people who leave.
const CALLS_AT_ONCE: usize = 2;

/// How long to wait for what is under way for a record.
const FLYING: Duration = Duration::from_millis(50);

/// A request that has to be made.
struct ErasureCall {
    place: i32,
    step: ErasureStep,
    /// The question under way.
    asked: Option<Token>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Why the last attempt failed.
    why: Option<String>,
}

struct RunningErasure {
    erasure: Erasure,
    calls: Vec<ErasureCall>,
    /// What kept it from being begun or ended.
    trouble: Option<String>,
    retry_at: Option<Instant>,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Erasures {
    /// Oldest job first.
    running: Vec<RunningErasure>,
    more: bool,
    jobs: Jobs,
    look_at: Option<Instant>,
}

impl Erasures {
    /// Reads which there are, and what they still have to ask.
    fn reload(&mut self, targets: &mut [TargetWorker]) -> SpiResult<()> {
        self.jobs.loaded();
        let stored = erasures::load(MOST as i64)?;
        self.more = stored.len() == MOST;
        let mut before: HashMap<i64, RunningErasure> = self
            .running
            .drain(..)
            .map(|running| (running.erasure.job, running))
            .collect();
        let mut calls: HashMap<i64, Vec<ErasureCall>> = HashMap::new();
        for call in erasures::calls(stored.iter().map(|erasure| erasure.job).collect())? {
            let known = before
                .get_mut(&call.job)
                .and_then(|running| running.calls.iter().position(|c| c.place == call.place))
                .and_then(|at| Some(before.get_mut(&call.job)?.calls.swap_remove(at)));
            let pending = known.unwrap_or(ErasureCall {
                place: call.place,
                step: call.step,
                asked: None,
                failures: 0,
                retry_at: None,
                why: None,
            });
            calls.entry(call.job).or_default().push(pending);
        }
        for erasure in stored {
            let known = before.remove(&erasure.job);
            self.running.push(RunningErasure {
                calls: calls.remove(&erasure.job).unwrap_or_default(),
                trouble: known.as_ref().and_then(|known| known.trouble.clone()),
                retry_at: known.and_then(|known| known.retry_at),
                erasure,
            });
        }
        before.keys().for_each(|job| self.jobs.forget(*job));
        for worker in targets {
            worker.erasures = erasures::count(worker.target)?;
        }
        Ok(())
    }

    fn look_in(&mut self, wait: Duration, now: Instant) {
        let at = now + wait;
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    fn find(&mut self, job: i64) -> Option<&mut RunningErasure> {
        self.running
            .iter_mut()
            .find(|running| running.erasure.job == job)
    }
}

impl RunningErasure {
    /// `None`: it is being done.
    fn waits_for(&self, targets: &[TargetWorker], context: &Context) -> Option<String> {
        if !self.erasure.begun {
            return self.trouble.clone().or_else(|| stopped(targets, context));
        }
        let mut reasons = BTreeSet::new();
        for call in &self.calls {
            let worker = targets.iter().find(|w| w.target == call.step.target())?;
            // The unique property is of no concern.
            let why = jobs::waits_for(worker, context, SourceId(0));
            reasons.insert(why.or_else(|| call.why.clone())?);
        }
        reasons.extend(self.trouble.clone());
        let reasons: Vec<String> = reasons.into_iter().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Why nothing at all is to be done, here or elsewhere.
fn stopped(targets: &[TargetWorker], context: &Context) -> Option<String> {
    let whole = targets
        .iter()
        .find(|worker| worker.fenced || !context.settings.enabled)?;
    jobs::waits_for(whole, context, SourceId(0))
}

impl Task for Erasures {
    /// Reads which there are, and what they still have to ask.
    fn load(&mut self, turn: &mut Turn) -> SpiResult<()> {
        self.reload(turn.targets)
    }

    /// Begins erasures and makes their requests, as far as that may be.
    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        self.look_at = None;
        if self.running.is_empty() {
            return Ok(());
        }
        self.begin_erasures(turn)?;
        for index in 0..turn.targets.len() {
            self.ask(index, turn);
        }
        Ok(())
    }

    fn on_answer(&mut self, answered: Answered, turn: &mut Turn) -> SpiResult<()> {
        self.hear(&answered, turn)
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        self.due_in(turn.now())
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.due_in(now).is_none()
    }

    fn jobs(&mut self) -> Option<&mut Jobs> {
        Some(&mut self.jobs)
    }

    fn news(&self, turn: &Turn) -> Vec<News> {
        let reasons = self.running.iter().map(|running| {
            let why = running.waits_for(turn.targets, turn.context);
            (running.erasure.job, why)
        });
        self.jobs.changed(reasons)
    }
}

impl Erasures {
    /// How long until there is something to do by itself.
    fn due_in(&self, now: Instant) -> Option<Duration> {
        let own = self.look_at.map(|at| at.saturating_duration_since(now));
        own.into_iter().chain(self.jobs.retry_in(now)).min()
    }

    fn begin_erasures(&mut self, turn: &mut Turn) -> SpiResult<()> {
        if stopped(turn.targets, turn.context).is_some() {
            return Ok(());
        }
        let now = turn.context.now.instant;
        let mut begun = 0;
        let jobs: Vec<i64> = self
            .running
            .iter()
            .map(|running| running.erasure.job)
            .collect();
        for job in jobs {
            let Some(running) = self.find(job) else {
                continue;
            };
            let record = &running.erasure.record;
            let over = running.erasure.begun && running.calls.is_empty();
            if running.erasure.begun && !over {
                continue;
            }
            let rests = running.retry_at.filter(|retry_at| now < *retry_at);
            if let Some(retry_at) = rests {
                self.look_in(retry_at - now, now);
                continue;
            }
            let flying = turn
                .targets
                .iter()
                .any(|worker| worker.queue.is_flying(record));
            if flying && !over {
                self.look_in(FLYING, now);
                continue;
            }
            begun += 1;
            if begun > BEGUN_AT_ONCE {
                self.look_in(Duration::ZERO, turn.context.now.instant);
                break;
            }
            self.begin_erasure(job, turn)?;
        }
        self.reload_erasures(turn)
    }

    /// Forgets those that are over; reads on if there are more.
    fn reload_erasures(&mut self, turn: &mut Turn) -> SpiResult<()> {
        if self.more && self.running.is_empty() {
            store::transaction(|| self.reload(turn.targets))?;
            self.look_in(Duration::ZERO, turn.context.now.instant);
        }
        Ok(())
    }

    /// Makes requests of a target, as far as that may be.
    fn ask(&mut self, index: usize, turn: &mut Turn) {
        let (target, now) = (turn.targets[index].target, turn.now());
        let worker = &turn.targets[index];
        if !worker.may_send(&turn.context.settings, now)
            || requests::unidentified(worker, turn.context)
        {
            return;
        }
        let mut calls: Vec<(Entity, &mut ErasureCall)> = Vec::new();
        for running in &mut self.running {
            let entity = running.erasure.entity;
            let mine = running.calls.iter_mut();
            let mine = mine.filter(|call| call.step.target() == target);
            calls.extend(mine.map(|call| (entity, call)));
        }
        let mut under_way = calls
            .iter()
            .filter(|(_, call)| call.asked.is_some())
            .count();
        let mut look_in: Option<Duration> = None;
        for (entity, call) in calls {
            if call.asked.is_some() {
                continue;
            }
            if let Some(retry_at) = call.retry_at.filter(|at| now < *at) {
                look_in = look_in.into_iter().chain([retry_at - now]).min();
                continue;
            }
            let worker = &turn.targets[index];
            let crowded = worker.calls_in_flight >= worker.most_calls(&turn.context.settings);
            if under_way >= CALLS_AT_ONCE || crowded {
                // Whatever is under way wakes us when it is answered.
                break;
            }
            let request =
                services::erasure_request(&call.step, entity, &turn.context.settings.hubspot_api);
            let logged_path = Some(call.step.logged_path(&request));
            let question = Question {
                request,
                kind: QuestionKind::Erase,
                logged_path,
            };
            call.asked = turn.ask(target, question);
            if call.asked.is_none() {
                let until = turn.targets[index].blocked_until;
                let until = until.map(|at| at.saturating_duration_since(now));
                look_in = look_in.into_iter().chain(until).min();
                break;
            }
            under_way += 1;
        }
        if let Some(wait) = look_in {
            self.look_in(wait, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_look_counts() {
        let now = crate::pg::clock::now().instant;
        let mut task = Erasures::default();
        assert_eq!(task.due_in(now), None);
        task.look_in(FLYING, now);
        task.look_in(2 * FLYING, now);
        assert_eq!(task.due_in(now), Some(FLYING));
        task.look_in(Duration::ZERO, now);
        assert_eq!(task.due_in(now), Some(Duration::ZERO));
    }

    #[test]
    fn job_that_somebody_changes_keeps_the_worker() {
        let now = crate::pg::clock::now().instant;
        let mut task = Erasures::default();
        assert!(task.is_idle(now));
        task.jobs.try_again(now);
        assert!(!task.is_idle(now));
    }
}
