//! Least privilege that works: what each role may do it can, and nothing else.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::Crm,
    remote::unlimited,
    sql::{refused, refused_with_hint},
};
use postgres::{Client, NoTls};

use crate::{safety::copies::restored_copy, safety::rights::CALLS};

const ROLES: [&str; 4] = ["reader", "operator", "webhook", "app"];

/// What `integration.grant_role()` gives a role, functions and relations.
const RIGHTS: &str = "\
    SELECT r.name FROM integration._role_right r \
    WHERE (r.role IN ('$role', 'everybody') OR (r.role = 'reader' AND '$role' = 'operator'))";

/// A CRM of its own, with a database role `a_<role>` that may log in for each role, and one that
/// may only become them.
fn crm_with_roles() -> Crm {
    let mut crm = Crm::start_on(Arc::new(Cluster::start(&[], &[])), unlimited());
    crm.run("CREATE ROLE authenticator LOGIN NOINHERIT; CREATE ROLE mallory LOGIN");
    for role in ROLES {
        crm.run(&format!(
            "CREATE ROLE a_{role} LOGIN; GRANT a_{role} TO authenticator; SELECT integration.grant_role('{role}', 'a_{role}')"
        ));
    }
    crm.run("GRANT USAGE ON SCHEMA crm TO a_app, a_reader, a_operator, a_webhook, mallory, authenticator; GRANT SELECT ON ALL TABLES IN SCHEMA crm TO a_app");
    crm
}

fn log_in(crm: &Crm, user: &str) -> Client {
    crm.cluster
        .config(&crm.database)
        .user(user)
        .connect(NoTls)
        .unwrap()
}

/// SQLSTATE of a statement, and what is said; empty when it is carried out. It is taken back.
fn outcome(client: &mut Client, sql: &str) -> (String, String) {
    let mut transaction = client.transaction().unwrap();
    match transaction.batch_execute(sql) {
        Ok(()) => (String::new(), String::new()),
        Err(why) => {
            let why = why.as_db_error().unwrap();
            (why.code().code().to_owned(), why.message().to_owned())
        }
    }
}

#[test]
fn every_object_is_classified() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let unclassified = crm.rows(
        "SELECT p.oid::regprocedure::text FROM pg_proc p \
         WHERE p.pronamespace = 'integration'::regnamespace AND p.proname NOT LIKE '\\_%' \
           AND NOT EXISTS (SELECT FROM integration._role_right r WHERE r.kind = 'function' AND r.name = p.proname) \
         UNION ALL SELECT c.oid::regclass::text FROM pg_class c \
         WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p') AND c.relname NOT LIKE '\\_%' \
           AND NOT EXISTS (SELECT FROM integration._role_right r WHERE r.kind = 'relation' AND r.name = c.relname)",
    );
    assert!(
        unclassified.is_empty(),
        "name them in sql/roles.sql: {unclassified:?}"
    );
    let unknown = crm.rows(
        "SELECT r.name FROM integration._role_right r WHERE CASE r.kind \
             WHEN 'function' THEN NOT EXISTS (SELECT FROM pg_proc p WHERE p.proname = r.name AND p.pronamespace = 'integration'::regnamespace) \
             ELSE NOT EXISTS (SELECT FROM pg_class c WHERE c.relname = r.name AND c.relnamespace = 'integration'::regnamespace) END",
    );
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_gate_leads_to_a_function_like_it() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let shut = crm.rows(
        "SELECT p.oid::regprocedure::text FROM pg_proc p \
         WHERE p.pronamespace = 'integration'::regnamespace AND p.prosrc = 'integration_gate' AND NOT EXISTS ( \
             SELECT FROM pg_proc i WHERE i.pronamespace = p.pronamespace AND i.proname = '_do_' || p.proname AND i.prosecdef AND NOT i.proisstrict \
               AND i.proargtypes = p.proargtypes AND i.prorettype = p.prorettype AND i.proretset = p.proretset \
               AND i.proallargtypes IS NOT DISTINCT FROM p.proallargtypes AND i.proargnames IS NOT DISTINCT FROM p.proargnames)",
    );
    assert!(shut.is_empty(), "{shut:?}");
}

