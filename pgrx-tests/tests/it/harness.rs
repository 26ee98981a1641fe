//! The harness itself: a check that cannot fail shows nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::TABLES,
    equal,
    process::is_running,
    remote::{ObjectType, Remote, unlimited},
};

fn plain() -> Cluster {
    Cluster::start(&[("shared_preload_libraries", "")], &[])
}

#[test]
fn killed_server_starts_again_with_what_was_committed() {
    let cluster = plain();
    let mut client = cluster.connect("postgres");
    client
        .batch_execute("CREATE TABLE t AS SELECT 1 AS n")
        .unwrap();
    client
        .batch_execute("BEGIN; INSERT INTO t VALUES (2)")
        .unwrap();
    let before = cluster.postmaster_pid();
    cluster.kill9();
    assert!(!is_running(before) && cluster.try_connect("postgres").is_err());
    cluster.launch();
    let mut client = cluster.connect("postgres");
    assert_eq!(
        client
            .query_one("SELECT count(*) FROM t", &[])
            .unwrap()
            .get::<_, i64>(0),
        1
    );
    for how in [Stop::Immediate, Stop::Fast] {
        cluster.stop(how);
        cluster.launch();
    }
}

#[test]
fn standby_follows_and_can_be_promoted() {
    let cluster = plain();
    let standby = cluster.standby();
    assert!(
        standby
            .connect("postgres")
            .query_one("SELECT pg_is_in_recovery()", &[])
            .unwrap()
            .get::<_, bool>(0)
    );
    cluster.stop(Stop::Immediate);
    standby.promote();
    standby
        .connect("postgres")
        .batch_execute("CREATE TABLE t ()")
        .unwrap();
}

#[test]
fn cluster_leaves_nothing_behind() {
    let cluster = plain();
    let (pid, dir) = (cluster.postmaster_pid(), cluster.socket_dir().to_owned());
    assert!(is_running(pid) && dir.exists());
    drop(cluster);
    assert!(!is_running(pid) && !dir.exists());
}

#[test]
fn comparison_finds_every_kind_of_difference() {
    let cluster = plain();
    let mut client = cluster.connect("postgres");
    client.batch_execute(TABLES).unwrap();
    client
        .batch_execute(
            "CREATE SCHEMA integration;
             CREATE TABLE integration.dlq (target text, source regclass, record_key text, resolution text);
             CREATE TABLE integration.tracked_table (source regclass, external_id_prefix text)",
        )
        .unwrap();
    let remote = Remote::start(unlimited());
    assert_eq!(equal::differences(&mut client, &remote), [""; 0]);
    client
        .batch_execute("INSERT INTO crm.contacts (email, first_name, marketing_opt_in) VALUES ('Ada@example.org', 'Ada', true)")
        .unwrap();
    assert_found(
        &mut client,
        &remote,
        &[
            "HubSpot contact 1 is missing",
            "Mailchimp subscriber ada@example.org is missing",
        ],
    );
    client
        .batch_execute("UPDATE crm.contacts SET marketing_opt_in = false")
        .unwrap();
    let id = remote
        .create_record(
            ObjectType::Contact,
            &[("email", "ada@example.org"), ("firstname", "Eda")],
        )
        .unwrap();
    assert_found(
        &mut client,
        &remote,
        &["HubSpot contact 1 is missing", "without crm_id"],
    );
    client.batch_execute("DELETE FROM crm.contacts").unwrap();
    assert_found(&mut client, &remote, &["without crm_id"]);
    remote.delete_record(ObjectType::Contact, id).unwrap();
    assert_found(&mut client, &remote, &[]);
    client
        .batch_execute(
            "INSERT INTO crm.companies (name) VALUES ('dead');
             INSERT INTO integration.dlq VALUES ('hubspot', 'crm.companies', '1', NULL)",
        )
        .unwrap();
    assert_found(&mut client, &remote, &[]);
    client
        .batch_execute("UPDATE integration.dlq SET resolution = 'discarded'")
        .unwrap();
    assert_found(&mut client, &remote, &["HubSpot company 1 is missing"]);
}

#[track_caller]
fn assert_found(client: &mut postgres::Client, remote: &Remote, expected: &[&str]) {
    let found = equal::differences(client, remote);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (line, part) in found.iter().zip(expected) {
        assert!(line.contains(part), "{line} should say {part}");
    }
}

/// One request, whatever is answered.
fn send(url: &str, method: &str, path: &str, body: &str) {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "));
}

#[test]
fn requests_that_no_service_documents_fail_a_test() {
    if integration_contracts::hubspot().is_none() || integration_contracts::mailchimp().is_none() {
        return;
    }
    let remote = Remote::start(unlimited());
    let (hubspot, mailchimp) = (remote.hubspot_url(), remote.mailchimp_url());
    let upsert = "/crm/objects/2026-09/contacts/batch/upsert";
    let input = r#"{"id":"1","properties":{}}"#;
    let inputs = |count| format!(r#"{{"inputs":[{}]}}"#, vec![input; count].join(","));
    // Those are documented, whatever comes of them.
    send(&hubspot, "POST", upsert, &inputs(100));
    send(&mailchimp, "GET", "/3.0/lists/a1/members?count=10", "");
    assert_eq!(remote.take_broken(), [""; 0]);
    send(&hubspot, "POST", upsert, &inputs(101));
    send(&hubspot, "POST", upsert, r#"{"inputs":[{"id":"1"}]}"#);
    send(&mailchimp, "GET", "/3.0/people", "");
    let broken = remote.take_broken();
    let expected = [
        format!("HubSpot, POST {upsert}: 101 inputs, at most 100 are allowed"),
        format!(
            "HubSpot, POST {upsert}: the body.inputs[]: SimplePublicObjectBatchInputUpsert requires properties"
        ),
        "Mailchimp, GET /people: there is no such call".to_owned(),
    ];
    assert_eq!(broken, expected);
    // One that nobody asked about fails the test that made it.
    send(&mailchimp, "GET", "/3.0/people", "");
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(remote)));
    assert!(dropped.is_err());
}
