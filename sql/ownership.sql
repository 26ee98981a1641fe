-- Who may do something to a table.

CREATE FUNCTION _owns(source regclass) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    asker oid := integration._asker();
BEGIN
    -- A table that is gone has no owner; a superuser still has to be rid of it.
    RETURN coalesce(
        (SELECT pg_has_role(asker, c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = source),
        (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = asker), false);
END
$$;
COMMENT ON FUNCTION _owns(regclass) IS 'whether who asks has the rights of the table''s owner';

CREATE FUNCTION _must_own(source regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT integration._owns(source) THEN
        RAISE EXCEPTION 'must be owner of table %', source USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$$;
COMMENT ON FUNCTION _must_own(regclass) IS 'refuses callers who do not own the table';

CREATE FUNCTION _must_operate(source regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT integration._owns(source) AND NOT has_function_privilege(integration._asker(), 'integration.pause(text, text)', 'EXECUTE') THEN
        RAISE EXCEPTION 'must be owner of table % or an operator', source
            USING ERRCODE = 'insufficient_privilege', HINT = 'A superuser can SELECT integration.grant_role(''operator'', role);';
    END IF;
END
$$;
COMMENT ON FUNCTION _must_operate(regclass) IS 'refuses callers who neither own the table nor were granted the role operator';

CREATE FUNCTION _may_read(source regclass) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    asker oid := integration._asker();
BEGIN
    RETURN coalesce((
        SELECT has_table_privilege(asker, c.oid, 'SELECT')
               -- Which rows a policy lets them see cannot be known from here.
               AND (NOT c.relrowsecurity OR r.rolsuper OR r.rolbypassrls OR (pg_has_role(asker, c.relowner, 'USAGE') AND NOT c.relforcerowsecurity))
        FROM pg_class c CROSS JOIN pg_roles r WHERE c.oid = source AND r.oid = asker), false);
END
$$;
COMMENT ON FUNCTION _may_read(regclass) IS 'whether who asks may read every row of a relation';

CREATE FUNCTION _must_read(source regclass) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT integration._may_read(source) THEN
        RAISE EXCEPTION 'permission denied for table %', source
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'Who asks about its records must be allowed to SELECT all of its rows.',
                  HINT = 'Where row security limits them, call it in a SECURITY DEFINER function of the table''s owner that looks which rows may be seen.';
    END IF;
END
$$;
COMMENT ON FUNCTION _must_read(regclass) IS 'refuses callers who may not read all of a relation';
