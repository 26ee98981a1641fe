-- The capture triggers of a tracked table, and what they watch.

CREATE FUNCTION _capture() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'integration_capture';
COMMENT ON FUNCTION _capture() IS 'trigger function: queues changes of tracked tables; of any other table it queues nothing';

CREATE TABLE _plan (
    source   regclass PRIMARY KEY REFERENCES tracked_table (source) ON DELETE CASCADE,
    relation oid NOT NULL,
    plan     text NOT NULL
);
COMMENT ON TABLE _plan IS 'what the capture triggers of a tracked table watch; read by the trigger function, which looks it up by the table its trigger is on';
COMMENT ON COLUMN _plan.source IS 'the tracked CRM table; a partition uses the plan of its table';
COMMENT ON COLUMN _plan.relation IS 'oid of the table whose column numbers the plan holds; in a restored dump it is another table''s, and names are used instead';
COMMENT ON COLUMN _plan.plan IS 'number of the source, key columns, and for each target the columns that concern it (absent: all), JSON; a column is its name and number';

CREATE FUNCTION _trigger_plan(source regclass) RETURNS text LANGUAGE sql STABLE
    RETURN (
        SELECT jsonb_build_object(
            'source', t.id,
            'key', (SELECT jsonb_agg(jsonb_build_array(k.name, k.number) ORDER BY k.place) FROM unnest(t.key_columns, t.key_attnums) WITH ORDINALITY AS k(name, number, place)),
            'targets', coalesce((
                SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                    'target', x.target,
                    'columns', CASE WHEN t.payload IS NULL THEN (
                        SELECT coalesce(jsonb_agg(jsonb_build_array(c.column_name, c.number) ORDER BY c.column_name, c.number), '[]') FROM (
                            SELECT m.column_name, m.attnum AS number FROM field_map m
                            WHERE m.source = t.source AND m.target = x.target AND m.direction IN ('push', 'both')
                            UNION
                            SELECT a.column_name, a.attnum FROM association_map a WHERE a.source = t.source AND x.target = 'hubspot') c) END,
                    'consent', (
                        SELECT jsonb_build_array(m.column_name, m.table_attnum) FROM field_map m
                        WHERE m.source = t.source AND m.target = x.target AND m.target = 'mailchimp' AND m.remote_field = 'status'),
                    'words', (
                        SELECT m.value_map FROM field_map m
                        WHERE m.source = t.source AND m.target = x.target AND m.target = 'mailchimp' AND m.remote_field = 'status')))
                    ORDER BY x.place)
                FROM unnest(t.targets) WITH ORDINALITY AS x(target, place)), '[]'))::text
        FROM tracked_table t WHERE t.source = _trigger_plan.source);
COMMENT ON FUNCTION _trigger_plan(regclass) IS 'what the capture triggers of a table have to watch, as stored in _plan';

CREATE FUNCTION _capture_triggers() RETURNS TABLE (name name, type smallint, definition text) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    VALUES ('integration_row'::name, 29::smallint, 'AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'),
           ('integration_statement', 28, 'AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH STATEMENT'),
           ('integration_truncate', 32, 'AFTER TRUNCATE ON %s FOR EACH STATEMENT');
END;
COMMENT ON FUNCTION _capture_triggers() IS 'the triggers of a tracked table: name, pg_trigger.tgtype, and what CREATE TRIGGER says';

CREATE FUNCTION _drop_triggers(source regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    trigger record;
BEGIN
    FOR trigger IN
        SELECT t.tgname FROM pg_trigger t JOIN integration._capture_triggers() c ON c.name = t.tgname WHERE t.tgrelid = source
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', trigger.tgname, source);
    END LOOP;
    DELETE FROM integration._plan p WHERE p.source = _drop_triggers.source;
END
$$;
COMMENT ON FUNCTION _drop_triggers(regclass) IS 'removes the capture triggers';

-- The lock makes sure that whoever changes a row after this has committed goes by the new plan. A trigger that is as it
-- should be is left alone, and so is whether it is enabled.
CREATE FUNCTION _install_triggers(source regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    trigger record;
BEGIN
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', source);
    INSERT INTO integration._plan AS p (source, relation, plan) VALUES (source, source, integration._trigger_plan(source))
    ON CONFLICT ON CONSTRAINT _plan_pkey DO UPDATE SET relation = excluded.relation, plan = excluded.plan;
    FOR trigger IN
        SELECT c.name, c.definition, t.oid IS NOT NULL AS present
        FROM integration._capture_triggers() c
        LEFT JOIN pg_trigger t ON t.tgrelid = source AND t.tgname = c.name
        WHERE (t.tgtype, t.tgfoid, t.tgattr::text, t.tgqual IS NULL, t.tgdeferrable) IS DISTINCT FROM (c.type, 'integration._capture()'::regprocedure::oid, '', true, false)
    LOOP
        IF trigger.present THEN
            EXECUTE format('DROP TRIGGER %I ON %s', trigger.name, source);
        END IF;
        EXECUTE format('CREATE TRIGGER %I %s EXECUTE FUNCTION integration._capture()', trigger.name, format(trigger.definition, source));
    END LOOP;
    PERFORM integration._forget_plan(source);
END
$$;
COMMENT ON FUNCTION _install_triggers(regclass) IS 'installs the capture triggers of a table and says what they watch; again after a change of the field map';
