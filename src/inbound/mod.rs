//! What comes from the services: webhooks imported into the inbox, and their application to CRM rows.

pub mod audience;
mod backlog;
pub mod consent;
mod erased;
mod event;
pub mod fields;
mod foreign;
mod hubspot;
pub mod import;
mod mailchimp;
mod mandrill;
mod removal;
mod write;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use integration_engine::delivery::target_state::TargetState;
use integration_engine::now::Now;
use integration_engine::record::{RecordRef, SourceId, Target, Timestamp};
use integration_engine::sync::clock::{Tick, ValueHash};
use pgrx::spi::SpiResult;

use crate::pg::SqlError;
use crate::store::crm::apply::Applied;
use crate::store::inbound::inbox::EventState;
use crate::store::sources::Source;
use crate::store::{holds, state};
use crate::worker::Context;
use crate::worker::target::TargetWorker;

pub use backlog::Backlog;

/// What became of an event.
pub enum Fate {
    Settled(EventState, String),
    /// Its record is in a request under way: its link will change with the answer.
    Later,
    /// The CRM does not take it, or not now. What was done so far is undone.
    Refused(Refused),
}

/// Why the CRM did not take an event, or one of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub sqlstate: String,
    /// For people.
    pub text: String,
}

impl Refused {
    fn of(error: &SqlError) -> Refused {
        let sqlstate = error.sqlstate();
        Refused {
            text: format!("the CRM refused it: {} ({sqlstate})", error.message),
            sqlstate,
        }
    }

    /// The row changed under our hands.
    pub fn changing() -> Refused {
        Refused {
            sqlstate: "40001".to_owned(),
            text: "the row was being changed".to_owned(),
        }
    }

    /// The table is held: what is wrong with it has to be put right first.
    fn held(table: &str) -> Refused {
        Refused {
            sqlstate: "55000".to_owned(),
            text: format!("{table} is held; integration.table_status says why"),
        }
    }

    fn of_column(self, column: &str) -> Refused {
        Refused {
            text: format!("{column}: {}", self.text),
            ..self
        }
    }
}

fn applied(detail: impl Into<String>) -> Fate {
    Fate::Settled(EventState::Applied, detail.into())
}

fn ignored(detail: impl Into<String>) -> Fate {
    Fate::Settled(EventState::Ignored, detail.into())
}

fn failed(detail: impl Into<String>) -> Fate {
    Fate::Settled(EventState::Failed, detail.into())
}

/// Something that people should know.
struct Alert {
    kind: &'static str,
    /// The column it is about; empty: none in particular.
    subject: String,
    message: String,
}

/// What applying an event needs to see of the worker.
pub struct ApplyContext<'a> {
    pub now: Now,
    pub context: &'a Context,
    pub targets: &'a [TargetWorker],
    /// Erased records: what is told of them concerns nobody here.
    hidden: HashSet<RecordRef>,
    /// Associations that are to be looked at again.
    owed: Cell<usize>,
    /// A record is to be withheld from now on.
    withholds: Cell<bool>,
    /// What people should know.
    alerts: RefCell<Vec<Alert>>,
    /// Tables that were asked for.
    asked: RefCell<HashSet<SourceId>>,
}

impl<'a> ApplyContext<'a> {
    pub fn new(now: Now, context: &'a Context, targets: &'a [TargetWorker]) -> ApplyContext<'a> {
        ApplyContext {
            now,
            context,
            targets,
            hidden: HashSet::new(),
            owed: Cell::new(0),
            withholds: Cell::new(false),
            alerts: RefCell::default(),
            asked: RefCell::default(),
        }
    }
}

impl ApplyContext<'_> {
    /// Raises what people should know.
    pub fn raise_alerts(&self, target: Target) -> SpiResult<()> {
        for alert in self.alerts.take() {
            state::raise(alert.kind, target, &alert.subject, &alert.message)?;
        }
        Ok(())
    }

    /// The table of a record, where it is tracked and the record not erased.
    fn source(&self, record: &RecordRef) -> Option<&Source> {
        let source = self.context.sources.get(&record.source);
        let source = source.filter(|_| !self.hidden.contains(record))?;
        self.asked.borrow_mut().insert(source.id);
        Some(source)
    }

    /// Why an event has to wait that came to what it came to by a table that is held.
    fn held(&self, target: Target) -> Option<Refused> {
        let asked = self.asked.borrow();
        let mut held = asked.iter().filter(|id| holds::is_held_for(**id, target));
        let source = self.context.sources.get(held.next()?)?;
        Some(Refused::held(&source.name))
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
        // A field that never was agreed on and is empty here has not been touched by the CRM, whatever
        // else of the record is in the queue.
        let dirty = agreed.map_or(ValueHash::of(None), |agreed| agreed.hash) != local;
        let queued = || {
            let worker = self.worker(target)?;
            worker.queue.changed_at(record)
        };
        dirty.then(|| queued().unwrap_or(self.now.timestamp))
    }

    /// Whether definitions are being read, by which values have to be converted.
    fn learns(&self, target: Target) -> bool {
        self.worker(target).is_some_and(|worker| {
            let status = worker.status(&self.context.settings, self.now.instant);
            status.state == TargetState::Running && !worker.preflight.is_known()
        })
    }

    fn flying(&self, target: Target, record: &RecordRef) -> bool {
        self.worker(target)
            .is_some_and(|worker| worker.queue.is_flying(record))
    }
}

/// What a write to the CRM means for the event; `None`: it was done.
fn unless_written(outcome: Applied) -> Option<Fate> {
    match outcome {
        Applied::Written => None,
        Applied::Moved => Some(Fate::Refused(Refused::changing())),
        Applied::Refused(why) => Some(Fate::Refused(Refused::of(&why))),
    }
}
