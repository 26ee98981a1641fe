//! What HubSpot refuses, the sandbox refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{hubspot, send};
use integration_sandbox::{Config, ObjectType, Rate, Sandbox};
use serde_json::{Value, json};

const UPSERT: &str = "/crm/objects/2026-09/contacts/batch/upsert";

fn upsert(email: &str, more: Value) -> Value {
    let mut properties = json!({"email": email});
    properties
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"id": email, "idProperty": "email", "objectWriteTraceId": email, "properties": properties})
}

fn batch(inputs: &[Value]) -> String {
    json!({"inputs": inputs}).to_string()
}

#[test]
fn every_bad_value_is_named_and_the_others_go_through() {
    let sandbox = Sandbox::start(Config::default());
    let cases = [
        (json!({"nope": "1"}), "PROPERTY_DOESNT_EXIST"),
        (json!({"hs_object_id": "1"}), "READ_ONLY_VALUE"),
        (json!({"email": "x@example.invalid"}), "INVALID_EMAIL"),
        (json!({"lifecyclestage": "Lead"}), "INVALID_OPTION"),
        (json!({"closedate": "tomorrow"}), "INVALID_DATE"),
        (json!({"firstname": " x"}), "LEADING_TRAILING_WHITESPACE"),
        (json!({"firstname": null}), "INVALID_VALUE"),
        (json!({"firstname": "x".repeat(65_537)}), "VALUE_TOO_LONG"),
    ];
    let mut inputs = vec![upsert(
        "good@example.com",
        json!({"firstname": "x".repeat(65_536)}),
    )];
    for (number, (more, _)) in cases.iter().enumerate() {
        inputs.push(upsert(&format!("bad{number}@example.com"), more.clone()));
    }
    let answer = hubspot(&sandbox, "POST", UPSERT, &batch(&inputs));
    assert_eq!(answer.status, 207);
    let answer = answer.json();
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    for (number, (_, code)) in cases.iter().enumerate() {
        let trace = format!("bad{number}@example.com");
        let error = answer["errors"]
            .as_array()
            .unwrap()
            .iter()
            .find(|error| error["context"]["objectWriteTraceId"][0] == trace);
        assert_eq!(error.unwrap()["errors"][0]["code"], *code);
    }
    assert_eq!(sandbox.records(ObjectType::Contact).len(), 1);
}

#[test]
fn untraced_batches_fail_as_a_whole() {
    let sandbox = Sandbox::start(Config::default());
    let mut bad = upsert("bad@example.com", json!({"nope": "1"}));
    bad.as_object_mut().unwrap().remove("objectWriteTraceId");
    let answer = hubspot(
        &sandbox,
        "POST",
        UPSERT,
        &batch(&[upsert("good@example.com", json!({})), bad]),
    );
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["errors"][0]["code"], "PROPERTY_DOESNT_EXIST");
    assert!(sandbox.records(ObjectType::Contact).is_empty());

    sandbox
        .create_record(ObjectType::Contact, &[("email", "here@example.com")])
        .unwrap();
    let create = json!({"inputs": [{"properties": {"email": "here@example.com"}}, {"properties": {"email": "new@example.com"}}]});
    let answer = hubspot(
        &sandbox,
        "POST",
        "/crm/v3/objects/contacts/batch/create",
        &create.to_string(),
    );
    assert_eq!(
        (answer.status, answer.json()["message"].as_str()),
        (409, Some("Contact already exists"))
    );
    assert_eq!(sandbox.records(ObjectType::Contact).len(), 1);
}

#[test]
fn whole_calls_that_are_wrong() {
    let sandbox = Sandbox::start(Config::default());
    let twice = batch(&[
        upsert("a@example.com", json!({})),
        upsert("A@example.com", json!({})),
    ]);
    let many: Vec<_> = (0..101)
        .map(|number| upsert(&format!("p{number}@example.com"), json!({})))
        .collect();
    let by_domain = r#"{"inputs":[{"id":"x.example.com","idProperty":"domain","properties":{"domain":"x.example.com"}}]}"#;
    let by_email = r#"{"inputs":[{"id":"a@example.com","idProperty":"email","properties":{}}]}"#;
    for (path, body) in [
        (UPSERT, &*twice),
        (UPSERT, &*batch(&many)),
        (UPSERT, "{"),
        ("/crm/objects/2026-09/companies/batch/upsert", by_domain),
        ("/crm/objects/2026-09/contacts/batch/update", by_email),
        ("/crm/objects/2026-09/unicorns/batch/update", by_email),
        (
            "/crm/v3/objects/deals",
            r#"{"properties":{"dealname":"no stage"}}"#,
        ),
    ] {
        assert_eq!(hubspot(&sandbox, "POST", path, body).status, 400, "{path}");
    }
    assert!(sandbox.records(ObjectType::Contact).is_empty());
}

