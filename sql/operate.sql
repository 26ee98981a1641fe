-- What operators call.

CREATE FUNCTION _known_target(target text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF target IS NULL OR target NOT IN ('hubspot', 'mailchimp') THEN
        RAISE EXCEPTION 'unknown target "%"', target USING ERRCODE = 'undefined_object', HINT = 'The targets are hubspot and mailchimp.';
    END IF;
END
$$;
COMMENT ON FUNCTION _known_target(text) IS 'refuses unknown targets';

CREATE FUNCTION pause(target text, reason text DEFAULT NULL) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM integration._known_target(target);
    INSERT INTO integration._pause (target, reason) VALUES (target, reason)
    ON CONFLICT ON CONSTRAINT _pause_pkey DO UPDATE SET reason = excluded.reason, since = now();
    PERFORM integration._wake();
END
$$;
COMMENT ON FUNCTION pause(text, text) IS 'stops sending to a target; changes are queued on';

CREATE FUNCTION resume(target text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM integration._known_target(target);
    DELETE FROM integration._pause p WHERE p.target = resume.target;
    DELETE FROM integration._target_state s WHERE s.target = resume.target AND s.guarded;
    UPDATE integration.tracked_table t SET collisions_accepted = true
    FROM integration._hold h WHERE h.source = t.id AND h.target = resume.target AND h.cause = 'external_id';
    -- What is still wrong with a table is found out again.
    DELETE FROM integration._hold h WHERE h.target = resume.target;
    PERFORM integration._accept_account(resume.target);
    PERFORM integration._wake();
END
$$;
COMMENT ON FUNCTION resume(text) IS 'sends to a target again that was paused, or held by a guard; tries tables again that are held; accepts the account that the settings lead to';

CREATE FUNCTION adopt() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE integration.tracked_table SET bound_to = integration._identity() WHERE bound_to <> integration._identity();
    PERFORM integration._accept_account();
    -- Transaction numbers of another server mean nothing here. What is captured in this transaction is numbered from 0 on.
    WITH foreign_rows AS (DELETE FROM integration._change RETURNING *)
    INSERT INTO integration._change (xid, enqueued_at, seq, source, records, targets, lane, op, keys, changed)
    SELECT pg_current_xact_id(), enqueued_at, row_number() OVER (ORDER BY xid, seq, lane) - 1 - count(*) OVER (), source, records, targets, lane, op, keys, changed
    FROM foreign_rows;
    PERFORM integration._wake();
END
$$;
COMMENT ON FUNCTION adopt() IS 'lets this copy of the database send: lifts the fence that a restored dump or a clone starts behind';

CREATE FUNCTION _contains_key(keys bytea, key text) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN EXISTS (SELECT FROM _unpack_keys(keys) AS k WHERE k = key);
COMMENT ON FUNCTION _contains_key(bytea, text) IS 'whether packed keys contain one';

CREATE FUNCTION _do_sync_status(source regclass, key text) RETURNS TABLE (target text, state text, remote_id text, pushed_at timestamptz, last_error text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- Readers see the same of all tables in the views.
    SELECT integration._must_read(_do_sync_status.source) WHERE NOT has_table_privilege(integration._asker(), 'integration.link', 'SELECT');
    SELECT x.target,
           CASE
               WHEN t.id IS NULL THEN 'untracked'
               WHEN e.job IS NOT NULL THEN 'erasing'
               WHEN w.reason IS NOT NULL THEN 'withheld'
               WHEN integration._in_flight(x.target, t.id, k.key) THEN 'in_flight'
               WHEN r.record_key IS NOT NULL THEN 'retrying'
               WHEN EXISTS (SELECT FROM integration._change c
                            WHERE c.source = t.id AND c.targets & x.bit <> 0
                              AND (c.op = 't' OR integration._contains_key(c.keys, k.key))) THEN 'pending'
               WHEN d.error IS NOT NULL THEN 'dead'
               WHEN x.target = 'mailchimp' AND (l.record_key IS NULL OR l.member_status NOT IN ('subscribed', 'pending')) THEN 'no_consent'
               WHEN a.reason IS NOT NULL THEN 'pending'
               WHEN l.remote_id IS NOT NULL THEN 'synced'
               WHEN l.record_key IS NOT NULL THEN 'pending'
               ELSE 'untracked'
           END,
           l.remote_id, l.pushed_at,
           CASE WHEN e.job IS NOT NULL THEN format('job %s erases it', e.job)
                WHEN w.reason = 'erased' THEN format('erased on %s; integration.allow_again() lets it be sent again', w.since::date)
                WHEN w.reason IS NOT NULL THEN format('deleted in HubSpot%s; integration.allow_again() has it created anew', CASE w.reason WHEN 'privacy' THEN ' for privacy reasons' END)
                ELSE coalesce(r.last_error, d.error, a.reason) END
    FROM (VALUES (1, 'hubspot'), (2, 'mailchimp')) AS x(bit, target)
    LEFT JOIN integration.tracked_table t ON t.source = _do_sync_status.source AND x.target = ANY (t.targets)
    CROSS JOIN LATERAL (SELECT integration._stored_key(cardinality(t.key_columns), _do_sync_status.key) AS key) k
    LEFT JOIN integration._link l ON l.source = t.id AND integration._target(l.target) = x.target AND l.record_key = k.key
    LEFT JOIN integration._retry r ON r.source = t.id AND integration._target(r.target) = x.target AND r.record_key = k.key
    LEFT JOIN LATERAL (
        SELECT q.error FROM integration.dlq q
        WHERE q.source = _do_sync_status.source AND q.record_key = k.key AND q.target = x.target AND q.resolution IS NULL
        ORDER BY q.id DESC LIMIT 1) d ON true
    LEFT JOIN LATERAL (
        SELECT format('column %s: %s', s.column_name, coalesce(s.reason, 'the association is on its way')) AS reason
        FROM integration.association s
        WHERE x.target = 'hubspot' AND s.source = _do_sync_status.source AND s.record_key = k.key AND s.state IN ('pending', 'waiting')
        ORDER BY s.state, s.column_name LIMIT 1) a ON true
    LEFT JOIN LATERAL (
        SELECT x.job FROM integration._erasure x JOIN integration.job j ON j.id = x.job
        WHERE x.source = t.id AND x.record_key = k.key AND j.state IN ('waiting', 'running', 'paused') LIMIT 1) e ON true
    LEFT JOIN LATERAL (
        SELECT h.reason, h.since FROM integration._withheld h
        WHERE h.source = t.id AND h.target = x.bit AND h.record_key = k.key ORDER BY h.reason = 'erased' DESC, h.since LIMIT 1) w ON true
    WHERE t.id IS NOT NULL OR NOT EXISTS (SELECT FROM integration.tracked_table u WHERE u.source = _do_sync_status.source)
$$;
COMMENT ON FUNCTION _do_sync_status(regclass, text) IS 'carries out sync_status() with our rights';

CREATE FUNCTION sync_status(source regclass, key text) RETURNS TABLE (target text, state text, remote_id text, pushed_at timestamptz, last_error text) LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION sync_status(regclass, text) IS 'where a record stands, per target: synced, pending, in_flight, retrying, dead, no_consent, untracked, erasing, or withheld (erased, or deleted in HubSpot)';

CREATE FUNCTION dlq_retry(ids bigint[] DEFAULT NULL, target text DEFAULT NULL, category text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    batch record;
    retried bigint := 0;
BEGIN
    IF target IS NOT NULL THEN
        PERFORM integration._known_target(target);
    END IF;
    FOR batch IN
        WITH chosen AS (
            UPDATE integration.dlq d SET resolution = 'retried', resolved_at = now()
            WHERE d.resolution IS NULL
              AND (ids IS NULL OR d.id = ANY (ids))
              AND (dlq_retry.target IS NULL OR d.target = dlq_retry.target)
              AND (dlq_retry.category IS NULL OR d.category = dlq_retry.category)
            RETURNING d.target, d.source, d.record_key
        )
        SELECT c.target, t.id AS source, array_agg(DISTINCT c.record_key) AS keys, count(*) AS letters
        FROM chosen c JOIN integration.tracked_table t ON t.source = c.source
        GROUP BY c.target, t.id
    LOOP
        PERFORM integration._enqueue(batch.target, batch.source, batch.keys);
        retried := retried + batch.letters;
    END LOOP;
    RETURN retried;
END
$$;
COMMENT ON FUNCTION dlq_retry(bigint[], text, text) IS 'queues the records of dead letters again, in their present state; returns how many';

CREATE FUNCTION dlq_discard(ids bigint[], reason text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    discarded bigint;
BEGIN
    IF coalesce(reason, '') = '' THEN
        RAISE EXCEPTION 'a reason is needed' USING ERRCODE = 'invalid_parameter_value', HINT = 'Say why these changes need not arrive.';
    END IF;
    UPDATE integration.dlq SET resolution = 'discarded', resolved_at = now(), error = error || ' [discarded: ' || reason || ']'
    WHERE id = ANY (ids) AND resolution IS NULL;
    GET DIAGNOSTICS discarded = ROW_COUNT;
    PERFORM integration._wake();
    RETURN discarded;
END
$$;
COMMENT ON FUNCTION dlq_discard(bigint[], text) IS 'closes dead letters that need not be delivered; returns how many';

CREATE FUNCTION inbox_retry(ids bigint[] DEFAULT NULL, origin text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    retried bigint;
BEGIN
    IF origin IS NOT NULL AND origin NOT IN ('hubspot', 'mailchimp', 'mandrill') THEN
        RAISE EXCEPTION 'no events come from "%"', origin USING ERRCODE = 'invalid_parameter_value', HINT = 'It is hubspot, mailchimp or mandrill.';
    END IF;
    UPDATE integration.inbox i SET state = 'pending', attempts = 0, not_before = NULL, detail = NULL
    WHERE (ids IS NULL OR i.id = ANY (ids)) AND (inbox_retry.origin IS NULL OR i.origin = inbox_retry.origin)
      AND (i.state = 'failed' OR (i.state = 'pending' AND i.not_before IS NOT NULL) OR (i.state = 'ignored' AND ids IS NOT NULL));
    GET DIAGNOSTICS retried = ROW_COUNT;
    UPDATE integration.alert a SET cleared_at = clock_timestamp()
    WHERE a.kind = 'inbox_failed' AND a.cleared_at IS NULL
      AND NOT EXISTS (SELECT FROM integration.inbox i WHERE i.state = 'failed' AND (i.origin = 'hubspot') = (a.target = 'hubspot'));
    PERFORM integration._wake();
    RETURN retried;
END
$$;
COMMENT ON FUNCTION inbox_retry(bigint[], text) IS 'applies events again that failed or wait for their next attempt, and ignored ones if their ids are given; returns how many';

CREATE FUNCTION provision(target text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF target IS NOT NULL THEN
        PERFORM integration._known_target(target);
    END IF;
    RETURN integration._open_job('provision', jsonb_build_object('target', target));
END
$$;
COMMENT ON FUNCTION provision(text) IS 'creates what is missing remotely: the unique property that holds the CRM key on each tracked HubSpot object, and the mapped merge fields in each Mailchimp audience in use; returns the job''s id';

CREATE FUNCTION _do_preview(source regclass, key text) RETURNS TABLE (target text, request jsonb)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT integration._must_read(r.relation)
    FROM integration._must_be_tracked(_do_preview.source) AS t
    CROSS JOIN LATERAL (VALUES (t.source), (t.payload)) AS r(relation) WHERE r.relation IS NOT NULL;
    SELECT p.target, p.request FROM integration._must_be_tracked(_do_preview.source) AS t
    CROSS JOIN LATERAL integration._preview(t.source, integration._stored_key(cardinality(t.key_columns), _do_preview.key)) AS p
$$;
COMMENT ON FUNCTION _do_preview(regclass, text) IS 'carries out preview() with our rights';

CREATE FUNCTION preview(source regclass, key text) RETURNS TABLE (target text, request jsonb) LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION preview(regclass, text) IS 'what would be sent for a record, per target, or why nothing would be; sends and writes nothing';

CREATE FUNCTION _do_wait_synced(source regclass, key text, wait interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM integration._must_be_tracked(source);
    IF NOT has_table_privilege(integration._asker(), 'integration.link', 'SELECT') THEN
        PERFORM integration._must_read(source);
    END IF;
    RETURN integration._wait_settled(source, key, wait);
END
$$;
COMMENT ON FUNCTION _do_wait_synced(regclass, text, interval) IS 'carries out wait_synced() with our rights';

CREATE FUNCTION wait_synced(source regclass, key text, wait interval DEFAULT '10s') RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION wait_synced(regclass, text, interval) IS 'waits until what was committed of a record has arrived wherever it is sent: true; false when it is a dead letter, or the time is over';
