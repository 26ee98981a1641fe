//! What a statement puts into the queue, before anybody has read it.

use integration_tests::uncommitted::Uncommitted;

const ADA: &str = "INSERT INTO crm.contacts VALUES (7, 'ada@example.com', 'Ada', true, 'x')";
const FORGET: &str = "DELETE FROM integration._change";

#[test]
fn change_is_queued_once_for_each_target_that_maps_it() {
    let mut session = Uncommitted::with_contacts();
    session.run(ADA);
    let queued: i64 = session
        .ask("SELECT count(*) FROM integration.outbox WHERE record_key = '7' AND op = 'upsert'");
    assert_eq!(queued, 2);
    session.run(FORGET);
    session.run("UPDATE crm.contacts SET first_name = 'Augusta'");
    let queued: String = session.ask(
        "SELECT string_agg(target || ' ' || changed::text, ', ' ORDER BY target) FROM integration.outbox",
    );
    assert_eq!(queued, "hubspot {first_name}, mailchimp {first_name}");
    session.run(FORGET);
    session.run("UPDATE crm.contacts SET marketing_opt_in = false");
    let queued: String = session.ask("SELECT string_agg(target, ',') FROM integration.outbox");
    assert_eq!(queued, "mailchimp");
    let lane: i64 = session.ask("SELECT lane::bigint FROM integration._change");
    assert_eq!(lane, 0, "an opt-out has a lane of its own");
}

#[test]
fn update_of_unmapped_columns_queues_nothing() {
    let mut session = Uncommitted::with_contacts();
    session.run(ADA);
    session.run(FORGET);
    session.run("UPDATE crm.contacts SET notes = 'y', first_name = first_name");
    assert_eq!(queued(&mut session), 0);
}

#[test]
fn savepoint_takes_its_changes_back() {
    let mut session = Uncommitted::with_contacts();
    session.run(ADA);
    session.run(
        "DO $$ BEGIN
             INSERT INTO crm.contacts VALUES (2, 'b@example.com', 'B', true, NULL);
             RAISE EXCEPTION 'back';
         EXCEPTION WHEN raise_exception THEN NULL; END $$",
    );
    let keys: String =
        session.ask("SELECT string_agg(DISTINCT record_key, ',') FROM integration.outbox");
    assert_eq!(keys, "7");
}

#[test]
fn many_rows_of_a_statement_share_few_queue_rows() {
    let mut session = Uncommitted::with_contacts();
    insert(&mut session, 5_000);
    assert_eq!(queued(&mut session), 10_000);
    let ids: i64 =
        session.ask("SELECT count(DISTINCT id) FROM integration.outbox WHERE target = 'hubspot'");
    assert_eq!(ids, 5_000);
    let rows: i64 = session.ask("SELECT count(*) FROM integration._change");
    assert!(rows < 20, "{rows}");
}

#[test]
fn long_transaction_shares_no_number_with_the_next_one() {
    let mut session = Uncommitted::with_contacts();
    insert(&mut session, 1_000);
    session.run(
        "INSERT INTO integration._change (xid, enqueued_at, seq, source, records, targets, lane, op, keys)
         SELECT n.xid::text::xid8, c.enqueued_at, n.seq, c.source, c.records, c.targets, c.lane, c.op, c.keys
         FROM integration._change c,
              (VALUES (1000, 0), (1000, 4096), (1000, 2147483647), (1001, -1), (1001, 0)) AS n (xid, seq)
         WHERE c.seq = 0",
    );
    assert!(queued(&mut session) > 4_000);
    let shared: i64 = session.ask("SELECT count(*) - count(DISTINCT id) FROM integration.outbox");
    assert_eq!(shared, 0);
}

#[test]
fn changed_key_is_a_deletion_and_an_insertion() {
    let mut session = Uncommitted::with_contacts();
    session.run(ADA);
    session.run(FORGET);
    session.run("UPDATE crm.contacts SET id = 8");
    let queued: String = session.ask(
        "SELECT string_agg(op || ' ' || record_key, ', ' ORDER BY op) FROM integration.outbox WHERE target = 'hubspot'",
    );
    assert_eq!(queued, "delete 7, upsert 8");
}

#[test]
fn composite_key_is_a_json_array() {
    let mut session = Uncommitted::begin();
    session.run(
        r#"CREATE SCHEMA crm;
           CREATE TABLE crm."Odd Näme" (region text, no int, "E-mail" text, PRIMARY KEY (region, no));
           SELECT integration.track('crm."Odd Näme"', 'contact');
           SELECT integration.map_field('crm."Odd Näme"', 'E-mail', 'hubspot', 'email');
           INSERT INTO crm."Odd Näme" VALUES ('e"u', 3, 'a@example.com')"#,
    );
    let key: String =
        session.ask("SELECT record_key FROM integration.outbox WHERE target = 'hubspot'");
    assert_eq!(key, r#"["e\"u","3"]"#);
}

#[test]
fn untracked_table_queues_nothing_until_it_is_tracked_again() {
    let mut session = Uncommitted::with_contacts();
    session.run("SELECT integration.untrack('crm.contacts')");
    session.run(ADA);
    assert_eq!(queued(&mut session), 0);
    session.run("SELECT integration.track('crm.contacts', 'contact')");
    session.run("UPDATE crm.contacts SET first_name = 'B'");
    assert_eq!(queued(&mut session), 2);
}

fn insert(session: &mut Uncommitted, contacts: u32) {
    session.run(&format!(
        "INSERT INTO crm.contacts SELECT i, 'c' || i || '@example.com', 'C', true, NULL FROM generate_series(1, {contacts}) i"
    ));
}

fn queued(session: &mut Uncommitted) -> i64 {
    session.ask("SELECT count(*) FROM integration.outbox")
}
