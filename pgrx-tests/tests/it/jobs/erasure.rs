//! Who is erased is gone: at both services, here, and for as long as nobody allows them again.

use std::time::Duration;

use integration_tests::{
    crm::{Crm, SOON},
    remote::{Fault, FaultBody, FaultKind, MemberAction, Service, When, mandrill_webhook},
    sql::quote_literal,
    traces::traces,
    wait::{holds_for, wait_until},
};
use serde_json::json;

use crate::inbound::webhooks::import;

pub const EMAIL: &str = "ada.byron@example.org";

/// All that must not be left of her. What is kept on purpose are the key and the address's hash.
pub const HER: [&str; 4] = [EMAIL, "Augusta Ada", "Byron-King", "7777123"];

pub const ERASE: &str = "SELECT integration.erase('crm.contacts', '1')";

/// Ada is contact 1, opted in, and there are nine others.
pub fn with_ada() -> Crm {
    let mut crm = Crm::start();
    add_ada(&mut crm);
    crm.add_contacts(2, 10);
    crm.converges();
    crm
}

pub fn add_ada(crm: &mut Crm) {
    crm.run(
        "INSERT INTO crm.contacts (email, first_name, last_name, phone, marketing_opt_in)
         VALUES ('Ada.Byron@Example.org', 'Augusta Ada', 'Byron-King', '+49 30 7777123', true)",
    );
}

/// Asks for her erasure and waits until it is over; the job's remark.
#[track_caller]
pub fn erase(crm: &mut Crm) -> String {
    let job: i64 = crm.ask(ERASE);
    wait_until_done(crm, job);
    crm.rows(&format!(
        "SELECT coalesce(error, '') FROM integration.job WHERE id = {job}"
    ))
    .remove(0)
}

#[track_caller]
pub fn wait_until_done(crm: &mut Crm, job: i64) {
    let state = format!("SELECT state FROM integration.job WHERE id = {job}");
    wait_until("she is erased", SOON, || {
        (crm.ask::<String>(&state) == "done").then_some(())
    });
}

/// Nothing of her is left, there or here.
#[track_caller]
pub fn is_gone(crm: &mut Crm) {
    assert_eq!(crm.remote.contact(EMAIL), None);
    assert!(crm.remote.is_forgotten(EMAIL));
    assert_eq!(traces(&mut crm.client, &HER), Vec::<String>::new());
    for table in ["_link", "dlq", "_retry", "activity", "drift", "_erasure"] {
        let left = format!(
            "SELECT count(*) FROM integration.{table} x WHERE record_key = '1' AND EXISTS (SELECT FROM integration.tracked_table t
             WHERE t.source = 'crm.contacts'::regclass AND x.source::text IN (t.id::text, t.source::text))"
        );
        assert_eq!(crm.ask::<i64>(&left), 0, "{table}");
    }
    let hash = "SELECT md5('ada.byron@example.org')";
    let hash: String = crm.ask(hash);
    let kept: Vec<String> = traces(&mut crm.client, &[&hash])
        .iter()
        .map(|trace| trace.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        kept,
        [
            "integration._withheld.name",
            "integration.consent_log.subscriber_hash",
            "integration.suppression.subscriber_hash"
        ]
    );
    assert_eq!(
        crm.rows("SELECT to_status, reason FROM integration.consent_log WHERE record_key = '1'"),
        ["forgotten|erased"]
    );
}

/// Others go on as if nothing had been.
#[track_caller]
pub fn others_are_served(crm: &mut Crm) {
    crm.run("UPDATE crm.contacts SET phone = '+49 30 4242' WHERE id > 1");
    crm.settle();
    let (_, bob) = crm.remote.contact("person2@example.org").unwrap();
    assert_eq!(bob["phone"], "+49 30 4242");
    let member = crm.remote.member("person2@example.org").unwrap();
    assert_eq!(member.merge_fields["PHONE"], "+49 30 4242");
    assert_eq!(crm.remote.contacts().len(), 9);
}

fn mandrill(crm: &mut Crm, kind: &str) {
    const URL: &str = "https://crm.example.com/webhooks/mandrill";
    let event = json!([{"event": kind, "_id": "m1", "ts": 1_795_428_900, "ip": "192.0.2.7",
        "msg": {"_id": "m1", "email": EMAIL, "subject": "Hello Augusta Ada"}}]);
    let (body, signature) = mandrill_webhook("mandrill-key-example", URL, &event);
    crm.run(&format!(
        "SELECT integration.import_mandrill_webhook({}, jsonb_build_object('X-Mandrill-Signature', {}), '{URL}')",
        quote_literal(&body),
        quote_literal(&signature)
    ));
    crm.settle();
}

