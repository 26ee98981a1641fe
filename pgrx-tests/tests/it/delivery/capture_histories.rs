//! What is queued when transactions are made of savepoints, exception blocks, errors, triggers that
//! write on their own, and deferred ones.
//!
//! The model is a row trigger in PL/pgSQL that notes every change of a row in a table of its own:
//! the server rolls back those notes exactly where it rolls back the changes. At the end of each
//! history the queue has to hold the same (table, key, operation) as the notes, no more and no
//! less, and something for every row that is not what it was before.
//!
//! Histories are made up from a seed. Set `INTEGRATION_HISTORIES` to run more of them; a failure
//! prints the number of the history and its statements.

mod script;

use std::{fmt::Write as _, sync::Arc};

use integration_tests::{cluster::Cluster, crm::Crm, remote::unlimited};
use postgres::Client;

use script::{End, History};

const HISTORIES: u64 = 10_000;

/// Two tracked tables, whose triggers run what the column `act` says at one of six moments, and
/// the notes.
const SCHEMA: &str = "
    DROP TABLE crm.contacts, crm.companies;
    CREATE TABLE crm.contacts (id int PRIMARY KEY, name text CHECK (name <> 'bad'), act jsonb);
    CREATE TABLE crm.companies (id int PRIMARY KEY, name text CHECK (name <> 'bad'), act jsonb);
    CREATE TABLE crm.note (source regclass, record_key text, op text);
    CREATE TABLE crm.was (source regclass, id int, name text);

    CREATE FUNCTION crm.note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            INSERT INTO crm.note VALUES (TG_RELID, '', 't');
            RETURN NULL;
        END IF;
        IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
            INSERT INTO crm.note VALUES (TG_RELID, OLD.id, 'd');
        END IF;
        IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND (OLD.id, OLD.name) IS DISTINCT FROM (NEW.id, NEW.name) THEN
            INSERT INTO crm.note VALUES (TG_RELID, NEW.id, 'u');
        END IF;
        RETURN NULL;
    END $$;

    CREATE FUNCTION crm.act() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        act text;
    BEGIN
        IF TG_LEVEL = 'ROW' THEN
            act := NEW.act->>TG_ARGV[0];
            IF act IS NOT NULL THEN
                EXECUTE act;
            END IF;
            RETURN NEW;
        END IF;
        FOR act IN SELECT n.act->>TG_ARGV[0] FROM news n WHERE n.act ? TG_ARGV[0] ORDER BY n.id LOOP
            EXECUTE act;
        END LOOP;
        RETURN NULL;
    END $$;

    -- Looks at all that the history left, and takes it away for the next one. Wrong is what should not be; else NULL.
    CREATE FUNCTION crm.verdict(OUT queued bigint, OUT wrong text) LANGUAGE plpgsql AS $$
    BEGIN
        WITH gone AS (
            DELETE FROM integration._change RETURNING source, op, keys
        ), queued AS MATERIALIZED (
            SELECT DISTINCT t.source, k.key AS record_key, g.op::text
            FROM gone g JOIN integration.tracked_table t ON t.id = g.source CROSS JOIN integration._unpack_keys(g.keys) AS k(key)
        ), noted AS (
            DELETE FROM crm.note RETURNING source, record_key, op
        ), present AS (
            SELECT 'crm.contacts'::regclass AS source, id, name FROM crm.contacts
            UNION ALL SELECT 'crm.companies', id, name FROM crm.companies
        ), changed AS (
            (SELECT * FROM present EXCEPT SELECT * FROM crm.was) UNION (SELECT * FROM crm.was EXCEPT SELECT * FROM present)
        ), wrong AS (
            SELECT 'not queued: ' || x::text AS what FROM (SELECT * FROM noted EXCEPT SELECT * FROM queued) x
            UNION ALL
            SELECT 'queued, but rolled back or never there: ' || x::text FROM (SELECT * FROM queued EXCEPT SELECT * FROM noted) x
            UNION ALL
            SELECT 'changed, and nothing is queued: ' || c::text FROM changed c
            WHERE NOT EXISTS (SELECT FROM queued q WHERE q.source = c.source AND q.record_key IN (c.id::text, ''))
        )
        SELECT (SELECT count(*) FROM queued), (SELECT string_agg(what, E'\\n' ORDER BY what) FROM wrong) INTO verdict.queued, verdict.wrong;
        IF verdict.queued > 0 THEN
            DELETE FROM crm.was;
            INSERT INTO crm.was SELECT 'crm.contacts', id, name FROM crm.contacts UNION ALL SELECT 'crm.companies', id, name FROM crm.companies;
        END IF;
    END $$;";

