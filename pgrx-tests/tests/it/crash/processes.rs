//! Workers are where there is something to do, and nowhere else; and they end when they are told to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, LATER, SOON},
    remote::{Config, unlimited},
    wait::{holds_for, try_until, wait_until},
};

use crate::inbound::webhooks::{changed_in_hubspot, import};

/// All workers of a server with many databases are promised within ten seconds; three times that on
/// a machine that is busy with other tests.
const ALL_WORKERS: Duration = Duration::from_secs(30);

/// An end is promised within two seconds; three times that on a busy machine.
const END: Duration = Duration::from_secs(6);

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
        assert!(crm.ask::<bool>("SELECT integration.reload()"));
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
