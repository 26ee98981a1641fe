//! Rows that were there before: sent once, behind what changes now, whatever happens meanwhile.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Config, Service, Status, unlimited},
    sql::{quote_literal, refused_with_hint},
    wait::{try_until, wait_until},
};

/// Slow enough for something to happen before the end.
pub fn slow() -> Config {
    Config {
        delay_ms: 20,
        ..unlimited()
    }
}

/// So many contacts, there before the tables were tracked.
pub fn filled(cluster: Arc<Cluster>, config: Config, contacts: u32) -> Crm {
    let mut crm = Crm::untracked(cluster, config);
    crm.add_contacts(1, contacts);
    crm.track();
    assert!(crm.queue_is_empty(), "tracking alone sends nothing");
    crm
}

pub fn begin(crm: &mut Crm, arguments: &str) -> i64 {
    crm.ask(&format!("SELECT integration.backfill({arguments})"))
}

/// State, rows done, rows in all, per cent, whether there is an ETA, error.
pub fn job(crm: &mut Crm, id: i64) -> String {
    let sql = format!(
        "SELECT state, done, total, percent, eta IS NOT NULL, error FROM integration.job WHERE id = {id}"
    );
    crm.rows(&sql).remove(0)
}

#[track_caller]
pub fn wait_for(crm: &mut Crm, id: i64, what: &str) {
    let condition = format!("SELECT {what} FROM integration.job WHERE id = {id}");
    if try_until(LATER, || crm.ask::<bool>(&condition).then_some(())).is_none() {
        panic!("job: {}, not {what}\n{}", job(crm, id), crm.report());
    }
}

pub fn under_way(crm: &Crm, at_least: usize) {
    wait_until("the backfill is under way", SOON, || {
        (crm.remote.stats().contacts >= at_least).then_some(())
    });
}

/// Nothing of it is left in our tables but the job: at once, or a moment later if it was stopped.
pub fn assert_tidy(crm: &mut Crm) {
    let tidy = "SELECT NOT EXISTS (SELECT FROM integration._backfill) AND NOT EXISTS (SELECT FROM integration._change)";
    wait_until("what waited is gone", SOON, || {
        crm.ask::<bool>(tidy).then_some(())
    });
}

#[test]
fn rows_from_before_tracking_arrive_once() {
    let mut crm = filled(Cluster::shared(), unlimited(), 3_500);
    let id = begin(&mut crm, "'crm.contacts'");
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('2min')"));
    assert_eq!(job(&mut crm, id), "done|7000|7000|100|f|NULL");
    crm.converges();
    assert_eq!(crm.remote.members().len(), 1_750, "the consented alone");
    assert_tidy(&mut crm);
    let writes = |crm: &Crm| {
        [Service::HubSpot, Service::Mailchimp].map(|service| crm.remote.writes_to(service))
    };
    let before = writes(&crm);
    let again = begin(&mut crm, "'crm.contacts'");
    assert_ne!(id, again);
    wait_for(&mut crm, again, "state = 'done'");
    assert_eq!(job(&mut crm, again), "done|7000|7000|100|f|NULL");
    assert_eq!(writes(&crm), before, "nothing had changed");
}

#[test]
fn empty_table_is_done_at_once() {
    let mut crm = filled(Cluster::shared(), unlimited(), 0);
    let id = begin(&mut crm, "'crm.contacts'");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(job(&mut crm, id), "done|0|0|100|f|NULL");
}

#[test]
fn changes_made_behind_the_triggers_are_found() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 300);
    crm.converges();
    crm.run(
        "ALTER TABLE crm.contacts DISABLE TRIGGER ALL;
             UPDATE crm.contacts SET phone = 'unseen' WHERE id % 100 = 7;
             ALTER TABLE crm.contacts ENABLE TRIGGER ALL",
    );
    let before = crm.remote.writes_to(Service::HubSpot);
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(job(&mut crm, id), "done|300|300|100|f|NULL");
    assert_eq!(
        crm.remote.writes_to(Service::HubSpot),
        before + 1,
        "only what differs is sent"
    );
    let phone = crm.remote.contact("person7@example.org").unwrap().1["phone"].clone();
    assert_eq!(phone, "unseen");
}

