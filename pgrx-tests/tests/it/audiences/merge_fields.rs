//! Merge fields of every type: converted, checked, compared, and brought back into the CRM.

use crate::jobs::backfill::wait_for;
use integration_tests::people::{LIST, letters, mapped, people_with};
use integration_tests::{
    crm::Crm,
    remote::{AudienceField, MemberAction, Service, Status, unlimited},
    sql::{quote_literal, refused_with_hint},
    wait::later,
};
use serde_json::{Value, json};

pub fn field(kind: &str, tag: &str) -> AudienceField {
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

pub const HOME: &str = r#"{"addr1":"Main St. 1","city":"Boston","state":"MA","zip":"02134"}"#;

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

pub fn held(crm: &Crm, id: i32, tag: &str) -> Option<Value> {
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
