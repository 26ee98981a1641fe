//! Tracked tables that are partitioned, and triggers that others put elsewhere.

use integration_tests::{crm::Crm, sql::refused};

/// Deals in partitions, owned by a role without any right on the extension; both targets paused.
struct Deals {
    crm: Crm,
    owner: String,
}

impl Deals {
    fn start() -> Deals {
        let mut crm = Crm::start();
        let owner = format!("owner_of_{}", crm.database);
        crm.run(&format!(
            "SELECT integration.pause('hubspot', 'test'), integration.pause('mailchimp', 'test');
             CREATE ROLE {owner};
             GRANT ALL ON SCHEMA crm TO {owner};
             CREATE TABLE crm.deals (id int, year int, name text, amount numeric, PRIMARY KEY (id, year)) PARTITION BY LIST (year);
             ALTER TABLE crm.deals OWNER TO {owner};
             CREATE TABLE crm.deals_2025 PARTITION OF crm.deals FOR VALUES IN (2025);
             ALTER TABLE crm.deals_2025 OWNER TO {owner};
             SELECT integration.track('crm.deals', 'deal')"
        ));
        Deals { crm, owner }
    }

    /// As the tables' owner.
    #[track_caller]
    fn run(&mut self, sql: &str) {
        let owner = &self.owner;
        self.crm
            .run(&format!("SET ROLE {owner}; {sql}; RESET ROLE"));
    }

    /// What is queued since the last look: operation, key, changed columns.
    fn queued(&mut self) -> Vec<String> {
        let queued = self.crm.rows(
            "SELECT op, record_key, changed FROM integration.outbox WHERE source = 'crm.deals'::regclass ORDER BY record_key, op",
        );
        self.crm.run("DELETE FROM integration._change");
        queued
    }
}

impl Drop for Deals {
    fn drop(&mut self) {
        let owner = &self.owner;
        // The test may have ended in the middle of a transaction.
        let _ = self.crm.client.batch_execute(&format!(
            "ROLLBACK; RESET ROLE; DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}"
        ));
    }
}

#[test]
fn owner_creates_attaches_and_detaches_partitions() {
    let mut deals = Deals::start();
    deals.run(
        "CREATE TABLE crm.deals_2026 PARTITION OF crm.deals FOR VALUES IN (2026);
         INSERT INTO crm.deals VALUES (1, 2025, 'One', 1), (2, 2026, 'Two', 2)",
    );
    assert_eq!(
        deals.queued(),
        [
            "upsert|[\"1\",\"2025\"]|NULL",
            "upsert|[\"2\",\"2026\"]|NULL"
        ]
    );
    // Other columns, in another order, and one that was dropped.
    deals.run(
        "CREATE TABLE crm.deals_2027 (gone int, amount numeric, year int NOT NULL, name text, id int NOT NULL);
         ALTER TABLE crm.deals_2027 DROP COLUMN gone;
         INSERT INTO crm.deals_2027 VALUES (3, 2027, 'Three', 3);
         ALTER TABLE crm.deals ATTACH PARTITION crm.deals_2027 FOR VALUES IN (2027)",
    );
    assert!(
        deals.queued().is_empty(),
        "rows that were there are not changes"
    );
    deals.run("UPDATE crm.deals SET amount = 4 WHERE year = 2027");
    assert_eq!(deals.queued(), ["upsert|[\"3\",\"2027\"]|{amount}"]);
    // Written directly, there is no statement trigger.
    deals.run("UPDATE crm.deals_2027 SET name = 'Drei'");
    assert_eq!(deals.queued(), ["upsert|[\"3\",\"2027\"]|{name}"]);
    deals.run(
        "ALTER TABLE crm.deals DETACH PARTITION crm.deals_2027; UPDATE crm.deals_2027 SET amount = 5",
    );
    assert!(deals.queued().is_empty());
    deals.run(
        "ALTER TABLE crm.deals ATTACH PARTITION crm.deals_2027 FOR VALUES IN (2027); DELETE FROM crm.deals_2027",
    );
    assert_eq!(deals.queued(), ["delete|[\"3\",\"2027\"]|NULL"]);
}

#[test]
fn partitions_of_partitions_go_by_the_tracked_table() {
    let mut deals = Deals::start();
    deals.run(
        "CREATE TABLE crm.deals_old PARTITION OF crm.deals FOR VALUES IN (2020, 2021) PARTITION BY LIST (year);
         CREATE TABLE crm.deals_2020 PARTITION OF crm.deals_old FOR VALUES IN (2020);
         INSERT INTO crm.deals_2020 VALUES (1, 2020, 'One', 1)",
    );
    assert_eq!(deals.queued(), ["upsert|[\"1\",\"2020\"]|NULL"]);
    // A change of the plan reaches sessions that went by the old one.
    deals
        .crm
        .run("SELECT integration.map_field('crm.deals', 'name', 'hubspot', 'description')");
    deals
        .crm
        .run("SELECT integration.map_field('crm.deals', 'amount', 'hubspot', 'dealname')");
    deals.run("UPDATE crm.deals_2020 SET name = 'Eins'");
    assert_eq!(deals.queued(), ["upsert|[\"1\",\"2020\"]|{name}"]);
}

