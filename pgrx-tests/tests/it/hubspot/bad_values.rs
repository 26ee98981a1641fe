//! What HubSpot does not take: explained, without holding up the rest, and without a fight.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Fault, FaultBody, FaultKind, ObjectType, Service, When, unlimited},
    wait::wait_until,
};
use serde_json::json;

use integration_tests::portal::{
    alert, contacts_with, dead, deals, define, extra, fields, one_is_dead, people, provision, with,
};

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
fn backward_lifecycle_stage_is_sent_once_explained_and_not_fought_over() {
    let mut crm = with(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, first_name text, lifecycle_stage text);
         SELECT integration.track('crm.people', 'contact', targets => '{hubspot}')",
    );
    crm.run("INSERT INTO crm.people VALUES (1, 'p1@example.org', 'P', 'customer'), (2, 'p2@example.org', 'P', 'lead')");
    crm.settle();
    crm.remote.clear_webhooks();
    let before = crm.remote.writes_to(Service::HubSpot);
    crm.run("UPDATE crm.people SET lifecycle_stage = CASE id WHEN 1 THEN 'lead' ELSE 'customer' END, first_name = 'Q'");
    crm.settle();
    let value =
        |crm: &Crm, key: &str, name: &str| fields(crm, ObjectType::Contact, key)[name].clone();
    for (key, stage) in [("1", "customer"), ("2", "customer")] {
        assert_eq!(value(&crm, key, "lifecyclestage"), stage);
        assert_eq!(value(&crm, key, "firstname"), "Q");
    }
    one_is_dead(
        &mut crm,
        "1",
        "validation",
        &["lifecyclestage", "customer", "lead", "forward"],
    );
    assert_eq!(crm.remote.writes_to(Service::HubSpot), before + 1);
    crm.run("UPDATE crm.people SET lifecycle_stage = 'lead' WHERE id = 1");
    crm.settle();
    assert_eq!(crm.remote.writes_to(Service::HubSpot), before + 1);
    // Cleared at HubSpot, it can be retried; what was wrong is over.
    let id = crm.remote.contact("p1@example.org").unwrap().0;
    crm.remote.person_sets(id, "lifecyclestage", "");
    crm.run("SELECT integration.dlq_retry()");
    crm.settle();
    assert_eq!(value(&crm, "1", "lifecyclestage"), "lead");
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