#[test]
fn roles_have_the_rights_they_are_granted_and_no_others() {
    let mut crm = crm_with_roles();
    for role in ROLES {
        let rights = RIGHTS.replace("$role", role);
        let wrong = crm.rows(&format!(
            "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'integration'::regnamespace \
               AND has_function_privilege('a_{role}', p.oid, 'EXECUTE') <> (p.proname IN ({rights} AND r.kind = 'function')) \
             UNION ALL SELECT c.oid::regclass::text FROM pg_class c \
             WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v') \
               AND (has_table_privilege('a_{role}', c.oid, 'SELECT') <> (c.relname IN ({rights} AND r.kind = 'relation')) \
                    OR has_table_privilege('a_{role}', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') \
                    OR (has_any_column_privilege('a_{role}', c.oid, 'SELECT') AND NOT has_table_privilege('a_{role}', c.oid, 'SELECT')))"
        ));
        assert!(wrong.is_empty(), "{role}: {wrong:?}");
    }
}

#[test]
fn roles_can_do_what_they_may_however_they_came_by_it() {
    let mut crm = crm_with_roles();
    crm.add_contacts(1, 5);
    crm.converges();
    for role in ROLES {
        let rights = crm.rows(&RIGHTS.replace("$role", role));
        let mut became = log_in(&crm, "authenticator");
        became.batch_execute(&format!("SET ROLE a_{role}")).unwrap();
        for mut client in [log_in(&crm, &format!("a_{role}")), became] {
            for (name, call) in CALLS {
                let (code, message) = outcome(&mut client, call);
                let refused = code == "42501";
                // What they may not read, or have run with the owner's rights, is another matter.
                if role == "operator" && call.contains("'id > 3'") {
                    assert!(message.contains("to pass a filter"), "{message}");
                    continue;
                }
                if ["reader", "operator"].contains(&role) && *name == "preview" {
                    assert!(message.contains("table crm.contacts"), "{message}");
                    continue;
                }
                assert_eq!(
                    refused,
                    !rights.iter().any(|right| right == name),
                    "{role}: {call}: {code} {message}"
                );
                assert!(
                    !refused || message.contains(&format!("function {name}")),
                    "{role}: {call}: {message}"
                );
            }
            for relation in
                crm.rows("SELECT r.name FROM integration._role_right r WHERE r.kind = 'relation'")
            {
                let (code, message) = outcome(
                    &mut client,
                    &format!("SELECT * FROM integration.{relation}"),
                );
                assert_eq!(
                    code.is_empty(),
                    rights.contains(&relation),
                    "{role}: {relation}: {code} {message}"
                );
            }
        }
    }
}

#[test]
fn operator_acts_on_tables_of_others_and_owners_on_their_own() {
    let mut crm = crm_with_roles();
    crm.add_contacts(1, 5);
    crm.converges();
    let mut operator = log_in(&crm, "a_operator");
    operator
        .batch_execute("SELECT integration.pause('hubspot', 'by us')")
        .unwrap();
    let job: i64 = operator
        .query_one(
            "SELECT integration.backfill('crm.contacts', 'hubspot')",
            &[],
        )
        .unwrap()
        .get(0);
    operator
        .batch_execute(&format!(
            "SELECT integration.cancel_job({job}); SELECT integration.resume('hubspot')"
        ))
        .unwrap();
    crm.run("CREATE TABLE public.leads (id bigint PRIMARY KEY, email text); ALTER TABLE public.leads OWNER TO mallory; \
             GRANT USAGE ON SCHEMA integration TO mallory; \
             GRANT EXECUTE ON FUNCTION integration.backfill, integration.track(regclass, text, name, text[], regclass, text, text) TO mallory");
    let mut mallory = log_in(&crm, "mallory");
    mallory
        .batch_execute("SELECT integration.track('public.leads'::regclass, 'contact'); SELECT integration.backfill('public.leads', 'hubspot')")
        .unwrap();
    let error = refused_with_hint(
        &mut mallory,
        "SELECT integration.backfill('crm.contacts')",
        "42501",
    );
    assert!(error.message().contains("crm.contacts"), "{error:?}");
    assert_eq!(
        crm.rows(&format!(
            "SELECT state, error FROM integration.job WHERE id = {job}"
        )),
        ["cancelled|cancelled by a_operator"]
    );
}

