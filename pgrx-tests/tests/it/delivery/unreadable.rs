//! A row, a view or a lock that keeps something from being read holds up nothing else, and never
//! looks like a deletion.

use std::time::Duration;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Service, Status, unlimited},
    sql::refused_with_hint,
    wait::wait_until,
};

use crate::jobs::backfill::wait_for;

/// Contacts read through a view, whose `first_name` is this expression.
fn with_view(expression: &str) -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(&format!(
        "CREATE VIEW crm.shown AS SELECT id, email, {expression} AS first_name, last_name, marketing_opt_in FROM crm.contacts;
         SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown')"
    ));
    crm.track();
    crm
}

/// The companies go on, and so do the contacts at last: it is the same worker.
fn others_go_on(crm: &mut Crm) {
    let before = crm.remote.companies().len();
    crm.run("INSERT INTO crm.companies (name) VALUES ('Next')");
    wait_until("another table goes on", SOON, || {
        (crm.remote.companies().len() > before).then_some(())
    });
}

fn held(crm: &mut Crm) -> Vec<String> {
    crm.rows("SELECT DISTINCT source::text || ': ' || reason FROM integration.table_status WHERE state = 'held'")
}

fn wait_until_held(crm: &mut Crm, part: &str) {
    wait_until("the table is held", SOON, || {
        held(crm)
            .iter()
            .any(|line| line.contains(part))
            .then_some(())
    });
    assert_eq!(
        crm.rows("SELECT DISTINCT subject FROM integration.alert WHERE kind = 'held_table' AND cleared_at IS NULL"),
        ["crm.contacts"]
    );
}

fn wait_until_released(crm: &mut Crm) {
    let open =
        "SELECT count(*) FROM integration.alert WHERE kind = 'held_table' AND cleared_at IS NULL";
    wait_until("the table is released", SOON, || {
        (held(crm).is_empty() && crm.ask::<i64>(open) == 0).then_some(())
    });
}

#[test]
fn row_that_cannot_be_read_is_a_dead_letter_and_all_others_arrive() {
    let mut crm = with_view("first_name || 1 / (id % 100 - 37)");
    let worker = crm.worker_pid();
    crm.add_contacts(1, 120);
    crm.settle();
    assert_eq!(crm.remote.contacts().len(), 119, "{}", crm.report());
    assert!(crm.remote.contact("person37@example.org").is_none());
    let letters = crm.rows("SELECT record_key, category, error FROM integration.dlq WHERE target = 'hubspot' AND resolution IS NULL ORDER BY record_key::int");
    let letter = |key| format!("{key}|unmappable|the row cannot be read: division by zero (22012)");
    assert_eq!(letters, [letter(37)], "{}", crm.report());
    others_go_on(&mut crm);
    // Put right, it is sent when somebody says so.
    crm.run("CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name, last_name, marketing_opt_in FROM crm.contacts;
             SELECT integration.dlq_retry()");
    crm.settle();
    assert_eq!(crm.remote.contacts().len(), 120);
    assert_eq!(crm.worker_pid(), worker);
}

#[test]
fn view_that_cannot_be_read_holds_its_table_until_it_can() {
    let mut crm = with_view("upper(first_name)");
    let worker = crm.worker_pid();
    crm.add_contacts(1, 5);
    crm.settle();
    crm.run(
        "CREATE FUNCTION crm.looked_up(name text) RETURNS text LANGUAGE plpgsql AS
         $$ BEGIN RETURN (SELECT prefix FROM crm.prefixes) || name; END $$;
         CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, crm.looked_up(first_name) AS first_name, last_name, marketing_opt_in FROM crm.contacts",
    );
    crm.add_contacts(6, 10);
    crm.run("DELETE FROM crm.contacts WHERE id = 1");
    wait_until_held(&mut crm, "relation \"crm.prefixes\" does not exist (42P01)");
    others_go_on(&mut crm);
    assert_eq!(crm.remote.contacts().len(), 5);
    // So do the jobs of other tables, and those of this one wait.
    for asked in ["backfill('crm.companies')", "reconcile('crm.companies')"] {
        let job = crm.ask::<i64>(&format!("SELECT integration.{asked}"));
        wait_for(&mut crm, job, "state = 'done'");
    }
    let waits = crm.ask::<i64>("SELECT integration.reconcile('crm.contacts', 'hubspot')");
    crm.run("CREATE TABLE crm.prefixes AS SELECT 'Dr. ' AS prefix");
    wait_until_released(&mut crm);
    wait_for(&mut crm, waits, "state = 'done'");
    crm.settle();
    assert_eq!(crm.remote.contacts().len(), 9);
    assert_eq!(
        crm.remote.contact("person6@example.org").unwrap().1["firstname"],
        "Dr. First 6"
    );
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    crm.run("DROP VIEW crm.shown; SELECT integration._wake(); UPDATE crm.contacts SET first_name = 'Ada' WHERE id = 7");
    wait_until_held(&mut crm, "its payload view was dropped");
    assert_eq!(crm.worker_pid(), worker);
}

#[test]
fn view_that_fails_for_every_row_holds_its_table() {
    let mut crm = with_view("first_name || 1 / (id - id)");
    crm.add_contacts(1, 100);
    wait_until_held(&mut crm, "division by zero (22012)");
    others_go_on(&mut crm);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    crm.run("CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name, last_name, marketing_opt_in FROM crm.contacts");
    wait_until_released(&mut crm);
    crm.settle();
    assert_eq!(crm.remote.contacts().len(), 100);
}

#[test]
fn rows_that_the_owner_cannot_see_are_not_deleted() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let owner = format!("{}_owner", crm.database);
    crm.run(&format!(
        "CREATE ROLE {owner}; GRANT USAGE ON SCHEMA crm TO {owner}; ALTER TABLE crm.contacts OWNER TO {owner}"
    ));
    crm.track();
    crm.add_contacts(1, 20);
    crm.converges();
    let worker = crm.worker_pid();
    crm.run(
        "ALTER TABLE crm.contacts ENABLE ROW LEVEL SECURITY;
         ALTER TABLE crm.contacts FORCE ROW LEVEL SECURITY;
         UPDATE crm.contacts SET first_name = 'Ada'",
    );
    wait_until_held(&mut crm, "row security hides rows of crm.contacts");
    others_go_on(&mut crm);
    assert_eq!(crm.remote.contacts().len(), 20);
    // Who tracks such a table is told at once.
    let said = crm.notices("SELECT integration.track('crm.contacts', 'contact')");
    assert!(
        said.iter().any(|line| line.contains("row security")),
        "{said:?}"
    );
    // Nor by a comparison, or somebody who asks.
    let asked = "SELECT integration.preview('crm.contacts', '1')";
    let error = integration_tests::sql::refused(&mut crm.client, asked);
    assert_eq!(error.code().code(), "42501");
    let deletions = crm.remote.requests_to(Service::HubSpot);
    assert!(
        !deletions
            .iter()
            .any(|request| request.path.contains("archive"))
    );
    // What is really gone is deleted there, once it can be seen.
    crm.run(
        "DELETE FROM crm.contacts WHERE id = 1;
         ALTER TABLE crm.contacts NO FORCE ROW LEVEL SECURITY",
    );
    wait_until_released(&mut crm);
    crm.converges();
    assert_eq!(crm.remote.contacts().len(), 19);
    assert_eq!(crm.worker_pid(), worker);
    crm.run(&format!(
        "ALTER TABLE crm.contacts OWNER TO postgres; DROP OWNED BY {owner}; DROP ROLE {owner}"
    ));
}

