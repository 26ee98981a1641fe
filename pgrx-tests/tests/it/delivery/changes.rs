//! A committed change reaches both services, and only as it should.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Config, ObjectType, Rate, Service, Status, unlimited},
    wait::wait_until,
};

#[test]
fn insert_reaches_both_services() {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.companies (name, domain, city) VALUES ('Analytical Engines', 'engines.example.org', 'London')");
    crm.add_contact("Ada@Example.org", true);
    crm.converges();
    let member = crm.remote.member("ada@example.org").unwrap();
    assert_eq!(
        (member.status, &member.merge_fields["FNAME"]),
        (Status::Subscribed, &"Ada".into())
    );
    assert_eq!(crm.remote.contacts().len(), 1);
}

#[test]
fn link_remembers_who_is_who() {
    let mut crm = Crm::start();
    crm.add_contact("ada@example.org", true);
    crm.converges();
    let (id, _) = crm.remote.contact("ada@example.org").unwrap();
    let links = crm.rows("SELECT target, record_key, remote_id IS NOT NULL, remote_key, pushed_at IS NOT NULL FROM integration.link ORDER BY 1");
    assert_eq!(
        links,
        [
            "hubspot|1|t|ada@example.org|t",
            "mailchimp|1|t|ada@example.org|t"
        ]
    );
    let linked: String = crm.ask("SELECT remote_id FROM integration.link WHERE target = 'hubspot'");
    assert_eq!(linked, id.to_string());
}

/// Links are found again where they were read. By then, other records' may stand there.
#[test]
fn links_that_change_places_during_a_call_stay_whose_they_are() {
    const OTHERS: &str =
        "SELECT l.* FROM integration._link l WHERE record_key <> '1' ORDER BY target, record_key";
    const FIRST: &str = "SELECT ctid, record_key FROM integration._link ORDER BY ctid LIMIT 1";
    let stand_by = |order: &str| {
        format!(
            "CREATE TEMP TABLE kept AS TABLE integration._link;
             TRUNCATE integration._link;
             INSERT INTO integration._link SELECT * FROM kept ORDER BY {order};
             DROP TABLE kept"
        )
    };
    let mut crm = Crm::start();
    crm.add_contacts(1, 3);
    crm.converges();
    crm.run(&stand_by("record_key, target"));
    let (others, of_one) = (
        crm.rows(OTHERS),
        "SELECT clock FROM integration._link WHERE record_key = '1' AND target = 1",
    );
    let agreed = crm.rows(of_one);
    assert_eq!(crm.rows(FIRST), ["(0,1)|1"]);
    crm.remote.configure(|config| config.delay_ms = 700);
    crm.run("UPDATE crm.contacts SET phone = '7' WHERE id = 1");
    wait_until("HubSpot has it", SOON, || {
        let (_, fields) = crm.remote.contact("person1@example.org")?;
        (fields.get("phone")? == "7").then_some(())
    });
    crm.run(&stand_by("record_key DESC, target"));
    assert_eq!(crm.rows(FIRST), ["(0,1)|3"]);
    crm.converges();
    assert_eq!(crm.rows(OTHERS), others);
    assert_ne!(crm.rows(of_one), agreed);
}

#[test]
fn update_changes_the_same_records() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 20);
    crm.converges();
    let before = crm.remote.contact("person7@example.org").unwrap().0;
    crm.run(
        "UPDATE crm.contacts SET last_name = 'Renamed', job_title = NULL, phone = '' WHERE id = 7",
    );
    crm.converges();
    let (after, fields) = crm.remote.contact("person7@example.org").unwrap();
    assert_eq!(after, before);
    assert_eq!(
        (
            fields.get("lastname").map(String::as_str),
            fields.get("jobtitle")
        ),
        (Some("Renamed"), None)
    );
}

#[test]
fn change_of_address_keeps_the_person() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 4);
    crm.converges();
    let before = crm.remote.contact("person2@example.org").unwrap().0;
    crm.run("UPDATE crm.contacts SET email = 'new.address@example.org' WHERE id = 2");
    crm.converges();
    assert_eq!(
        crm.remote.contact("new.address@example.org").unwrap().0,
        before,
        "HubSpot: the same contact"
    );
    assert_ne!(
        crm.remote.status_of("person2@example.org"),
        Some(Status::Subscribed),
        "the old address gets no mail"
    );
}

