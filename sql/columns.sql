-- Columns are followed by number: a name is what people see, and may change.

CREATE FUNCTION _numbering(source regclass, payload regclass) RETURNS text LANGUAGE sql STABLE
    RETURN (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s)::text
        || '/' || (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())::text
        || '/' || source::oid::text || '/' || coalesce(payload::oid::text, '-');
COMMENT ON FUNCTION _numbering(regclass, regclass) IS 'database and relations that column numbers belong to; in a restored dump they are others';

CREATE FUNCTION _attnum(relation oid, column_name name) RETURNS smallint LANGUAGE sql STABLE
    RETURN (SELECT a.attnum FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped);
COMMENT ON FUNCTION _attnum(oid, name) IS 'number of a column; NULL: there is none of that name';

CREATE FUNCTION _attnums(relation oid, column_names name[]) RETURNS smallint[] LANGUAGE sql STABLE
    RETURN (SELECT array_agg(_attnum(relation, n.name) ORDER BY n.place) FROM unnest(column_names) WITH ORDINALITY AS n(name, place));
COMMENT ON FUNCTION _attnums(oid, name[]) IS 'numbers of columns; NULL where there is none of that name';

CREATE FUNCTION _attnames(relation oid, numbers smallint[], names name[]) RETURNS name[] LANGUAGE sql STABLE
    RETURN (SELECT array_agg(coalesce(a.attname, n.name) ORDER BY n.place)
            FROM unnest(numbers, names) WITH ORDINALITY AS n(number, name, place)
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = relation AND a.attnum = n.number AND NOT a.attisdropped);
COMMENT ON FUNCTION _attnames(oid, smallint[], name[]) IS 'present names of columns; one that is gone keeps its name';

CREATE FUNCTION _key_form(type_oid oid, modifier integer) RETURNS text LANGUAGE sql STABLE
    RETURN CASE _value_kind(type_oid)
        WHEN 'integer' THEN 'integer'
        WHEN 'decimal' THEN CASE WHEN modifier < 4 THEN 'numeric' ELSE format('numeric with %s places', (modifier - 4) & 2047) END
        WHEN 'text' THEN CASE WHEN type_oid = 'bpchar'::regtype THEN format_type(type_oid, modifier) ELSE 'text' END
    END;
COMMENT ON FUNCTION _key_form(oid, integer) IS 'what the text of a key looks like: types of one form can be changed into each other, and the keys stay the same; NULL: no key';

CREATE FUNCTION _key_forms(relation oid, column_names name[]) RETURNS text[] LANGUAGE sql STABLE
    RETURN (SELECT array_agg(_key_form(a.atttypid, a.atttypmod) ORDER BY n.place)
            FROM unnest(column_names) WITH ORDINALITY AS n(name, place)
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = relation AND a.attname = n.name AND a.attnum > 0 AND NOT a.attisdropped);
COMMENT ON FUNCTION _key_forms(oid, name[]) IS 'the forms of key columns';

CREATE FUNCTION _fits(target text, remote_field text, kind text) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN kind IS NOT NULL AND CASE
        WHEN target <> 'mailchimp' THEN true
        WHEN remote_field = 'status' THEN kind IN ('bool', 'text')
        WHEN remote_field = 'list_id' THEN kind = 'text'
        WHEN remote_field IN ('tags', 'interests', 'marketing_permissions') THEN kind IN ('text', 'text_array', 'json')
        ELSE true
    END;
COMMENT ON FUNCTION _fits(text, text, text) IS 'whether a column whose values are converted that way can be sent as a remote field';

