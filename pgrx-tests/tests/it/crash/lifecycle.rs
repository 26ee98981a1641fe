//! The extension gets out of the way: drops, shutdown and maintenance work while the worker is busy.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, LATER, SOON},
    remote::{Config, Service, unlimited},
    wait::{holds_for, wait_until},
};

/// What may be added to what an operation takes without us; two seconds, and one for a busy machine.
const ADDED: Duration = Duration::from_secs(3);

/// Every answer takes so long that requests are always under way.
fn busy(cluster: Arc<Cluster>) -> Crm {
    let mut crm = Crm::start_on(cluster, unlimited());
    crm.remote.configure(|config| config.delay_ms = 4_000);
    crm.add_contacts(1, 5_000);
    wait_until("requests are under way", SOON, || {
        (crm.remote.stats().in_flight > 0).then_some(())
    });
    crm
}

#[track_caller]
fn quick(what: &str, work: impl FnOnce()) {
    let began = Instant::now();
    work();
    let took = began.elapsed();
    assert!(took < ADDED, "{what} took {took:?}");
}

#[test]
fn drop_extension_while_busy() {
    let mut crm = busy(Cluster::shared());
    quick("DROP EXTENSION", || {
        crm.run("DROP EXTENSION integration CASCADE")
    });
    // Writers go on, and the table carries nothing of ours.
    crm.run("UPDATE crm.contacts SET phone = '1'");
    assert!(crm.rows("SELECT tgname FROM pg_trigger WHERE tgrelid = 'crm.contacts'::regclass AND NOT tgisinternal").is_empty());
    // And back again.
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.run("CREATE EXTENSION integration");
    crm.track();
}

#[test]
fn drop_database_while_busy() {
    let crm = busy(Cluster::shared());
    let mut client = crm.cluster.connect("postgres");
    quick("DROP DATABASE", || {
        client
            .batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", crm.database))
            .unwrap()
    });
}

#[test]
fn create_database_while_busy() {
    let crm = busy(Cluster::shared());
    quick("CREATE DATABASE", || {
        let name = crm.cluster.create_database();
        crm.cluster
            .connect("postgres")
            .batch_execute(&format!("DROP DATABASE {name}"))
            .unwrap();
    });
}

#[test]
fn maintenance_while_busy() {
    let mut crm = busy(Cluster::shared());
    quick("VACUUM FULL", || crm.run("VACUUM FULL crm.contacts"));
    quick("ANALYZE", || crm.run("ANALYZE"));
    quick("ALTER TABLE", || {
        crm.run("ALTER TABLE crm.contacts ADD COLUMN more text")
    });
    quick("REINDEX", || crm.run("REINDEX SCHEMA integration"));
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.converges_within(LATER);
}

#[test]
fn shutdown_while_busy_is_quick_and_loses_nothing() {
    let mut crm = busy(Arc::new(Cluster::start(&[], &[])));
    quick("a fast shutdown", || crm.cluster.stop(Stop::Fast));
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.cluster.launch();
    crm.client = crm.connect();
    crm.converges_within(LATER);
}

#[test]
fn server_never_restarts_because_of_us() {
    let mut crm = busy(Arc::new(Cluster::start(&[], &[])));
    let postmaster = crm.cluster.postmaster_pid();
    // Whatever we do to the worker with its own means.
    for _ in 0..3 {
        let pid = crm.worker_pid();
        crm.run(&format!(
            "SELECT pg_cancel_backend({pid}), pg_terminate_backend({pid})"
        ));
        wait_until("there is another worker", SOON, || {
            crm.cluster
                .worker_pid(&crm.database)
                .filter(|now| *now != pid)
        });
    }
    crm.run("DROP EXTENSION integration CASCADE");
    assert_eq!(crm.cluster.postmaster_pid(), postmaster);
    let log = crm.cluster.log();
    for bad in [
        "terminating any other active server processes",
        "was terminated by signal",
        "PANIC",
        "panicked",
    ] {
        assert!(
            !log.contains(bad),
            "the log says {bad}:\n{}",
            crm.cluster.log_tail()
        );
    }
}

#[test]
fn idle_costs_no_transaction_and_no_log_line() {
    let mut crm = Crm::start_on(
        Arc::new(Cluster::start(&[("autovacuum", "off")], &[])),
        unlimited(),
    );
    crm.add_contacts(1, 10);
    crm.converges();
    let next_xid = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
    // Statistics and the request log of what just happened may still be written.
    let mut before = (crm.ask::<String>(next_xid), crm.cluster.log().len());
    wait_until("it has come to rest", SOON, || {
        let mut resting = true;
        holds_briefly(&mut crm, next_xid, &mut before, &mut resting);
        resting.then_some(())
    });
    holds_for("nothing happens", Duration::from_secs(5), || {
        (crm.ask::<String>(next_xid), crm.cluster.log().len()) == before
    });
}

/// Compares with the previous look, a second later.
fn holds_briefly(crm: &mut Crm, next_xid: &str, before: &mut (String, usize), resting: &mut bool) {
    let later = integration_tests::wait::try_until(Duration::from_secs(1), || {
        let now = (crm.ask::<String>(next_xid), crm.cluster.log().len());
        (now != *before).then_some(now)
    });
    if let Some(now) = later {
        (*before, *resting) = (now, false);
    }
}

#[test]
fn workers_of_several_databases_do_not_disturb_each_other() {
    let mut first = Crm::start();
    let mut second = Crm::start();
    first.remote.go_down(Service::HubSpot);
    first.add_contacts(1, 100);
    second.add_contacts(1, 100);
    second.converges();
    assert_eq!(first.remote.contacts().len(), 0);
    first.remote.come_up(Service::HubSpot).unwrap();
    first.converges();
}

#[test]
fn database_that_is_not_wanted_gets_no_worker() {
    let cluster = Arc::new(Cluster::start(
        &[("integration.databases", "somewhere_else")],
        &[],
    ));
    let mut crm = Crm::untracked(cluster, Config::default());
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    crm.add_contacts(1, 3);
    holds_for("there is no worker", Duration::from_secs(2), || {
        crm.cluster.worker_pid(&crm.database).is_none()
    });
    let name = crm.database.clone();
    crm.cluster.set("integration.databases", &name);
    crm.worker_pid();
}
