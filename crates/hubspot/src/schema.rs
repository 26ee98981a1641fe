//! What HubSpot says of a custom object.

use serde::Deserialize;

use crate::{HubSpotSettings, objects};
use integration_engine::{
    record::{Entity, Target},
    wire::Request,
};

/// A custom object as far as keeping its records in step goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// HubSpot's number of the type.
    pub type_id: String,
    /// The group of properties that ours is put in.
    pub group: String,
    /// Properties without which HubSpot creates no record.
    pub required: Vec<String>,
}

/// `GET /crm-object-schemas/{V}/schemas/{type}`
pub fn request(settings: &HubSpotSettings, entity: Entity) -> Request {
    let (version, path) = (&settings.api_version, objects::of(entity).path);
    Request::get(
        Target::HubSpot,
        format!("/crm-object-schemas/{version}/schemas/{path}"),
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    name: String,
    object_type_id: String,
    #[serde(default)]
    archived: Option<bool>,
    #[serde(default)]
    required_properties: Option<Vec<String>>,
    #[serde(default)]
    properties: Option<Vec<Property>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Property {
    group_name: Option<String>,
    #[serde(default)]
    hubspot_defined: Option<bool>,
}

/// Reads the answer to [`request`]; `None`: the object was deleted.
pub fn read(body: &[u8]) -> Result<Option<Schema>, String> {
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| format!("the answer cannot be read: {error}"))?;
    if body.archived == Some(true) {
        return Ok(None);
    }
    // Where the object's own properties are. HubSpot: a new object's group is named after it.
    let properties = body.properties.unwrap_or_default();
    let own = properties
        .into_iter()
        .filter(|property| property.hubspot_defined != Some(true));
    let group = own.filter_map(|property| property.group_name).next();
    Ok(Some(Schema {
        type_id: body.object_type_id,
        group: group.unwrap_or_else(|| format!("{}_information", body.name)),
        required: body.required_properties.unwrap_or_default(),
    }))
}

/// Why nothing can be sent of an object, by the status of HubSpot's refusal, and what to do.
pub fn refusal(entity: Entity, status: Option<u16>, why: &str) -> String {
    let path = objects::of(entity).path;
    match status {
        Some(403) => format!(
            "HubSpot does not show the custom object {path}: {why}; grant the token the scopes {}",
            objects::of(entity).scopes().join(", ")
        ),
        _ => format!(
            "HubSpot has no custom object {path} (any more); it is named by its fully qualified name, such as p12345_machines, or by its object type id, such as 2-123456. To name another one: SELECT integration.untrack(…); then track() it again"
        ),
    }
}
