//! HubSpot's unique property that holds the CRM key: whether each object has it, and creating it.

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::BudgetReport;
use integration_engine::record::{Entity, Target};
use integration_engine::wire::{Reply, TransportError};
use integration_hubspot::property::{self, PropertyState};
use integration_mailchimp::provision::ProvisionProgress;
use pgrx::spi::SpiResult;

use super::requests::Requests;
use super::target::{TargetWorker, UniqueProperty};
use crate::services;
use crate::store::queue::changes;
use crate::store::state;
use crate::worker::hubspot::{missing_scopes, sharing};
use crate::worker::{Context, provision};

/// An answer about a property.
pub struct PropertyAnswer {
    entity: Entity,
    creating: bool,
    error: Option<String>,
}

/// The objects that tracked tables are sent to.
pub fn entities(worker: &TargetWorker, context: &Context) -> Vec<Entity> {
    if worker.target != Target::HubSpot {
        return Vec::new();
    }
    let mut entities: Vec<Entity> = context
        .sources
        .values()
        .filter(|source| source.maps.contains_key(&Target::HubSpot))
        .map(|source| source.entity)
        .collect();
    entities.sort_unstable();
    entities.dedup();
    entities
}

/// Those of them that HubSpot is known to have.
pub fn present(worker: &TargetWorker, context: &Context) -> Vec<Entity> {
    let catalog = &worker.preflight.hubspot.catalog;
    let mut entities = entities(worker, context);
    entities.retain(|entity| catalog.is_there(*entity));
    entities
}

/// Whether it is known of every object if the property is there, and who else uses it.
pub fn known(worker: &TargetWorker, context: &Context) -> bool {
    let known = present(worker, context).iter().all(|entity| {
        matches!(
            worker.properties.get(entity),
            Some(UniqueProperty::Ready | UniqueProperty::Missing | UniqueProperty::Refused)
        )
    });
    known && sharing::is_known(worker, context)
}

/// A property that somebody wants provisioned is asked for again, and made.
pub fn begin(worker: &mut TargetWorker, context: &Context) {
    for entity in present(worker, context) {
        if worker.properties.get(&entity) == Some(&UniqueProperty::Missing) {
            worker.properties.insert(entity, UniqueProperty::Wanted);
        }
    }
}

/// Takes in an answer.
pub fn hear(
    worker: &mut TargetWorker,
    context: &Context,
    entity: Entity,
    creating: bool,
    result: &Result<Reply, TransportError>,
) -> PropertyAnswer {
    let answer = if creating {
        property::property_created(result.as_ref())
    } else {
        property::property_exists(result.as_ref())
    };
    let (state, error) = match answer {
        PropertyState::Ready => (UniqueProperty::Ready, None),
        PropertyState::Missing => (UniqueProperty::Missing, None),
        PropertyState::NotUnique { why } => (UniqueProperty::Missing, Some(why)),
        PropertyState::Forbidden { why } if creating => (UniqueProperty::Missing, Some(why)),
        PropertyState::Forbidden { why } => {
            missing_scopes::refuse_object(worker, context, entity, &why);
            (UniqueProperty::Refused, Some(why))
        }
        PropertyState::Unknown { why } => {
            worker.hear(
                &failing(result, &why),
                &BudgetReport::default(),
                context.now,
            );
            (
                if creating {
                    UniqueProperty::Missing
                } else {
                    UniqueProperty::Unknown
                },
                Some(why),
            )
        }
    };
    if matches!(
        state,
        UniqueProperty::Ready | UniqueProperty::Missing | UniqueProperty::Refused
    ) {
        worker.breaker.success();
    }
    worker.properties.insert(entity, state);
    PropertyAnswer {
        entity,
        creating,
        error,
    }
}

/// An answer that tells nothing, though HubSpot seems well, is no reason to ask at once again.
pub fn failing(result: &Result<Reply, TransportError>, why: &str) -> TargetSignal {
    match services::signal(Target::HubSpot, result) {
        TargetSignal::Healthy => TargetSignal::Failing {
            why: why.to_owned(),
        },
        signal => signal,
    }
}

/// Stores what the answers say, alerts about missing properties, and notes how they stand.
pub fn settle(
    targets: &mut [TargetWorker],
    context: &Context,
    requests: &mut Requests,
    answered: &[PropertyAnswer],
) -> SpiResult<()> {
    let Some(worker) = targets
        .iter_mut()
        .find(|worker| worker.target == Target::HubSpot)
    else {
        return Ok(());
    };
    provision::begin(worker, context, requests);
    // A table whose object is refused is held, and says why.
    let preflight = &worker.preflight.hubspot;
    let mut all = entities(worker, context);
    all.retain(|entity| preflight.refused(*entity).is_none());
    let missing: Vec<&str> = all
        .iter()
        .filter(|entity| worker.properties.get(entity) == Some(&UniqueProperty::Missing))
        .map(|entity| entity.name())
        .collect();
    if !answered.is_empty() && !missing.is_empty() {
        let message = format!(
            "HubSpot has no unique property {} on {}; call SELECT integration.provision('hubspot');",
            context.settings.hubspot_api.external_id_property,
            missing.join(", ")
        );
        state::raise("provision", Target::HubSpot, "", &message)?;
    }
    if answered.iter().any(|answer| {
        answer.creating && worker.properties.get(&answer.entity) == Some(&UniqueProperty::Ready)
    }) {
        changes::retry_untried(Target::HubSpot)?;
        worker.look_up_retries(context.now)?;
        state::clear_alert(Target::HubSpot, "provision", "")?;
    }
    let failure = answered
        .iter()
        .filter(|answer| answer.creating)
        .find_map(|answer| answer.error.clone());
    let ready = all
        .iter()
        .filter(|entity| worker.properties.get(entity) == Some(&UniqueProperty::Ready))
        .count();
    let progress = ProvisionProgress {
        ready,
        all: all.len(),
        failure,
    };
    requests.provisioned.insert(Target::HubSpot, progress);
    Ok(())
}
