//! Associations in the worker: noted when records are settled, sent when the records are through.
//!
//! They have calls, a budget and a breaker of their own, one call at a time: HubSpot takes 2,000
//! pairs in one.

mod dead_letters;
mod lane;

use std::time::{Duration, Instant};

use integration_engine::delivery::call::Scope;
use integration_engine::delivery::outcome::{Category, TargetSignal};
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::limits::BudgetReport;
use integration_engine::limits::missing_scopes::ScopeRefusal;
use integration_engine::record::once::Once;
use integration_engine::record::{RecordRef, Target};
use integration_hubspot::associations as engine;
use integration_hubspot::associations::{
    Action, AssociationCall, AssociationReading, AssociationStep, Labels, PairVerdict, Sending,
};
use pgrx::spi::SpiResult;

pub use lane::AssociationLane;
use lane::COMPANY;

use super::target::TargetWorker;
use super::{Context, Worker, adopt, missing_scopes};
use crate::http::Answer;
use crate::store;
use crate::store::associations::{self as table, AssociationChange, OwedAssociation};
use crate::store::holds;
use crate::store::links::{self, LinkCause};
use crate::store::queue::changes;

/// Associations planned at once: two full calls.
const ROUND: i64 = 4_000;

/// A full call.
const FULL: usize = 2_000;

/// Records that were settled, as far as their associations are concerned.
#[derive(Default)]
pub struct Settled<'a> {
    /// Nothing more is to be sent for them.
    pub done: &'a [RecordRef],
    /// Written to HubSpot.
    pub pushed: &'a [LinkEntry],
    /// Another record at HubSpot than before.
    pub readopted: &'a [RecordRef],
    /// No longer at HubSpot.
    pub unlinked: &'a [RecordRef],
}

/// Notes which associations are owed now, in the transaction that settles the records. Gives the
/// records whose tables cannot be read at present: they are to be looked at once more.
pub fn note(
    worker: &mut TargetWorker,
    context: &Context,
    settled: Settled,
) -> SpiResult<Vec<RecordRef>> {
    if worker.target != Target::HubSpot || context.associations.is_empty() {
        return Ok(Vec::new());
    }
    let (mut owed, mut unread) = (0, Vec::new());
    if !settled.unlinked.is_empty() {
        owed += table::unhold(&context.associations, settled.unlinked)?;
    }
    for association in &context.associations {
        let done: Vec<_> = settled
            .done
            .iter()
            .filter(|record| record.source == association.source)
            .map(|record| &record.key)
            .collect();
        if let Some(source) = context.sources.get(&association.source)
            && !done.is_empty()
            && !holds::is_held_for(source.id, Target::HubSpot)
        {
            match table::note(association, source, &done)? {
                Some(noted) => owed += noted,
                None => unread.extend(done.into_iter().map(|key| RecordRef {
                    source: source.id,
                    key: key.clone(),
                })),
            }
        }
        let parents: Vec<&str> = settled
            .pushed
            .iter()
            .filter(|entry| entry.record.source == association.to_source)
            .map(|entry| entry.record.key.as_str())
            .collect();
        if !parents.is_empty() {
            owed += table::parents_linked(association, &parents)?;
        }
        let changed = table::keys_of(settled.readopted, association.to_source);
        if !changed.is_empty() {
            owed += table::parents_changed(association, &changed)?;
        }
    }
    worker.associations.look(owed, context.now.instant);
    Ok(unread)
}

/// After a change of configuration: what was waiting may no longer have a reason to.
pub fn reload(worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
    if worker.target == Target::HubSpot {
        worker.associations.configure(&context.settings);
        for association in &context.associations {
            table::wake(association)?;
        }
        worker
            .associations
            .look(context.associations.len(), context.now.instant);
    }
    Ok(())
}