#[test]
fn row_that_the_view_leaves_out_is_removed_or_left_alone_as_was_chosen() {
    for (choice, left) in [("NULL", 4), ("'delete'", 4), ("'keep'", 5)] {
        let mut crm = Crm::untracked(Cluster::shared(), unlimited());
        crm.run(&format!(
            "CREATE VIEW crm.shown AS SELECT id, email, first_name, last_name, marketing_opt_in FROM crm.contacts WHERE notes IS DISTINCT FROM 'hidden';
             SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown', payload_missing => {choice})"
        ));
        crm.track();
        crm.add_contacts(1, 5);
        crm.settle();
        crm.run("UPDATE crm.contacts SET notes = 'hidden' WHERE id = 2");
        crm.settle();
        assert_eq!(crm.remote.contacts().len(), left, "{choice}");
        // What the table has no more is gone either way.
        crm.run("DELETE FROM crm.contacts WHERE id = 3");
        crm.settle();
        assert_eq!(crm.remote.contacts().len(), left - 1, "{choice}");
    }
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.track('crm.contacts', 'contact', payload_missing => 'hide')",
        "22023",
    );
}

/// The promise is one second; three, for this machine may be busy.
const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn locked_table_keeps_nobody_waiting() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.run(
        "CREATE TABLE crm.people (id int PRIMARY KEY, email text, first_name text, marketing_opt_in boolean);
         INSERT INTO crm.people VALUES (1001, 'grace@example.org', 'Grace', true)",
    );
    crm.track();
    crm.run("SELECT integration.track('crm.people', 'contact')");
    crm.add_contacts(1, 20);
    crm.run("UPDATE crm.people SET first_name = 'Grace H.'");
    crm.settle();
    assert_eq!(
        crm.remote.member("grace@example.org").unwrap().status,
        Status::Subscribed
    );
    let worker = crm.worker_pid();
    let mut other = crm.connect();
    other
        .batch_execute("BEGIN; UPDATE crm.contacts SET first_name = 'Ada'; LOCK TABLE crm.contacts IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    crm.run("SELECT integration._enqueue(n.target, t.id, ARRAY(SELECT i::text FROM generate_series(1, 20) i)) FROM integration.tracked_table t, (VALUES ('hubspot'), ('mailchimp')) AS n(target) WHERE t.source::text = 'crm.contacts'");
    crm.run("UPDATE crm.people SET marketing_opt_in = false");
    wait_until("an opt-out leaves", PROMPT, || {
        let member = crm.remote.member("grace@example.org").unwrap();
        (member.status == Status::Unsubscribed).then_some(())
    });
    for round in 1..=5 {
        crm.run(&format!(
            "INSERT INTO crm.companies (name) VALUES ('Next {round}')"
        ));
        wait_until("other tables go on", PROMPT, || {
            (crm.remote.companies().len() == round).then_some(())
        });
    }
    assert_eq!(held(&mut crm), [""; 0]);
    other.batch_execute("COMMIT").unwrap();
    wait_until("the locked table follows", SOON, || {
        let (_, contact) = crm.remote.contact("person4@example.org").unwrap();
        (contact["firstname"] == "Ada").then_some(())
    });
    crm.settle();
    assert_eq!(crm.worker_pid(), worker);
    assert_eq!(
        crm.rows("SELECT source, target, record_key, error FROM integration.dlq"),
        [""; 0]
    );
}

