//! preview() says what the worker does: both plan by the same code.

use integration_tests::{
    crm::{Crm, SOON},
    remote::{MemberAction, Service, Status, path_secret},
    sql::quote_literal,
    wait::wait_until,
};
use serde_json::Value;

use crate::jobs::erasure;

const ADA: &str = "ada@example.org";
const PAUSE: &str = "SELECT integration.pause('mailchimp', 'to look')";

fn preview(crm: &mut Crm, target: &str, id: i64) -> Value {
    crm.ask(&format!(
        "SELECT request FROM integration.preview('crm.contacts', '{id}') WHERE target = '{target}'"
    ))
}

/// Mailchimp is paused: a dead letter is foretold, and it is the one that comes once it goes on.
#[track_caller]
fn is_refused(crm: &mut Crm, id: i64, category: &str, says: &str) {
    let before = crm.remote.subscribed().len();
    let told = preview(crm, "mailchimp", id);
    assert_eq!(told["dead_letter"], category, "{told}");
    let why = told["why"].as_str().unwrap().to_owned();
    assert!(why.contains(says), "{why}");
    assert!(
        told["waits"].as_str().unwrap().contains("paused: to look"),
        "{told}"
    );
    assert_eq!(told.get("body"), None, "{told}");
    let letters = format!(
        "SELECT category || ': ' || error FROM integration.dlq WHERE target = 'mailchimp' AND record_key = '{id}'"
    );
    assert!(crm.rows(&letters).is_empty(), "looking writes nothing");
    crm.run("SELECT integration.resume('mailchimp')");
    wait_until("the worker says so, too", SOON, || {
        (crm.rows(&letters) == [format!("{category}: {why}")]).then_some(())
    });
    assert_eq!(crm.remote.subscribed().len(), before);
}

#[test]
fn who_left_is_not_shown_as_subscribed_again() {
    let mut crm = Crm::start();
    crm.add_contact(ADA, true);
    crm.converges();
    crm.remote.clear_webhooks();
    crm.remote
        .member_does(ADA, MemberAction::Unsubscribe { abuse: false })
        .unwrap();
    for delivery in crm.remote.webhooks_of(Service::Mailchimp) {
        let secret = path_secret(&delivery).to_owned();
        crm.run(&format!(
            "SELECT integration.import_mailchimp_webhook({}, '{{}}', {})",
            quote_literal(&delivery.body),
            quote_literal(&secret)
        ));
    }
    crm.settle();
    crm.run("DELETE FROM crm.contacts");
    crm.settle();
    crm.run(PAUSE);
    let id = crm.add_contact(ADA, true);
    is_refused(&mut crm, id, "consent", "unsubscribed by themselves");
}

#[test]
fn address_of_another_row_is_not_shown_as_sent() {
    let mut crm = Crm::start();
    crm.add_contact(ADA, true);
    crm.settle();
    crm.run(PAUSE);
    let id = crm.add_contact("Ada@example.org", true);
    is_refused(&mut crm, id, "conflict", "records 2 and 1 of crm.contacts");
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Subscribed));
}

#[test]
fn opt_out_of_another_row_is_heeded() {
    let mut crm = Crm::start();
    crm.run("CREATE INDEX ON crm.contacts (lower(email))");
    let out = crm.add_contact("Ada@example.org", false);
    crm.settle();
    crm.run(PAUSE);
    let id = crm.add_contact(ADA, true);
    let says = format!("record {out}, which has the same e-mail address");
    preview(&mut crm, "mailchimp", id);
    let noted = "SELECT count(*) FROM integration._objection";
    assert_eq!(crm.ask::<i64>(noted), 0, "looking notes nothing");
    is_refused(&mut crm, id, "conflict", &says);
}

#[test]
fn who_was_erased_is_withheld() {
    let mut crm = erasure::with_ada();
    erasure::erase(&mut crm);
    crm.run(
        "UPDATE crm.contacts SET email = 'ada@example.org', marketing_opt_in = true WHERE id = 1",
    );
    for target in ["hubspot", "mailchimp"] {
        let told = preview(&mut crm, target, 1);
        assert!(
            told["nothing"].as_str().unwrap().contains("it was erased"),
            "{told}"
        );
    }
}

#[test]
fn held_table_and_paused_target_are_named() {
    let mut crm = Crm::start();
    let id = crm.add_contact(ADA, true);
    crm.converges();
    crm.run("SELECT integration.pause('hubspot', 'to look')");
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta'");
    let told = preview(&mut crm, "hubspot", id);
    assert!(told["body"].to_string().contains("Augusta"), "{told}");
    assert_eq!(told["waits"], "hubspot is paused: to look");
    crm.run("ALTER TABLE crm.contacts DROP COLUMN marketing_opt_in");
    let held = "SELECT state FROM integration.table_status WHERE source = 'crm.contacts'::regclass AND target = 'mailchimp'";
    wait_until("the table is held", SOON, || {
        (crm.rows(held) == ["held"]).then_some(())
    });
    let told = preview(&mut crm, "mailchimp", id);
    let why = told["waits"].as_str().unwrap();
    assert!(why.starts_with("crm.contacts is held: "), "{told}");
    assert!(why.contains("marketing_opt_in"), "{told}");
    let told = preview(&mut crm, "hubspot", id);
    assert_eq!(told["waits"], "hubspot is paused: to look");
    assert!(told["body"].to_string().contains("Augusta"), "{told}");
}