impl Worker {
    /// Sends associations that are owed, as far as they may be sent.
    pub fn associate(&mut self) -> SpiResult<()> {
        let (context, now) = (&self.context, self.context.now);
        if context.associations.is_empty() {
            return Ok(());
        }
        let Some(worker) = self
            .targets
            .iter_mut()
            .find(|worker| worker.target == Target::HubSpot)
        else {
            return Ok(());
        };
        if !worker.may_send(&context.settings, now.instant) || worker.associations.under_way {
            return Ok(());
        }
        if worker.associations.planned.is_empty() && is_time(worker, now.instant) {
            store::transaction(|| plan(worker, context))?;
        }
        let lane = &mut worker.associations;
        if !lane.planned.is_empty()
            && lane.permitted(now)
            && let Some(call) = lane.planned.pop_front()
        {
            lane.under_way = true;
            self.requests.send_associations(worker, call, context);
        }
        Ok(())
    }
}

/// Records go first; what is owed waits for company while some are on their way.
fn is_time(worker: &TargetWorker, now: Instant) -> bool {
    let lane = &worker.associations;
    let quiet = worker.queue.ready() == 0
        && worker.calls_in_flight == 0
        && worker.planned.is_empty()
        && !worker.unread();
    let new = lane
        .stale
        .is_some_and(|since| quiet || lane.noted >= FULL || now.duration_since(since) >= COMPANY);
    new || lane.next_retry.is_some_and(|at| at <= now)
}

fn plan(worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
    let due = table::due(&context.associations, ROUND)?;
    let lane = &mut worker.associations;
    if due.is_empty() {
        lane.stale = None;
        lane.noted = 0;
        let next = table::next_in_ms(&context.associations)?;
        lane.next_retry =
            next.map(|ms| context.now.instant + Duration::from_millis(ms.max(1).unsigned_abs()));
        return Ok(());
    }
    // There may be more than a round takes, and steps that follow upon these.
    lane.stale.get_or_insert(context.now.instant);
    lane.noted = FULL;
    let mut changes = Vec::new();
    let mut sendings = Vec::new();
    for (work, due) in due.iter().enumerate() {
        let step = engine::next_step(&due.owed);
        if let Some(now) = engine::before(&due.owed, &step) {
            changes.push(change(due, due.owed.held.clone(), now));
        }
        if let AssociationStep::Send(action, pair) = step {
            sendings.push(Sending {
                work,
                from: due.owed.from,
                to: due.owed.to,
                action,
                pair,
                labels: Labels::Unknown,
            });
        }
    }
    let stored = table::store(&changes)?;
    dead_letters::settle(context, &stored)?;
    if sendings
        .iter()
        .any(|sending| sending.action == Action::Create)
    {
        // A call must not leave before the note that HubSpot may hold its pairs is safe.
        store::commit_durably()?;
    }
    lane.planned = engine::assemble(sendings, &context.settings.hubspot_api).into();
    lane.due = due;
    Ok(())
}

fn change(
    due: &OwedAssociation,
    was_held: Option<engine::Pair>,
    now: engine::AssociationUpdate,
) -> AssociationChange {
    AssociationChange {
        association: due.association,
        key: due.key.clone(),
        to_key: due.to_key.clone(),
        was_held,
        now,
    }
}

/// An answer that came in.
pub struct AssociationAnswer {
    call: AssociationCall,
    reading: AssociationReading,
}

/// Takes in an answer. `current`: it was sent with the credential we have now.
pub fn hear(
    worker: &mut TargetWorker,
    context: &Context,
    call: AssociationCall,
    answer: &Answer,
    current: bool,
) -> AssociationAnswer {
    let mut reading = engine::read(&call, answer.result.as_ref());
    reading.budget.took = Some(answer.duration);
    worker.associations.under_way = false;
    judge_scope(worker, context, &call, &mut reading, current);
    if matches!(reading.signal, TargetSignal::Unauthorized { .. }) {
        if current {
            worker.hear(&reading.signal, &BudgetReport::default(), context.now);
        }
    } else {
        worker
            .associations
            .hear(&reading.signal, &reading.budget, context.now);
    }
    AssociationAnswer { call, reading }
}