/// Triggers fire in the order of their names: of rows `aa`, `integration_row`, `noting`, `zz`; of
/// statements `aa`, `integration_statement`, `zz`.
const TRIGGERS: &str = "
    CREATE TRIGGER early BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION crm.act('early');
    CREATE TRIGGER aa AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION crm.act('before');
    CREATE TRIGGER noting AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION crm.note();
    CREATE TRIGGER noting_all AFTER TRUNCATE ON {table} EXECUTE FUNCTION crm.note();
    CREATE TRIGGER zz AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION crm.act('after');
    CREATE CONSTRAINT TRIGGER later AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION crm.act('later');
    CREATE TRIGGER aa_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS news FOR EACH STATEMENT EXECUTE FUNCTION crm.act('statement');
    CREATE TRIGGER aa_update AFTER UPDATE ON {table} REFERENCING NEW TABLE AS news FOR EACH STATEMENT EXECUTE FUNCTION crm.act('statement');
    CREATE TRIGGER zz_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS news FOR EACH STATEMENT EXECUTE FUNCTION crm.act('end');
    CREATE TRIGGER zz_update AFTER UPDATE ON {table} REFERENCING NEW TABLE AS news FOR EACH STATEMENT EXECUTE FUNCTION crm.act('end');
    SELECT integration.track('{table}', 'company', targets => '{hubspot}');
    SELECT integration.map_field('{table}', 'name', 'hubspot', 'name');";

/// No worker looks at this database: the queue is ours.
fn crm() -> Crm {
    let settings = [
        ("integration.databases", "nowhere"),
        ("max_prepared_transactions", "5"),
        ("log_min_messages", "fatal"),
        ("jit", "off"),
        ("log_min_error_statement", "panic"),
    ];
    let cluster = Arc::new(Cluster::start(&settings, &[]));
    let mut crm = Crm::untracked(cluster, unlimited());
    crm.run(SCHEMA);
    for table in ["crm.contacts", "crm.companies"] {
        crm.run(&TRIGGERS.replace("{table}", table));
    }
    crm
}

/// Runs a history as a client would that carries on after errors, where it can.
fn run(client: &mut Client, history: &History) {
    for (place, part) in history.parts.iter().enumerate() {
        // Errors are part of it.
        if client.batch_execute(part).is_err() && history.end != End::Alone {
            let back = match place {
                0 => "ROLLBACK; BEGIN".to_owned(),
                _ => format!("ROLLBACK TO part{place}"),
            };
            client.batch_execute(&back).unwrap();
        }
        if history.end != End::Alone {
            client
                .batch_execute(&format!("SAVEPOINT part{}", place + 1))
                .unwrap();
        }
    }
    let end: &[&str] = match history.end {
        End::Alone => &[],
        End::Commit => &["COMMIT"],
        End::Rollback => &["ROLLBACK"],
        End::CommitPrepared => &["PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'"],
        End::RollbackPrepared => &["PREPARE TRANSACTION 'p'", "ROLLBACK PREPARED 'p'"],
    };
    for statement in end {
        // A deferred trigger may have failed: then everything was rolled back.
        if client.batch_execute(statement).is_err() {
            client.batch_execute("ROLLBACK").unwrap();
            return;
        }
    }
}

#[test]
fn keys_live_and_die_with_their_subtransaction() {
    let histories = std::env::var("INTEGRATION_HISTORIES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(HISTORIES);
    let mut crm = crm();
    let mut queued: i64 = 0;
    for number in 0..histories {
        let history = History::make_up(number);
        run(&mut crm.client, &history);
        let verdict = crm
            .client
            .query_one("SELECT queued, wrong FROM crm.verdict()", &[]);
        let verdict = verdict.unwrap();
        queued += verdict.get::<_, i64>(0);
        let verdict: Option<String> = verdict.get(1);
        if let Some(wrong) = verdict {
            let mut told = String::new();
            for part in &history.parts {
                let _ = writeln!(told, "{part}");
            }
            panic!("history {number}, {:?}:\n{told}\n{wrong}", history.end);
        }
    }
    // They were about something.
    assert!(queued > histories.cast_signed() / 2, "{queued} keys queued");
}
