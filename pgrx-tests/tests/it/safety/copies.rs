//! A copy of the database never writes to production.

use std::{process::Stdio, sync::Arc, time::Duration};

use integration_tests::{
    cluster::{Cluster, Stop},
    crm::{Crm, SOON},
    process::{as_server_user, bin},
    remote::unlimited,
    wait::{holds_for, try_until, wait_until},
};

/// Dumps a CRM and restores it beside the original, with the same settings.
pub fn restored_copy(original: &mut Crm) -> Crm {
    let mut copy_settings = original.rows(&format!(
        "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = '{}')",
        original.database
    ));
    let database = original.cluster.create_database();
    let mut dump = as_server_user(bin("pg_dump"))
        .args(["--username=postgres", "--host"])
        .arg(original.cluster.socket_dir())
        .arg(&original.database)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let restored = as_server_user(bin("psql"))
        .args([
            "--username=postgres",
            "--quiet",
            "--no-psqlrc",
            "--set=ON_ERROR_STOP=1",
            "--host",
        ])
        .arg(original.cluster.socket_dir())
        .arg(&database)
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(dump.wait().unwrap().success() && restored.success());
    let mut client = original.cluster.connect(&database);
    for setting in copy_settings.drain(..) {
        let (name, value) = setting.split_once('=').unwrap();
        let value = integration_tests::sql::quote_literal(value);
        client
            .batch_execute(&format!("ALTER DATABASE {database} SET {name} = {value}"))
            .unwrap();
    }
    let mut client = original.cluster.connect(&database);
    client.batch_execute("SELECT integration.reload()").unwrap();
    original.beside(database, client)
}

#[test]
fn restored_dump_captures_and_sends_nothing_until_adopted() {
    let mut original = Crm::start();
    original.add_contacts(1, 20);
    original.converges();
    let mut copy = restored_copy(&mut original);
    wait_until("the copy is fenced", SOON, || {
        (copy.rows("SELECT DISTINCT state FROM integration.status") == ["fenced"]).then_some(())
    });
    let before = original.remote.stats().requests;
    copy.run("UPDATE crm.contacts SET first_name = 'Copied'; INSERT INTO crm.contacts (email) VALUES ('copied@example.org')");
    assert_eq!(
        copy.ask::<i64>("SELECT count(*) FROM integration.outbox WHERE target = 'hubspot'"),
        21
    );
    holds_for("the copy sends nothing", Duration::from_secs(2), || {
        original.remote.stats().requests == before
    });
    // The original goes on.
    original.run("UPDATE crm.contacts SET first_name = 'Original' WHERE id = 1");
    original.converges();
    // The links came along: what is adopted is not created again.
    copy.run("SELECT integration.adopt()");
    wait_until("the adopted copy has sent", SOON, || {
        copy.queue_is_empty().then_some(())
    });
    assert_eq!(original.remote.contacts().len(), 21);
}

#[test]
fn dump_of_a_backlog_keeps_it() {
    let mut original = Crm::start();
    original.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    original.add_contacts(1, 50);
    let mut copy = restored_copy(&mut original);
    assert_eq!(
        copy.ask::<i64>("SELECT count(*) FROM integration.outbox"),
        100
    );
    copy.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp'), integration.adopt()");
    wait_until("the adopted copy has sent", SOON, || {
        copy.queue_is_empty().then_some(())
    });
    assert_eq!(original.remote.contacts().len(), 50);
}

#[test]
fn changes_in_the_transaction_that_adopts_are_captured() {
    let mut original = Crm::start();
    original.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    original.add_contacts(1, 4);
    original.run("UPDATE crm.contacts SET phone = NULL; DELETE FROM crm.contacts WHERE id = 1");
    let mut copy = restored_copy(&mut original);
    let changes: String = (1..=9)
        .map(|n| {
            format!(
                "UPDATE crm.contacts SET last_name = 'Name {n}' WHERE id = {};",
                2 + n % 3
            )
        })
        .collect();
    copy.run(&format!(
        "BEGIN; {changes} SELECT integration.adopt(); {changes} SELECT integration.adopt(); {changes} COMMIT;
         SELECT integration.resume('hubspot'), integration.resume('mailchimp')"
    ));
    copy.converges();
}

