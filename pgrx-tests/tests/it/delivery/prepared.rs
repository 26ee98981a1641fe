//! Changes of a prepared transaction are sent once somebody commits it: in whatever session, after
//! whatever time, and whatever became of worker and server in between.

use std::{sync::Arc, time::Duration};

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, SOON},
    remote::unlimited,
    wait::{holds_for, try_until, wait_until},
};

use crate::inbound::webhooks::{changed_in_hubspot, import};

/// Two seconds are promised; three times as long on a busy machine.
const PROMISED: Duration = Duration::from_secs(6);

fn cluster(settings: &[(&str, &str)]) -> Arc<Cluster> {
    let settings = [&[("max_prepared_transactions", "10")], settings].concat();
    Arc::new(Cluster::start(&settings, &[]))
}

fn prepare(crm: &mut Crm) {
    crm.run(
        "BEGIN; INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('ada@example.org', true); PREPARE TRANSACTION 'p'",
    );
}

#[track_caller]
fn commit(crm: &mut Crm) {
    crm.run("COMMIT PREPARED 'p'");
    if try_until(PROMISED, || crm.remote.contact("ada@example.org")).is_none() {
        panic!("not sent within {PROMISED:?}\n{}", crm.report());
    }
    crm.converges();
}

#[test]
fn committed_after_a_while() {
    let mut crm = Crm::start_on(cluster(&[]), unlimited());
    prepare(&mut crm);
    // The worker has looked several times by then.
    holds_for("nothing is sent", Duration::from_secs(4), || {
        crm.remote.contact("ada@example.org").is_none()
    });
    commit(&mut crm);
}

#[test]
fn committed_at_once() {
    let mut crm = Crm::start_on(cluster(&[]), unlimited());
    prepare(&mut crm);
    commit(&mut crm);
}

#[test]
fn committed_while_others_stay_prepared() {
    let mut crm = Crm::start_on(cluster(&[]), unlimited());
    for name in ["one", "two"] {
        crm.run(&format!(
            "BEGIN; INSERT INTO crm.companies (name) VALUES ('{name}'); PREPARE TRANSACTION '{name}'"
        ));
    }
    prepare(&mut crm);
    crm.run("ROLLBACK PREPARED 'one'");
    commit(&mut crm);
    crm.run("ROLLBACK PREPARED 'two'");
}

#[test]
fn committed_after_the_worker_was_started_again() {
    let mut crm = Crm::start_on(cluster(&[]), unlimited());
    prepare(&mut crm);
    let before = crm.worker_pid();
    crm.run("SELECT integration.reload()");
    wait_until("there is another worker", SOON, || {
        crm.cluster
            .worker_pid(&crm.database)
            .filter(|now| *now != before)
    });
    commit(&mut crm);
}

#[test]
fn committed_after_the_server_was_started_again() {
    let mut crm = Crm::start_on(cluster(&[]), unlimited());
    prepare(&mut crm);
    for how in [Stop::Fast, Stop::Immediate] {
        crm.cluster.stop(how);
        crm.cluster.launch();
    }
    crm.client = crm.connect();
    crm.worker_pid();
    commit(&mut crm);
}

#[test]
fn prepared_while_there_was_no_worker() {
    let cluster = cluster(&[]);
    let mut crm = Crm::start_on(cluster.clone(), unlimited());
    cluster.set("integration.databases", "nowhere");
    wait_until("the worker has left", SOON, || {
        cluster.worker_pid(&crm.database).is_none().then_some(())
    });
    prepare(&mut crm);
    cluster.set("integration.databases", "*");
    crm.worker_pid();
    commit(&mut crm);
}

#[test]
fn event_imported_in_a_prepared_transaction_is_applied() {
    let mut crm = Crm::start_on(cluster(&[]), unlimited());
    crm.add_contacts(1, 5);
    crm.converges();
    crm.remote.clear_webhooks();
    let webhook = changed_in_hubspot(&mut crm, "firstname", "Augusta");
    crm.run("BEGIN");
    import(&mut crm, &webhook);
    crm.run("PREPARE TRANSACTION 'p'");
    holds_for("nothing is applied", Duration::from_secs(3), || {
        crm.ask::<i64>("SELECT count(*) FROM crm.contacts WHERE first_name = 'Augusta'") == 0
    });
    crm.run("COMMIT PREPARED 'p'");
    wait_until("the event is applied", PROMISED, || {
        (crm.ask::<i64>("SELECT count(*) FROM crm.contacts WHERE first_name = 'Augusta'") == 1)
            .then_some(())
    });
}

#[test]
fn nothing_is_looked_at_once_none_is_left() {
    let mut crm = Crm::start_on(cluster(&[("autovacuum", "off")]), unlimited());
    prepare(&mut crm);
    crm.run("ROLLBACK PREPARED 'p'");
    crm.settle();
    // Transactions of the worker are counted in its database; ours are not.
    let database = crm.database.clone();
    let mut beside = crm.cluster.connect("postgres");
    let mut transactions = move || -> i64 {
        let counted = beside.query_one(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = $1",
            &[&database],
        );
        counted.unwrap().get(0)
    };
    drop(std::mem::replace(
        &mut crm.client,
        crm.cluster.connect("postgres"),
    ));
    let quiet = Duration::from_secs(3);
    let mut before = transactions();
    wait_until("the worker has come to rest", SOON, || {
        let moved = try_until(quiet, || {
            let now = transactions();
            (now != before).then_some(now)
        });
        moved.map(|now| before = now).is_none().then_some(())
    });
    holds_for("the worker rests", quiet, || transactions() == before);
    crm.client = crm.connect();
}
