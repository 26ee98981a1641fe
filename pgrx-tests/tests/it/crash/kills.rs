//! Killed at any moment, nothing is lost. Each test has a server of its own, because it kills it.

use std::{sync::Arc, time::Duration};

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, LATER, SOON},
    process::kill9,
    remote::{Config, Service, unlimited},
    wait::{try_until, wait_until},
};

/// Answers take a little, so that there is always something in flight.
fn slow() -> Config {
    Config {
        delay_ms: 20,
        ..unlimited()
    }
}

fn own_server() -> Crm {
    Crm::start_on(Arc::new(Cluster::start(&[], &[])), slow())
}

/// A drain that is under way: some records are there, some are not.
fn mid_drain(crm: &mut Crm) {
    crm.add_contacts(1, 20_000);
    crm.run("UPDATE crm.contacts SET phone = phone || ' x' WHERE id % 7 = 0; DELETE FROM crm.contacts WHERE id % 100 = 0");
    under_way(crm, 500);
}

fn under_way(crm: &Crm, at_least: usize) {
    wait_until("the drain is under way", SOON, || {
        (crm.remote.stats().contacts >= at_least).then_some(())
    });
    assert!(
        crm.remote.stats().contacts < 19_800,
        "the drain is over already"
    );
}

/// The worker's death ends all sessions: a new one, once the server lets us in.
pub fn reconnect(crm: &mut Crm) {
    let client = try_until(SOON, || crm.cluster.try_connect(&crm.database).ok());
    crm.client = client
        .unwrap_or_else(|| panic!("the server does not come back:\n{}", crm.cluster.log_tail()));
}

#[test]
fn killed_worker_loses_and_duplicates_nothing() {
    let mut crm = own_server();
    mid_drain(&mut crm);
    for round in 1..=4_usize {
        kill9(crm.worker_pid());
        reconnect(&mut crm);
        under_way(&crm, 500 + 1_500 * round);
    }
    reconnect(&mut crm);
    crm.converges_within(LATER);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
}

#[test]
fn killed_server_loses_and_duplicates_nothing() {
    let mut crm = own_server();
    mid_drain(&mut crm);
    for round in 1..=2_usize {
        crm.cluster.kill9();
        crm.cluster.launch();
        under_way(&crm, 500 + 2_000 * round);
    }
    reconnect(&mut crm);
    crm.converges_within(LATER);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
}

#[test]
fn immediate_shutdown_loses_nothing() {
    let mut crm = own_server();
    mid_drain(&mut crm);
    crm.cluster.stop(Stop::Immediate);
    crm.cluster.launch();
    reconnect(&mut crm);
    crm.run("UPDATE crm.contacts SET company = 'After' WHERE id % 11 = 0");
    crm.converges_within(LATER);
}

#[test]
fn restart_in_an_outage_loses_nothing() {
    let mut crm = own_server();
    // What is asked before the first contact has been answered.
    crm.add_contacts(1, 1);
    crm.converges();
    crm.remote.go_down(Service::HubSpot);
    crm.add_contacts(2, 1_000);
    wait_until("retries are stored", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration.outbox WHERE attempts > 0 OR last_error IS NOT NULL)").then_some(())
    });
    crm.cluster.stop(Stop::Fast);
    crm.cluster.launch();
    reconnect(&mut crm);
    crm.run("UPDATE crm.contacts SET phone = '9' WHERE id <= 10");
    crm.remote.come_up(Service::HubSpot).unwrap();
    crm.converges_within(LATER);
}

#[test]
fn worker_killed_between_creates_and_their_answers_makes_no_duplicates() {
    let mut crm = Crm::start_on(
        Arc::new(Cluster::start(&[], &[])),
        Config {
            delay_ms: 1_500,
            ..unlimited()
        },
    );
    crm.add_contacts(1, 90);
    wait_until("the creates are applied and not answered yet", SOON, || {
        (crm.remote.stats().contacts == 90).then_some(())
    });
    crm.kill_worker();
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.converges_within(LATER);
    assert_eq!(crm.remote.contacts().len(), 90);
}

