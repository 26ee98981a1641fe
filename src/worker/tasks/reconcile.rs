//! Comparisons of both sides: the CRM's rows with the records they are linked to, and then the
//! service's records with the rows.
//!
//! They ask when no other lane has anything to send, one request at a time. An answer is judged in
//! the transaction that stores what it comes to, by one snapshot of rows, links and queue; whatever
//! was on its way since the question is left out. What is to be written to the CRM for it is judged
//! once more, record by record. Only what is in memory is lost at a crash: from the
//! mark on it is asked again.

mod judge;
mod members;
mod records;
mod repairs;
mod walk;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use integration_engine::jobs::Pace;
use integration_engine::now::Now;
use integration_engine::record::{RecordKey, RemoteId, Target, Timestamp};
use integration_hubspot::listing::ListingKind;
use pgrx::spi::SpiResult;

use repairs::RepairRead;

use crate::store::jobs::backfills::{self, JobEnd};
use crate::store::jobs::drift::{self, Course, ReconcileStage};
use crate::worker::Context;
use crate::worker::jobs::{self, A_MOMENT, Jobs, News, idle};
use crate::worker::target::{TargetWorker, UniqueProperty};
use crate::worker::task::{Answered, Task, Token, Turn};

/// Answers that make no sense, or rows that cannot be read, before a job fails.
const MOST_FAILURES: u32 = 3;

/// Something to be asked.
#[derive(Clone, Debug)]
enum Ask {
    /// The records that rows are linked to.
    Linked(Vec<(RecordKey, RemoteId)>, ListingKind),
    /// One that was not among them.
    Lost(RecordKey, RemoteId),
    /// A member that was not met in its audience.
    LostMember(RecordKey, RemoteId, String),
    /// The next records of all.
    Page,
    /// The same members once more: are these still there?
    PageAgain(HashSet<String>),
    /// Those of them that are linked to no row: are they still there?
    Strangers(Vec<RemoteId>),
}

/// A question under way.
#[derive(Clone, Debug)]
struct Asked {
    ask: Ask,
    /// The fields that were asked for.
    names: Vec<String>,
    at: Timestamp,
}

/// Where the walk is once all that was to be asked has been.
#[derive(Clone, Debug)]
struct Advance {
    stage: ReconcileStage,
    mark: Option<Vec<String>>,
    after: Option<String>,
    looked_at: u64,
}

struct RunningReconcile {
    course: Course,
    pace: Pace,
    shown_at: Option<Instant>,
    failures: u32,
    todo: VecDeque<Ask>,
    /// Records that are to be repaired before anything else is asked.
    parts: VecDeque<RepairRead>,
    asked: Option<(Token, Asked)>,
    advance: Option<Advance>,
}

impl RunningReconcile {
    fn new(course: Course) -> RunningReconcile {
        RunningReconcile {
            course,
            pace: Pace::default(),
            shown_at: None,
            failures: 0,
            todo: VecDeque::new(),
            parts: VecDeque::new(),
            asked: None,
            advance: None,
        }
    }

