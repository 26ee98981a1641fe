//! A library and the extension's tables that do not fit together, and what a superuser may add to
//! our tables: never a crash, and never a change that is dropped without a word.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::unlimited,
    sql::refused_with_hint,
    wait::wait_until,
};

/// No worker looks at this database.
fn unattended() -> Crm {
    let cluster = Cluster::start(&[("integration.databases", "nowhere")], &[]);
    let mut crm = Crm::untracked(Arc::new(cluster), unlimited());
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    crm
}

fn queued(crm: &mut Crm) -> i64 {
    crm.ask("SELECT count(*) FROM integration.outbox WHERE target = 'hubspot'")
}

const INSERT: &str = "INSERT INTO crm.contacts (email) SELECT 'person' || n || '@example.org' FROM generate_series(1, 3) n";

#[test]
fn changes_are_queued_whatever_else_is_in_the_table() {
    let mut crm = unattended();
    let postmaster = crm.cluster.postmaster_pid();
    crm.run("CREATE FUNCTION crm.half(records int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN records / 2; END'");
    for added in [
        "ALTER TABLE integration._change ADD COLUMN more text",
        "ALTER TABLE integration._change DROP COLUMN more",
        "ALTER TABLE integration._change ADD COLUMN marked boolean DEFAULT true, ADD COLUMN at timestamptz NOT NULL DEFAULT clock_timestamp()",
        "ALTER TABLE integration._change ADD COLUMN no bigint GENERATED ALWAYS AS IDENTITY",
        "CREATE INDEX ON integration._change (source)",
        "CREATE INDEX ON integration._change (crm.half(records))",
        "CREATE INDEX ON integration._change (lane) WHERE records > 2",
        "CREATE INDEX ON integration._change USING hash (source)",
        "ALTER TABLE integration._change ADD EXCLUDE USING btree (xid WITH =, seq WITH =)",
        "ALTER TABLE integration._change ADD CHECK (records > 0)",
        "CREATE FUNCTION crm.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER swallow BEFORE INSERT ON integration._change FOR EACH ROW EXECUTE FUNCTION crm.swallow()",
        "CREATE RULE swallow AS ON INSERT TO integration._change DO INSTEAD NOTHING",
        "ALTER TABLE integration._change ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "ALTER TABLE integration._change ADD FOREIGN KEY (source) REFERENCES integration.tracked_table (id)",
    ] {
        crm.run(added);
        let before = queued(&mut crm);
        crm.run(INSERT);
        assert_eq!(queued(&mut crm), before + 3, "{added}");
    }
    // What was added is kept up: it is searched, and found to be whole.
    let by_index = |crm: &mut Crm, condition: &str| -> i64 {
        crm.run("SET enable_seqscan = off; SET enable_indexscan = on");
        let count = crm.ask(&format!(
            "SELECT count(*) FROM integration._change WHERE {condition}"
        ));
        crm.run("RESET enable_seqscan");
        count
    };
    assert!(by_index(&mut crm, "crm.half(records) = 1") > 5);
    assert_eq!(
        by_index(&mut crm, "lane = 1 AND records > 2 AND marked"),
        by_index(&mut crm, "marked")
    );
    assert!(
        crm.ask::<bool>("SELECT count(no) = max(no) FROM integration._change WHERE no IS NOT NULL")
    );
    assert_eq!(crm.cluster.postmaster_pid(), postmaster);
    assert!(!crm.cluster.log().contains("was terminated by signal"));
}