#[test]
fn nobody_borrows_the_rights_of_whoever_calls_them() {
    let mut crm = crm_with_roles();
    crm.run("GRANT USAGE ON SCHEMA integration TO mallory; GRANT CREATE ON SCHEMA public TO mallory; \
             GRANT EXECUTE ON FUNCTION integration.map_field, integration.sync_status, integration.untrack TO mallory");
    log_in(&crm, "mallory").batch_execute(
        "CREATE FUNCTION public.borrow() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
             PERFORM integration.map_field('crm.contacts', 'notes', 'hubspot', 'message'); END $$; \
         CREATE FUNCTION public.look() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
             PERFORM integration.sync_status('crm.contacts', '1'); END $$; \
         CREATE FUNCTION public.borrow_again() RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM public.borrow(); RETURN 'hubspot'; END $$",
    ).unwrap();
    for borrowed in [
        "SELECT public.borrow()",
        "SELECT public.look()",
        // Within a call that we are asked for ourselves.
        "SELECT integration.map_field('crm.contacts', 'notes', public.borrow_again(), 'message')",
    ] {
        let error = refused(&mut crm.client, borrowed);
        assert!(
            error.code().code() == "42501" && error.message().contains("crm.contacts"),
            "{borrowed}: {error:?}"
        );
    }
    assert!(
        crm.rows("SELECT FROM integration.field_map WHERE remote_field = 'message'")
            .is_empty()
    );
    // Ours are as they were.
    crm.run("SELECT integration.map_field('crm.contacts', 'notes', 'hubspot', 'message')");
}

#[test]
fn role_that_was_taken_on_counts() {
    let mut crm = crm_with_roles();
    crm.run("CREATE ROLE web_user; GRANT web_user TO authenticator; GRANT USAGE ON SCHEMA integration, crm TO web_user, authenticator; \
             GRANT EXECUTE ON FUNCTION integration.map_field TO web_user, authenticator; ALTER TABLE crm.contacts OWNER TO web_user");
    let map = "SELECT integration.map_field('crm.contacts', 'notes', 'hubspot', 'message')";
    let mut client = log_in(&crm, "authenticator");
    let error = refused(&mut client, map);
    assert!(error.message().contains("must be owner"), "{error:?}");
    client.batch_execute("SET ROLE web_user").unwrap();
    client.batch_execute(map).unwrap();
    // A superuser who put their rights down has put them down.
    crm.run("SET ROLE web_user");
    let error = refused(
        &mut crm.client,
        "SELECT integration.map_field('crm.companies', 'notes', 'hubspot', 'message')",
    );
    assert!(error.code().code() == "42501", "{error:?}");
}

#[test]
fn row_security_is_not_walked_around() {
    let mut crm = crm_with_roles();
    crm.add_contacts(1, 2);
    crm.converges();
    crm.run("ALTER TABLE crm.contacts ENABLE ROW LEVEL SECURITY; CREATE POLICY first_only ON crm.contacts USING (id = 1)");
    let mut app = log_in(&crm, "a_app");
    for call in [
        "sync_status('crm.contacts', '2')",
        "preview('crm.contacts', '2')",
        "wait_synced('crm.contacts', '2', '1ms')",
    ] {
        refused_with_hint(
            &mut app,
            &format!("SELECT * FROM integration.{call}"),
            "42501",
        );
    }
    // The owner may ask, and may let others.
    crm.run("CREATE FUNCTION crm.status_of(key text) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS \
             $$ SELECT state FROM integration.sync_status('crm.contacts', key) WHERE target = 'hubspot' $$");
    let state: String = app
        .query_one("SELECT crm.status_of('1')", &[])
        .unwrap()
        .get(0);
    assert_eq!(state, "synced");
}

