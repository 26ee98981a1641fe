//! What databases and roles set for their sessions changes nothing for us, and a setting of ours
//! that leads nowhere stops what depends on it, and nothing else.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::unlimited,
    wait::wait_until,
};

use crate::inbound::webhooks::{changed_in_hubspot, import};

/// What may be set for a database or a role, at its worst.
const HOSTILE: &[(&str, &str)] = &[
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("row_security", "off"),
    ("statement_timeout", "1ms"),
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
    ("idle_session_timeout", "1ms"),
    ("session_replication_role", "replica"),
    ("check_function_bodies", "off"),
    ("xmloption", "document"),
    ("xmlbinary", "hex"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "off"),
    ("escape_string_warning", "on"),
    ("array_nulls", "off"),
    ("quote_all_identifiers", "on"),
    ("transform_null_equals", "on"),
    ("search_path", "hostile"),
    ("DateStyle", "German, DMY"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Asia/Kathmandu"),
    ("timezone_abbreviations", "India"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("exit_on_error", "on"),
    ("gin_fuzzy_search_limit", "1"),
    ("restrict_nonsystem_relation_kind", "view"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_nestloop", "off"),
    ("enable_indexscan", "off"),
    ("enable_bitmapscan", "off"),
    ("work_mem", "64kB"),
    ("synchronous_commit", "remote_apply"),
    ("client_encoding", "LATIN1"),
    ("client_min_messages", "debug5"),
    ("default_table_access_method", "heap"),
    ("default_tablespace", ""),
    ("default_text_search_config", "pg_catalog.german"),
    ("lc_messages", "C"),
    ("lc_numeric", "C"),
    ("force_parallel_mode", "on"),
    ("plpgsql.extra_errors", "all"),
    ("plpgsql.variable_conflict", "use_column"),
    ("role", "nobody"),
];

fn set_all(crm: &mut Crm, whose: &str) {
    for (name, value) in HOSTILE {
        crm.run(&format!("ALTER {whose} SET {name} = '{value}'"));
    }
}

/// What a person needs to undo to be able to write at all.
const WRITABLE: &str = "
    SET role TO none; SET statement_timeout TO 0; SET lock_timeout TO 0; SET idle_session_timeout TO 0;
    SET idle_in_transaction_session_timeout TO 0; SET default_transaction_read_only TO off;
    SET default_transaction_isolation TO 'read committed'; SET default_transaction_deferrable TO off;
    SET session_replication_role TO origin; SET row_security TO on; SET exit_on_error TO off;
    SET restrict_nonsystem_relation_kind TO ''; SET client_encoding TO 'UTF8'; SET client_min_messages TO notice;
    SET plpgsql.extra_errors TO 'none'";

/// A session of a person who reads times as they like, but may write.
fn writable(crm: &mut Crm) {
    let cluster = crm.cluster.clone();
    let mut config = cluster.config(&crm.database);
    // Before any timeout of the session's own can end it.
    config.options(
        "-c statement_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0 -c client_min_messages=notice",
    );
    crm.client = config.connect(postgres::NoTls).unwrap();
    crm.run(WRITABLE);
}

fn round_trip(crm: &mut Crm) {
    crm.add_contacts(11, 20);
    crm.run("UPDATE crm.contacts SET phone = '1' WHERE id = 3; UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 2; DELETE FROM crm.contacts WHERE id = 7");
    crm.converges();
    crm.remote.clear_webhooks();
    let webhook = changed_in_hubspot(crm, "jobtitle", "Director");
    import(crm, &webhook);
    wait_until("what HubSpot says is applied", SOON, || {
        crm.ask::<bool>("SELECT job_title = 'Director' FROM crm.contacts WHERE id = 4")
            .then_some(())
    });
    crm.converges();
}

#[test]
fn worker_is_not_impressed_by_what_the_database_sets() {
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = Crm::start_on(cluster, unlimited());
    crm.add_contacts(1, 10);
    crm.converges();
    crm.run("CREATE ROLE nobody");
    let name = crm.database.clone();
    set_all(&mut crm, &format!("DATABASE {name}"));
    crm.run(&format!(
        "ALTER DATABASE {name} SET session_authorization = 'nobody'"
    ));
    crm.run("SELECT integration.reload()");
    writable(&mut crm);
    round_trip(&mut crm);
}

#[test]
fn worker_is_not_impressed_by_what_its_role_sets() {
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = Crm::start_on(cluster, unlimited());
    crm.add_contacts(1, 10);
    crm.converges();
    crm.run("CREATE ROLE nobody");
    set_all(&mut crm, "ROLE postgres");
    crm.run("SELECT integration.reload()");
    writable(&mut crm);
    round_trip(&mut crm);
    crm.run("ALTER ROLE postgres RESET ALL");
}

/// What only changes what values look like and what SQL means.
const STRANGE: &str = "
    SET DateStyle TO 'German, DMY'; SET IntervalStyle TO 'iso_8601'; SET TimeZone TO 'Asia/Kathmandu';
    SET extra_float_digits TO -15; SET bytea_output TO 'escape'; SET xmloption TO 'document';
    SET standard_conforming_strings TO off; SET backslash_quote TO off; SET array_nulls TO off;
    SET quote_all_identifiers TO on; SET transform_null_equals TO on; SET search_path TO hostile;
    SET default_transaction_isolation TO 'serializable'; SET check_function_bodies TO off;
    SET plpgsql.extra_errors TO 'all'; SET plpgsql.variable_conflict TO 'use_column'";

#[test]
fn functions_answer_the_same_whatever_the_session_sets() {
    let mut crm = Crm::start();
    crm.run(
        "CREATE TABLE crm.deals (id bigint PRIMARY KEY, name text, stage text, pipeline text, amount float8, close_date date);
         SELECT integration.track('crm.deals', 'deal'), integration.provision('hubspot');
         INSERT INTO crm.deals VALUES (1, E'it''s a \\\\ deal', 'appointmentscheduled', 'default', 0.1::float8 + 0.2::float8, '2026-03-04')",
    );
    crm.add_contacts(1, 3);
    crm.converges();
    let questions = [
        "SELECT source::oid, column_name, target, remote_field FROM integration.field_map ORDER BY 1, 2, 3, 4",
        "SELECT p.target, p.request FROM integration.preview('crm.deals', '1') p",
        "SELECT s.target, s.state FROM integration.sync_status('crm.deals', '1') s",
        "SELECT record_key, target FROM integration.link ORDER BY 1, 2",
    ];
    let plain: Vec<_> = questions.iter().map(|sql| crm.rows(sql)).collect();
    crm.run(STRANGE);
    let strange: Vec<_> = questions.iter().map(|sql| crm.rows(sql)).collect();
    assert_eq!(plain, strange);
    crm.run(
        "SELECT integration.untrack('crm.deals'); SELECT integration.track('crm.deals', 'deal')",
    );
    crm.run("UPDATE crm.deals SET amount = 0.7; SELECT integration.pause('hubspot', 'a \\ b'), integration.resume('hubspot')");
    crm.settle();
    assert_eq!(plain[0], crm.rows(questions[0]));
    assert_eq!(plain[3], crm.rows(questions[3]));
    assert!(crm.rows("SELECT * FROM integration.dlq").is_empty());
}

/// Sets something that leads nowhere: both targets say so, what comes in is applied, and repairing
/// it is enough.
#[track_caller]
fn stops_what_goes_out(setting: &str, wrong: &str, right: &str, told: &str) {
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = Crm::start_on(cluster, unlimited());
    crm.add_contacts(1, 5);
    crm.converges();
    crm.remote.clear_webhooks();
    let before = crm.cluster.log().len();
    crm.cluster.set(&format!("integration.{setting}"), wrong);
    wait_until("both targets say so", SOON, || {
        let rows = crm.rows("SELECT state, reason FROM integration.status");
        rows.iter()
            .all(|row| row.starts_with("unconfigured|") && row.contains(told))
            .then_some(())
    });
    crm.add_contacts(6, 9);
    let webhook = changed_in_hubspot(&mut crm, "jobtitle", "Director");
    import(&mut crm, &webhook);
    wait_until("what comes in is applied", SOON, || {
        crm.ask::<bool>("SELECT job_title = 'Director' FROM crm.contacts WHERE id = 4")
            .then_some(())
    });
    let log = crm.cluster.log().split_off(before);
    for bad in ["WARNING", "FATAL", "ERROR", "exit code"] {
        assert!(!log.contains(bad), "{log}");
    }
    crm.cluster.set(&format!("integration.{setting}"), right);
    crm.converges();
}

#[test]
fn certificate_file_that_does_not_exist_is_told() {
    stops_what_goes_out(
        "ca_file",
        "/nowhere/ca.pem",
        "",
        "integration.ca_file /nowhere/ca.pem",
    );
}

#[test]
fn certificate_file_that_is_none_is_told() {
    stops_what_goes_out(
        "ca_file",
        "/proc/self/stat",
        "",
        "integration.ca_file /proc/self/stat",
    );
}

#[test]
fn proxy_that_is_none_is_told() {
    stops_what_goes_out("http_proxy", "no url at all", "", "integration.http_proxy");
}

#[test]
fn role_that_does_not_exist_is_told() {
    stops_what_goes_out(
        "worker_role",
        "nobody_at_all",
        "",
        "integration.worker_role: nobody_at_all",
    );
}

#[test]
fn role_without_rights_is_told() {
    stops_what_goes_out(
        "worker_role",
        "pg_monitor",
        "postgres",
        "integration.worker_role: pg_monitor",
    );
}

#[test]
fn worker_starts_with_settings_that_lead_nowhere() {
    let cluster = Arc::new(Cluster::start(
        &[
            ("integration.ca_file", "/nowhere/ca.pem"),
            ("integration.worker_role", "nobody_at_all"),
        ],
        &[],
    ));
    let mut crm = Crm::untracked(cluster, integration_tests::remote::Config::default());
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    crm.add_contacts(1, 3);
    for (setting, told) in [
        ("ca_file", "integration.ca_file"),
        ("worker_role", "integration.worker_role"),
    ] {
        wait_until("it is told", SOON, || {
            let rows = crm.rows("SELECT state, reason FROM integration.status");
            rows.iter()
                .all(|row| row.starts_with("unconfigured|") && row.contains(told))
                .then_some(())
        });
        crm.cluster.set(&format!("integration.{setting}"), "");
    }
    wait_until("it goes on", SOON, || {
        (crm.rows("SELECT DISTINCT state FROM integration.status") == ["running"]).then_some(())
    });
}
