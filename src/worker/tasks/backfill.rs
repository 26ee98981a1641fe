//! Backfills: rows a table has already are queued chunk by chunk, in a lane of their own, as there
//! is room.
//!
//! A chunk and the mark that says it is queued are one transaction: whenever the worker ends, it
//! goes on where it was. From there on a chunk is a queue row like any other.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use integration_engine::delivery::target_state::TargetState;
use integration_engine::jobs::Pace;
use integration_engine::record::{Lane, SourceId, Target, Timestamp};
use pgrx::PgSqlErrorCode;
use pgrx::spi::SpiResult;

use crate::capture;
use crate::pg::SqlError;
use crate::store;
use crate::store::holds;
use crate::store::jobs::backfills::{self, BackfillStage, BackfillWalk, JobEnd};
use crate::worker::Context;
use crate::worker::jobs::{self, A_MOMENT, Jobs, News};
use crate::worker::target::{TargetWorker, UniqueProperty};
use crate::worker::task::{Task, Turn};

/// Rows looked at in one statement, at most; those that are wanted make a queue row.
const CHUNK: usize = 1_000;

/// Such statements a chunk: a filter may let few rows through, and calls are to leave full.
const MOST_LOOKS: usize = 10;

/// Chunks of a target that may be in the queue at once: twice what 50 connections carry.
const MOST_CHUNKS: usize = 16;

/// Chunks queued in one transaction.
const AT_ONCE: usize = 4;

/// With so many records waiting for another attempt, something is wrong: no more are added.
const MOST_RETRIES: i64 = 10_000;

/// A walk that fails is tried again, as the table may have been renamed or locked; not for ever.
const MOST_FAILURES: u32 = 3;

/// A walk under way.
struct RunningBackfill {
    walk: BackfillWalk,
    pace: Pace,
    shown_at: Option<Instant>,
    /// Chunks of its target in the queue when it was last looked at.
    chunks: usize,
    failures: u32,
}

impl RunningBackfill {
    fn new(walk: BackfillWalk) -> RunningBackfill {
        RunningBackfill {
            walk,
            pace: Pace::default(),
            shown_at: None,
            chunks: 0,
            failures: 0,
        }
    }

