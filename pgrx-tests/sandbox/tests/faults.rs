//! Trouble on request.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{hubspot, mailchimp, try_hubspot};
use integration_sandbox::{
    Config, Fault, FaultBody, FaultKind, ObjectType, Sandbox, Service, When,
};

const CREATE: &str = "/crm/v3/objects/contacts";

fn create(sandbox: &Sandbox, email: &str) -> Option<common::Answer> {
    try_hubspot(
        sandbox,
        "POST",
        CREATE,
        &format!(r#"{{"properties":{{"email":"{email}"}}}}"#),
    )
}

fn contacts(sandbox: &Sandbox) -> usize {
    sandbox.records(ObjectType::Contact).len()
}

#[test]
fn answers_get_lost_but_changes_stay() {
    let sandbox = Sandbox::start(Config::default());
    sandbox.add_fault(Fault::new(FaultKind::AnswerLost, When::NextN(1)).method("POST"));
    assert!(create(&sandbox, "a@example.com").is_none());
    assert_eq!(contacts(&sandbox), 1);
    assert_eq!(create(&sandbox, "a@example.com").unwrap().status, 409);

    sandbox.add_fault(Fault::new(FaultKind::Truncate, When::NextN(1)));
    assert!(!create(&sandbox, "b@example.com").unwrap().whole);
    assert_eq!(contacts(&sandbox), 2);
    assert!(
        sandbox
            .requests()
            .iter()
            .filter(|request| !request.answered)
            .count()
            == 2
    );
}

#[test]
fn resets_and_statuses_apply_nothing() {
    let sandbox = Sandbox::start(Config::default());
    sandbox.add_fault(Fault::new(FaultKind::Reset, When::NextN(1)));
    assert!(create(&sandbox, "a@example.com").is_none());
    let status = FaultKind::Status {
        code: 503,
        body: FaultBody::Html,
        retry_after: Some(7),
    };
    sandbox.add_fault(
        Fault::new(status, When::NextN(1))
            .service(Service::HubSpot)
            .path("/contacts")
            .body("a@example"),
    );
    assert_eq!(create(&sandbox, "b@example.com").unwrap().status, 201);
    let refused = create(&sandbox, "a@example.com").unwrap();
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("7"))
    );
    assert!(refused.body.starts_with(b"<html>"));
    assert_eq!(contacts(&sandbox), 1);
}

#[test]
fn every_kth_and_cleared() {
    let sandbox = Sandbox::start(Config::default());
    sandbox.add_fault(Fault::new(FaultKind::Html, When::EveryKth(3)));
    let html = |_| hubspot(&sandbox, "GET", CREATE, "").body.starts_with(b"<");
    assert_eq!(
        (0..6).map(html).collect::<Vec<_>>(),
        [false, false, true, false, false, true]
    );
    assert_eq!(sandbox.faults()[0].hit, 2);
    sandbox.clear_faults();
    assert!(!(0..6).any(html));
}

#[test]
fn one_service_goes_down_and_comes_back() {
    let sandbox = Sandbox::start(Config::default());
    create(&sandbox, "a@example.com");
    sandbox.go_down(Service::HubSpot);
    assert!(create(&sandbox, "b@example.com").is_none());
    assert_eq!(mailchimp(&sandbox, "GET", "/ping", "").status, 200);
    sandbox.come_up(Service::HubSpot).unwrap();
    assert_eq!(create(&sandbox, "a@example.com").unwrap().status, 409);
}

#[test]
fn overlapping_writes_are_counted() {
    let sandbox = Sandbox::start(Config::default());
    let id = sandbox
        .create_record(ObjectType::Contact, &[("email", "a@example.com")])
        .unwrap();
    let path = format!("{CREATE}/{id}");
    let patch = || hubspot(&sandbox, "PATCH", &path, r#"{"properties":{"city":"Ulm"}}"#).status;
    patch();
    patch();
    assert_eq!(sandbox.stats().overlaps, 0);
    sandbox.add_fault(Fault::new(FaultKind::Delay { ms: 300 }, When::UntilCleared));
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(patch);
        scope.spawn(patch);
    });
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(sandbox.stats().overlaps, 1);
    assert_eq!(sandbox.stats().max_in_flight, 2);
}

#[test]
fn mailchimp_takes_ten_connections() {
    let mut config = Config {
        delay_ms: 300,
        ..Config::default()
    };
    config.mailchimp.max_connections = Some(2);
    let sandbox = Sandbox::start(config);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| mailchimp(&sandbox, "GET", "/ping", "").status))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 1);
    assert_eq!(sandbox.stats().throttled, 1);
}

/// Mailchimp: a request that the client gives up goes on, and keeps its connection.
#[test]
fn abandoned_requests_keep_their_connections_at_mailchimp() {
    let mut config = Config::default();
    config.mailchimp.max_connections = Some(1);
    let sandbox = Sandbox::start(config);
    let slow = Fault::new(FaultKind::Delay { ms: 1_000 }, When::NextN(1));
    sandbox.add_fault(slow);
    let address = sandbox.mailchimp_url();
    let address = address.trim_start_matches("http://");
    let started = Instant::now();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /3.0/ping HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n\r\n",
    )
    .unwrap();
    while sandbox.stats().mailchimp_requests == 0 {
        std::thread::yield_now();
    }
    drop(stream);
    let refused = mailchimp(&sandbox, "GET", "/ping", "").status;
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "too late to tell"
    );
    assert_eq!(refused, 429);
    while mailchimp(&sandbox, "GET", "/ping", "").status == 429 {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    assert!(started.elapsed() >= Duration::from_millis(1_000));
}

#[test]
fn gateways_answer_for_what_was_carried_out() {
    let sandbox = Sandbox::start(Config::default());
    sandbox.add_fault(Fault::new(FaultKind::Gateway { code: 502 }, When::NextN(1)));
    let answer = create(&sandbox, "a@example.com").unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.body.starts_with(b"<html>"));
    assert_eq!(contacts(&sandbox), 1);
}
