//! Merge fields of every type: converted, checked, created where they are missing, compared, and
//! brought back into the CRM.

use std::sync::Arc;
use std::time::{Duration, Instant};

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{
        AudienceField, Config, Fault, FaultKind, LoggedRequest, MemberAction, Service, Status,
        When, unlimited,
    },
    sql::{quote_literal, refused_with_hint},
    wait::{later, wait_until},
};
use serde_json::{Value, json};

use crate::hubspot::values::alert;
use crate::jobs::backfill::wait_for;

pub const LIST: &str = "a6b5da1054";
pub const OTHER: &str = "bbbbbbbbbb";

pub fn mapped(crm: &mut Crm, lines: &[(&str, &str)]) {
    for (column, remote) in lines {
        crm.run(&format!(
            "SELECT integration.map_field('crm.people', '{column}', 'mailchimp', '{remote}')"
        ));
    }
}

/// A table of people who go to Mailchimp only; `columns` beside id, email, consent.
pub fn people_with(config: Config, columns: &str) -> Crm {
    people_on(Cluster::shared(), config, columns)
}

pub fn people_on(cluster: Arc<Cluster>, config: Config, columns: &str) -> Crm {
    let mut crm = Crm::untracked(cluster, config);
    crm.run(&format!(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, opt_in boolean{columns});
         SELECT integration.track('crm.people', 'contact', targets => '{{mailchimp}}')"
    ));
    crm
}

fn field(kind: &str, tag: &str) -> AudienceField {
    let mut field = AudienceField::new(tag, kind);
    if kind == "radio" {
        field.choices = ["Gold", "Silver"].map(str::to_owned).to_vec();
    }
    if kind == "phone" {
        field.phone_format = Some("US".to_owned());
    }
    field
}

const COLUMNS: &str =
    ", note text, score numeric, level text, born date, since timestamptz, home jsonb,
                       zip text, tel text, site text, vip boolean";
const LINES: [(&str, &str, &str); 11] = [
    ("note", "NOTE", "text"),
    ("score", "SCORE", "number"),
    ("level", "LEVEL", "radio"),
    ("born", "BORN", "birthday"),
    ("since", "SINCE", "date"),
    ("home", "HOME", "address"),
    ("zip", "ZIP", "zip"),
    ("tel", "TEL", "phone"),
    ("site", "SITE", "url"),
    ("vip", "VIP", "text"),
    ("born", "BORNON", "date"),
];

/// All types, all mapped.
fn all_types() -> Crm {
    let mut crm = people_with(unlimited(), COLUMNS);
    for (column, tag, kind) in LINES {
        crm.remote.define_field(LIST, &field(kind, tag)).unwrap();
        mapped(&mut crm, &[(column, tag)]);
    }
    crm
}

const HOME: &str = r#"{"addr1":"Main St. 1","city":"Boston","state":"MA","zip":"02134"}"#;

fn insert(crm: &mut Crm, id: i32, changes: &[(&str, &str)]) {
    let mut row = vec![
        ("note", "'a note'"),
        ("score", "7.50"),
        ("level", "'gold'"),
        ("born", "'1990-12-10'"),
        ("since", "'2026-01-31 23:30+00'"),
        (
            "home",
            "'{\"addr1\":\"Main St. 1\",\"city\":\"Boston\",\"state\":\"MA\",\"zip\":\"02134\"}'",
        ),
        ("zip", "'02134'"),
        ("tel", "'(617) 555-0199'"),
        ("site", "'https://example.org'"),
        ("vip", "true"),
    ];
    for (name, value) in changes {
        row.retain(|(known, _)| known != name);
        row.push((name, value));
    }
    let (names, values): (Vec<&str>, Vec<&str>) = row.into_iter().unzip();
    crm.run(&format!(
        "INSERT INTO crm.people (id, email, opt_in, {}) VALUES ({id}, 'p{id}@example.org', true, {})",
        names.join(", "),
        values.join(", ")
    ));
}