    /// Whether progress has lately been shown.
    fn shown(&self, now: Instant) -> bool {
        self.shown_at.is_some_and(|at| now - at < A_MOMENT)
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Backfills {
    /// Oldest job first.
    walks: Vec<RunningBackfill>,
    jobs: Jobs,
    /// As read before the rest of the configuration.
    stored: Vec<BackfillWalk>,
}

impl Backfills {
    /// Takes in which there are, and clears away those that are over.
    fn take_over(
        &mut self,
        stored: Vec<BackfillWalk>,
        targets: &mut [TargetWorker],
        context: &Context,
    ) -> SpiResult<()> {
        self.jobs.loaded();
        // Those that are over, and those that ought to be but whose row somebody holds just now.
        let (mut over, mut stuck) = (BTreeSet::new(), BTreeSet::new());
        for walk in &stored {
            let source = context.sources.get(&walk.source);
            let sent = source.is_some_and(|source| source.maps.contains_key(&walk.target));
            if walk.open && !sent && !over.contains(&walk.job) && !stuck.contains(&walk.job) {
                let why = match source {
                    Some(source) => format!("{} is no longer sent to {}", source.name, walk.target),
                    None => "the table is no longer tracked, or was dropped".to_owned(),
                };
                let ended = backfills::end(walk.job, &JobEnd::Cancelled(why))?;
                if ended { &mut over } else { &mut stuck }.insert(walk.job);
            } else if !walk.open {
                over.insert(walk.job);
            }
        }
        if !stuck.is_empty() {
            self.jobs.try_again(context.now.instant);
        }
        for walk in stored.iter().filter(|walk| over.contains(&walk.job)) {
            clear(targets, walk.target, walk.source)?;
        }
        over.iter().try_for_each(|job| backfills::remove(*job))?;
        over.iter().for_each(|job| self.jobs.forget(*job));
        let mut before: HashMap<(i64, Target), RunningBackfill> = self
            .walks
            .drain(..)
            .map(|running| ((running.walk.job, running.walk.target), running))
            .collect();
        for walk in stored {
            if !over.contains(&walk.job) && !stuck.contains(&walk.job) {
                let running = match before.remove(&(walk.job, walk.target)) {
                    Some(running) => RunningBackfill { walk, ..running },
                    None => RunningBackfill::new(walk),
                };
                self.walks.push(running);
            }
        }
        for worker in targets {
            worker.chunks = self.count(worker)?;
        }
        Ok(())
    }

    fn count(&self, worker: &TargetWorker) -> SpiResult<usize> {
        if self.walks.is_empty() {
            return Ok(0);
        }
        backfills::queued(worker.target, None, &worker.held_sources()).map(|queued| queued.chunks)
    }

    /// Whether there is something to do for a target.
    fn due(&self, worker: &TargetWorker, context: &Context, now: Instant) -> bool {
        if self.walks.is_empty() || self.jobs.rests(now) {
            return false;
        }
        let most = most_chunks(context);
        let room = worker.chunks + AT_ONCE.min(most.div_ceil(4)) <= most;
        self.walks
            .iter()
            .filter(|running| running.walk.target == worker.target)
            .any(|running| {
                let news = worker.chunks < running.chunks && !running.shown(now);
                match running.walk.stage {
                    BackfillStage::Walking => {
                        news || room && may_feed(worker, context, running.walk.source, now)
                    }
                    BackfillStage::Settling => {
                        let held = holds::is_held_for(running.walk.source, worker.target);
                        news || (worker.chunks == 0 && !held)
                    }
                    BackfillStage::Finished => self.finished(running.walk.job),
                }
            })
    }

    fn finished(&self, job: i64) -> bool {
        self.of(job)
            .all(|running| running.walk.stage == BackfillStage::Finished)
    }

    fn of(&self, job: i64) -> impl Iterator<Item = &RunningBackfill> {
        self.walks
            .iter()
            .filter(move |running| running.walk.job == job)
    }

    /// Queues what there is room for, and notes what has been settled. In one transaction.
    fn feed(&mut self, worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
        self.jobs.go_on();
        let now = context.now.instant;
        let mut free = most_chunks(context)
            .saturating_sub(backfills::queued(worker.target, None, &worker.held_sources())?.chunks)
            .min(AT_ONCE);
        let mut refused = None;
        let mut shown = BTreeSet::new();
        for running in &mut self.walks {
            let stage = running.walk.stage;
            if running.walk.target != worker.target || stage == BackfillStage::Finished {
                continue;
            }
            if stage == BackfillStage::Walking
                && may_feed(worker, context, running.walk.source, now)
            {
                while free > 0 && running.walk.stage == BackfillStage::Walking && refused.is_none()
                {
                    free -= 1;
                    refused = advance(running, context)?;
                }
            }
            let waiting = backfills::queued(worker.target, Some(running.walk.source), &[])?.records;
            let walk = &mut running.walk;
            walk.done = walk.queued.saturating_sub(waiting);
            if walk.stage == BackfillStage::Settling && waiting == 0 {
                walk.stage = BackfillStage::Finished;
            }
            backfills::save(walk)?;
            if !running.shown(now) || running.walk.stage != stage {
                running.shown_at = Some(now);
                running.pace.note(context.now.timestamp, running.walk.done);
                shown.insert(running.walk.job);
            }
        }
        worker.chunks = self.count(worker)?;
        worker.look_at(Lane::Backfill);
        for running in &mut self.walks {
            if running.walk.target == worker.target {
                running.chunks = worker.chunks;
            }
        }
        for job in shown {
            backfills::progress(job, self.eta(job, context.now.timestamp))?;
        }
        if let Some((job, why)) = refused {
            self.refuse(job, &why, now)?;
        }
        self.end_finished(now)
    }

    /// The walk could not go on. The table may be locked, or have another name by now; if neither is
    /// it, the job fails.
    fn refuse(&mut self, job: i64, why: &SqlError, now: Instant) -> SpiResult<()> {
        self.jobs.try_again(now);
        let failures = self.of(job).map(|running| running.failures).max();
        if failures.is_some_and(|failures| failures >= MOST_FAILURES) {
            // Should that have to wait, it fails once more.
            if backfills::end(job, &JobEnd::Failed(why.message.clone()))? {
                self.jobs.go_on();
            }
        }
        Ok(())
    }

    fn end_finished(&mut self, now: Instant) -> SpiResult<()> {
        let jobs: BTreeSet<i64> = self.walks.iter().map(|running| running.walk.job).collect();
        for job in jobs {
            if !self.finished(job) {
                continue;
            }
            if backfills::end(job, &JobEnd::Done)? {
                backfills::remove(job)?;
                self.walks.retain(|running| running.walk.job != job);
                self.jobs.forget(job);
            } else {
                // Somebody is changing it, perhaps cancelling.
                self.jobs.try_again(now);
            }
        }
        Ok(())
    }

    /// When a job will be done: when the last of its targets is.
    fn eta(&self, job: i64, now: Timestamp) -> Option<Timestamp> {
        let etas = self.of(job).map(|running| {
            let walk = &running.walk;
            running
                .pace
                .eta(now, walk.total().saturating_sub(walk.done))
        });
        etas.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

impl Task for Backfills {
    fn read_jobs(&mut self) -> SpiResult<()> {
        self.stored = backfills::load()?;
        Ok(())
    }

    fn load(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let stored = std::mem::take(&mut self.stored);
        self.take_over(stored, turn.targets, turn.context)
    }

    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let (context, now) = (&*turn.context, turn.now());
        for worker in turn.targets.iter_mut() {
            if self.due(worker, context, now) {
                store::transaction(|| self.feed(worker, context))?;
            }
        }
        Ok(())
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        let (context, now) = (&*turn.context, turn.now());
        let mut targets = turn.targets.iter();
        if targets.any(|worker| self.due(worker, context, now)) {
            return Some(Duration::ZERO);
        }
        self.jobs.retry_in(now)
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.jobs.retry_in(now).is_none()
    }

    fn jobs(&mut self) -> Option<&mut Jobs> {
        Some(&mut self.jobs)
    }

    fn news(&self, turn: &Turn) -> Vec<News> {
        let left = self
            .walks
            .iter()
            .map(|running| &running.walk)
            .filter(|walk| walk.stage != BackfillStage::Finished)
            .map(|walk| (walk.job, walk.target, walk.source));
        self.jobs.news(left, turn.targets, turn.context)
    }
}

/// Takes what waits out of the queue: in memory, and in the table.
fn clear(targets: &mut [TargetWorker], target: Target, source: SourceId) -> SpiResult<()> {
    if let Some(worker) = targets.iter_mut().find(|worker| worker.target == target) {
        worker.queue.withdraw(Lane::Backfill, source);
        worker.look_at(Lane::Backfill);
    }
    backfills::drop_queued(target, source)
}

fn chunk(context: &Context) -> usize {
    CHUNK.min(context.settings.max_records / 4).max(1)
}

fn most_chunks(context: &Context) -> usize {
    // The rest of the memory stays free for what is more urgent. Less would not do: ten of
    // Mailchimp's calls carry 5,000 records, and a chunk counts until its last one is settled.
    let most = context.settings.max_records * 4 / 5;
    MOST_CHUNKS.min(most / chunk(context)).max(1)
}

/// Whether more may be queued for a target.
fn may_feed(worker: &TargetWorker, context: &Context, source: SourceId, now: Instant) -> bool {
    let state = worker.status(&context.settings, now).state;
    // A target that fails has to be sent something now and then, to see whether it is well again.
    let serves = match state {
        TargetState::Outage => worker.chunks == 0,
        state => state.may_send(),
    };
    serves
        && !worker.queue.holds(source)
        && jobs::property(worker, context, source) == UniqueProperty::Ready
        && worker.retrying < MOST_RETRIES
}

/// Queues one chunk of a walk. Returns why that was refused.
fn advance(running: &mut RunningBackfill, context: &Context) -> SpiResult<Option<(i64, SqlError)>> {
    let walk = &mut running.walk;
    let Some(source) = context.sources.get(&walk.source) else {
        return Ok(None);
    };
    let (chunk, mut wanted, mut refused) = (chunk(context), Vec::new(), None);
    for _ in 0..MOST_LOOKS {
        let keys =
            match backfills::next_keys(source, walk.mark.as_deref(), walk.filter.as_deref(), chunk)
            {
                Ok(keys) => keys,
                Err(why) => {
                    let why = why.into_error();
                    let locked = why.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE;
                    running.failures += u32::from(!locked);
                    refused = Some((walk.job, why));
                    break;
                }
            };
        running.failures = 0;
        walk.walked += keys.looked_at as u64;
        walk.queued += keys.wanted.len() as u64;
        wanted.extend(keys.wanted);
        if keys.last.is_some() {
            walk.mark = keys.last;
        }
        if keys.looked_at < chunk {
            walk.stage = BackfillStage::Settling;
        }
        if walk.stage == BackfillStage::Settling || wanted.len() >= chunk {
            break;
        }
    }
    let keys = wanted.iter().map(|key| key.as_str());
    capture::enqueue(walk.target, source.id, Lane::Backfill, keys);
    Ok(refused)
}
