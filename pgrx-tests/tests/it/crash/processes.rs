//! Workers are where there is something to do, and nowhere else.

use crate::inbound::webhooks::{changed_in_hubspot, import};
use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, SOON},
    remote::{Config, unlimited},
    wait::{holds_for, try_until, wait_until},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// All workers of a server with many databases are promised within ten seconds; three times that on
/// a machine that is busy with other tests.
const ALL_WORKERS: Duration = Duration::from_secs(30);

const NO_SLOT: &str = "no process slot";

#[test]
fn few_processes_are_enough_for_many_databases() {
    let cluster = Arc::new(Cluster::start(&[("max_worker_processes", "8")], &[]));
    let mut crms = Vec::new();
    for wanted in 0..62 {
        if wanted % 16 == 15 {
            crms.push(Crm::start_on(cluster.clone(), unlimited()));
        } else {
            cluster.create_database();
        }
    }
    crms.push(Crm::start_on(cluster.clone(), unlimited()));
    assert_eq!(crms.len(), 4);
    cluster.stop(Stop::Fast);
    cluster.launch();
    let began = Instant::now();
    let all = try_until(ALL_WORKERS, || {
        let workers = crms
            .iter()
            .filter_map(|crm| cluster.worker_pid(&crm.database));
        (workers.count() == 4).then(|| began.elapsed())
    });
    let took = all.unwrap_or_else(|| panic!("workers are missing:\n{}", cluster.log_tail()));
    println!("four workers in 62 databases after {took:?}");
    let told = cluster.log().matches(NO_SLOT).count();
    assert!(told <= 1, "told {told} times");
    for crm in &mut crms {
        crm.client = crm.connect();
        crm.add_contacts(1, 3);
        crm.converges();
    }
}

#[test]
fn a_shortage_of_processes_is_told_once_and_ends_by_itself() {
    // The launcher, PostgreSQL's own launcher, and one more.
    let cluster = Arc::new(Cluster::start(&[("max_worker_processes", "3")], &[]));
    let mut first = Crm::start_on(cluster.clone(), unlimited());
    first.worker_pid();
    let mut second = Crm::untracked(cluster.clone(), Config::default());
    second.run("SELECT integration.track('crm.contacts', 'contact')");
    wait_until("it is told", SOON, || {
        cluster.log().contains(NO_SLOT).then_some(())
    });
    wait_until("it is shown", SOON, || {
        let states = second.rows("SELECT DISTINCT state FROM integration.status");
        (states == ["worker_down"]).then_some(())
    });
    holds_for("it is told once", Duration::from_secs(4), || {
        cluster.log().matches(NO_SLOT).count() == 1
    });
    first.run("SELECT integration.untrack('crm.contacts'), integration.untrack('crm.companies')");
    second.worker_pid();
}

#[test]
fn where_nothing_is_tracked_no_worker_is_kept() {
    let mut crm = Crm::untracked(Cluster::shared(), Config::default());
    no_worker(&mut crm, UNTRACKED);
    renames_and_copies(&mut crm);
    crm.track();
    crm.add_contacts(1, 3);
    crm.converges();
    crm.run("SELECT integration.untrack('crm.contacts'), integration.untrack('crm.companies')");
    no_worker(&mut crm, UNTRACKED);
    drops(crm);
}

#[test]
fn where_nothing_is_configured_no_worker_is_kept() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 4);
    crm.converges();
    crm.remote.clear_webhooks();
    let name = crm.database.clone();
    for setting in ["hubspot_access_token", "mailchimp_api_key"] {
        crm.run(&format!(
            "ALTER DATABASE {name} SET integration.{setting} = ''"
        ));
    }
    crm.client = crm.connect();
    crm.run("SELECT integration.reload()");
    no_worker(&mut crm, UNCONFIGURED);
    // Changes are kept, and call nobody.
    crm.add_contacts(5, 7);
    holds_for("nobody comes", Duration::from_secs(1), || {
        crm.cluster.worker_pid(&name).is_none()
    });
    assert_eq!(
        crm.ask::<i64>("SELECT pending FROM integration.status WHERE target = 'hubspot'"),
        3
    );
    // What comes in is applied all the same.
    let webhook = changed_in_hubspot(&mut crm, "jobtitle", "Director");
    import(&mut crm, &webhook);
    wait_until("the event is applied", SOON, || {
        crm.ask::<bool>("SELECT job_title = 'Director' FROM crm.contacts WHERE id = 4")
            .then_some(())
    });
    no_worker(&mut crm, UNCONFIGURED);
    renames_and_copies(&mut crm);
    drops(crm);
}