#[test]
fn live_changes_overtake() {
    let mut crm = filled(Cluster::shared(), slow(), 12_000);
    crm.set("hubspot_max_connections", "1");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    under_way(&crm, 200);
    crm.run("UPDATE crm.contacts SET phone = 'live' WHERE id = 11999");
    wait_until("the live change is there", SOON, || {
        let (_, fields) = crm.remote.contact("person11999@example.org")?;
        (fields["phone"] == "live").then_some(())
    });
    let there = crm.remote.stats().contacts;
    assert!(there < 11_000, "{there} contacts came first");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(job(&mut crm, id), "done|12000|12000|100|f|NULL");
    assert_eq!(crm.remote.contacts().len(), 12_000);
}

#[test]
fn progress_grows_and_says_when_it_will_be_done() {
    let mut crm = filled(Cluster::shared(), slow(), 20_000);
    crm.set("hubspot_max_connections", "1");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot'");
    wait_for(
        &mut crm,
        id,
        "state = 'running' AND percent > 0 AND percent < 100 AND eta > created_at",
    );
    let first: i64 = crm.ask(&format!("SELECT done FROM integration.job WHERE id = {id}"));
    wait_for(
        &mut crm,
        id,
        &format!("done > {first} AND state = 'running' AND eta > started_at"),
    );
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(job(&mut crm, id), "done|20000|20000|100|f|NULL");
}

#[test]
fn only_filtered_rows_are_sent() {
    let mut crm = filled(Cluster::shared(), unlimited(), 3_000);
    crm.run("CREATE SCHEMA rules; CREATE FUNCTION rules.wanted(bigint) RETURNS boolean LANGUAGE sql RETURN $1 % 10 = 0");
    let filter =
        quote_literal("rules.wanted(id) AND contacts.phone LIKE '+49%' -- a comment; at the end");
    let id = begin(&mut crm, &format!("'crm.contacts', 'hubspot', {filter}"));
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(job(&mut crm, id), "done|300|300|100|f|NULL");
    assert_eq!(crm.remote.contacts().len(), 300);
}

#[test]
fn bad_filters_are_refused() {
    let mut crm = filled(Cluster::shared(), unlimited(), 10);
    for (filter, sqlstate) in [
        ("id >", "42601"),
        ("no_such_column = 1", "42703"),
        ("id", "42804"),
        ("count(*) > 1", "42803"),
        (
            "true)) FROM crm.contacts; DELETE FROM crm.contacts; SELECT ((true",
            "42P11",
        ),
    ] {
        let sql = format!(
            "SELECT integration.backfill('crm.contacts', filter => {})",
            quote_literal(filter)
        );
        refused_with_hint(&mut crm.client, &sql, sqlstate);
    }
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.backfill('crm.contacts', 'salesforce')",
        "42704",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.backfill('pg_class')",
        "42704",
    );
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.job WHERE kind = 'backfill'"),
        0
    );
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM crm.contacts"), 10);
}

#[test]
fn filter_runs_with_the_rights_of_the_tables_owner() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let owner = format!("{}_owner", crm.database);
    crm.run(&format!(
        "CREATE ROLE {owner};
         CREATE SCHEMA rules; GRANT USAGE ON SCHEMA rules, crm TO {owner};
         CREATE FUNCTION rules.owned() RETURNS boolean LANGUAGE sql STABLE RETURN current_user = '{owner}';
         ALTER TABLE crm.contacts OWNER TO {owner}"
    ));
    crm.add_contacts(1, 5);
    crm.track();
    let id = begin(&mut crm, "'crm.contacts', 'hubspot', 'rules.owned()'");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(crm.remote.contacts().len(), 5);
    let denied = "SELECT integration.backfill('crm.contacts', filter => 'EXISTS (SELECT FROM integration.dlq)')";
    refused_with_hint(&mut crm.client, denied, "42501");
    crm.run(&format!(
        "ALTER TABLE crm.contacts OWNER TO postgres; DROP OWNED BY {owner}; DROP ROLE {owner}"
    ));
}