#[test]
fn another_environment_is_fenced() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 5);
    crm.converges();
    crm.set("environment", "staging");
    wait_until("it is fenced", SOON, || {
        (crm.rows("SELECT DISTINCT state FROM integration.status") == ["fenced"]).then_some(())
    });
    let before = crm.remote.stats().requests;
    crm.add_contacts(6, 9);
    holds_for("it sends nothing", Duration::from_secs(1), || {
        crm.remote.stats().requests == before
    });
    crm.set("environment", "test");
    crm.converges();
}

/// A server of its own, in step.
pub fn original(environment: &[(&str, &str)]) -> Crm {
    let cluster = Arc::new(Cluster::start(&[], environment));
    let mut crm = Crm::start_on(cluster, unlimited());
    crm.add_contacts(1, 20);
    crm.converges();
    crm
}

#[track_caller]
pub fn is_fenced(copy: &mut Crm, why: &str) {
    let fenced = try_until(SOON, || {
        let rows = copy.rows("SELECT state, reason FROM integration.status");
        rows.iter()
            .all(|row| {
                row.starts_with("fenced|")
                    && row.contains(why)
                    && row.contains("integration.adopt()")
            })
            .then_some(())
    });
    if fenced.is_none() {
        panic!("it is not fenced because {why}\n{}", copy.report());
    }
}

#[track_caller]
pub fn sends_nothing(copy: &mut Crm) {
    let before = copy.remote.stats().requests;
    copy.run("UPDATE crm.contacts SET first_name = 'Copied'");
    let remote = copy.remote.clone();
    holds_for("the copy sends nothing", Duration::from_secs(1), || {
        remote.stats().requests == before
    });
}

#[track_caller]
pub fn goes_on(crm: &mut Crm, name: &str) {
    crm.run(&format!(
        "UPDATE crm.contacts SET last_name = '{name}' WHERE id = 1"
    ));
    crm.converges();
}

pub fn restart(crm: &mut Crm) {
    crm.cluster.stop(Stop::Fast);
    crm.cluster.launch();
    crm.client = crm.connect();
}

#[test]
fn renamed_database_is_fenced_and_told_why() {
    let mut crm = original(&[]);
    let name = crm.database.clone();
    crm.client = crm.cluster.connect("postgres");
    // Fenced by another name of the installation, no worker is kept, and the database can be renamed.
    crm.run(&format!(
        "ALTER DATABASE {name} SET integration.environment = 'another'"
    ));
    crm.client = crm.connect();
    crm.run("SELECT integration.reload()");
    is_fenced(&mut crm, "integration.environment was 'test'");
    crm.client = crm.cluster.connect("postgres");
    crm.run(&format!("ALTER DATABASE {name} RENAME TO renamed"));
    crm.run("ALTER DATABASE renamed SET integration.environment = 'test'");
    crm.database = "renamed".to_owned();
    crm.client = crm.connect();
    crm.run("SELECT integration.reload()");
    is_fenced(&mut crm, &format!("called {name}"));
    crm.run("SELECT integration.adopt()");
    goes_on(&mut crm, "Renamed");
}

#[test]
fn name_of_the_installation_is_asked_for_until_it_is_set() {
    let mut crm = Crm::start();
    const OPEN: &str =
        "SELECT count(*) FROM integration.alert WHERE kind = 'environment' AND cleared_at IS NULL";
    assert_eq!(crm.ask::<i64>(OPEN), 0);
    crm.set("environment", "");
    is_fenced(&mut crm, "integration.environment was 'test'");
    crm.run("SELECT integration.adopt()");
    wait_until("it is asked for", SOON, || {
        (crm.ask::<i64>(OPEN) == 2).then_some(())
    });
    let told = crm.notices("SELECT integration.track('crm.contacts', 'contact')");
    assert!(
        told.iter()
            .any(|notice| notice.contains("integration.environment is not set")),
        "{told:?}"
    );
    crm.set("environment", "production");
    crm.run("SELECT integration.adopt()");
    wait_until("it is asked for no more", SOON, || {
        (crm.ask::<i64>(OPEN) == 0).then_some(())
    });
    let told = crm.notices("SELECT integration.track('crm.contacts', 'contact')");
    assert!(
        !told
            .iter()
            .any(|notice| notice.contains("integration.environment")),
        "{told:?}"
    );
}
