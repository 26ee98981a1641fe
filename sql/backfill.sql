-- Sending the rows a table has already, and ending jobs.

CREATE TABLE _backfill (
    job    bigint NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    target smallint NOT NULL,
    source integer NOT NULL,
    filter text,
    mark   text[],
    stage  text NOT NULL DEFAULT 'walking' CHECK (stage IN ('walking', 'settling', 'finished')),
    rows   bigint NOT NULL,
    walked bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0,
    done   bigint NOT NULL DEFAULT 0,
    total  bigint NOT NULL,
    PRIMARY KEY (job, target)
) WITH (fillfactor = 50);
COMMENT ON TABLE _backfill IS 'progress of open backfills, one row a job and target';
COMMENT ON COLUMN _backfill.job IS 'job.id';
COMMENT ON COLUMN _backfill.target IS '1 hubspot, 2 mailchimp';
COMMENT ON COLUMN _backfill.source IS 'tracked_table.id';
COMMENT ON COLUMN _backfill.filter IS 'only rows for which this is true are sent; NULL: all';
COMMENT ON COLUMN _backfill.mark IS 'key of the last row read, one text a column; NULL: none yet. Rows below it have been queued or left out';
COMMENT ON COLUMN _backfill.stage IS 'walking: there are rows to look at; settling: all are queued; finished: all are settled';
COMMENT ON COLUMN _backfill.rows IS 'rows of the table, as estimated at the start';
COMMENT ON COLUMN _backfill.walked IS 'rows looked at';
COMMENT ON COLUMN _backfill.queued IS 'rows queued, including those settled since';
COMMENT ON COLUMN _backfill.done IS 'rows settled: delivered, found unchanged, or with a retry or dead letter of their own';
COMMENT ON COLUMN _backfill.total IS 'rows that will have been queued in the end: estimated, exact once all are';

CREATE FUNCTION _estimated_rows(source regclass) RETURNS bigint LANGUAGE sql STABLE
    -- Statistics only: planning a query on the table would run code of its owner. Rows of a table that
    -- was never analysed are taken to have 100 bytes each.
    RETURN (
        WITH RECURSIVE part(oid) AS (
            SELECT source::oid
            UNION ALL
            SELECT i.inhrelid FROM part p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid
        )
        SELECT coalesce(sum(CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages * (s.size / current_setting('block_size')::integer)
                                 ELSE s.size / 100 END), 0)::bigint
        FROM part p JOIN pg_catalog.pg_class c ON c.oid = p.oid CROSS JOIN LATERAL (SELECT pg_catalog.pg_relation_size(c.oid) AS size OFFSET 0) AS s
        WHERE c.relkind = 'r'
    );
COMMENT ON FUNCTION _estimated_rows(regclass) IS 'about how many rows a table has, without counting them';

CREATE FUNCTION _wanted_targets(t integration.tracked_table, target text) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    IF target IS NOT NULL AND target <> ALL (t.targets) OR t.targets = '{}' THEN
        RAISE EXCEPTION '% is not sent to %', t.source, coalesce(target, 'anything')
            USING ERRCODE = 'undefined_object',
                  HINT = CASE t.targets WHEN '{}' THEN format('It was untracked; SELECT integration.track(%L, %L); begins again.', t.source, t.entity)
                              ELSE format('Its targets are: %s.', array_to_string(t.targets, ', ')) END;
    END IF;
    RETURN CASE WHEN target IS NULL THEN t.targets ELSE ARRAY[target] END;
END
$$;
COMMENT ON FUNCTION _wanted_targets(integration.tracked_table, text) IS 'the target named, or all of the table''s; refuses one that the table is not sent to';

