//! What somebody holds in the CRM delays only what is about it, and nothing of it is lost.

use crate::inbound::webhooks::import;
use integration_tests::{
    crm::{Crm, SOON},
    remote::{Delivery, MemberAction, ObjectType, Service},
    wait::{later, try_until, wait_until},
};
use postgres::Client;
use std::time::Duration;

/// What is promised to take a second at most, on a busy machine.
pub const A_SECOND: Duration = Duration::from_secs(3);

/// Ten contacts and a company on both sides, the even contacts opted in, and no webhooks waiting.
pub fn in_step() -> Crm {
    let mut crm = Crm::start();
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Acme', 'acme.example')");
    crm.add_contacts(1, 12);
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

/// A person in HubSpot sets a property of a contact; the webhook of that.
pub fn changed_in_hubspot(crm: &mut Crm, contact: u32, property: &str, value: &str) -> Delivery {
    let email = format!("person{contact}@example.org");
    let (id, _) = crm.remote.contact(&email).unwrap();
    crm.remote.clear_webhooks();
    crm.remote.person_sets(id, property, value);
    crm.remote.webhooks_of(Service::HubSpot).remove(0)
}

pub fn unsubscribed(crm: &mut Crm, contact: u32) -> Delivery {
    crm.remote.clear_webhooks();
    let email = format!("person{contact}@example.org");
    crm.remote.person_unsubscribes(&email);
    crm.remote.webhooks_of(Service::Mailchimp).remove(0)
}

/// A session in the middle of a transaction that did this.
pub fn holding(crm: &Crm, sql: &str) -> Client {
    let mut client = crm.connect();
    client.batch_execute(&format!("BEGIN; {sql}")).unwrap();
    client
}

pub fn hold_contact(crm: &Crm, id: u32) -> Client {
    holding(
        crm,
        &format!("SELECT FROM crm.contacts WHERE id = {id} FOR UPDATE"),
    )
}

#[track_caller]
pub fn soon(crm: &mut Crm, what: &str, within: Duration, sql: &str) {
    if try_until(within, || crm.ask::<bool>(sql).then_some(())).is_none() {
        panic!("waited in vain until {what}\n{}", crm.report());
    }
}

pub const RETRYING: &str = "SELECT sum(inbox_retrying)::int4 FROM integration.status";

#[test]
fn events_of_a_row_that_is_held_wait_for_it_and_nothing_else_does() {
    let mut crm = in_step();
    let pid = crm.worker_pid();
    let mut holder = hold_contact(&crm, 4);
    let webhooks = [
        unsubscribed(&mut crm, 4),
        changed_in_hubspot(&mut crm, 4, "phone", "+49 4"),
    ];
    for webhook in &webhooks {
        import(&mut crm, webhook);
    }
    soon(
        &mut crm,
        "both have been refused",
        SOON,
        "SELECT count(*) = 2 FROM integration.inbox WHERE state = 'pending' AND attempts > 0 AND not_before IS NOT NULL",
    );
    // Others are not delayed by that, neither what comes nor what goes.
    let other = unsubscribed(&mut crm, 6);
    import(&mut crm, &other);
    soon(
        &mut crm,
        "another opt-out is written down",
        A_SECOND,
        "SELECT NOT marketing_opt_in FROM crm.contacts WHERE id = 6",
    );
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 8");
    wait_until("another opt-out has left", A_SECOND, || {
        let member = crm.remote.member("person8@example.org")?;
        (member.status == integration_tests::remote::Status::Unsubscribed).then_some(())
    });
    // That goes on for much longer than anybody would wait for a lock.
    soon(
        &mut crm,
        "both have been tried several times",
        SOON,
        "SELECT bool_and(attempts >= 4) FROM integration.inbox WHERE state = 'pending'",
    );
    assert_eq!(crm.ask::<i32>(RETRYING), 2, "{}", crm.report());
    assert_eq!(
        crm.ask::<i32>("SELECT sum(inbox_failed)::int4 FROM integration.status"),
        0
    );
    holder.batch_execute("COMMIT").unwrap();
    crm.settle();
    assert_eq!(
        crm.rows("SELECT marketing_opt_in, phone FROM crm.contacts WHERE id = 4"),
        ["f|+49 4"],
        "{}",
        crm.report()
    );
    let states = crm.rows("SELECT DISTINCT state FROM integration.inbox");
    assert_eq!(states, ["applied"], "{}", crm.report());
    soon(
        &mut crm,
        "nothing waits any more",
        SOON,
        "SELECT sum(inbox_retrying + inbox_pending) = 0 FROM integration.status",
    );
    assert_eq!(crm.worker_pid(), pid);
    crm.converges();
}

#[test]
fn table_under_an_exclusive_lock_delays_events_of_no_other() {
    let mut crm = in_step();
    let pid = crm.worker_pid();
    let mut holder = holding(&crm, "LOCK TABLE crm.contacts IN ACCESS EXCLUSIVE MODE");
    let contacts: Vec<Delivery> = (1..=5)
        .map(|contact| changed_in_hubspot(&mut crm, contact, "phone", "+49 5"))
        .collect();
    for webhook in contacts.iter().chain([&unsubscribed(&mut crm, 6)]) {
        import(&mut crm, webhook);
    }
    let company = crm.ask::<String>(
        "SELECT remote_id FROM integration.link WHERE target = 'hubspot' AND source = 'crm.companies'::regclass",
    );
    crm.remote.clear_webhooks();
    let id = company.parse().unwrap();
    crm.remote
        .set_property(ObjectType::Company, id, "city", "Berlin")
        .unwrap();
    let company = crm.remote.webhooks_of(Service::HubSpot).remove(0);
    import(&mut crm, &company);
    soon(
        &mut crm,
        "the event of another table is applied",
        A_SECOND,
        "SELECT city IS NOT DISTINCT FROM 'Berlin' FROM crm.companies",
    );
    soon(
        &mut crm,
        "the others have been tried more than once",
        SOON,
        "SELECT count(*) = 6 AND bool_and(attempts >= 2) FROM integration.inbox WHERE state = 'pending'",
    );
    assert_eq!(crm.worker_pid(), pid, "{}", crm.report());
    holder.batch_execute("COMMIT").unwrap();
    crm.settle();
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM crm.contacts WHERE phone = '+49 5'"),
        5
    );
    assert!(!crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 6"));
    assert_eq!(crm.worker_pid(), pid);
    crm.converges();
}

/// Shown by a row that the worker has just written, while it comes upon ten that others hold.
#[test]
fn nobody_waits_for_a_row_that_the_worker_wrote_while_it_looks_at_others() {
    let mut crm = in_step();
    let mut holder = holding(
        &crm,
        "SELECT FROM crm.contacts WHERE id <= 10 ORDER BY id FOR UPDATE",
    );
    let first = changed_in_hubspot(&mut crm, 11, "phone", "+49 11");
    let held: Vec<Delivery> = (1..=10)
        .map(|contact| changed_in_hubspot(&mut crm, contact, "phone", "+49 10"))
        .collect();
    crm.run("BEGIN");
    for webhook in std::iter::once(&first).chain(&held) {
        import(&mut crm, webhook);
    }
    crm.run("COMMIT");
    soon(
        &mut crm,
        "the worker has written it",
        SOON,
        "SELECT phone = '+49 11' FROM crm.contacts WHERE id = 11",
    );
    // A statement that waits for longer than that fails.
    let patience = A_SECOND.as_millis();
    crm.run(&format!(
        "SET lock_timeout = {patience}; UPDATE crm.contacts SET job_title = 'Countess' WHERE id = 11; RESET lock_timeout"
    ));
    soon(
        &mut crm,
        "all ten have been refused",
        SOON,
        "SELECT count(*) = 10 AND bool_and(attempts >= 2) FROM integration.inbox WHERE state = 'pending'",
    );
    let another = unsubscribed(&mut crm, 12);
    import(&mut crm, &another);
    soon(
        &mut crm,
        "an opt-out is written down",
        A_SECOND,
        "SELECT NOT marketing_opt_in FROM crm.contacts WHERE id = 12",
    );
    holder.batch_execute("COMMIT").unwrap();
    crm.settle();
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM crm.contacts WHERE phone = '+49 10'"),
        10
    );
    crm.converges();
}