#[test]
fn unique_values_are_taken_once() {
    let sandbox = Sandbox::start(Config::default());
    let first = sandbox
        .create_record(ObjectType::Contact, &[("email", "first@example.com")])
        .unwrap();
    let second = sandbox
        .create_record(ObjectType::Contact, &[("email", "second@example.com")])
        .unwrap();
    let path = format!("/crm/v3/objects/contacts/{second}");
    let answer = hubspot(
        &sandbox,
        "PATCH",
        &path,
        r#"{"properties":{"email":"First@example.com"}}"#,
    )
    .json();
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.starts_with("Cannot set PropertyValueCoordinates{"),
        "{message}"
    );
    assert!(
        message.ends_with(&format!(" on {second}. {first} already has that value.")),
        "{message}"
    );

    // Deleting frees the address; the deleted one stays readable.
    sandbox.delete_record(ObjectType::Contact, first).unwrap();
    assert_eq!(
        hubspot(
            &sandbox,
            "PATCH",
            &path,
            r#"{"properties":{"email":"First@example.com"}}"#
        )
        .status,
        200
    );
    assert_eq!(
        hubspot(
            &sandbox,
            "GET",
            &format!("/crm/v3/objects/contacts/{first}"),
            ""
        )
        .status,
        404
    );
    assert_eq!(
        hubspot(
            &sandbox,
            "GET",
            &format!("/crm/v3/objects/contacts/{first}?archived=true"),
            ""
        )
        .status,
        200
    );
}

#[test]
fn merged_ids_resolve_singly_but_not_in_batches() {
    let sandbox = Sandbox::start(Config::default());
    let one = sandbox
        .create_record(
            ObjectType::Contact,
            &[("email", "one@example.com"), ("phone", "1")],
        )
        .unwrap();
    let two = sandbox
        .create_record(
            ObjectType::Contact,
            &[("email", "two@example.com"), ("city", "Bonn")],
        )
        .unwrap();
    let survivor = sandbox
        .merge_records(ObjectType::Contact, one, two)
        .unwrap();
    assert!(survivor != one && survivor != two);
    let record = sandbox.record(ObjectType::Contact, survivor).unwrap();
    assert_eq!(record.properties["email"], "one@example.com");
    assert_eq!(record.properties["city"], "Bonn");
    assert_eq!(record.properties["hs_additional_emails"], "two@example.com");
    assert_eq!(
        hubspot(
            &sandbox,
            "GET",
            &format!("/crm/v3/objects/contacts/{two}"),
            ""
        )
        .json()["id"],
        survivor.to_string()
    );
    let update = json!({"inputs": [{"id": two.to_string(), "objectWriteTraceId": "t", "properties": {"city": "Ulm"}}]}).to_string();
    let answer = hubspot(
        &sandbox,
        "POST",
        "/crm/v3/objects/contacts/batch/update",
        &update,
    );
    assert_eq!(
        (answer.status, &answer.json()["errors"][0]["category"]),
        (207, &json!("OBJECT_NOT_FOUND"))
    );
    // The secondary address leads to the survivor, and its primary one comes back.
    let answer = hubspot(
        &sandbox,
        "POST",
        UPSERT,
        &batch(&[upsert("two@example.com", json!({"city": "Köln"}))]),
    )
    .json();
    assert_eq!(answer["results"][0]["id"], survivor.to_string());
    assert_eq!(
        answer["results"][0]["properties"]["email"],
        "one@example.com"
    );
}

#[test]
fn limits_are_told_and_kept() {
    let mut config = Config::default();
    config.hubspot.rate = Some(Rate {
        max: 3,
        interval_ms: 600_000,
    });
    config.hubspot.daily_limit = Some(100);
    let sandbox = Sandbox::start(config);
    let details = || hubspot(&sandbox, "GET", "/account-info/2026-09/details", "");
    let first = details();
    assert_eq!(first.header("x-hubspot-ratelimit-max"), Some("3"));
    assert_eq!(first.header("x-hubspot-ratelimit-remaining"), Some("2"));
    assert_eq!(
        first.header("x-hubspot-ratelimit-interval-milliseconds"),
        Some("600000")
    );
    assert_eq!(
        first.header("x-hubspot-ratelimit-daily-remaining"),
        Some("99")
    );
    details();
    details();
    let refused = details();
    assert_eq!(
        (refused.status, &refused.json()["policyName"]),
        (429, &json!("TEN_SECONDLY_ROLLING"))
    );
    assert_eq!(sandbox.stats().throttled, 1);
    sandbox.configure(|config| {
        config.hubspot.rate = None;
        config.hubspot.daily_limit = Some(4);
    });
    assert_eq!(details().status, 200);
    let refused = details();
    assert_eq!(
        (refused.status, &refused.json()["policyName"]),
        (429, &json!("DAILY"))
    );
}

