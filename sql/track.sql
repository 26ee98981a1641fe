-- Starting and stopping to track a table, and the field map.

CREATE FUNCTION _capture() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'integration_capture';
COMMENT ON FUNCTION _capture() IS 'trigger function: queues changes of tracked tables; of any other table it queues nothing';

CREATE FUNCTION _identity_in(incarnation text) RETURNS text LANGUAGE sql STABLE
    RETURN concat_ws('/', (SELECT system_identifier FROM pg_catalog.pg_control_system()), coalesce(incarnation, ''), current_database(), _environment());
COMMENT ON FUNCTION _identity_in(text) IS 'see _identity(), for a data directory';

CREATE FUNCTION _identity() RETURNS text LANGUAGE sql STABLE
    RETURN _identity_in((SELECT coalesce((SELECT s.incarnation FROM _server s WHERE i.heir), i.id) FROM _incarnation() i));
COMMENT ON FUNCTION _identity() IS 'what a copy of this database differs in: system identifier, data directory, database name, integration.environment; a promoted standby goes by the data directory of its primary';

CREATE FUNCTION _note_server() RETURNS void LANGUAGE sql VOLATILE BEGIN ATOMIC
    UPDATE _server s SET incarnation = i.id FROM _incarnation() i WHERE NOT i.heir AND s.incarnation <> i.id;
    INSERT INTO _server (incarnation) SELECT i.id FROM _incarnation() i WHERE NOT EXISTS (SELECT FROM _server) ON CONFLICT (single) DO NOTHING;
    -- Set up while the library was not preloaded, and nothing was known of the data directory.
    UPDATE tracked_table t SET bound_to = _identity() WHERE t.bound_to = _identity_in('') AND t.bound_to <> _identity();
END;
COMMENT ON FUNCTION _note_server() IS 'notes which data directory the database is in; writes nothing where that is known';

CREATE FUNCTION _why_fenced() RETURNS text LANGUAGE sql STABLE
    RETURN (
        SELECT CASE
                   WHEN split_part(t.bound_to, '/', 1) <> split_part(n.identity, '/', 1)
                       THEN 'it was set up on another server: this is a restored dump, or the server was upgraded by pg_upgrade'
                   WHEN NOT starts_with(p.bound, current_database() || '/')
                       THEN format('it was set up in a database called %s: this is a copy of that, or it was renamed', split_part(p.bound, '/', 1))
                   WHEN p.bound <> p.now
                       THEN format('integration.environment was %L when it was set up', substr(p.bound, length(current_database()) + 2))
                   ELSE CASE i.cause
                       WHEN 'restored' THEN 'this server was restored to a point in time'
                       WHEN 'moved' THEN 'the data directory was copied or moved'
                       ELSE 'this server was made from a copy of another one''s data directory' END
               END || '. It captures changes and sends nothing. If it shall send, and the other one does not: SELECT integration.adopt();'
        FROM tracked_table t
        CROSS JOIN (SELECT _identity() AS identity) n
        CROSS JOIN LATERAL (SELECT substr(t.bound_to, length(split_part(t.bound_to, '/', 1)) + length(split_part(t.bound_to, '/', 2)) + 3) AS bound,
                                   substr(n.identity, length(split_part(n.identity, '/', 1)) + length(split_part(n.identity, '/', 2)) + 3) AS now) p
        LEFT JOIN _incarnation() i ON true
        WHERE t.bound_to <> n.identity AND t.targets <> '{}'
        ORDER BY t.id LIMIT 1);
COMMENT ON FUNCTION _why_fenced() IS 'why this database may not send, for people; NULL: it may';

CREATE FUNCTION _value_kind(type_oid oid) RETURNS text LANGUAGE sql STABLE
    RETURN (
        WITH RECURSIVE base(oid, typtype, typcategory, typbasetype, typelem) AS (
            SELECT t.oid, t.typtype, t.typcategory, t.typbasetype, t.typelem FROM pg_catalog.pg_type t WHERE t.oid = type_oid
            UNION ALL
            SELECT t.oid, t.typtype, t.typcategory, t.typbasetype, t.typelem
            FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
        )
        SELECT CASE
            WHEN b.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN 'integer'
            WHEN b.oid = 'numeric'::regtype THEN 'decimal'
            WHEN b.oid IN ('float4'::regtype, 'float8'::regtype) THEN 'float'
            WHEN b.oid = 'bool'::regtype THEN 'bool'
            WHEN b.oid = 'date'::regtype THEN 'date'
            WHEN b.oid = 'timestamp'::regtype THEN 'timestamp'
            WHEN b.oid = 'timestamptz'::regtype THEN 'timestamptz'
            WHEN b.oid IN ('json'::regtype, 'jsonb'::regtype) THEN 'json'
            WHEN b.typcategory = 'A' AND (SELECT e.typcategory IN ('S', 'E') FROM pg_catalog.pg_type e WHERE e.oid = b.typelem) THEN 'text_array'
            WHEN b.typcategory IN ('S', 'E') OR b.oid IN ('uuid'::regtype, 'inet'::regtype) THEN 'text'
        END
        FROM base b WHERE b.typtype <> 'd');
