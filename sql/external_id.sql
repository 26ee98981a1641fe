-- How a table's records are named in HubSpot's unique property, which all that writes to a portal shares.

CREATE FUNCTION _is_external_id_taken(source regclass, entity text, prefix text) RETURNS regclass LANGUAGE sql STABLE
    RETURN (
        SELECT t.source FROM tracked_table t JOIN pg_catalog.pg_class c ON c.oid = t.source
        WHERE t.entity = $2 AND t.source <> $1
          AND (t.external_id_prefix = $3 OR ($3 <> '' AND t.external_id_prefix <> ''
               AND (starts_with($3, t.external_id_prefix) OR starts_with(t.external_id_prefix, $3))))
        LIMIT 1);
COMMENT ON FUNCTION _is_external_id_taken(regclass, text, text) IS 'another table whose records could be named the same with this prefix';

CREATE FUNCTION _default_external_id(source regclass, entity text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    place text := coalesce(nullif(integration._environment(), ''), current_database());
    base text;
    prefix text;
    number integer := 1;
BEGIN
    -- Environments and databases of one name are told apart by the hash.
    SELECT format('%s-%s:%s', left(regexp_replace(place, '[^[:alnum:]_.-]+', '-', 'g'), 24),
                  left(encode(sha256(convert_to(integration._identity(), 'UTF8')), 'hex'), 6),
                  left(regexp_replace(n.nspname || '.' || c.relname, '[^[:alnum:]_.-]+', '-', 'g'), 100))
    INTO base FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    prefix := base || ':';
    WHILE integration._is_external_id_taken(source, entity, prefix) IS NOT NULL LOOP
        number := number + 1;
        prefix := format('%s~%s:', base, number);
    END LOOP;
    RETURN prefix;
END
$$;
COMMENT ON FUNCTION _default_external_id(regclass, text) IS 'a prefix that is no other table''s, in this database or another one: environment or database, and the table''s name';

CREATE FUNCTION _external_id_prefix(source regclass, entity text, external_id text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    prefix text := CASE external_id WHEN 'key' THEN '' ELSE external_id END;
    other regclass;
BEGIN
    IF external_id IS NULL THEN
        RETURN integration._default_external_id(source, entity);
    ELSIF external_id <> 'key' AND external_id !~ '^[[:alnum:]][^[:space:][:cntrl:]]{0,62}[^[:alnum:][:space:][:cntrl:]]$' THEN
        RAISE EXCEPTION 'external_id "%" is neither key nor a prefix', external_id
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A prefix begins with a letter or digit, ends with a character that is neither, such as ''acme:'', has no blanks and is at most 64 characters long; ''key'' sends bare keys; leave it out for a prefix that is unique by itself.';
    END IF;
    other := integration._is_external_id_taken(source, entity, prefix);
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'records of % and of % would have the same external ids', source, other
            USING ERRCODE = 'duplicate_object',
                  DETAIL = 'HubSpot would have one record for two rows, and what one of them says would overwrite what the other says.',
                  HINT = 'Leave external_id out for one of the two, or give it a prefix of its own.';
    END IF;
    RETURN prefix;
END
$$;
COMMENT ON FUNCTION _external_id_prefix(regclass, text, text) IS 'what stands before a row''s key in HubSpot''s unique property, as track() was told';

CREATE FUNCTION _rename_external_ids(known integration.tracked_table, external_id text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    prefix text := integration._external_id_prefix(known.source, known.entity, external_id);
BEGIN
    IF prefix IS DISTINCT FROM known.external_id_prefix
       AND (EXISTS (SELECT FROM integration._intent i WHERE i.source = known.id AND i.target = 1)
            OR EXISTS (SELECT FROM integration._link l WHERE l.source = known.id AND l.target = 1 AND l.remote_id IS NULL)) THEN
        RAISE EXCEPTION 'records of % are being created in HubSpot under their present external ids', known.source
            USING ERRCODE = 'object_in_use',
                  HINT = 'Wait until they are settled: SELECT integration.wait_idle(); then change external_id.';
    END IF;
    UPDATE integration.tracked_table t
    SET external_id = _rename_external_ids.external_id, external_id_prefix = prefix,
        collisions_accepted = known.collisions_accepted AND prefix = known.external_id_prefix
    WHERE t.id = known.id;
    -- Whose its records are is looked at again.
    DELETE FROM integration._hold h WHERE h.source = known.id AND h.cause = 'external_id' AND prefix IS DISTINCT FROM known.external_id_prefix;
END
$$;
COMMENT ON FUNCTION _rename_external_ids(integration.tracked_table, text) IS 'names a tracked table''s records otherwise from their next write on; they stay the same records';
