//! The worker: one process a database. Reads the queue, has calls made, stores what came of them.
//!
//! No transaction is open while a request is under way. Whatever is in memory can be lost at any
//! moment: the tables hold it all, and every write to a service can be repeated.

mod answers;
mod associations;
pub mod auth;
mod connection;
mod fit;
mod hear;
pub mod hubspot;
mod jobs;
pub mod lane;
pub mod launcher;
mod load;
pub mod mailchimp;
mod preflight;
mod prepared;
mod process;
mod properties;
mod provision;
mod publish;
mod requests;
mod rest;
mod session;
pub mod target;
mod task;
mod tasks;
mod waits;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use integration_engine::now::Now;
use integration_engine::record::{SourceId, Target};
use pgrx::prelude::*;
use pgrx::spi::SpiResult;

use crate::config::Settings;
use crate::pg::shmem::{self, Doing, Slot, Wake, Woken};
use crate::pg::{clock, watch};
use crate::store::{self, links, sources};
use integration_engine::delivery::settlement::ConsentWriteback;
use process::WorkerEnd;
use requests::Requests;
use target::TargetWorker;
use task::{Place, Tasks, Turn};

/// What all targets go by.
pub struct Context {
    /// When the present phase of the turn began.
    pub now: Now,
    pub settings: Settings,
    pub sources: HashMap<SourceId, sources::Source>,
    /// Digest of what the catalogue said of them when they were loaded.
    pub shape: String,
    /// Sources in queue rows that are tracked no longer.
    pub gone: HashSet<SourceId>,
    pub associations: Vec<store::associations::Association>,
    /// Whether some records are withheld from a target.
    pub withheld: bool,
    /// Whether rows are noted that are opted out beside a member's.
    pub objections: bool,
    /// What the CRM has to be told about people's consent.
    pub consent_writebacks: Vec<ConsentWriteback>,
    pub slot: Option<&'static Slot>,
}

impl Context {
    /// Open dead letters of a target, as last counted.
    pub fn dead(&self, target: Target) -> i64 {
        self.slot.map_or(1, |slot| {
            slot.gauges(target)
                .dead
                .load(std::sync::atomic::Ordering::Relaxed)
        })
    }