/// Otherwise the second would meet nobody under the new address, and be lost.
#[test]
fn later_event_of_a_record_waits_for_an_earlier_one_that_says_who_it_is() {
    let mut crm = in_step();
    let mut holder = hold_contact(&crm, 4);
    for action in [
        MemberAction::ChangeEmail {
            new_email: "augusta@example.org".to_owned(),
        },
        MemberAction::Profile {
            merge_fields: [("FNAME".to_owned(), "Augusta".into())].into(),
        },
    ] {
        let email = match action {
            MemberAction::Profile { .. } => "augusta@example.org",
            _ => "person4@example.org",
        };
        crm.remote.member_does(email, action).unwrap();
    }
    let webhooks = crm.remote.webhooks_of(Service::Mailchimp);
    assert!(webhooks.len() >= 2);
    for (seconds, webhook) in (0..).zip(&webhooks) {
        let later = fired_later(webhook, seconds);
        import(&mut crm, &later);
    }
    soon(
        &mut crm,
        "the first has been refused more than once",
        SOON,
        "SELECT max(attempts) >= 2 AND count(*) >= 2 FROM integration.inbox WHERE state = 'pending'",
    );
    // Whoever works next knows what waits for what.
    crm.run("SELECT integration.reload()");
    soon(
        &mut crm,
        "the next worker has tried",
        SOON,
        "SELECT max(attempts) >= 4 AND count(*) >= 2 FROM integration.inbox WHERE state = 'pending'",
    );
    holder.batch_execute("COMMIT").unwrap();
    crm.settle();
    assert_eq!(
        crm.rows("SELECT email, first_name FROM crm.contacts WHERE id = 4"),
        ["augusta@example.org|Augusta"],
        "{}",
        crm.report()
    );
}

