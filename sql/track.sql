-- Starting and stopping to track a table.

CREATE FUNCTION _trackable(source regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    class pg_class;
BEGIN
    SELECT * INTO class FROM pg_class WHERE oid = source;
    IF class.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', source
            USING ERRCODE = 'wrong_object_type',
                  DETAIL = 'Changes are captured by triggers on a table.',
                  HINT = 'Track the table behind it; a view can be read instead of the table: payload => ''schema.view''.';
    ELSIF class.relpersistence = 't' OR class.relnamespace IN ('pg_catalog'::regnamespace, 'integration'::regnamespace) THEN
        RAISE EXCEPTION '% is a temporary or system table', source
            USING ERRCODE = 'wrong_object_type', HINT = 'Track a table of the CRM.';
    ELSIF getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'the database''s encoding is %', getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported', HINT = 'integration works in databases with encoding UTF8.';
    END IF;
END
$$;
COMMENT ON FUNCTION _trackable(regclass) IS 'refuses relations that cannot be tracked';

CREATE FUNCTION _key_columns(source regclass, key name) RETURNS name[] LANGUAGE plpgsql AS $$
DECLARE
    columns name[];
    bad text;
BEGIN
    IF key IS NULL THEN
        SELECT array_agg(a.attname ORDER BY array_position(i.indkey::int2[], a.attnum)) INTO columns
        FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
        WHERE i.indrelid = source AND i.indisprimary;
        IF columns IS NULL THEN
            RAISE EXCEPTION 'table % has no primary key', source
                USING ERRCODE = 'invalid_table_definition',
                      HINT = 'Add one, or name a column that is UNIQUE and NOT NULL: key => ''column''.';
        END IF;
    ELSE
        PERFORM 1 FROM pg_attribute a WHERE a.attrelid = source AND a.attname = key AND a.attnum > 0 AND NOT a.attisdropped;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'column "%" of table % does not exist', key, source USING ERRCODE = 'undefined_column',
                HINT = 'Name a column that is UNIQUE and NOT NULL, or leave key out to use the primary key.';
        END IF;
        PERFORM 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = source AND a.attname = key AND a.attnotnull AND i.indisunique AND i.indnkeyatts = 1
          AND i.indpred IS NULL AND i.indexprs IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'column "%" of table % does not identify a row', key, source
                USING ERRCODE = 'invalid_table_definition', HINT = 'The key has to be NOT NULL and have a UNIQUE index of its own.';
        END IF;
        columns := ARRAY[key];
    END IF;
    SELECT string_agg(format('"%s" %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ') INTO bad
    FROM pg_attribute a
    WHERE a.attrelid = source AND a.attname = ANY (columns)
      AND coalesce(integration._value_kind(a.atttypid), '') NOT IN ('integer', 'decimal', 'text');
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'key of table % cannot be used: %', source, bad
            USING ERRCODE = 'datatype_mismatch',
                  DETAIL = 'The text form of a key must not depend on session settings.',
                  HINT = 'Use a key of integers, numeric, uuid, text or an enumeration: key => ''column''.';
    END IF;
    RETURN columns;
END
$$;
COMMENT ON FUNCTION _key_columns(regclass, name) IS 'the columns that identify a row, checked';

CREATE FUNCTION _map_by_convention(source regclass, entity text, targets text[], payload regclass) RETURNS void LANGUAGE sql AS $$
    INSERT INTO integration.field_map (source, field, column_name, target, remote_field)
    SELECT source, row_number() OVER (ORDER BY m.target, m.attnum), m.attname, m.target, m.remote_field
    FROM (
        SELECT DISTINCT ON (c.target, c.remote_field) c.target, c.remote_field, a.attname, a.attnum
        FROM integration._conventions(entity) c
        JOIN pg_catalog.pg_attribute a ON lower(a.attname) = ANY (c.names)
        WHERE a.attrelid = coalesce(payload, source) AND a.attnum > 0 AND NOT a.attisdropped
          AND c.target = ANY (targets)
          AND integration._value_kind(a.atttypid) = ANY (c.value_kinds)
        ORDER BY c.target, c.remote_field, array_position(c.names, lower(a.attname)::text)
    ) m
$$;
COMMENT ON FUNCTION _map_by_convention(regclass, text, text[], regclass) IS 'fills the field map from conventional column names';

CREATE FUNCTION _say_what_is_mapped(source regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t integration.tracked_table;
    service text;
    mapped text;
    left_out text;
BEGIN
    SELECT * INTO t FROM integration.tracked_table x WHERE x.source = _say_what_is_mapped.source;
    FOREACH service IN ARRAY t.targets LOOP
        SELECT string_agg(format('%s -> %s', m.column_name, m.remote_field), ', ' ORDER BY m.field) INTO mapped
        FROM integration.field_map m WHERE m.source = t.source AND m.target = service AND m.attnum > 0;
        SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) INTO left_out
        FROM pg_attribute a
        WHERE a.attrelid = coalesce(t.payload, t.source) AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (t.key_columns)
          AND NOT EXISTS (SELECT FROM integration.field_map m WHERE m.source = t.source AND m.target = service AND m.column_name = a.attname);
        RAISE NOTICE '% as % to %: %', t.source, t.entity, service, coalesce(mapped, 'nothing is mapped yet')
            USING DETAIL = 'left out: ' || coalesce(left_out, 'nothing'),
                  HINT = format('Add fields with SELECT integration.map_field(%L, ''column'', %L, ''remote field'');', t.source, service);
        IF service = 'mailchimp' AND NOT EXISTS (SELECT FROM integration.field_map m WHERE m.source = t.source AND m.target = 'mailchimp' AND m.remote_field = 'status' AND m.attnum > 0) THEN
            RAISE NOTICE 'no consent column was recognised: nothing is sent to Mailchimp until there is one'
                USING HINT = format('SELECT integration.map_field(%L, ''column'', ''mailchimp'', ''status''); with a boolean, or a text such as subscribed/unsubscribed.', t.source);
        END IF;
        IF service = 'hubspot' THEN
            PERFORM integration._say_what_hubspot_requires(t);
        END IF;
        IF integration._lacks(service) IS NOT NULL THEN
            RAISE NOTICE 'changes are queued, but nothing is sent to % yet', service USING HINT = integration._lacks(service);
        END IF;
    END LOOP;
    IF NOT integration._preloaded() THEN
        RAISE NOTICE 'changes are queued, but nothing will be sent: the library is not preloaded'
            USING HINT = 'Add integration to shared_preload_libraries (ALTER SYSTEM SET shared_preload_libraries = ''integration'') and restart the server.';
    END IF;
END
$$;
COMMENT ON FUNCTION _say_what_is_mapped(regclass) IS 'tells by NOTICE what is sent and what is not';

CREATE FUNCTION _say_what_is_hidden(source regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t integration.tracked_table;
BEGIN
    SELECT * INTO t FROM integration.tracked_table x WHERE x.source = _say_what_is_hidden.source;
    IF (SELECT c.relrowsecurity AND c.relforcerowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
        FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = t.source) THEN
        RAISE NOTICE 'nothing is sent of % yet: row security hides rows from its owner', t.source
            USING DETAIL = 'A row that cannot be seen looks like one that was deleted, so the table is held.',
                  HINT = format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY; or give the table an owner with BYPASSRLS. Policies for everybody else stay as they are.', t.source);
    END IF;
    IF t.payload IS NOT NULL AND t.payload_missing = 'keep' AND 'mailchimp' = ANY (t.targets) THEN
        RAISE NOTICE 'rows that % does not show are left alone: their opt-outs are not sent either', t.payload
            USING HINT = 'Let the view show everybody, or leave payload_missing out.';
    END IF;
END
$$;
COMMENT ON FUNCTION _say_what_is_hidden(regclass) IS 'tells by NOTICE which rows cannot be seen';

CREATE FUNCTION _do_track(source regclass, entity text, key name, targets text[], payload regclass, payload_missing text, external_id text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    allowed text[] := (SELECT k.targets FROM integration._kind(entity) k);
    known integration.tracked_table;
    columns name[];
    numbers smallint[];
    forms text[];
    missing text;
BEGIN
    IF source IS NULL OR allowed IS NULL THEN
        RAISE EXCEPTION 'unknown entity "%"', entity
            USING ERRCODE = 'invalid_parameter_value', HINT = format('It is one of %s, or custom: with the name of a custom object, such as custom:p12345_machines.', (SELECT string_agg(k.name, ', ') FROM integration._kinds() AS k(name)));
    ELSIF NOT coalesce(targets, allowed) <@ allowed OR targets = '{}' THEN
        RAISE EXCEPTION 'a % cannot be sent to %', entity, array_to_string(targets, ', ')
            USING ERRCODE = 'invalid_parameter_value', HINT = format('Its targets can be: %s.', array_to_string(allowed, ', '));
    ELSIF payload_missing NOT IN ('delete', 'keep') THEN
        RAISE EXCEPTION 'unknown value "%" of payload_missing', payload_missing
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It is delete (a row that the view does not show is removed from the services) or keep (its records are left alone).';
    END IF;
    PERFORM integration._trackable(source);
    PERFORM integration._must_own(source);
    PERFORM integration._follow_columns(source);
    columns := integration._key_columns(source, key);
    numbers := integration._attnums(source, columns);
    forms := integration._key_forms(source, columns);
    SELECT string_agg(quote_ident(c), ', ') INTO missing FROM unnest(columns) c
    WHERE payload IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = payload AND a.attname = c AND NOT a.attisdropped);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'payload % lacks the key: %', payload, missing
            USING ERRCODE = 'undefined_column', HINT = 'The view has to have the key columns of the table under the same names.';
    END IF;
    -- Two that are tracked at the same time could be given the same external ids.
    LOCK TABLE integration.tracked_table IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO known FROM integration.tracked_table t WHERE t.source = _do_track.source;
    IF known.targets = '{}' AND (known.entity, known.key_attnums, known.key_forms) IS DISTINCT FROM (_do_track.entity, numbers, forms) THEN
        -- It was untracked, and is something else now: links under the old keys say nothing about it.
        DELETE FROM integration._link l WHERE l.source = known.id;
        DELETE FROM integration._objection o WHERE o.source = known.id;
        DELETE FROM integration._intent i WHERE i.source = known.id;
        DELETE FROM integration.tracked_table t WHERE t.id = known.id;
        known := NULL;
    END IF;
    IF known.id IS NOT NULL AND (known.entity, known.key_attnums, known.key_forms) IS DISTINCT FROM (_do_track.entity, numbers, forms) THEN
        RAISE EXCEPTION 'table % is already tracked as % by %', source, known.entity, array_to_string(known.key_columns, ', ')
            USING ERRCODE = 'duplicate_object', HINT = format('To change that: SELECT integration.untrack(%L); then track it again.', source);
    ELSIF known.id IS NOT NULL THEN
        UPDATE integration.tracked_table t SET targets = coalesce(_do_track.targets, nullif(known.targets, '{}'), allowed), payload = coalesce(_do_track.payload, known.payload),
            payload_missing = coalesce(_do_track.payload_missing, known.payload_missing),
            payload_key = CASE WHEN _do_track.payload IS NULL THEN known.payload_key ELSE columns END,
            numbered_in = CASE WHEN _do_track.payload IS NULL THEN known.numbered_in ELSE '' END
        WHERE t.id = known.id;
        IF external_id IS NOT NULL THEN
            PERFORM integration._rename_external_ids(known, external_id);
        END IF;
    ELSE
        INSERT INTO integration.tracked_table (source, entity, key_columns, targets, payload, payload_missing, bound_to, external_id, external_id_prefix)
        VALUES (source, entity, columns, coalesce(targets, allowed), payload, coalesce(payload_missing, 'delete'), integration._identity(), external_id,
                integration._external_id_prefix(source, entity, external_id));
        PERFORM integration._map_by_convention(source, entity, coalesce(targets, allowed), payload);
    END IF;
    PERFORM integration._follow_columns(source);
    IF payload IS NOT NULL THEN
        -- What the view lacks is left out because whoever named it wants that.
        UPDATE integration.field_map m SET attnum = 0 WHERE m.source = _do_track.source AND m.attnum IS NULL;
    END IF;
    PERFORM integration._install_triggers(source);
    PERFORM integration._say_what_is_mapped(source);
    PERFORM integration._say_what_is_hidden(source);
    PERFORM integration._note_server();
    IF integration._environment() = '' THEN
        RAISE NOTICE 'integration.environment is not set: a copy of this server''s disk may take itself for this one'
            USING HINT = 'Set it to what this installation is, such as production, best as env:NAME from outside of the data directory; then SELECT integration.adopt();';
    END IF;
    PERFORM integration._wake();
END
$$;
COMMENT ON FUNCTION _do_track(regclass, text, name, text[], regclass, text, text) IS 'carries out track() with our rights';

CREATE FUNCTION track(source regclass, entity text, key name DEFAULT NULL, targets text[] DEFAULT NULL, payload regclass DEFAULT NULL, payload_missing text DEFAULT NULL, external_id text DEFAULT NULL) RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION track(regclass, text, name, text[], regclass, text, text) IS 'keeps a CRM table in step with the services: installs the triggers and a field map by conventional column names';

-- The name of the table alone is looked up by the caller's search_path.
CREATE FUNCTION track(source text, entity text, key name DEFAULT NULL, targets text[] DEFAULT NULL, payload regclass DEFAULT NULL, payload_missing text DEFAULT NULL, external_id text DEFAULT NULL)
RETURNS void LANGUAGE sql BEGIN ATOMIC
    SELECT track(_must_exist(source, to_regclass(source)), entity, key, targets, payload, payload_missing, external_id);
END;
COMMENT ON FUNCTION track(text, text, name, text[], regclass, text, text) IS 'keeps a CRM table in step with the services: installs the triggers and a field map by conventional column names';

CREATE FUNCTION _must_be_tracked(source regclass) RETURNS integration.tracked_table LANGUAGE plpgsql STABLE AS $$
DECLARE
    known integration.tracked_table;
BEGIN
    SELECT * INTO known FROM integration.tracked_table t WHERE t.source = _must_be_tracked.source;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not tracked', source
            USING ERRCODE = 'undefined_object', HINT = format('SELECT integration.track(%L, ''contact''); the tracked ones are in integration.tracked_table.', source);
    END IF;
    RETURN known;
END
$$;
COMMENT ON FUNCTION _must_be_tracked(regclass) IS 'the tracked table, or an error';

CREATE FUNCTION _do_untrack(source regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM integration._must_be_tracked(source);
    PERFORM integration._must_own(source);
    PERFORM integration._drop_triggers(source);
    UPDATE integration.tracked_table t SET targets = '{}' WHERE t.source = _do_untrack.source;
    PERFORM integration._cancel_backfills(t.id, 'the table is no longer tracked') FROM integration.tracked_table t WHERE t.source = _do_untrack.source;
    DELETE FROM integration._change c USING integration.tracked_table t WHERE t.source = _do_untrack.source AND c.source = t.id;
    DELETE FROM integration._retry r USING integration.tracked_table t WHERE t.source = _do_untrack.source AND r.source = t.id;
    DELETE FROM integration._hold h USING integration.tracked_table t WHERE t.source = _do_untrack.source AND h.source = t.id;
    PERFORM integration._stop_associations(source);
    PERFORM integration._wake();
END
$$;
COMMENT ON FUNCTION _do_untrack(regclass) IS 'carries out untrack() with our rights';

CREATE FUNCTION untrack(source regclass) RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION untrack(regclass) IS 'stops tracking a table: removes the triggers and queued changes, keeps links and history';
