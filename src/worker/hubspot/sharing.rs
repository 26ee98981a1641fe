//! Whether others name contacts in the portal. If so, a contact is looked at before it is written
//! for the first time: it may be theirs.

use std::time::{Duration, Instant};

use integration_engine::limits::BudgetReport;
use integration_engine::now::Now;
use integration_engine::record::Target;
use integration_engine::record::external_id::ExternalIds;
use integration_engine::wire::{Reply, Request, TransportError};
use integration_hubspot::sharing::{self, Sharing};
use integration_hubspot::{HubSpotSettings, objects};

use crate::worker::Context;
use crate::worker::properties::failing;
use crate::worker::target::{TargetWorker, UniqueProperty};

/// Others may begin at any time: while there is work, they are asked for so often.
const AGAIN: Duration = Duration::from_mins(10);
/// After an answer that said nothing.
const SOON: Duration = Duration::from_secs(1);

/// The settings, with what is known of the portal.
pub fn settings(worker: &TargetWorker, context: &Context) -> HubSpotSettings {
    let properties = worker.properties.iter();
    let ready = properties.filter(|(_, state)| **state == UniqueProperty::Ready);
    let shared = worker.others.share().then(objects::person);
    HubSpotSettings {
        external_id_ready: ready.map(|(entity, _)| *entity).collect(),
        external_id_shared: shared.into_iter().collect(),
        ..context.settings.hubspot_api.clone()
    }
}

/// How contacts of ours are named, where we made the names.
fn ours(context: &Context) -> Vec<ExternalIds> {
    let contacts = context
        .sources
        .values()
        .filter(|source| source.entity.is_person());
    contacts
        .filter_map(|source| Some(source.maps.get(&Target::HubSpot)?.external_ids.clone()))
        .collect()
}

/// Whether it matters: contacts are sent, and HubSpot has the property.
fn matters(worker: &TargetWorker, context: &Context) -> bool {
    worker.target == Target::HubSpot
        && worker.properties.get(&objects::person()) == Some(&UniqueProperty::Ready)
        && ours(context).iter().any(|ids| !ids.chosen)
}

/// Whether it is known as far as it matters.
pub fn is_known(worker: &TargetWorker, context: &Context) -> bool {
    worker.others.shared.is_some() || !matters(worker, context)
}

/// Whether it is time to ask.
pub fn is_due(worker: &TargetWorker, context: &Context, now: Instant) -> bool {
    let others = &worker.others;
    let wanted = others.shared.is_none() || worker.queue.ready() > 0;
    !others.asked
        && wanted
        && others.again_at.is_none_or(|at| at <= now)
        && matters(worker, context)
}

/// It may not be asked now.
pub fn postpone(worker: &mut TargetWorker, wait: Duration, now: Now) {
    worker.others.again_at = Some(now.instant + wait);
    if worker.others.shared.is_none() {
        worker.block(wait, now);
    }
}

/// Returns the question, which is asked from now on.
pub fn ask(worker: &mut TargetWorker, context: &Context) -> Request {
    worker.others.asked = true;
    request(context)
}

/// Returns the question.
pub fn request(context: &Context) -> Request {
    sharing::request(&context.settings.hubspot_api, &ours(context))
}

/// Takes in an answer.
pub fn hear(worker: &mut TargetWorker, context: &Context, result: &Result<Reply, TransportError>) {
    let now = context.now;
    worker.others.asked = false;
    let settings = &context.settings.hubspot_api;
    match sharing::read(result.as_ref(), settings, &ours(context)) {
        Sharing::Unknown(why) => {
            let signal = failing(result, &why);
            worker.hear(&signal, &BudgetReport::default(), now);
            // Contacts wait for the answer, and nothing else would have it asked again.
            postpone(worker, SOON, now);
        }
        known => {
            worker.breaker.success();
            worker.others.shared = Some(known == Sharing::Shared);
            worker.others.again_at = Some(now.instant + AGAIN);
        }
    }
}
