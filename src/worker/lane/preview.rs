//! What the worker would make of one record, as far as tables tell: planned by the same code, in a
//! backend. Nothing is written, and nothing is sent.

use std::collections::{HashMap, HashSet};

use integration_engine::delivery::outcome::Verdict;
use integration_engine::delivery::target_state::TargetState;
use integration_engine::queue::Change;
use integration_engine::queue::traces::Traces;
use integration_engine::record::field_type::{FieldType, MergeType};
use integration_engine::record::mapping::{Direction, Field, SourceMap};
use integration_engine::record::{Lane, RecordKey, RecordRef, Target};
use pgrx::pg_sys;
use pgrx::spi::SpiResult;

use crate::config::Settings;
use crate::error::Error;
use crate::pg::clock;
use crate::services::{Call, dispatch};
use crate::store::sources::Source;
use crate::store::{holds, state};
use crate::worker::hubspot::missing_scopes;
use crate::worker::lane::Road;
use crate::worker::lane::plan::{Draft, assemble, plan_block};
use crate::worker::target::{TargetStatus, TargetWorker, UniqueProperty};
use crate::worker::{Context, preflight};

/// What would become of a record at one target.
pub struct Preview {
    pub target: Target,
    pub next: PreviewStep,
    /// Why nothing is sent at present.
    pub waits: Option<String>,
    /// Fields whose values depend on what only the worker knows.
    pub unread: Vec<String>,
    /// What the worker has told of fields, definitions and rights since it asked the service.
    pub notes: Vec<String>,
}

/// Alerts about what the worker keeps in memory, and goes by.
const FOUND_OUT: [&str; 3] = [preflight::DROPPED, preflight::UNREAD, missing_scopes::ALERT];

/// What would come of planning.
pub enum PreviewStep {
    Call(Call),
    Settled(Verdict),
    /// The table cannot be read at present.
    Unread,
}

/// Holds are in a process' memory; other functions of a backend don't go by them.
struct Forget;

impl Drop for Forget {
    fn drop(&mut self) {
        holds::forget();
    }
}

/// Returns what would become of a record, for each target its table is sent to.
pub fn preview(settings: Settings, table: pg_sys::Oid, key: &str) -> Result<Vec<Preview>, Error> {
    let mut context = Context {
        now: clock::now(),
        settings,
        sources: HashMap::new(),
        shape: String::new(),
        gone: HashSet::new(),
        associations: Vec::new(),
        withheld: false,
        objections: false,
        consent_writebacks: Vec::new(),
        slot: None,
    };
    context.read_sources().map_err(Error::Spi)?;
    context.read_memory().map_err(Error::Spi)?;
    let _forget = Forget;
    holds::read().map_err(Error::Spi)?;
    let unread = context.leave_unread_fields(table);
    let source = context.sources.values().find(|known| known.oid == table);
    let source = source.ok_or_else(|| Error::NotTracked(format!("oid {}", table.to_u32())))?;
    let mut previews = Vec::new();
    for target in source.maps.keys() {
        let mut worker = worker(*target, &context).map_err(Error::Spi)?;
        let next = dispatch!(*target, S => next::<S>(&mut worker, &context, source, key));
        let next = next.map_err(Error::Spi)?;
        let known = !source.hidden && !holds::wrong(source.id, *target).held.is_empty();
        if matches!(next, PreviewStep::Unread) && !known {
            // Fails with what keeps it from being read.
            source
                .read(&source.maps[target], &[&RecordKey::from(key)])
                .map_err(Error::Spi)?;
        }
        previews.push(Preview {
            target: *target,
            next,
            waits: waits(&worker, &context, source).map_err(Error::Spi)?,
            notes: state::alerts(*target, &FOUND_OUT).map_err(Error::Spi)?,
            unread: match target {
                Target::HubSpot => Vec::new(),
                Target::Mailchimp => unread.clone(),
            },
        });
    }
    Ok(previews)
}

