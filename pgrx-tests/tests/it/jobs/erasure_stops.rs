//! Whatever happens in between, who is to be erased is erased, and does not come back.

use std::sync::Arc;

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, LATER, SOON},
    remote::{Config, Fault, FaultBody, FaultKind, Service, When, unlimited},
    wait::{try_until, wait_until},
};

use crate::jobs::erasure::{
    EMAIL, ERASE, add_ada, erase, is_gone, others_are_served, wait_until_done, with_ada,
};

/// A server of its own, because its worker is killed; answers take their time.
fn slow(delay_ms: u64) -> Crm {
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = Crm::start_on(cluster, unlimited());
    add_ada(&mut crm);
    crm.add_contacts(2, 10);
    crm.converges();
    crm.remote
        .configure(|config: &mut Config| config.delay_ms = delay_ms);
    crm
}

fn requests(crm: &Crm, path: &str) -> usize {
    let all = crm.remote.requests();
    all.iter()
        .filter(|request| request.path.contains(path))
        .count()
}

fn finishes(crm: &mut Crm) {
    crm.remote.configure(|config| config.delay_ms = 0);
    let done =
        "SELECT NOT EXISTS (SELECT FROM integration.job WHERE kind = 'erase' AND state <> 'done')";
    wait_until("she is erased", LATER, || {
        crm.ask::<bool>(done).then_some(())
    });
    is_gone(crm);
    others_are_served(crm);
}

#[test]
fn killed_before_between_and_after_its_requests_it_goes_on() {
    let mut crm = slow(700);
    crm.run(ERASE);
    crm.kill_worker();
    wait_until("HubSpot has erased her, and not answered yet", SOON, || {
        crm.remote.contact(EMAIL).is_none().then_some(())
    });
    crm.kill_worker();
    wait_until("Mailchimp has been asked", SOON, || {
        (requests(&crm, "delete-permanent") > 0).then_some(())
    });
    crm.kill_worker();
    finishes(&mut crm);
}

#[test]
fn killed_while_her_creation_is_unanswered_she_is_erased_all_the_same() {
    let mut crm = Crm::start_on(Arc::new(Cluster::start(&[], &[])), unlimited());
    crm.remote.configure(|config| config.delay_ms = 1_000);
    add_ada(&mut crm);
    wait_until(
        "she has been created, which nobody knows here",
        SOON,
        || crm.remote.contact(EMAIL).map(drop),
    );
    crm.run(ERASE);
    crm.kill_worker();
    crm.remote.configure(|config| config.delay_ms = 0);
    wait_until("she is erased", LATER, || {
        crm.ask::<bool>(
            "SELECT EXISTS (SELECT FROM integration.job WHERE kind = 'erase' AND state = 'done')",
        )
        .then_some(())
    });
    crm.settle();
    is_gone(&mut crm);
}

#[test]
fn stopped_and_restarted_the_server_goes_on() {
    let mut crm = slow(0);
    crm.run("SELECT integration.pause('mailchimp')");
    crm.run(ERASE);
    wait_until("HubSpot is through", SOON, || {
        crm.remote.contact(EMAIL).is_none().then_some(())
    });
    crm.cluster.stop(Stop::Immediate);
    crm.cluster.launch();
    crm.client = try_until(SOON, || crm.cluster.try_connect(&crm.database).ok()).unwrap();
    crm.run("UPDATE crm.contacts SET phone = '+49 30 7777123 0' WHERE id = 1");
    crm.run("SELECT integration.resume('mailchimp')");
    finishes(&mut crm);
}

#[test]
fn in_flight_at_that_moment_she_is_erased_afterwards() {
    let mut crm = with_ada();
    for round in 0..3 {
        crm.remote.configure(|config| config.delay_ms = 300);
        crm.run(&format!(
            "UPDATE crm.contacts SET phone = '+49 30 7777123 {round}'"
        ));
        wait_until("it is on its way", SOON, || {
            crm.ask::<bool>("SELECT sum(in_flight) > 0 FROM integration.status")
                .then_some(())
        });
        let job: i64 = crm.ask(ERASE);
        // And one more change behind it.
        crm.run("UPDATE crm.contacts SET job_title = 'Countess' WHERE id = 1");
        crm.remote.configure(|config| config.delay_ms = 0);
        wait_until_done(&mut crm, job);
        crm.settle();
        is_gone(&mut crm);
    }
}

