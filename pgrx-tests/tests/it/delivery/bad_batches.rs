//! Good and bad rows in one statement: the good ones are delivered, each bad one is explained.

use integration_tests::portal::{contacts_with, dead, deals, fields, provision};
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER},
    remote::{Fault, FaultKind, ObjectType, Service, When, unlimited},
    wait::wait_until,
};
use serde_json::json;

use crate::inbound::webhooks::import;

/// Key, category and words of every open dead letter.
#[track_caller]
fn explained(crm: &mut Crm, wanted: &[(&str, &str, &[&str])]) {
    let mut dead = dead(crm);
    dead.sort();
    let found: Vec<(&str, &str)> = dead.iter().map(|one| (&*one.0, &*one.1)).collect();
    let expected: Vec<(&str, &str)> = wanted.iter().map(|one| (one.0, one.1)).collect();
    assert_eq!(found, expected, "{dead:#?}");
    for ((key, _, error), (_, _, words)) in dead.iter().zip(wanted) {
        for word in *words {
            assert!(error.contains(word), "{key}: {error} should say {word}");
        }
    }
}

fn define(crm: &Crm, name: &str, property: serde_json::Value) {
    let mut whole = json!({"name": name, "label": name, "groupName": "contactinformation"});
    for (part, value) in property.as_object().unwrap() {
        whole[part] = value.clone();
    }
    crm.remote
        .define_property(ObjectType::Contact, whole)
        .unwrap();
}

#[test]
fn every_kind_of_bad_contact_is_explained_and_its_mates_are_delivered() {
    let mut crm = contacts_with("text", json!({"type": "string", "fieldType": "textarea"}));
    let gold = json!([{"value": "g", "label": "Gold"}]);
    define(
        &crm,
        "tier",
        json!({"type": "enumeration", "fieldType": "select", "options": gold}),
    );
    define(
        &crm,
        "score",
        json!({"type": "number", "fieldType": "number"}),
    );
    define(&crm, "since", json!({"type": "date", "fieldType": "date"}));
    crm.run(
        "ALTER TABLE crm.people ADD stage text, ADD tier text, ADD score text, ADD since text;
         SELECT integration.map_field('crm.people', 'stage', 'hubspot', 'lifecyclestage');
         SELECT integration.map_field('crm.people', 'tier', 'hubspot', 'tier');
         SELECT integration.map_field('crm.people', 'score', 'hubspot', 'score');
         SELECT integration.map_field('crm.people', 'since', 'hubspot', 'since')",
    );
    // Every tenth row is bad in a way of its own.
    crm.run(
        "INSERT INTO crm.people (id, email, first_name, extra, stage, tier, score, since)
         SELECT n,
                CASE n WHEN 110 THEN 'no address' WHEN 120 THEN 'p120@nowhere.invalid' ELSE 'p' || n || '@example.org' END,
                'P',
                CASE n WHEN 130 THEN repeat('x', 65537) ELSE 'x' END,
                CASE n WHEN 140 THEN 'royalty' ELSE 'lead' END,
                CASE n WHEN 150 THEN 'Silver' ELSE 'Gold' END,
                CASE n WHEN 160 THEN 'many' ELSE '12.5' END,
                CASE n WHEN 170 THEN 'last week' ELSE '2026-03-04' END
         FROM generate_series(101, 180) n",
    );
    crm.settle();
    explained(
        &mut crm,
        &[
            ("110", "unmappable", &["no address", "email", "no @"]),
            ("120", "validation", &["email", "nowhere.invalid"]),
            ("130", "too_large", &["extra", "65537"]),
            ("140", "validation", &["lifecyclestage", "royalty"]),
            ("150", "validation", &["tier", "Silver", "Gold"]),
            ("160", "unmappable", &["score", "many"]),
            ("170", "unmappable", &["since", "last week"]),
        ],
    );
    assert_eq!(crm.remote.contacts().len(), 73);
    let mate = fields(&crm, ObjectType::Contact, "180");
    assert_eq!(
        ["lifecyclestage", "tier", "score", "since"].map(|name| mate[name].as_str()),
        ["lead", "g", "12.5", "2026-03-04"]
    );
}

#[test]
fn deals_without_a_stage_hold_up_no_others() {
    let mut crm = deals();
    crm.run(
        "INSERT INTO crm.deals (id, name, stage)
         SELECT n, 'Deal ' || n, CASE n WHEN 7 THEN NULL WHEN 9 THEN 'wishful' ELSE 'closedwon' END
         FROM generate_series(1, 40) n",
    );
    crm.settle();
    explained(
        &mut crm,
        &[
            ("7", "validation", &["dealstage"]),
            ("9", "validation", &["dealstage", "wishful", "closedwon"]),
        ],
    );
    assert_eq!(crm.remote.records(ObjectType::Deal).len(), 38);
}