#[test]
fn role_taken_back_leaves_what_another_gives() {
    let mut crm = crm_with_roles();
    crm.run("SELECT integration.grant_role('app', 'a_operator')");
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.grant_role('admin', 'a_app')",
        "42704",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.grant_role('app', 'nobody_there')",
        "42704",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.revoke_role('webhook', 'a_app')",
        "42704",
    );
    crm.run("SELECT integration.revoke_role('operator', 'a_operator')");
    let left = crm.rows(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'integration'::regnamespace AND p.proname <> '_capture' AND has_function_privilege('a_operator', p.oid, 'EXECUTE') \
         UNION ALL SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'integration'::regnamespace AND c.relkind IN ('r', 'v') AND has_table_privilege('a_operator', c.oid, 'SELECT') \
         ORDER BY 1",
    );
    assert_eq!(left, ["preview", "sync_status", "version", "wait_synced"]);
    crm.run("SELECT integration.revoke_role('app', 'a_operator')");
    assert!(!crm.ask::<bool>("SELECT has_schema_privilege('a_operator', 'integration', 'USAGE')"));
    // Then nothing keeps the role from being dropped.
    crm.run("REVOKE USAGE ON SCHEMA crm FROM a_operator; DROP ROLE a_operator");
}

#[test]
fn grants_survive_a_dump() {
    let mut crm = crm_with_roles();
    let rights = |crm: &mut Crm| {
        crm.rows(
        "SELECT r.rolname, p.oid::regprocedure::text FROM pg_proc p CROSS JOIN pg_roles r \
         WHERE p.pronamespace = 'integration'::regnamespace AND r.rolname LIKE 'a\\_%' AND has_function_privilege(r.oid, p.oid, 'EXECUTE') \
         UNION ALL SELECT r.rolname, c.oid::regclass::text FROM pg_class c CROSS JOIN pg_roles r \
         WHERE c.relnamespace = 'integration'::regnamespace AND r.rolname LIKE 'a\\_%' AND c.relkind IN ('r', 'v') AND has_table_privilege(r.oid, c.oid, 'SELECT') \
         ORDER BY 1, 2",
    )
    };
    let before = rights(&mut crm);
    let mut copy = restored_copy(&mut crm);
    assert_eq!(rights(&mut copy), before);
    log_in(&copy, "a_reader")
        .batch_execute("SELECT * FROM integration.status")
        .unwrap();
    copy.run("SELECT integration.revoke_role('reader', 'a_reader')");
    refused(
        &mut log_in(&copy, "a_reader"),
        "SELECT * FROM integration.status",
    );
}

#[test]
fn wait_synced_waits_for_the_record() {
    let mut crm = Crm::start();
    let id = crm.add_contact("ada@example.com", true);
    let wait = |key: i64, time: &str| {
        format!("SELECT integration.wait_synced('crm.contacts', '{key}', '{time}')")
    };
    assert!(crm.ask::<bool>(&wait(id, "30s")));
    assert_eq!(
        crm.rows(&format!(
            "SELECT DISTINCT state FROM integration.sync_status('crm.contacts', '{id}')"
        )),
        ["synced"]
    );
    crm.run("SELECT integration.pause('hubspot', 'held')");
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta'");
    assert!(!crm.ask::<bool>(&wait(id, "200ms")));
    crm.run("SELECT integration.resume('hubspot')");
    assert!(crm.ask::<bool>(&wait(id, "30s")));
    // What is a dead letter never arrives.
    let bad = crm.add_contact("not an address", true);
    crm.settle();
    assert!(!crm.ask::<bool>(&wait(bad, "1h")));
    crm.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    refused_with_hint(&mut crm.client, &wait(id, "1s"), "25001");
    crm.run("ROLLBACK");
}
