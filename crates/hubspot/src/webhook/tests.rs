use serde_json::json;

use super::*;
use crate::objects::named::{CONTACT, DEAL};
use integration_engine::{
    event_order::EventOrder,
    webhook::{Accepted, accept},
};

fn one(event: &str) -> (Event<HubSpotSubject>, HubSpotSubject) {
    let mut events = parse(format!("[{event}]").as_bytes()).unwrap();
    let event = events.remove(0).unwrap();
    let subject = event.subject.clone();
    (event, subject)
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
    assert_eq!(subject.entity, Some(CONTACT));
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
        (Some(DEAL), Some("900"))
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
        r#"{"portalId":1,"occurredAt":5,"subscriptionType":"object.creation","objectTypeId":"0-136"}"#,
    );
    assert_eq!(
        (ticket.entity, ticket.object_type.as_str()),
        (None, "0-136")
    );
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
    let last = |body: &str| parse(body.as_bytes()).unwrap().pop().unwrap();
    assert!(matches!(
        last("[1]"),
        Err(WebhookError::Unreadable { position: 0, .. })
    ));
    let incomplete = |position, field| Err(WebhookError::Incomplete { position, field });
    assert_eq!(
        last(&format!("[{event},{{}}]")),
        incomplete(1, "subscriptionType")
    );
    assert_eq!(
        last(r#"[{"subscriptionType":"x.y","portalId":1,"occurredAt":1.5}]"#),
        incomplete(0, "occurredAt")
    );
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn hubspot(at: &str) -> Accepted<HubSpotSubject> {
    let body = format!(
        r#"[{{"portalId":1,"occurredAt":{at},"subscriptionType":"contact.deletion","objectId":5}}]"#
    );
    let event = parse(body.as_bytes()).unwrap().remove(0);
    accept(event.unwrap(), NOW)
}

#[test]
fn times_are_those_at_which_something_can_have_happened() {
    let cases = [
        ("1799999999999", 1_799_999_999_999, true),
        // Clocks differ a little.
        ("1800000299000", 1_800_000_299_000, true),
        // But nothing happened in the future.
        ("1800000301000", NOW.0, true),
        ("253402300799000", NOW.0, true),
        ("253402300800000", NOW.0, false),
        ("9223372036854775807", NOW.0, false),
        ("5", NOW.0, false),
        ("-1", NOW.0, false),
    ];
    for (at, expected, taken) in cases {
        let accepted = hubspot(at);
        assert_eq!(accepted.event.occurred_at, Timestamp(expected), "{at}");
        assert_eq!(accepted.refused.is_none(), taken, "{at}");
    }
}

#[test]
fn entry_that_cannot_be_read_spoils_no_other() {
    let good = r#"{"portalId":1,"occurredAt":1790000000000,"subscriptionType":"contact.deletion","objectId":5}"#;
    let bad = [
        r#"{"half":"\ud800"}"#,
        r#"{"huge":1e999}"#,
        "1",
        "null",
        r#"{"portalId":1,"occurredAt":1e300,"subscriptionType":"contact.deletion"}"#,
    ];
    for bad in bad {
        let body = format!("[{good},{bad},{good}]");
        let entries = parse(body.as_bytes()).unwrap();
        let read: Vec<bool> = entries.iter().map(Result::is_ok).collect();
        assert_eq!(read, [true, false, true], "{bad}");
    }
}

#[test]
fn nul_is_replaced_and_refused() {
    let body = r#"[{"portalId":1,"occurredAt":1790000000000,"subscriptionType":"contact.propertyChange","objectId":5,
        "propertyName":"x","propertyValue":"a\u0000b","more":{"c\u0000":["\u0000"]}}]"#;
    let event = parse(body.as_bytes()).unwrap().remove(0);
    let accepted = accept(event.unwrap(), NOW);
    assert!(accepted.refused.is_some());
    let text = accepted.event.payload.to_string();
    assert!(!text.contains("\\u0000"), "{text}");
    assert_eq!(accepted.event.payload["propertyValue"], "a\u{fffd}b");
}

fn event(kind: &str, id: u64, more: Value) -> Affected {
    let mut event =
        json!({"subscriptionType": kind, "portalId": 1, "objectId": id, "occurredAt": 1});
    let more = more.as_object().cloned().unwrap_or_default();
    event.as_object_mut().unwrap().extend(more);
    replay(&event).unwrap().claim()
}

#[test]
fn what_waits_for_what() {
    let change = |id| {
        event(
            "contact.propertyChange",
            id,
            json!({"propertyName": "phone", "propertyValue": "1"}),
        )
    };
    let gone = event("contact.deletion", 7, json!({}));
    let back = event("contact.restore", 7, json!({}));
    let merge = event(
        "contact.merge",
        9,
        json!({"primaryObjectId": 7, "mergedObjectIds": [7, 8], "newObjectId": 9}),
    );
    let cases = [
        (&change(7), &change(7), true),
        (&change(7), &change(8), false),
        (&gone, &back, true),
        (&change(7), &merge, true),
        (&merge, &change(9), true),
        (&merge, &change(10), false),
        // A company is nobody's contact.
        (&event("company.deletion", 7, json!({})), &change(7), false),
    ];
    for (earlier, later, expected) in cases {
        let mut order = EventOrder::default();
        order.park((Timestamp(5), 1), earlier.clone());
        let waits = order.before((Timestamp(6), 2), later) == Some(1);
        assert_eq!(waits, expected, "{earlier:?} {later:?}");
    }
}