#[test]
fn record_whose_answers_are_never_json_is_found_and_its_mates_are_delivered() {
    let mut crm = contacts_with("text", json!({"type": "string", "fieldType": "text"}));
    crm.set("max_attempts", "4");
    crm.set("retry_base", "50ms");
    crm.set("retry_max", "100ms");
    crm.remote.add_fault(
        Fault::new(FaultKind::Html, When::UntilCleared)
            .service(Service::HubSpot)
            .body("p17@example.org"),
    );
    crm.run("INSERT INTO crm.people SELECT n, 'p' || n || '@example.org', 'P', 'x' FROM generate_series(1, 40) n");
    crm.settle_within(LATER);
    explained(&mut crm, &[("17", "exhausted", &["cannot be read"])]);
    assert_eq!(crm.remote.contacts().len(), 39);
}

/// Who reads an id as a floating-point number mistakes the odd ones for their neighbours.
#[test]
fn ids_beyond_two_to_the_53_are_kept_in_results_associations_and_webhooks() {
    const FIRST: u64 = (1 << 53) + 1;
    let mut config = unlimited();
    config.hubspot.first_id = FIRST;
    let mut crm = Crm::untracked(Cluster::shared(), config);
    crm.run(
        "CREATE TABLE crm.firms (id int PRIMARY KEY, name text);
         CREATE TABLE crm.people (id int PRIMARY KEY, email text, first_name text, firm_id int);
         SELECT integration.track('crm.firms', 'company');
         SELECT integration.track('crm.people', 'contact', targets => '{hubspot}');
         SELECT integration.map_association('crm.people', 'firm_id', 'crm.firms')",
    );
    provision(&mut crm);
    crm.run(
        "INSERT INTO crm.firms SELECT n, 'Firm ' || n FROM generate_series(1, 6) n;
         INSERT INTO crm.people SELECT n, 'p' || n || '@example.org', 'P' || n, n FROM generate_series(1, 6) n",
    );
    crm.settle();
    let id = |crm: &Crm, object, key: &str| crm.remote.by_key(object, key).unwrap().id;
    for key in ["1", "2", "3", "4", "5", "6"] {
        let (person, firm) = (
            id(&crm, ObjectType::Contact, key),
            id(&crm, ObjectType::Company, key),
        );
        assert!(person >= FIRST && firm >= FIRST);
        assert_eq!(
            crm.rows(&format!(
                "SELECT remote_id FROM integration.link WHERE record_key = '{key}' ORDER BY source::text"
            )),
            [firm.to_string(), person.to_string()]
        );
        let tied = crm.remote.associations().into_iter().any(|tie| {
            (tie.from_type, tie.from, tie.to_type, tie.to)
                == ("contacts", person, "companies", firm)
        });
        assert!(tied, "{person} belongs to {firm}");
    }
    // Written and tied again by their ids.
    crm.run("UPDATE crm.people SET first_name = 'Q' || id, firm_id = 7 - firm_id");
    crm.settle();
    let person = id(&crm, ObjectType::Contact, "4");
    let firm = id(&crm, ObjectType::Company, "3");
    assert_eq!(
        fields(&crm, ObjectType::Contact, "4")["firstname"].as_str(),
        "Q4"
    );
    let ties: Vec<u64> = crm
        .remote
        .associations()
        .into_iter()
        .filter(|tie| (tie.from_type, tie.from, tie.to_type) == ("contacts", person, "companies"))
        .map(|tie| tie.to)
        .collect();
    assert_eq!(ties, [firm]);
    // Told of by webhooks.
    crm.remote.clear_webhooks();
    crm.remote.person_sets(person, "firstname", "Augusta");
    for webhook in crm.remote.webhooks_of(Service::HubSpot) {
        import(&mut crm, &webhook);
    }
    crm.settle();
    assert_eq!(
        crm.rows("SELECT id, first_name FROM crm.people WHERE first_name NOT LIKE 'Q%'"),
        ["4|Augusta"]
    );
    crm.run("DELETE FROM crm.people WHERE id = 4");
    wait_until("that very contact is archived", LATER, || {
        let archived = crm.remote.archived(ObjectType::Contact);
        (archived.len() == 1 && archived[0].id == person).then_some(())
    });
    assert_eq!(crm.remote.contacts().len(), 5);
    assert_eq!(dead(&mut crm), []);
}
