//! HubSpot's objects and the values of their properties: converted by the properties' definitions,
//! and what cannot be sent is explained without holding up the rest.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Fault, FaultBody, FaultKind, Fields, ObjectType, Service, When, unlimited},
    sql::quote_literal,
    wait::wait_until,
};
use serde_json::json;

/// A CRM with this one table tracked, and the property for the key in place.
fn with(sql: &str) -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(sql);
    provision(&mut crm);
    crm
}

fn provision(crm: &mut Crm) {
    let job: i64 = crm.ask("SELECT integration.provision('hubspot')");
    let done = format!("SELECT state FROM integration.job WHERE id = {job}");
    wait_until("the property for the key is there", SOON, || {
        (crm.ask::<String>(&done) == "done").then_some(())
    });
}

fn deals() -> Crm {
    with(
        "CREATE TABLE crm.deals (id int PRIMARY KEY, name text, amount numeric, stage text, pipeline text, close_date date, owner_email text);
         SELECT integration.track('crm.deals', 'deal')",
    )
}

/// Contacts with a column for a property of this definition.
fn contacts_with(column_type: &str, property: serde_json::Value) -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    define(&crm, property);
    crm.run(&format!(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, first_name text, extra {column_type});
         SELECT integration.track('crm.people', 'contact', targets => '{{hubspot}}');
         SELECT integration.map_field('crm.people', 'extra', 'hubspot', 'extra')"
    ));
    provision(&mut crm);
    crm
}

fn define(crm: &Crm, property: serde_json::Value) {
    let mut whole = json!({"name": "extra", "label": "Extra", "groupName": "contactinformation"});
    for (name, value) in property.as_object().unwrap() {
        whole[name] = value.clone();
    }
    crm.remote
        .define_property(ObjectType::Contact, whole)
        .unwrap();
}

fn people(crm: &mut Crm, extras: &[&str]) {
    for (id, extra) in (1..).zip(extras) {
        crm.run(&format!(
            "INSERT INTO crm.people VALUES ({id}, 'p{id}@example.org', 'P', {extra})"
        ));
    }
    crm.settle();
}

fn extra(crm: &Crm, id: u32) -> Option<String> {
    let (_, fields) = crm.remote.contact(&format!("p{id}@example.org"))?;
    Some(fields.get("extra").cloned().unwrap_or_default())
}

fn fields(crm: &Crm, object: ObjectType, key: &str) -> Fields {
    let found = crm.remote.find(object, "crm_id", key);
    found
        .unwrap_or_else(|| panic!("no {object:?} {key}"))
        .properties
}

