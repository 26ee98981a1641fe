//! The control endpoints, as shell scripts use them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::send;
use integration_sandbox::{Config, Sandbox};
use serde_json::{Value, json};

fn control(sandbox: &Sandbox, method: &str, path: &str, body: Value) -> Value {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = send(
        &sandbox.hubspot_url(),
        "",
        method,
        &format!("/_sandbox/{path}"),
        &body,
    )
    .unwrap();
    assert_eq!(
        answer.status,
        200,
        "{path}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    answer.json()
}

#[test]
fn everything_is_within_reach() {
    let sandbox = Sandbox::start(Config::default());
    let of = |method: &str, path: &str, body: Value| control(&sandbox, method, path, body);
    let one = of(
        "POST",
        "hubspot/contacts",
        json!({"email": "one@example.com"}),
    )["id"]
        .clone();
    let two = of(
        "POST",
        "hubspot/contacts",
        json!({"email": "two@example.com"}),
    )["id"]
        .clone();
    of(
        "PATCH",
        &format!("hubspot/contacts/{one}"),
        json!({"phone": 1}),
    );
    assert_eq!(
        of("GET", &format!("hubspot/contacts/{one}"), Value::Null)["properties"]["phone"],
        "1"
    );
    assert_eq!(
        of(
            "GET",
            "hubspot/contacts?property=email&value=two@example.com",
            Value::Null
        )["id"],
        two
    );
    of("DELETE", &format!("hubspot/contacts/{two}"), Value::Null);
    assert_eq!(
        of("GET", "hubspot/contacts?archived=true", Value::Null)[0]["id"],
        two
    );
    of(
        "POST",
        &format!("hubspot/contacts/{two}/restore"),
        Value::Null,
    );
    let merged = of(
        "POST",
        "hubspot/contacts/merge",
        json!({"primary": one, "other": two}),
    )["id"]
        .clone();
    let company = of("POST", "hubspot/companies", json!({"name": "Acme"}))["id"].clone();
    of(
        "POST",
        "hubspot/associate",
        json!({"from": "contacts", "from_id": merged, "to": "companies", "to_id": company}),
    );
    assert_eq!(
        of("GET", "hubspot/associations", Value::Null)
            .as_array()
            .unwrap()
            .len(),
        2
    );

    of(
        "POST",
        "mailchimp/members",
        json!({"email": "a@example.com", "action": "subscribe"}),
    );
    of(
        "POST",
        "mailchimp/members",
        json!({"email": "a@example.com", "action": "clean"}),
    );
    assert_eq!(
        of("GET", "mailchimp/members?email=a@example.com", Value::Null)["member"]["status"],
        "cleaned"
    );
    assert!(
        !of("POST", "webhooks/take", Value::Null)
            .as_array()
            .unwrap()
            .is_empty()
    );

    let fault = of(
        "POST",
        "faults",
        json!({"kind": {"delay": {"ms": 1}}, "when": {"next_n": 1}}),
    )["id"]
        .clone();
    assert_eq!(of("GET", "faults", Value::Null)[0]["id"], fault);
    of("DELETE", &format!("faults/{fault}"), Value::Null);
    assert_eq!(
        of(
            "POST",
            "config",
            json!({"delay_ms": 5, "hubspot": {"rate": null}})
        )["hubspot"]["rate"],
        Value::Null
    );
    assert_eq!(of("GET", "stats", Value::Null)["contacts"], 1);
    assert_eq!(of("GET", "requests?last=5", Value::Null), json!([]));
    of("POST", "down/mailchimp", Value::Null);
    of("POST", "up/mailchimp", Value::Null);
    of("POST", "reset", Value::Null);
    assert_eq!(of("GET", "hubspot/contacts", Value::Null), json!([]));
    let unknown = send(&sandbox.hubspot_url(), "", "GET", "/_sandbox/nothing", "").unwrap();
    assert_eq!(unknown.status, 400);
}
