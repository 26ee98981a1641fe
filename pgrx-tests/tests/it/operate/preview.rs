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

/// Asked in a transaction that may not write, and has no number afterwards.
#[track_caller]
fn preview(crm: &mut Crm, target: &str, id: i64) -> Value {
    preview_of(crm, "crm.contacts", target, id)
}

#[track_caller]
fn preview_of(crm: &mut Crm, table: &str, target: &str, id: i64) -> Value {
    crm.run("BEGIN READ ONLY");
    let told = crm.ask(&format!(
        "SELECT request FROM integration.preview('{table}', '{id}') WHERE target = '{target}'"
    ));
    let untouched: bool = crm.ask("SELECT pg_current_xact_id_if_assigned() IS NULL");
    assert!(untouched, "looking writes nothing");
    crm.run("COMMIT");
    told
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

/// A row that was opted out, and noted for it, is opted in again: the note is out of date.
#[test]
fn note_that_is_out_of_date_is_left_to_the_worker() {
    let mut crm = Crm::start();
    let id = crm.add_contact(ADA, true);
    crm.settle();
    let other = crm.add_contact("Ada@example.org", false);
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Unsubscribed));
    crm.run(PAUSE);
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true");
    let told = preview(&mut crm, "mailchimp", id);
    assert_eq!(told["body"]["status"], "subscribed", "{told}");
    let told = preview(&mut crm, "mailchimp", other);
    assert_eq!(told["dead_letter"], "conflict", "{told}");
    let noted = "SELECT count(*) FROM integration._objection WHERE opted_out";
    assert_eq!(crm.ask::<i64>(noted), 1);
    crm.run("SELECT integration.resume('mailchimp')");
    wait_until("they are subscribed again", SOON, || {
        (crm.remote.status_of(ADA) == Some(Status::Subscribed)).then_some(())
    });
    crm.settle();
    assert_eq!(crm.ask::<i64>(noted), 0);
}

/// Rows in every state at both targets, one after the other.
#[test]
fn nothing_is_written_in_any_state() {
    let mut crm = Crm::start();
    let known = crm.add_contact(ADA, true);
    let out = crm.add_contact("out@example.org", true);
    let (first, second) = (
        crm.add_contact("one@example.org", true),
        crm.add_contact("two@example.org", true),
    );
    let gone = crm.add_contact("gone@example.org", true);
    crm.converges();
    for target in ["hubspot", "mailchimp"] {
        let told = preview(&mut crm, target, known);
        assert!(
            told["nothing"]
                .as_str()
                .unwrap()
                .contains("holds this state"),
            "{told}"
        );
        assert_eq!(told.get("waits"), None, "{told}");
        crm.run(&format!("SELECT integration.pause('{target}', 'to look')"));
    }
    crm.run(&format!(
        "UPDATE crm.contacts SET marketing_opt_in = false WHERE id = {out};
         UPDATE crm.contacts SET email = 'both@example.org' WHERE id = {first};
         UPDATE crm.contacts SET email = 'one@example.org' WHERE id = {second};
         UPDATE crm.contacts SET email = 'two@example.org' WHERE id = {first};
         DELETE FROM crm.contacts WHERE id = {gone}"
    ));
    let new = crm.add_contact("new@example.org", true);
    let heir = crm.add_contact("gone@example.org", true);
    let shy = crm.add_contact("shy@example.org", false);
    let wrong = crm.add_contact("no address", true);
    let told: Vec<Value> = ["hubspot", "mailchimp"]
        .into_iter()
        .flat_map(|target| {
            [known, out, first, second, gone, new, heir, shy, wrong].map(|id| (target, id))
        })
        .map(|(target, id)| preview(&mut crm, target, id))
        .collect();
    assert!(
        told.iter()
            .all(|told| told["waits"].as_str().unwrap().contains("paused: to look")),
        "{told:#?}"
    );
    let of = |what: &str| told.iter().filter(|told| told.get(what).is_some()).count();
    assert!(
        of("method") >= 7 && of("nothing") >= 2 && of("dead_letter") >= 1,
        "{told:#?}"
    );
}

#[test]
fn outage_that_the_worker_has_told_of_is_named() {
    let mut crm = Crm::start();
    crm.remote.go_down(Service::HubSpot);
    let id = crm.add_contact(ADA, true);
    wait_until("the outage shows", SOON, || {
        (crm.rows("SELECT state FROM integration.status WHERE target = 'hubspot'") == ["outage"])
            .then_some(())
    });
    let told = preview(&mut crm, "hubspot", id);
    let why = told["waits"].as_str().unwrap();
    assert!(why.starts_with("hubspot is outage: "), "{told}");
    assert!(told["body"].to_string().contains(ADA), "{told}");
    let told = preview(&mut crm, "mailchimp", id);
    assert_eq!(told.get("waits"), None, "{told}");
}

#[test]
fn what_the_credential_may_not_do_is_foretold() {
    const WRITE: &str = "crm.objects.companies.write";
    let mut crm = Crm::start();
    crm.remote
        .configure(|config| config.hubspot.scopes.retain(|known| known != WRITE));
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('One', 'one.example.org')");
    let letters = "SELECT count(*) FROM integration.dlq WHERE category = 'permission'";
    wait_until("it is given up on", SOON, || {
        (crm.ask::<i64>(letters) == 1).then_some(())
    });
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Two', 'two.example.org')");
    crm.settle();
    let told = preview_of(&mut crm, "crm.companies", "hubspot", 2);
    assert_eq!(told["dead_letter"], "permission", "{told}");
    assert!(told["why"].as_str().unwrap().contains(WRITE), "{told}");
    assert!(told["notes"][0].as_str().unwrap().contains(WRITE), "{told}");
    assert_eq!(crm.ask::<i64>(letters), 2, "as the worker does");
}