/// Traces of her in every table that can hold some.
fn leave_traces(crm: &mut Crm) {
    crm.set("mandrill_webhook_key", "mandrill-key-example");
    let (id, _) = crm.remote.contact(EMAIL).unwrap();
    crm.remote.clear_webhooks();
    crm.remote
        .person_sets(id, "jobtitle", "Byron-King's countess");
    crm.remote
        .member_does(
            EMAIL,
            MemberAction::Profile {
                merge_fields: [("FNAME".to_owned(), json!("Augusta Ada"))].into(),
            },
        )
        .unwrap();
    for webhook in crm.remote.take_webhooks() {
        import(crm, &webhook);
    }
    mandrill(crm, "open");
    // Refusals that quote her values, as dead letters and in the request log.
    let said = r#"{"status":"error","category":"VALIDATION_ERROR","message":"+49 30 7777123 is no phone number of Augusta Ada Byron-King, ada.byron@example.org"}"#;
    let refuse = Fault::new(
        FaultKind::Status {
            code: 400,
            body: FaultBody::Text(said.to_owned()),
            retry_after: None,
        },
        When::UntilCleared,
    );
    crm.remote
        .add_fault(refuse.service(Service::HubSpot).path("contacts"));
    crm.run("UPDATE crm.contacts SET company = 'Engines' WHERE id = 1");
    crm.settle();
    crm.remote.clear_faults();
    // Another row that collides with hers: its dead letter names her address.
    crm.run(
        "INSERT INTO crm.contacts (email, first_name) VALUES ('ada.byron@example.org', 'Twin')",
    );
    crm.settle();
    crm.run("UPDATE crm.contacts SET email = 'twin@example.org' WHERE first_name = 'Twin'");
    crm.settle();
    crm.run("DELETE FROM crm.contacts WHERE first_name = 'Twin'");
    crm.settle();
    // A comparison, a backfill with a filter, a pause.
    crm.remote.person_sets(id, "phone", "+1 7777123");
    crm.run("SELECT integration.reconcile('crm.contacts')");
    crm.run("SELECT integration.wait_idle('20s')");
    crm.run("SELECT integration.backfill('crm.contacts', filter => 'email = ''ada.byron@example.org''')");
    crm.run("SELECT integration.wait_idle('20s')");
    // A change of address goes by the hash of the old one.
    crm.run("UPDATE crm.contacts SET email = 'ada.b@example.org' WHERE id = 1");
    crm.settle();
    crm.run("UPDATE crm.contacts SET email = 'Ada.Byron@example.org' WHERE id = 1");
    crm.settle();
    for table in ["dlq", "inbox", "drift", "request_log", "job", "_link"] {
        let found = traces(&mut crm.client, &HER);
        let of_table = |trace: &String| trace.starts_with(&format!("integration.{table}."));
        assert!(
            found.iter().any(of_table),
            "{table} holds nothing of her:\n{}",
            found.join("\n")
        );
    }
    assert!(
        crm.ask::<bool>("SELECT count(*) > 0 FROM integration.activity WHERE record_key = '1'")
    );
}

#[test]
fn nothing_of_a_person_is_left_at_the_services_or_here() {
    let mut crm = with_ada();
    leave_traces(&mut crm);
    assert_eq!(erase(&mut crm), "");
    is_gone(&mut crm);
    assert_eq!(
        crm.rows(
            "SELECT target, state FROM integration.sync_status('crm.contacts', '1') ORDER BY 1"
        ),
        ["hubspot|withheld", "mailchimp|withheld"]
    );
    // The CRM's own row is the CRM's.
    assert_eq!(
        crm.ask::<String>("SELECT first_name FROM crm.contacts WHERE id = 1"),
        "Augusta Ada"
    );
    others_are_served(&mut crm);
    is_gone(&mut crm);
}

#[test]
fn what_the_services_tell_afterwards_is_not_kept() {
    let mut crm = with_ada();
    let (id, _) = crm.remote.contact(EMAIL).unwrap();
    crm.remote.clear_webhooks();
    crm.remote.person_sets(id, "lastname", "Byron-King");
    crm.remote.person_sets(id, "email", "ada.byron@example.org");
    crm.remote.person_sets(id, "firstname", "Augusta Ada");
    crm.remote.person_sets(id, "jobtitle", "Augusta Ada's");
    let mut late = crm.remote.take_webhooks();
    crm.run("CREATE INDEX ON crm.contacts (lower(email))");
    erase(&mut crm);
    late.extend(crm.remote.take_webhooks());
    // A person who asked to be erased signs up, leaves, and is written to all the same.
    let subscribe = MemberAction::Subscribe {
        merge_fields: [("FNAME".to_owned(), json!("Augusta Ada"))].into(),
    };
    crm.remote.member_does(EMAIL, subscribe).unwrap();
    crm.remote.person_unsubscribes(EMAIL);
    late.extend(crm.remote.take_webhooks());
    assert!(late.len() >= 4, "{late:?}");
    for webhook in &late {
        import(&mut crm, webhook);
    }
    crm.set("mandrill_webhook_key", "mandrill-key-example");
    mandrill(&mut crm, "hard_bounce");
    crm.settle();
    assert_eq!(traces(&mut crm.client, &HER), Vec::<String>::new());
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.activity"),
        0
    );
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration._link WHERE record_key = '1'"),
        0
    );
}

