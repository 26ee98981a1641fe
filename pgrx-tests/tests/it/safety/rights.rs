//! Names that others made are never taken for the server's own.

use std::sync::Arc;

use integration_tests::{cluster::Cluster, crm::Crm, remote::unlimited, sql::refused};

/// What a role without rights can put in the way: an overload of each function that our bodies may
/// call and of each operator, for every pair of common types, which fits better than the server's
/// own. Each notes it when it runs as a superuser.
const TRAPS: &str = r#"
    CREATE TABLE public.caught (what text);
    GRANT INSERT ON public.caught TO mallory;
    SET ROLE mallory;
    CREATE FUNCTION public.caught(what text) RETURNS void LANGUAGE plpgsql AS $f$
    BEGIN
        IF (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user) THEN
            INSERT INTO public.caught VALUES (what);
        END IF;
    END $f$;
    SET search_path = pg_catalog, public;
    DO $do$
    DECLARE
        kinds text[] := '{text,name,bigint,integer,smallint,oid,regclass,boolean,jsonb,bytea,numeric,"text[]","\"char\"",timestamptz,interval,anyelement}';
        symbols text[] := '{=,<>,<,>,<=,>=,||,&,+,-,*,/,->,->>,#>>,@>,<@,&&,~,!~,~*,~~,<<}';
        returned text;
        called text;
        one text;
        two text;
    BEGIN
        FOREACH called IN ARRAY symbols LOOP
            returned := CASE WHEN called IN ('=','<>','<','>','<=','>=','@>','<@','&&','~','!~','~*','~~') THEN 'boolean' ELSE 'text' END;
            FOREACH one IN ARRAY kinds[1:14] LOOP
                FOREACH two IN ARRAY kinds[1:14] LOOP
                    EXECUTE format('CREATE FUNCTION public.trap_%s_%s_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.caught(%L); RETURN NULL; END $f$',
                        array_position(symbols, called), array_position(kinds, one), array_position(kinds, two), one, two, returned, one || ' ' || called || ' ' || two);
                    EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.trap_%s_%s_%s)',
                        called, one, two, array_position(symbols, called), array_position(kinds, one), array_position(kinds, two));
                END LOOP;
            END LOOP;
        END LOOP;
        -- From here on, they are traps to ourselves as well.
        FOR called IN SELECT DISTINCT p.proname::text FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
              AND p.proname IN (SELECT m[1] FROM pg_catalog.pg_proc o, regexp_matches(o.prosrc, '([a-z_0-9]+)\(', 'g') m WHERE o.pronamespace = 'integration'::regnamespace)
        LOOP
            FOREACH one IN ARRAY kinds LOOP
                EXECUTE format('CREATE FUNCTION public.%1$I(%2$s) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.caught(%3$L); RETURN NULL; END $f$', called, one, called || '(' || one || ')');
                FOREACH two IN ARRAY kinds[1:10] LOOP
                    EXECUTE format('CREATE FUNCTION public.%1$I(%2$s, %3$s) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.caught(%4$L); RETURN NULL; END $f$', called, one, two, called || '(' || one || ', ' || two || ')');
                END LOOP;
            END LOOP;
        END LOOP;
    END $do$;
    RESET search_path;
    CREATE TEMP TABLE pg_class (oid oid, relowner oid);
    CREATE TEMP TABLE job (id bigint, state text);
    RESET ROLE;"#;

/// A call of every function that people call; what each needs stands before it.
pub const CALLS: &[(&str, &str)] = &[
    (
        "track",
        "SELECT integration.track('crm.contacts', 'contact')",
    ),
    (
        "track",
        "SELECT integration.track('crm.contacts'::pg_catalog.regclass, 'contact')",
    ),
    (
        "track",
        "SELECT integration.track('crm.companies', 'company')",
    ),
    (
        "map_field",
        "SELECT integration.map_field('crm.contacts', 'notes', 'hubspot', 'message')",
    ),
    (
        "map_association",
        "SELECT integration.map_association('crm.contacts', 'company_id', 'crm.companies')",
    ),
    (
        "unmap_association",
        "SELECT integration.unmap_association('crm.contacts', 'company_id')",
    ),
    (
        "sync_status",
        "SELECT * FROM integration.sync_status('crm.contacts', '1')",
    ),
    (
        "preview",
        "SELECT * FROM integration.preview('crm.contacts', '1')",
    ),
    (
        "backfill",
        "SELECT integration.backfill('crm.contacts', 'hubspot', 'id > 3')",
    ),
    ("backfill", "SELECT integration.backfill('crm.companies')"),
    ("reconcile", "SELECT integration.reconcile('crm.contacts')"),
    ("cancel_job", "SELECT integration.cancel_job(1)"),
    ("provision", "SELECT integration.provision('hubspot')"),
    ("poll", "SELECT integration.poll()"),
    ("pause", "SELECT integration.pause('hubspot', 'why')"),
    ("resume", "SELECT integration.resume('hubspot')"),
    ("adopt", "SELECT integration.adopt()"),
    ("dlq_retry", "SELECT integration.dlq_retry()"),
    ("inbox_retry", "SELECT integration.inbox_retry()"),
    (
        "dlq_discard",
        "SELECT integration.dlq_discard('{1}', 'why')",
    ),
    ("erase", "SELECT integration.erase('crm.contacts', '2')"),
    (
        "allow_again",
        "SELECT integration.allow_again('crm.contacts', '3')",
    ),
    ("wait_idle", "SELECT integration.wait_idle('10ms')"),
    (
        "test_connection",
        "SELECT * FROM integration.test_connection('mailchimp')",
    ),
    (
        "mailchimp_register_webhook",
        "SELECT integration.mailchimp_register_webhook('https://crm.example.com/hook', 'abc')",
    ),
    (
        "import_hubspot_webhook",
        "SELECT * FROM integration.import_hubspot_webhook('[]', '{}')",
    ),
    (
        "import_mailchimp_webhook",
        "SELECT * FROM integration.import_mailchimp_webhook('type=ping', '{}')",
    ),
    (
        "import_mandrill_webhook",
        "SELECT * FROM integration.import_mandrill_webhook('', '{}', 'https://crm.example.com/hook')",
    ),
    (
        "wait_synced",
        "SELECT integration.wait_synced('crm.contacts', '1', '10ms')",
    ),
    (
        "set_secret",
        "SELECT integration.set_secret('mandrill_webhook_key', 'a key')",
    ),
    (
        "grant_role",
        "SELECT integration.grant_role('reader', 'mallory')",
    ),
    (
        "revoke_role",
        "SELECT integration.revoke_role('reader', 'mallory')",
    ),
    ("version", "SELECT integration.version()"),
    ("reload", "SELECT integration.reload()"),
    ("untrack", "SELECT integration.untrack('crm.companies')"),
];

