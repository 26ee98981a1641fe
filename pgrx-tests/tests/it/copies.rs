//! A copy of the database never writes to production.

use std::{process::Stdio, time::Duration};

use integration_tests::{
    crm::{Crm, SOON},
    process::{as_server_user, bin},
    wait::{holds_for, wait_until},
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
    crm.set("environment", "");
    crm.converges();
}
