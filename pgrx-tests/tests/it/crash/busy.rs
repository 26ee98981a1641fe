//! A busy worker ends when it is told to, and says what it is busy with.

use crate::inbound::webhooks::{changed_in_hubspot, import};
use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, LATER, SOON},
    remote::Config,
    wait::wait_until,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// An end is promised within two seconds. Here it is to come well before the view, or what may stop
/// it after 30 seconds, makes room for it, however busy the machine.
const END: Duration = Duration::from_secs(20);

/// A payload view that takes its time, being read.
fn slow(seconds: u32, cluster: Arc<Cluster>) -> Crm {
    reading(seconds, Crm::untracked(cluster, Config::default()))
}

/// The same in a CRM that nothing is tracked of.
pub fn reading(seconds: u32, mut crm: Crm) -> Crm {
    crm.run(&format!(
        "CREATE FUNCTION crm.slow(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN $1; END $$;
         CREATE VIEW crm.payload AS SELECT id, email, crm.slow(first_name) AS first_name, last_name, marketing_opt_in FROM crm.contacts;
         SELECT integration.track('crm.contacts', 'contact', payload => 'crm.payload');
         SELECT integration.provision('hubspot')"
    ));
    crm.add_contacts(1, 1);
    wait_until("the view is being read", SOON, || {
        crm.cluster
            .connect("postgres")
            .query_opt(
                "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'integration worker' AND wait_event = 'PgSleep'",
                &[&crm.database],
            )
            .unwrap()
            .map(|_| ())
    });
    crm
}

#[track_caller]
pub fn ends(what: &str, work: impl FnOnce()) {
    let began = Instant::now();
    work();
    let took = began.elapsed();
    assert!(took < END, "{what} took {took:?}");
}

#[test]
fn slow_view_does_not_keep_the_worker_from_being_terminated() {
    let mut crm = slow(60, Cluster::shared());
    let pid = crm.worker_pid();
    ends("pg_terminate_backend", || {
        assert!(crm.ask::<bool>(&format!("SELECT pg_terminate_backend({pid}, 60000)")));
    });
}

#[test]
fn slow_view_does_not_keep_the_worker_from_being_reloaded() {
    let mut crm = slow(60, Cluster::shared());
    let pid = crm.worker_pid();
    ends("reload", || {
        wait_until("there is another one", SOON, || {
            crm.run("SELECT integration.reload()");
            crm.cluster
                .worker_pid(&crm.database)
                .filter(|now| *now != pid)
        });
    });
}

#[test]
fn slow_view_does_not_keep_the_database_from_being_dropped() {
    let crm = slow(60, Cluster::shared());
    let mut client = crm.cluster.connect("postgres");
    ends("DROP DATABASE", || {
        client
            .batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", crm.database))
            .unwrap();
    });
}

#[test]
fn slow_view_does_not_keep_the_extension_from_being_dropped() {
    let mut crm = slow(60, Cluster::shared());
    ends("DROP EXTENSION", || {
        crm.run("DROP EXTENSION integration CASCADE");
    });
}

#[test]
fn slow_view_does_not_keep_the_server_from_shutting_down() {
    let crm = slow(60, Arc::new(Cluster::start(&[], &[])));
    ends("a fast shutdown", || crm.cluster.stop(Stop::Fast));
    crm.cluster.launch();
}

#[test]
fn backlog_being_read_does_not_keep_the_worker_from_being_terminated() {
    let mut crm = Crm::start();
    crm.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    crm.add_contacts(1, 50_000);
    crm.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
    for _ in 0..5 {
        let pid = crm.worker_pid();
        ends("pg_terminate_backend", || {
            assert!(crm.ask::<bool>(&format!("SELECT pg_terminate_backend({pid}, 60000)")));
        });
    }
    crm.run("SELECT integration.reload()");
    crm.converges_within(LATER);
}

#[test]
fn status_tells_what_the_worker_is_busy_with() {
    let mut crm = slow(60, Cluster::shared());
    let reason = wait_until("it is told", SOON, || {
        crm.rows("SELECT reason FROM integration.status WHERE reason LIKE '%busy with%'")
            .pop()
    });
    assert!(
        reason.contains("busy with reading table crm.contacts for "),
        "{reason}"
    );
    assert!(crm.ask::<bool>(
        "SELECT heartbeat_at BETWEEN now() - interval '1 min' AND now() - interval '4 s' FROM integration.status WHERE target = 'hubspot'"
    ));
}

#[test]
fn status_tells_what_the_worker_is_stuck_with() {
    let mut crm = Crm::untracked(Cluster::shared(), Config::default());
    crm.set("crm_timeout", "200ms");
    // Code that is not to be ended: a trigger that HubSpot's changes fire.
    crm.track();
    crm.add_contacts(1, 4);
    crm.converges();
    crm.run(
        "CREATE FUNCTION crm.stubborn() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             LOOP
                 BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END;
             END LOOP;
         END $$;
         CREATE TRIGGER stubborn BEFORE UPDATE ON crm.contacts FOR EACH ROW EXECUTE FUNCTION crm.stubborn()",
    );
    let webhook = changed_in_hubspot(&mut crm, "jobtitle", "Director");
    import(&mut crm, &webhook);
    // A session that goes by the limit, and none of the worker's own time.
    let pid = crm.worker_pid();
    let reason = wait_until("it is told", SOON, || {
        crm.rows(
            "SELECT DISTINCT reason FROM integration.status WHERE reason LIKE '%no progress for %'",
        )
        .pop()
    });
    for part in [
        format!("the worker (process {pid}) is busy with writing to table crm.contacts"),
        "integration.reload()".to_owned(),
    ] {
        assert!(reason.contains(&part), "{reason}");
    }
}

#[test]
fn heart_of_an_idle_worker_beats() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 3);
    crm.converges();
    wait_until("it waits, and has nothing to say", SOON, || {
        crm.ask::<bool>(
            "SELECT bool_and(state = 'running' AND reason IS NULL AND heartbeat_at > clock_timestamp() - interval '2 s') FROM integration.status",
        )
        .then_some(())
    });
}