CREATE FUNCTION _follow_columns(wanted regclass DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t integration.tracked_table;
    renamed record;
BEGIN
    -- In a restored dump, or after another payload was named, numbers say nothing: names do.
    FOR t IN
        SELECT x.* FROM integration.tracked_table x JOIN pg_catalog.pg_class c ON c.oid = x.source
        WHERE (wanted IS NULL OR x.source = wanted) AND x.numbered_in <> integration._numbering(x.source, x.payload)
    LOOP
        UPDATE integration.tracked_table x
        SET key_attnums = integration._attnums(t.source, t.key_columns),
            key_forms = coalesce(t.key_forms, integration._key_forms(t.source, t.key_columns)),
            payload_key = CASE WHEN t.payload IS NOT NULL THEN coalesce(t.payload_key, t.key_columns) END,
            payload_key_attnums = CASE WHEN t.payload IS NOT NULL THEN integration._attnums(t.payload, coalesce(t.payload_key, t.key_columns)) END,
            numbered_in = integration._numbering(t.source, t.payload)
        WHERE x.id = t.id;
    END LOOP;
    -- Each line for itself: a restore brings in the tables one after the other, and we may look in between.
    UPDATE integration.field_map m
    SET attnum = coalesce(integration._attnum(coalesce(y.payload, y.source), m.column_name), CASE WHEN m.attnum = 0 THEN 0 END),
        table_attnum = integration._attnum(y.source, m.column_name), numbered_in = y.numbered_in
    FROM integration.tracked_table y JOIN pg_catalog.pg_class c ON c.oid = y.source
    WHERE y.source = m.source AND (wanted IS NULL OR y.source = wanted) AND m.numbered_in <> y.numbered_in;
    -- Numbers may change places, and no two lines may have one number in between.
    UPDATE integration.association_map m SET attnum = NULL
    FROM integration.tracked_table y JOIN pg_catalog.pg_class c ON c.oid = y.source
    WHERE y.source = m.source AND (wanted IS NULL OR y.source = wanted) AND m.numbered_in <> y.numbered_in AND m.attnum IS NOT NULL;
    UPDATE integration.association_map m SET attnum = integration._attnum(y.source, m.column_name), numbered_in = y.numbered_in
    FROM integration.tracked_table y JOIN pg_catalog.pg_class c ON c.oid = y.source
    WHERE y.source = m.source AND (wanted IS NULL OR y.source = wanted) AND m.numbered_in <> y.numbered_in;
    UPDATE integration.tracked_table x SET key_columns = n.key_columns, payload_key = n.payload_key
    FROM (SELECT y.id, integration._attnames(y.source, y.key_attnums, y.key_columns) AS key_columns,
                 integration._attnames(y.payload, y.payload_key_attnums, y.payload_key) AS payload_key
          FROM integration.tracked_table y) n
    WHERE n.id = x.id AND (wanted IS NULL OR x.source = wanted)
      AND (x.key_columns, x.payload_key) IS DISTINCT FROM (n.key_columns, n.payload_key);
    UPDATE integration.field_map m SET column_name = a.attname
    FROM integration.tracked_table y JOIN pg_catalog.pg_attribute a ON a.attrelid = coalesce(y.payload, y.source)
    WHERE y.source = m.source AND (wanted IS NULL OR y.source = wanted)
      AND a.attnum = m.attnum AND NOT a.attisdropped AND a.attname <> m.column_name;
    FOR renamed IN
        SELECT m.id, m.source, m.column_name AS old, a.attname AS new
        FROM integration.association_map m JOIN pg_catalog.pg_attribute a ON a.attrelid = m.source
        WHERE (wanted IS NULL OR m.source = wanted) AND a.attnum = m.attnum AND NOT a.attisdropped AND a.attname <> m.column_name
    LOOP
        UPDATE integration.association_map m SET column_name = renamed.new WHERE m.id = renamed.id;
        UPDATE integration.dlq d SET column_name = renamed.new, request = jsonb_set(d.request, '{column}', to_jsonb(renamed.new))
        WHERE d.source = renamed.source AND d.op = 'associate' AND d.resolution IS NULL AND d.column_name = renamed.old;
    END LOOP;
    -- What is watched stays the same; in a dump it goes by names.
    UPDATE integration._plan p SET relation = p.source, plan = n.plan
    FROM (SELECT q.source, integration._trigger_plan(q.source) AS plan FROM integration._plan q WHERE wanted IS NULL OR q.source = wanted) n
    WHERE n.source = p.source AND (p.relation, p.plan) IS DISTINCT FROM (p.source::oid, n.plan);
END
$$;
COMMENT ON FUNCTION _follow_columns(regclass) IS 'brings the names of mapped columns up to date, of one table or of all; after a restore, their numbers';

CREATE VIEW _finding AS
    WITH tables AS (
        SELECT t.id, t.source, t.entity, t.payload, t.targets, t.key_columns, t.key_attnums, t.key_forms, t.payload_key, t.payload_key_attnums,
               coalesce(t.payload, t.source) AS reads, c.oid IS NOT NULL AS is_there, t.payload IS NULL OR p.oid IS NOT NULL AS payload_is_there
        FROM tracked_table t
        LEFT JOIN pg_catalog.pg_class c ON c.oid = t.source
        LEFT JOIN pg_catalog.pg_class p ON p.oid = t.payload
        WHERE t.targets <> '{}'
    ), keys AS (
        SELECT t.id, t.source, t.entity, t.targets,
               CASE
                   WHEN a.attnum IS NULL THEN format('key column %I was dropped', k.name)
                   WHEN _key_form(a.atttypid, a.atttypmod) IS DISTINCT FROM k.form
                       THEN format('the type of key column %I was changed to %s, and keys were %s', k.name, format_type(a.atttypid, a.atttypmod), k.form)
                   WHEN v.attnum IS NULL AND t.payload IS NOT NULL THEN format('the payload view has no key column %I', k.payload_name)
               END AS what
        FROM tables t
        CROSS JOIN LATERAL unnest(t.key_attnums, t.key_columns, t.key_forms, t.payload_key_attnums, t.payload_key) AS k(number, name, form, payload_number, payload_name)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.source AND a.attnum = k.number AND NOT a.attisdropped
        LEFT JOIN pg_catalog.pg_attribute v ON v.attrelid = t.payload AND v.attnum = k.payload_number AND NOT v.attisdropped
        WHERE t.is_there AND t.payload_is_there
    ), fields AS (
        SELECT t.id, t.source, m.target, m.column_name, m.remote_field,
               CASE m.remote_field WHEN 'status' THEN 'consent' WHEN 'email_address' THEN 'identity' WHEN 'list_id' THEN 'identity' END AS holds,
               CASE WHEN a.attnum IS NULL THEN format('column %I was dropped', m.column_name)
                    ELSE format('column %I is of type %s now', m.column_name, format_type(a.atttypid, a.atttypmod)) END AS what
        FROM tables t
        JOIN field_map m ON m.source = t.source AND m.target = ANY (t.targets)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.reads AND a.attnum = m.attnum AND NOT a.attisdropped
        WHERE t.is_there AND t.payload_is_there AND m.attnum IS DISTINCT FROM 0 AND (a.attnum IS NULL OR NOT _fits(m.target, m.remote_field, _value_kind(a.atttypid)))
    )
    SELECT t.id AS source, x.target, 'table' AS cause, '' AS subject,
           format('the table was dropped; SELECT integration.untrack(%L) forgets it', t.source::oid::text) AS reason
    FROM tables t CROSS JOIN LATERAL unnest(t.targets) AS x(target) WHERE NOT t.is_there
    UNION ALL
    SELECT t.id, x.target, 'payload', '',
           format('its payload view was dropped; create it again, and SELECT integration.track(%L, %L, payload => ''view'')', t.source, t.entity)
    FROM tables t CROSS JOIN LATERAL unnest(t.targets) AS x(target) WHERE t.is_there AND NOT t.payload_is_there
    UNION ALL
    SELECT k.id, x.target, 'key', '',
           format('%s; undo that, or SELECT integration.untrack(%L), then integration.track(%2$L, %L) by the new key, then integration.backfill(%2$L)', string_agg(k.what, ', '), k.source, k.entity)
    FROM keys k CROSS JOIN LATERAL unnest(k.targets) AS x(target) WHERE k.what IS NOT NULL GROUP BY k.id, k.source, k.entity, x.target
    UNION ALL
    SELECT f.id, f.target, f.holds, '',
           string_agg(format('%s, and %s without it: SELECT integration.map_field(%L, ''column'', ''mailchimp'', %L) names another',
                             f.what, CASE f.remote_field WHEN 'status' THEN 'nobody is known to have opted in' ELSE 'nobody can be told apart' END, f.source, f.remote_field), E'\n')
    FROM fields f WHERE f.target = 'mailchimp' AND f.holds IS NOT NULL GROUP BY f.id, f.target, f.holds
    UNION ALL
    SELECT f.id, f.target, 'column', format('%s.%I', f.source, f.column_name),
           string_agg(format('%s: %s is left out; SELECT integration.map_field(%L, ''column'', %L, %2$L) names another', f.what, f.remote_field, f.source, f.target), E'\n')
    FROM fields f WHERE f.target <> 'mailchimp' OR f.holds IS NULL GROUP BY f.id, f.target, f.source, f.column_name
    UNION ALL
    SELECT t.id, 'hubspot', 'association', format('%s.%I', t.source, m.column_name),
           format('column %I, which associates its records with those of %s, %s; SELECT integration.unmap_association(%L, %1$L), or make it what it was',
                  m.column_name, m.to_source, CASE WHEN a.attnum IS NULL THEN 'was dropped' ELSE format('is of type %s now', format_type(a.atttypid, a.atttypmod)) END, t.source)
    FROM tables t
    JOIN association_map m ON m.source = t.source
    JOIN tracked_table p ON p.source = m.to_source
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.source AND a.attnum = m.attnum AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attribute k ON k.attrelid = p.source AND k.attnum = p.key_attnums[1] AND NOT k.attisdropped
    WHERE t.is_there AND 'hubspot' = ANY (t.targets)
      AND (a.attnum IS NULL OR (k.attnum IS NOT NULL AND _value_kind(a.atttypid) IS DISTINCT FROM _value_kind(k.atttypid)))
    UNION ALL
    SELECT t.id, x.target, 'trigger', '',
           (SELECT string_agg(format('trigger %I of %s is %s', n.name, r.relation, CASE WHEN g.tgname IS NULL THEN 'gone' ELSE 'disabled' END), ', ' ORDER BY r.relation::text, n.name)
            FROM (SELECT t.source AS relation UNION SELECT p.relid FROM pg_catalog.pg_partition_tree(t.source) p) r
            CROSS JOIN (VALUES ('integration_row'::name), ('integration_statement'), ('integration_truncate')) AS n(name)
            LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = r.relation AND g.tgname = n.name
            WHERE g.tgenabled IN ('D', 'R') OR (g.tgname IS NULL AND r.relation = t.source))
           || format(': changes are not captured; enable them, or SELECT integration.track(%L, %L), and then integration.backfill(%1$L)', t.source, t.entity)
    FROM tables t CROSS JOIN LATERAL unnest(t.targets) AS x(target) WHERE t.is_there;
COMMENT ON VIEW _finding IS 'faults of tracked tables that the catalogue shows; reason is NULL where there is none';
COMMENT ON COLUMN _finding.source IS 'tracked_table.id';
COMMENT ON COLUMN _finding.target IS 'hubspot or mailchimp';
COMMENT ON COLUMN _finding.cause IS 'as in _hold';
COMMENT ON COLUMN _finding.subject IS 'the column that is left out; empty: the table as a whole';
COMMENT ON COLUMN _finding.reason IS 'what is wrong, and what to do';
