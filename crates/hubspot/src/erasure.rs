//! Erasing at HubSpot: the requests it takes, and what their answers mean.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{EMAIL, HubSpot, calls::post, fault::ErrorBody, objects_path};
use crate::HubSpotSettings;
use integration_engine::{
    erasure::{ErasureAnswer, ErasureStep, answered, is_confirmed},
    record::{Entity, RemoteId},
    service::failure::Class,
    wire::{Reply, Request, TransportError},
};

use super::wire::BatchReply;

/// HubSpot: only contacts can be erased, one at a time.
pub(super) const ERASE: &str = "gdpr-delete";

/// Erases a contact by its id.
pub fn erase_request(settings: &HubSpotSettings, entity: Entity, id: &RemoteId) -> Request {
    request(settings, entity, json!({ "objectId": id.as_str() }))
}

/// Erases whoever has this address. HubSpot: an address that nobody has goes on a block list.
pub fn erase_address_request(settings: &HubSpotSettings, entity: Entity, email: &str) -> Request {
    let body = json!({ "objectId": email, "idProperty": EMAIL });
    request(settings, entity, body)
}

fn request(settings: &HubSpotSettings, entity: Entity, body: Value) -> Request {
    let objects = objects_path(&settings.api_version, entity);
    post(format!("{objects}/{ERASE}"), &body)
}

/// Moves a record to the recycle bin.
pub fn archive_request(settings: &HubSpotSettings, entity: Entity, id: &RemoteId) -> Request {
    let objects = objects_path(&settings.api_version, entity);
    let body = json!({ "inputs": [{ "id": id.as_str() }] });
    post(format!("{objects}/batch/archive"), &body)
}

/// Looks for a record that carries a row's external id.
pub fn look_request(settings: &HubSpotSettings, entity: Entity, id: &str) -> Request {
    let objects = objects_path(&settings.api_version, entity);
    let property = &settings.external_id_property;
    let body = json!({
        "properties": [property],
        "propertiesWithHistory": [],
        "idProperty": property,
        "inputs": [{ "id": id }],
    });
    post(format!("{objects}/batch/read"), &body)
}

/// What an answer to a step means.
pub fn read(
    step: &ErasureStep,
    reply: Result<&Reply, &TransportError>,
    settings: &HubSpotSettings,
) -> ErasureAnswer {
    match (answered::<HubSpot>(reply), step) {
        (Err(not), _) => not,
        (Ok((class, reply)), ErasureStep::Look(_)) => looked(&class, reply, settings),
        (Ok((class, reply)), _) => removed(&class, reply),
    }
}

/// What the answer to a removal means. A 404 counts only in HubSpot's own words: the path may be
/// wrong, and nothing erased.
fn removed(class: &Class, reply: &Reply) -> ErasureAnswer {
    match class {
        Class::Answered if is_confirmed(reply) => ErasureAnswer::Done,
        _ if is_gone(&fault(reply)) => ErasureAnswer::Absent,
        _ => ErasureAnswer::Not(said(reply)),
    }
}

/// What the answer to a look means.
fn looked(class: &Class, reply: &Reply, settings: &HubSpotSettings) -> ErasureAnswer {
    let fault = fault(reply);
    let found = || {
        let body: BatchReply<'_, IgnoredAny> = serde_json::from_slice(&reply.body).ok()?;
        let results = body.results.unwrap_or_default();
        let mut ids = results.iter().map(|row| row.id.as_str());
        if let Some(id) = ids.find(|id| !id.is_empty()) {
            return Some(ErasureAnswer::Found(RemoteId::from(id)));
        }
        let errors = body.errors.iter().flatten().map(ErrorBody::of);
        let other = errors.into_iter().find(|fault| !is_gone(fault));
        Some(other.map_or(ErasureAnswer::Absent, |fault| {
            ErasureAnswer::Not(fault.sentence())
        }))
    };
    match class {
        Class::Answered => found()
            .unwrap_or_else(|| ErasureAnswer::Not("HubSpot's answer cannot be read".to_owned())),
        // Without the property nothing carries a key.
        _ if is_gone(&fault) || fault.lacks_property(settings) => ErasureAnswer::Absent,
        _ => ErasureAnswer::Not(said(reply)),
    }
}

fn fault(reply: &Reply) -> ErrorBody {
    serde_json::from_slice::<Value>(&reply.body)
        .map(|body| ErrorBody::of(&body))
        .unwrap_or_default()
}

fn is_gone(fault: &ErrorBody) -> bool {
    let message = fault.message.to_lowercase();
    fault.category == "OBJECT_NOT_FOUND"
        || message == "resource not found"
        || message.contains("already deleted")
}

fn said(reply: &Reply) -> String {
    format!("{} (HTTP {})", fault(reply).sentence(), reply.status)
}