#[test]
fn change_of_case_in_an_address_is_no_change_of_person() {
    let mut crm = Crm::start();
    crm.add_contact("ada@example.org", true);
    crm.converges();
    crm.run("UPDATE crm.contacts SET email = 'ADA@Example.ORG'");
    crm.converges();
    assert_eq!(
        (crm.remote.contacts().len(), crm.remote.members().len()),
        (1, 1)
    );
}

#[test]
fn delete_removes_the_records() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 10);
    crm.run("INSERT INTO crm.companies (name) VALUES ('one'), ('two')");
    crm.converges();
    crm.run(
        "DELETE FROM crm.contacts WHERE id IN (3, 4); DELETE FROM crm.companies WHERE name = 'two'",
    );
    crm.converges();
    assert_eq!(
        (crm.remote.contacts().len(), crm.remote.companies().len()),
        (8, 1)
    );
    assert_eq!(
        crm.remote.status_of("person4@example.org"),
        Some(Status::Archived)
    );
}

#[test]
fn row_that_came_and_went_is_never_seen_outside() {
    let mut crm = Crm::start();
    crm.run("BEGIN; INSERT INTO crm.contacts (email) VALUES ('ghost@example.org'); DELETE FROM crm.contacts; COMMIT");
    crm.converges();
    assert!(crm.remote.contacts().is_empty());
}

#[test]
fn deleted_row_that_is_inserted_again_is_there_in_the_end() {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.contacts (id, email, marketing_opt_in) OVERRIDING SYSTEM VALUE VALUES (7, 'ada@example.org', true)");
    crm.converges();
    crm.run("DELETE FROM crm.contacts");
    crm.settle();
    crm.run("INSERT INTO crm.contacts (id, email, marketing_opt_in) OVERRIDING SYSTEM VALUE VALUES (7, 'ada@example.org', true)");
    crm.settle();
    assert!(crm.remote.contact("ada@example.org").is_some());
    // She was subscribed when we archived her, and has not opted out since.
    let member = crm.remote.member("ada@example.org").unwrap();
    assert_eq!(member.status, Status::Subscribed, "{}", crm.report());
}

#[test]
fn person_who_is_entered_again_under_another_key_is_no_conflict() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 5);
    crm.converges();
    crm.run("DELETE FROM crm.contacts WHERE id = 3");
    crm.run("INSERT INTO crm.contacts (email, first_name, marketing_opt_in) VALUES ('person3@example.org', 'Again', true)");
    crm.converges();
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.dlq WHERE resolution IS NULL"),
        0
    );
    assert_eq!(crm.remote.contacts().len(), 5);
}

#[test]
fn truncate_removes_everything() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 30);
    crm.converges();
    crm.run("TRUNCATE crm.contacts");
    crm.converges();
    assert!(crm.remote.contacts().is_empty());
}

#[test]
fn contact_that_hubspot_knows_already_is_adopted() {
    let mut crm = Crm::start();
    let id = crm
        .remote
        .create_record(
            ObjectType::Contact,
            &[("email", "ada@example.org"), ("city", "London")],
        )
        .unwrap();
    crm.add_contact("ada@example.org", false);
    crm.converges();
    let (adopted, fields) = crm.remote.contact("ada@example.org").unwrap();
    assert_eq!(
        (adopted, fields["city"].as_str()),
        (id, "London"),
        "what the CRM does not speak of stays"
    );
}

#[test]
fn many_changes_of_one_record_are_one_write() {
    let mut crm = Crm::start();
    crm.add_contact("ada@example.org", true);
    crm.converges();
    let before = crm.remote.stats().requests;
    crm.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    for number in 0..300 {
        crm.run(&format!(
            "UPDATE crm.contacts SET first_name = 'Ada {number}'"
        ));
    }
    crm.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
    crm.converges();
    let after = crm.remote.stats().requests;
    assert!(
        after - before <= 4,
        "{} requests for one record",
        after - before
    );
}