CREATE FUNCTION _running_backfill(t integration.tracked_table, wanted text[], filter text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    known record;
BEGIN
    SELECT b.job, array_agg(integration._target(b.target)) AS targets, min(b.filter) AS filter INTO known
    FROM integration._backfill b JOIN integration.job j ON j.id = b.job
    WHERE b.source = t.id AND j.state IN ('waiting', 'running', 'paused')
    GROUP BY b.job HAVING array_agg(integration._target(b.target)) && wanted
    ORDER BY array_agg(integration._target(b.target)) @> wanted DESC, b.job LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF known.targets @> wanted AND (known.filter IS NULL OR known.filter = filter) THEN
        RAISE NOTICE 'job % sends these rows already', known.job
            USING HINT = format('SELECT * FROM integration.job WHERE id = %s; shows how far it is, SELECT integration.cancel_job(%s); stops it.', known.job, known.job);
        RETURN known.job;
    END IF;
    RAISE EXCEPTION 'another backfill of % is under way', t.source
        USING ERRCODE = 'object_in_use',
              DETAIL = format('Job %s sends to %s%s.', known.job, array_to_string(known.targets, ' and '), coalesce(' the rows where ' || known.filter, '')),
              HINT = format('Wait until it is done, stop it with SELECT integration.cancel_job(%s); or name a target that it does not send to.', known.job);
END
$$;
COMMENT ON FUNCTION _running_backfill(integration.tracked_table, text[], text) IS 'the job that sends these rows already, if there is one; refuses what only overlaps with it';

CREATE FUNCTION _do_backfill(source regclass, target text, filter text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t integration.tracked_table := integration._must_be_tracked(source);
    wanted text[];
    job bigint;
    estimate bigint;
BEGIN
    PERFORM integration._must_operate(source);
    wanted := integration._wanted_targets(t, target);
    IF filter IS NOT NULL THEN
        IF NOT integration._owns(source) THEN
            RAISE EXCEPTION 'must be owner of table % to pass a filter', source
                USING ERRCODE = 'insufficient_privilege',
                      DETAIL = 'A filter can call functions, and is run with the rights of the table''s owner.',
                      HINT = 'Leave it out, or have the owner of the table call backfill().';
        END IF;
        PERFORM integration._check_filter(source, filter);
    END IF;
    -- Two callers at once: one of them finds the other's job.
    PERFORM 1 FROM integration.tracked_table x WHERE x.id = t.id FOR NO KEY UPDATE;
    job := integration._running_backfill(t, wanted, filter);
    IF job IS NOT NULL THEN
        RETURN job;
    END IF;
    estimate := integration._estimated_rows(source);
    job := integration._open_job('backfill', jsonb_strip_nulls(jsonb_build_object('source', source, 'targets', wanted, 'filter', filter)),
                                 estimate * cardinality(wanted));
    INSERT INTO integration._backfill (job, target, source, filter, rows, total)
    SELECT job, n.number, t.id, _do_backfill.filter, estimate, estimate
    FROM (VALUES (1::smallint), (2::smallint)) AS n(number) WHERE integration._target(n.number) = ANY (wanted);
    RETURN job;
END
$$;
COMMENT ON FUNCTION _do_backfill(regclass, text, text) IS 'carries out backfill() with our rights';

CREATE FUNCTION backfill(source regclass, target text DEFAULT NULL, filter text DEFAULT NULL) RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION backfill(regclass, text, text) IS 'sends existing rows of a tracked table, to one target or all of its targets: all rows, or those that meet a SQL condition; live changes go first; returns the job''s id';

CREATE FUNCTION _do_cancel_job(id bigint, reason text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE integration.job j SET state = 'cancelled', error = coalesce(reason, 'cancelled by ' || pg_get_userbyid(integration._asker())), eta = NULL, finished_at = clock_timestamp()
    WHERE j.id = _do_cancel_job.id AND j.state IN ('waiting', 'running', 'paused');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM integration._wake();
    RETURN true;
END
$$;
COMMENT ON FUNCTION _do_cancel_job(bigint, text) IS 'carries out cancel_job() with our rights';

CREATE FUNCTION cancel_job(id bigint, reason text DEFAULT NULL) RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'integration_gate';
COMMENT ON FUNCTION cancel_job(bigint, text) IS 'stops a job; what has been sent stays; returns false if it was over or does not exist';

CREATE FUNCTION _cancel_backfills(source integer, reason text) RETURNS void LANGUAGE sql AS $$
    SELECT integration.cancel_job(b.job, reason) FROM (SELECT DISTINCT x.job FROM integration._backfill x WHERE x.source = $1) b
$$;
COMMENT ON FUNCTION _cancel_backfills(integer, text) IS 'stops the backfills of a table that is no longer tracked';
