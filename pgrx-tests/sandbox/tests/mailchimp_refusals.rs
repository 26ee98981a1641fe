//! What Mailchimp refuses, the sandbox refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{mailchimp, send};
use integration_sandbox::{Config, MemberAction, Sandbox, Status};
use serde_json::{Value, json};

const PATH: &str = "/lists/{list}";

fn bulk(sandbox: &Sandbox, members: Value) -> Value {
    let answer = mailchimp(
        sandbox,
        "POST",
        PATH,
        &json!({"members": members, "update_existing": true}).to_string(),
    );
    assert_eq!(answer.status, 200);
    answer.json()
}

fn error_of<'a>(answer: &'a Value, email: &str) -> &'a Value {
    answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|error| error["email_address"] == email)
        .unwrap()
}

#[test]
fn audiences_have_members_of_their_own() {
    let mut config = Config::default();
    config.mailchimp.other_lists = vec!["bbbbbbbbbb".to_owned()];
    let sandbox = Sandbox::start(config);
    bulk(
        &sandbox,
        json!([{"email_address": "ada@example.com", "status": "subscribed"}]),
    );
    let other = |method: &str, below: &str, body: &str| {
        mailchimp(&sandbox, method, &format!("/lists/bbbbbbbbbb{below}"), body)
    };
    assert_eq!(other("GET", "/members/ada@example.com", "").status, 404);
    let body = r#"{"email_address":"ada@example.com","status":"subscribed"}"#;
    assert_eq!(other("POST", "/members", body).status, 200);
    let contacts = [
        sandbox.member("ada@example.com"),
        sandbox.member_of("bbbbbbbbbb", "ada@example.com"),
    ]
    .map(|member| member.unwrap().contact_id);
    assert_ne!(contacts[0], contacts[1]);
    let leaves = MemberAction::Unsubscribe { abuse: false };
    sandbox
        .member_of_does("bbbbbbbbbb", "ada@example.com", leaves)
        .unwrap();
    assert_eq!(
        sandbox.member("ada@example.com").unwrap().status,
        Status::Subscribed
    );
    let told = sandbox.take_webhooks();
    assert!(told.last().unwrap().body.contains("bbbbbbbbbb"));
    let chosen = other("GET", "/members/ada@example.com?fields=status", "").json();
    assert_eq!(chosen, json!({"status": "unsubscribed"}));
    sandbox.delete_audience("bbbbbbbbbb");
    assert_eq!(other("GET", "", "").status, 404);
    assert_eq!(other("POST", "", r#"{"members":[]}"#).status, 404);
}

#[test]
fn items_of_a_bulk_call_fail_one_by_one() {
    let sandbox = Sandbox::start(Config::default());
    bulk(
        &sandbox,
        json!([{"email_address": "left@example.com", "status": "subscribed"}, {"email_address": "gone@example.com", "status": "subscribed"}]),
    );
    sandbox
        .member_does(
            "left@example.com",
            MemberAction::Unsubscribe { abuse: false },
        )
        .unwrap();
    sandbox
        .member_does("gone@example.com", MemberAction::DeletePermanently)
        .unwrap();
    let answer = bulk(
        &sandbox,
        json!([
            {"email_address": "good@example.com", "status_if_new": "subscribed", "merge_fields": {"UNKNOWN": "ignored", "FNAME": "G"}},
            {"email_address": "left@example.com", "status": "subscribed"},
            {"email_address": "gone@example.com", "status": "subscribed"},
            {"email_address": "fake@example.com", "status": "subscribed"},
            {"email_address": "malformed", "status": "subscribed"},
            {"email_address": "null@example.com", "status": "subscribed", "merge_fields": {"FNAME": null}},
            {"email_address": "short@example.com", "status": "subscribed", "merge_fields": {"ADDRESS": {"addr1": "x"}}},
            {"email_address": "twice@example.com", "status": "subscribed"},
            {"email_address": "Twice@example.com", "status": "subscribed"},
        ]),
    );
    assert_eq!(answer["total_created"], 1);
    assert_eq!(answer["error_count"], 8);
    for (email, part) in [
        ("left@example.com", "compliance state"),
        ("gone@example.com", "permanently deleted"),
        ("fake@example.com", "looks fake or invalid"),
        ("malformed", "valid email address"),
    ] {
        assert!(
            error_of(&answer, email)["error"]
                .as_str()
                .unwrap()
                .contains(part),
            "{email}"
        );
    }
    assert_eq!(error_of(&answer, "short@example.com")["field"], "ADDRESS");
    assert!(sandbox.is_forgotten("gone@example.com"));
}

#[test]
fn whole_calls_that_are_wrong() {
    let sandbox = Sandbox::start(Config::default());
    let many: Vec<_> = (0..501).map(|number| json!({"email_address": format!("p{number}@example.com"), "status": "subscribed"})).collect();
    for body in [
        json!({"members": many}).to_string(),
        json!({"members": [{"email_address": "no-status@example.com"}]}).to_string(),
        json!({"members": [{"email_address": "a@example.com", "status": "subscribed", "merge_fields": []}]}).to_string(),
        "{".to_owned(),
    ] {
        assert_eq!(mailchimp(&sandbox, "POST", PATH, &body).status, 400);
    }
    assert_eq!(
        send(&sandbox.mailchimp_url(), "", "GET", "/3.0/ping", "")
            .unwrap()
            .json()["title"],
        "API Key Missing"
    );
    assert_eq!(
        send(&sandbox.mailchimp_url(), "Bearer x", "GET", "/3.0/ping", "")
            .unwrap()
            .json()["title"],
        "API Key Invalid"
    );
    let answer = mailchimp(&sandbox, "GET", "/lists/unknown", "");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json; charset=utf-8")
    );
    assert_eq!(answer.status, 404);
}

#[test]
fn bulk_does_not_bring_people_back_silently() {
    let sandbox = Sandbox::start(Config::default());
    bulk(
        &sandbox,
        json!([{"email_address": "a@example.com", "status": "subscribed"}]),
    );
    sandbox
        .member_does("a@example.com", MemberAction::AdminUnsubscribe)
        .unwrap();
    let answer = bulk(
        &sandbox,
        json!([{"email_address": "a@example.com", "status": "subscribed"}]),
    );
    assert_eq!(
        (
            &answer["error_count"],
            &answer["updated_members"][0]["status"]
        ),
        (&json!(0), &json!("unsubscribed"))
    );
    let hash = sandbox.member("a@example.com").unwrap().id;
    let path = format!("/lists/{{list}}/members/{hash}");
    assert_eq!(
        mailchimp(&sandbox, "PATCH", &path, r#"{"status":"subscribed"}"#).status,
        200
    );
    assert_eq!(
        sandbox.member("a@example.com").unwrap().status,
        Status::Subscribed
    );
}

#[test]
fn archived_members_take_the_status_that_is_sent() {
    let sandbox = Sandbox::start(Config::default());
    bulk(
        &sandbox,
        json!([{"email_address": "a@example.com", "status": "subscribed"}]),
    );
    let path = format!(
        "/lists/{{list}}/members/{}",
        sandbox.member("a@example.com").unwrap().id
    );
    assert_eq!(mailchimp(&sandbox, "DELETE", &path, "").status, 204);
    assert_eq!(mailchimp(&sandbox, "DELETE", &path, "").status, 405);
    let hidden = mailchimp(&sandbox, "GET", "/lists/{list}/members", "").json();
    assert_eq!(hidden["total_items"], 0);
    let shown = mailchimp(&sandbox, "GET", "/lists/{list}/members?status=archived", "").json();
    assert_eq!(shown["total_items"], 1);
    let put = r#"{"email_address":"a@example.com","status":"unsubscribed"}"#;
    assert_eq!(
        mailchimp(&sandbox, "PUT", &path, put).json()["status"],
        "unsubscribed"
    );
}

#[test]
fn credentials_come_as_basic_or_as_bearer() {
    let sandbox = Sandbox::start(Config::default());
    let key = Config::default().mailchimp.api_key;
    let basic = |pair: String| {
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
        format!("Basic {text}")
    };
    for (credential, status) in [
        (format!("Bearer {key}"), 200),
        (format!("bearer {key}"), 200),
        (basic(format!("anybody:{key}")), 200),
        (basic(format!(":{key}")), 200),
        (basic(key.clone()), 401),
        ("Bearer something-else".to_owned(), 401),
        (key, 401),
        (String::new(), 401),
    ] {
        let answer = send(
            &sandbox.mailchimp_url(),
            &credential,
            "GET",
            "/3.0/ping",
            "",
        );
        assert_eq!(answer.unwrap().status, status, "{credential}");
    }
}

#[test]
fn some_addresses_are_refused_for_now() {
    let mut config = Config::default();
    config.mailchimp.busy_words = vec!["busy".to_owned()];
    config.mailchimp.fake_domains = vec!["example.com".to_owned()];
    let sandbox = Sandbox::start(config);
    let answer = bulk(
        &sandbox,
        json!([
            {"email_address": "busy@example.org", "status": "subscribed"},
            {"email_address": "ada@example.com", "status": "subscribed"},
            {"email_address": "ada@example.org", "status": "subscribed"},
        ]),
    );
    assert_eq!(answer["total_created"], 1);
    for (email, text) in [
        (
            "busy@example.org",
            "has signed up to a lot of lists very recently",
        ),
        ("ada@example.com", "looks fake or invalid"),
    ] {
        let error = error_of(&answer, email)["error"].as_str().unwrap();
        assert!(error.contains(text), "{error}");
    }
}
