//! Trouble with the services is ridden out: nothing lost, nothing twice, nothing dead.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Fault, FaultBody, FaultKind, Service, When, unlimited},
    wait::wait_until,
};

/// Six hundred contacts go through while requests to either service fail in one way.
#[track_caller]
fn rides_out(kind: FaultKind, when: When) {
    let mut crm = Crm::start();
    // Trouble may hit one record many times in a row; that is not what these tests are about.
    crm.set("max_attempts", "100");
    let fault = crm.remote.add_fault(Fault::new(kind, when));
    crm.add_contacts(1, 600);
    crm.run("UPDATE crm.contacts SET phone = phone || ' 1' WHERE id % 3 = 0; DELETE FROM crm.contacts WHERE id % 50 = 0");
    crm.add_contacts(601, 650);
    crm.converges_within(LATER);
    let fault = crm
        .remote
        .faults()
        .into_iter()
        .find(|active| active.id == fault)
        .unwrap();
    assert!(fault.hit > 0, "the fault never struck");
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
}

/// One request in `k`, irregularly: a record that is left alone needs the same few calls in each
/// attempt, and with every k-th call failing the same one of them could fail for ever.
fn one_in(k: u32) -> When {
    When::Probability {
        p: 1.0 / f64::from(k),
        seed: 7,
    }
}

fn status(code: u16, body: FaultBody, retry_after: Option<u32>) -> FaultKind {
    FaultKind::Status {
        code,
        body,
        retry_after,
    }
}

#[test]
fn server_errors_are_ridden_out() {
    rides_out(status(500, FaultBody::Json, None), one_in(3));
}

#[test]
fn gateway_errors_in_html_are_ridden_out() {
    rides_out(status(502, FaultBody::Html, None), one_in(3));
}

#[test]
fn cloud_front_errors_without_a_body_are_ridden_out() {
    rides_out(status(524, FaultBody::Empty, None), one_in(4));
}

#[test]
fn too_many_requests_are_ridden_out() {
    rides_out(status(429, FaultBody::Json, Some(1)), When::NextN(3));
}

#[test]
fn locked_records_are_ridden_out() {
    rides_out(status(423, FaultBody::Json, None), When::NextN(2));
}

#[test]
fn reset_connections_are_ridden_out() {
    rides_out(FaultKind::Reset, one_in(3));
}

#[test]
fn lost_answers_duplicate_nothing() {
    rides_out(FaultKind::AnswerLost, one_in(2));
}

#[test]
fn truncated_answers_duplicate_nothing() {
    rides_out(FaultKind::Truncate, one_in(3));
}

#[test]
fn pages_of_html_are_not_taken_for_success() {
    rides_out(FaultKind::Html, one_in(3));
}

#[test]
fn text_that_is_no_json_is_not_taken_for_success() {
    rides_out(
        status(200, FaultBody::Text("OK".to_owned()), None),
        one_in(3),
    );
}

#[test]
fn trouble_at_random_is_ridden_out() {
    rides_out(FaultKind::AnswerLost, When::Probability { p: 0.3, seed: 7 });
}

#[test]
fn no_answer_in_time_is_ridden_out() {
    let mut crm = Crm::start();
    crm.set("request_timeout", "300ms");
    crm.set("mailchimp_request_timeout", "300ms");
    crm.remote
        .add_fault(Fault::new(FaultKind::Delay { ms: 900 }, When::NextN(3)));
    crm.add_contacts(1, 300);
    crm.converges_within(LATER);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
}

#[test]
fn lost_answer_to_a_create_makes_no_duplicate() {
    let mut crm = Crm::start();
    for service in [Service::HubSpot, Service::Mailchimp] {
        crm.remote.add_fault(
            Fault::new(FaultKind::AnswerLost, When::NextN(2))
                .service(service)
                .method("POST"),
        );
    }
    crm.add_contacts(1, 40);
    crm.run("INSERT INTO crm.companies (name, domain) SELECT 'Company ' || n, 'c' || n || '.example.org' FROM generate_series(1, 40) n");
    crm.converges();
    assert_eq!(
        (crm.remote.contacts().len(), crm.remote.companies().len()),
        (40, 40)
    );
}

#[test]
fn outage_pauses_the_target_and_kills_no_record() {
    let mut crm = Crm::start();
    crm.set("max_attempts", "3");
    crm.remote.go_down(Service::HubSpot);
    crm.add_contacts(1, 300);
    wait_until("the outage shows", SOON, || {
        (crm.rows("SELECT state FROM integration.status WHERE target = 'hubspot'") == ["outage"])
            .then_some(())
    });
    // The other service goes on meanwhile, and writers notice nothing.
    wait_until("Mailchimp has its members", SOON, || {
        (crm.remote.members().len() == 150).then_some(())
    });
    crm.run("UPDATE crm.contacts SET phone = '7'");
    let alerts: i64 = crm.ask("SELECT count(*) FROM integration.alert WHERE kind = 'outage' AND target = 'hubspot' AND cleared_at IS NULL");
    assert_eq!(alerts, 1);
    crm.remote.come_up(Service::HubSpot).unwrap();
    crm.converges();
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    wait_until("it runs again", SOON, || {
        (crm.rows("SELECT state FROM integration.status WHERE target = 'hubspot'") == ["running"])
            .then_some(())
    });
    let alerts: i64 = crm.ask("SELECT count(*) FROM integration.alert WHERE cleared_at IS NULL");
    assert_eq!(alerts, 0);
}

