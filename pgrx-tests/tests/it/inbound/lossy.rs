//! Columns that hold less than the service's fields: what they hold stands for the service's value,
//! which is never overwritten with it.

use std::{sync::Arc, time::Duration};

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{MemberAction, ObjectType, Service, unlimited},
    sql::{quote_literal, refused},
    wait::{holds_for, later, wait_until},
};
use serde_json::{Value, json};

use crate::inbound::webhooks::import;

/// What a person sets in HubSpot, and what the columns below hold of it.
const VALUES: [(&str, &str, &str); 7] = [
    ("phone", "+49 30 123 456 789", "+49 30 1"),
    ("jobtitle", "Countess of Lovelace", "Countes"),
    ("company", "ACME GmbH", "acme gmbh"),
    ("lastname", "Lovelace-King", "Love"),
    ("score", "12345.67", "12345.7"),
    ("seen", "2026-03-04T05:06:07.891Z", "2026-03-04 05:06:08+00"),
    ("ratio", "16777217", "1.6777216e+07"),
];

const COLUMNS: &str = "SELECT phone, job_title, company, last_name, score, seen, ratio FROM crm.contacts WHERE id = 4";

/// Ten contacts on both sides, with columns of all kinds that hold less.
fn in_step() -> Crm {
    in_step_with(Crm::start())
}

fn in_step_with(mut crm: Crm) -> Crm {
    for (name, kind, field) in [
        ("score", "number", "number"),
        ("seen", "datetime", "date"),
        ("ratio", "number", "number"),
    ] {
        let property = json!({"name": name, "label": name, "type": kind, "fieldType": field, "groupName": "contactinformation"});
        crm.remote
            .define_property(ObjectType::Contact, property)
            .unwrap();
    }
    crm.run(
        "ALTER TABLE crm.contacts ALTER phone TYPE varchar(8),
             ADD score numeric(6, 1), ADD seen timestamptz(0), ADD ratio real;
         CREATE FUNCTION crm.normalise() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.company := lower(NEW.company); RETURN NEW; END';
         CREATE TRIGGER normalise BEFORE INSERT OR UPDATE ON crm.contacts FOR EACH ROW EXECUTE FUNCTION crm.normalise();
         CREATE FUNCTION crm.shorten() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN UPDATE crm.contacts SET last_name = left(last_name, 4) WHERE id = NEW.id AND length(last_name) > 10; RETURN NULL; END';
         CREATE TRIGGER shorten AFTER UPDATE ON crm.contacts FOR EACH ROW EXECUTE FUNCTION crm.shorten();
         SELECT integration.map_field('crm.contacts', name, 'hubspot', name) FROM unnest('{score,seen,ratio}'::text[]) AS name;
         INSERT INTO crm.contacts (email, first_name, last_name, phone, company, job_title, marketing_opt_in)
         SELECT format('person%s@example.org', n), 'First', 'Last', '+49 ' || n, 'acme', 'Clerk', n % 2 = 0 FROM generate_series(1, 6) n",
    );
    crm.converges();
    crm.run("ALTER TABLE crm.contacts ALTER job_title TYPE char(7)");
    crm.settle();
    crm.remote.clear_webhooks();
    crm
}

fn person_sets(crm: &mut Crm, property: &str, value: &str) {
    let (id, _) = crm.remote.contact("person4@example.org").unwrap();
    crm.remote.clear_webhooks();
    crm.remote.person_sets(id, property, value);
    for webhook in crm.remote.webhooks_of(Service::HubSpot) {
        import(crm, &webhook);
    }
}

/// HubSpot holds what the person set.
#[track_caller]
fn hubspot_is_as_it_was(crm: &mut Crm) {
    let (_, contact) = crm.remote.contact("person4@example.org").unwrap();
    for (property, set, _) in VALUES {
        let held = contact.get(property).map(AsRef::<str>::as_ref);
        assert_eq!(held, Some(set), "{property}\n{}", crm.report());
    }
}

#[test]
fn what_a_column_holds_of_a_value_is_never_written_over_it() {
    let mut crm = in_step();
    let before = crm.remote.writes_to(Service::HubSpot);
    for (property, value, _) in VALUES {
        person_sets(&mut crm, property, value);
    }
    crm.settle();
    let held: Vec<&str> = VALUES.iter().map(|(.., held)| *held).collect();
    assert_eq!(crm.rows(COLUMNS), [held.join("|")], "{}", crm.report());
    holds_for("nothing goes back", Duration::from_secs(1), || {
        crm.remote.writes_to(Service::HubSpot) == before
    });
    hubspot_is_as_it_was(&mut crm);
    // Each column is named once.
    let alerts = crm.rows("SELECT subject FROM integration.alert WHERE kind = 'lossy' AND cleared_at IS NULL ORDER BY subject");
    assert_eq!(
        alerts,
        [
            "company",
            "job_title",
            "last_name",
            "phone",
            "ratio",
            "score",
            "seen"
        ]
        .map(|column| format!("crm.contacts.{column}"))
    );
    // Nor when the record is sent for another reason, or all of them.
    crm.run("UPDATE crm.contacts SET first_name = 'Ada', phone = phone || '' WHERE id = 4");
    crm.settle();
    let (_, contact) = crm.remote.contact("person4@example.org").unwrap();
    assert_eq!(contact["firstname"], "Ada");
    hubspot_is_as_it_was(&mut crm);
    let job: i64 = crm.ask("SELECT integration.backfill('crm.contacts')");
    wait_until("all rows have been sent", SOON, || {
        let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
        crm.ask::<bool>(&done).then_some(())
    });
    hubspot_is_as_it_was(&mut crm);
    // A comparison knows what stands for what.
    let job: i64 = crm.ask("SELECT integration.reconcile('crm.contacts', 'hubspot', true)");
    wait_until("both sides have been compared", SOON, || {
        let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
        crm.ask::<bool>(&done).then_some(())
    });
    crm.settle();
    assert_eq!(
        crm.rows("SELECT d FROM integration.drift d"),
        Vec::<String>::new()
    );
    hubspot_is_as_it_was(&mut crm);
    assert_eq!(crm.rows(COLUMNS), [held.join("|")]);
    // The same told again is no news.
    let (property, value, _) = VALUES[0];
    person_sets(&mut crm, property, "+49 1");
    person_sets(&mut crm, property, value);
    crm.settle();
    hubspot_is_as_it_was(&mut crm);
    // What the CRM decides goes there.
    crm.run("UPDATE crm.contacts SET phone = '+49 9', score = 7 WHERE id = 4");
    crm.settle();
    let (_, contact) = crm.remote.contact("person4@example.org").unwrap();
    assert_eq!(
        (contact["phone"].as_str(), contact["score"].as_str()),
        ("+49 9", "7")
    );
}

