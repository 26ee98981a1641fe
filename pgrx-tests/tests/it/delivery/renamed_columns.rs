//! Columns are followed by number: through renames, dumps and payload views.

use super::columns::{becomes, import, in_step, states};
use crate::safety::copies::restored_copy;
use integration_tests::{
    crm::{Crm, SOON},
    remote::{Service, Status},
    wait::wait_until,
};

#[test]
fn names_that_change_places_are_not_mixed_up() {
    let mut crm = in_step();
    crm.run(
        "ALTER TABLE crm.contacts RENAME COLUMN first_name TO spare;
         ALTER TABLE crm.contacts RENAME COLUMN last_name TO first_name;
         ALTER TABLE crm.contacts RENAME COLUMN spare TO last_name;
         UPDATE crm.contacts SET last_name = 'Given', first_name = 'Family' WHERE id = 2",
    );
    crm.settle();
    let (_, fields) = crm.remote.contact("person2@example.org").unwrap();
    assert_eq!(
        (&fields["firstname"], &fields["lastname"]),
        (&"Given".to_owned(), &"Family".to_owned())
    );
}

#[test]
fn lines_that_a_restore_brings_in_late_are_found_by_name() {
    let mut crm = in_step();
    let numbers = "SELECT column_name, remote_field, attnum, table_attnum FROM integration.field_map ORDER BY source, field";
    let before = crm.rows(numbers);
    // The table's own line is known to belong here already.
    crm.run(
        "UPDATE integration.field_map SET attnum = attnum % 5 + 2, table_attnum = table_attnum % 5 + 2, numbered_in = 'elsewhere';
         SELECT integration._follow_columns()",
    );
    assert_eq!(crm.rows(numbers), before);
}

#[test]
fn a_restored_dump_finds_its_columns_under_other_numbers() {
    let mut original = Crm::untracked(
        integration_tests::cluster::Cluster::shared(),
        integration_tests::remote::unlimited(),
    );
    // What was dropped takes a number here, and none in the copy.
    original.run(
        "ALTER TABLE crm.contacts DROP COLUMN email, ADD email text;
         ALTER TABLE crm.contacts DROP COLUMN marketing_opt_in, ADD marketing_opt_in boolean",
    );
    original.track();
    original.add_contacts(1, 4);
    original.converges();
    original.run("ALTER TABLE crm.contacts RENAME COLUMN job_title TO position");
    original.run("UPDATE crm.contacts SET first_name = 'Known'");
    original.settle();
    let mut copy = restored_copy(&mut original);
    original.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    copy.run("SELECT integration.adopt()");
    copy.run("UPDATE crm.contacts SET last_name = 'Copied', position = 'Chief' WHERE id = 2; UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 4");
    wait_until("the copy sends what its columns hold", SOON, || {
        let (_, fields) = copy.remote.contact("person2@example.org")?;
        let opted_out = copy.remote.status_of("person4@example.org") == Some(Status::Unsubscribed);
        (fields["lastname"] == "Copied" && fields["jobtitle"] == "Chief" && opted_out).then_some(())
    });
    assert_eq!(
        copy.rows("SELECT count(*) FROM integration.field_map m JOIN integration.tracked_table t USING (source) JOIN pg_attribute a ON a.attrelid = t.source AND a.attnum = m.attnum WHERE a.attname <> m.column_name"),
        ["0"]
    );
}

#[test]
fn consent_is_followed_through_a_rename() {
    let mut crm = in_step();
    let pid = crm.worker_pid();
    crm.run("ALTER TABLE crm.contacts RENAME COLUMN marketing_opt_in TO may_write");
    crm.run("UPDATE crm.contacts SET may_write = false WHERE id = 2");
    wait_until("an opt-out is sent", SOON, || {
        (crm.remote.status_of("person2@example.org") == Some(Status::Unsubscribed)).then_some(())
    });
    crm.remote.person_unsubscribes("person4@example.org");
    import(&mut crm, Service::Mailchimp);
    wait_until("an opt-out comes in", SOON, || {
        (!crm.ask::<bool>("SELECT may_write FROM crm.contacts WHERE id = 4")).then_some(())
    });
    assert_eq!(
        crm.rows("SELECT column_name FROM integration.field_map WHERE remote_field = 'status'"),
        ["may_write"],
        "people see the new name"
    );
    crm.run("ALTER TABLE crm.contacts RENAME COLUMN may_write TO marketing_opt_in");
    crm.converges();
    assert_eq!(crm.worker_pid(), pid);
}