/// Category and words of the open dead letters, by key.
fn dead(crm: &mut Crm) -> Vec<(String, String, String)> {
    crm.client
        .query("SELECT record_key, category, error FROM integration.dlq WHERE target = 'hubspot' AND resolution IS NULL ORDER BY id", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[track_caller]
fn one_is_dead(crm: &mut Crm, key: &str, category: &str, words: &[&str]) {
    let dead = dead(crm);
    let [(dead_key, dead_category, error)] = dead.as_slice() else {
        panic!("{dead:?}\n{}", crm.report());
    };
    assert_eq!(
        (dead_key.as_str(), dead_category.as_str()),
        (key, category),
        "{error}"
    );
    for word in words {
        assert!(error.contains(word), "{error} should say {word}");
    }
}

fn alert(crm: &mut Crm, kind: &str) -> Option<String> {
    let open = format!(
        "SELECT message FROM integration.alert WHERE kind = '{kind}' AND cleared_at IS NULL"
    );
    crm.rows(&open).pop()
}

#[test]
fn every_kind_of_object_is_created_changed_archived_and_created_again() {
    let tables = [
        (
            "company",
            ObjectType::Company,
            "name text, domain text",
            "'Acme', 'acme.example'",
            "name",
            "Acme",
        ),
        (
            "deal",
            ObjectType::Deal,
            "title text, stage text",
            "'Big', 'qualifiedtobuy'",
            "dealname",
            "Big",
        ),
        (
            "note",
            ObjectType::Note,
            "body text, created_at timestamptz",
            "'Hello', '2026-01-02 03:04:05+00'",
            "hs_note_body",
            "Hello",
        ),
        (
            "call",
            ObjectType::Call,
            "title text, occurred_at timestamptz",
            "'Ring', '2026-01-02 03:04:05+00'",
            "hs_call_title",
            "Ring",
        ),
        (
            "email",
            ObjectType::Email,
            "subject text, direction text, sent_at timestamptz",
            "'Hi', 'EMAIL', '2026-01-02 03:04:05+00'",
            "hs_email_subject",
            "Hi",
        ),
        (
            "meeting",
            ObjectType::Meeting,
            "title text, starts_at timestamptz",
            "'Meet', '2026-01-02 03:04:05+00'",
            "hs_meeting_title",
            "Meet",
        ),
        (
            "task",
            ObjectType::Task,
            "subject text, due_at timestamptz, status text",
            "'Do', '2026-01-02 03:04:05+00', 'NOT_STARTED'",
            "hs_task_subject",
            "Do",
        ),
    ];
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    for (entity, _, columns, ..) in &tables {
        crm.run(&format!(
            "CREATE TABLE crm.t_{entity} (id int PRIMARY KEY, {columns}); SELECT integration.track('crm.t_{entity}', '{entity}')"
        ));
    }
    provision(&mut crm);
    let insert = |crm: &mut Crm| {
        for (entity, _, _, values, ..) in &tables {
            crm.run(&format!("INSERT INTO crm.t_{entity} VALUES (1, {values})"));
        }
        crm.settle();
    };
    insert(&mut crm);
    for (entity, object, columns, _, property, value) in &tables {
        assert_eq!(fields(&crm, *object, "1")[*property], *value, "{entity}");
        let column = columns.split(' ').next().unwrap();
        crm.run(&format!("UPDATE crm.t_{entity} SET {column} = 'Changed'"));
    }
    crm.settle();
    for (entity, object, _, _, property, _) in &tables {
        assert_eq!(fields(&crm, *object, "1")[*property], "Changed", "{entity}");
        crm.run(&format!("DELETE FROM crm.t_{entity}"));
    }
    crm.settle();
    for (entity, object, ..) in &tables {
        assert_eq!(crm.remote.records(*object).len(), 0, "{entity}");
        assert_eq!(crm.remote.archived(*object).len(), 1, "{entity}");
    }
    insert(&mut crm);
    for (entity, object, _, _, property, value) in &tables {
        assert_eq!(fields(&crm, *object, "1")[*property], *value, "{entity}");
        assert_eq!(crm.remote.records(*object).len(), 1, "{entity}");
    }
    assert_eq!(dead(&mut crm), []);
}

#[test]
fn required_properties_that_are_not_mapped_are_said_by_notice() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run("CREATE TABLE crm.mails (id int PRIMARY KEY, subject text); CREATE TABLE crm.sales (id int PRIMARY KEY, title text)");
    let (sender, notices) = std::sync::mpsc::channel();
    let mut client = crm
        .cluster
        .connect_with_notices(&crm.database, move |notice| {
            // Nobody listens any more once the test is over.
            let _ = sender.send(notice.message().to_owned());
        });
    client
        .batch_execute("SELECT integration.track('crm.mails', 'email'); SELECT integration.track('crm.sales', 'deal')")
        .unwrap();
    drop(client);
    let said: Vec<String> = notices
        .into_iter()
        .filter(|said| said.contains("creates no"))
        .collect();
    assert_eq!(
        said,
        [
            "HubSpot creates no email without hs_timestamp, hs_email_direction, and no column is mapped to it",
            "HubSpot creates no deal without dealstage, and no column is mapped to it",
        ]
    );
}

#[test]
fn deals_find_their_stage_pipeline_and_owner_by_name() {
    let mut crm = deals();
    let (pipeline, stages) = crm.remote.add_pipeline("Renewals", &["Open", "Won"]);
    let owner = crm.remote.add_owner("grace@example.com").to_string();
    crm.run(
        "INSERT INTO crm.deals VALUES (1, 'One', 10.50, 'open', 'renewals', '2026-03-04', 'Grace@Example.com'),
                                      (2, 'Two', NULL, 'qualifiedtobuy', NULL, NULL, NULL)",
    );
    crm.settle();
    let one = fields(&crm, ObjectType::Deal, "1");
    let expected = [
        ("dealstage", stages[0].as_str()),
        ("pipeline", &pipeline),
        ("amount", "10.5"),
        ("closedate", "2026-03-04T00:00:00.000Z"),
        ("hubspot_owner_id", &owner),
    ];
    for (property, value) in expected {
        assert_eq!(one[property], value, "{property}");
    }
    // The stage keeps its label, and has to travel with the pipeline all the same.
    let (other, other_stages) = crm.remote.add_pipeline("Upsells", &["Open", "Lost"]);
    crm.run("UPDATE crm.deals SET pipeline = 'Upsells' WHERE id = 1");
    crm.settle();
    let one = fields(&crm, ObjectType::Deal, "1");
    assert_eq!(
        (one["pipeline"].as_str(), one["dealstage"].as_str()),
        (other.as_str(), other_stages[0].as_str())
    );
    assert_eq!(dead(&mut crm), []);
}

#[test]
fn stages_and_owners_that_do_not_exist_are_explained() {
    let mut crm = deals();
    crm.run(
        "INSERT INTO crm.deals VALUES (1, 'Good', NULL, 'closedwon', NULL, NULL, 'owner@example.com'),
                                      (2, 'Bad stage', NULL, 'wishful', NULL, NULL, NULL)",
    );
    crm.settle();
    one_is_dead(
        &mut crm,
        "2",
        "validation",
        &["wishful", "dealstage", "closedwon"],
    );
    crm.run(
        "UPDATE crm.deals SET stage = 'closedlost' WHERE id = 2;
         INSERT INTO crm.deals VALUES (3, 'Bad owner', NULL, 'closedwon', NULL, NULL, 'nobody@example.com')",
    );
    crm.settle();
    one_is_dead(
        &mut crm,
        "3",
        "validation",
        &["nobody@example.com", "hubspot_owner_id", "owner"],
    );
    // A user who is added later is found.
    let owner = crm.remote.add_owner("nobody@example.com").to_string();
    wait_until("the new owner is looked up", SOON, || {
        crm.run("SELECT integration.dlq_retry()");
        crm.settle();
        dead(&mut crm).is_empty().then_some(())
    });
    assert_eq!(
        fields(&crm, ObjectType::Deal, "3")["hubspot_owner_id"],
        owner
    );
    assert_eq!(crm.remote.records(ObjectType::Deal).len(), 3);
}

#[test]
fn deal_without_a_stage_is_a_dead_letter() {
    let mut crm = deals();
    crm.run("INSERT INTO crm.deals (id, name, stage) VALUES (1, 'With', 'closedwon'), (2, 'Without', NULL)");
    crm.settle();
    one_is_dead(&mut crm, "2", "validation", &["dealstage"]);
    assert_eq!(crm.remote.records(ObjectType::Deal).len(), 1);
}

#[test]
fn options_go_by_value_or_label_and_others_are_explained() {
    let options = json!({"type": "enumeration", "fieldType": "select", "options": [
        {"value": "g", "label": "Gold"}, {"value": "s", "label": "Silver"}]});
    let mut crm = contacts_with("text", options);
    people(&mut crm, &["'g'", "'silver'", "'bronze'", "NULL"]);
    assert_eq!(extra(&crm, 1).as_deref(), Some("g"));
    assert_eq!(extra(&crm, 2).as_deref(), Some("s"));
    assert_eq!(extra(&crm, 4).as_deref(), Some(""));
    one_is_dead(
        &mut crm,
        "3",
        "validation",
        &["bronze", "extra", "g (Gold), s (Silver)"],
    );
    crm.run("UPDATE crm.people SET extra = NULL WHERE id = 1");
    crm.settle();
    assert_eq!(extra(&crm, 1).as_deref(), Some(""));
}

#[test]
fn option_that_hubspot_no_longer_has_is_explained_and_one_it_has_now_is_sent() {
    let gold = json!([{"value": "g", "label": "Gold"}]);
    let mut crm = contacts_with(
        "text",
        json!({"type": "enumeration", "fieldType": "select", "options": gold}),
    );
    people(&mut crm, &["'g'"]);
    let platinum = json!({"options": [{"value": "p", "label": "Platinum"}]});
    crm.remote
        .change_property(ObjectType::Contact, "extra", platinum)
        .unwrap();
    crm.run("INSERT INTO crm.people VALUES (2, 'p2@example.org', 'P', 'Platinum'), (3, 'p3@example.org', 'P', 'g')");
    crm.settle();
    assert_eq!(extra(&crm, 2).as_deref(), Some("p"));
    one_is_dead(&mut crm, "3", "validation", &["extra", "p (Platinum)"]);
}

#[test]
fn several_options_come_from_arrays_and_lists_in_any_order() {
    let options = json!({"type": "enumeration", "fieldType": "checkbox", "options": [
        {"value": "a", "label": "Ah"}, {"value": "b", "label": "Be"}, {"value": "c", "label": "Ce"}]});
    let mut crm = contacts_with("text[]", options);
    people(&mut crm, &["'{c,Ah}'", "'{a,z}'"]);
    assert_eq!(extra(&crm, 1).as_deref(), Some("a;c"));
    one_is_dead(&mut crm, "2", "validation", &["z", "extra", "c (Ce)"]);
    let before = crm.remote.writes_to(Service::HubSpot);
    crm.run("UPDATE crm.people SET extra = '{a,c}' WHERE id = 1");
    crm.settle();
    assert_eq!(
        crm.remote.writes_to(Service::HubSpot),
        before,
        "it is the same"
    );
}

#[test]
fn dates_and_times_go_by_the_property() {
    for (column, property, text, stored) in [
        ("date", "datetime", "2026-01-02", "2026-01-02T00:00:00.000Z"),
        (
            "timestamptz",
            "date",
            "2026-01-02 23:30:00-05",
            "2026-01-03",
        ),
        (
            "timestamptz",
            "datetime",
            "2026-01-02 03:04:05.678901+01",
            "2026-01-02T02:04:05.678Z",
        ),
        ("text", "date", "2026-01-02", "2026-01-02"),
        (
            "text",
            "datetime",
            "2026-01-02T03:04:05+02:00",
            "2026-01-02T01:04:05.000Z",
        ),
    ] {
        let mut crm = contacts_with(column, json!({"type": property, "fieldType": "date"}));
        people(&mut crm, &[&quote_literal(text)]);
        assert_eq!(
            extra(&crm, 1).as_deref(),
            Some(stored),
            "{column} to {property}\n{}",
            crm.report()
        );
    }
}

#[test]
fn property_that_is_not_there_is_left_out_with_one_alert_until_it_comes_back() {
    let text = json!({"type": "string", "fieldType": "text"});
    let mut crm = contacts_with("text", text.clone());
    people(&mut crm, &["'one'"]);
    crm.remote
        .delete_property(ObjectType::Contact, "extra")
        .unwrap();
    crm.run("INSERT INTO crm.people VALUES (2, 'p2@example.org', 'P', 'two'), (3, 'p3@example.org', 'P', NULL)");
    crm.settle();
    assert_eq!(dead(&mut crm), []);
    assert_eq!(crm.remote.contacts().len(), 3);
    let said = alert(&mut crm, "properties").expect("an alert");
    for word in ["extra", "crm.people", "does not exist"] {
        assert!(said.contains(word), "{said} should say {word}");
    }
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.alert WHERE kind = 'properties'"),
        1
    );
    define(&crm, text);
    crm.run("SELECT integration.map_field('crm.people', 'extra', 'hubspot', 'extra')");
    wait_until("the alert is cleared", SOON, || {
        alert(&mut crm, "properties").is_none().then_some(())
    });
    crm.run("UPDATE crm.people SET extra = 'again' WHERE id = 2");
    crm.settle();
    assert_eq!(extra(&crm, 2).as_deref(), Some("again"));
}