COMMENT ON FUNCTION _value_kind(oid) IS 'how values of a type are converted for a service; NULL: they cannot be';

CREATE FUNCTION _conventions(entity text) RETURNS TABLE (target text, remote_field text, names text[]) LANGUAGE sql IMMUTABLE
AS $$
    SELECT c.target, c.remote_field, c.names::text[] FROM (VALUES
        ('contact', 'hubspot', 'email', '{email,email_address,e_mail,mail}'),
        ('contact', 'hubspot', 'firstname', '{first_name,firstname,given_name,forename}'),
        ('contact', 'hubspot', 'lastname', '{last_name,lastname,family_name,surname}'),
        ('contact', 'hubspot', 'phone', '{phone,phone_number,telephone,tel}'),
        ('contact', 'hubspot', 'mobilephone', '{mobile,mobile_phone,cell_phone}'),
        ('contact', 'hubspot', 'company', '{company,company_name,organisation,organization}'),
        ('contact', 'hubspot', 'jobtitle', '{job_title,jobtitle,position}'),
        ('contact', 'hubspot', 'website', '{website,url,homepage}'),
        ('contact', 'hubspot', 'address', '{street,address,address_line_1}'),
        ('contact', 'hubspot', 'city', '{city,town}'),
        ('contact', 'hubspot', 'state', '{state,region,province}'),
        ('contact', 'hubspot', 'zip', '{zip,postal_code,postcode,zip_code}'),
        ('contact', 'hubspot', 'country', '{country,country_name}'),
        ('contact', 'hubspot', 'lifecyclestage', '{lifecycle_stage,lifecyclestage}'),
        ('contact', 'mailchimp', 'email_address', '{email,email_address,e_mail,mail}'),
        ('contact', 'mailchimp', 'FNAME', '{first_name,firstname,given_name,forename}'),
        ('contact', 'mailchimp', 'LNAME', '{last_name,lastname,family_name,surname}'),
        ('contact', 'mailchimp', 'PHONE', '{phone,phone_number,telephone,tel}'),
        ('contact', 'mailchimp', 'language', '{language,locale,lang}'),
        ('contact', 'mailchimp', 'status', '{email_subscription_status,marketing_opt_in,marketing_consent,email_opt_in,newsletter_opt_in,opt_in,opted_in,subscribed,newsletter}'),
        ('company', 'hubspot', 'name', '{name,company_name}'),
        ('company', 'hubspot', 'domain', '{domain,website_domain}'),
        ('company', 'hubspot', 'website', '{website,url,homepage}'),
        ('company', 'hubspot', 'phone', '{phone,phone_number,telephone,tel}'),
        ('company', 'hubspot', 'address', '{street,address,address_line_1}'),
        ('company', 'hubspot', 'city', '{city,town}'),
        ('company', 'hubspot', 'state', '{state,region,province}'),
        ('company', 'hubspot', 'zip', '{zip,postal_code,postcode,zip_code}'),
        ('company', 'hubspot', 'country', '{country,country_name}'),
        ('company', 'hubspot', 'industry', '{industry}'),
        ('company', 'hubspot', 'numberofemployees', '{employees,employee_count,number_of_employees}'),
        ('deal', 'hubspot', 'dealname', '{dealname,deal_name,name,title}'),
        ('deal', 'hubspot', 'amount', '{amount,value}'),
        ('deal', 'hubspot', 'dealstage', '{stage,deal_stage,dealstage}'),
        ('deal', 'hubspot', 'pipeline', '{pipeline}'),
        ('deal', 'hubspot', 'closedate', '{close_date,closedate,closed_at}'),
        ('deal', 'hubspot', 'description', '{description}'),
        ('note', 'hubspot', 'hs_note_body', '{body,note,text,content}'),
        ('note', 'hubspot', 'hs_timestamp', '{occurred_at,noted_at,timestamp,created_at}'),
        ('call', 'hubspot', 'hs_call_title', '{title,subject}'),
        ('call', 'hubspot', 'hs_call_body', '{body,notes,description}'),
        ('call', 'hubspot', 'hs_call_direction', '{direction}'),
        ('call', 'hubspot', 'hs_call_status', '{status}'),
        ('call', 'hubspot', 'hs_call_duration', '{duration_ms}'),
        ('call', 'hubspot', 'hs_call_from_number', '{from_number}'),
        ('call', 'hubspot', 'hs_call_to_number', '{to_number}'),
        ('call', 'hubspot', 'hs_timestamp', '{occurred_at,called_at,started_at,timestamp,created_at}'),
        ('email', 'hubspot', 'hs_email_subject', '{subject,title}'),
        ('email', 'hubspot', 'hs_email_text', '{body,text,body_text}'),
        ('email', 'hubspot', 'hs_email_html', '{html,body_html}'),
        ('email', 'hubspot', 'hs_email_direction', '{direction}'),
        ('email', 'hubspot', 'hs_email_status', '{status}'),
        ('email', 'hubspot', 'hs_timestamp', '{occurred_at,sent_at,received_at,timestamp,created_at}'),
        ('meeting', 'hubspot', 'hs_meeting_title', '{title,subject,name}'),
        ('meeting', 'hubspot', 'hs_meeting_body', '{body,description,agenda}'),
        ('meeting', 'hubspot', 'hs_meeting_location', '{location,place}'),
        ('meeting', 'hubspot', 'hs_meeting_outcome', '{outcome}'),
        ('meeting', 'hubspot', 'hs_meeting_start_time', '{start_time,starts_at,started_at}'),
        ('meeting', 'hubspot', 'hs_meeting_end_time', '{end_time,ends_at,ended_at}'),
        ('meeting', 'hubspot', 'hs_timestamp', '{occurred_at,start_time,starts_at,started_at,timestamp,created_at}'),
        ('task', 'hubspot', 'hs_task_subject', '{subject,title,name}'),
        ('task', 'hubspot', 'hs_task_body', '{body,description,notes}'),
        ('task', 'hubspot', 'hs_task_status', '{status}'),
        ('task', 'hubspot', 'hs_task_priority', '{priority}'),
        ('task', 'hubspot', 'hs_task_type', '{type,kind}'),
        ('task', 'hubspot', 'hs_timestamp', '{due_at,due_date,due_on,occurred_at,timestamp,created_at}')
    ) AS c(entity, target, remote_field, names)
    WHERE c.entity = $1
    UNION ALL
    SELECT 'hubspot', 'hubspot_owner_id', '{owner_email,hubspot_owner_id}'::text[]
    WHERE $1 IN ('deal', 'note', 'call', 'email', 'meeting', 'task')