#[test]
fn later_changes_backfills_and_comparisons_do_not_bring_a_person_back() {
    let mut crm = with_ada();
    erase(&mut crm);
    let before = (
        crm.remote.writes_to(Service::HubSpot),
        crm.remote.writes_to(Service::Mailchimp),
    );
    crm.run(
        "UPDATE crm.contacts SET phone = '+49 30 7777123 9', marketing_opt_in = false WHERE id = 1",
    );
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true, email = 'ada.byron@example.org' WHERE id = 1");
    crm.settle();
    crm.run("SELECT integration.backfill('crm.contacts')");
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('30s')"));
    crm.run("SELECT integration.reconcile('crm.contacts', repair => true)");
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('30s')"));
    crm.run("SELECT integration.dlq_retry()");
    crm.settle();
    assert_eq!(
        crm.rows("SELECT kind, record_key FROM integration.drift"),
        Vec::<String>::new(),
        "who was erased is not missing"
    );
    holds_for("nothing is sent", Duration::from_millis(500), || {
        (
            crm.remote.writes_to(Service::HubSpot),
            crm.remote.writes_to(Service::Mailchimp),
        ) == before
    });
    is_gone(&mut crm);
    crm.run("SELECT integration.reload()");
    crm.run("UPDATE crm.contacts SET job_title = 'Analyst' WHERE id = 1");
    crm.settle();
    is_gone(&mut crm);
    let says = crm.rows(
        "SELECT request->>'nothing' IS NOT NULL FROM integration.preview('crm.contacts', '1')",
    );
    assert_eq!(says, ["t", "t"]);
}

#[test]
fn allowed_again_a_person_is_refused_by_the_services_and_people_can_see_why() {
    let mut crm = with_ada();
    erase(&mut crm);
    assert!(crm.ask::<bool>("SELECT integration.allow_again('crm.contacts', '1')"));
    crm.settle();
    // One attempt each, and no loop: HubSpot keeps the address out, Mailchimp the person.
    assert_eq!(
        crm.rows("SELECT target, category FROM integration.dlq WHERE record_key = '1' ORDER BY 1"),
        ["hubspot|validation", "mailchimp|consent"]
    );
    assert_eq!(
        crm.rows(
            "SELECT target, state FROM integration.sync_status('crm.contacts', '1') ORDER BY 1"
        ),
        ["hubspot|dead", "mailchimp|no_consent"]
    );
    let before = crm.remote.stats().requests;
    holds_for("nobody tries again", Duration::from_millis(500), || {
        crm.remote.stats().requests == before
    });
    assert!(!crm.ask::<bool>("SELECT integration.allow_again('crm.contacts', '1')"));
    // With another address it is a contact again.
    crm.run("UPDATE crm.contacts SET email = 'lovelace@example.org' WHERE id = 1");
    crm.settle();
    assert!(crm.remote.contact("lovelace@example.org").is_some());
}

#[test]
fn another_row_with_the_address_does_not_bring_a_person_back_to_mailchimp() {
    let mut crm = with_ada();
    erase(&mut crm);
    let before = crm.remote.writes_to(Service::Mailchimp);
    crm.run("DELETE FROM crm.contacts WHERE id = 1");
    crm.run(
        "INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('Ada.Byron@Example.org', true)",
    );
    crm.settle();
    assert_eq!(
        crm.rows("SELECT category FROM integration.dlq WHERE target = 'mailchimp'"),
        ["consent"]
    );
    let says = "SELECT marketing_opt_in FROM crm.contacts WHERE email = 'Ada.Byron@Example.org'";
    assert!(!crm.ask::<bool>(says));
    assert_eq!(crm.remote.writes_to(Service::Mailchimp), before);
}

#[test]
fn the_first_in_a_row_with_a_company_leaves_its_associations_behind() {
    let mut crm = Crm::start();
    crm.run("ALTER TABLE crm.contacts ADD company_id bigint; SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies')");
    crm.run("INSERT INTO crm.companies (name, domain) VALUES ('Engines', 'engines.example')");
    add_ada(&mut crm);
    crm.run("UPDATE crm.contacts SET company_id = 1");
    crm.settle();
    assert!(!crm.remote.associations().is_empty());
    erase(&mut crm);
    crm.settle();
    is_gone(&mut crm);
    assert!(crm.remote.associations().is_empty());
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration._association"),
        0
    );
    crm.run("UPDATE crm.contacts SET company_id = NULL; UPDATE crm.contacts SET company_id = 1");
    crm.settle();
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration._association"),
        0
    );
}

#[test]
fn asked_twice_it_is_one_job_and_done_once_more_it_does_no_harm() {
    let mut crm = with_ada();
    crm.run("SELECT integration.pause('mailchimp', 'lunch')");
    let first: i64 = crm.ask(ERASE);
    let second: i64 = crm.ask(ERASE);
    assert_eq!(first, second);
    crm.run("SELECT integration.resume('mailchimp')");
    wait_until_done(&mut crm, first);
    erase(&mut crm);
    is_gone(&mut crm);
}
