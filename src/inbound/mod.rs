//! What comes from the services: webhooks imported into the inbox, and their application to CRM rows.

pub mod audience;
pub mod consent;
mod erased;
pub mod fields;
mod hubspot;
pub mod import;
mod mailchimp;
mod mandrill;
mod removal;

use std::cell::Cell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use integration_engine::clock::{Tick, ValueHash};
use integration_engine::queue::RecordRef;
use integration_engine::record::{Target, Timestamp};
use pgrx::spi::SpiResult;

use crate::store::inbox::{self, Pending, State};
use crate::store::sources::Source;
use crate::store::{self, apply::Applied};
use crate::worker::target::TargetWorker;
use crate::worker::{World, now_ms};

/// Events applied in one transaction.
const BATCH: i64 = 100;

/// Attempts at an event before it counts as failed.
const MOST_ATTEMPTS: i32 = 5;

/// How long an event waits whose record is in a request under way.
const FLYING: Duration = Duration::from_millis(20);

/// What became of an event.
pub enum Fate {
    Settled(State, String),
    /// Its record is in a request under way: its link will change with the answer.
    Later,
    /// The row changed under our hands.
    Again,
}

fn applied(detail: impl Into<String>) -> Fate {
    Fate::Settled(State::Applied, detail.into())
}

fn ignored(detail: impl Into<String>) -> Fate {
    Fate::Settled(State::Ignored, detail.into())
}

fn failed(detail: impl Into<String>) -> Fate {
    Fate::Settled(State::Failed, detail.into())
}

/// What applying an event needs to see of the worker.
pub struct Scene<'a> {
    pub world: &'a World,
    pub targets: &'a [TargetWorker],
    /// Erased records: what is told of them concerns nobody here.
    hidden: HashSet<RecordRef>,
    /// Associations that are to be looked at again.
    owed: Cell<usize>,
    /// A record is to be withheld from now on.
    withholds: Cell<bool>,
}

impl<'a> Scene<'a> {
    pub fn new(world: &'a World, targets: &'a [TargetWorker]) -> Scene<'a> {
        Scene {
            world,
            targets,
            hidden: HashSet::new(),
            owed: Cell::new(0),
            withholds: Cell::new(false),
        }
    }
}

impl Scene<'_> {
    /// The table of a record, where it is tracked and the record not erased.
    fn source(&self, record: &RecordRef) -> Option<&Source> {
        let source = self.world.sources.get(&record.source);
        source.filter(|_| !self.hidden.contains(record))
    }

    fn worker(&self, target: Target) -> Option<&TargetWorker> {
        self.targets.iter().find(|worker| worker.target == target)
    }

    /// When the CRM changed a record, if it did since both sides agreed on the field. A change that
    /// the worker has not read yet was made just now.
    fn crm_changed_at(
        &self,
        target: Target,
        record: &RecordRef,
        agreed: Option<&Tick>,
        local: ValueHash,
    ) -> Option<Timestamp> {
        // A field that never was agreed on and is empty here has not been touched by the CRM.
        let dirty = agreed.map_or(ValueHash::of(None), |agreed| agreed.hash) != local;
        self.worker(target)
            .and_then(|worker| worker.queue.changed_at(record))
            .or_else(|| dirty.then(|| Timestamp(now_ms())))
    }

    /// Whether definitions are being read, by which values have to be converted.
    fn learns(&self, target: Target) -> bool {
        self.worker(target).is_some_and(|worker| {
            let state = worker.state(&self.world.settings, Instant::now());
            state.name == "running" && !worker.preflight.is_known()
        })
    }

    fn flying(&self, target: Target, record: &RecordRef) -> bool {
        self.worker(target)
            .is_some_and(|worker| worker.queue.is_flying(record))
    }
}

/// Events that wait.
#[derive(Default)]
pub struct Backlog {
    /// There may be some.
    pub stale: bool,
    /// Some could not be applied yet.
    waiting: bool,
    /// Associations that are to be looked at again because of what was applied.
    pub owed: usize,
    /// Records are withheld because of it.
    pub withholds: bool,
}

impl Backlog {
    /// When to look again without being woken.
    pub fn retry_in(&self) -> Option<Duration> {
        (self.waiting || self.stale).then_some(FLYING)
    }

    /// Applies what waits, oldest first.
    pub fn apply(&mut self, world: &World, targets: &[TargetWorker]) -> SpiResult<()> {
        if !self.stale && !self.waiting {
            return Ok(());
        }
        (self.stale, self.waiting) = (false, false);
        let mut later: Vec<i64> = Vec::new();
        loop {
            let mut scene = Scene::new(world, targets);
            let full = store::transaction(|| {
                let events = inbox::next(BATCH, &later)?;
                let full = events.len() as i64 == BATCH;
                for event in events {
                    let (id, attempts) = (event.id, event.attempts);
                    scene.hidden = erased::hidden(world, &event)?;
                    match scene.fate(event)? {
                        Fate::Settled(State::Ignored, _) if !scene.hidden.is_empty() => {
                            inbox::remove(id)?;
                        }
                        Fate::Settled(state, detail) => {
                            inbox::settle(id, state, &detail, attempts)?
                        }
                        Fate::Later => later.push(id),
                        Fate::Again if attempts + 1 < MOST_ATTEMPTS => {
                            inbox::settle(
                                id,
                                State::Pending,
                                "the row was being changed; tried again",
                                attempts + 1,
                            )?;
                            later.push(id);
                        }
                        Fate::Again => {
                            inbox::settle(id, State::Failed, "the row kept changing", attempts + 1)?
                        }
                    }
                }
                Ok::<bool, pgrx::spi::Error>(full)
            })?;
            self.owed += scene.owed.get();
            self.withholds |= scene.withholds.get();
            if !full {
                break;
            }
        }
        self.waiting = !later.is_empty();
        Ok(())
    }
}

impl Scene<'_> {
    fn fate(&self, event: Pending) -> SpiResult<Fate> {
        match event.origin.as_str() {
            "hubspot" => match integration_engine::hubspot::webhook::replay(&event.payload) {
                Ok(subject) => hubspot::apply(self, &subject, event.occurred_at),
                Err(why) => Ok(failed(why.to_string())),
            },
            "mailchimp" => mailchimp::apply(self, &event),
            "mandrill" => mandrill::apply(self, &event),
            other => Ok(ignored(format!("events of {other} are stored only"))),
        }
    }
}

/// What a write to the CRM means for the event; `None`: it was done.
fn unless_written(outcome: Applied) -> Option<Fate> {
    match outcome {
        Applied::Written => None,
        Applied::Moved => Some(Fate::Again),
        Applied::Refused(why) => Some(failed(format!(
            "the CRM refused the value: {} ({})",
            why.message,
            sqlstate(why.code)
        ))),
    }
}

fn sqlstate(code: pgrx::pg_sys::errcodes::PgSqlErrorCode) -> String {
    // Five characters, six bits each, as in Postgres' MAKE_SQLSTATE.
    let code = code as i32;
    (0..5)
        .map(|place| char::from(((code >> (6 * place)) & 0x3f) as u8 + b'0'))
        .collect()
}
