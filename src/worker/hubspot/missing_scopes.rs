//! What HubSpot's credential may not do: alerts about it, and what is sent again once it may.

use integration_engine::delivery::call::Reading;
use integration_engine::delivery::outcome::{Category, TargetSignal, Verdict};
use integration_engine::limits::missing_scopes::ScopeRefusal;
use integration_engine::now::Now;
use integration_engine::record::{Entity, Target};
use integration_hubspot::HubSpotCall;
use integration_hubspot::scopes::Scope;
use pgrx::spi::SpiResult;

use crate::store::queue::dead_letters::{self, Forbidden};
use crate::store::state;
use crate::worker::Context;
use crate::worker::target::account::AccountState;
use crate::worker::target::{TargetWorker, UniqueProperty};

/// Kind of the alert raised here.
pub const ALERT: &str = "permission";

/// Dead letters sent again at once when something is granted.
const REVIVED: i64 = 10_000;

/// A call of this scope was refused. Before it is given up on, the credential is asked about.
pub fn refused(
    worker: &mut TargetWorker,
    context: &Context,
    scope: Scope,
    why: &str,
) -> ScopeRefusal {
    worker.breaker.success();
    let wait = context.settings.retry.max;
    let refusal = worker
        .missing_scopes
        .refused(scope, why, wait, context.now.clock);
    if refusal == ScopeRefusal::Doubt && worker.account.known() {
        worker.account.state = AccountState::Unknown;
    }
    refusal
}

/// What the answer to a records' call says about its scope; `true`: the target as a whole has
/// nothing to do with it.
pub fn hear(
    worker: &mut TargetWorker,
    context: &Context,
    kind: &HubSpotCall,
    reading: &mut Reading,
) -> bool {
    let Some(scope) = kind.scope() else {
        return false;
    };
    match &reading.signal {
        TargetSignal::Healthy => {
            passed(worker, scope);
            false
        }
        TargetSignal::Forbidden { why } => {
            let why = why.clone();
            if refused(worker, context, scope, &why) == ScopeRefusal::Final {
                let verdict = forbidden(why);
                reading.verdicts.fill(verdict);
            }
            true
        }
        _ => false,
    }
}

/// A call of this scope went through.
pub fn passed(worker: &mut TargetWorker, scope: Scope) {
    if worker.missing_scopes.passed(scope) {
        worker.missing_scopes_told.granted.push(scope);
    }
}

/// What becomes of a record that may not be sent.
pub fn forbidden(why: String) -> Verdict {
    Verdict::Dead {
        category: Category::Permission,
        status: Some(403),
        why,
        member_status: None,
    }
}

/// What becomes of the records of an object of which nothing may be seen.
pub fn hidden(worker: &TargetWorker, entity: Entity) -> Option<Verdict> {
    let refused = worker.properties.get(&entity) == Some(&UniqueProperty::Refused);
    let why = worker.missing_scopes.lacks(Scope::Write(entity))?;
    refused.then(|| forbidden(why.to_owned()))
}

/// The object's definitions may not be seen: nothing about its records may.
pub fn refuse_object(worker: &mut TargetWorker, context: &Context, entity: Entity, why: &str) {
    let wait = context.settings.retry.max;
    for scope in [Scope::Read(entity), Scope::Write(entity)] {
        worker
            .missing_scopes
            .refused_for_sure(scope, why, wait, context.now.clock);
    }
}

/// Somebody may have granted what was lacking.
pub fn recheck(worker: &mut TargetWorker) {
    for scope in worker.missing_scopes.recheck() {
        ask_again(worker, scope);
    }
}

/// What has been refused for long enough is tried again, with one of the records that were given up
/// on. In a transaction.
pub fn retry(worker: &mut TargetWorker, now: Now) -> SpiResult<()> {
    for scope in worker.missing_scopes.due(now.clock) {
        ask_again(worker, scope);
        dead_letters::requeue(&of(scope), 1)?;
    }
    worker.look_up_retries(now)
}

fn ask_again(worker: &mut TargetWorker, scope: Scope) {
    if let Scope::Read(entity) = scope
        && worker.properties.get(&entity) == Some(&UniqueProperty::Refused)
    {
        worker.properties.insert(entity, UniqueProperty::Unknown);
    }
}

fn of(scope: Scope) -> Forbidden {
    match scope {
        Scope::Read(entity) | Scope::Write(entity) => Forbidden::Records(entity),
        Scope::Associate(..) => Forbidden::Associations,
    }
}

/// Tells what has changed, and sends again what may be sent now. In a transaction.
pub fn settle(worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
    if worker.target != Target::HubSpot {
        return Ok(());
    }
    if worker.missing_scopes_told.message.is_none() {
        remember(worker, context)?;
    }
    let mut reasons: Vec<String> = worker
        .missing_scopes
        .reasons()
        .map(|(scope, why)| sentence(scope, why))
        .collect();
    reasons.dedup();
    let message = (!reasons.is_empty()).then(|| reasons.join("\n"));
    if worker.missing_scopes_told.message.as_ref() != Some(&message) {
        match &message {
            Some(message) => state::raise(ALERT, Target::HubSpot, "", message)?,
            None => state::clear_alert(Target::HubSpot, ALERT, "")?,
        }
        worker.missing_scopes_told.message = Some(message);
    }
    let granted = std::mem::take(&mut worker.missing_scopes_told.granted);
    if granted.is_empty() {
        return Ok(());
    }
    for scope in granted {
        dead_letters::requeue(&of(scope), REVIVED)?;
        dead_letters::requeue(&Forbidden::Associations, REVIVED)?;
    }
    context.set_dead(worker.target, dead_letters::count(worker.target)?);
    worker.look_up_retries(context.now)
}

/// What an earlier worker had found out, as its dead letters tell.
pub fn remember(worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
    for (entity, why) in dead_letters::forbidden()? {
        let wait = context.settings.retry.max;
        let scope = Scope::Write(entity);
        worker
            .missing_scopes
            .refused_for_sure(scope, &why, wait, context.now.clock);
    }
    Ok(())
}

fn sentence(scope: Scope, why: &str) -> String {
    let what = match scope {
        Scope::Read(entity) | Scope::Write(entity) => format!("records of {}", entity.name()),
        Scope::Associate(from, to) => {
            format!("associations of {} with {}", from.name(), to.name())
        }
    };
    format!(
        "{what} are dead letters until that is put right; they are sent again by themselves then. {why}"
    )
}
