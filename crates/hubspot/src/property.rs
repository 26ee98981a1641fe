//! Set-up requests: the unique property records are known by, and who we are.

use serde_json::{Value, json};

use crate::{HubSpot, HubSpotSettings};
use integration_engine::{
    record::{Entity, Target},
    service::failure::{Class, classify},
    value::json::shortened,
    wire::{Method, Reply, Request, TransportError},
};

use super::{object_type, versioned};

/// Whether an object type has the unique property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyState {
    /// It is there and unique.
    Ready,
    /// It can be created.
    Missing,
    /// There is a property of that name that cannot serve; uniqueness cannot be added later.
    NotUnique { why: String },
    /// The credential may not see it, or not create it.
    Forbidden { why: String },
    /// The answer does not tell; ask again later.
    Unknown { why: String },
}

/// The account a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// HubSpot's number of the account.
    pub portal_id: String,
    /// Its type, time zone and user interface, for people.
    pub detail: String,
    /// HubSpot: the day's limit is counted from midnight there.
    pub time_zone: Option<String>,
}

/// Asks for the definition of the unique property.
pub fn property_request(settings: &HubSpotSettings, entity: Entity) -> Request {
    let name = percent_encoding::utf8_percent_encode(
        &settings.external_id_property,
        percent_encoding::NON_ALPHANUMERIC,
    );
    // Underscores are common and need no escape.
    let name = name.to_string().replace("%5F", "_");
    request(
        Method::Get,
        format!("{}/{name}", properties_path(settings, entity)),
        None,
    )
}

/// Reads the answer to [`property_request`].
pub fn property_exists(reply: Result<&Reply, &TransportError>) -> PropertyState {
    match (classify::<HubSpot>(reply), reply) {
        (Class::Answered, Ok(reply)) => definition(reply),
        (Class::NotFound, Ok(reply)) if says_not_found(reply) => PropertyState::Missing,
        (Class::Forbidden { why }, _) => PropertyState::Forbidden { why },
        (class, reply) => PropertyState::Unknown {
            why: told(&class, reply.ok()),
        },
    }
}

/// Creates the unique property. HubSpot: at most 10 unique ones per object type.
pub fn create_property_request(settings: &HubSpotSettings, entity: Entity, group: &str) -> Request {
    let body = json!({
        "name": settings.external_id_property,
        "label": "CRM key",
        "description": "Key of this record in the CRM database. Do not edit.",
        "type": "string",
        "fieldType": "text",
        "groupName": group,
        "hasUniqueValue": true,
    });
    request(Method::Post, properties_path(settings, entity), Some(body))
}

/// Reads the answer to [`create_property_request`]. `Missing`: it exists by now, in a form that
/// has to be asked for.
pub fn property_created(reply: Result<&Reply, &TransportError>) -> PropertyState {
    match (classify::<HubSpot>(reply), reply) {
        (Class::Answered, Ok(_)) => PropertyState::Ready,
        (Class::Rejected, Ok(reply)) if reply.status == 409 => PropertyState::Missing,
        (Class::Forbidden { why }, _) => PropertyState::Forbidden { why },
        (class, reply) => PropertyState::Unknown {
            why: told(&class, reply.ok()),
        },
    }
}

/// Asks which account the token belongs to.
pub fn account_request(settings: &HubSpotSettings) -> Request {
    // Here the version stands behind the name whatever its kind.
    let path = format!("/account-info/{}/details", settings.api_version);
    request(Method::Get, path, None)
}

/// Reads the answer to [`account_request`]; the error is a sentence.
pub fn read_account(reply: Result<&Reply, &TransportError>) -> Result<Account, String> {
    let reply = match (classify::<HubSpot>(reply), reply) {
        (Class::Answered, Ok(reply)) => reply,
        (class, reply) => return Err(told(&class, reply.ok())),
    };
    let body: Value = serde_json::from_slice(&reply.body)
        .map_err(|error| format!("HubSpot's account details cannot be read: {error}"))?;
    let portal_id = match body.get("portalId") {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        _ => return Err("HubSpot's account details name no portalId".to_owned()),
    };
    let detail: Vec<&str> = ["accountType", "timeZone", "uiDomain"]
        .iter()
        .filter_map(|name| body.get(name).and_then(Value::as_str))
        .collect();
    Ok(Account {
        portal_id,
        detail: detail.join(", "),
        time_zone: body
            .get("timeZone")
            .and_then(Value::as_str)
            .map(str::to_owned),
    })
}

fn properties_path(settings: &HubSpotSettings, entity: Entity) -> String {
    format!(
        "{}/{}",
        versioned("crm/", "properties", &settings.api_version),
        object_type(entity)
    )
}

fn request(method: Method, path: String, body: Option<Value>) -> Request {
    let body = body.map(|body| body.to_string().into_bytes());
    Request {
        target: Target::HubSpot,
        method,
        path,
        body,
    }
}

fn definition(reply: &Reply) -> PropertyState {
    let Ok(body) = serde_json::from_slice::<Value>(&reply.body) else {
        return PropertyState::Unknown {
            why: "the property's definition cannot be read".to_owned(),
        };
    };
    let is = |name: &str| body.get(name).and_then(Value::as_bool);
    match (is("archived"), is("hasUniqueValue")) {
        (Some(true), _) => PropertyState::Missing,
        (_, Some(true)) => PropertyState::Ready,
        _ => PropertyState::NotUnique {
            why:
                "HubSpot has a property of this name that is not unique, which cannot be changed; \
                  set integration.hubspot_external_id_property to another name"
                    .to_owned(),
        },
    }
}

/// An unknown path answers 404 too, but not as JSON of this kind.
fn says_not_found(reply: &Reply) -> bool {
    serde_json::from_slice::<Value>(&reply.body).is_ok_and(|body| body.get("message").is_some())
}

pub(super) fn told(class: &Class, reply: Option<&Reply>) -> String {
    if let Some(why) = class.trouble() {
        return why.to_owned();
    }
    let status = reply.map_or(0, |reply| reply.status);
    let message = reply
        .and_then(|reply| serde_json::from_slice::<Value>(&reply.body).ok())
        .and_then(|body| body.get("message")?.as_str().map(str::to_owned))
        .unwrap_or_default();
    format!(
        "HubSpot answered HTTP {status}: {}",
        shortened(&message, 300)
    )
}
