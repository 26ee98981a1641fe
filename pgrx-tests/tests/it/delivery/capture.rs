//! What the triggers queue, and that they do it in the user's transaction and nowhere else.
//! Both targets are paused, so that the queue can be looked at.

use integration_tests::{
    crm::{Crm, SOON},
    wait::wait_until,
};

fn paused() -> Crm {
    let mut crm = Crm::start();
    crm.run("SELECT integration.pause('hubspot', 'test'), integration.pause('mailchimp', 'test')");
    crm
}

fn queued(crm: &mut Crm) -> Vec<String> {
    crm.rows("SELECT target, source, record_key, op, changed FROM integration.outbox ORDER BY target, record_key, id")
}

#[test]
fn change_is_queued_in_the_transaction_that_makes_it() {
    let mut crm = paused();
    let mut other = crm.connect();
    let mut transaction = crm.client.transaction().unwrap();
    transaction
        .execute(
            "INSERT INTO crm.contacts (email) VALUES ('ada@example.org')",
            &[],
        )
        .unwrap();
    let inside: i64 = transaction
        .query_one("SELECT count(*) FROM integration.outbox", &[])
        .unwrap()
        .get(0);
    let outside: i64 = other
        .query_one("SELECT count(*) FROM integration.outbox", &[])
        .unwrap()
        .get(0);
    assert_eq!((inside, outside), (2, 0));
    transaction.commit().unwrap();
    let outside: i64 = other
        .query_one("SELECT count(*) FROM integration.outbox", &[])
        .unwrap()
        .get(0);
    assert_eq!(outside, 2);
}

#[test]
fn rolled_back_change_leaves_nothing() {
    let mut crm = paused();
    crm.run("BEGIN; INSERT INTO crm.contacts (email) VALUES ('ada@example.org'); ROLLBACK");
    assert!(queued(&mut crm).is_empty());
}

#[test]
fn rolled_back_savepoint_leaves_nothing_and_the_rest_stays() {
    let mut crm = paused();
    crm.run(
        "BEGIN; INSERT INTO crm.companies (name) VALUES ('first');
         SAVEPOINT s; INSERT INTO crm.companies (name) VALUES ('second'); ROLLBACK TO s;
         INSERT INTO crm.companies (name) VALUES ('third'); COMMIT",
    );
    assert_eq!(
        crm.rows("SELECT record_key FROM integration.outbox ORDER BY 1"),
        ["1", "3"]
    );
}

#[test]
fn failed_statement_leaves_nothing() {
    let mut crm = paused();
    crm.run("CREATE UNIQUE INDEX ON crm.contacts (email); INSERT INTO crm.contacts (email) VALUES ('ada@example.org')");
    let before = queued(&mut crm);
    crm.client
        .batch_execute(
            "INSERT INTO crm.contacts (email) VALUES ('bob@example.org'), ('ada@example.org')",
        )
        .unwrap_err();
    assert_eq!(queued(&mut crm), before);
}

#[test]
fn update_of_mapped_column_is_queued_for_the_targets_it_is_mapped_to() {
    let mut crm = paused();
    crm.add_contact("ada@example.org", true);
    crm.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
    crm.converges();
    crm.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
    crm.run("UPDATE crm.contacts SET job_title = 'Countess'");
    assert_eq!(
        queued(&mut crm),
        ["hubspot|crm.contacts|1|upsert|{job_title}"]
    );
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta Ada'");
    let firsts = crm.rows("SELECT target, changed FROM integration.outbox WHERE 'first_name' = ANY (changed) ORDER BY 1");
    assert_eq!(firsts, ["hubspot|{first_name}", "mailchimp|{first_name}"]);
}

#[test]
fn update_of_unmapped_column_queues_nothing() {
    let mut crm = paused();
    crm.add_contact("ada@example.org", true);
    let before = queued(&mut crm);
    assert_eq!(before.len(), 2);
    crm.run("UPDATE crm.contacts SET notes = 'likes machines', updated_at = now() + interval '1 second'");
    assert_eq!(queued(&mut crm), before);
}

#[test]
fn update_that_changes_no_value_queues_nothing() {
    let mut crm = paused();
    crm.add_contact("ada@example.org", true);
    let before = queued(&mut crm);
    crm.run("UPDATE crm.contacts SET email = email, first_name = first_name, phone = NULL");
    assert_eq!(queued(&mut crm), before);
}

#[test]
fn delete_is_queued_with_its_key() {
    let mut crm = paused();
    crm.add_contacts(1, 2);
    crm.run("DELETE FROM crm.contacts WHERE id = 2");
    let deletes = crm
        .rows("SELECT target, record_key FROM integration.outbox WHERE op = 'delete' ORDER BY 1");
    assert_eq!(deletes, ["hubspot|2", "mailchimp|2"]);
}

