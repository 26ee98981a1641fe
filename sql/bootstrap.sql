-- Runs first: nothing that others have put into the schema may be found by what follows.

SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
    stranger record;
BEGIN
    SELECT n.nspowner::regrole AS owner INTO stranger
    FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
    WHERE n.nspname = 'integration' AND NOT r.rolsuper;
    IF FOUND THEN
        RAISE EXCEPTION 'schema integration belongs to %, who is no superuser', stranger.owner
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'The owner of the schema could replace what the extension keeps in it.',
                  HINT = 'Look at what is in it, then DROP SCHEMA integration CASCADE; the extension makes its own.';
    END IF;
    SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee INTO stranger
    FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE n.nspname = 'integration' AND a.privilege_type = 'CREATE' AND r.rolsuper IS NOT TRUE
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% may create objects in schema integration', stranger.grantee
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('REVOKE CREATE ON SCHEMA integration FROM %s; and look at what is in it.', stranger.grantee);
    END IF;
    SELECT pg_describe_object(o.class, o.id, 0) AS object, r.rolname AS owner INTO stranger
    FROM (
        SELECT 'pg_class'::regclass AS class, c.oid AS id, c.relnamespace AS namespace, c.relowner AS owner FROM pg_class c
        UNION ALL SELECT 'pg_proc'::regclass, p.oid, p.pronamespace, p.proowner FROM pg_proc p
        UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typnamespace, t.typowner FROM pg_type t
        UNION ALL SELECT 'pg_operator'::regclass, o.oid, o.oprnamespace, o.oprowner FROM pg_operator o
        UNION ALL SELECT 'pg_opclass'::regclass, o.oid, o.opcnamespace, o.opcowner FROM pg_opclass o
        UNION ALL SELECT 'pg_opfamily'::regclass, o.oid, o.opfnamespace, o.opfowner FROM pg_opfamily o
        UNION ALL SELECT 'pg_collation'::regclass, c.oid, c.collnamespace, c.collowner FROM pg_collation c
        UNION ALL SELECT 'pg_conversion'::regclass, c.oid, c.connamespace, c.conowner FROM pg_conversion c
        UNION ALL SELECT 'pg_ts_dict'::regclass, d.oid, d.dictnamespace, d.dictowner FROM pg_ts_dict d
        UNION ALL SELECT 'pg_ts_config'::regclass, c.oid, c.cfgnamespace, c.cfgowner FROM pg_ts_config c
        UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, s.stxnamespace, s.stxowner FROM pg_statistic_ext s
    ) o
    JOIN pg_namespace n ON n.oid = o.namespace
    JOIN pg_roles r ON r.oid = o.owner
    WHERE n.nspname = 'integration' AND NOT r.rolsuper
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'schema integration holds an object of somebody else: % of %', stranger.object, stranger.owner
            USING ERRCODE = 'insufficient_privilege', HINT = 'Drop or move it first: the schema is the extension''s.';
    END IF;
END
$$;

SET LOCAL search_path = @extschema@, pg_temp;
