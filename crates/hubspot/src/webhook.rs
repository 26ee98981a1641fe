//! HubSpot's webhooks: a JSON list of events. They come at least once, in any order, and tell only
//! what changed; the record's present state has to be looked at.

use serde_json::{Map, Value};

use crate::objects;
use integration_engine::{
    event_order::{Affected, Reach},
    record::{Entity, Timestamp},
    webhook::{Entry, Event, EventSubject, Flaw, WebhookError, object_without_nul, objects, text},
};

/// What an event of HubSpot's is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSpotSubject {
    /// `None`: a type of object we do not synchronise.
    pub entity: Option<Entity>,
    /// `0-1` or the like, or the name in classic event types (`contact`).
    pub object_type: String,
    /// The record's id: an int64 as text. Of associations, the record it goes out from.
    pub object_id: Option<String>,
    /// HubSpot's number of the account.
    pub portal_id: String,
    pub app_id: Option<String>,
    /// `CRM_UI`, `INTEGRATION`, `IMPORT`, …: an open list.
    pub change_source: Option<String>,
    /// `userId:7006`, or the number of the app that wrote.
    pub source_id: Option<String>,
    pub action: HubSpotAction,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubSpotAction {
    /// An empty value means that the property was cleared.
    PropertyChange {
        property: String,
        value: Option<String>,
    },
    /// The value of a sensitive property changed, and HubSpot does not tell to what.
    Redacted {
        property: String,
    },
    Creation,
    Deletion,
    /// Deleted for good; HubSpot sends [`HubSpotAction::Deletion`] as well, in either order.
    PrivacyDeletion,
    /// All of `merged` are dead from now on.
    Merge {
        merged: Vec<String>,
        surviving: String,
    },
    Restore,
    AssociationChange,
    /// Anything else, by its name.
    Other(String),
}

impl EventSubject for HubSpotSubject {
    fn in_whole_seconds(&self) -> bool {
        false
    }

    fn ends_mail(&self) -> bool {
        false
    }

    fn claim(&self) -> Affected {
        let kind = self
            .entity
            .map_or(self.object_type.as_str(), |entity| entity.name());
        let merged = match &self.action {
            HubSpotAction::Merge { merged, surviving } => {
                [merged.as_slice(), std::slice::from_ref(surviving)].concat()
            }
            _ => Vec::new(),
        };
        let ids = self.object_id.iter().chain(&merged);
        let reach = match self.action {
            HubSpotAction::PropertyChange { .. } | HubSpotAction::Redacted { .. } => Reach::Fields,
            _ => Reach::Record,
        };
        Affected::new(ids.map(|id| format!("{kind} {id}")), reach)
    }
}

/// Reads a body: at most 1,000 events, though HubSpot documents at most 100.
pub fn parse(body: &[u8]) -> Result<Vec<Entry<HubSpotSubject>>, WebhookError> {
    let entries = objects(body)?.into_iter().enumerate();
    let read = |(position, entry): (usize, Result<Map<String, Value>, WebhookError>)| {
        let mut event = entry?;
        let nul = object_without_nul(&mut event);
        let read = read(event).map_err(|field| WebhookError::Incomplete { position, field });
        read.map(|event| Event {
            flaw: nul.then_some(Flaw::Nul),
            ..event
        })
    };
    Ok(entries.map(read).collect())
}

/// Reads the payload of an event that was stored.
pub fn replay(payload: &Value) -> Result<HubSpotSubject, WebhookError> {
    let Value::Object(event) = payload else {
        return Err(WebhookError::NotAList);
    };
    let event =
        read(event.clone()).map_err(|field| WebhookError::Incomplete { position: 0, field })?;
    Ok(event.subject)
}

/// Whether this event tells of a write that the app of this number made.
pub fn is_echo(subject: &HubSpotSubject, own_app_id: &str) -> bool {
    subject.change_source.as_deref() == Some("INTEGRATION")
        && subject.source_id.as_deref() == Some(own_app_id)
}