#[test]
fn upsert_and_merge_are_captured() {
    let mut crm = paused();
    crm.run(
        "ALTER TABLE crm.companies ADD UNIQUE (name);
         INSERT INTO crm.companies (name) VALUES ('old');
         INSERT INTO crm.companies (name, city) VALUES ('old', 'Bonn'), ('new', 'Kiel')
             ON CONFLICT (name) DO UPDATE SET city = excluded.city;
         MERGE INTO crm.companies c USING (VALUES ('new', 'Jena'), ('newest', 'Ulm')) v(name, city) ON c.name = v.name
             WHEN MATCHED THEN UPDATE SET city = v.city
             WHEN NOT MATCHED THEN INSERT (name, city) VALUES (v.name, v.city)",
    );
    let tells = crm.rows(
        "SELECT c.name, count(*) FROM integration.outbox o JOIN crm.companies c ON c.id::text = o.record_key GROUP BY 1 ORDER BY 1",
    );
    assert_eq!(tells, ["new|2", "newest|1", "old|2"]);
}

#[test]
fn role_without_rights_on_the_queue_can_write() {
    let mut crm = paused();
    let role = format!("app_of_{}", crm.database);
    crm.run(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA crm TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA crm TO {role};
         SET ROLE {role}; INSERT INTO crm.contacts (email) VALUES ('ada@example.org'); RESET ROLE"
    ));
    assert_eq!(queued(&mut crm).len(), 2);
    let may: bool = crm.ask(&format!(
        "SELECT has_schema_privilege('{role}', 'integration', 'USAGE')"
    ));
    assert!(!may, "rights in the schema are granted by hand");
    crm.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn writers_do_not_wait_for_each_other() {
    let mut crm = paused();
    crm.add_contacts(1, 100);
    let mut second = crm.connect();
    let mut third = crm.connect();
    crm.run("BEGIN; UPDATE crm.contacts SET phone = '1' WHERE id <= 50");
    for client in [&mut second, &mut third] {
        client
            .batch_execute("SET lock_timeout = '2s'; BEGIN")
            .unwrap();
    }
    second
        .batch_execute("UPDATE crm.contacts SET phone = '2' WHERE id BETWEEN 51 AND 75")
        .unwrap();
    third
        .batch_execute("UPDATE crm.contacts SET phone = '3' WHERE id > 75")
        .unwrap();
    // They commit in another order than they began.
    third.batch_execute("COMMIT").unwrap();
    second.batch_execute("COMMIT").unwrap();
    crm.run("COMMIT");
    let updates: i64 = crm.ask(
        "SELECT count(*) FROM integration.outbox WHERE changed = '{phone}' AND target = 'hubspot'",
    );
    assert_eq!(updates, 100);
}

#[test]
fn untracked_table_queues_no_more() {
    let mut crm = paused();
    crm.run("SELECT integration.untrack('crm.contacts'); INSERT INTO crm.contacts (email) VALUES ('ada@example.org')");
    assert!(queued(&mut crm).is_empty());
}

#[test]
fn new_columns_and_renamed_ones_do_not_break_writers() {
    let mut crm = paused();
    crm.add_contact("ada@example.org", true);
    let before = queued(&mut crm).len();
    crm.run(
        "ALTER TABLE crm.contacts DROP COLUMN notes, ADD COLUMN shoe_size integer;
         UPDATE crm.contacts SET shoe_size = 38;
         UPDATE crm.contacts SET last_name = 'King'",
    );
    assert_eq!(
        queued(&mut crm).len(),
        before + 2,
        "only last_name is mapped, to both targets"
    );
}

/// A trigger of the user's that changes another tracked table, fails, and carries on.
fn with_failing_trigger(trigger: &str) -> Crm {
    let mut crm = paused();
    crm.add_contacts(1, 50);
    crm.run(&format!(
        "CREATE FUNCTION crm.touch() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             BEGIN
                 INSERT INTO crm.companies (name) VALUES ('Acme');
                 RAISE EXCEPTION 'no';
             EXCEPTION WHEN OTHERS THEN NULL;
             END;
             RETURN NULL;
         END $$;
         DELETE FROM integration._change;
         CREATE TRIGGER {trigger} EXECUTE FUNCTION crm.touch();
         UPDATE crm.contacts SET phone = '1'"
    ));
    crm
}

#[test]
fn trigger_that_fails_in_an_exception_block_takes_nothing_along() {
    for trigger in [
        "a AFTER UPDATE ON crm.contacts FOR EACH STATEMENT",
        "z AFTER UPDATE ON crm.contacts FOR EACH ROW",
        "b BEFORE UPDATE ON crm.contacts FOR EACH STATEMENT",
    ] {
        let mut crm = with_failing_trigger(trigger);
        let queued = "SELECT source, count(*) FROM integration.outbox WHERE target = 'hubspot' GROUP BY source ORDER BY 1";
        assert_eq!(crm.rows(queued), ["crm.contacts|50"], "{trigger}");
    }
}

