//! What administrators set up in HubSpot, through the library and the control endpoints.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{hubspot, send};
use integration_sandbox::{Config, ObjectType, Sandbox};
use serde_json::{Value, json};

fn control(sandbox: &Sandbox, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let path = format!("/_sandbox/hubspot/{path}");
    let answer = send(&sandbox.hubspot_url(), "", method, &path, &body.to_string()).unwrap();
    (answer.status, answer.json())
}

fn upsert(sandbox: &Sandbox, version: &str, object: &str, properties: &Value) -> (u16, Value) {
    let path = match version {
        "v3" => format!("/crm/v3/objects/{object}/batch/create"),
        dated => format!("/crm/objects/{dated}/{object}/batch/create"),
    };
    let body = json!({"inputs": [{"objectWriteTraceId": "1", "properties": properties}]});
    let answer = hubspot(sandbox, "POST", &path, &body.to_string());
    (answer.status, answer.json())
}

#[test]
fn properties_come_change_and_go() {
    let sandbox = Sandbox::start(Config::default());
    let tier = json!({"name": "tier", "label": "Tier", "type": "enumeration", "fieldType": "select",
        "groupName": "contactinformation", "options": [{"value": "g", "label": "Gold"}]});
    assert_eq!(
        control(&sandbox, "POST", "contacts/properties", &tier).0,
        200
    );
    assert_eq!(
        control(&sandbox, "POST", "contacts/properties", &tier).0,
        400,
        "it is there"
    );
    let with = |value: &str, email: &str| {
        upsert(
            &sandbox,
            "2026-09",
            "contacts",
            &json!({"email": email, "tier": value}),
        )
        .0
    };
    assert_eq!(with("g", "a@example.com"), 201);
    assert_eq!(with("s", "b@example.com"), 207);
    let silver = json!({"options": [{"value": "s", "label": "Silver"}]});
    assert_eq!(
        control(&sandbox, "PATCH", "contacts/properties/tier", &silver).0,
        200
    );
    assert_eq!(with("s", "b@example.com"), 201);
    assert_eq!(with("g", "c@example.com"), 207);
    sandbox
        .change_property(ObjectType::Contact, "tier", json!({"readOnly": true}))
        .unwrap();
    assert_eq!(with("s", "c@example.com"), 207);
    sandbox
        .delete_property(ObjectType::Contact, "tier")
        .unwrap();
    assert_eq!(with("s", "c@example.com"), 207);
    assert_eq!(
        hubspot(&sandbox, "GET", "/crm/properties/2026-09/contacts/tier", "").status,
        404
    );
}

#[test]
fn sensitive_properties_are_listed_apart_and_take_scopes() {
    let sandbox = Sandbox::start(Config::default());
    let list = |sensitivity: &str| {
        let path = format!("/crm/properties/2026-09/contacts{sensitivity}");
        let answer = hubspot(&sandbox, "GET", &path, "");
        let named = answer.json()["results"]
            .as_array()
            .is_some_and(|all| all.iter().any(|property| property["name"] == "ssn"));
        (answer.status, named)
    };
    let write = || {
        let written = json!({"email": "a@example.com", "ssn": "1"});
        upsert(&sandbox, "2026-09", "contacts", &written).0
    };
    let new = json!({"name": "ssn", "label": "SSN", "type": "string", "fieldType": "text",
        "groupName": "contactinformation", "dataSensitivity": "sensitive"});
    sandbox.define_property(ObjectType::Contact, new).unwrap();
    assert_eq!(list(""), (200, false));
    assert_eq!(list("?dataSensitivity=non_sensitive"), (200, false));
    assert_eq!(list("?dataSensitivity=sensitive"), (403, false));
    assert_eq!(list("?dataSensitivity=highly_sensitive"), (403, false));
    assert_eq!(list("?dataSensitivity=secret"), (400, false));
    assert_eq!(write(), 403);
    let grant = |verb: &str| {
        let scope = format!("crm.objects.contacts.sensitive.{verb}.v2");
        sandbox.configure(|config| config.hubspot.scopes.push(scope));
    };
    grant("read");
    assert_eq!(list("?dataSensitivity=sensitive"), (200, true));
    assert_eq!(list("?dataSensitivity=highly_sensitive"), (403, false));
    assert_eq!(write(), 403);
    grant("write");
    assert_eq!(write(), 201);
}

