//! Sends the associations that are owed, once the records are through.
//!
//! Their calls have a budget and a breaker of their own, and leave one at a time: HubSpot takes 2,000
//! pairs in one.

mod dead_letters;
mod limits;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use integration_engine::delivery::outcome::{Category, TargetSignal};
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::limits::BudgetReport;
use integration_engine::limits::missing_scopes::ScopeRefusal;
use integration_engine::limits::retry::Policy;
use integration_engine::record::Target;
use integration_engine::record::once::Once;
use integration_hubspot::associations as hubspot;
use integration_hubspot::associations::{
    Action, AssociationCall, AssociationReading, AssociationStep, Labels, PairVerdict, Sending,
};
use integration_hubspot::scopes::Scope;
use pgrx::spi::SpiResult;

use crate::store;
use crate::store::associations::{self as table, AssociationChange, OwedAssociation};
use crate::store::links::{self, LinkCause};
use crate::store::queue::changes;
use crate::store::queue::dead_letters::LogEntry;
use crate::worker::Context;
use crate::worker::hubspot::{adopt, missing_scopes};
use crate::worker::target::TargetWorker;
use crate::worker::target::hubspot::AssociationsOwed;
use crate::worker::task::{Answered, Question, Task, Token, Turn};
use limits::Limits;

/// Associations planned at once: two full calls.
const ROUND: i64 = 4_000;

/// A full call.
const FULL: usize = 2_000;

/// While records are on their way, associations wait for company, but for no longer.
const COMPANY: Duration = Duration::from_secs(1);

/// What is under way, and when there is more to do.
pub struct Associations {
    limits: Limits,
    planned: VecDeque<AssociationCall>,
    /// What the planned calls are about.
    due: Vec<OwedAssociation>,
    asked: Option<(Token, AssociationCall)>,
    next_retry: Option<Instant>,
}

impl Task for Associations {
    /// What was waiting may no longer have a reason to.
    fn load(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let Some((worker, context)) = turn.worker_mut(Target::HubSpot) else {
            return Ok(());
        };
        self.limits.configure(context.settings.association_rate);
        let associations = &context.associations;
        for association in associations {
            table::wake(association)?;
        }
        worker
            .associations
            .add(associations.len(), context.now.instant);
        Ok(())
    }

    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let now = turn.context.now;
        let Some((worker, context)) = turn.worker_mut(Target::HubSpot) else {
            return Ok(());
        };
        if self.asked.is_some() || !is_served(worker, context) {
            return Ok(());
        }
        if self.planned.is_empty() && self.is_time(&worker.associations, quiet(worker), now.instant)
        {
            store::transaction(|| self.plan(worker, context))?;
        }
        if !self.planned.is_empty()
            && self.limits.permit(now)
            && let Some(call) = self.planned.pop_front()
        {
            let question = Question::aside(call.request.clone());
            match turn.ask(Target::HubSpot, question) {
                Some(token) => self.asked = Some((token, call)),
                None => self.planned.push_front(call),
            }
        }
        Ok(())
    }

    fn describe(&self, answered: &Answered, entry: &mut LogEntry) {
        if let Some((_, call)) = self.asked.as_ref().filter(|(t, _)| *t == answered.token) {
            let reading = hubspot::read(call, answered.result.as_ref());
            entry.records = call.pairs.len();
            entry.error = reading.error;
            entry.correlation_id = reading.correlation_id;
        }
    }

    fn on_answer(&mut self, answered: Answered, turn: &mut Turn) -> SpiResult<()> {
        let asked = self.asked.take_if(|(token, _)| *token == answered.token);
        let (Some((_, call)), Some((worker, context))) = (asked, turn.worker_mut(Target::HubSpot))
        else {
            return Ok(());
        };
        let mut reading = hubspot::read(&call, answered.result.as_ref());
        reading.budget.took = Some(answered.duration);
        judge_scope(worker, context, &call, &mut reading, answered.current);
        if !matches!(reading.signal, TargetSignal::Unauthorized { .. }) {
            self.limits
                .note(&reading.signal, &reading.budget, context.now);
        } else if answered.current {
            worker.hear(&reading.signal, &BudgetReport::default(), context.now);
        }
        store::transaction(|| {
            self.settle(worker, context, call, &reading)?;
            missing_scopes::settle(worker, context)
        })
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        let served = |worker: &&TargetWorker| is_served(worker, turn.context);
        let worker = turn.worker(Target::HubSpot).filter(served)?;
        self.due_in(&worker.associations, turn.now())
    }
}

