//! What the worker does beside the road of records.
//!
//! A task says what it wants to ask, what an answer meant, and how long there is nothing to do for it
//! unless somebody wakes the worker. Answers come back by the token that a question got. The loop
//! knows no task by name: [`super::tasks`] lists them.

use std::time::{Duration, Instant};

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::now::Now;
use integration_engine::record::Target;
use integration_engine::wire::{Reply, Request, TransportError};
use integration_hubspot as hubspot;
use pgrx::spi::SpiResult;

use super::Context;
use super::jobs::{Jobs, News};
use super::requests::Requests;
use super::target::TargetWorker;
use crate::http::Answer;
use crate::pg::clock;
use crate::pg::shmem::Wake;
use crate::services;
use crate::store;
use crate::store::queue::dead_letters::LogEntry;

/// Tells questions apart: an answer has its question's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Tells tasks apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskId(usize);

/// What kind of question it is: how its answer counts for the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// Reads, perhaps much: it counts for how much the target is asked for at once.
    Read,
    /// Erases people. That this is forbidden says nothing about what else may be done there.
    Erase,
    /// Past the target's budget: the task keeps limits of its own, and takes note of what the answer
    /// says about the target.
    Aside,
}

impl QuestionKind {
    /// Takes note of what an answer says about its target. `current`: it was asked with the
    /// credential we have now.
    pub fn note(self, worker: &mut TargetWorker, answer: &Answer, current: bool, now: Now) {
        if self == QuestionKind::Aside {
            return;
        }
        let result = &answer.result;
        worker.calls_in_flight = worker.calls_in_flight.saturating_sub(1);
        worker.blocked_until = None;
        let signal = services::signal(worker.target, result);
        let concerns_asker = match (&signal, result) {
            (TargetSignal::Forbidden { .. }, _) => true,
            (TargetSignal::Unauthorized { .. }, Ok(reply)) => {
                self == QuestionKind::Erase && reply.status == 403
            }
            // It answers all right.
            (_, Err(TransportError::TooLarge(_))) => true,
            _ => false,
        };
        if concerns_asker {
            worker.breaker.success();
            return;
        }
        if !current && matches!(signal, TargetSignal::Unauthorized { .. }) {
            return;
        }
        let mut budget = match (worker.target, result) {
            (Target::HubSpot, Ok(reply)) => hubspot::budget(reply),
            _ => Default::default(),
        };
        budget.took = Some(answer.duration);
        if signal == TargetSignal::Healthy {
            worker.account.proven();
        }
        worker.hear(&signal, &budget, now);
    }
}

/// Something to ask a service.
pub struct Question {
    pub request: Request,
    pub kind: QuestionKind,
    /// Its path as it is logged, where the real one names somebody who is to be forgotten.
    pub logged_path: Option<String>,
}

impl Question {
    pub fn reading(request: Request) -> Question {
        Question {
            request,
            kind: QuestionKind::Read,
            logged_path: None,
        }
    }

    pub fn aside(request: Request) -> Question {
        Question {
            kind: QuestionKind::Aside,
            ..Question::reading(request)
        }
    }
}

/// An answer that came in.
pub struct Answered {
    pub token: Token,
    /// It was sent with the credential we have now.
    pub current: bool,
    pub result: Result<Reply, TransportError>,
    pub duration: Duration,
}

/// What a task sees of the worker during its turn.
pub struct Turn<'a> {
    pub context: &'a mut Context,
    pub targets: &'a mut [TargetWorker],
    pub requests: &'a mut Requests,
    /// What the worker was woken for.
    pub wake: Wake,
    /// What tasks want looked at: in another turn, at once.
    pub called: Wake,
    /// Targets that a task listed earlier still has something to ask of.
    claimed: Vec<Target>,
    task: TaskId,
}

impl<'a> Turn<'a> {
    pub fn new(
        context: &'a mut Context,
        targets: &'a mut [TargetWorker],
        requests: &'a mut Requests,
        wake: Wake,
    ) -> Turn<'a> {
        Turn {
            context,
            targets,
            requests,
            wake,
            called: Wake::NONE,
            claimed: Vec::new(),
            task: TaskId(0),
        }
    }

    /// Time has passed: what follows must not go by an old clock.
    pub fn look_at_clock(&mut self) {
        self.context.now = clock::now();
    }

    pub fn now(&self) -> Instant {
        self.context.now.instant
    }

    pub fn worker_mut(&mut self, target: Target) -> Option<(&mut TargetWorker, &Context)> {
        let mut targets = self.targets.iter_mut();
        let worker = targets.find(|worker| worker.target == target)?;
        Some((worker, self.context))
    }

    pub fn worker(&self, target: Target) -> Option<&TargetWorker> {
        self.targets.iter().find(|worker| worker.target == target)
    }

    /// Asks a target, if a request may leave now; the token is its answer's.
    pub fn ask(&mut self, target: Target, question: Question) -> Option<Token> {
        let mut targets = self.targets.iter_mut();
        let worker = targets.find(|worker| worker.target == target)?;
        self.requests
            .ask_for_task(worker, self.context, self.task, question)
    }

    /// Whether a task that goes first has something left to ask of a target.
    pub fn is_claimed(&self, target: Target) -> bool {
        self.claimed.contains(&target)
    }
}