impl Context {
    /// Interests and permissions go by ids that an audience has to be asked for: they are left out.
    /// Returns their names.
    fn leave_unread_fields(&mut self, table: pg_sys::Oid) -> Vec<String> {
        let source = self.sources.values_mut().find(|known| known.oid == table);
        let map: Option<&mut SourceMap> =
            source.and_then(|source| source.maps.get_mut(&Target::Mailchimp));
        let is_unread = |field: &&mut Field| {
            matches!(
                field.remote_type,
                FieldType::Merge(MergeType::Interests(None) | MergeType::Permissions(None))
            )
        };
        let fields = map.into_iter().flat_map(|map| map.fields.iter_mut());
        fields
            .filter(is_unread)
            .map(|field| {
                field.direction = Direction::Pull;
                field.remote.clone()
            })
            .collect()
    }
}

/// A target as the worker has it that is about to send.
fn worker(target: Target, context: &Context) -> SpiResult<TargetWorker> {
    let mut worker = TargetWorker::new(target, &context.settings, context.now);
    worker.audiences.load()?;
    // Whether the unique property exists is asked when something is sent; here it is assumed.
    let ready = |source: &Source| (source.entity, UniqueProperty::Ready);
    worker.properties = context.sources.values().map(ready).collect();
    worker.fenced_why = context.why_fenced()?;
    worker.fenced = worker.fenced_why.is_some();
    let pauses = state::pauses()?;
    if let Some(pause) = pauses.into_iter().find(|pause| pause.target == target) {
        worker.pause(pause.reason);
    }
    if state::guarded()?.contains(&target) {
        worker.still_held();
    }
    if target == Target::HubSpot {
        missing_scopes::remember(&mut worker, context)?;
    }
    Ok(worker)
}

fn next<S: Road>(
    worker: &mut TargetWorker,
    context: &Context,
    source: &Source,
    key: &str,
) -> SpiResult<PreviewStep> {
    worker.queue.push_retry(Change {
        record: RecordRef {
            source: source.id,
            key: RecordKey::from(key),
        },
        entity: source.entity,
        lane: Lane::Live,
        changed_at: context.now.timestamp,
        attempts: 0,
        traces: Traces::default(),
    });
    let handles = worker.queue.take(1);
    let mut draft = Draft::<S>::default();
    plan_block(worker, context, handles.clone(), &mut draft)?;
    if !draft.planning.audiences.is_empty() {
        // Its definitions are taken as read.
        for list in std::mem::take(&mut draft.planning.audiences) {
            worker.preflight.mailchimp.use_audience(&list);
        }
        draft = Draft::default();
        plan_block(worker, context, handles, &mut draft)?;
    }
    if !draft.unread.is_empty() {
        return Ok(PreviewStep::Unread);
    }
    let (planning, calls) = assemble(worker, context, draft);
    let call = calls.into_iter().next().map(|planned| planned.call);
    let outcome = planning.outcomes.into_iter().next();
    let verdict = || outcome.map_or(Verdict::Unchanged, |outcome| outcome.verdict);
    Ok(call.map_or_else(|| PreviewStep::Settled(verdict()), PreviewStep::Call))
}

/// Why nothing of a table is sent at present, as far as tables tell.
fn waits(worker: &TargetWorker, context: &Context, source: &Source) -> SpiResult<Option<String>> {
    let held = holds::wrong(source.id, worker.target).held;
    if !held.is_empty() {
        return Ok(Some(format!(
            "{} is held: {}",
            source.name,
            held.join("; ")
        )));
    }
    let TargetStatus { state, reason } = worker.status(&context.settings, context.now.instant);
    let (name, reason) = match state {
        // Outages and refused credentials are known to the worker, which has told of them.
        TargetState::Running => state::told(worker.target)?.unwrap_or_default(),
        _ => (state.name().to_owned(), reason.unwrap_or_default()),
    };
    let stopped = !name.is_empty() && name != TargetState::Running.name();
    Ok(stopped.then(|| format!("{} is {name}: {reason}", worker.target)))
}