/// Whether there may be something to send.
fn is_served(worker: &TargetWorker, context: &Context) -> bool {
    !context.associations.is_empty() && worker.may_send(&context.settings, context.now.instant)
}

/// Whether no records are on their way.
fn quiet(worker: &TargetWorker) -> bool {
    worker.queue.ready() == 0
        && worker.calls_in_flight == 0
        && worker.planned.is_empty()
        && !worker.unread()
}

impl Associations {
    pub fn new(retry: &Policy) -> Associations {
        Associations {
            limits: Limits::new(retry),
            planned: VecDeque::new(),
            due: Vec::new(),
            asked: None,
            next_retry: None,
        }
    }

    /// Records go first; what is owed waits for company while some are on their way.
    fn is_time(&self, owed: &AssociationsOwed, quiet: bool, now: Instant) -> bool {
        let new = owed.since.is_some_and(|since| {
            quiet || owed.count >= FULL || now.duration_since(since) >= COMPANY
        });
        new || self.next_retry.is_some_and(|at| at <= now)
    }

    /// How long until there is something to do; `None`: until something happens.
    fn due_in(&self, owed: &AssociationsOwed, now: Instant) -> Option<Duration> {
        if self.asked.is_some() {
            return None;
        }
        let at = if self.planned.is_empty() {
            let stale = owed.since.map(|since| since + COMPANY);
            stale.into_iter().chain(self.next_retry).min()?
        } else {
            now
        };
        let wait = self.limits.not_before(at).saturating_duration_since(now);
        Some(wait.max(Duration::from_millis(1)))
    }

    fn plan(&mut self, worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
        let due = table::due(&context.associations, ROUND)?;
        let owed = &mut worker.associations;
        if due.is_empty() {
            (owed.since, owed.count) = (None, 0);
            let next = table::next_in_ms(&context.associations)?;
            self.next_retry = next
                .map(|ms| context.now.instant + Duration::from_millis(ms.max(1).unsigned_abs()));
            return Ok(());
        }
        // There may be more than a round takes, and steps that follow upon these.
        owed.since.get_or_insert(context.now.instant);
        owed.count = FULL;
        let mut changes = Vec::new();
        let mut sendings = Vec::new();
        for (work, due) in due.iter().enumerate() {
            let step = hubspot::next_step(&due.owed);
            if let Some(now) = hubspot::before(&due.owed, &step) {
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
        let creates = |sending: &Sending| sending.action == Action::Create;
        if sendings.iter().any(creates) {
            // A call must not leave before the note that HubSpot may hold its pairs is safe.
            store::commit_durably()?;
        }
        self.planned = hubspot::assemble(sendings, &context.settings.hubspot_api).into();
        self.due = due;
        Ok(())
    }

    /// Stores what an answer says.
    fn settle(
        &mut self,
        worker: &mut TargetWorker,
        context: &Context,
        call: AssociationCall,
        reading: &AssociationReading,
    ) -> SpiResult<()> {
        let terms = hubspot::AssociationTerms {
            settings: &context.settings.hubspot_api,
            policy: &context.settings.retry,
            failing: self.limits.is_failing(),
        };
        let due = &self.due;
        let attempts = |work: usize| due.get(work).map(|due| due.owed.attempts);
        let jitter = |work: usize| context.now.jitter(work as u64);
        let settlement = hubspot::settle(call, reading, &terms, attempts, jitter);
        let settled = settlement.settled.into_iter();
        let changes: Vec<_> = settled
            .filter_map(|(work, pair, now)| Some(change(due.get(work)?, Some(pair), now)))
            .collect();
        for call in settlement.next.into_iter().rev() {
            self.planned.push_front(call);
        }
        let stored = table::store(&changes)?;
        dead_letters::settle(context, &stored)?;
        let owed = &mut worker.associations;
        owed.since.get_or_insert(context.now.instant);
        owed.count = FULL;
        resolve_again(worker, context, &settlement.dead_ids)
    }
}

fn change(
    due: &OwedAssociation,
    was_held: Option<hubspot::Pair>,
    now: hubspot::AssociationUpdate,
) -> AssociationChange {
    AssociationChange {
        association: due.association,
        key: due.key.clone(),
        to_key: due.to_key.clone(),
        was_held,
        now,
    }
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
        TargetSignal::Healthy if call.verb != hubspot::Verb::Look => {
            missing_scopes::passed(worker, scope);
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
    worker.look_up_retries(context.now)
}
