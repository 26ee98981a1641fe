//! One table is held; all others go on, and nothing of it is lost.

use integration_tests::{
    crm::{Crm, SOON},
    wait::wait_until,
};

/// Contacts are read through a view, which is dropped.
fn hold_contacts(crm: &mut Crm) {
    crm.run("DROP VIEW crm.shown; INSERT INTO crm.companies (name) VALUES ('Touched')");
    wait_until("it shows", SOON, || {
        let shown = crm.rows("SELECT DISTINCT subject FROM integration.alert WHERE kind = 'held_table' AND cleared_at IS NULL");
        (shown == ["crm.contacts"]).then_some(())
    });
}

fn through_a_view(crm: &mut Crm) {
    crm.run(
        "CREATE VIEW crm.shown AS SELECT * FROM crm.contacts;
         SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown')",
    );
}

#[test]
fn a_held_table_waits_and_the_others_go_on() {
    let mut crm = Crm::start();
    through_a_view(&mut crm);
    crm.add_contacts(1, 20);
    crm.converges();
    hold_contacts(&mut crm);
    crm.add_contacts(21, 2_500);
    crm.run("UPDATE crm.contacts SET first_name = 'Held' WHERE id <= 20");
    crm.run("INSERT INTO crm.companies (name, domain) SELECT 'Company ' || i, 'c' || i || '.example' FROM generate_series(1, 20) i");
    wait_until("companies go on", SOON, || {
        (crm.remote.companies().len() == 21).then_some(())
    });
    let line = crm
        .rows("SELECT state, reason FROM integration.status WHERE target = 'hubspot'")
        .remove(0);
    assert!(
        line.starts_with("running|crm.contacts is held: its payload view was dropped"),
        "{line}"
    );
    assert_eq!(
        crm.rows("SELECT target, state FROM integration.table_status WHERE source = 'crm.contacts'::regclass ORDER BY 1"),
        ["hubspot|held", "mailchimp|held"]
    );
    assert_eq!(
        crm.remote.contacts().len(),
        20,
        "nothing of the held table leaves"
    );
    through_a_view(&mut crm);
    crm.converges();
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.alert WHERE cleared_at IS NULL"),
        0
    );
}

#[test]
fn what_waits_is_there_after_a_restart() {
    let mut crm = Crm::start();
    through_a_view(&mut crm);
    crm.add_contacts(1, 5);
    crm.converges();
    hold_contacts(&mut crm);
    crm.add_contacts(6, 55);
    crm.run("SELECT integration.reload()");
    crm.run("INSERT INTO crm.companies (name) VALUES ('Next')");
    wait_until("the other table goes on", SOON, || {
        (crm.remote.companies().len() == 2).then_some(())
    });
    assert_eq!(crm.remote.contacts().len(), 5);
    assert_eq!(
        crm.rows("SELECT target, state FROM integration.status ORDER BY 1"),
        ["hubspot|running", "mailchimp|held"],
        "no table is left that may be sent to Mailchimp"
    );
    through_a_view(&mut crm);
    crm.converges();
}

#[test]
fn a_dropped_table_harms_nobody() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 5);
    crm.converges();
    crm.run("BEGIN; UPDATE crm.companies SET name = name; DROP TABLE crm.companies; COMMIT");
    crm.add_contacts(6, 10);
    wait_until("it is said", SOON, || {
        let told = crm.rows("SELECT reason FROM integration.table_status WHERE state = 'held'");
        (told.len() == 1 && told[0].starts_with("the table was dropped")).then_some(())
    });
    wait_until("the other table goes on", SOON, || {
        (crm.remote.contacts().len() == 10).then_some(())
    });
}