pub fn letters(crm: &mut Crm) -> Vec<(String, String, String)> {
    let rows = crm
        .client
        .query("SELECT record_key, category, error FROM integration.dlq WHERE target = 'mailchimp' AND resolution IS NULL ORDER BY record_key::int", &[])
        .unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

fn held(crm: &Crm, id: i32, tag: &str) -> Option<Value> {
    let member = crm.remote.member(&format!("p{id}@example.org"))?;
    member.merge_fields.get(tag).cloned()
}

fn compared(crm: &mut Crm, repair: bool) -> Vec<String> {
    let id: i64 = crm.ask(&format!(
        "SELECT integration.reconcile('crm.people', 'mailchimp', {repair})"
    ));
    wait_for(crm, id, "state = 'done'");
    crm.rows("SELECT kind, record_key, remote_field FROM integration.drift ORDER BY 1, 2, 3")
}

#[test]
fn every_type_arrives_and_compares_equal() {
    let mut crm = all_types();
    insert(&mut crm, 1, &[]);
    crm.settle();
    assert_eq!(letters(&mut crm), []);
    let expected = [
        ("NOTE", json!("a note")),
        ("SCORE", json!(7.5)),
        ("LEVEL", json!("Gold")),
        ("BORN", json!("12/10")),
        ("SINCE", json!("2026-01-31")),
        ("HOME", serde_json::from_str(HOME).unwrap()),
        ("ZIP", json!("02134")),
        ("TEL", json!("(617) 555-0199")),
        ("SITE", json!("https://example.org")),
        ("VIP", json!("true")),
        ("BORNON", json!("1990-12-10")),
    ];
    for (tag, value) in expected {
        assert_eq!(held(&crm, 1, tag), Some(value), "{tag}");
    }
    assert_eq!(compared(&mut crm, true), [""; 0]);
    // A save that changes nothing sends nothing.
    let before = crm.remote.writes_to(Service::Mailchimp);
    crm.run("UPDATE crm.people SET score = 7.5, level = 'GOLD', since = '2026-01-31 01:00+00'");
    crm.settle();
    assert_eq!(crm.remote.writes_to(Service::Mailchimp), before);
    // NULL clears every one of them.
    crm.run(
        "UPDATE crm.people SET (note, score, level, born, since, home, zip, tel, site, vip)
         = (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    );
    crm.settle();
    assert_eq!(letters(&mut crm), []);
    let left = crm.remote.member("p1@example.org").unwrap().merge_fields;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(compared(&mut crm, true), [""; 0]);
}

#[test]
fn bad_values_are_explained_and_hold_up_nobody() {
    let mut crm = all_types();
    let long = "repeat('x', 254) || 'é'";
    let bad: [(i32, &str, &str, &str, &[&str]); 10] = [
        (1, "note", long, "too_large", &["NOTE", "256 bytes", "255"]),
        (
            2,
            "level",
            "'bronze'",
            "validation",
            &["LEVEL", "bronze", "Gold, Silver"],
        ),
        (
            3,
            "home",
            "'{\"addr1\":\"x\",\"zip\":\"1\"}'",
            "validation",
            &["HOME", "city, state"],
        ),
        (
            4,
            "zip",
            "'1011 AB'",
            "validation",
            &["ZIP", "1011 AB", "five digits"],
        ),
        (
            5,
            "tel",
            "'+49 30 12345'",
            "validation",
            &["TEL", "valid phone number"],
        ),
        (
            6,
            "site",
            "'example.org'",
            "validation",
            &["SITE", "http://"],
        ),
        (7, "score", "'NaN'", "unmappable", &["SCORE", "number"]),
        (
            8,
            "since",
            "'infinity'",
            "unmappable",
            &["SINCE", "point in time"],
        ),
        (
            9,
            "note",
            "repeat('é', 128)",
            "too_large",
            &["NOTE", "256 bytes"],
        ),
        (
            10,
            "home",
            "'[1]'",
            "validation",
            &["HOME", "addr1, city, state and zip"],
        ),
    ];
    crm.run("BEGIN");
    for (id, column, value, ..) in bad {
        insert(&mut crm, id, &[(column, value)]);
        insert(&mut crm, id + 100, &[]);
    }
    crm.run("COMMIT");
    crm.settle();
    let found = letters(&mut crm);
    assert_eq!(found.len(), bad.len(), "{found:#?}");
    for ((id, _, _, category, words), (key, known, error)) in bad.into_iter().zip(found) {
        assert_eq!((id.to_string(), category), (key, known.as_str()), "{error}");
        for word in words {
            assert!(error.contains(word), "{error} should say {word}");
        }
        let good = format!("p{}@example.org", id + 100);
        assert_eq!(crm.remote.status_of(&good), Some(Status::Subscribed));
        assert_eq!(crm.remote.status_of(&format!("p{id}@example.org")), None);
    }
    // A value of exactly 255 bytes is kept whole.
    crm.run("UPDATE crm.people SET note = repeat('x', 253) || 'é' WHERE id = 1");
    crm.settle();
    let kept = held(&crm, 1, "NOTE").unwrap();
    assert_eq!(kept.as_str().unwrap().len(), 255);
}

#[test]
fn required_field_without_a_value_is_explained_and_people_can_still_leave() {
    let mut crm = people_with(unlimited(), ", level text");
    crm.remote
        .define_field(LIST, &field("text", "LEVEL"))
        .unwrap();
    mapped(&mut crm, &[("level", "LEVEL")]);
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', true, NULL)");
    crm.settle();
    let mut required = field("text", "LEVEL");
    required.required = true;
    crm.remote.define_field(LIST, &required).unwrap();
    crm.run(
        "INSERT INTO crm.people VALUES (2, 'p2@example.org', true, NULL), (3, 'p3@example.org', true, 'x');
         UPDATE crm.people SET opt_in = false WHERE id = 1",
    );
    crm.settle();
    let found = letters(&mut crm);
    let [(key, category, error)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((key.as_str(), category.as_str()), ("2", "validation"));
    for word in ["LEVEL", "required", "map a column"] {
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(
        crm.remote.status_of("p3@example.org"),
        Some(Status::Subscribed)
    );
    assert_eq!(
        crm.remote.status_of("p1@example.org"),
        Some(Status::Unsubscribed)
    );
    crm.run("UPDATE crm.people SET level = 'now' WHERE id = 2");
    crm.settle();
    assert_eq!(letters(&mut crm), []);
    assert_eq!(held(&crm, 2, "LEVEL"), Some(json!("now")));
}

#[test]
fn unknown_tag_is_left_out_with_one_alert_until_it_is_provisioned() {
    let mut config = unlimited();
    config.mailchimp.other_lists = vec![OTHER.to_owned()];
    let mut crm = people_with(
        config,
        ", list text, score int, born date, home jsonb, first_name text",
    );
    mapped(
        &mut crm,
        &[
            ("list", "list_id"),
            ("score", "SCORE"),
            ("born", "BORN"),
            ("home", "HOME"),
            ("first_name", "FNAME"),
        ],
    );
    crm.run(&format!(
        "INSERT INTO crm.people VALUES (1, 'p1@example.org', true, NULL, 7, '1990-12-10', '{HOME}', 'Ada'),
                                       (2, 'p2@example.org', true, '{OTHER}', 8, NULL, NULL, 'Eda')"
    ));
    crm.settle();
    assert_eq!(letters(&mut crm), []);
    assert_eq!(held(&crm, 1, "FNAME"), Some(json!("Ada")));
    let said = alert(&mut crm, "properties").expect("an alert");
    for word in [
        "SCORE",
        "BORN",
        "crm.people",
        LIST,
        OTHER,
        "provision('mailchimp')",
    ] {
        assert!(said.contains(word), "{said} should say {word}");
    }
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.alert WHERE kind = 'properties'"),
        1
    );

    for again in [false, true] {
        let job: i64 = crm.ask("SELECT integration.provision('mailchimp')");
        wait_for(&mut crm, job, "state = 'done'");
        assert_eq!(
            crm.rows(&format!(
                "SELECT done, total, error FROM integration.job WHERE id = {job}"
            )),
            ["8|8|NULL"],
            "again: {again}"
        );
    }
    wait_until("the alert is cleared", SOON, || {
        alert(&mut crm, "properties").is_none().then_some(())
    });
    let posts = crm.remote.requests_to(Service::Mailchimp);
    let created = posts
        .iter()
        .filter(|sent| sent.method == "POST" && sent.path.ends_with("/merge-fields"));
    assert_eq!(created.count(), 6, "three in each audience, once");
    // What was left out is sent with the next change of a record, or by a backfill.
    let job: i64 = crm.ask("SELECT integration.backfill('crm.people', 'mailchimp')");
    wait_for(&mut crm, job, "state = 'done'");
    crm.settle();
    assert_eq!(held(&crm, 1, "SCORE"), Some(json!(7)));
    assert_eq!(held(&crm, 1, "BORN"), Some(json!("1990-12-10")));
    assert_eq!(
        held(&crm, 1, "HOME"),
        Some(serde_json::from_str(HOME).unwrap())
    );
    let there = crm.remote.member_of(OTHER, "p2@example.org").unwrap();
    assert_eq!(there.merge_fields["SCORE"], json!(8));
}

#[test]
fn full_plan_fails_the_job_and_says_what_is_left() {
    let mut config = unlimited();
    // Four are there from the start.
    config.mailchimp.merge_field_limit = 5;
    let mut crm = people_with(config, ", a text, b text, c text");
    mapped(&mut crm, &[("a", "FA"), ("b", "FB"), ("c", "FC")]);
    let job: i64 = crm.ask("SELECT integration.provision()");
    wait_for(&mut crm, job, "state = 'failed'");
    let error: String = crm.ask(&format!(
        "SELECT error FROM integration.job WHERE id = {job}"
    ));
    for word in ["the plan allows 5", "not created: FB, FC", LIST] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn definitions_that_change_meanwhile_are_read_again() {
    let mut crm = people_with(unlimited(), ", level text");
    crm.remote
        .define_field(LIST, &field("radio", "LEVEL"))
        .unwrap();
    mapped(&mut crm, &[("level", "LEVEL")]);
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', true, 'gold')");
    crm.settle();
    // An option that is new, then a field that takes anything, then one of another type.
    let mut more = field("radio", "LEVEL");
    more.choices.push("Platinum".to_owned());
    crm.remote.define_field(LIST, &more).unwrap();
    crm.run("INSERT INTO crm.people VALUES (2, 'p2@example.org', true, 'platinum')");
    crm.settle();
    assert_eq!(held(&crm, 2, "LEVEL"), Some(json!("Platinum")));
    crm.remote
        .define_field(LIST, &field("birthday", "LEVEL"))
        .unwrap();
    crm.run("INSERT INTO crm.people VALUES (3, 'p3@example.org', true, 'Gold'), (4, 'p4@example.org', true, NULL)");
    crm.settle();
    let found = letters(&mut crm);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].2.contains("birthday"), "{found:?}");
    assert_eq!(
        crm.remote.status_of("p4@example.org"),
        Some(Status::Subscribed)
    );
}

#[test]
fn what_people_fill_in_comes_into_the_crm() {
    let mut crm = all_types();
    insert(&mut crm, 1, &[]);
    crm.settle();
    crm.remote.clear_webhooks();
    let fields = [
        ("SCORE", json!(9)),
        ("LEVEL", json!("Silver")),
        ("BORN", json!("02/28")),
        (
            "HOME",
            json!({"addr1": "New St. 2", "addr2": "", "city": "Salem", "state": "MA", "zip": "01970", "country": "US"}),
        ),
        ("VIP", json!("false")),
    ];
    let merge_fields = || {
        fields
            .clone()
            .map(|(tag, value)| (tag.to_owned(), value))
            .into()
    };
    let fired_at = |second: u64| later(second).replace(' ', "+");
    let later = |delivery: String, second: u64| {
        let at = delivery
            .split('&')
            .find(|pair| pair.starts_with("fired_at="))
            .unwrap()
            .to_owned();
        delivery.replace(&at, &format!("fired_at={}", fired_at(second)))
    };
    let import = |crm: &mut Crm, body: &str| {
        crm.run(&format!(
            "SELECT integration.import_mailchimp_webhook({}, '{{}}', 'path-secret')",
            quote_literal(body)
        ));
        crm.settle();
    };
    let profile = MemberAction::Profile {
        merge_fields: merge_fields(),
    };
    crm.remote.member_does("p1@example.org", profile).unwrap();
    let delivery = crm.remote.webhooks_of(Service::Mailchimp).remove(0);
    import(&mut crm, &later(delivery.body, 1));
    let said =
        "SELECT score, level, born, home ->> 'city', home ->> 'country', vip FROM crm.people";
    assert_eq!(
        crm.rows(said),
        ["9|Silver|1990-02-28|Salem|US|f"],
        "{}",
        crm.report()
    );
    // Nothing is sent back.
    assert_eq!(held(&crm, 1, "BORNON"), Some(json!("1990-02-28")));
    // Who signs up says as much, beside their consent.
    crm.run(
        "CREATE INDEX ON crm.people (lower(email));
         INSERT INTO crm.people (id, email) VALUES (2, 'p2@example.org')",
    );
    crm.settle();
    crm.remote.clear_webhooks();
    let merge_fields = [("LEVEL".to_owned(), json!("Gold"))].into();
    crm.remote
        .member_does("p2@example.org", MemberAction::Subscribe { merge_fields })
        .unwrap();
    let delivery = crm.remote.webhooks_of(Service::Mailchimp).remove(0);
    assert!(
        delivery.body.starts_with("type=subscribe"),
        "{}",
        delivery.body
    );
    import(&mut crm, &later(delivery.body, 2));
    assert_eq!(
        crm.rows("SELECT opt_in, level FROM crm.people WHERE id = 2"),
        ["t|Gold"]
    );
}

#[test]
fn differences_are_found_and_put_right_whatever_the_type() {
    let mut crm = all_types();
    insert(&mut crm, 1, &[]);
    crm.settle();
    let merge_fields = [
        ("LEVEL".to_owned(), json!("Silver")),
        ("SCORE".to_owned(), json!(1)),
        // Written otherwise, and still the same.
        ("TEL".to_owned(), json!("617-555-0199")),
    ];
    for (column, tag, _) in LINES {
        crm.run(&format!(
            "SELECT integration.map_field('crm.people', '{column}', 'mailchimp', '{tag}', 'push')"
        ));
    }
    let profile = MemberAction::Profile {
        merge_fields: merge_fields.into(),
    };
    crm.remote.member_does("p1@example.org", profile).unwrap();
    assert_eq!(compared(&mut crm, true), ["field|1|LEVEL", "field|1|SCORE"]);
    crm.settle();
    assert_eq!(held(&crm, 1, "LEVEL"), Some(json!("Gold")));
    assert_eq!(held(&crm, 1, "SCORE"), Some(json!(7.5)));
    assert_eq!(compared(&mut crm, true), [""; 0]);
}

#[test]
fn pseudo_fields_are_checked_when_they_are_mapped() {
    let mut crm = people_with(unlimited(), ", n int, groups text[], perms jsonb");
    mapped(
        &mut crm,
        &[
            ("groups", "interests"),
            ("perms", "marketing_permissions"),
            ("groups", "tags"),
        ],
    );
    for (call, sqlstate) in [
        ("'n', 'mailchimp', 'interests'", "42804"),
        ("'n', 'mailchimp', 'marketing_permissions'", "42804"),
        ("'n', 'mailchimp', 'tags'", "42804"),
        ("'groups', 'mailchimp', 'Interests'", "42602"),
        (
            "'perms', 'mailchimp', 'marketing_permissions', 'pull'",
            "22023",
        ),
    ] {
        let call = format!("SELECT integration.map_field('crm.people', {call})");
        refused_with_hint(&mut crm.client, &call, sqlstate);
    }
    crm.run("SELECT integration.pause('mailchimp', 'to look'); INSERT INTO crm.people VALUES (1, 'p1@example.org', true, 1, '{News}', '[\"Email\"]')");
    let shown: String = crm.ask("SELECT request::text FROM integration.preview('crm.people', '1')");
    assert!(shown.contains("\"tags\": [\"News\"]"), "{shown}");
    assert!(
        shown.contains("interests, marketing_permissions, by what the audience has"),
        "{shown}"
    );
}

#[test]
fn nobody_who_leaves_waits_for_definitions() {
    let mut crm = people_with(unlimited(), ", level text");
    crm.set("request_timeout", "20s");
    crm.run(
        "INSERT INTO crm.people VALUES (1, 'p1@example.org', true), (2, 'p2@example.org', true)",
    );
    crm.settle();
    crm.remote.add_fault(
        Fault::new(FaultKind::Delay { ms: 15_000 }, When::UntilCleared).path("/merge-fields"),
    );
    // A field that is new has to be read first.
    mapped(&mut crm, &[("level", "LEVEL")]);
    wait_until("definitions are asked for", SOON, || {
        let sent = crm.remote.requests_to(Service::Mailchimp);
        let asked = |sent: &LoggedRequest| sent.path.contains("/merge-fields");
        sent.iter().any(asked).then_some(())
    });
    let began = Instant::now();
    crm.run(
        "UPDATE crm.people SET level = 'x' WHERE id = 2;
         UPDATE crm.people SET opt_in = false WHERE id = 1",
    );
    wait_until("they are off the list", SOON, || {
        let status = crm.remote.status_of("p1@example.org");
        (status == Some(Status::Unsubscribed)).then_some(())
    });
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(!crm.queue_is_empty(), "the other change does wait");
}