#[test]
fn read_only_property_is_left_out_with_an_alert() {
    let mut crm = contacts_with("text", json!({"type": "string", "fieldType": "text"}));
    people(&mut crm, &["'one'"]);
    let read_only = json!({"readOnly": true});
    crm.remote
        .change_property(ObjectType::Contact, "extra", read_only)
        .unwrap();
    crm.run("INSERT INTO crm.people VALUES (2, 'p2@example.org', 'P', 'two')");
    crm.settle();
    assert_eq!(dead(&mut crm), []);
    assert_eq!(extra(&crm, 2).as_deref(), Some(""));
    let said = alert(&mut crm, "properties").expect("an alert");
    assert!(
        said.contains("extra") && said.contains("read-only"),
        "{said}"
    );
}

#[test]
fn definitions_that_may_not_be_read_hold_up_nothing() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let refusal = r#"{"status":"error","message":"This app hasn't been granted all required scopes","category":"MISSING_SCOPES"}"#;
    let fault = Fault::new(
        FaultKind::Status {
            code: 403,
            body: FaultBody::Text(refusal.into()),
            retry_after: None,
        },
        When::UntilCleared,
    );
    crm.run("CREATE TABLE crm.people (id int PRIMARY KEY, email text, first_name text); SELECT integration.track('crm.people', 'contact', targets => '{hubspot}')");
    provision(&mut crm);
    crm.remote.add_fault(
        fault
            .service(Service::HubSpot)
            .method("GET")
            .path("/crm/properties/2026-09/contacts"),
    );
    crm.run("ALTER TABLE crm.people ADD city text; SELECT integration.map_field('crm.people', 'city', 'hubspot', 'city')");
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', 'P', 'Rome')");
    crm.settle();
    assert_eq!(
        crm.remote.contact("p1@example.org").unwrap().1["city"],
        "Rome"
    );
    let said = alert(&mut crm, "preflight").expect("an alert");
    assert!(said.contains("contact") && said.contains("scope"), "{said}");
    crm.remote.clear_faults();
    crm.run("SELECT integration.map_field('crm.people', 'city', 'hubspot', 'city')");
    wait_until("the alert is cleared", SOON, || {
        alert(&mut crm, "preflight").is_none().then_some(())
    });
}