#[test]
fn composite_keys_are_walked_by_their_index() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(
        "CREATE TABLE crm.people (region text, number int, name char(12), email text, first_name text, PRIMARY KEY (region, number, name));
         INSERT INTO crm.people SELECT chr(65 + n % 7) || '\"', n, 'N ' || n % 3, 'p' || n || '@example.org', 'First ' || n FROM generate_series(1, 2600) n",
    );
    crm.track();
    crm.run("SELECT integration.track('crm.people', 'contact', targets => '{hubspot}')");
    let id = begin(&mut crm, "'crm.people'");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(job(&mut crm, id), "done|2600|2600|100|f|NULL");
    assert_eq!(crm.remote.contacts().len(), 2_600);
    // The triggers call the records by the same keys.
    crm.run("SET enable_seqscan = off; UPDATE crm.people SET first_name = 'Ada' WHERE region = 'G\"' AND number = 1000");
    crm.settle();
    assert_eq!(crm.remote.contacts().len(), 2_600);
    assert_eq!(
        crm.remote.contact("p1000@example.org").unwrap().1["firstname"],
        "Ada"
    );
    let scans = "SELECT idx_scan > 2600, seq_scan FROM pg_stat_user_tables WHERE relid = 'crm.people'::regclass";
    let sequential = wait_until("the worker's statistics are there", SOON, || {
        // A worker that sleeps tells nothing.
        crm.run("SELECT integration._wake()");
        let counted = crm.rows(scans).remove(0);
        counted.strip_prefix("t|").map(str::to_owned)
    });
    assert_eq!(sequential, "1", "the one that built the index");
}

#[test]
fn second_call_finds_the_first_ones_job() {
    let mut crm = filled(Cluster::shared(), unlimited(), 10);
    crm.run("SELECT integration.pause('hubspot'); SELECT integration.pause('mailchimp')");
    let id = begin(&mut crm, "'crm.contacts', 'hubspot', 'id < 5'");
    assert_eq!(begin(&mut crm, "'crm.contacts', 'hubspot', 'id < 5'"), id);
    for other in ["'crm.contacts', 'hubspot'", "'crm.contacts'"] {
        let sql = format!("SELECT integration.backfill({other})");
        refused_with_hint(&mut crm.client, &sql, "55006");
    }
    let mailchimp = begin(&mut crm, "'crm.contacts', 'mailchimp'");
    assert_ne!(mailchimp, id);
    assert_eq!(
        begin(&mut crm, "'crm.contacts', 'mailchimp', 'id < 5'"),
        mailchimp,
        "that covers it"
    );
    crm.run("SELECT integration.resume('hubspot'); SELECT integration.resume('mailchimp')");
    assert!(crm.ask::<bool>("SELECT integration.wait_idle()"));
    assert_eq!(
        (crm.remote.contacts().len(), crm.remote.members().len()),
        (4, 5)
    );
}

#[test]
fn little_memory_is_enough() {
    let mut crm = filled(Cluster::shared(), slow(), 3_000);
    crm.set("max_in_flight_records", "500");
    let id = begin(&mut crm, "'crm.contacts'");
    under_way(&crm, 100);
    crm.run("UPDATE crm.contacts SET phone = 'live' WHERE id % 300 = 0");
    wait_for(&mut crm, id, "state = 'done'");
    crm.converges();
}

#[test]
fn opt_outs_overtake() {
    let mut config = slow();
    config.delay_ms = 150;
    let mut crm = filled(Cluster::shared(), config, 12_000);
    crm.set("mailchimp_max_connections", "1");
    let id = begin(&mut crm, "'crm.contacts', 'mailchimp'");
    wait_until("person 2 is subscribed", SOON, || {
        (crm.remote.status_of("person2@example.org") == Some(Status::Subscribed)).then_some(())
    });
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 2");
    wait_until("person 2 is not any more", SOON, || {
        (crm.remote.status_of("person2@example.org") == Some(Status::Unsubscribed)).then_some(())
    });
    assert!(crm.remote.members().len() < 5_500, "that was last");
    wait_for(&mut crm, id, "state = 'done'");
    crm.settle();
    assert_eq!(crm.remote.members().len(), 6_000);
}