/// See the module's documentation.
pub trait Task {
    /// Reads which jobs there are, before anything else of the configuration is read: tables are
    /// then seen as whoever asked for a job left them, or later.
    fn read_jobs(&mut self) -> SpiResult<()> {
        Ok(())
    }

    /// Takes in a configuration that has been read anew. In its transaction.
    fn load(&mut self, _turn: &mut Turn) -> SpiResult<()> {
        Ok(())
    }

    /// Does what can be done now. Once a turn.
    fn step(&mut self, turn: &mut Turn) -> SpiResult<()>;

    /// Completes the log's entry of an answer to one of its questions.
    fn describe(&self, _answered: &Answered, _entry: &mut LogEntry) {}

    /// Takes in an answer to one of its questions.
    fn on_answer(&mut self, _answered: Answered, _turn: &mut Turn) -> SpiResult<()> {
        Ok(())
    }

    /// How long until there is something to do by itself.
    fn next_wait(&self, turn: &Turn) -> Option<Duration>;

    /// Whether it needs no worker while no service can be reached.
    fn is_idle(&self, _now: Instant) -> bool {
        true
    }

    /// Whether tasks that are listed later have to leave a target alone.
    fn claims(&self, _target: Target) -> bool {
        false
    }

    /// What its jobs have in common with others, where it has some.
    fn jobs(&mut self) -> Option<&mut Jobs> {
        None
    }

    /// What is to be written about jobs: those that wait for something now, or no longer.
    fn news(&self, _turn: &Turn) -> Vec<News> {
        Vec::new()
    }
}

/// When in a turn a task is stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Answers are taken in, and records sent, by what it finds out.
    BeforeAnswers,
    /// What it finds out or queues is for records that leave in the same turn.
    BeforeRecords,
    /// It takes of the budget what records leave.
    AfterRecords,
}

/// All tasks, in the order of their priority.
#[derive(Default)]
pub struct Tasks(Vec<(Place, Box<dyn Task>)>);

impl Tasks {
    pub fn add(&mut self, place: Place, task: impl Task + 'static) {
        self.0.push((place, Box::new(task)));
    }

    pub fn read_jobs(&mut self) -> SpiResult<()> {
        self.0.iter_mut().try_for_each(|(_, task)| task.read_jobs())
    }

    pub fn load(&mut self, turn: &mut Turn) -> SpiResult<()> {
        self.0.iter_mut().try_for_each(|(_, task)| task.load(turn))
    }

    /// Steps the tasks that have this place.
    pub fn step(&mut self, place: Place, turn: &mut Turn) -> SpiResult<()> {
        turn.claimed.clear();
        for (index, (at, task)) in self.0.iter_mut().enumerate() {
            if *at == place {
                turn.look_at_clock();
                turn.task = TaskId(index);
                task.step(turn)?;
            }
            turn.claimed.extend(claims(task.as_ref()));
        }
        Ok(())
    }

    pub fn describe(&self, task: TaskId, answered: &Answered, entry: &mut LogEntry) {
        if let Some((_, task)) = self.0.get(task.0) {
            task.describe(answered, entry);
        }
    }

    pub fn on_answer(
        &mut self,
        task: TaskId,
        answered: Answered,
        turn: &mut Turn,
    ) -> SpiResult<()> {
        turn.task = task;
        match self.0.get_mut(task.0) {
            Some((_, task)) => task.on_answer(answered, turn),
            None => Ok(()),
        }
    }

    /// How long until there is something to do for any of them.
    pub fn next_wait(&self, turn: &mut Turn) -> Option<Duration> {
        turn.claimed.clear();
        let mut next: Option<Duration> = None;
        for (_, task) in &self.0 {
            next = next.into_iter().chain(task.next_wait(turn)).min();
            turn.claimed.extend(claims(task.as_ref()));
        }
        next
    }

    pub fn are_idle(&self, now: Instant) -> bool {
        self.0.iter().all(|(_, task)| task.is_idle(now))
    }

    /// Whether the configuration has to be read again for one of them.
    pub fn are_outdated(&mut self, now: Instant) -> bool {
        let mut jobs = self.0.iter_mut().filter_map(|(_, task)| task.jobs());
        jobs.any(|jobs| jobs.outdated(now))
    }

    /// Tells people what jobs wait for, where that has changed.
    pub fn tell(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let now = turn.now();
        for (_, task) in &mut self.0 {
            let news = task.news(turn);
            if let Some(jobs) = task.jobs().filter(|_| !news.is_empty()) {
                store::transaction(|| jobs.tell(news, now))?;
            }
        }
        Ok(())
    }
}

fn claims(task: &dyn Task) -> impl Iterator<Item = Target> {
    Target::ALL
        .into_iter()
        .filter(|target| task.claims(*target))
}