#[test]
fn lost_answers_and_failing_services_are_asked_again() {
    let mut crm = with_ada();
    for (kind, path) in [
        (FaultKind::AnswerLost, "gdpr-delete"),
        (FaultKind::AnswerLost, "delete-permanent"),
        (FaultKind::Html, "gdpr-delete"),
        (FaultKind::Html, "delete-permanent"),
        (status(503), "gdpr-delete"),
        (status(500), "delete-permanent"),
        (FaultKind::Reset, "gdpr-delete"),
        (FaultKind::Reset, "delete-permanent"),
        (status(423), "gdpr-delete"),
    ] {
        crm.remote
            .add_fault(Fault::new(kind, When::NextN(1)).path(path));
    }
    erase(&mut crm);
    is_gone(&mut crm);
    others_are_served(&mut crm);
}

const fn status(code: u16) -> FaultKind {
    FaultKind::Status {
        code,
        body: FaultBody::Json,
        retry_after: None,
    }
}

#[test]
fn throttled_it_waits_for_retry_after() {
    let mut crm = with_ada();
    for (code, path) in [(429, "gdpr-delete"), (429, "delete-permanent")] {
        let kind = FaultKind::Status {
            code,
            body: FaultBody::Json,
            retry_after: Some(1),
        };
        crm.remote
            .add_fault(Fault::new(kind, When::NextN(1)).path(path));
    }
    erase(&mut crm);
    is_gone(&mut crm);
}

/// What the job says it waits for.
fn waits_for(crm: &mut Crm, what: &str) {
    let said =
        "SELECT state || ': ' || coalesce(error, '') FROM integration.job WHERE kind = 'erase'";
    let last = try_until(SOON, || {
        let said: String = crm.ask(said);
        (said.starts_with("paused: ") && said.contains(what)).then_some(())
    });
    assert!(last.is_some(), "{what}: {}", crm.ask::<String>(said));
}

#[test]
fn a_refused_credential_and_a_pause_are_waited_for_and_named() {
    let mut crm = with_ada();
    crm.run("SELECT integration.pause('mailchimp', 'lunch')");
    crm.remote
        .configure(|config| config.hubspot.token = Some("another".to_owned()));
    let job: i64 = crm.ask(ERASE);
    waits_for(&mut crm, "hubspot is unauthorized");
    waits_for(&mut crm, "mailchimp is paused: lunch");
    assert_eq!(
        crm.rows(
            "SELECT target, state FROM integration.sync_status('crm.contacts', '1') ORDER BY 1"
        ),
        ["hubspot|erasing", "mailchimp|erasing"]
    );
    assert!(!crm.ask::<bool>("SELECT integration.wait_idle('100ms')"));
    assert!(crm.ask::<bool>("SELECT bool_and(pending > 0) FROM integration.status"));
    let token = crm.secrets.hubspot.clone();
    crm.remote
        .configure(|config| config.hubspot.token = Some(token));
    crm.run("SELECT * FROM integration.test_connection('hubspot')");
    wait_until("HubSpot is through", SOON, || {
        crm.remote.contact(EMAIL).is_none().then_some(())
    });
    // Whatever changes in the meantime is not sent to the one that is through.
    crm.run("UPDATE crm.contacts SET phone = '+49 30 7777123 5' WHERE id = 1");
    waits_for(&mut crm, "mailchimp is paused: lunch");
    assert!(!crm.ask::<bool>("SELECT integration.wait_idle('100ms', 'mailchimp')"));
    crm.run("SELECT integration.resume('mailchimp')");
    wait_until_done(&mut crm, job);
    crm.settle();
    is_gone(&mut crm);
}

