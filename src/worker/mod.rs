//! The worker: one process a database. Reads the queue, has calls made, stores what came of them.
//!
//! No transaction is open while a request is under way. Whatever is in memory can be lost at any
//! moment: the tables hold it all, and every write to a service can be repeated.

mod address_owner;
pub mod adopt;
mod allowance;
mod answers;
mod associations;
mod audiences;
pub mod auth;
mod backfill;
mod bars;
mod connection;
mod daily;
mod deciders;
mod erasures;
pub mod fill;
mod fit;
mod guard;
mod hear;
mod held;
mod hooks;
mod identity;
mod intake;
mod jobs;
pub mod launcher;
mod load;
mod news;
mod objections;
mod pace;
mod poll;
mod preflight;
mod prepared;
mod process;
mod properties;
mod provision;
mod publish;
mod recheck;
mod reconcile;
mod requests;
mod rest;
mod serve;
mod session;
pub mod settle;
mod sharing;
mod standings;
pub mod target;
mod trust;
mod urgent;
mod waits;
mod words;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use integration_engine::now::Now;
use integration_engine::record::{SourceId, Target};
use pgrx::prelude::*;
use pgrx::spi::SpiResult;

use crate::config::Settings;
use crate::inbound;
use crate::pg::shmem::{self, Doing, Slot, Wake, Woken};
use crate::pg::{clock, watch};
use crate::store::{self, links, sources, state};
use backfill::Backfills;
use erasures::Erasures;
use poll::Polls;
use process::End;
use reconcile::Reconciles;
use requests::Requests;
use target::TargetWorker;

/// What all targets go by.
pub struct World {
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
    pub slot: Option<&'static Slot>,
}

impl World {
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

/// Old log rows are deleted this often, while there is traffic.
const TIDY: Duration = Duration::from_secs(10 * 60);

struct Worker {
    world: World,
    targets: Vec<TargetWorker>,
    requests: Requests,
    tidy_at: Option<Instant>,
    /// From the first answer on; soon at first, for the worker may have been away for long.
    tidy_in: Duration,
    prepared: prepared::Prepared,
    inbox: inbound::Backlog,
    backfills: Backfills,
    reconciles: Reconciles,
    polls: Polls,
    erasures: Erasures,
    hooks: hooks::Hooks,
    news: news::News,
    rechecks: recheck::Rechecks,
    rest: rest::Rest,
}

impl Worker {
    fn start(slot: &'static Slot) -> Result<Worker, String> {
        let now = clock::now();
        let settings =
            store::transaction(|| store::secrets::load().map(|stored| Settings::read(&stored)))
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
        let world = World {
            now,
            settings,
            sources: HashMap::new(),
            shape: String::new(),
            gone: HashSet::new(),
            associations: Vec::new(),
            withheld: false,
            objections: false,
            slot: Some(slot),
        };
        Ok(Worker {
            world,
            targets,
            requests,
            tidy_at: None,
            tidy_in: Duration::ZERO,
            prepared: prepared::Prepared::default(),
            inbox: inbound::Backlog::default(),
            backfills: Backfills::default(),
            reconciles: Reconciles::default(),
            polls: Polls::default(),
            erasures: Erasures::default(),
            hooks: hooks::Hooks::default(),
            news: news::News::default(),
            rechecks: recheck::Rechecks::default(),
            rest: rest::Rest::default(),
        })
    }

    /// Another phase of the turn begins: what takes long must not go by an old clock.
    fn look_at_clock(&mut self) {
        self.world.now = clock::now();
    }

    /// One turn. Gives how long there is nothing to do unless somebody wakes us.
    fn turn(&mut self, wake: Wake) -> SpiResult<Option<Duration>> {
        self.look_at_clock();
        self.follow_catalog()?;
        let now = self.world.now.instant;
        let wake = wake.union(self.prepared.ended(wake, now)?);
        if wake.has(Wake::CONFIG)
            || self.backfills.jobs.outdated(now)
            || self.reconciles.jobs.outdated(now)
            || self.polls.jobs.outdated(now)
            || self.erasures.jobs.outdated(now)
            || store::trouble::is_outdated()
        {
            store::transaction(|| self.load())?;
        }
        self.recheck()?;
        for worker in &mut self.targets {
            for lane in target::LANES {
                if wake.has(Wake::changes(worker.target, lane)) {
                    worker.look_at(lane);
                }
            }
        }
        if wake.has(Wake::TEST) {
            for worker in &mut self.targets {
                self.requests.test(worker, &self.world);
            }
        }
        self.begin_days()?;
        self.look_at_clock();
        self.hear_answers()?;
        self.store_tests()?;
        if wake.has(Wake::INBOX) {
            self.inbox.stale = true;
        }
        self.apply_inbox()?;
        self.look_at_clock();
        self.feed_backfills()?;
        self.look_at_clock();
        self.erase()?;
        for index in 0..self.targets.len() {
            self.serve(index)?;
        }
        self.tell_crm_again()?;
        self.look_at_clock();
        self.note_provisions()?;
        self.register_hooks()?;
        self.associate()?;
        self.look_at_clock();
        self.compare()?;
        self.look_at_clock();
        self.poll()?;
        self.tidy()?;
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
        match shape == self.world.shape {
            true => Ok(()),
            false => store::transaction(|| self.load()),
        }
    }

