-- The field map.

CREATE FUNCTION _check_value_map(target text, remote_field text, kind text, value_map jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bad text;
BEGIN
    IF value_map IS NULL THEN
        RETURN;
    ELSIF target <> 'mailchimp' OR remote_field <> 'status' OR kind <> 'text' THEN
        RAISE EXCEPTION 'value_map is not for % of % from a column of this type', remote_field, target
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It says what words in a text column mean that is mapped to Mailchimp''s status; leave it out elsewhere.';
    ELSIF jsonb_typeof(value_map) <> 'object' OR value_map = '{}' THEN
        RAISE EXCEPTION 'value_map is no object of words and statuses'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Such as: value_map => ''{"ja": "subscribed", "nein": "unsubscribed"}''.';
    END IF;
    SELECT string_agg(format('%s: %s', to_json(m.key), m.value), ', ') INTO bad FROM jsonb_each(value_map) m
    WHERE m.value NOT IN ('"subscribed"', '"unsubscribed"', '"cleaned"', '"pending"');
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'value_map has what is no status: %', bad
            USING ERRCODE = 'invalid_parameter_value', HINT = 'A word means subscribed, unsubscribed, cleaned or pending (asked, and not answered yet).';
    END IF;
    SELECT string_agg(DISTINCT lower(btrim(m.key)), ', ') INTO bad FROM jsonb_each_text(value_map) m
    WHERE EXISTS (SELECT FROM jsonb_each_text(value_map) o WHERE lower(btrim(o.key)) = lower(btrim(m.key)) AND o.value <> m.value);
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'value_map has two meanings for %', bad
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Words are compared without regard to case, nor to blanks around them.';
    END IF;
END
$$;
COMMENT ON FUNCTION _check_value_map(text, text, text, jsonb) IS 'whether the words of a consent column have been explained properly';

CREATE FUNCTION _do_map_field(source regclass, column_name name, target text, remote_field text, direction text, conflict text, on_lossy text, value_map jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t integration.tracked_table := integration._must_be_tracked(source);
    kind text;
    type_name text;
    number smallint;
    table_number smallint := integration._attnum(source, column_name);
BEGIN
    PERFORM integration._must_own(source);
    PERFORM integration._follow_columns(source);
    IF target IS NULL OR target <> ALL (t.targets) THEN
        RAISE EXCEPTION '% is not sent to %', source, target
            USING ERRCODE = 'undefined_object', HINT = format('Its targets are: %s.', array_to_string(t.targets, ', '));
    ELSIF direction NOT IN ('push', 'pull', 'both') THEN
        RAISE EXCEPTION 'unknown direction "%"', direction USING ERRCODE = 'invalid_parameter_value', HINT = 'It is push, pull or both.';
    ELSIF conflict NOT IN ('last_write_wins', 'crm_wins', 'remote_wins') THEN
        RAISE EXCEPTION 'unknown conflict rule "%"', conflict
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It is last_write_wins, crm_wins or remote_wins.';
    ELSIF on_lossy NOT IN ('keep', 'refuse') THEN
        RAISE EXCEPTION 'unknown word "%" for on_lossy', on_lossy USING ERRCODE = 'invalid_parameter_value', HINT = 'It is keep or refuse.';
    ELSIF target = 'hubspot' AND remote_field !~ '^[a-z][a-z0-9_]{0,99}$' THEN
        RAISE EXCEPTION '"%" is no HubSpot property name', remote_field
            USING ERRCODE = 'invalid_name', HINT = 'Use the internal name (lower case), as shown in the property''s settings.';
    ELSIF target = 'hubspot' AND remote_field = lower(current_setting('integration.hubspot_external_id_property', true)) THEN
        RAISE EXCEPTION '% is the property by which HubSpot''s records are known to be rows of this table', remote_field
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is written by itself, from the key of the row.',
                  HINT = format('To have it hold a column of your own, which is UNIQUE and NOT NULL: SELECT integration.untrack(%L); SELECT integration.track(%L, %L, key => ''column'', external_id => ''key'');', source, source, t.entity);
    ELSIF target = 'mailchimp' AND remote_field NOT IN ('email_address', 'status', 'tags', 'language', 'list_id', 'interests', 'marketing_permissions') AND remote_field !~ '^[A-Z0-9_]{1,10}$' THEN
        RAISE EXCEPTION '"%" is no Mailchimp merge tag', remote_field
            USING ERRCODE = 'invalid_name', HINT = 'A merge tag has up to ten capitals, digits or _; the other fields are email_address, status, tags, interests, marketing_permissions, language and list_id.';
    ELSIF target = 'mailchimp' AND remote_field IN ('list_id', 'marketing_permissions') AND direction = 'pull' THEN
        RAISE EXCEPTION '% is sent to Mailchimp only', remote_field
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave direction out, or make it push.';
    END IF;
    SELECT integration._value_kind(a.atttypid), format_type(a.atttypid, a.atttypmod), a.attnum INTO kind, type_name, number
    FROM pg_attribute a
    WHERE a.attrelid = coalesce(t.payload, t.source) AND a.attname = _do_map_field.column_name AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of % does not exist', column_name, coalesce(t.payload, t.source)
            USING ERRCODE = 'undefined_column', HINT = 'Name a column of the table, or of its payload view if it has one.';
    ELSIF NOT integration._fits(target, remote_field, kind) THEN
        RAISE EXCEPTION 'column "%" of type % cannot be sent as % to %', column_name, type_name, remote_field, target
            USING ERRCODE = 'datatype_mismatch',
                  HINT = 'Convert it in a view with the same key and pass that as payload; a consent column is boolean or text, one that names an audience is text, one of tags, interests or permissions is text[], json or text.';
    END IF;
    PERFORM integration._check_value_map(target, remote_field, kind, value_map);
    INSERT INTO integration.field_map AS f (source, field, column_name, attnum, table_attnum, target, remote_field, direction, conflict, on_lossy, value_map)
    VALUES (source, (SELECT coalesce(max(m.field), 0) + 1 FROM integration.field_map m WHERE m.source = _do_map_field.source),
            column_name, number, table_number, target, remote_field, CASE WHEN target = 'mailchimp' AND remote_field IN ('list_id', 'marketing_permissions') THEN 'push' ELSE direction END, conflict, on_lossy, value_map)
    ON CONFLICT ON CONSTRAINT field_map_remote_once
    DO UPDATE SET column_name = excluded.column_name, attnum = excluded.attnum, table_attnum = excluded.table_attnum, direction = excluded.direction, conflict = excluded.conflict, on_lossy = excluded.on_lossy, value_map = excluded.value_map;
    IF target = 'mailchimp' AND remote_field = 'status' THEN
        -- Words that nobody knew may be known by now.
        UPDATE integration.alert a SET cleared_at = clock_timestamp()
        WHERE a.kind = 'consent_words' AND a.target = 'mailchimp' AND starts_with(a.subject, format('%s.', source)) AND a.cleared_at IS NULL;
    END IF;
    PERFORM integration._install_triggers(source);
    PERFORM integration._wake();
END
$$;
COMMENT ON FUNCTION _do_map_field(regclass, name, text, text, text, text, text, jsonb) IS 'carries out map_field() with our rights';

CREATE FUNCTION map_field(source regclass, column_name name, target text, remote_field text, direction text DEFAULT 'both', conflict text DEFAULT 'last_write_wins', on_lossy text DEFAULT 'keep', value_map jsonb DEFAULT NULL) RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION map_field(regclass, name, text, text, text, text, text, jsonb) IS 'adds a line of the field map, or changes the one with the same remote field';