    /// Moves the mark if nothing is left to be asked below it. In the transaction that stores what
    /// was found there.
    fn go_on(&mut self, now: Now) -> SpiResult<bool> {
        if !self.todo.is_empty() || !self.parts.is_empty() {
            return Ok(false);
        }
        let Some(advance) = self.advance.take() else {
            return Ok(false);
        };
        let course = &mut self.course;
        course.done += advance.looked_at;
        match (course.stage, advance.stage) {
            // As many records there as rows here, as far as anybody knows.
            (ReconcileStage::Rows, ReconcileStage::Remote) => course.total = course.done * 2,
            (ReconcileStage::Archived, ReconcileStage::Rows) => course.total += course.done,
            _ => {}
        }
        (course.stage, course.mark, course.after) = (advance.stage, advance.mark, advance.after);
        course.total = match course.stage {
            ReconcileStage::Finished => course.done,
            ReconcileStage::Rows | ReconcileStage::Remote | ReconcileStage::Archived => {
                course.total.max(course.done)
            }
        };
        drift::save(course)?;
        let due = self.shown_at.is_none_or(|at| now.instant - at >= A_MOMENT);
        if due {
            self.shown_at = Some(now.instant);
            self.pace.note(now.timestamp, self.course.done);
        }
        Ok(due)
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Reconciles {
    /// Oldest job first.
    courses: Vec<RunningReconcile>,
    jobs: Jobs,
    /// As read before the rest of the configuration.
    stored: Vec<Course>,
}

impl Reconciles {
    /// Takes in which there are, and clears away those that are over.
    fn take_over(&mut self, stored: Vec<Course>, context: &Context) -> SpiResult<()> {
        self.jobs.loaded();
        let mut over = BTreeSet::new();
        for course in &stored {
            let sent = context
                .sources
                .get(&course.source)
                .is_some_and(|source| source.maps.contains_key(&course.target));
            if !course.open {
                over.insert(course.job);
            } else if !sent && !over.contains(&course.job) {
                let why = format!("the table is no longer sent to {}", course.target);
                if backfills::end(course.job, &JobEnd::Cancelled(why))? {
                    over.insert(course.job);
                } else {
                    self.jobs.try_again(context.now.instant);
                }
            }
        }
        over.iter().try_for_each(|job| drift::remove(*job))?;
        over.iter().for_each(|job| self.jobs.forget(*job));
        let mut before: HashMap<(i64, Target), RunningReconcile> = self
            .courses
            .drain(..)
            .map(|running| ((running.course.job, running.course.target), running))
            .collect();
        self.courses = stored
            .into_iter()
            .filter(|course| !over.contains(&course.job))
            .map(|course| {
                before
                    .remove(&(course.job, course.target))
                    .unwrap_or_else(|| RunningReconcile::new(course))
            })
            .collect();
        Ok(())
    }

    fn due(&self, worker: &TargetWorker, context: &Context, now: Instant) -> bool {
        let free = worker.blocked_until.is_none_or(|until| until <= now) && !self.jobs.rests(now);
        let mine = self
            .courses
            .iter()
            .find(|running| running.course.target == worker.target && self.unfinished(running));
        free && mine.is_some_and(|running| {
            running.asked.is_none()
                && running.parts.is_empty()
                && may_ask(worker, context, &running.course, now)
        })
    }

    /// Whether something is left to do about it; ending its job included.
    fn unfinished(&self, running: &RunningReconcile) -> bool {
        running.course.stage != ReconcileStage::Finished || self.finished(running.course.job)
    }

    /// Whether there is something left to compare with a target.
    fn wants(&self, target: Target) -> bool {
        self.courses
            .iter()
            .any(|running| running.course.target == target && self.unfinished(running))
    }

    fn finished(&self, job: i64) -> bool {
        self.courses
            .iter()
            .filter(|running| running.course.job == job)
            .all(|running| running.course.stage == ReconcileStage::Finished)
    }

    fn find(&mut self, job: i64, target: Target) -> Option<&mut RunningReconcile> {
        self.courses
            .iter_mut()
            .find(|running| running.course.job == job && running.course.target == target)
    }

    fn eta(&self, job: i64, now: Timestamp) -> Option<Timestamp> {
        let of_job = self
            .courses
            .iter()
            .filter(|running| running.course.job == job);
        let etas = of_job.map(|running| {
            let course = &running.course;
            let left = course.total.saturating_sub(course.done);
            running.pace.eta(now, left)
        });
        etas.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// It cannot go on; if that is not over soon, the job fails.
    fn refuse(&mut self, job: i64, target: Target, why: &str, now: Instant) -> SpiResult<()> {
        self.jobs.try_again(now);
        let Some(running) = self.find(job, target) else {
            return Ok(());
        };
        running.failures += 1;
        if running.failures >= MOST_FAILURES {
            backfills::end(job, &JobEnd::Failed(why.to_owned()))?;
        }
        Ok(())
    }
}

impl Task for Reconciles {
    fn read_jobs(&mut self) -> SpiResult<()> {
        self.stored = drift::load()?;
        Ok(())
    }

    fn load(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let stored = std::mem::take(&mut self.stored);
        self.take_over(stored, turn.context)
    }

    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        self.ask(turn)
    }

    fn on_answer(&mut self, answered: Answered, turn: &mut Turn) -> SpiResult<()> {
        self.hear(&answered, turn)
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        let (context, now) = (&*turn.context, turn.now());
        if turn
            .targets
            .iter()
            .any(|worker| self.due(worker, context, now))
        {
            return Some(Duration::ZERO);
        }
        let waits = [self.jobs.retry_in(now), self.repair_in(now)];
        waits.into_iter().flatten().min()
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.jobs.retry_in(now).is_none()
    }

    fn claims(&self, target: Target) -> bool {
        self.wants(target)
    }

    fn jobs(&mut self) -> Option<&mut Jobs> {
        Some(&mut self.jobs)
    }

    fn news(&self, turn: &Turn) -> Vec<News> {
        let left = self
            .courses
            .iter()
            .map(|running| &running.course)
            .filter(|course| course.stage != ReconcileStage::Finished)
            .map(|course| (course.job, course.target, course.source));
        self.jobs.news(left, turn.targets, turn.context)
    }
}

fn may_ask(worker: &TargetWorker, context: &Context, course: &Course, now: Instant) -> bool {
    idle(worker, context, now)
        && !worker.queue.holds(course.source)
        && jobs::property(worker, context, course.source) == UniqueProperty::Ready
}
