//! HubSpot's webhooks: a JSON list of events. They come at least once, in any order, and tell only
//! what changed; the record's present state has to be looked at.

use serde_json::{Map, Value};

use crate::{
    record::{Entity, Timestamp},
    webhook::{Event, Subject, WebhookError, list_of_objects, text},
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

/// Reads a body: at most 1,000 events, though HubSpot documents at most 100.
pub fn parse(body: &[u8]) -> Result<Vec<Event>, WebhookError> {
    list_of_objects(body)?
        .into_iter()
        .enumerate()
        .map(|(position, event)| {
            read(event).map_err(|field| WebhookError::Incomplete { position, field })
        })
        .collect()
}

/// Reads the payload of an event that was stored.
pub fn replay(payload: &Value) -> Result<HubSpotSubject, WebhookError> {
    let Value::Object(event) = payload else {
        return Err(WebhookError::NotAList);
    };
    let event =
        read(event.clone()).map_err(|field| WebhookError::Incomplete { position: 0, field })?;
    match event.subject {
        Subject::HubSpot(subject) => Ok(subject),
        Subject::Mailchimp(_) | Subject::Mandrill(_) => Err(WebhookError::NotAList),
    }
}

/// Whether this event tells of a write that the app of this number made.
pub fn is_echo(subject: &HubSpotSubject, own_app_id: &str) -> bool {
    subject.change_source.as_deref() == Some("INTEGRATION")
        && subject.source_id.as_deref() == Some(own_app_id)
}

fn read(event: Map<String, Value>) -> Result<Event, &'static str> {
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
        entity: entity(&object_type),
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
        subject: Subject::HubSpot(subject),
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

/// By HubSpot's type ids, or by the names in classic event types.
fn entity(object_type: &str) -> Option<Entity> {
    match object_type {
        "0-1" => Some(Entity::Contact),
        "0-2" => Some(Entity::Company),
        "0-3" => Some(Entity::Deal),
        "0-46" => Some(Entity::Note),
        "0-48" => Some(Entity::Call),
        "0-49" => Some(Entity::Email),
        "0-47" => Some(Entity::Meeting),
        "0-27" => Some(Entity::Task),
        name => Entity::from_name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(event: &str) -> (Event, HubSpotSubject) {
        let event = parse(format!("[{event}]").as_bytes()).unwrap().remove(0);
        match event.subject.clone() {
            Subject::HubSpot(subject) => (event, subject),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_dialects_are_read() {
        let classic = r#"{"eventId":4101286121,"subscriptionId":7562680,"portalId":247187887,"appId":50780459,"occurredAt":1790000000000,"subscriptionType":"contact.propertyChange","attemptNumber":0,
            "objectId":9007199254740993,"propertyName":"email","propertyValue":"ada@example.com","changeSource":"CRM_UI","sourceId":"userId:7006"}"#;
        let (event, subject) = one(classic);
        assert_eq!(event.kind, "contact.propertyChange");
        assert_eq!(event.occurred_at, Timestamp(1_790_000_000_000));
        assert_eq!(
            event.payload,
            serde_json::from_str::<Value>(classic).unwrap()
        );
        assert_eq!(subject.entity, Some(Entity::Contact));
        assert_eq!(
            subject.object_id.as_deref(),
            Some("9007199254740993"),
            "never as a float"
        );
        assert_eq!(subject.portal_id, "247187887");
        let change = HubSpotAction::PropertyChange {
            property: "email".into(),
            value: Some("ada@example.com".into()),
        };
        assert_eq!(subject.action, change);

        let generic = r#"{"portalId":1,"occurredAt":5,"subscriptionType":"object.propertyChange","objectTypeId":"0-3","objectId":"900","propertyName":"amount","propertyValue":""}"#;
        let (_, subject) = one(generic);
        assert_eq!(
            (subject.entity, subject.object_id.as_deref()),
            (Some(Entity::Deal), Some("900"))
        );
        let cleared = HubSpotAction::PropertyChange {
            property: "amount".into(),
            value: Some(String::new()),
        };
        assert_eq!(subject.action, cleared);
    }

    #[test]
    fn every_kind_is_told_apart() {
        let action = |fields: &str| {
            one(&format!(
                r#"{{"portalId":1,"occurredAt":5,"objectId":512,{fields}}}"#
            ))
            .1
            .action
        };
        use HubSpotAction::*;
        let cases = [
            (r#""subscriptionType":"contact.creation""#, Creation),
            (
                r#""eventType":"object.creation","objectTypeId":"0-1""#,
                Creation,
            ),
            (r#""subscriptionType":"contact.deletion""#, Deletion),
            (
                r#""subscriptionType":"contact.privacyDeletion""#,
                PrivacyDeletion,
            ),
            (r#""subscriptionType":"contact.restore""#, Restore),
            (
                r#""subscriptionType":"object.associationChange","fromObjectTypeId":"0-1""#,
                AssociationChange,
            ),
            (
                r#""subscriptionType":"contact.merge","primaryObjectId":512,"mergedObjectIds":[514],"newObjectId":700"#,
                Merge {
                    merged: vec!["512".into(), "514".into()],
                    surviving: "700".into(),
                },
            ),
            (
                r#""subscriptionType":"contact.merge","primaryObjectId":512,"mergedObjectIds":[514],"newObjectId":512"#,
                Merge {
                    merged: vec!["514".into()],
                    surviving: "512".into(),
                },
            ),
            (
                r#""subscriptionType":"contact.merge""#,
                Other("contact.merge".into()),
            ),
            (
                r#""subscriptionType":"contact.propertyChange""#,
                Other("contact.propertyChange".into()),
            ),
            (
                r#""subscriptionType":"object.propertyChange","objectTypeId":"0-1","propertyName":"x","propertyValue":"REDACTED","isSensitive":true"#,
                Redacted {
                    property: "x".into(),
                },
            ),
            (
                r#""subscriptionType":"contact.propertyChange","propertyName":"x","propertyValue":"REDACTED""#,
                Redacted {
                    property: "x".into(),
                },
            ),
            (
                r#""subscriptionType":"object.propertyChange","objectTypeId":"0-1","propertyName":"x","propertyValue":"REDACTED","isSensitive":false"#,
                PropertyChange {
                    property: "x".into(),
                    value: Some("REDACTED".into()),
                },
            ),
            (
                r#""subscriptionType":"object.propertyChange","objectTypeId":"0-1","propertyName":"x","propertyValue":"","isSensitive":true"#,
                PropertyChange {
                    property: "x".into(),
                    value: Some(String::new()),
                },
            ),
            (
                r#""subscriptionType":"conversation.newMessage""#,
                Other("conversation.newMessage".into()),
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(action(fields), expected, "{fields}");
        }
        let (_, ticket) = one(
            r#"{"portalId":1,"occurredAt":5,"subscriptionType":"object.creation","objectTypeId":"0-5"}"#,
        );
        assert_eq!((ticket.entity, ticket.object_type.as_str()), (None, "0-5"));
    }

    #[test]
    fn echoes_are_our_own_writes() {
        let subject = |source: &str| {
            one(&format!(
                r#"{{"portalId":1,"occurredAt":5,"subscriptionType":"contact.creation",{source}}}"#
            ))
            .1
        };
        assert!(is_echo(
            &subject(r#""changeSource":"INTEGRATION","sourceId":"9""#),
            "9"
        ));
        assert!(is_echo(
            &subject(r#""changeSource":"INTEGRATION","sourceId":9"#),
            "9"
        ));
        assert!(!is_echo(
            &subject(r#""changeSource":"INTEGRATION","sourceId":"8""#),
            "9"
        ));
        assert!(!is_echo(
            &subject(r#""changeSource":"CRM_UI","sourceId":"9""#),
            "9"
        ));
    }

    #[test]
    fn deliveries_of_one_event_have_one_key() {
        let event = |attempt: u8, property: &str| {
            one(&format!(
                r#"{{"eventId":1,"subscriptionId":2,"portalId":3,"occurredAt":4,"subscriptionType":"contact.propertyChange","objectId":5,"attemptNumber":{attempt},"propertyName":"{property}"}}"#
            )).0.event_key
        };
        assert_eq!(event(0, "email"), event(3, "email"));
        assert_ne!(event(0, "email"), event(0, "phone"));
    }

    #[test]
    fn unreadable_bodies_say_why() {
        let event = r#"{"portalId":1,"occurredAt":5,"subscriptionType":"contact.creation"}"#;
        let many = |count: usize| format!("[{}]", vec![event; count].join(","));
        assert_eq!(parse(many(1_000).as_bytes()).unwrap().len(), 1_000);
        assert_eq!(
            parse(many(1_001).as_bytes()),
            Err(WebhookError::TooMany { count: 1_001 })
        );
        assert_eq!(parse(b"[]"), Ok(Vec::new()));
        assert!(matches!(parse(b"{"), Err(WebhookError::NotJson(_))));
        assert_eq!(parse(b"{}"), Err(WebhookError::NotAList));
        assert_eq!(parse(b"[1]"), Err(WebhookError::NotAList));
        let incomplete = |position, field| Err(WebhookError::Incomplete { position, field });
        assert_eq!(
            parse(format!("[{event},{{}}]").as_bytes()),
            incomplete(1, "subscriptionType")
        );
        assert_eq!(
            parse(br#"[{"subscriptionType":"x.y","portalId":1,"occurredAt":1.5}]"#),
            incomplete(0, "occurredAt")
        );
    }
}