#[test]
fn code_that_takes_too_long_holds_its_table() {
    for (catch, same_worker) in [
        ("", true),
        ("EXCEPTION WHEN query_canceled THEN NULL;", false),
    ] {
        let mut crm = with_view("upper(first_name)");
        crm.set("crm_timeout", "300ms");
        crm.add_contacts(1, 3);
        crm.settle();
        let worker = crm.worker_pid();
        crm.run(&format!(
            "CREATE FUNCTION crm.slow(name text) RETURNS text LANGUAGE plpgsql AS $$
             BEGIN
                 FOR i IN 1 .. 100 LOOP
                     BEGIN
                         PERFORM pg_sleep(60);
                     {catch}
                     END;
                 END LOOP;
                 RETURN name;
             END $$;
             CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, crm.slow(first_name) AS first_name, last_name, marketing_opt_in FROM crm.contacts;
             UPDATE crm.contacts SET notes = 'x', last_name = 'Slow' WHERE id = 2"
        ));
        wait_until_held(&mut crm, "longer than integration.crm_timeout");
        others_go_on(&mut crm);
        assert_eq!(crm.worker_pid() == worker, same_worker);
        // Made faster, and told so, it goes on.
        crm.run("CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name, last_name, marketing_opt_in FROM crm.contacts;
                 SELECT integration.resume('hubspot'); SELECT integration.resume('mailchimp')");
        wait_until_released(&mut crm);
        crm.settle();
        assert_eq!(
            crm.remote.contact("person2@example.org").unwrap().1["lastname"],
            "Slow"
        );
    }
}

/// When a lock counts as long is a matter of the engine's; here an earlier worker has come to that.
#[test]
fn table_locked_for_long_is_named_until_it_goes_on() {
    let mut crm = Crm::start();
    let id = crm.add_contact("grace@example.org", true);
    crm.converges();
    let mut other = crm.connect();
    other
        .batch_execute("BEGIN; LOCK TABLE crm.contacts IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let pid: i32 = other
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    crm.run(
        "INSERT INTO integration._hold (source, target, cause, reason)
         SELECT t.id, x.target, 'locked', 'locked' FROM integration.tracked_table t, unnest(t.targets) AS x(target)
         WHERE t.source = 'crm.contacts'::regclass;
         SELECT integration._enqueue('hubspot', t.id, ARRAY['1']) FROM integration.tracked_table t WHERE t.source = 'crm.contacts'::regclass;
         SELECT integration.reload()",
    );
    let holds = format!("process {pid} of ");
    let told = |crm: &mut Crm, sql: &str| -> bool {
        let rows = crm.rows(sql);
        let named = |row: &String| {
            row.contains(&holds) && row.contains("AccessExclusiveLock on crm.contacts")
        };
        rows.len() == 2 && rows.iter().all(named)
    };
    let alerts = "SELECT message FROM integration.alert WHERE kind = 'held_table' AND subject = 'crm.contacts' AND cleared_at IS NULL";
    for (what, sql) in [
        (
            "the table is held",
            "SELECT reason FROM integration.table_status WHERE source::text = 'crm.contacts' AND state = 'held'",
        ),
        ("an alert is open for each target", alerts),
        (
            "the targets say so",
            "SELECT reason FROM integration.status WHERE reason LIKE 'crm.contacts is held: %'",
        ),
    ] {
        wait_until(what, SOON, || told(&mut crm, sql).then_some(()));
    }
    let raised = "SELECT max(id), max(count) FROM integration.alert WHERE kind = 'held_table'";
    let before = crm.rows(raised);
    crm.run("INSERT INTO crm.companies (name) VALUES ('Next')");
    wait_until("other tables go on", PROMPT, || {
        (crm.remote.companies().len() == 1).then_some(())
    });
    assert_eq!(crm.rows(raised), before, "told once");
    other.batch_execute("COMMIT").unwrap();
    crm.run(&format!(
        "UPDATE crm.contacts SET first_name = 'Grace H.' WHERE id = {id}"
    ));
    wait_until("it goes on", SOON, || {
        (held(&mut crm).is_empty() && crm.rows(alerts).is_empty()).then_some(())
    });
    crm.converges();
}