/// After all that the CRM did: Mailchimp's clock has whole seconds.
fn fired_later(webhook: &Delivery, seconds: u64) -> Delivery {
    let mut webhook = webhook.clone();
    let fired_at = webhook
        .body
        .split('&')
        .find(|pair| pair.starts_with("fired_at="))
        .unwrap()
        .to_owned();
    let later = format!("fired_at={}", later(seconds).replace(' ', "+"));
    webhook.body = webhook.body.replace(&fired_at, &later);
    webhook
}

/// Whoever looks at the inbox in a transaction that stays open holds its rows, too.
#[test]
fn rows_of_the_inbox_that_are_held_stop_nothing() {
    let mut crm = in_step();
    let pid = crm.worker_pid();
    let mut row = hold_contact(&crm, 4);
    let waits = changed_in_hubspot(&mut crm, 4, "phone", "+49 4");
    import(&mut crm, &waits);
    soon(
        &mut crm,
        "it has been refused",
        SOON,
        "SELECT attempts > 0 FROM integration.inbox",
    );
    let mut holder = holding(&crm, "SELECT integration.inbox_retry()");
    row.batch_execute("COMMIT").unwrap();
    let other = changed_in_hubspot(&mut crm, 5, "phone", "+49 5");
    import(&mut crm, &other);
    soon(
        &mut crm,
        "another one is applied",
        A_SECOND,
        "SELECT phone = '+49 5' FROM crm.contacts WHERE id = 5",
    );
    holder.batch_execute("COMMIT").unwrap();
    crm.settle();
    assert_eq!(
        crm.ask::<String>("SELECT phone FROM crm.contacts WHERE id = 4"),
        "+49 4"
    );
    assert_eq!(crm.worker_pid(), pid, "{}", crm.report());
}