#[test]
fn map_field_leaves_triggers_as_they_are() {
    let mut crm = paused();
    let states = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'crm.contacts'::regclass AND NOT tgisinternal ORDER BY 1";
    crm.run(
        "ALTER TABLE crm.contacts ENABLE ALWAYS TRIGGER integration_row, DISABLE TRIGGER integration_statement, ENABLE REPLICA TRIGGER integration_truncate",
    );
    let set = [
        "integration_row|A",
        "integration_statement|D",
        "integration_truncate|R",
    ];
    assert_eq!(crm.rows(states), set);
    crm.run(
        "SELECT integration.map_field('crm.contacts', 'notes', 'hubspot', 'message');
         SELECT integration.track('crm.contacts', 'contact')",
    );
    assert_eq!(crm.rows(states), set);
    crm.run("SET session_replication_role = replica; INSERT INTO crm.contacts (notes) VALUES ('x'); UPDATE crm.contacts SET notes = 'y'");
    assert_eq!(
        crm.rows("SELECT op, changed FROM integration.outbox WHERE target = 'hubspot' ORDER BY id"),
        ["upsert|NULL", "upsert|{notes}"]
    );
    // What somebody took away or made into something else is put back.
    crm.run(
        "RESET session_replication_role;
         DROP TRIGGER integration_statement ON crm.contacts; DROP TRIGGER integration_row ON crm.contacts;
         CREATE TRIGGER integration_row AFTER INSERT ON crm.contacts FOR EACH ROW WHEN (NEW.id < 0) EXECUTE FUNCTION integration._capture();
         SELECT integration.track('crm.contacts', 'contact'); DELETE FROM integration._change;
         UPDATE crm.contacts SET notes = 'z'",
    );
    assert_eq!(
        crm.rows("SELECT op, changed FROM integration.outbox WHERE target = 'hubspot'"),
        ["upsert|{notes}"]
    );
}

#[test]
fn plan_of_many_columns_is_read() {
    let mut crm = paused();
    // Its plan is so long that it is stored out of line.
    crm.run(
        "DO $$
         DECLARE
             columns text[] := ARRAY(SELECT 'c' || md5(n::text) FROM generate_series(1, 300) n);
             name text;
         BEGIN
             EXECUTE 'CREATE TABLE crm.wide (id int PRIMARY KEY, ' || (SELECT string_agg(c || ' text', ', ') FROM unnest(columns) c) || ') PARTITION BY LIST (id)';
             CREATE TABLE crm.wide_1 PARTITION OF crm.wide FOR VALUES IN (1);
             PERFORM integration.track('crm.wide', 'deal');
             FOREACH name IN ARRAY columns LOOP
                 PERFORM integration.map_field('crm.wide', name::name, 'hubspot', name);
             END LOOP;
             EXECUTE format('INSERT INTO crm.wide (id, %I) VALUES (1, ''x'')', columns[300]);
             DELETE FROM integration._change;
             EXECUTE format('UPDATE crm.wide SET %I = ''y''', columns[300]);
         END $$",
    );
    assert_eq!(
        crm.rows("SELECT changed = ARRAY['c' || md5('300')] FROM integration.outbox"),
        ["t"]
    );
    let mut other = crm.connect();
    other.batch_execute("TRUNCATE crm.wide_1").unwrap();
    assert_eq!(
        crm.rows("SELECT op, record_key FROM integration.outbox WHERE op = 'delete'"),
        ["delete|"]
    );
}

#[test]
fn idle_worker_hears_of_a_trigger_that_was_disabled() {
    let mut crm = Crm::start();
    crm.add_contact("ada@example.org", true);
    crm.converges();
    let said = "SELECT string_agg(coalesce(reason, ''), ' ') FROM integration.table_status WHERE source = 'crm.contacts'::regclass";
    for trigger in ["integration_row", "integration_truncate"] {
        crm.run(&format!(
            "ALTER TABLE crm.contacts DISABLE TRIGGER {trigger}"
        ));
        wait_until("it is named", SOON, || {
            let reason: String = crm.ask(said);
            reason.contains(trigger).then_some(())
        });
        crm.run(&format!(
            "ALTER TABLE crm.contacts ENABLE ALWAYS TRIGGER {trigger}"
        ));
        wait_until("it is no longer named", SOON, || {
            let reason: String = crm.ask(said);
            (!reason.contains(trigger)).then_some(())
        });
    }
}
