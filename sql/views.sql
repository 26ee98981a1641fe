-- The queue as people see it.

CREATE FUNCTION _target(number smallint) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN CASE number WHEN 1 THEN 'hubspot' WHEN 2 THEN 'mailchimp' END;
COMMENT ON FUNCTION _target(smallint) IS 'name of a target, by its number';

CREATE FUNCTION _changed_columns(source regclass, target text, changed bytea) RETURNS text[] LANGUAGE sql STABLE SECURITY DEFINER
    RETURN (SELECT array_agg(a.attname::text ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attnum < 8 * length($3) AND get_bit($3, a.attnum) = 1
              AND (EXISTS (SELECT FROM tracked_table t WHERE t.source = $1 AND t.payload IS NOT NULL)
                   OR EXISTS (SELECT FROM field_map m WHERE m.source = $1 AND m.target = $2 AND m.attnum = a.attnum)));
COMMENT ON FUNCTION _changed_columns(regclass, text, bytea) IS 'names of the columns in a stored set of column numbers that matter to a target';

CREATE VIEW outbox AS
    -- Numbers of 2³² stored rows a transaction, with 1,024 changes for two targets each, do not fit in a bigint.
    SELECT c.xid::text::numeric * 8796093022208 + c.seq::bigint * 2048 + 2 * (k.place - 1) + x.bit - 1 AS id, x.target, t.entity, t.source, k.key AS record_key,
           CASE c.op WHEN 'u' THEN 'upsert' ELSE 'delete' END AS op,
           _changed_columns(t.source, x.target, c.changed) AS changed,
           0 AS attempts, c.enqueued_at AS not_before, NULL::text AS last_error, c.enqueued_at
    FROM _change c
    JOIN tracked_table t ON t.id = c.source
    JOIN (VALUES (1, 'hubspot'), (2, 'mailchimp')) AS x(bit, target) ON c.targets & x.bit <> 0
    CROSS JOIN LATERAL _unpack_keys(c.keys) WITH ORDINALITY AS k(key, place)
    -- A stored row holds many changes, and goes when the last of them is settled: until then those settled before are still shown.
    WHERE NOT EXISTS (SELECT FROM _retry r WHERE r.target = x.bit AND r.source = c.source AND r.record_key = k.key)
    UNION ALL
    SELECT r.id, _target(r.target), t.entity, t.source, r.record_key,
           CASE r.op WHEN 'u' THEN 'upsert' ELSE 'delete' END, NULL::text[],
           r.attempts, r.not_before, r.last_error, r.enqueued_at
    FROM _retry r
    JOIN tracked_table t ON t.id = r.source;
COMMENT ON VIEW outbox IS 'changes waiting to be sent, one row a record and target';
COMMENT ON COLUMN outbox.id IS 'number of the change, in the order in which a transaction made its changes';
COMMENT ON COLUMN outbox.target IS 'service it is for';
COMMENT ON COLUMN outbox.entity IS 'kind of object, such as contact';
COMMENT ON COLUMN outbox.source IS 'CRM table';
COMMENT ON COLUMN outbox.record_key IS 'key of the CRM row; empty: all rows (TRUNCATE)';
COMMENT ON COLUMN outbox.op IS 'upsert or delete';
COMMENT ON COLUMN outbox.changed IS 'columns that changed; NULL: all, or no longer known';
COMMENT ON COLUMN outbox.attempts IS 'failed attempts';
COMMENT ON COLUMN outbox.not_before IS 'earliest time of the next attempt';
COMMENT ON COLUMN outbox.last_error IS 'why the last attempt failed';
COMMENT ON COLUMN outbox.enqueued_at IS 'when the change was made';

CREATE VIEW link AS
    SELECT t.source, l.record_key, _target(l.target) AS target, l.remote_id, l.remote_key,
           l.member_status, l.list_id, l.pushed_at, l.pulled_at,
           (SELECT jsonb_object_agg(m.remote_field, jsonb_build_object('hash', k.hash, 'at', k.at, 'by', k.writer))
            FROM _unpack_clock(l.clock) k
            JOIN field_map m ON m.source = t.source AND m.field = k.field) AS field_clock
    FROM _link l
    JOIN tracked_table t ON t.id = l.source;
COMMENT ON VIEW link IS 'the identity map: which remote record belongs to a CRM row';
COMMENT ON COLUMN link.source IS 'CRM table';
COMMENT ON COLUMN link.record_key IS 'key of the CRM row';
COMMENT ON COLUMN link.target IS 'service';
COMMENT ON COLUMN link.remote_id IS 'its id there; NULL: a create was under way at the last look';
COMMENT ON COLUMN link.remote_key IS 'lower-case e-mail address it was last written under';
COMMENT ON COLUMN link.member_status IS 'Mailchimp: the member''s last known status, and who decided it';
COMMENT ON COLUMN link.list_id IS 'Mailchimp: the audience the member is in, or is being added to';
COMMENT ON COLUMN link.pushed_at IS 'when the service last confirmed a write of ours';
COMMENT ON COLUMN link.pulled_at IS 'when a change from there was last applied';
COMMENT ON COLUMN link.field_clock IS 'per mapped field: hash of the last agreed value, when and by whom it was last changed';

CREATE VIEW status AS
    SELECT s.target,
           CASE WHEN NOT s.worker THEN 'worker_down' ELSE coalesce(w.state, 'running') END AS state,
           CASE WHEN NOT s.worker THEN s.why ELSE nullif(concat_ws('; ', w.reason, CASE WHEN s.heartbeat_at IS NOT NULL OR w.reason IS NULL THEN s.why END), '') END AS reason,
           s.pending, s.retrying, s.in_flight, s.dead, s.oldest_pending, s.last_success_at,
           s.requests_1m, s.errors_1m, s.rate_remaining, s.rate_limit, s.heartbeat_at,
           s.inbox_pending, s.inbox_retrying, s.inbox_failed
    FROM _gauges() s
    LEFT JOIN _target_state w ON w.target = s.target
    ORDER BY s.target;
COMMENT ON VIEW status IS 'the state of each target; cheap however large the backlog is';
COMMENT ON COLUMN status.target IS 'hubspot or mailchimp';
COMMENT ON COLUMN status.state IS 'running, paused, throttled, unauthorized, unconfigured, fenced, held, outage or worker_down';
COMMENT ON COLUMN status.reason IS 'why, and what to do';
COMMENT ON COLUMN status.pending IS 'waiting changes, without those that are retried or under way; and requests of erasures';
COMMENT ON COLUMN status.retrying IS 'changes that failed and wait for another attempt; not those that are under way';
COMMENT ON COLUMN status.in_flight IS 'records in requests under way';
COMMENT ON COLUMN status.dead IS 'dead letters that are not resolved';
COMMENT ON COLUMN status.oldest_pending IS 'when the oldest waiting change that the worker has read was made';
COMMENT ON COLUMN status.last_success_at IS 'when the service last confirmed something';
COMMENT ON COLUMN status.requests_1m IS 'requests in the last full minute or the present one';
COMMENT ON COLUMN status.errors_1m IS 'of those, failed';
COMMENT ON COLUMN status.rate_remaining IS 'requests left in the present interval, as the service says';
COMMENT ON COLUMN status.rate_limit IS 'requests allowed in an interval';
COMMENT ON COLUMN status.heartbeat_at IS 'when the worker last made progress: now, if it only waits; NULL if none runs';
COMMENT ON COLUMN status.inbox_pending IS 'events of the service that wait to be applied';
COMMENT ON COLUMN status.inbox_retrying IS 'events that could not be applied yet, for instance because a row or table is in use, and are tried again';
COMMENT ON COLUMN status.inbox_failed IS 'events that the CRM refused; see integration.inbox and integration.inbox_retry()';