    fn note_provisions(&mut self) -> SpiResult<()> {
        let mut news = false;
        for worker in &mut self.targets {
            news |= provision::look(worker, &mut self.requests);
        }
        match news {
            true => store::transaction(|| self.requests.settle_provision(&self.world)),
            false => Ok(()),
        }
    }

    fn feed_backfills(&mut self) -> SpiResult<()> {
        for worker in &mut self.targets {
            if self
                .backfills
                .due(worker, &self.world, self.world.now.instant)
            {
                store::transaction(|| self.backfills.feed(worker, &self.world))?;
            }
        }
        Ok(())
    }

    fn apply_inbox(&mut self) -> SpiResult<()> {
        if !self.world.settings.enabled || self.targets.iter().any(|worker| worker.fenced) {
            return Ok(());
        }
        self.inbox.apply(&self.world, &self.targets)?;
        self.world.withheld |= std::mem::take(&mut self.inbox.withholds);
        let owed = std::mem::take(&mut self.inbox.owed);
        let mut workers = self.targets.iter_mut();
        if let Some(worker) = workers.find(|worker| worker.target == Target::HubSpot) {
            worker.associations.look(owed, self.world.now.instant);
        }
        Ok(())
    }

    fn tidy(&mut self) -> SpiResult<()> {
        if self.tidy_at.is_some_and(|at| at <= self.world.now.instant) {
            self.tidy_at = None;
            self.tidy_in = TIDY;
            let settings = &self.world.settings;
            store::transaction(|| {
                state::tidy(settings.request_log_retention, settings.inbox_retention)?;
                store::erasures::tidy()?;
                state::tidy_people(settings.activity_retention, settings.consent_log_retention)
            })?;
        }
        Ok(())
    }
}

/// Works until there is a reason to end.
fn run(slot: &'static Slot) -> Result<End, String> {
    let failed = |error: pgrx::spi::Error| error.to_string();
    if fit::wait().map_err(failed)? == Woken::Stop {
        shmem::end_orderly();
        return Ok(End::Stop);
    }
    let mut worker = Worker::start(slot)?;
    store::transaction(|| {
        links::intents::recover()?;
        process::look_back(&mut worker.targets, &worker.world)
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
            return Ok(End::Restart);
        }
        let unwanted = wake.has(Wake::CONFIG) && !process::wanted();
        if unwanted || !process::extension_present() {
            return Ok(End::Unwanted);
        }
        if wake.has(Wake::CONFIG) && store::transaction(fit::misfit).map_err(failed)?.is_some() {
            // The next one waits until it is put right.
            return Ok(End::Restart);
        }
        worker.requests.renew_network()?;
        let wait = worker.turn(wake).map_err(failed)?;
        let wait = match worker.rests_from(wake, worker.world.now.instant) {
            Some(rest) if rest.after.is_zero() => {
                if slot.rest(rest.until) {
                    log!("integration worker leaves: {}", rest.why);
                    return Ok(End::Rest);
                }
                Some(Duration::ZERO)
            }
            rest => worker.sleep(slot, wait, rest.map(|rest| rest.after)),
        };
        shmem::doing(Doing::Waiting, None);
        if shmem::wait(Some(worker.requests.socket()), wait) == Woken::Stop {
            shmem::end_orderly();
            log!("integration worker stops");
            return Ok(End::Stop);
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
            let window = self.world.settings.batch_window;
            let window = window.max(Duration::from_millis(1));
            Some(wait.map_or(window, |wait| wait.min(window)))
        } else if slot.fall_asleep(self.muted()) {
            wait
        } else {
            Some(Duration::ZERO)
        }
    }
}