/// What the credential may not do is given up on, once it is known to be good for other things.
fn judge_scope(
    worker: &mut TargetWorker,
    context: &Context,
    call: &AssociationCall,
    reading: &mut AssociationReading,
    current: bool,
) {
    let Some(first) = call.pairs.first() else {
        return;
    };
    let scope = Scope::Associate(first.from, first.to);
    match &reading.signal {
        // To look may be allowed to whoever may not write.
        TargetSignal::Healthy if call.verb != engine::Verb::Look => {
            missing_scopes::passed(worker, scope)
        }
        TargetSignal::Forbidden { why } if current => {
            let why = why.clone();
            if missing_scopes::refused(worker, context, scope, &why) == ScopeRefusal::Final {
                reading.verdicts.fill(PairVerdict::Refused {
                    why,
                    category: Category::Permission,
                    status: Some(403),
                });
            }
        }
        _ => {}
    }
}

impl AssociationAnswer {
    pub fn reading(&self) -> &AssociationReading {
        &self.reading
    }
}

/// Stores what the answers say.
pub fn settle(
    worker: &mut TargetWorker,
    context: &Context,
    answered: Vec<AssociationAnswer>,
) -> SpiResult<()> {
    for AssociationAnswer { mut call, reading } in answered {
        let breaker_open = !worker.associations.breaker.is_closed();
        let lane = &mut worker.associations;
        let mut changes = Vec::new();
        let mut dead_ids = Vec::new();
        let mut onward = Vec::new();
        let mut split = Vec::new();
        for (sending, verdict) in std::mem::take(&mut call.pairs)
            .into_iter()
            .zip(&reading.verdicts)
        {
            let Some(due) = lane.due.get(sending.work) else {
                continue;
            };
            let verdict = match verdict {
                PairVerdict::Split => {
                    split.push(sending);
                    continue;
                }
                PairVerdict::Looked(labels) => {
                    let labels = labels.clone();
                    onward.push(Sending { labels, ..sending });
                    continue;
                }
                // HubSpot as a whole is failing: not this association's fault.
                PairVerdict::Retry { why, wait, .. } if breaker_open => &PairVerdict::Retry {
                    why: why.clone(),
                    wait: *wait,
                    counted: false,
                },
                PairVerdict::DeadId { ids, .. } => {
                    if due.owed.attempts == 0 {
                        dead_ids.extend(ids.iter().cloned());
                    }
                    verdict
                }
                verdict => verdict,
            };
            let attempts = due.owed.attempts;
            let policy = &context.settings.retry;
            let now = engine::after(
                sending.action,
                &sending.pair,
                attempts,
                verdict,
                policy,
                context.now.jitter(sending.work as u64),
            );
            changes.push(change(due, Some(sending.pair), now));
        }
        let api = &context.settings.hubspot_api;
        call.pairs = split;
        let next = engine::assemble(onward, api)
            .into_iter()
            .chain(call.halves(api));
        let next: Vec<_> = next.collect();
        for call in next.into_iter().rev() {
            lane.planned.push_front(call);
        }
        let stored = table::store(&changes)?;
        dead_letters::settle(context, &stored)?;
        lane.stale.get_or_insert(context.now.instant);
        lane.noted = FULL;
        dead_ids.sort_unstable();
        dead_ids.dedup();
        resolve_again(worker, context, &dead_ids)?;
    }
    Ok(())
}

/// HubSpot does not know these ids any more: their records are sent whole, which finds out who
/// they are by now, or creates them anew.
fn resolve_again(worker: &mut TargetWorker, context: &Context, ids: &[String]) -> SpiResult<()> {
    let mut entries = Once::default();
    let mut retries = Once::default();
    for id in ids {
        for (record, link) in links::by_remote_id(Target::HubSpot, id)? {
            let why = format!("HubSpot no longer knows record {id}");
            let known = LinkEntry { record, link };
            let (retry, entry) = adopt::whole_again(known, why, context.now.timestamp);
            retries.push(retry);
            entries.push(entry);
        }
    }
    if retries.is_empty() {
        return Ok(());
    }
    links::write(Target::HubSpot, LinkCause::Noted, &entries)?;
    changes::put_retries(Target::HubSpot, &retries)?;
    super::settle::outlook(worker, context.now)
}