#[test]
fn a_refusal_is_named_and_tried_again_and_nobody_else_waits_for_it() {
    let mut crm = with_ada();
    let forbidden = r#"{"status":"error","category":"MISSING_SCOPES","message":"This app hasn't been granted all required scopes"}"#;
    let refusal = |code, path: &str, said: &str| {
        let kind = FaultKind::Status {
            code,
            body: FaultBody::Text(said.to_owned()),
            retry_after: None,
        };
        Fault::new(kind, When::UntilCleared).path(path)
    };
    crm.remote.add_fault(refusal(403, "gdpr-delete", forbidden));
    crm.remote.add_fault(refusal(
        400,
        "delete-permanent",
        r#"{"title":"Bad Request","detail":"not today"}"#,
    ));
    let job: i64 = crm.ask(ERASE);
    waits_for(&mut crm, "lacks a scope");
    waits_for(&mut crm, "not today");
    others_are_served_with_ada(&mut crm);
    crm.remote.clear_faults();
    wait_until_done(&mut crm, job);
    is_gone(&mut crm);
}

fn others_are_served_with_ada(crm: &mut Crm) {
    crm.run("UPDATE crm.contacts SET phone = '+49 30 111'");
    crm.settle();
    let (_, other) = crm.remote.contact("person2@example.org").unwrap();
    assert_eq!(other["phone"], "+49 30 111");
    let (_, ada) = crm.remote.contact(EMAIL).unwrap();
    assert_eq!(
        ada["phone"], "+49 30 7777123",
        "nothing is sent for her any more"
    );
    let states = crm.rows("SELECT DISTINCT state FROM integration.status");
    assert_eq!(states, ["running"]);
}

#[test]
fn erasures_do_not_wait_for_a_backfill() {
    let mut crm = slow(0);
    crm.run("SET session_replication_role = replica");
    crm.add_contacts(100, 3_000);
    crm.run("RESET session_replication_role");
    crm.remote.configure(|config| config.delay_ms = 100);
    crm.set("hubspot_rate_limit", "10/1s");
    crm.run("SELECT integration.backfill('crm.contacts')");
    wait_until("it is under way", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration.job WHERE kind = 'backfill' AND state = 'running')").then_some(())
    });
    let job: i64 = crm.ask(ERASE);
    wait_until_done(&mut crm, job);
    let open = "SELECT state IN ('running', 'paused') FROM integration.job WHERE kind = 'backfill'";
    assert!(crm.ask::<bool>(open), "the backfill was over first");
    assert_eq!(crm.remote.contact(EMAIL), None);
}

#[test]
fn rows_that_somebody_holds_do_not_stop_the_worker() {
    let mut crm = with_ada();
    crm.remote.add_fault(
        Fault::new(status(400), When::NextN(1))
            .service(Service::HubSpot)
            .path("contacts"),
    );
    crm.run("UPDATE crm.contacts SET phone = '+49 30 7777123 1' WHERE id = 1");
    crm.settle();
    let mut other = crm.connect();
    let mut open = other.transaction().unwrap();
    open.execute("UPDATE integration.dlq SET attempts = attempts + 1", &[])
        .unwrap();
    let worker = crm.worker_pid();
    let job: i64 = crm.ask(ERASE);
    waits_for(&mut crm, "lock timeout");
    others_are_served_with_ada_untouched(&mut crm);
    assert_eq!(crm.worker_pid(), worker, "it goes on");
    open.rollback().unwrap();
    wait_until_done(&mut crm, job);
    is_gone(&mut crm);
}

fn others_are_served_with_ada_untouched(crm: &mut Crm) {
    crm.run("UPDATE crm.contacts SET phone = '+49 30 222' WHERE id = 2");
    wait_until("others are served", LATER, || {
        let (_, other) = crm.remote.contact("person2@example.org")?;
        (other["phone"] == "+49 30 222").then_some(())
    });
}
