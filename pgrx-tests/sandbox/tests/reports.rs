//! Campaigns and what their reports say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::mailchimp;
use integration_sandbox::{Config, Engagement, MemberAction, Sandbox, Status};
use serde_json::{Value, json};

const NOON: i64 = 1_795_521_600_000;

fn sandbox(config: Config) -> Sandbox {
    let sandbox = Sandbox::start(config);
    for name in ["a", "b", "c"] {
        let email = format!("{name}@example.org");
        let action = MemberAction::Subscribe {
            merge_fields: Default::default(),
        };
        sandbox.member_does(&email, action).unwrap();
    }
    sandbox.send_campaign("c1", Some(NOON - 1_000)).unwrap();
    sandbox
}

fn does(sandbox: &Sandbox, name: &str, engagement: Engagement) {
    let action = MemberAction::Engage {
        campaign: "c1".to_owned(),
        engagement,
    };
    let email = format!("{name}@example.org");
    sandbox.member_does(&email, action).unwrap();
}

fn at(kind: &str, at: i64) -> Engagement {
    Engagement {
        kind: kind.to_owned(),
        at: Some(at),
        ..Engagement::default()
    }
}

fn get(sandbox: &Sandbox, path: &str) -> Value {
    let answer = mailchimp(sandbox, "GET", path, "");
    assert_eq!(answer.status, 200, "{path}");
    answer.json()
}

#[test]
fn reports_say_what_people_did() {
    let sandbox = sandbox(Config::default());
    let bounce = |kind: &str| Engagement {
        bounce: Some(kind.to_owned()),
        ..at("bounce", NOON)
    };
    does(&sandbox, "a", at("open", NOON));
    does(&sandbox, "a", at("open", NOON));
    does(
        &sandbox,
        "a",
        Engagement {
            proxy: true,
            ..at("open", NOON + 1_000)
        },
    );
    does(&sandbox, "b", bounce("soft"));
    does(&sandbox, "b", bounce("hard"));
    does(&sandbox, "c", at("unsubscribe", NOON));
    does(&sandbox, "a", at("complaint", NOON));
    let report = get(&sandbox, "/reports/c1/email-activity?count=1000");
    let said = |email: &str| {
        let rows = report["emails"].as_array().unwrap();
        let row = rows.iter().find(|row| row["email_address"] == email);
        row.unwrap()["activity"].as_array().unwrap().len()
    };
    assert_eq!(report["total_items"], 3);
    let counts = ["a@example.org", "b@example.org", "c@example.org"].map(said);
    assert_eq!(counts, [3, 1, 0], "of bounces the first one");
    let opens = get(&sandbox, "/reports/c1/open-details");
    assert_eq!(opens["total_items"], 1);
    assert_eq!(opens["members"][0]["opens"][2]["is_proxy_open"], true);
    let left = get(&sandbox, "/reports/c1/unsubscribed");
    assert_eq!(left["unsubscribes"][0]["email_address"], "c@example.org");
    let complaints = get(&sandbox, "/reports/c1/abuse-reports");
    assert_eq!(
        complaints["abuse_reports"][0]["email_address"],
        "a@example.org"
    );
    let status = |name: &str| {
        sandbox
            .member(&format!("{name}@example.org"))
            .unwrap()
            .status
    };
    assert_eq!(
        ["a", "b", "c"].map(status),
        [Status::Unsubscribed, Status::Cleaned, Status::Unsubscribed]
    );
}

#[test]
fn reports_are_paged_and_begin_where_asked() {
    for (exclusive, expected) in [(false, 2), (true, 1)] {
        let mut config = Config::default();
        config.mailchimp.reports_since_exclusive = exclusive;
        let sandbox = sandbox(config);
        for second in 0..3 {
            does(&sandbox, "a", at("open", NOON + second * 1_000 + 7));
        }
        let opens = get(
            &sandbox,
            "/reports/c1/open-details?since=2026-11-24T12:00:01Z&fields=members.opens",
        );
        let left = opens["members"][0]["opens"].as_array().unwrap().len();
        assert_eq!(left, expected);
        assert_eq!(opens.as_object().unwrap().len(), 1);
        let page = get(&sandbox, "/reports/c1/email-activity?count=2&offset=2");
        assert_eq!(page["emails"].as_array().unwrap().len(), 1);
        assert_eq!(page["total_items"], 3);
    }
}

#[test]
fn campaigns_are_listed_and_unknown_ones_are_not_there() {
    let sandbox = sandbox(Config::default());
    sandbox.send_campaign("c0", Some(NOON - 9_000)).unwrap();
    assert!(sandbox.send_campaign("c0", None).is_err());
    let listed = |query: &str| {
        let answer = get(&sandbox, &format!("/campaigns?{query}"));
        let ids = answer["campaigns"].as_array().unwrap().iter();
        ids.map(|each| each["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed("sort_field=send_time"), [json!("c0"), json!("c1")]);
    assert_eq!(listed("sort_field=send_time&offset=1"), [json!("c1")]);
    assert_eq!(
        listed("since_send_time=2026-11-24T11:59:55Z"),
        [json!("c1")]
    );
    assert_eq!(listed("status=save"), [Value::Null; 0]);
    assert_eq!(listed("list_id=other"), [Value::Null; 0]);
    for (path, status) in [
        ("/reports/none/email-activity", 404),
        ("/reports/c1/nothing", 404),
        ("/reports/c1/email-activity?since=yesterday", 400),
    ] {
        assert_eq!(
            mailchimp(&sandbox, "GET", path, "").status,
            status,
            "{path}"
        );
    }
    let unknown = MemberAction::Engage {
        campaign: "c1".to_owned(),
        engagement: at("dance", NOON),
    };
    assert!(sandbox.member_does("a@example.org", unknown).is_err());
}
