//! Whether others name contacts in the portal.

use super::*;
use crate::sharing::{Sharing, read, request};
use integration_engine::record::external_id::ExternalIds;

fn ours() -> Vec<ExternalIds> {
    ["crm-1a:crm.people:", "crm-1a:crm.members:", "acme:"]
        .map(|prefix| ExternalIds {
            prefix: prefix.into(),
            ..ExternalIds::default()
        })
        .to_vec()
}

#[test]
fn others_are_asked_for() {
    let request = request(&settings(&[]), &ours());
    assert_eq!(request.path, "/crm/objects/2026-09/contacts/search");
    let body: serde_json::Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
    assert_eq!(
        body["filterGroups"],
        serde_json::json!([{ "filters": [
            { "propertyName": "crm_id", "operator": "HAS_PROPERTY" },
            { "propertyName": "crm_id", "operator": "NOT_CONTAINS_TOKEN", "value": "acme*" },
            { "propertyName": "crm_id", "operator": "NOT_CONTAINS_TOKEN", "value": "crm-1a*" },
        ]}])
    );
}

#[test]
fn what_answers_say_of_others() {
    let of = |status, body: &str| read(Ok(&reply(status, body)), &settings(&[]), &ours());
    let with = |names: &[&str]| {
        let rows = names.iter().enumerate();
        let rows: Vec<String> = rows
            .map(|(id, name)| format!(r#"{{"id":"{id}","properties":{{"crm_id":"{name}"}}}}"#))
            .collect();
        of(
            200,
            &format!(r#"{{"total":9,"results":[{}]}}"#, rows.join(",")),
        )
    };
    assert_eq!(with(&[]), Sharing::Alone);
    assert_eq!(with(&["crm-1a:crm.people:1", "acme:7", ""]), Sharing::Alone);
    assert_eq!(with(&["acme:7", "17"]), Sharing::Shared);
    assert_eq!(with(&["crm-2b:crm.people:1"]), Sharing::Shared);
    assert_eq!(
        of(400, r#"{"category":"VALIDATION_ERROR"}"#),
        Sharing::Shared
    );
    assert_eq!(of(200, "no"), Sharing::Shared);
    assert!(matches!(of(503, ""), Sharing::Unknown(_)));
}