#[test]
fn refused_credential_pauses_the_target_until_it_works_again() {
    let mut crm = Crm::start();
    crm.remote
        .configure(|config| config.hubspot.token = Some("pat-another".to_owned()));
    crm.add_contacts(1, 250);
    wait_until("the refusal shows", SOON, || {
        (crm.rows("SELECT state FROM integration.status WHERE target = 'hubspot'")
            == ["unauthorized"])
        .then_some(())
    });
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    let requests = crm
        .remote
        .requests_to(Service::HubSpot)
        .iter()
        .filter(|request| request.status == 401)
        .count();
    assert!(
        requests < 30,
        "{requests} requests with a token that is refused"
    );
    let token = crm.secrets.hubspot.clone();
    crm.remote
        .configure(|config| config.hubspot.token = Some(token));
    crm.set("hubspot_max_connections", "7");
    crm.converges();
}

#[test]
fn new_credential_is_read_when_settings_are_reloaded() {
    let mut crm = Crm::start();
    crm.remote.configure(|config| {
        config.mailchimp.api_key = "11111111111111111111111111111111-us1".to_owned()
    });
    crm.add_contacts(1, 20);
    wait_until("the refusal shows", SOON, || {
        (crm.rows("SELECT state FROM integration.status WHERE target = 'mailchimp'")
            == ["unauthorized"])
        .then_some(())
    });
    crm.set("mailchimp_api_key", "11111111111111111111111111111111-us1");
    crm.converges();
}

#[test]
fn record_that_keeps_failing_is_exhausted_and_its_mates_are_not() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.set("max_attempts", "4");
    crm.track();
    // A request that carries this record always fails, as if it crashed the service.
    crm.remote.add_fault(
        Fault::new(status(500, FaultBody::Json, None), When::UntilCleared)
            .service(Service::HubSpot)
            .body("poisonous"),
    );
    crm.add_contacts(1, 120);
    crm.run("UPDATE crm.contacts SET company = 'poisonous' WHERE id = 60");
    wait_until("it is given up on", LATER, || {
        let dead = crm.rows("SELECT record_key FROM integration.dlq");
        (!dead.is_empty()).then_some(())
    });
    crm.converges_within(LATER);
    let dead = crm.rows("SELECT target, record_key, category, http_status FROM integration.dlq");
    assert_eq!(dead, ["hubspot|60|exhausted|500"]);
}

#[test]
fn value_that_goes_back_while_its_answer_is_lost_goes_back_at_the_services() {
    let mut crm = Crm::start();
    // Long enough to change the row before the call is repeated.
    crm.set("retry_base", "2s");
    crm.set("retry_max", "2s");
    let id = crm.add_contact("ada@example.org", true);
    crm.run(&format!(
        "UPDATE crm.contacts SET phone = '+49 1' WHERE id = {id}"
    ));
    crm.converges();
    for (phone, name) in [("'+49 2'", "'Augusta'"), ("NULL", "NULL")] {
        for service in [Service::HubSpot, Service::Mailchimp] {
            crm.remote
                .add_fault(Fault::new(FaultKind::AnswerLost, When::NextN(1)).service(service));
        }
        crm.run(&format!(
            "UPDATE crm.contacts SET phone = {phone}, first_name = {name} WHERE id = {id}"
        ));
        wait_until("the answers are lost", SOON, || {
            (crm.ask::<i64>("SELECT count(*) FROM integration.outbox WHERE attempts > 0") == 2)
                .then_some(())
        });
        crm.run(&format!(
            "UPDATE crm.contacts SET phone = '+49 1', first_name = 'Ada' WHERE id = {id}"
        ));
        crm.converges();
    }
}

#[test]
fn value_that_is_cleared_while_the_answer_to_its_create_is_lost_is_cleared_there() {
    let mut crm = Crm::start();
    crm.set("retry_base", "2s");
    crm.set("retry_max", "2s");
    crm.remote.add_fault(
        Fault::new(FaultKind::AnswerLost, When::NextN(1))
            .service(Service::HubSpot)
            .path("/batch/upsert"),
    );
    crm.run("INSERT INTO crm.contacts (email, phone) VALUES ('ada@example.org', '+49 1')");
    wait_until("the answer is lost", SOON, || {
        (crm.ask::<i64>("SELECT count(*) FROM integration.outbox WHERE attempts > 0") == 1)
            .then_some(())
    });
    let phone = |crm: &Crm| {
        crm.remote
            .contact("ada@example.org")
            .unwrap()
            .1
            .remove("phone")
    };
    assert_eq!(phone(&crm).as_deref(), Some("+49 1"));
    crm.run("UPDATE crm.contacts SET phone = NULL");
    crm.converges();
    assert_eq!(phone(&crm), None);
}