#[test]
fn batches_are_filled() {
    let mut crm = Crm::start();
    crm.converges();
    let before = crm.remote.requests_to(Service::HubSpot).len();
    crm.add_contacts(1, 2_000);
    crm.converges();
    let hubspot = crm.remote.requests_to(Service::HubSpot).len() - before;
    let mailchimp = crm
        .remote
        .requests_to(Service::Mailchimp)
        .iter()
        .filter(|request| request.method == "POST")
        .count();
    assert!(
        hubspot <= 24,
        "{hubspot} requests for 2,000 contacts: batches of 100 would be 20"
    );
    assert!(
        mailchimp <= 4,
        "{mailchimp} requests for 1,000 members: batches of 500 would be 2"
    );
}

#[test]
fn newer_never_loses_to_older() {
    let mut crm = Crm::start_on(
        Cluster::shared(),
        Config {
            delay_ms: 15,
            ..unlimited()
        },
    );
    crm.add_contacts(1, 50);
    for round in 0..60 {
        crm.run(&format!(
            "UPDATE crm.contacts SET phone = '{round}' WHERE id % 3 = {}",
            round % 3
        ));
    }
    crm.converges();
    assert_eq!(
        crm.remote.stats().overlaps,
        0,
        "one request in flight for a record"
    );
}

#[test]
fn late_commit_is_not_overlooked() {
    let mut crm = Crm::start();
    let mut late = crm.connect();
    late.batch_execute("BEGIN; INSERT INTO crm.contacts (email) VALUES ('late@example.org')")
        .unwrap();
    for number in 0..20 {
        crm.add_contact(&format!("early{number}@example.org"), true);
    }
    wait_until("the early ones have arrived", SOON, || {
        (crm.remote.contacts().len() == 20).then_some(())
    });
    late.batch_execute("COMMIT").unwrap();
    crm.converges();
    assert!(crm.remote.contact("late@example.org").is_some());
}

#[test]
fn open_snapshot_elsewhere_holds_nothing_up() {
    let mut crm = Crm::start();
    let mut reader = crm.connect();
    reader
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM crm.contacts")
        .unwrap();
    crm.add_contacts(1, 500);
    crm.converges();
    crm.run("UPDATE crm.contacts SET phone = '5'");
    crm.converges();
    reader.batch_execute("COMMIT").unwrap();
}

#[test]
fn rate_limit_is_kept_without_a_single_refusal() {
    let mut config = unlimited();
    config.hubspot.rate = Some(Rate {
        max: 12,
        interval_ms: 1_000,
    });
    let mut crm = Crm::untracked(Cluster::shared(), config);
    crm.set("hubspot_rate_limit", "12/1s");
    crm.track();
    crm.add_contacts(1, 4_000);
    crm.converges_within(LATER);
    let refused = crm
        .remote
        .requests_to(Service::HubSpot)
        .iter()
        .filter(|request| request.status == 429)
        .count();
    assert_eq!(refused, 0);
}

#[test]
fn rate_limit_that_was_not_announced_is_ridden_out() {
    let mut config = unlimited();
    config.hubspot.rate = Some(Rate {
        max: 10,
        interval_ms: 1_000,
    });
    let mut crm = Crm::start_on(Cluster::shared(), config);
    crm.add_contacts(1, 3_000);
    crm.converges_within(LATER);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
}

#[test]
fn only_changed_fields_of_a_linked_record_are_written() {
    let mut crm = Crm::start();
    crm.add_contact("ada@example.org", false);
    crm.converges();
    let (id, _) = crm.remote.contact("ada@example.org").unwrap();
    crm.remote.person_sets(id, "jobtitle", "Countess");
    crm.run("UPDATE crm.contacts SET phone = '+44 20 7946 0000'");
    crm.settle();
    let (_, fields) = crm.remote.contact("ada@example.org").unwrap();
    assert_eq!(
        (fields["phone"].as_str(), fields["jobtitle"].as_str()),
        ("+44 20 7946 0000", "Countess")
    );
}