/// That nobody else has the company was found out in a call of its own just before: it must not be
/// forgotten that the next one was about to create it.
#[test]
fn company_created_right_before_a_crash_goes_with_its_row() {
    let mut crm = own_server();
    crm.settle();
    for number in 1..=3 {
        crm.run(&format!(
            "INSERT INTO crm.companies (name, domain) VALUES ('Company', 'company{number}.example.org')"
        ));
        wait_until("the company to be created", SOON, || {
            (crm.remote.companies().len() == 1).then_some(())
        });
        crm.remote.go_down(Service::HubSpot);
        crm.kill_worker();
        crm.run("DELETE FROM crm.companies");
        crm.remote.come_up(Service::HubSpot).unwrap();
        crm.converges();
    }
}

/// The verdict is stored, the CRM's own row is in somebody's hands, and then comes the crash.
#[test]
fn refusal_that_the_crm_was_not_told_yet_is_told_by_the_next_worker() {
    let mut crm = own_server();
    crm.add_contacts(1, 4);
    crm.converges();
    for (id, server_too) in [(2, false), (4, true)] {
        let email = format!("person{id}@example.org");
        crm.remote.person_unsubscribes(&email);
        // So that the row is held before the answer is there.
        crm.remote.configure(|config| config.delay_ms = 500);
        crm.run(&format!(
            "UPDATE crm.contacts SET first_name = 'Changed' WHERE id = {id}"
        ));
        let mut holder = crm.connect();
        let mut held = holder.transaction().unwrap();
        held.execute("SELECT FROM crm.contacts FOR UPDATE", &[])
            .unwrap();
        let refused = format!(
            "SELECT EXISTS (SELECT FROM integration.dlq WHERE category = 'consent' AND record_key = '{id}')"
        );
        wait_until("Mailchimp has refused", SOON, || {
            crm.ask::<bool>(&refused).then_some(())
        });
        let told = format!("SELECT NOT marketing_opt_in FROM crm.contacts WHERE id = {id}");
        assert!(!crm.ask::<bool>(&told), "nobody can write it");
        // A commit that is waited for: what the worker committed before is safe as well.
        crm.run("CREATE TABLE crm.safe (); DROP TABLE crm.safe");
        if server_too {
            crm.cluster.kill9();
            crm.cluster.launch();
            reconnect(&mut crm);
        } else {
            crm.kill_worker();
        }
        crm.remote.configure(|config| config.delay_ms = 0);
        wait_until("the CRM is told", SOON, || {
            crm.ask::<bool>(&told).then_some(())
        });
        crm.converges();
    }
}

#[test]
fn promoted_standby_goes_on_by_itself() {
    let mut crm = own_server();
    let standby = crm.cluster.standby();
    // On a standby the worker has nothing to do, and must not try.
    mid_drain(&mut crm);
    let caught_up =
        "SELECT count(*) > 0 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";
    wait_until("the standby has caught up", SOON, || {
        crm.ask::<bool>(caught_up).then_some(())
    });
    crm.cluster.stop(Stop::Immediate);
    standby.promote();
    let database = crm.database.clone();
    crm.client = standby.connect(&database);
    // With it goes the directory that the settings' secrets are read from.
    let _gone = std::mem::replace(&mut crm.cluster, Arc::new(standby));
    crm.run("UPDATE crm.contacts SET company = 'Promoted' WHERE id % 13 = 0");
    crm.converges_within(LATER);
}

#[test]
fn idle_worker_comes_back_after_it_was_terminated() {
    let mut crm = own_server();
    let before = crm.worker_pid();
    crm.run(&format!("SELECT pg_terminate_backend({before})"));
    let after = wait_until("there is another worker", Duration::from_secs(20), || {
        crm.cluster
            .worker_pid(&crm.database)
            .filter(|pid| *pid != before)
    });
    assert_ne!(before, after);
    crm.add_contacts(1, 10);
    crm.converges();
}