#[test]
fn credentials_are_checked() {
    let sandbox = Sandbox::start(Config::default());
    let path = "/account-info/2026-09/details";
    for wrong in ["Bearer nope", "Basic abc", ""] {
        let answer = send(&sandbox.hubspot_url(), wrong, "GET", path, "").unwrap();
        assert_eq!(
            (answer.status, &answer.json()["category"]),
            (401, &json!("INVALID_AUTHENTICATION"))
        );
    }
    let config = Config::default().hubspot;
    let form = format!(
        "grant_type=refresh_token&refresh_token={}&client_id={}&client_secret={}",
        config.refresh_token, config.client_id, config.client_secret
    );
    let token = send(
        &sandbox.hubspot_url(),
        "",
        "POST",
        "/oauth/2026-09/token",
        &form,
    )
    .unwrap()
    .json();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    assert_eq!(
        send(&sandbox.hubspot_url(), &bearer, "GET", path, "")
            .unwrap()
            .status,
        200
    );
    sandbox.expire_tokens();
    let expired = send(&sandbox.hubspot_url(), &bearer, "GET", path, "").unwrap();
    assert_eq!(
        (expired.status, &expired.json()["category"]),
        (401, &json!("EXPIRED_AUTHENTICATION"))
    );
}

#[test]
fn associations_have_a_limit_of_their_own() {
    let mut config = Config::default();
    let rate = |max| {
        Some(Rate {
            max,
            interval_ms: 600_000,
        })
    };
    (config.hubspot.rate, config.hubspot.association_rate) = (rate(2), rate(1));
    let sandbox = Sandbox::start(config);
    let path = "/crm/associations/2026-09/contacts/companies/batch/create";
    let associate = || hubspot(&sandbox, "POST", path, r#"{"inputs":[]}"#);
    assert_eq!(
        associate().header("x-hubspot-ratelimit-remaining"),
        Some("0")
    );
    assert_eq!(associate().status, 429);
    let list = hubspot(&sandbox, "GET", "/crm/objects/2026-09/contacts", "");
    assert_eq!(list.status, 200);
    assert_eq!(list.header("x-hubspot-ratelimit-remaining"), Some("1"));
}

#[test]
fn an_erased_contact_is_gone_for_good_and_kept_out() {
    const ERASE: &str = "/crm/objects/2026-09/contacts/gdpr-delete";
    let sandbox = Sandbox::start(Config::default());
    let create = |email: &str| {
        let body = batch(&[upsert(email, json!({}))]);
        let answer = hubspot(&sandbox, "POST", UPSERT, &body).json();
        answer["results"][0]["id"].as_str().map(str::to_owned)
    };
    let erase = |body: Value| hubspot(&sandbox, "POST", ERASE, &body.to_string()).status;
    let (ada, bob, eve) = (
        create("ada@example.com").unwrap(),
        create("bob@example.com").unwrap(),
        create("eve@example.com").unwrap(),
    );
    assert_eq!(erase(json!({"objectId": ada})), 204);
    assert_eq!(
        erase(json!({"objectId": "Bob@example.com", "idProperty": "email"})),
        204
    );
    // From the recycle bin as well.
    sandbox
        .delete_record(ObjectType::Contact, eve.parse().unwrap())
        .unwrap();
    assert_eq!(erase(json!({"objectId": eve})), 204);
    assert!(sandbox.archived(ObjectType::Contact).is_empty());
    // Once more, or nobody at all: the same answer.
    assert_eq!(erase(json!({"objectId": ada})), 204);
    assert_eq!(
        erase(json!({"objectId": "new@example.com", "idProperty": "email"})),
        204
    );
    for email in [
        "ada@example.com",
        "bob@example.com",
        "eve@example.com",
        "new@example.com",
    ] {
        assert_eq!(create(email), None, "{email} is kept out");
    }
    assert!(sandbox.records(ObjectType::Contact).is_empty());
    let restored = sandbox.restore_record(ObjectType::Contact, bob.parse().unwrap());
    assert!(restored.is_err());
    let companies = "/crm/objects/2026-09/companies/gdpr-delete";
    let answer = hubspot(
        &sandbox,
        "POST",
        companies,
        &json!({"objectId": "1"}).to_string(),
    );
    assert_eq!(answer.status, 404, "only contacts can be erased");
}