/// What the worker wrote is still in the queue when it ends.
#[test]
fn crash_does_not_write_it_over_the_value_either() {
    let mut crm = in_step_with(Crm::start_on(
        Arc::new(Cluster::start(&[], &[])),
        unlimited(),
    ));
    crm.run("SELECT integration.pause('hubspot', 'so that the queue stays as it is')");
    for (property, value, _) in VALUES {
        person_sets(&mut crm, property, value);
    }
    wait_until("all of it is applied", SOON, || {
        let all = "SELECT count(*) FILTER (WHERE state = 'applied') = 7 FROM integration.inbox";
        crm.ask::<bool>(all).then_some(())
    });
    assert!(
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration.outbox WHERE target = 'hubspot')")
    );
    crm.kill_worker();
    crm.run("SELECT integration.resume('hubspot')");
    crm.settle();
    hubspot_is_as_it_was(&mut crm);
}

#[test]
fn value_that_does_not_fit_can_be_refused() {
    let mut crm = in_step();
    crm.run(
        "SELECT integration.map_field('crm.contacts', 'phone', 'hubspot', 'phone', on_lossy => 'refuse');
         SELECT integration.map_field('crm.contacts', 'company', 'hubspot', 'company', on_lossy => 'refuse')",
    );
    for (property, value) in [("phone", "+49 30 123 456 789"), ("company", "ACME GmbH")] {
        person_sets(&mut crm, property, value);
    }
    crm.settle();
    assert_eq!(
        crm.rows("SELECT phone, company FROM crm.contacts WHERE id = 4"),
        ["+49 4|acme"]
    );
    let fates = crm.rows("SELECT state, detail LIKE '%on_lossy%' FROM integration.inbox");
    assert_eq!(fates, ["failed|t", "failed|t"], "{}", crm.report());
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.alert WHERE kind = 'inbox_failed' AND cleared_at IS NULL"),
        1
    );
    for (property, value) in [("phone", "+49 40"), ("company", "babbage")] {
        person_sets(&mut crm, property, value);
    }
    crm.settle();
    assert_eq!(
        crm.rows("SELECT phone, company FROM crm.contacts WHERE id = 4"),
        ["+49 40|babbage"]
    );
    let error = refused(
        &mut crm.client,
        "SELECT integration.map_field('crm.contacts', 'phone', 'hubspot', 'phone', on_lossy => 'perhaps')",
    );
    assert_eq!(error.code().code(), "22023");
}

#[test]
fn merge_field_is_not_overwritten_either() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts ALTER first_name TYPE varchar(5)");
    crm.settle();
    let names = [("FNAME".to_owned(), json!("Augusta Ada"))];
    let merge_fields = names.into_iter().collect();
    crm.remote
        .member_does(
            "person4@example.org",
            MemberAction::Profile { merge_fields },
        )
        .unwrap();
    let body = format!(
        "type=profile&fired_at={}&data%5Blist_id%5D=a6b5da1054&data%5Bemail%5D=person4%40example.org&data%5Bmerges%5D%5BFNAME%5D=Augusta+Ada",
        later(0).replace(' ', "+")
    );
    crm.run(&format!(
        "SELECT integration.import_mailchimp_webhook({}, '{{}}', 'path-secret')",
        quote_literal(&body)
    ));
    crm.settle();
    let held = |crm: &Crm| -> Value {
        let member = crm.remote.member("person4@example.org").unwrap();
        member.merge_fields["FNAME"].clone()
    };
    assert_eq!(
        crm.ask::<String>("SELECT first_name FROM crm.contacts WHERE id = 4"),
        "Augus",
        "{}",
        crm.report()
    );
    crm.run("UPDATE crm.contacts SET last_name = 'King' WHERE id = 4");
    crm.settle();
    assert_eq!(held(&crm), json!("Augusta Ada"));
    // Opted out and in again, the member is written whole.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 4");
    crm.settle();
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true WHERE id = 4");
    crm.settle();
    assert_eq!(held(&crm), json!("Augusta Ada"));
    // HubSpot is told what the CRM holds.
    let (_, contact) = crm.remote.contact("person4@example.org").unwrap();
    assert_eq!(contact["firstname"], "Augus");
}