#[test]
fn owners_are_listed_page_by_page_and_others_refused() {
    let sandbox = Sandbox::start(Config::default());
    let (_, added) = control(
        &sandbox,
        "POST",
        "owners",
        &json!({"email": "new@example.com"}),
    );
    let id = added["id"].to_string();
    let page = hubspot(&sandbox, "GET", "/crm/owners/2026-09?limit=1", "").json();
    assert_eq!(page["results"][0]["email"], "owner@example.com");
    let after = page["paging"]["next"]["after"].as_str().unwrap();
    let path = format!("/crm/v3/owners?limit=1&after={after}");
    let last = hubspot(&sandbox, "GET", &path, "").json();
    assert_eq!(last["results"][0]["id"], id.as_str());
    assert_eq!(last["paging"], Value::Null);
    let with = |owner: &str| {
        let deal = json!({"dealname": "x", "dealstage": "closedwon", "hubspot_owner_id": owner});
        upsert(&sandbox, "2026-09", "deals", &deal).0
    };
    assert_eq!((with(&id), with("1")), (201, 207));
}

#[test]
fn stages_belong_to_pipelines() {
    let sandbox = Sandbox::start(Config::default());
    let new = json!({"label": "Renewals", "stages": ["Open", "Won"]});
    let (_, added) = control(&sandbox, "POST", "pipelines", &new);
    let listed = hubspot(&sandbox, "GET", "/crm/pipelines/2026-09/deals", "").json();
    assert_eq!(listed["results"][1]["label"], "Renewals");
    assert_eq!(listed["results"][1]["stages"][0]["id"], added["stages"][0]);
    let with = |pipeline: &Value, stage: &Value| {
        let deal = json!({"dealname": "x", "pipeline": pipeline, "dealstage": stage});
        upsert(&sandbox, "2026-09", "deals", &deal).0
    };
    assert_eq!(with(&added["id"], &added["stages"][0]), 201);
    assert_eq!(with(&added["id"], &json!("closedwon")), 207);
    assert_eq!(with(&json!("default"), &added["stages"][0]), 207);
}

#[test]
fn dates_that_are_normalised_are_warned_about_from_2026_09_on() {
    let sandbox = Sandbox::start(Config::default());
    let deal = json!({"dealname": "x", "dealstage": "closedwon", "closedate": "1767312000000"});
    let (_, answer) = upsert(&sandbox, "2026-09", "deals", &deal);
    let warning = &answer["results"][0]["warnings"][0];
    assert_eq!(warning["category"], "PROPERTY_VALUE_NORMALIZED");
    assert_eq!(
        warning["context"]["normalizedValue"],
        json!(["2026-01-02T00:00:00.000Z"])
    );
    let (_, older) = upsert(&sandbox, "v3", "deals", &deal);
    assert_eq!(older["results"][0]["warnings"], Value::Null);
    let exact =
        json!({"dealname": "y", "dealstage": "closedwon", "closedate": "2026-01-02T00:00:00.000Z"});
    assert_eq!(
        upsert(&sandbox, "2026-09", "deals", &exact).1["results"][0]["warnings"],
        Value::Null
    );
}

#[test]
fn what_administrators_require_is_enforced_from_2026_09_on() {
    let sandbox = Sandbox::start(Config::default());
    let condition = json!({"property": "jobtitle", "value": "Manager"});
    for (property, rule) in [
        ("jobtitle", json!({"required": true})),
        ("company", json!({"requiredWhen": condition})),
    ] {
        sandbox
            .change_property(ObjectType::Contact, property, rule)
            .unwrap();
    }
    for (name, properties, code) in [
        ("a", json!({}), Some("MISSING_REQUIRED_PROPERTY")),
        (
            "b",
            json!({"jobtitle": "Manager"}),
            Some("MISSING_CONDITIONAL_REQUIRED_PROPERTY"),
        ),
        ("c", json!({"jobtitle": "Manager", "company": "Acme"}), None),
        ("d", json!({"jobtitle": "Clerk"}), None),
    ] {
        let mut properties = properties;
        for (version, code) in [("2026-09", code), ("2026-03", None), ("v3", None)] {
            properties["email"] = json!(format!("{name}.{version}@example.com"));
            let (status, answer) = upsert(&sandbox, version, "contacts", &properties);
            assert_eq!(status, if code.is_some() { 207 } else { 201 }, "{answer}");
            let said = answer["errors"][0]["message"].as_str().unwrap_or_default();
            assert!(code.is_none_or(|code| said.contains(code)), "{answer}");
        }
    }
}