#[test]
fn plan_follows_columns_that_are_renamed() {
    let mut deals = Deals::start();
    deals.run("INSERT INTO crm.deals VALUES (1, 2025, 'One', 1)");
    deals.queued();
    deals.run(
        "ALTER TABLE crm.deals RENAME COLUMN amount TO price; ALTER TABLE crm.deals RENAME COLUMN id TO no;
         UPDATE crm.deals SET price = 2",
    );
    let queued = deals.queued();
    assert_eq!(queued.len(), 1, "{queued:?}");
    assert!(
        queued[0].starts_with("upsert|[\"1\",\"2025\"]|"),
        "{queued:?}"
    );
}

#[test]
fn trigger_of_somebody_else_queues_nothing() {
    let mut deals = Deals::start();
    let database = deals.crm.database.clone();
    let stranger = format!("stranger_to_{database}");
    let id: i32 = deals
        .crm
        .ask("SELECT id FROM integration.tracked_table WHERE source = 'crm.contacts'::regclass");
    let forged = format!(
        r#"{{"source": {id}, "key": ["id"], "targets": [{{"target": "hubspot"}}, {{"target": "mailchimp"}}]}}"#
    );
    deals.crm.run(&format!(
        "CREATE ROLE {stranger}; GRANT CREATE ON DATABASE {database} TO {stranger}; GRANT USAGE ON SCHEMA integration, crm TO {stranger};
         SET ROLE {stranger};
         CREATE SCHEMA theirs;
         CREATE TABLE theirs.contacts (id int PRIMARY KEY, email text);
         CREATE TRIGGER integration_row AFTER INSERT OR UPDATE OR DELETE ON theirs.contacts FOR EACH ROW EXECUTE FUNCTION integration._capture('{forged}');
         CREATE TRIGGER integration_statement AFTER INSERT OR UPDATE OR DELETE ON theirs.contacts EXECUTE FUNCTION integration._capture('{forged}');
         CREATE TRIGGER integration_truncate AFTER TRUNCATE ON theirs.contacts EXECUTE FUNCTION integration._capture('{forged}');
         INSERT INTO theirs.contacts VALUES (1, 'a'), (2, 'b');
         UPDATE theirs.contacts SET email = 'c', id = id + 10;
         DELETE FROM theirs.contacts WHERE id = 11;
         TRUNCATE theirs.contacts;
         CREATE CONSTRAINT TRIGGER later AFTER INSERT ON theirs.contacts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION integration._capture('{forged}');
         INSERT INTO theirs.contacts VALUES (3, 'd');
         CREATE TABLE theirs.part (id int, email text) PARTITION BY LIST (id);
         CREATE TABLE theirs.part_1 PARTITION OF theirs.part FOR VALUES IN (1);
         CREATE TRIGGER integration_row AFTER INSERT ON theirs.part FOR EACH ROW EXECUTE FUNCTION integration._capture('{forged}');
         INSERT INTO theirs.part VALUES (1, 'a');
         CREATE TRIGGER first BEFORE INSERT OR UPDATE ON theirs.contacts FOR EACH ROW EXECUTE FUNCTION integration._capture('{forged}');
         INSERT INTO theirs.contacts VALUES (1, 'a')"
    ));
    refused(&mut deals.crm.client, "SELECT integration._capture()");
    deals.crm.run("RESET ROLE");
    let queued: i64 = deals.crm.ask("SELECT count(*) FROM integration._change");
    assert_eq!(queued, 0);
    deals.crm.run(&format!(
        "DROP OWNED BY {stranger} CASCADE; DROP ROLE {stranger}"
    ));
}

#[test]
fn partition_that_is_truncated_by_itself_is_captured() {
    let mut deals = Deals::start();
    deals.run(
        "CREATE TABLE crm.deals_2026 PARTITION OF crm.deals FOR VALUES IN (2026);
         INSERT INTO crm.deals VALUES (1, 2025, 'One', 1), (2, 2026, 'Two', 2)",
    );
    deals.queued();
    for (table, seen) in [
        ("crm.deals_2025", 1),
        ("crm.deals_2025, crm.deals_2026", 1),
        // The partitions of a table that is truncated are not told again.
        ("crm.deals", 1),
    ] {
        deals.run(&format!("TRUNCATE {table}"));
        assert_eq!(deals.queued(), vec!["delete||NULL"; seen], "{table}");
    }
    // Of other tables nothing is.
    deals.run(
        "CREATE TABLE crm.other (id int) PARTITION BY LIST (id); CREATE TABLE crm.other_1 PARTITION OF crm.other FOR VALUES IN (1);
         TRUNCATE crm.other_1; TRUNCATE crm.other; BEGIN; SAVEPOINT s; TRUNCATE crm.deals_2025; ROLLBACK TO s; COMMIT",
    );
    assert!(deals.queued().is_empty());
}