#[test]
fn text_may_have_65536_characters_and_not_one_more() {
    let mut crm = contacts_with("text", json!({"type": "string", "fieldType": "textarea"}));
    people(
        &mut crm,
        &[
            "repeat('ä', 65536)",
            "repeat('ä', 65537)",
            "'  blanks around  '",
        ],
    );
    assert_eq!(
        extra(&crm, 1).map(|text| text.chars().count()),
        Some(65_536)
    );
    assert_eq!(extra(&crm, 3).as_deref(), Some("blanks around"));
    one_is_dead(&mut crm, "2", "too_large", &["extra", "65537"]);
}

#[test]
fn malformed_address_is_explained() {
    let mut crm = contacts_with("text", json!({"type": "string", "fieldType": "text"}));
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', 'P', 'x'), (2, 'no address', 'P', 'x')");
    crm.settle();
    one_is_dead(
        &mut crm,
        "2",
        "unmappable",
        &["no address", "email", "no @"],
    );
    assert_eq!(extra(&crm, 1).as_deref(), Some("x"));
}

#[test]
fn backward_lifecycle_stage_is_sent_once_and_not_fought_over() {
    let mut crm = with(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, lifecycle_stage text);
         SELECT integration.track('crm.people', 'contact', targets => '{hubspot}')",
    );
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', 'customer')");
    crm.settle();
    crm.remote.clear_webhooks();
    let before = crm.remote.writes_to(Service::HubSpot);
    crm.run("UPDATE crm.people SET lifecycle_stage = 'lead'");
    crm.settle();
    assert_eq!(
        crm.remote.contact("p1@example.org").unwrap().1["lifecyclestage"],
        "customer"
    );
    assert_eq!(crm.remote.writes_to(Service::HubSpot), before + 1);
    assert_eq!(crm.remote.webhooks_of(Service::HubSpot).len(), 0);
    crm.run("UPDATE crm.people SET lifecycle_stage = 'lead'");
    crm.settle();
    assert_eq!(crm.remote.writes_to(Service::HubSpot), before + 1);
    assert_eq!(dead(&mut crm), []);
}

