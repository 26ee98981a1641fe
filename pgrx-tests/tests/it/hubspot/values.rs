//! HubSpot's objects and the values of their properties: converted by the properties' definitions,
//! and what cannot be sent is explained without holding up the rest.

use crate::inbound::webhooks::import;
use integration_tests::portal::{
    contacts_with, dead, deals, extra, fields, one_is_dead, people, provision,
};
use integration_tests::{
    cluster::Cluster,
    crm::Crm,
    remote::{ObjectType, Service, unlimited},
    sql::quote_literal,
};
use serde_json::json;

#[test]
fn every_kind_of_object_is_created_changed_archived_and_created_again() {
    let tables = [
        (
            "contact",
            ObjectType::Contact,
            "first_name text, email text",
            "'Ada', 'ada@example.org'",
            "firstname",
            "Ada",
        ),
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
    let said: Vec<String> = crm
        .notices("SELECT integration.track('crm.mails', 'email'); SELECT integration.track('crm.sales', 'deal')")
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
    let (pipeline, stages) =
        crm.remote
            .add_pipeline(ObjectType::Deal, "Renewals", &["Open", "Won"]);
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
    let (other, other_stages) =
        crm.remote
            .add_pipeline(ObjectType::Deal, "Upsells", &["Open", "Lost"]);
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
fn changes_made_in_hubspot_are_written_as_the_column_writes_them() {
    let mut crm = deals();
    let (_, stages) = crm
        .remote
        .add_pipeline(ObjectType::Deal, "Renewals", &["Open", "Won"]);
    crm.remote.add_owner("grace@example.com");
    crm.run("INSERT INTO crm.deals VALUES (1, 'One', NULL, 'Open', 'Renewals', '2026-03-04', 'grace@example.com')");
    crm.settle();
    let id = crm.remote.records(ObjectType::Deal)[0].id;
    crm.remote.clear_webhooks();
    let before = crm.remote.writes_to(Service::HubSpot);
    for (property, value) in [
        ("dealstage", stages[1].as_str()),
        ("hubspot_owner_id", "77001"),
        // The same day: the column holds no more than that.
        ("closedate", "2026-03-04T15:00:00.000Z"),
        ("amount", "12.50"),
    ] {
        crm.remote
            .set_property(ObjectType::Deal, id, property, value)
            .unwrap();
    }
    for webhook in crm.remote.webhooks_of(Service::HubSpot) {
        import(&mut crm, &webhook);
    }
    crm.settle();
    assert_eq!(
        crm.rows("SELECT stage, pipeline, close_date, owner_email, amount FROM crm.deals"),
        ["Won|Renewals|2026-03-04|owner@example.com|12.5"]
    );
    crm.run("UPDATE crm.deals SET amount = 12.500");
    crm.settle();
    assert_eq!(crm.remote.writes_to(Service::HubSpot), before);
}

#[test]
fn version_3_of_the_api_knows_definitions_too() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.set("hubspot_api_version", "v3");
    crm.run(
        "CREATE TABLE crm.deals (id int PRIMARY KEY, name text, stage text, pipeline text, close_date date, owner_email text);
         SELECT integration.track('crm.deals', 'deal')",
    );
    provision(&mut crm);
    let (_, stages) = crm
        .remote
        .add_pipeline(ObjectType::Deal, "Renewals", &["Open"]);
    crm.run("INSERT INTO crm.deals VALUES (1, 'One', 'open', 'renewals', '2026-03-04', 'owner@example.com')");
    crm.settle();
    let one = fields(&crm, ObjectType::Deal, "1");
    assert_eq!(
        (one["dealstage"].as_str(), one["hubspot_owner_id"].as_str()),
        (stages[0].as_str(), "77001")
    );
    let paths: Vec<String> = crm
        .remote
        .requests_to(Service::HubSpot)
        .into_iter()
        .map(|request| request.path)
        .collect();
    for wanted in [
        "/crm/v3/properties/deals",
        "/crm/v3/owners?limit=100",
        "/crm/v3/pipelines/deals",
    ] {
        let asked = paths.iter().any(|path| wanted.starts_with(path.as_str()));
        assert!(asked, "{wanted} is not among {paths:?}");
    }
}
