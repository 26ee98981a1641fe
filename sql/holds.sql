-- Tables that are held: something is wrong with one of them, and the others go on.

CREATE TABLE _hold (
    source  integer NOT NULL REFERENCES tracked_table (id) ON DELETE CASCADE,
    target  text NOT NULL CHECK (target IN ('hubspot', 'mailchimp')),
    cause   text NOT NULL,
    subject text NOT NULL DEFAULT '',
    holds   boolean NOT NULL DEFAULT true,
    reason  text NOT NULL,
    since   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, target, cause, subject)
);
COMMENT ON TABLE _hold IS 'what is wrong with tracked tables: nothing is sent of one to a target at present, or part of it is left out; kept by the worker';
COMMENT ON COLUMN _hold.source IS 'tracked_table.id';
COMMENT ON COLUMN _hold.target IS 'hubspot or mailchimp';
COMMENT ON COLUMN _hold.cause IS 'what kind of thing is wrong';
COMMENT ON COLUMN _hold.subject IS 'what is left out; empty: the table as a whole';
COMMENT ON COLUMN _hold.holds IS 'whether nothing is sent of the table because of it';
COMMENT ON COLUMN _hold.reason IS 'what is wrong, and what to do';
COMMENT ON COLUMN _hold.since IS 'since when';

CREATE VIEW table_status AS
    SELECT t.source, x.target,
           CASE WHEN h.holds THEN 'held' ELSE 'running' END AS state,
           h.reason, h.since
    FROM tracked_table t
    CROSS JOIN LATERAL unnest(t.targets) AS x(target)
    LEFT JOIN (
        SELECT k.source, k.target, bool_or(k.holds) AS holds, string_agg(k.reason, E'\n' ORDER BY k.holds DESC, k.since, k.cause) AS reason, min(k.since) AS since
        FROM _hold k GROUP BY k.source, k.target) h ON h.source = t.id AND h.target = x.target;
COMMENT ON VIEW table_status IS 'each tracked table and target: whether something about the table keeps its records from being sent';
COMMENT ON COLUMN table_status.source IS 'CRM table';
COMMENT ON COLUMN table_status.target IS 'hubspot or mailchimp';
COMMENT ON COLUMN table_status.state IS 'running or held; the target as a whole may be paused or failing all the same, see the view status';
COMMENT ON COLUMN table_status.reason IS 'what is wrong, and what to do: why it is held, or what is left out';
COMMENT ON COLUMN table_status.since IS 'since when something is wrong';
