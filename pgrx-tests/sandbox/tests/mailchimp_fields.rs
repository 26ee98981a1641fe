//! Merge fields, tags, interest groups and marketing permissions as Mailchimp documents them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::mailchimp;
use integration_sandbox::{AudienceField, Config, MemberAction, Sandbox};
use serde_json::{Value, json};

const LIST: &str = "a6b5da1054";

fn one(sandbox: &Sandbox, more: Value) -> Value {
    let mut member = json!({"email_address": "a@example.com", "status": "subscribed"});
    for (name, value) in more.as_object().unwrap() {
        member[name] = value.clone();
    }
    let body = json!({"members": [member], "update_existing": true}).to_string();
    let answer = mailchimp(sandbox, "POST", "/lists/{list}", &body);
    assert_eq!(answer.status, 200);
    answer.json()
}

fn value_of(sandbox: &Sandbox, tag: &str, value: Value) -> Result<Value, String> {
    let answer = one(sandbox, json!({"merge_fields": {tag: value}}));
    match answer["errors"].as_array().unwrap().first() {
        Some(error) => {
            assert_eq!(
                error["field"].as_str().unwrap().rsplit('.').next(),
                Some(tag)
            );
            Err(error["field_message"].as_str().unwrap().to_owned())
        }
        None => Ok(sandbox
            .member("a@example.com")
            .unwrap()
            .merge_fields
            .get(tag)
            .cloned()
            .unwrap_or_default()),
    }
}

#[test]
fn merge_fields_are_checked_by_type() {
    let sandbox = Sandbox::start(Config::default());
    for (tag, kind) in [
        ("T", "text"),
        ("N", "number"),
        ("D", "date"),
        ("B", "birthday"),
        ("A", "address"),
        ("Z", "zip"),
        ("P", "phone"),
        ("U", "url"),
        ("R", "radio"),
    ] {
        let mut field = AudienceField::new(tag, kind);
        field.choices = vec!["Gold".to_owned()];
        field.phone_format = Some("US".to_owned());
        sandbox.define_field(LIST, &field).unwrap();
    }
    let long = "x".repeat(254) + "é";
    let taken = [
        ("T", json!(long), json!("x".repeat(254))),
        ("N", json!(7.5), json!(7.5)),
        ("D", json!("01/31/2026"), json!("2026-01-31")),
        ("B", json!("12/10"), json!("12/10")),
        ("Z", json!("02134"), json!("02134")),
        ("P", json!("(617) 555-0199"), json!("(617) 555-0199")),
        (
            "U",
            json!("https://example.org"),
            json!("https://example.org"),
        ),
        ("R", json!("Gold"), json!("Gold")),
    ];
    for (tag, sent, kept) in taken {
        assert_eq!(value_of(&sandbox, tag, sent), Ok(kept), "{tag}");
        assert_eq!(
            value_of(&sandbox, tag, json!("")),
            Ok(Value::Null),
            "{tag} is cleared"
        );
    }
    let refused = [
        ("T", json!(null)),
        ("T", json!([])),
        ("T", json!(true)),
        ("N", json!("seven")),
        ("D", json!("2026-13-01")),
        ("B", json!("13/01")),
        ("A", json!({"addr1": "x"})),
        ("Z", json!("1234")),
        ("P", json!("+49 30 123")),
        ("U", json!("example.org")),
        ("R", json!("gold")),
    ];
    for (tag, sent) in refused {
        assert!(
            value_of(&sandbox, tag, sent.clone()).is_err(),
            "{tag} {sent}"
        );
    }
}

#[test]
fn required_fields_are_asked_for_unless_that_is_skipped() {
    let sandbox = Sandbox::start(Config::default());
    let mut field = AudienceField::new("R", "text");
    field.required = true;
    sandbox.define_field(LIST, &field).unwrap();
    let answer = one(&sandbox, json!({}));
    let error = &answer["errors"][0];
    assert_eq!(
        (&error["field"], &error["field_message"]),
        (&json!("R"), &json!("Please enter a value"))
    );
    assert_eq!(error["error"], "Your merge fields were invalid.");
    let body = r#"{"members":[{"email_address":"a@example.com","status":"subscribed"}]}"#;
    let skipped = mailchimp(
        &sandbox,
        "POST",
        "/lists/{list}?skip_merge_validation=true",
        body,
    );
    assert_eq!(skipped.json()["total_created"], 1);
}

