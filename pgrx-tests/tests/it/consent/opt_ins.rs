//! No opt-in, no mail; and who left at Mailchimp stays away.

use integration_tests::{
    crm::{Crm, LATER, SOON},
    remote::{Service, Status, path_secret},
    wait::wait_until,
};

#[test]
fn nobody_is_sent_without_consent() {
    let mut crm = Crm::start();
    crm.run(
        "INSERT INTO crm.contacts (email, marketing_opt_in) VALUES
         ('yes@example.org', true), ('no@example.org', false), ('unknown@example.org', NULL)",
    );
    crm.converges();
    let members: Vec<String> = crm
        .remote
        .members()
        .into_iter()
        .map(|member| member.email)
        .collect();
    assert_eq!(members, ["yes@example.org"]);
    let states =
        crm.rows("SELECT state FROM integration.sync_status('crm.contacts', '2') ORDER BY target");
    assert_eq!(states, ["synced", "no_consent"]);
}

#[test]
fn withdrawn_consent_unsubscribes_and_given_consent_subscribes() {
    let mut crm = Crm::start();
    let id = crm.add_contact("ada@example.org", true);
    crm.converges();
    crm.run(&format!(
        "UPDATE crm.contacts SET marketing_opt_in = false WHERE id = {id}"
    ));
    crm.converges();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Unsubscribed)
    );
    // Withdrawn and given again in the CRM: nobody but us unsubscribed her.
    crm.run(&format!(
        "UPDATE crm.contacts SET marketing_opt_in = true WHERE id = {id}"
    ));
    crm.converges();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Subscribed)
    );
}

#[test]
fn consent_that_comes_later_subscribes() {
    let mut crm = Crm::start();
    crm.add_contact("ada@example.org", false);
    crm.converges();
    assert!(crm.remote.members().is_empty());
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true");
    crm.converges();
    assert_eq!(
        crm.remote.status_of("ada@example.org"),
        Some(Status::Subscribed)
    );
}

#[test]
fn opt_out_overtakes_the_queue() {
    let mut crm = Crm::start();
    crm.add_contact("leaving@example.org", true);
    crm.converges();
    crm.remote.configure(|config| config.delay_ms = 150);
    crm.set("mailchimp_max_connections", "1");
    crm.add_contacts(1, 20_000);
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE email = 'leaving@example.org'");
    wait_until("the opt-out has arrived", SOON, || {
        (crm.remote.status_of("leaving@example.org") == Some(Status::Unsubscribed)).then_some(())
    });
    let subscribed = crm
        .remote
        .members()
        .iter()
        .filter(|member| member.status == Status::Subscribed)
        .count();
    assert!(
        subscribed < 10_000,
        "the queue was through before the opt-out"
    );
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.converges_within(LATER);
}

#[test]
fn who_unsubscribed_at_mailchimp_is_not_subscribed_again() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 10);
    crm.converges();
    crm.remote.person_unsubscribes("person4@example.org");
    let webhooks = crm.remote.webhooks_of(Service::Mailchimp);
    assert_eq!(webhooks.len(), 1);
    let (body, secret) = (&webhooks[0].body, path_secret(&webhooks[0]));
    let row = crm
        .client
        .query_one(
            "SELECT queued FROM integration.import_mailchimp_webhook($1, '{}', $2)",
            &[body, &secret],
        )
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    crm.settle();
    assert!(
        !crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 4"),
        "the CRM knows"
    );
    crm.run("UPDATE crm.contacts SET first_name = 'Later', phone = '1' WHERE id = 4");
    crm.converges();
    // Not even when the CRM says so: the person has to ask at Mailchimp.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true WHERE id = 4");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("person4@example.org"),
        Some(Status::Unsubscribed)
    );
}

#[test]
fn unsubscribe_that_no_webhook_told_us_sticks_too() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 10);
    crm.converges();
    crm.remote.person_unsubscribes("person6@example.org");
    crm.run("UPDATE crm.contacts SET last_name = 'Changed'");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("person6@example.org"),
        Some(Status::Unsubscribed)
    );
    let consent: bool = crm.ask("SELECT marketing_opt_in FROM crm.contacts WHERE id = 6");
    let letters: i64 = crm.ask("SELECT count(*) FROM integration.dlq WHERE record_key = '6' AND target = 'mailchimp' AND category = 'consent'");
    assert!(
        !consent || letters == 1,
        "neither the CRM nor the dead letters tell"
    );
    assert_eq!(
        crm.remote
            .member("person8@example.org")
            .unwrap()
            .merge_fields["LNAME"],
        "Changed",
        "the others go through"
    );
}

/// The row is locked for longer than the worker waits for it.
#[test]
fn refusal_reaches_a_row_that_somebody_holds_once_it_is_free() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 2);
    crm.converges();
    crm.remote.person_unsubscribes("person2@example.org");
    // So that the row is held before the answer is there.
    crm.remote.configure(|config| config.delay_ms = 500);
    crm.run("UPDATE crm.contacts SET last_name = 'Changed' WHERE id = 2");
    let mut holder = crm.connect();
    let mut held = holder.transaction().unwrap();
    held.execute("SELECT FROM crm.contacts WHERE id = 2 FOR UPDATE", &[])
        .unwrap();
    // Others do not wait for it.
    wait_until("Mailchimp has refused", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration.dlq WHERE category = 'consent')")
            .then_some(())
    });
    crm.add_contacts(3, 4);
    wait_until("others have arrived", SOON, || {
        crm.remote.member("person4@example.org").map(|_| ())
    });
    let told = "SELECT NOT marketing_opt_in FROM crm.contacts WHERE id = 2";
    assert!(!crm.ask::<bool>(told));
    held.rollback().unwrap();
    wait_until("the CRM is told", SOON, || {
        crm.ask::<bool>(told).then_some(())
    });
    crm.converges();
}

#[test]
fn cleaned_address_is_not_subscribed_again() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 4);
    crm.converges();
    crm.remote
        .member_does(
            "person2@example.org",
            integration_tests::remote::MemberAction::Clean,
        )
        .unwrap();
    crm.run("UPDATE crm.contacts SET first_name = 'Again'");
    crm.settle();
    assert_eq!(
        crm.remote.status_of("person2@example.org"),
        Some(Status::Cleaned)
    );
}

#[test]
fn forgotten_person_stays_forgotten() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 4);
    crm.converges();
    crm.remote
        .member_does(
            "person2@example.org",
            integration_tests::remote::MemberAction::DeletePermanently,
        )
        .unwrap();
    crm.run("UPDATE crm.contacts SET first_name = 'Again'");
    crm.settle();
    assert!(crm.remote.is_forgotten("person2@example.org"));
    assert_eq!(crm.remote.status_of("person2@example.org"), None);
    assert_eq!(
        crm.rows("SELECT record_key, category FROM integration.dlq"),
        ["2|consent"]
    );
}

#[test]
fn text_column_can_hold_consent() {
    let mut crm = Crm::start();
    crm.run(
        "ALTER TABLE crm.contacts ADD newsletter text;
         SELECT integration.map_field('crm.contacts', 'newsletter', 'mailchimp', 'status');
         INSERT INTO crm.contacts (email, newsletter) VALUES
         ('a@example.org', 'subscribed'), ('b@example.org', 'unsubscribed'), ('c@example.org', NULL), ('d@example.org', 'perhaps')",
    );
    crm.settle();
    let members: Vec<String> = crm
        .remote
        .members()
        .into_iter()
        .map(|member| member.email)
        .collect();
    assert_eq!(members, ["a@example.org"]);
}
