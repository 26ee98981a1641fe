//! Columns that are dropped or given another type.

use crate::inbound::webhooks;
use integration_tests::{
    crm::{Crm, SOON},
    remote::{Service, Status},
    wait::wait_until,
};

/// Ten contacts on both sides, the even ones opted in.
pub fn in_step() -> Crm {
    let mut crm = Crm::start();
    crm.add_contacts(1, 10);
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

/// Tables and columns that open alerts of a kind are about.
pub fn alerts(crm: &mut Crm, kind: &str) -> Vec<String> {
    crm.rows(&format!(
        "SELECT target, subject FROM integration.alert WHERE kind = '{kind}' AND cleared_at IS NULL ORDER BY 1, 2"
    ))
}

pub fn states(crm: &mut Crm) -> Vec<String> {
    crm.rows("SELECT target, state FROM integration.table_status WHERE source = 'crm.contacts'::regclass ORDER BY 1")
}

/// A change makes the worker look.
pub fn touch(crm: &mut Crm) {
    crm.run("INSERT INTO crm.companies (name) VALUES ('Touched')");
}

#[track_caller]
pub fn becomes(crm: &mut Crm, wanted: &[&str]) {
    wait_until("the table's state shows", SOON, || {
        (states(crm) == wanted).then_some(())
    });
}

/// The target's reason names what is wrong.
#[track_caller]
pub fn says(crm: &mut Crm, target: &str, text: &str) {
    let sql =
        format!("SELECT coalesce(reason, '') FROM integration.status WHERE target = '{target}'");
    wait_until("the reason says it", SOON, || {
        crm.ask::<String>(&sql).contains(text).then_some(())
    });
}

/// Brings the webhooks that wait into the CRM.
pub fn import(crm: &mut Crm, service: Service) {
    for webhook in crm.remote.webhooks_of(service) {
        webhooks::import(crm, &webhook);
    }
}

#[test]
fn without_its_consent_column_a_table_is_held_for_mailchimp() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts DROP COLUMN marketing_opt_in");
    crm.run("UPDATE crm.contacts SET first_name = 'Still' WHERE id = 2");
    becomes(&mut crm, &["hubspot|running", "mailchimp|held"]);
    assert_eq!(alerts(&mut crm, "held_table"), ["mailchimp|crm.contacts"]);
    says(&mut crm, "mailchimp", "column marketing_opt_in was dropped");
    says(&mut crm, "mailchimp", "map_field");
    wait_until("HubSpot goes on", SOON, || {
        let (_, fields) = crm.remote.contact("person2@example.org").unwrap();
        (fields["firstname"] == "Still").then_some(())
    });
    assert_eq!(
        crm.remote.status_of("person2@example.org"),
        Some(Status::Subscribed),
        "nobody is taken to have opted out"
    );
    crm.run(
        "ALTER TABLE crm.contacts ADD marketing_opt_in boolean;
         UPDATE crm.contacts SET marketing_opt_in = id % 2 = 0;
         SELECT integration.map_field('crm.contacts', 'marketing_opt_in', 'mailchimp', 'status')",
    );
    becomes(&mut crm, &["hubspot|running", "mailchimp|running"]);
    crm.converges();
    assert_eq!(alerts(&mut crm, "held_table"), [""; 0]);
}

#[test]
fn an_opt_out_waits_while_its_table_is_held() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts DROP COLUMN marketing_opt_in");
    touch(&mut crm);
    becomes(&mut crm, &["hubspot|running", "mailchimp|held"]);
    crm.remote.person_unsubscribes("person4@example.org");
    import(&mut crm, Service::Mailchimp);
    wait_until("the event is put off", SOON, || {
        crm.ask::<bool>("SELECT state = 'pending' AND attempts > 0 AND detail ~ 'is held' FROM integration.inbox")
            .then_some(())
    });
    crm.run(
        "ALTER TABLE crm.contacts ADD marketing_opt_in boolean;
         UPDATE crm.contacts SET marketing_opt_in = id % 2 = 0;
         SELECT integration.map_field('crm.contacts', 'marketing_opt_in', 'mailchimp', 'status');
         SELECT integration.inbox_retry()",
    );
    wait_until("the opt-out comes in", SOON, || {
        (!crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 4")).then_some(())
    });
    assert_eq!(
        crm.remote.status_of("person4@example.org"),
        Some(Status::Unsubscribed)
    );
    crm.converges();
}

#[test]
fn a_consent_column_that_no_longer_says_it_holds_the_table() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts ALTER marketing_opt_in TYPE integer USING marketing_opt_in::integer");
    crm.run("UPDATE crm.contacts SET marketing_opt_in = 0 WHERE id = 2");
    becomes(&mut crm, &["hubspot|running", "mailchimp|held"]);
    assert_eq!(
        crm.remote.status_of("person2@example.org"),
        Some(Status::Subscribed)
    );
    crm.run("ALTER TABLE crm.contacts ALTER marketing_opt_in TYPE boolean USING marketing_opt_in::boolean");
    touch(&mut crm);
    becomes(&mut crm, &["hubspot|running", "mailchimp|running"]);
    crm.converges();
}

