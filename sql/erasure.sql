-- Erasing a person, here and at the services.

CREATE FUNCTION _must_be_key(t integration.tracked_table, key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    parts text[] := ARRAY[key];
    kind text;
    part text;
    place integer;
BEGIN
    IF key IS NULL OR key = '' THEN
        RAISE EXCEPTION 'a key is needed'
            USING ERRCODE = 'null_value_not_allowed', HINT = format('Name the row: its %s, as text.', array_to_string(t.key_columns, ' and '));
    END IF;
    IF cardinality(t.key_columns) > 1 THEN
        BEGIN
            SELECT array_agg(e.value ORDER BY e.ordinality) INTO parts FROM jsonb_array_elements_text(key::jsonb) WITH ORDINALITY AS e;
        EXCEPTION WHEN data_exception THEN
            parts := NULL;
        END;
        IF cardinality(parts) IS DISTINCT FROM cardinality(t.key_columns) THEN
            RAISE EXCEPTION '"%" is no key of %', key, t.source
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = format('Write it as a JSON array of %s texts: %s.', cardinality(t.key_columns), array_to_string(t.key_columns, ', '));
        END IF;
    END IF;
    FOR place IN 1 .. cardinality(parts) LOOP
        part := parts[place];
        SELECT CASE integration._value_kind(a.atttypid) WHEN 'integer' THEN 'a whole number'
                    WHEN 'text' THEN CASE a.atttypid WHEN 'uuid'::regtype THEN 'a uuid' END END INTO kind
        FROM pg_attribute a WHERE a.attrelid = t.source AND a.attnum = t.key_attnums[place] AND NOT a.attisdropped;
        IF kind = 'a whole number' AND part ~ '^\s*[-+]?\d{1,19}\s*$' THEN
            parts[place] := part::numeric::text;
        ELSIF kind = 'a uuid' AND part ~* '^\s*\{?([0-9a-f]-?){32}\}?\s*$' THEN
            parts[place] := part::uuid::text;
        ELSIF kind IS NOT NULL OR part IS NULL THEN
            RAISE EXCEPTION '"%" is no key of %', key, t.source
                USING ERRCODE = 'invalid_parameter_value', HINT = format('Column %s is %s.', t.key_columns[place], coalesce(kind, 'never NULL'));
        END IF;
    END LOOP;
    RETURN CASE WHEN cardinality(parts) > 1 THEN integration._stored_key(cardinality(parts), to_jsonb(parts)::text) ELSE parts[1] END;
END
$$;
COMMENT ON FUNCTION _must_be_key(integration.tracked_table, text) IS 'a record key as it is stored, or an error';

CREATE FUNCTION _open_erasure(source integer, key text) RETURNS bigint LANGUAGE sql STABLE
    RETURN (SELECT e.job FROM _erasure e JOIN job j ON j.id = e.job
            WHERE e.source = $1 AND e.record_key = $2 AND j.state IN ('waiting', 'running', 'paused') ORDER BY e.job LIMIT 1);
COMMENT ON FUNCTION _open_erasure(integer, text) IS 'the job that is erasing a record, if there is one';

CREATE FUNCTION _do_erase(source regclass, key text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t integration.tracked_table := integration._must_be_tracked(source);
    stored text;
    job bigint;
BEGIN
    PERFORM integration._must_operate(source);
    stored := integration._must_be_key(t, key);
    -- From now on nothing is sent for it that has not left yet. Of two callers at once the second waits here, and finds the first one's job.
    INSERT INTO integration._withheld (source, target, record_key, reason)
    SELECT t.id, n.number, stored, 'erased' FROM (VALUES (1::smallint), (2::smallint)) AS n(number)
    ON CONFLICT ON CONSTRAINT _withheld_pkey DO UPDATE SET reason = 'erased';
    job := integration._open_erasure(t.id, stored);
    IF job IS NOT NULL THEN
        RAISE NOTICE 'job % erases this record already', job
            USING HINT = format('SELECT * FROM integration.job WHERE id = %s; shows how far it is.', job);
        RETURN job;
    END IF;
    IF NOT (SELECT k.is_person FROM integration._kind(t.entity) k) THEN
        RAISE NOTICE 'HubSpot erases contacts only: the % goes to its recycle bin', t.entity
            USING HINT = 'Somebody in HubSpot has to delete it there for good.';
    END IF;
    job := integration._open_job('erase', jsonb_build_object('source', source, 'key', stored));
    INSERT INTO integration._erasure (job, source, entity, record_key, addresses)
    VALUES (job, t.id, t.entity, stored, integration._addresses(source, stored));
    RETURN job;
END
$$;
COMMENT ON FUNCTION _do_erase(regclass, text) IS 'carries out erase() with our rights';

CREATE FUNCTION erase(source regclass, key text) RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION erase(regclass, text) IS 'removes a person from HubSpot and Mailchimp for good, and from every log, inbox and dead letter here; the CRM row is not touched, and is not sent again until allow_again(); returns the job''s id';

CREATE FUNCTION _do_allow_again(source regclass, key text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t integration.tracked_table := integration._must_be_tracked(source);
    stored text;
    job bigint;
BEGIN
    PERFORM integration._must_operate(source);
    stored := integration._must_be_key(t, key);
    -- Whoever is just asking for an erasure has locked these rows.
    PERFORM FROM integration._withheld w WHERE w.source = t.id AND w.record_key = stored ORDER BY w.target, w.name FOR UPDATE;
    job := integration._open_erasure(t.id, stored);
    IF job IS NOT NULL THEN
        RAISE EXCEPTION 'record % of % is just being erased', stored, source
            USING ERRCODE = 'object_in_use',
                  HINT = format('Wait until job %s is done, or stop it with SELECT integration.cancel_job(%s);', job, job);
    END IF;
    DELETE FROM integration._withheld w WHERE w.source = t.id AND w.record_key = stored;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM integration._enqueue(n.name, t.id, ARRAY[stored]) FROM unnest(t.targets) AS n(name);
    RETURN true;
END
$$;
COMMENT ON FUNCTION _do_allow_again(regclass, text) IS 'carries out allow_again() with our rights';

CREATE FUNCTION allow_again(source regclass, key text) RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION allow_again(regclass, text) IS 'lets a record be sent again that was erased, or deleted in HubSpot, and sends it; false when it was not withheld';

CREATE FUNCTION _mention(texts text[]) RETURNS text LANGUAGE sql IMMUTABLE
    -- As they are, and as JSON writes them; not as a part of a longer address (but quoted, perhaps).
    RETURN (SELECT '(?<![[:alnum:]._%+-])(?<![[:alnum:]]'')(?:' || string_agg(DISTINCT regexp_replace(x.form, '([^[:alnum:]@_-])', '\\\1', 'g'), '|') || ')(?![[:alnum:]-]|\.[[:alnum:]])'
            FROM unnest(texts) AS k(text) CROSS JOIN LATERAL (VALUES (k.text), (trim(BOTH '"' FROM to_jsonb(k.text)::text))) AS x(form)
            WHERE k.text <> '');
COMMENT ON FUNCTION _mention(text[]) IS 'regular expression for mentions of addresses; NULL: there are none';

CREATE FUNCTION _likenesses(names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE
    -- As they are, and as JSON writes them.
    RETURN (SELECT coalesce(array_agg(DISTINCT '%' || regexp_replace(lower(x.form), '([\\%_])', '\\\1', 'g') || '%'), '{}')
            FROM unnest(names) AS k(name) CROSS JOIN LATERAL (VALUES (k.name), (trim(BOTH '"' FROM to_jsonb(k.name)::text))) AS x(form)
            WHERE k.name <> '');
COMMENT ON FUNCTION _likenesses(text[]) IS 'patterns for LIKE that find texts with these names in them: a quick look, before regular expressions take their time';

CREATE FUNCTION _unmention(pattern text, since timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pattern IS NULL THEN
        RETURN;
    END IF;
    UPDATE integration.dlq d SET error = regexp_replace(d.error, pattern, '[erased]', 'gi'), response = regexp_replace(d.response, pattern, '[erased]', 'gi'),
           request = regexp_replace(d.request::text, pattern, '[erased]', 'gi')::jsonb
    WHERE d.error ~* pattern OR d.response ~* pattern OR d.request::text ~* pattern;
    UPDATE integration._retry r SET last_error = regexp_replace(r.last_error, pattern, '[erased]', 'gi') WHERE r.last_error ~* pattern;
    UPDATE integration._association a SET why = regexp_replace(a.why, pattern, '[erased]', 'gi') WHERE a.why ~* pattern;
    UPDATE integration.alert a SET message = regexp_replace(a.message, pattern, '[erased]', 'gi') WHERE a.message ~* pattern;
    UPDATE integration.job j SET error = regexp_replace(j.error, pattern, '[erased]', 'gi'), args = regexp_replace(j.args::text, pattern, '[erased]', 'gi')::jsonb
    WHERE j.state NOT IN ('waiting', 'running', 'paused') AND (j.error ~* pattern OR j.args::text ~* pattern);
    UPDATE integration.request_log r SET error = regexp_replace(r.error, pattern, '[erased]', 'gi') WHERE r.at >= since AND r.error ~* pattern;
    UPDATE integration.drift d SET crm_value = regexp_replace(d.crm_value, pattern, '[erased]', 'gi'), remote_value = regexp_replace(d.remote_value, pattern, '[erased]', 'gi'),
           repair = regexp_replace(d.repair, pattern, '[erased]', 'gi')
    WHERE d.crm_value ~* pattern OR d.remote_value ~* pattern OR d.repair ~* pattern;
END
$$;
COMMENT ON FUNCTION _unmention(text, timestamptz) IS 'takes what a pattern finds out of texts about other records; out of the request log, from a moment on';

CREATE FUNCTION _erase_traces(erasure bigint, addresses text[], hashes text[], hubspot_ids text[], contact_ids text[]) RETURNS void LANGUAGE plpgsql SET enable_seqscan = on AS $$
DECLARE
    e integration._erasure;
    crm_table regclass;
    pattern text := integration._mention(addresses);
    said text[];
    segments text;
    alike text[] := integration._likenesses(addresses);
BEGIN
    SELECT * INTO e FROM integration._erasure x WHERE x.job = erasure;
    SELECT t.source INTO crm_table FROM integration.tracked_table t WHERE t.id = e.source;
    -- Whole tables are looked through, where the worker otherwise looks up few keys. Refusals quote values, and the request log quotes refusals.
    SELECT array_agg(x.why) INTO said FROM (
        SELECT d.error AS why FROM integration.dlq d WHERE d.source = crm_table AND d.record_key = e.record_key
        UNION SELECT r.last_error FROM integration._retry r WHERE r.source = e.source AND r.record_key = e.record_key) x;
    segments := (SELECT '(/)(?:' || string_agg(regexp_replace(x.name, '([^[:alnum:]_-])', '\\\1', 'g'), '|') || ')(?=[/?]|$)' FROM unnest(hashes || hubspot_ids || contact_ids) AS x(name) WHERE x.name <> '');
    UPDATE integration.request_log r
    SET path = coalesce(regexp_replace(r.path, segments, '\1[erased]', 'g'), r.path),
        error = CASE WHEN EXISTS (SELECT FROM unnest(said) AS s(why) WHERE strpos(r.error, s.why) > 0) THEN '[erased]' ELSE r.error END
    WHERE (r.path LIKE ANY (integration._likenesses(hashes || hubspot_ids || contact_ids)) AND r.path ~ segments)
       OR (r.error IS NOT NULL AND EXISTS (SELECT FROM unnest(said) AS s(why) WHERE strpos(r.error, s.why) > 0));
    DELETE FROM integration._retry r WHERE r.source = e.source AND r.record_key = e.record_key;
    DELETE FROM integration.dlq d WHERE d.source = crm_table AND d.record_key = e.record_key;
    UPDATE integration.dlq d SET holder_source = NULL, holder_key = NULL WHERE d.holder_source = crm_table AND d.holder_key = e.record_key;
    DELETE FROM integration.inbox i
    WHERE (lower(i.payload::text) LIKE ANY (alike) AND i.payload::text ~* pattern) OR (lower(i.event_key) LIKE ANY (alike) AND i.event_key ~* pattern)
       OR (i.origin = 'hubspot' AND (i.payload->>'objectId' = ANY (hubspot_ids) OR i.payload->>'primaryObjectId' = ANY (hubspot_ids)
                                     OR i.payload->>'fromObjectId' = ANY (hubspot_ids) OR EXISTS (SELECT FROM jsonb_path_query(i.payload, '$.mergedObjectIds[*]') AS m(id) WHERE m.id #>> '{}' = ANY (hubspot_ids)))
           AND (split_part(i.kind, '.', 1) = e.entity OR (SELECT k.type_id FROM integration._kind(e.entity) k) IN (i.payload->>'objectTypeId', i.payload->>'fromObjectTypeId')));
    DELETE FROM integration.activity a WHERE (a.source = crm_table AND a.record_key = e.record_key) OR a.subscriber_hash = ANY (hashes);
    DELETE FROM integration.drift d
    WHERE d.source = crm_table
      AND (d.record_key = e.record_key OR (d.target = 'hubspot' AND d.remote_id = ANY (hubspot_ids)) OR (d.target = 'mailchimp' AND d.remote_id = ANY (contact_ids || hashes)));
    DELETE FROM integration._archived a WHERE a.source = e.source AND a.record_key = e.record_key;
    DELETE FROM integration._seen s USING integration._reconcile r WHERE r.job = s.job AND r.source = e.source AND s.record_key = e.record_key;
    PERFORM integration._unmention(pattern, '-infinity');
    INSERT INTO integration._withheld (source, target, record_key, name, reason)
    SELECT e.source, 1, e.record_key, n.id, 'erased' FROM unnest(hubspot_ids) AS n(id)
    UNION SELECT e.source, 2, e.record_key, n.hash, 'erased' FROM unnest(hashes) AS n(hash)
    ON CONFLICT ON CONSTRAINT _withheld_pkey DO UPDATE SET reason = 'erased';
    DELETE FROM integration._withheld w WHERE w.source = e.source AND w.record_key = e.record_key AND w.reason <> 'erased';
END
$$;
COMMENT ON FUNCTION _erase_traces(bigint, text[], text[], text[], text[]) IS 'removes what is stored here about a record that is being erased, but for what its requests to the services need';

CREATE FUNCTION _end_erasure(erasure bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    e integration._erasure;
    crm_table regclass;
BEGIN
    UPDATE integration.job j SET state = 'done', error = (SELECT x.remark FROM integration._erasure x WHERE x.job = erasure), eta = NULL, done = coalesce(j.total, 0),
           started_at = coalesce(j.started_at, clock_timestamp()), finished_at = clock_timestamp()
    WHERE j.id = (SELECT k.id FROM integration.job k WHERE k.id = erasure AND k.state IN ('waiting', 'running', 'paused') FOR UPDATE SKIP LOCKED);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT * INTO e FROM integration._erasure x WHERE x.job = erasure;
    SELECT t.source INTO crm_table FROM integration.tracked_table t WHERE t.id = e.source;
    DELETE FROM integration._association a USING integration.association_map m
    WHERE m.id = a.association AND m.source = crm_table AND a.record_key = e.record_key;
    DELETE FROM integration._link l WHERE l.source = e.source AND l.record_key = e.record_key;
    DELETE FROM integration._objection o WHERE o.source = e.source AND o.record_key = e.record_key;
    DELETE FROM integration.dlq d WHERE d.source = crm_table AND d.record_key = e.record_key;
    UPDATE integration.dlq d SET holder_source = NULL, holder_key = NULL WHERE d.holder_source = crm_table AND d.holder_key = e.record_key;
    -- What was said while the services were asked.
    PERFORM integration._unmention(integration._mention(e.addresses), (SELECT j.created_at FROM integration.job j WHERE j.id = erasure));
    -- That they must not be mailed is all that is left.
    DELETE FROM integration.consent_log c WHERE c.source = crm_table AND c.record_key = e.record_key;
    INSERT INTO integration.consent_log (source, record_key, subscriber_hash, changed_by, to_status, occurred_at, origin, reason)
    SELECT crm_table, e.record_key, w.name, 'crm', 'forgotten', clock_timestamp(), 'job ' || erasure, 'erased'
    FROM integration._withheld w
    WHERE crm_table IS NOT NULL AND w.source = e.source AND w.target = 2 AND w.record_key = e.record_key AND w.name <> '';
    -- Another row with the address must not bring them back either.
    DELETE FROM integration.suppression s USING integration._withheld w
    WHERE w.source = e.source AND w.target = 2 AND w.record_key = e.record_key AND w.reason = 'erased' AND w.name <> '' AND s.subscriber_hash = w.name;
    INSERT INTO integration.suppression (subscriber_hash, status, decided_by, occurred_at, origin)
    SELECT w.name, 'forgotten', 'crm', clock_timestamp(), 'job ' || erasure FROM integration._withheld w
    WHERE w.source = e.source AND w.target = 2 AND w.record_key = e.record_key AND w.reason = 'erased' AND w.name <> '';
    DELETE FROM integration._erasure x WHERE x.job = erasure;
    RETURN true;
END
$$;
COMMENT ON FUNCTION _end_erasure(bigint) IS 'the services have erased the record: removes what their requests needed, and ends the job; false when that has to wait';