#[test]
fn every_function_looks_names_up_where_only_the_server_puts_them() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    let open = crm.rows(
        "SELECT p.oid::regprocedure FROM pg_proc p \
         WHERE p.pronamespace = 'integration'::regnamespace AND p.prosqlbody IS NULL \
           AND p.proconfig @> '{\"search_path=pg_catalog, pg_temp\"}' IS NOT TRUE",
    );
    // It is called for every row, and looks nothing up.
    assert_eq!(open, ["integration._capture()"]);
}

#[test]
fn overloads_in_public_are_not_called_with_our_callers_rights() {
    let mut crm = Crm::untracked(Arc::new(Cluster::start(&[], &[])), unlimited());
    crm.run("ALTER TABLE crm.contacts ADD company_id bigint; INSERT INTO crm.contacts (email) SELECT 'p' || i || '@example.com' FROM generate_series(1, 5) i");
    crm.run("CREATE ROLE mallory; GRANT CREATE, USAGE ON SCHEMA public TO mallory");
    crm.run(TRAPS);
    let named: Vec<&str> = CALLS.iter().map(|(name, _)| *name).collect();
    let callable = crm.rows("SELECT DISTINCT p.proname FROM pg_proc p WHERE p.pronamespace = 'integration'::regnamespace AND p.proname NOT LIKE '\\_%'");
    let forgotten: Vec<&String> = callable
        .iter()
        .filter(|name| !named.contains(&name.as_str()))
        .collect();
    assert!(forgotten.is_empty(), "no call of {forgotten:?}");
    for path in [
        "public, pg_catalog",
        "pg_temp, public, pg_catalog",
        "\"$user\", public",
    ] {
        crm.run(&format!("SET search_path = {path}"));
        for (_, call) in CALLS {
            // Some are refused, which is as good.
            let _ = crm.client.batch_execute(call);
        }
        for view in ["outbox", "link", "status", "association", "withheld"] {
            crm.run(&format!("SELECT * FROM integration.{view}"));
        }
    }
    crm.run("RESET search_path");
    let caught = crm.rows("SELECT DISTINCT what FROM public.caught");
    assert!(caught.is_empty(), "{caught:?}");
}

#[test]
fn schema_that_others_made_is_refused() {
    let cluster = Cluster::shared();
    let database = cluster.create_database();
    let mut client = cluster.connect(&database);
    client
        .batch_execute(
            "CREATE ROLE schema_maker; CREATE SCHEMA integration AUTHORIZATION schema_maker",
        )
        .unwrap();
    let create = "CREATE EXTENSION integration";
    let error = refused(&mut client, create);
    assert!(
        error.code().code() == "42501"
            && error.message().contains("schema_maker")
            && error.hint().is_some(),
        "{error:?}"
    );
    // Ours, but open to everybody.
    client.batch_execute("ALTER SCHEMA integration OWNER TO postgres; GRANT CREATE, USAGE ON SCHEMA integration TO PUBLIC").unwrap();
    let error = refused(&mut client, create);
    assert!(error.message().contains("PUBLIC may create"), "{error:?}");
    // Shut again, when it is too late.
    client.batch_execute(
        "SET ROLE schema_maker; CREATE FUNCTION integration.format(text, bigint) RETURNS text LANGUAGE sql AS 'SELECT $1'; RESET ROLE; \
         REVOKE CREATE ON SCHEMA integration FROM PUBLIC",
    ).unwrap();
    let error = refused(&mut client, create);
    assert!(
        error
            .message()
            .contains("integration.format(text,bigint) of schema_maker"),
        "{error:?}"
    );
    // As a dump leaves it.
    client.batch_execute("DROP FUNCTION integration.format(text, bigint); CREATE EXTENSION integration; SELECT integration.version()").unwrap();
}
