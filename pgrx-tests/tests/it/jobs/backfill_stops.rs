//! Backfills that are interrupted: by crashes, by people, by what they walk over.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    process::kill9,
    remote::{ObjectType, Service, unlimited},
    sql::refused_with_hint,
    wait::{try_until, wait_until},
};

use crate::jobs::backfill::{assert_tidy, begin, filled, job, slow, under_way, wait_for};

fn own_server(contacts: u32) -> Crm {
    filled(Arc::new(Cluster::start(&[], &[])), slow(), contacts)
}

/// The worker's death ends all sessions: a new one, once the server lets us in.
fn reconnect(crm: &mut Crm) {
    let client = try_until(SOON, || crm.cluster.try_connect(&crm.database).ok());
    crm.client = client.unwrap_or_else(|| panic!("{}", crm.cluster.log_tail()));
}

#[test]
fn killed_worker_and_server_go_on_where_they_were() {
    let mut crm = own_server(15_000);
    crm.set("hubspot_max_connections", "2");
    let id = begin(&mut crm, "'crm.contacts'");
    for (round, at_least) in [2_000, 7_000].into_iter().enumerate() {
        under_way(&crm, at_least);
        if round == 0 {
            kill9(crm.worker_pid());
        } else {
            crm.cluster.kill9();
            crm.cluster.launch();
        }
        assert!(crm.remote.stats().contacts < 14_000, "it was over already");
    }
    // A connection made before the server took note of a kill would be ended by it.
    reconnect(&mut crm);
    let walked = "SELECT coalesce(min(walked), 0) FROM integration._backfill WHERE target = 1";
    assert!(crm.ask::<i64>(walked) >= 1_000, "it did not begin anew");
    wait_for(&mut crm, id, "state = 'done'");
    crm.converges_within(LATER);
    assert_eq!(job(&mut crm, id), "done|30000|30000|100|f|NULL");
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    assert_eq!(crm.remote.contacts().len(), 15_000);
}

#[test]
fn cancelled_job_stops_and_another_begins() {
    let mut crm = filled(Cluster::shared(), slow(), 20_000);
    crm.set("hubspot_max_connections", "1");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    under_way(&crm, 300);
    let cancel = format!("SELECT integration.cancel_job({id}, 'wrong table')");
    assert!(crm.ask::<bool>(&cancel));
    assert!(!crm.ask::<bool>(&cancel), "it is over");
    assert!(!crm.ask::<bool>("SELECT integration.cancel_job(-1)"));
    assert_tidy(&mut crm);
    crm.settle();
    let there = crm.remote.stats().contacts;
    assert!(there < 3_000, "{there} contacts were sent");
    let said = job(&mut crm, id);
    assert!(
        said.starts_with("cancelled|") && said.ends_with("|f|wrong table"),
        "{said}"
    );
    crm.set("hubspot_max_connections", "20");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(crm.remote.contacts().len(), 20_000);
}

#[test]
fn filter_that_fails_while_it_runs_fails_the_job() {
    let mut crm = filled(Cluster::shared(), unlimited(), 10);
    let id = begin(&mut crm, "'crm.contacts', 'hubspot', '1 / (id - 5) > 0'");
    wait_for(&mut crm, id, "state = 'failed'");
    assert!(job(&mut crm, id).ends_with("|f|division by zero"));
    assert_tidy(&mut crm);
    // Neither the worker nor another backfill minds.
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    wait_for(&mut crm, id, "state = 'done'");
    crm.add_contacts(11, 12);
    crm.settle();
    assert_eq!(crm.remote.contacts().len(), 12);
}

#[test]
fn waits_while_its_target_is_paused() {
    let mut crm = filled(Cluster::shared(), unlimited(), 1_200);
    crm.run("SELECT integration.pause('hubspot', 'moving house')");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    wait_for(
        &mut crm,
        id,
        "state = 'paused' AND error LIKE '%hubspot is paused: moving house'",
    );
    assert_eq!(crm.remote.stats().contacts, 0);
    crm.run("SELECT integration.resume('hubspot')");
    wait_for(&mut crm, id, "state = 'done' AND error IS NULL");
    assert_eq!(crm.remote.contacts().len(), 1_200);
}

