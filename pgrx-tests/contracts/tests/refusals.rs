//! The checks themselves: what the services do not document is found, and said.

use integration_contracts::{Request, Verdict};

fn hubspot(method: &str, path: &str, body: &str) -> Option<Verdict> {
    let body = body.as_bytes();
    integration_contracts::hubspot().map(|known| known.check(Request { method, path, body }))
}

fn mailchimp(method: &str, path: &str, body: &str) -> Option<Verdict> {
    let body = body.as_bytes();
    integration_contracts::mailchimp().map(|known| known.check(Request { method, path, body }))
}

/// Says where it is, and holds this.
#[track_caller]
fn refused(verdict: Option<Verdict>, place: &str, why: &str) {
    let Some(verdict) = verdict else { return };
    let Err(said) = verdict else {
        panic!("{place} should be refused");
    };
    assert!(said.contains(place) && said.contains(why), "{said}");
}

const UPSERT: &str = "/crm/objects/2026-09/contacts/batch/upsert";

fn upsert(inputs: usize) -> String {
    let input =
        r#"{"id":"a@example.org","idProperty":"email","properties":{"email":"a@example.org"}}"#;
    format!(r#"{{"inputs":[{}]}}"#, vec![input; inputs].join(","))
}

fn subscribe(members: usize) -> String {
    let member = r#"{"email_address":"a@example.org","status":"subscribed"}"#;
    format!(r#"{{"members":[{}]}}"#, vec![member; members].join(","))
}

#[test]
fn documented_requests_pass() {
    for verdict in [
        hubspot("POST", UPSERT, &upsert(100)),
        hubspot("POST", &UPSERT.replace("2026-09", "2026-03"), &upsert(1)),
        hubspot("POST", "/crm/v3/objects/contacts/batch/upsert", &upsert(1)),
        hubspot(
            "GET",
            "/crm/objects/2026-09/contacts?limit=100&archived=true",
            "",
        ),
        mailchimp(
            "POST",
            "/lists/a1?skip_merge_validation=true",
            &subscribe(500),
        ),
        mailchimp(
            "GET",
            "/lists/a1/members?fields=members.id,total_items&count=1000",
            "",
        ),
        mailchimp(
            "GET",
            "/lists/a1/members?exclude_fields=members.id,total_items",
            "",
        ),
    ] {
        assert!(verdict.as_ref().is_none_or(Result::is_ok), "{verdict:?}");
    }
}

#[test]
fn strange_requests_to_hubspot_are_refused() {
    let read = UPSERT.replace("upsert", "read");
    let search = UPSERT.replace("batch/upsert", "search");
    let long = format!(r#"{{"query":"{}"}}"#, "x".repeat(3_000));
    for (method, path, body, why) in [
        ("GET", "/crm/people/2026-09", "", "no such call"),
        ("PUT", "/crm/objects/2026-09/contacts/7", "", "no such call"),
        ("GET", "/crm/objects/2026-09/contacts/", "", "no such call"),
        (
            "GET",
            "/crm/objects/2026-09/contacts?colour=red",
            "",
            "colour",
        ),
        (
            "GET",
            "/crm/objects/2026-09/contacts?limit=101",
            "",
            "at most 100",
        ),
        (
            "GET",
            "/crm/objects/2026-09/contacts?archived=maybe",
            "",
            "boolean",
        ),
        (
            "GET",
            "/crm/objects/2026-09/contacts",
            "{}",
            "none is known",
        ),
        ("POST", UPSERT, "", "no body"),
        ("POST", UPSERT, "inputs", "not JSON"),
        ("POST", UPSERT, "{}", "requires inputs"),
        ("POST", UPSERT, r#"{"inputs":{}}"#, "no list"),
        (
            "POST",
            UPSERT,
            r#"{"inputs":[{"id":"7"}]}"#,
            "requires properties",
        ),
        (
            "POST",
            UPSERT,
            r#"{"inputs":[{"id":7,"properties":{}}]}"#,
            "7 is no string",
        ),
        (
            "POST",
            UPSERT,
            r#"{"inputs":[{"id":"7","properties":{"age":7}}]}"#,
            "is no {",
        ),
        (
            "POST",
            UPSERT,
            r#"{"inputs":[],"colour":"red"}"#,
            "has no colour",
        ),
        ("POST", UPSERT, &upsert(101), "at most 100"),
        (
            "POST",
            &read,
            r#"{"inputs":[{"id":"7"}],"properties":[]}"#,
            "propertiesWithHistory",
        ),
        ("POST", &search, r#"{"limit":201}"#, "at most 200"),
        ("POST", &search, &long, "at most 3000"),
        (
            "POST",
            &search,
            r#"{"filterGroups":[{"filters":[{"propertyName":"a","operator":"LIKE"}]}]}"#,
            "none of",
        ),
        (
            "POST",
            "/oauth/2026-09/token",
            "password=p",
            "no field password",
        ),
    ] {
        refused(hubspot(method, path, body), path, why);
    }
}

#[test]
fn strange_requests_to_mailchimp_are_refused() {
    for (method, path, body, why) in [
        ("GET", "/lists/a1/people", "", "no such call"),
        ("GET", "/lists/a1?colour=red", "", "colour"),
        ("GET", "/lists?fields=lists.colour", "", "colour"),
        ("GET", "/lists/a1/members?status=gone", "", "none of"),
        ("GET", "/lists/a1/members?count=many", "", "at most 1000"),
        ("GET", "/lists/a1/members?count=1001", "", "at most 1000"),
        ("POST", "/lists/a1", "", "no body"),
        ("POST", "/lists/a1", "{}", "requires"),
        (
            "POST",
            "/lists/a1",
            r#"{"members":[{"email_address":"a"}]}"#,
            "status_if_new",
        ),
        (
            "POST",
            "/lists/a1",
            r#"{"members":[{"status":"archived"}]}"#,
            "none of",
        ),
        ("POST", "/lists/a1", &subscribe(501), "at most 500"),
        ("PATCH", "/lists/a1/members/h", r#"{"tags":["a"]}"#, "tags"),
        (
            "PATCH",
            "/lists/a1/members/h",
            r#"{"merge_fields":{}}"#,
            "empty",
        ),
        (
            "PUT",
            "/lists/a1/members/h",
            r#"{"status":"subscribed"}"#,
            "requires",
        ),
        (
            "PUT",
            "/lists/a1/members/h",
            r#"{"email_address":7}"#,
            "is no",
        ),
    ] {
        refused(mailchimp(method, path, body), path, why);
    }
}