#[test]
fn without_its_key_a_table_is_held_and_the_others_go_on() {
    let mut crm = in_step();
    let pid = crm.worker_pid();
    crm.run("ALTER TABLE crm.contacts ALTER id DROP IDENTITY; ALTER TABLE crm.contacts ALTER id TYPE numeric(12, 2)");
    touch(&mut crm);
    becomes(&mut crm, &["hubspot|held", "mailchimp|held"]);
    says(
        &mut crm,
        "hubspot",
        "the type of key column id was changed to numeric(12,2)",
    );
    crm.run("ALTER TABLE crm.contacts ALTER id TYPE integer");
    touch(&mut crm);
    becomes(&mut crm, &["hubspot|running", "mailchimp|running"]);
    crm.run("UPDATE crm.contacts SET first_name = 'Kept' WHERE id = 2");
    crm.converges();
    crm.run("ALTER TABLE crm.contacts DROP COLUMN id");
    touch(&mut crm);
    becomes(&mut crm, &["hubspot|held", "mailchimp|held"]);
    wait_until("companies go on", SOON, || {
        (crm.remote.companies().len() == 3).then_some(())
    });
    assert_eq!(crm.remote.contacts().len(), 10, "nobody was deleted");
    assert_eq!(crm.worker_pid(), pid);
}

#[test]
fn a_field_whose_column_is_dropped_is_left_out() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts DROP COLUMN job_title, DROP COLUMN phone");
    crm.run("UPDATE crm.contacts SET first_name = 'Still' WHERE id = 2");
    wait_until("it is said", SOON, || {
        (alerts(&mut crm, "left_out")
            == [
                "hubspot|crm.contacts.job_title",
                "hubspot|crm.contacts.phone",
                "mailchimp|crm.contacts.phone",
            ])
        .then_some(())
    });
    assert_eq!(states(&mut crm), ["hubspot|running", "mailchimp|running"]);
    says(
        &mut crm,
        "hubspot",
        "column phone was dropped: phone is left out",
    );
    wait_until("the others are sent", SOON, || {
        let (_, fields) = crm.remote.contact("person2@example.org").unwrap();
        (fields["firstname"] == "Still").then_some(())
    });
    let (_, fields) = crm.remote.contact("person2@example.org").unwrap();
    assert_eq!(fields["phone"], "+49 30 100002", "it stays what it was");
    crm.run(
        "ALTER TABLE crm.contacts ADD phone text, ADD job_title text;
         UPDATE crm.contacts SET phone = '+49 40 ' || id;
         SELECT integration.map_field('crm.contacts', 'phone', 'hubspot', 'phone'),
                integration.map_field('crm.contacts', 'phone', 'mailchimp', 'PHONE'),
                integration.map_field('crm.contacts', 'job_title', 'hubspot', 'jobtitle');
         SELECT integration.backfill('crm.contacts')",
    );
    assert!(crm.ask::<bool>("SELECT integration.wait_idle()"));
    crm.converges();
    assert_eq!(alerts(&mut crm, "left_out"), [""; 0]);
}

#[test]
fn an_association_whose_column_is_dropped_is_left_out() {
    let mut crm = Crm::start();
    crm.run(
        "ALTER TABLE crm.contacts ADD company_id bigint REFERENCES crm.companies;
         SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies')",
    );
    crm.add_contacts(1, 4);
    crm.converges();
    crm.run("ALTER TABLE crm.contacts DROP COLUMN company_id");
    crm.run("UPDATE crm.contacts SET first_name = 'Still' WHERE id = 2");
    crm.converges();
    assert_eq!(
        alerts(&mut crm, "left_out"),
        ["hubspot|crm.contacts.company_id"]
    );
    crm.run("SELECT integration.unmap_association('crm.contacts', 'company_id')");
    crm.settle();
    wait_until("it is no longer said", SOON, || {
        alerts(&mut crm, "left_out").is_empty().then_some(())
    });
}

#[test]
fn a_disabled_trigger_is_named() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts DISABLE TRIGGER USER");
    touch(&mut crm);
    wait_until("it is said", SOON, || {
        (alerts(&mut crm, "left_out") == ["hubspot|crm.contacts", "mailchimp|crm.contacts"])
            .then_some(())
    });
    says(
        &mut crm,
        "hubspot",
        "trigger integration_row of crm.contacts is disabled",
    );
    crm.run("ALTER TABLE crm.contacts ENABLE TRIGGER USER");
    touch(&mut crm);
    wait_until("it is no longer said", SOON, || {
        alerts(&mut crm, "left_out").is_empty().then_some(())
    });
}