$$;
COMMENT ON FUNCTION _conventions(text) IS 'column names that track() recognises, best first';

CREATE TABLE _plan (
    source   regclass PRIMARY KEY REFERENCES tracked_table (source) ON DELETE CASCADE,
    relation oid NOT NULL,
    plan     text NOT NULL
);
COMMENT ON TABLE _plan IS 'what the capture triggers of a tracked table watch; read by the trigger function, which looks it up by the table its trigger is on';
COMMENT ON COLUMN _plan.source IS 'the tracked CRM table; a partition goes by the plan of the table it is part of';
COMMENT ON COLUMN _plan.relation IS 'oid of the table whose column numbers the plan holds; in a restored dump it is another one''s, and names are gone by';
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
          AND (integration._value_kind(a.atttypid) = 'text'
               OR (c.remote_field = 'status' AND integration._value_kind(a.atttypid) = 'bool')
               OR (c.remote_field IN ('amount', 'numberofemployees', 'hs_call_duration', 'hubspot_owner_id', 'dealstage', 'pipeline') AND integration._value_kind(a.atttypid) IN ('integer', 'decimal', 'float'))
               OR (c.remote_field IN ('closedate', 'hs_timestamp', 'hs_meeting_start_time', 'hs_meeting_end_time') AND integration._value_kind(a.atttypid) IN ('date', 'timestamp', 'timestamptz')))
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
    allowed text[] := CASE WHEN entity = 'contact' THEN '{hubspot,mailchimp}'::text[] ELSE '{hubspot}' END;
    known integration.tracked_table;
    columns name[];
    numbers smallint[];
    forms text[];
    missing text;
BEGIN
    IF source IS NULL OR entity IS NULL OR entity NOT IN ('contact', 'company', 'deal', 'note', 'call', 'email', 'meeting', 'task') THEN
        RAISE EXCEPTION 'unknown entity "%"', entity
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It is one of contact, company, deal, note, call, email, meeting, task.';
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
COMMENT ON FUNCTION _do_track(regclass, text, name, text[], regclass, text, text) IS 'does, with our rights, what track() is asked for';

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
COMMENT ON FUNCTION _do_untrack(regclass) IS 'does, with our rights, what untrack() is asked for';

CREATE FUNCTION untrack(source regclass) RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION untrack(regclass) IS 'stops tracking a table: removes the triggers and what is queued, keeps links and history';

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
COMMENT ON FUNCTION _do_map_field(regclass, name, text, text, text, text, text, jsonb) IS 'does, with our rights, what map_field() is asked for';

CREATE FUNCTION map_field(source regclass, column_name name, target text, remote_field text, direction text DEFAULT 'both', conflict text DEFAULT 'last_write_wins', on_lossy text DEFAULT 'keep', value_map jsonb DEFAULT NULL) RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION map_field(regclass, name, text, text, text, text, text, jsonb) IS 'adds a line of the field map, or changes the one with the same remote field';