#[test]
fn goes_on_after_an_outage() {
    let mut crm = filled(Cluster::shared(), unlimited(), 5_000);
    crm.remote.go_down(Service::HubSpot);
    let id = begin(&mut crm, "'crm.contacts'");
    crm.run("UPDATE crm.contacts SET phone = 'live' WHERE id = 1");
    wait_until("one target is served, the other is not", SOON, || {
        (crm.remote.members().len() == 2_500).then_some(())
    });
    wait_for(
        &mut crm,
        id,
        "state = 'paused' AND error LIKE '%hubspot is outage%'",
    );
    crm.remote.come_up(Service::HubSpot).unwrap();
    wait_for(&mut crm, id, "state = 'done'");
    crm.converges();
}

#[test]
fn without_the_property_it_waits_and_fills_no_table() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.add_contacts(1, 1_500);
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    wait_for(
        &mut crm,
        id,
        "state = 'paused' AND error LIKE '%provision(%'",
    );
    assert!(crm.queue_is_empty());
    crm.run("SELECT integration.provision('hubspot')");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(crm.remote.contacts().len(), 1_500);
}

#[test]
fn table_that_goes_takes_its_job_along() {
    let mut crm = filled(Cluster::shared(), slow(), 15_000);
    crm.set("hubspot_max_connections", "1");
    let first = begin(&mut crm, "'crm.contacts', 'hubspot'");
    under_way(&crm, 100);
    crm.run("SELECT integration.untrack('crm.contacts')");
    assert!(job(&mut crm, first).ends_with("|f|the table is no longer tracked"));
    assert_tidy(&mut crm);
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.backfill('crm.contacts')",
        "42704",
    );
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    let second = begin(&mut crm, "'crm.contacts', 'hubspot'");
    let there = crm.remote.stats().contacts;
    under_way(&crm, there + 200);
    crm.run("DROP TABLE crm.contacts");
    wait_for(&mut crm, second, "state = 'cancelled'");
    assert!(job(&mut crm, second).contains("dropped"));
    assert_tidy(&mut crm);
    // The others are served as before.
    crm.run("INSERT INTO crm.companies (name) VALUES ('after all')");
    wait_until("a company arrives", SOON, || {
        (crm.remote.companies().len() == 1).then_some(())
    });
}

#[test]
fn renamed_table_is_followed_and_rows_that_fail_are_dead_letters() {
    let mut crm = filled(Cluster::shared(), slow(), 12_000);
    crm.run("UPDATE crm.contacts SET email = 'no address' WHERE id = 11000");
    crm.settle();
    crm.run(
        "SELECT integration.dlq_discard(array_agg(id), 'shall come back') FROM integration.dlq",
    );
    crm.set("hubspot_max_connections", "1");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    under_way(&crm, 100);
    crm.run("ALTER TABLE crm.contacts RENAME TO people");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(job(&mut crm, id), "done|12000|12000|100|f|NULL");
    let dead =
        crm.rows("SELECT record_key, category FROM integration.dlq WHERE resolution IS NULL");
    assert_eq!(dead, ["11000|unmappable"]);
    assert_eq!(crm.remote.records(ObjectType::Contact).len(), 11_999);
}

#[test]
fn extension_can_be_dropped_meanwhile() {
    let mut crm = filled(Cluster::shared(), slow(), 20_000);
    begin(&mut crm, "'crm.contacts'");
    under_way(&crm, 100);
    crm.run("DROP EXTENSION integration CASCADE");
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM crm.contacts"), 20_000);
}

/// A person's open transaction holds up its job, and nothing else.
#[test]
fn locked_job_does_not_stop_the_worker() {
    let mut crm = filled(Cluster::shared(), unlimited(), 2_500);
    crm.run("SELECT integration.pause('hubspot')");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    wait_for(&mut crm, id, "state = 'paused'");
    let before = crm.worker_pid();
    let mut other = crm.connect();
    other
        .batch_execute(&format!("BEGIN; SELECT integration.cancel_job({id})"))
        .unwrap();
    crm.run("SELECT integration.resume('hubspot')");
    wait_until("all rows are sent", SOON, || {
        (crm.remote.stats().contacts == 2_500).then_some(())
    });
    crm.add_contact("live@example.org", false);
    crm.settle();
    other.batch_execute("ROLLBACK").unwrap();
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(crm.worker_pid(), before);
}