#[test]
fn plans_limit_merge_fields() {
    let mut config = Config::default();
    config.mailchimp.merge_field_limit = 5;
    let sandbox = Sandbox::start(config);
    let create = |tag: &str| {
        let body = json!({"tag": tag, "name": tag, "type": "text"}).to_string();
        mailchimp(&sandbox, "POST", "/lists/{list}/merge-fields", &body)
    };
    let answer = create("ONE").json();
    assert_eq!(
        (&answer["merge_field_limit"], &answer["total_items"]),
        (&json!(5), &json!(5))
    );
    let again = create("ONE").json();
    assert!(again["detail"].as_str().unwrap().contains("already exists"));
    assert_eq!(create("TWO").status, 400);
    assert_eq!(create("ELEVENCHARS").status, 400);
    let page = mailchimp(
        &sandbox,
        "GET",
        "/lists/{list}/merge-fields?count=2&offset=4&fields=merge_fields.tag,total_items",
        "",
    );
    assert_eq!(
        page.json(),
        json!({"merge_fields": [{"tag": "ONE"}], "total_items": 5})
    );
}

#[test]
fn groups_and_permissions_have_ids_of_their_audience() {
    let mut config = Config::default();
    config.mailchimp.other_lists = vec!["bbbbbbbbbb".to_owned()];
    let sandbox = Sandbox::start(config);
    for list in [LIST, "bbbbbbbbbb"] {
        sandbox
            .define_groups(list, "Topics", &["News", "Art, old"])
            .unwrap();
        sandbox.define_permissions(list, &["Email"]).unwrap();
    }
    let ids = |list: &str| {
        let get =
            |path: &str| mailchimp(&sandbox, "GET", &format!("/lists/{list}{path}"), "").json();
        let category = get("/interest-categories")["categories"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let interests = get(&format!("/interest-categories/{category}/interests"));
        interests["interests"][0]["id"].as_str().unwrap().to_owned()
    };
    let (news, other) = (ids(LIST), ids("bbbbbbbbbb"));
    assert_ne!(news, other);
    let answer = one(&sandbox, json!({"interests": {(&news): true}}));
    let member = &answer["new_members"][0];
    assert_eq!(member["interests"][&news], true);
    assert_eq!(
        member["interests"].as_object().unwrap().len(),
        2,
        "all are shown"
    );
    assert_eq!(
        one(&sandbox, json!({"interests": {(&other): true}}))["error_count"],
        1
    );
    assert_eq!(
        one(&sandbox, json!({"interests": {(&news): "yes"}}))["error_count"],
        1
    );

    let permission = member["marketing_permissions"][0]["marketing_permission_id"].clone();
    let granted = json!({"marketing_permissions": [{"marketing_permission_id": permission, "enabled": true}]});
    one(&sandbox, granted.clone());
    assert_eq!(
        sandbox.member("a@example.com").unwrap().permissions,
        [""; 0],
        "no field of bulk items"
    );
    let path = format!(
        "/lists/{{list}}/members/{}",
        sandbox.member("a@example.com").unwrap().id
    );
    assert_eq!(
        mailchimp(&sandbox, "PATCH", &path, &granted.to_string()).status,
        200
    );
    assert_eq!(
        sandbox.member("a@example.com").unwrap().permissions,
        ["Email"]
    );
    let wrong = granted
        .to_string()
        .replace(permission.as_str().unwrap(), "0");
    assert_eq!(mailchimp(&sandbox, "PATCH", &path, &wrong).status, 400);

    sandbox.clear_webhooks();
    let groups = [("Art, old".to_owned(), true)].into();
    sandbox
        .member_does("a@example.com", MemberAction::Groups { groups })
        .unwrap();
    let told = sandbox.take_webhooks().remove(0).body;
    assert!(
        told.contains("data%5Bmerges%5D%5BINTERESTS%5D=News%2C+Art%5C%2C+old"),
        "{told}"
    );
}

#[test]
fn tags_go_and_come_whatever_their_case() {
    let sandbox = Sandbox::start(Config::default());
    one(&sandbox, json!({"tags": ["VIP", "old"]}));
    let member = sandbox.member("a@example.com").unwrap();
    let path = format!("/lists/{{list}}/members/{}/tags", member.id);
    let body = r#"{"tags":[{"name":"vip","status":"inactive"},{"name":"new","status":"active"}],"is_syncing":true}"#;
    let answer = mailchimp(&sandbox, "POST", &path, body);
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(
        sandbox.member("a@example.com").unwrap().tags,
        ["old", "new"]
    );
    let wrong = r#"{"tags":[{"name":"vip","status":"gone"}]}"#;
    assert_eq!(mailchimp(&sandbox, "POST", &path, wrong).status, 400);
}
