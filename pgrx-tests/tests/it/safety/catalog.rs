//! What the extension's objects say of themselves, and whom they are open to.

use integration_tests::uncommitted::Uncommitted;

const OURS: &str = "c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v')";

fn names(sql: &str) -> Option<String> {
    Uncommitted::begin().ask(sql)
}

#[test]
fn nothing_is_open_to_the_public() {
    let open = "SELECT string_agg(p.proname, ', ') FROM pg_proc p
        WHERE p.pronamespace = 'integration'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')";
    // Owners of partitions create its triggers; on tables that are not tracked it does nothing.
    assert_eq!(names(open).as_deref(), Some("_capture"));
    let open = format!(
        "SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE {OURS} AND has_table_privilege('public', c.oid, 'SELECT')"
    );
    assert_eq!(names(&open), None);
}

#[test]
fn every_object_has_a_comment() {
    let silent = format!(
        "SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE {OURS} AND obj_description(c.oid, 'pg_class') IS NULL"
    );
    assert_eq!(names(&silent), None);
    let silent = format!(
        "SELECT string_agg(c.relname || '.' || a.attname, ', ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE {OURS} AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL"
    );
    assert_eq!(names(&silent), None);
    let silent = "SELECT string_agg(p.proname, ', ') FROM pg_proc p
        WHERE p.pronamespace = 'integration'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL";
    assert_eq!(names(silent), None);
}