#[test]
fn answers_that_are_not_json_are_sent_again() {
    let mut crm = contacts_with("text", json!({"type": "string", "fieldType": "text"}));
    crm.remote.add_fault(
        Fault::new(FaultKind::Html, When::NextN(2))
            .service(Service::HubSpot)
            .path("/batch/upsert"),
    );
    people(&mut crm, &["'one'", "'two'"]);
    assert_eq!(
        (extra(&crm, 1).as_deref(), extra(&crm, 2).as_deref()),
        (Some("one"), Some("two"))
    );
    assert_eq!(crm.remote.contacts().len(), 2);
    assert_eq!(dead(&mut crm), []);
}

#[test]
fn numbers_beyond_two_to_the_53_keep_every_digit() {
    let mut crm = with(
        "CREATE TABLE crm.big (id bigint PRIMARY KEY, name text, stage text, amount numeric); SELECT integration.track('crm.big', 'deal')",
    );
    crm.run("INSERT INTO crm.big VALUES (9007199254740993, 'Big', 'closedwon', 9007199254740993.250), (9007199254740992, 'Other', 'closedwon', 1)");
    crm.settle();
    let big = fields(&crm, ObjectType::Deal, "9007199254740993");
    assert_eq!(
        (big["dealname"].as_str(), big["amount"].as_str()),
        ("Big", "9007199254740993.25")
    );
    assert_eq!(crm.remote.records(ObjectType::Deal).len(), 2);
}