    pub fn set_dead(&self, target: Target, count: i64) {
        if let Some(slot) = self.slot {
            slot.gauges(target)
                .dead
                .store(count, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

struct Worker {
    context: Context,
    targets: Vec<TargetWorker>,
    requests: Requests,
    prepared: prepared::Prepared,
    tasks: Tasks,
    /// What the worker was woken for, and what its tasks want looked at besides.
    wake: Wake,
    called: Wake,
    rest: rest::Rest,
}

impl Worker {
    fn start(slot: &'static Slot) -> Result<Worker, String> {
        let now = clock::now();
        let settings = store::transaction(|| {
            store::server::secrets::load().map(|stored| Settings::read(&stored))
        })
        .map_err(|why| why.to_string())?;
        let requests = Requests::start(&settings)?;
        // What an earlier worker had under way is not any more.
        Target::ALL
            .into_iter()
            .for_each(|target| slot.flights(target).clear());
        let targets = Target::ALL
            .into_iter()
            .map(|target| TargetWorker::new(target, &settings, now))
            .collect();
        let tasks = tasks::all(&settings);
        let context = Context {
            now,
            settings,
            sources: HashMap::new(),
            shape: String::new(),
            gone: HashSet::new(),
            associations: Vec::new(),
            withheld: false,
            objections: false,
            consent_writebacks: Vec::new(),
            slot: Some(slot),
        };
        Ok(Worker {
            context,
            targets,
            requests,
            prepared: prepared::Prepared::default(),
            tasks,
            wake: Wake::NONE,
            called: Wake::NONE,
            rest: rest::Rest::default(),
        })
    }

    /// Another phase of the turn begins: what takes long must not go by an old clock.
    fn look_at_clock(&mut self) {
        self.context.now = clock::now();
    }

    /// One turn. Returns how long there is nothing to do unless somebody wakes us.
    fn turn(&mut self, wake: Wake) -> SpiResult<Option<Duration>> {
        self.look_at_clock();
        self.follow_catalog()?;
        let now = self.context.now.instant;
        let called = std::mem::replace(&mut self.called, Wake::NONE);
        let wake = wake.union(called).union(self.prepared.ended(wake, now)?);
        self.wake = wake;
        if wake.has(Wake::CONFIG)
            || self.tasks.are_outdated(now)
            || store::crm::trouble::is_outdated()
        {
            store::transaction(|| self.load())?;
        }
        self.step(Place::BeforeAnswers)?;
        for worker in &mut self.targets {
            for lane in target::LANES {
                if wake.has(Wake::changes(worker.target, lane)) {
                    worker.look_at(lane);
                }
            }
        }
        if wake.has(Wake::TEST) {
            for worker in &mut self.targets {
                self.requests.test(worker, &self.context);
            }
        }
        self.begin_days()?;
        self.look_at_clock();
        self.hear_answers()?;
        self.store_tests()?;
        self.step(Place::BeforeRecords)?;
        for index in 0..self.targets.len() {
            self.serve(index)?;
        }
        self.look_at_clock();
        self.note_provisions()?;
        self.step(Place::AfterRecords)?;
        self.look_at_clock();
        self.publish()?;
        Ok(self.next_wait())
    }

    /// Reads the configuration again if one of the tracked tables is no longer what it was.
    fn follow_catalog(&mut self) -> SpiResult<()> {
        if !watch::changed() {
            return Ok(());
        }
        watch::heed();
        let shape = store::transaction(sources::shape)?;
        match shape == self.context.shape {
            true => Ok(()),
            false => store::transaction(|| self.load()),
        }
    }

    /// Lends the tasks what they work with.
    fn with_tasks<T>(&mut self, work: impl FnOnce(&mut Tasks, &mut Turn) -> T) -> T {
        let mut turn = Turn::new(
            &mut self.context,
            &mut self.targets,
            &mut self.requests,
            self.wake,
        );
        let done = work(&mut self.tasks, &mut turn);
        self.called = self.called.union(turn.called);
        done
    }

    fn step(&mut self, place: Place) -> SpiResult<()> {
        self.with_tasks(|tasks, turn| tasks.step(place, turn))
    }

    fn note_provisions(&mut self) -> SpiResult<()> {
        let mut news = false;
        for worker in &mut self.targets {
            news |= provision::look(worker, &mut self.requests);
        }
        match news {
            true => store::transaction(|| self.requests.settle_provision(&self.context)),
            false => Ok(()),
        }
    }
}

/// Works until there is a reason to end.
fn run(slot: &'static Slot) -> Result<WorkerEnd, String> {
    let failed = |error: pgrx::spi::Error| error.to_string();
    if fit::wait().map_err(failed)? == Woken::Stop {
        shmem::end_orderly();
        return Ok(WorkerEnd::Stop);
    }
    let mut worker = Worker::start(slot)?;
    store::transaction(|| {
        links::intents::recover()?;
        process::look_back(&mut worker.targets, &worker.context)
    })
    .map_err(failed)?;
    log!("integration worker started");
    loop {
        let muted = worker.muted();
        let mut wake = slot.woken_for(muted);
        if process::settings_changed() {
            wake = wake.union(Wake::CONFIG);
        }
        if wake.has(Wake::RELOAD) {
            log!("integration worker makes room for another one");
            return Ok(WorkerEnd::Restart);
        }
        let unwanted = wake.has(Wake::CONFIG) && !process::wanted();
        if unwanted || !process::extension_present() {
            return Ok(WorkerEnd::Unwanted);
        }
        if wake.has(Wake::CONFIG) && store::transaction(fit::misfit).map_err(failed)?.is_some() {
            // The next one waits until it is put right.
            return Ok(WorkerEnd::Restart);
        }
        worker.requests.renew_network()?;
        let wait = worker.turn(wake).map_err(failed)?;
        let wait = match worker.rests_from(wake, worker.context.now.instant) {
            Some(rest) if rest.after.is_zero() => {
                if slot.rest(rest.until) {
                    log!("integration worker leaves: {}", rest.why);
                    return Ok(WorkerEnd::Rest);
                }
                Some(Duration::ZERO)
            }
            rest => worker.sleep(slot, wait, rest.map(|rest| rest.after)),
        };
        shmem::doing(Doing::Waiting, None);
        if shmem::wait(Some(worker.requests.socket()), wait) == Woken::Stop {
            shmem::end_orderly();
            log!("integration worker stops");
            return Ok(WorkerEnd::Stop);
        }
        shmem::doing(Doing::Housekeeping, None);
    }
}

impl Worker {
    /// How long to wait, at most `rest`; writers wake us if that is for longer than a moment.
    fn sleep(
        &self,
        slot: &Slot,
        wait: Option<Duration>,
        rest: Option<Duration>,
    ) -> Option<Duration> {
        let wait = [wait, rest].into_iter().flatten().min();
        if self.busy() {
            // Writers need not wake a worker that looks again in a moment.
            let window = self.context.settings.batch_window;
            let window = window.max(Duration::from_millis(1));
            Some(wait.map_or(window, |wait| wait.min(window)))
        } else if slot.fall_asleep(self.muted()) {
            wait
        } else {
            Some(Duration::ZERO)
        }
    }
}