fn read(event: Map<String, Value>) -> Result<Event<HubSpotSubject>, &'static str> {
    let field = |name: &str| text(event.get(name));
    let kind = field("subscriptionType")
        .or_else(|| field("eventType"))
        .ok_or("subscriptionType")?;
    let portal_id = field("portalId").ok_or("portalId")?;
    let occurred_at = field("occurredAt")
        .and_then(|text| text.parse().ok())
        .ok_or("occurredAt")?;
    let (object, happened) = kind.split_once('.').unwrap_or((kind.as_str(), ""));
    let object_type = match object {
        "object" => field("objectTypeId").or_else(|| field("fromObjectTypeId")),
        _ => None,
    }
    .unwrap_or_else(|| object.to_owned());
    let object_id = ["objectId", "primaryObjectId", "fromObjectId"]
        .into_iter()
        .find_map(&field);
    let subject = HubSpotSubject {
        entity: objects::from_event(&object_type),
        object_id,
        portal_id,
        app_id: field("appId"),
        change_source: field("changeSource"),
        source_id: field("sourceId"),
        action: action(&event, happened, &kind),
        object_type,
    };
    let event_key = event_key(&event, &kind);
    Ok(Event {
        event_key,
        kind,
        occurred_at: Timestamp(occurred_at),
        payload: Value::Object(event),
        subject,
        flaw: None,
    })
}

/// `eventId` alone is not unique; what else tells deliveries of different events apart comes along.
fn event_key(event: &Map<String, Value>, kind: &str) -> String {
    const FIELDS: [&str; 8] = [
        "portalId",
        "subscriptionId",
        "objectId",
        "fromObjectId",
        "toObjectId",
        "propertyName",
        "occurredAt",
        "eventId",
    ];
    let mut key = kind.to_owned();
    for field in FIELDS {
        key.push(':');
        key.push_str(&text(event.get(field)).unwrap_or_default());
    }
    key
}

fn action(event: &Map<String, Value>, happened: &str, kind: &str) -> HubSpotAction {
    let other = || HubSpotAction::Other(kind.to_owned());
    match happened {
        "propertyChange" => property_change(event).unwrap_or_else(other),
        "creation" => HubSpotAction::Creation,
        "deletion" => HubSpotAction::Deletion,
        "privacyDeletion" => HubSpotAction::PrivacyDeletion,
        "merge" => merge(event).unwrap_or_else(other),
        "restore" => HubSpotAction::Restore,
        "associationChange" => HubSpotAction::AssociationChange,
        _ => other(),
    }
}

fn property_change(event: &Map<String, Value>) -> Option<HubSpotAction> {
    let property = text(event.get("propertyName"))?;
    let value = match event.get("propertyValue") {
        Some(Value::Bool(value)) => Some(value.to_string()),
        Some(Value::Number(number)) => Some(number.to_string()),
        value => text(value),
    };
    // The values of sensitive properties are withheld. Classic event types do not say that they are:
    // then the word alone has to do.
    let is_sensitive = event.get("isSensitive").and_then(Value::as_bool);
    Some(
        if is_sensitive != Some(false) && value.as_deref() == Some("REDACTED") {
            HubSpotAction::Redacted { property }
        } else {
            HubSpotAction::PropertyChange { property, value }
        },
    )
}

fn merge(event: &Map<String, Value>) -> Option<HubSpotAction> {
    let id = |name: &str| text(event.get(name));
    let surviving = id("newObjectId").or_else(|| id("primaryObjectId"))?;
    let listed = event.get("mergedObjectIds").and_then(Value::as_array);
    let mut merged: Vec<String> = listed
        .into_iter()
        .flatten()
        .filter_map(|id| text(Some(id)))
        .chain(id("primaryObjectId"))
        .filter(|id| *id != surviving)
        .collect();
    merged.sort_unstable();
    merged.dedup();
    Some(HubSpotAction::Merge { merged, surviving })
}

#[cfg(test)]
mod tests;