#[test]
fn where_it_is_fenced_no_worker_is_kept() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 3);
    crm.converges();
    crm.set("environment", "another");
    no_worker(&mut crm, FENCED);
    crm.add_contacts(4, 6);
    renames_and_copies(&mut crm);
    crm.run("SELECT integration.adopt()");
    crm.converges();
}

const UNTRACKED: &str = "reason LIKE '%no table is tracked%'";
const UNCONFIGURED: &str = "state = 'unconfigured'";
const FENCED: &str = "state = 'fenced'";

/// Waits until there is no worker, and `status` says why.
#[track_caller]
fn no_worker(crm: &mut Crm, why: &str) {
    let (cluster, database) = (crm.cluster.clone(), crm.database.clone());
    let told = format!("SELECT bool_and({why} AND heartbeat_at IS NULL) FROM integration.status");
    let left = try_until(SOON, || {
        let none = cluster.worker_pid(&database).is_none();
        (none && crm.ask::<Option<bool>>(&told) == Some(true)).then_some(())
    });
    if left.is_none() {
        panic!("the worker stays\n{}", crm.report());
    }
}

/// What PostgreSQL refuses while anybody is connected: it waits five seconds for them to leave.
fn renames_and_copies(crm: &mut Crm) {
    let mut client = crm.cluster.connect("postgres");
    let name = crm.database.clone();
    crm.client = crm.cluster.connect("postgres");
    for sql in [
        format!("CREATE DATABASE {name}_copy TEMPLATE {name}"),
        format!("DROP DATABASE {name}_copy"),
        format!("ALTER DATABASE {name} RENAME TO {name}_renamed"),
        format!("ALTER DATABASE {name}_renamed RENAME TO {name}"),
    ] {
        if let Err(why) = client.batch_execute(&sql) {
            panic!("{sql}: {why:?}");
        }
    }
    crm.client = crm.connect();
}

fn drops(mut crm: Crm) {
    crm.client = crm.cluster.connect("postgres");
    let sql = format!("DROP DATABASE {}", crm.database);
    if let Err(why) = crm.client.batch_execute(&sql) {
        panic!("{sql}: {why:?}");
    }
}

#[test]
fn dropped_extension_takes_a_sleeping_worker_along() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 3);
    crm.converges();
    crm.worker_pid();
    crm.run("DROP EXTENSION integration CASCADE");
    let (cluster, database) = (crm.cluster.clone(), crm.database.clone());
    wait_until("the worker is gone", SOON, || {
        cluster.worker_pid(&database).is_none().then_some(())
    });
    drops(crm);
}

#[test]
fn nothing_is_missed_while_workers_come_and_go() {
    let mut crm = Crm::untracked(Cluster::shared(), Config::default());
    crm.track();
    crm.run("SELECT integration.untrack('crm.companies')");
    for round in 1..=30_u32 {
        // The worker leaves, is leaving or has not begun to when the next change comes.
        crm.run("SELECT integration.untrack('crm.contacts')");
        if round % 3 == 0 {
            no_worker(&mut crm, UNTRACKED);
        } else {
            crm.run(&format!(
                "SELECT pg_sleep({})",
                0.97 + f64::from(round) / 500.0
            ));
        }
        crm.run("SELECT integration.track('crm.contacts', 'contact')");
        crm.add_contacts(round, round);
        crm.settle();
    }
    assert_eq!(crm.remote.contacts().len(), 30);
}

#[test]
fn reload_is_no_crash() {
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = Crm::start_on(cluster, unlimited());
    crm.add_contacts(1, 3);
    crm.converges();
    let told = crm.cluster.log().len();
    for round in 1..=12 {
        let before = crm.worker_pid();
        // One that has just started cannot be told yet.
        wait_until("the worker is told", SOON, || {
            crm.ask::<bool>("SELECT integration.reload()").then_some(())
        });
        // The twelfth would come after minutes, were it taken for a crash.
        wait_until("another worker runs", SOON, || {
            crm.cluster
                .worker_pid(&crm.database)
                .filter(|pid| *pid != before)
        });
        crm.add_contacts(10 + round, 10 + round);
    }
    crm.converges();
    let log = crm.cluster.log().split_off(told);
    for bad in ["WARNING", "FATAL", "ERROR", "exit code"] {
        assert!(!log.contains(bad), "{log}");
    }
}