#[test]
fn keys_fields_and_associations_are_followed_through_renames() {
    let mut crm = Crm::start();
    crm.run(
        "ALTER TABLE crm.contacts ADD company_id bigint REFERENCES crm.companies;
         SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies');
         INSERT INTO crm.companies (name, domain) VALUES ('One', 'one.example'), ('Two', 'two.example')",
    );
    crm.add_contacts(1, 4);
    crm.converges();
    crm.run(
        "ALTER TABLE crm.contacts RENAME COLUMN id TO contact_no;
         ALTER TABLE crm.contacts RENAME COLUMN first_name TO given_name;
         ALTER TABLE crm.contacts RENAME COLUMN company_id TO employer;
         ALTER TABLE crm.companies RENAME COLUMN id TO company_no;
         UPDATE crm.contacts SET given_name = 'Renamed', employer = 2 WHERE contact_no = 3;
         DELETE FROM crm.contacts WHERE contact_no = 4",
    );
    crm.settle();
    assert_eq!(
        crm.remote.contact("person3@example.org").unwrap().1["firstname"],
        "Renamed"
    );
    assert_eq!(
        crm.rows("SELECT record_key, column_name, to_key, state FROM integration.association"),
        ["3|employer|2|agreed"]
    );
    assert!(crm.remote.contact("person4@example.org").is_none());
    let (id, _) = crm.remote.contact("person2@example.org").unwrap();
    crm.remote.person_sets(id, "firstname", "Augusta");
    import(&mut crm, Service::HubSpot);
    wait_until("a change there comes into the renamed column", SOON, || {
        let held: String = crm.ask("SELECT given_name FROM crm.contacts WHERE contact_no = 2");
        (held == "Augusta").then_some(())
    });
    crm.run(
        "ALTER TABLE crm.contacts RENAME COLUMN contact_no TO id;
         ALTER TABLE crm.contacts RENAME COLUMN given_name TO first_name;
         ALTER TABLE crm.companies RENAME COLUMN company_no TO id",
    );
    crm.converges();
}

#[test]
fn a_payload_view_is_followed() {
    let mut crm = Crm::untracked(
        integration_tests::cluster::Cluster::shared(),
        integration_tests::remote::unlimited(),
    );
    crm.run(
        "CREATE VIEW crm.shown AS SELECT id, email, upper(first_name) AS first_name, marketing_opt_in FROM crm.contacts;
         SELECT integration.track('crm.companies', 'company');
         SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown');
         SELECT integration.provision('hubspot')",
    );
    crm.add_contacts(1, 2);
    let first_name = |crm: &Crm, email: &str| {
        let found = crm.remote.contact(email)?;
        found.1.get("firstname").cloned()
    };
    wait_until("it is read", SOON, || {
        (first_name(&crm, "person2@example.org")? == "FIRST 2").then_some(())
    });
    crm.run(
        "CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, lower(first_name) AS first_name, marketing_opt_in FROM crm.contacts;
         ALTER VIEW crm.shown RENAME COLUMN first_name TO given_name;
         ALTER VIEW crm.shown RENAME TO displayed;
         ALTER TABLE crm.contacts RENAME COLUMN id TO contact_no;
         UPDATE crm.contacts SET notes = 'x'",
    );
    wait_until("it is read as it is now", SOON, || {
        (first_name(&crm, "person2@example.org")? == "first 2").then_some(())
    });
    crm.run("DROP VIEW crm.displayed");
    crm.run("UPDATE crm.contacts SET first_name = 'Ada'");
    becomes(&mut crm, &["hubspot|held", "mailchimp|held"]);
    crm.run(
        "CREATE VIEW crm.displayed AS SELECT contact_no, email, first_name AS given_name, marketing_opt_in FROM crm.contacts;
         SELECT integration.track('crm.contacts', 'contact', payload => 'crm.displayed')",
    );
    wait_until("it goes on", SOON, || {
        (first_name(&crm, "person2@example.org")? == "Ada").then_some(())
    });
    assert_eq!(states(&mut crm), ["hubspot|running", "mailchimp|running"]);
}
