//! Tests that run inside the server, in a transaction that is rolled back: what the worker never
//! gets to see.
#![allow(clippy::disallowed_methods, reason = "tests say what they mean in SQL")]

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use pgrx::prelude::*;

    const CRM: &str = "\
        CREATE SCHEMA crm; \
        CREATE TABLE crm.contacts (id bigint PRIMARY KEY, email text, first_name text, marketing_opt_in boolean, notes text); \
        SET client_min_messages = warning; \
        SELECT integration.track('crm.contacts', 'contact');";

    fn run(sql: &str) {
        Spi::run(sql).expect(sql);
    }

    fn text(sql: &str) -> Option<String> {
        Spi::get_one::<String>(sql).expect(sql)
    }

    fn number(sql: &str) -> i64 {
        Spi::get_one::<i64>(sql).expect(sql).expect("a number")
    }

    #[pg_test]
    fn a_change_is_queued_once_for_each_target_that_maps_it() {
        run(CRM);
        run("INSERT INTO crm.contacts VALUES (7, 'ada@example.com', 'Ada', true, 'x')");
        assert_eq!(
            number(
                "SELECT count(*) FROM integration.outbox WHERE record_key = '7' AND op = 'upsert'"
            ),
            2
        );
        run("DELETE FROM integration._change");
        run("UPDATE crm.contacts SET first_name = 'Augusta'");
        assert_eq!(
            text("SELECT string_agg(target || ' ' || changed::text, ', ' ORDER BY target) FROM integration.outbox").as_deref(),
            Some("hubspot {first_name}, mailchimp {first_name}")
        );
        run("DELETE FROM integration._change");
        run("UPDATE crm.contacts SET marketing_opt_in = false");
        assert_eq!(
            text("SELECT string_agg(target, ',') FROM integration.outbox").as_deref(),
            Some("mailchimp")
        );
        assert_eq!(
            number("SELECT lane::bigint FROM integration._change"),
            0,
            "an opt-out has a lane of its own"
        );
    }

    #[pg_test]
    fn an_update_of_unmapped_columns_queues_nothing() {
        run(CRM);
        run("INSERT INTO crm.contacts VALUES (7, 'ada@example.com', 'Ada', true, 'x')");
        run("DELETE FROM integration._change");
        run("UPDATE crm.contacts SET notes = 'y', first_name = first_name");
        assert_eq!(number("SELECT count(*) FROM integration.outbox"), 0);
    }

    #[pg_test]
    fn a_savepoint_takes_its_changes_back() {
        run(CRM);
        run("INSERT INTO crm.contacts VALUES (1, 'a@example.com', 'A', true, NULL)");
        run("DO $$ BEGIN \
                INSERT INTO crm.contacts VALUES (2, 'b@example.com', 'B', true, NULL); \
                RAISE EXCEPTION 'back'; \
            EXCEPTION WHEN raise_exception THEN NULL; END $$");
        assert_eq!(
            text("SELECT string_agg(DISTINCT record_key, ',') FROM integration.outbox").as_deref(),
            Some("1")
        );
    }

    #[pg_test]
    fn many_rows_of_a_statement_share_few_queue_rows() {
        run(CRM);
        run(
            "INSERT INTO crm.contacts SELECT i, 'c' || i || '@example.com', 'C', true, NULL FROM generate_series(1, 5000) i",
        );
        assert_eq!(number("SELECT count(*) FROM integration.outbox"), 10_000);
        assert_eq!(
            number("SELECT count(DISTINCT id) FROM integration.outbox WHERE target = 'hubspot'"),
            5_000
        );
        assert!(number("SELECT count(*) FROM integration._change") < 20);
    }

    #[pg_test]
    fn a_long_transaction_shares_no_number_with_the_next_one() {
        run(CRM);
        run(
            "INSERT INTO crm.contacts SELECT i, 'c' || i || '@example.com', 'C', true, NULL FROM generate_series(1, 1000) i",
        );
        run(
            "INSERT INTO integration._change (xid, enqueued_at, seq, source, records, targets, lane, op, keys) \
             SELECT n.xid::text::xid8, c.enqueued_at, n.seq, c.source, c.records, c.targets, c.lane, c.op, c.keys \
             FROM integration._change c, \
                  (VALUES (1000, 0), (1000, 4096), (1000, 2147483647), (1001, -1), (1001, 0)) AS n (xid, seq) \
             WHERE c.seq = 0",
        );
        assert!(number("SELECT count(*) FROM integration.outbox") > 4_000);
        assert_eq!(
            number("SELECT count(*) - count(DISTINCT id) FROM integration.outbox"),
            0
        );
    }

    #[pg_test]
    fn a_changed_key_is_a_deletion_and_an_insertion() {
        run(CRM);
        run("INSERT INTO crm.contacts VALUES (1, 'a@example.com', 'A', true, NULL)");
        run("DELETE FROM integration._change");
        run("UPDATE crm.contacts SET id = 2");
        assert_eq!(
            text("SELECT string_agg(op || ' ' || record_key, ', ' ORDER BY op) FROM integration.outbox WHERE target = 'hubspot'").as_deref(),
            Some("delete 1, upsert 2")
        );
    }

    #[pg_test]
    fn a_composite_key_is_a_json_array() {
        run("CREATE SCHEMA crm; SET client_min_messages = warning; \
             CREATE TABLE crm.\"Odd Näme\" (region text, no int, \"E-mail\" text, PRIMARY KEY (region, no)); \
             SELECT integration.track('crm.\"Odd Näme\"', 'contact'); \
             SELECT integration.map_field('crm.\"Odd Näme\"', 'E-mail', 'hubspot', 'email'); \
             INSERT INTO crm.\"Odd Näme\" VALUES ('e\"u', 3, 'a@example.com')");
        assert_eq!(
            text("SELECT record_key FROM integration.outbox WHERE target = 'hubspot'").as_deref(),
            Some(r#"["e\"u","3"]"#)
        );
    }

    #[pg_test]
    fn nothing_is_open_to_the_public() {
        let open = "SELECT string_agg(p.proname, ', ') FROM pg_proc p \
            WHERE p.pronamespace = 'integration'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')";
        // Owners of partitions create its triggers; on tables that are not tracked it does nothing.
        assert_eq!(text(open).as_deref(), Some("_capture"));
        let open = "SELECT string_agg(c.relname, ', ') FROM pg_class c \
            WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v') AND has_table_privilege('public', c.oid, 'SELECT')";
        assert_eq!(text(open), None);
    }

    #[pg_test]
    fn every_object_has_a_comment() {
        let silent = "SELECT string_agg(c.relname, ', ') FROM pg_class c \
            WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL";
        assert_eq!(text(silent), None);
        let silent = "SELECT string_agg(c.relname || '.' || a.attname, ', ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
            WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped \
              AND col_description(c.oid, a.attnum) IS NULL";
        assert_eq!(text(silent), None);
        let silent = "SELECT string_agg(p.proname, ', ') FROM pg_proc p \
            WHERE p.pronamespace = 'integration'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL";
        assert_eq!(text(silent), None);
    }

    #[pg_test]
    fn addresses_are_found_in_texts_but_not_in_longer_addresses() {
        let cases = [
            ("Ada@Example.org", true),
            ("no contact <ada@example.org>, sorry.", true),
            ("it was ada@example.org.", true),
            ("email = 'ada@example.org'", true),
            ("{\"email\":\"ada@example.org\"}", true),
            ("x.ada@example.org", false),
            ("o'ada@example.org", false),
            ("ada@example.org.uk", false),
            ("ada@example.organisation", false),
            ("adaXexampleYorg", false),
            ("q\"x@example.org", true),
            ("{\"email\":\"q\\\"x@example.org\"}", true),
        ];
        for (said, found) in cases {
            let sql = format!(
                "SELECT $a${said}$a$ ~* integration._mention('{{ada@example.org,\"q\\\"x@example.org\"}}')"
            );
            let is_found = Spi::get_one::<bool>(&sql).expect(&sql);
            assert_eq!(is_found, Some(found), "{said}");
        }
        assert_eq!(text("SELECT integration._mention('{}')"), None);
    }

    #[pg_test]
    fn keys_are_taken_as_they_are_stored() {
        run(CRM);
        run(
            "CREATE TABLE crm.pairs (a int, b uuid, email text, PRIMARY KEY (a, b)); SELECT integration.track('crm.pairs', 'contact')",
        );
        let stored = |table: &str, key: &str| {
            text(&format!(
                "SELECT integration._must_be_key(t, $k${key}$k$) FROM integration.tracked_table t WHERE t.source = 'crm.{table}'::regclass"
            ))
        };
        assert_eq!(stored("contacts", " 0042 ").as_deref(), Some("42"));
        let uuid = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11";
        assert_eq!(
            stored("pairs", &format!("[ \"7\", \"{uuid}\" ]")),
            Some(format!("[\"7\",\"{}\"]", uuid.to_lowercase()))
        );
    }

    #[pg_test]
    fn an_untracked_table_can_be_tracked_again() {
        run(CRM);
        run("SELECT integration.untrack('crm.contacts')");
        run("INSERT INTO crm.contacts VALUES (1, 'a@example.com', 'A', true, NULL)");
        assert_eq!(number("SELECT count(*) FROM integration.outbox"), 0);
        run("SELECT integration.track('crm.contacts', 'contact')");
        run("UPDATE crm.contacts SET first_name = 'B'");
        assert_eq!(number("SELECT count(*) FROM integration.outbox"), 2);
    }

    #[pg_test]
    fn an_untracked_table_can_become_something_else() {
        run(CRM);
        run("SELECT integration.untrack('crm.contacts')");
        run("SELECT integration.track('crm.contacts', 'deal')");
        assert_eq!(
            text("SELECT entity || ' ' || targets::text FROM integration.tracked_table").as_deref(),
            Some("deal {hubspot}")
        );
    }

    #[pg_test(error = "table crm.contacts is already tracked as contact by id")]
    fn a_tracked_table_cannot_become_something_else() {
        run(CRM);
        run("SELECT integration.track('crm.contacts', 'deal')");
    }

    #[pg_test(error = "table crm.bare has no primary key")]
    fn a_table_without_a_key_is_refused() {
        run("CREATE SCHEMA crm; CREATE TABLE crm.bare (email text)");
        run("SELECT integration.track('crm.bare', 'contact')");
    }

    #[pg_test(error = "unrecognized configuration parameter \"integration.hubspot_acces_token\"")]
    fn a_misspelt_setting_is_refused() {
        run("SELECT current_setting('integration.hubspot_acces_token')");
    }
}