/// The statement fails, says so, and leaves nothing; once it is undone, changes are queued again.
#[test]
fn statement_fails_where_its_change_cannot_be_queued() {
    let mut crm = unattended();
    for (done, undone) in [
        (
            "ALTER TABLE integration._change RENAME COLUMN lane TO track",
            "ALTER TABLE integration._change RENAME COLUMN track TO lane",
        ),
        (
            "ALTER TABLE integration._change ALTER COLUMN lane TYPE integer",
            "ALTER TABLE integration._change ALTER COLUMN lane TYPE smallint",
        ),
        (
            "ALTER TABLE integration._change RENAME COLUMN changed TO was_changed",
            "ALTER TABLE integration._change RENAME COLUMN was_changed TO changed",
        ),
        (
            "ALTER TABLE integration._change ADD COLUMN more text; UPDATE integration._change SET more = ''; ALTER TABLE integration._change ALTER more SET NOT NULL",
            "ALTER TABLE integration._change DROP COLUMN more",
        ),
        (
            "ALTER TABLE integration._change ADD COLUMN twice int GENERATED ALWAYS AS (2 * records) STORED",
            "ALTER TABLE integration._change DROP COLUMN twice",
        ),
        (
            "ALTER TABLE integration._change ADD CONSTRAINT later UNIQUE (xid, seq, lane) DEFERRABLE",
            "ALTER TABLE integration._change DROP CONSTRAINT later",
        ),
        (
            "ALTER TABLE integration._change RENAME TO _changes",
            "ALTER TABLE integration._changes RENAME TO _change",
        ),
        (
            "ALTER TABLE integration._change RENAME TO _changes; CREATE TABLE integration._change (LIKE integration._changes) PARTITION BY LIST (lane)",
            "DROP TABLE integration._change; ALTER TABLE integration._changes RENAME TO _change",
        ),
        (
            "ALTER TABLE integration._plan RENAME COLUMN plan TO plans; SELECT integration._forget_plan('crm.contacts'::regclass)",
            "ALTER TABLE integration._plan RENAME COLUMN plans TO plan",
        ),
    ] {
        let before = queued(&mut crm);
        crm.run(done);
        let error = refused_with_hint(&mut crm.client, INSERT, "55000");
        assert!(
            error
                .hint()
                .unwrap()
                .contains("ALTER EXTENSION integration UPDATE")
        );
        assert!(
            error.detail().unwrap().contains("integration._"),
            "{error:?}"
        );
        assert_eq!(crm.ask::<i64>("SELECT count(*) FROM crm.contacts"), before);
        crm.run(undone);
        crm.run(INSERT);
        assert_eq!(queued(&mut crm), before + 3, "{undone}");
    }
}

/// A check that our rows do not pass is told as the server tells it.
#[test]
fn constraint_of_somebody_else_fails_the_statement() {
    let mut crm = unattended();
    crm.run("ALTER TABLE integration._change ADD CONSTRAINT small CHECK (records < 3)");
    let error = integration_tests::sql::refused(&mut crm.client, INSERT);
    assert_eq!(error.code().code(), "23514");
    assert!(error.message().contains("\"small\""), "{error:?}");
    assert_eq!(queued(&mut crm), 0);
}

#[test]
fn worker_says_what_does_not_fit_and_waits_until_it_does() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 3);
    crm.converges();
    for (done, undone, said) in [
        (
            "UPDATE pg_extension SET extversion = '0.0.7' WHERE extname = 'integration'",
            "UPDATE pg_extension SET extversion = '0.1.0' WHERE extname = 'integration'",
            "0.0.7",
        ),
        (
            "ALTER TABLE integration._change RENAME COLUMN changed TO was_changed",
            "ALTER TABLE integration._change RENAME COLUMN was_changed TO changed",
            "\"changed\"",
        ),
    ] {
        crm.run(&format!("{done}; SELECT integration._wake()"));
        let status = "SELECT string_agg(DISTINCT state || ' ' || coalesce(reason, ''), ',') FROM integration.status";
        let told = wait_until("the worker says what is wrong", SOON, || {
            let told: String = crm.ask(status);
            told.starts_with("unconfigured ").then_some(told)
        });
        for word in [said, "ALTER EXTENSION integration UPDATE"] {
            assert!(told.contains(word), "{told}");
        }
        let pid = crm.worker_pid();
        integration_tests::wait::holds_for(
            "it does not end",
            std::time::Duration::from_secs(3),
            || crm.cluster.worker_pid(&crm.database) == Some(pid),
        );
        crm.run(undone);
        crm.run("INSERT INTO crm.contacts (email) VALUES ('again@example.org')");
        crm.converges();
        crm.run("DELETE FROM crm.contacts WHERE email = 'again@example.org'");
        crm.converges();
    }
}
