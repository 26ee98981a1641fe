-- Who may do what: everything in the schema belongs to its owner, and what is named here can be granted.

CREATE TABLE _role_right (
    role text NOT NULL CHECK (role IN ('reader', 'operator', 'webhook', 'app', 'owner', 'everybody')),
    kind text NOT NULL CHECK (kind IN ('function', 'relation')),
    name text NOT NULL,
    PRIMARY KEY (role, kind, name)
);
COMMENT ON TABLE _role_right IS 'which functions and relations belong to which role of integration.grant_role(); those not listed are ours alone';
COMMENT ON COLUMN _role_right.role IS 'reader, operator (who is a reader, too), webhook, app; owner: set-up, which can only be granted by GRANT, to owners of tables; everybody: granted to PUBLIC';
COMMENT ON COLUMN _role_right.kind IS 'function (all with that name) or relation';
COMMENT ON COLUMN _role_right.name IS 'its name in the schema';

INSERT INTO _role_right (role, kind, name)
SELECT r.role, r.kind, n.name FROM (VALUES
    ('reader', 'relation', '{activity,alert,association,association_map,audience,consent_log,dlq,drift,field_map,inbox,job,link,outbox,request_log,status,suppression,table_status,tracked_table,withheld}'),
    ('reader', 'function', '{version,sync_status,preview}'),
    -- What the views are made of.
    ('reader', 'function', '{_changed_columns,_gauges,_no_longer_tracked,_target,_unpack_clock,_unpack_keys,_waits_for}'),
    ('operator', 'function', '{pause,resume,dlq_retry,dlq_discard,inbox_retry,backfill,reconcile,poll,cancel_job,wait_idle,wait_synced,test_connection,reload,erase,allow_again}'),
    ('webhook', 'function', '{version,import_hubspot_webhook,import_mailchimp_webhook,import_mandrill_webhook}'),
    ('app', 'function', '{version,sync_status,wait_synced,preview}'),
    ('owner', 'function', '{track,untrack,map_field,map_association,unmap_association,provision,mailchimp_register_webhook,adopt,grant_role,revoke_role,set_secret}'),
    ('everybody', 'function', '{_capture}')
) AS r(role, kind, names) CROSS JOIN LATERAL unnest(r.names::text[]) AS n(name);

CREATE TABLE _role_member (
    role   text NOT NULL,
    member name NOT NULL,
    since  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (role, member)
);
COMMENT ON TABLE _role_member IS 'the calls of integration.grant_role(); the rights themselves are ordinary grants';
COMMENT ON COLUMN _role_member.role IS 'reader, operator, webhook or app';
COMMENT ON COLUMN _role_member.member IS 'the database role';
COMMENT ON COLUMN _role_member.since IS 'since when';

CREATE FUNCTION _rights(roles text[]) RETURNS TABLE (kind text, object text) LANGUAGE sql STABLE AS $$
    SELECT 'FUNCTION', p.oid::regprocedure::text
    FROM integration._role_right r JOIN pg_proc p ON p.proname = r.name AND p.pronamespace = 'integration'::regnamespace
    WHERE r.kind = 'function' AND (r.role = ANY (roles) OR (r.role = 'reader' AND 'operator' = ANY (roles)))
    UNION
    SELECT 'TABLE', c.oid::regclass::text
    FROM integration._role_right r JOIN pg_class c ON c.relname = r.name AND c.relnamespace = 'integration'::regnamespace
    WHERE r.kind = 'relation' AND (r.role = ANY (roles) OR (r.role = 'reader' AND 'operator' = ANY (roles)))
$$;
COMMENT ON FUNCTION _rights(text[]) IS 'what roles of grant_role() may use';

CREATE FUNCTION _known_role(role text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF role IS NULL OR role NOT IN ('reader', 'operator', 'webhook', 'app') THEN
        RAISE EXCEPTION 'unknown role "%"', role
            USING ERRCODE = 'undefined_object', HINT = 'It is reader, operator, webhook or app; the second argument is the database role that gets its rights.';
    END IF;
END
$$;
COMMENT ON FUNCTION _known_role(text) IS 'refuses unknown roles of grant_role()';

CREATE FUNCTION grant_role(role text, member name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    granted record;
BEGIN
    PERFORM integration._known_role(role);
    PERFORM 1 FROM pg_roles r WHERE r.rolname = member;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no database role %', coalesce(quote_ident(member), 'NULL')
            USING ERRCODE = 'undefined_object', HINT = format('CREATE ROLE %I; first, or name one of pg_roles.', member);
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA integration TO %I', member);
    FOR granted IN SELECT r.kind, r.object FROM integration._rights(ARRAY[role]) r LOOP
        EXECUTE format('GRANT %s ON %s %s TO %I', CASE granted.kind WHEN 'FUNCTION' THEN 'EXECUTE' ELSE 'SELECT' END, granted.kind, granted.object, member);
    END LOOP;
    INSERT INTO integration._role_member (role, member) VALUES (role, member) ON CONFLICT ON CONSTRAINT _role_member_pkey DO NOTHING;
END
$$;
COMMENT ON FUNCTION grant_role(text, name) IS 'grants a database role what it needs as reader (sees everything), operator (is a reader, and may act), webhook (imports webhooks) or app (asks about records of tables it may read)';

CREATE FUNCTION revoke_role(role text, member name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    others text[];
    revoked record;
BEGIN
    PERFORM integration._known_role(role);
    DELETE FROM integration._role_member m WHERE m.role = revoke_role.role AND m.member = revoke_role.member;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'database role % was not granted the role %', coalesce(quote_ident(member), 'NULL'), role
            USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM integration._role_member; shows who was.';
    END IF;
    PERFORM 1 FROM pg_roles r WHERE r.rolname = member;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(m.role), '{}') INTO others FROM integration._role_member m WHERE m.member = revoke_role.member;
    FOR revoked IN SELECT r.kind, r.object FROM integration._rights(ARRAY[role]) r EXCEPT SELECT r.kind, r.object FROM integration._rights(others) r LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %I', revoked.kind, revoked.object, member);
    END LOOP;
    IF others = '{}' THEN
        EXECUTE format('REVOKE USAGE ON SCHEMA integration FROM %I', member);
    END IF;
END
$$;
COMMENT ON FUNCTION revoke_role(text, name) IS 'revokes a role of grant_role(); rights that the database role has through another one stay';
