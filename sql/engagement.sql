-- What people did with Mailchimp's campaigns: fetched from the reports, as nothing else tells.

CREATE TABLE _poll (
    job     bigint PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    listed  boolean NOT NULL DEFAULT false,
    place   bigint NOT NULL DEFAULT 0,
    items   bigint,
    shifted boolean NOT NULL DEFAULT false,
    rounds  smallint NOT NULL DEFAULT 0,
    done    bigint NOT NULL DEFAULT 0,
    total   bigint,
    failure text
);
COMMENT ON TABLE _poll IS 'how far the poll that is not over has come';
COMMENT ON COLUMN _poll.job IS 'job.id';
COMMENT ON COLUMN _poll.listed IS 'whether it is known which campaigns are to be read';
COMMENT ON COLUMN _poll.place IS 'where the next page of the list of campaigns begins';
COMMENT ON COLUMN _poll.items IS 'rows of that list, as the last page said';
COMMENT ON COLUMN _poll.shifted IS 'whether the list changed while it was read';
COMMENT ON COLUMN _poll.rounds IS 'how often it was read before';
COMMENT ON COLUMN _poll.done IS 'campaigns read';
COMMENT ON COLUMN _poll.total IS 'campaigns to be read; NULL: not known yet';
COMMENT ON COLUMN _poll.failure IS 'why the last campaign that could not be read could not';

CREATE TABLE _campaign (
    campaign_id text PRIMARY KEY,
    list_id     text NOT NULL,
    sent_at     timestamptz NOT NULL,
    read_at     timestamptz,
    seen        timestamptz,
    job         bigint,
    report      text,
    place       bigint NOT NULL DEFAULT 0,
    items       bigint,
    shifted     boolean NOT NULL DEFAULT false,
    rounds      smallint NOT NULL DEFAULT 0,
    reached     timestamptz
);
CREATE INDEX _campaign_job ON _campaign (job, sent_at, campaign_id) WHERE job IS NOT NULL;
COMMENT ON TABLE _campaign IS 'campaigns of Mailchimp, and how far their reports have been read';
COMMENT ON COLUMN _campaign.campaign_id IS 'Mailchimp''s id';
COMMENT ON COLUMN _campaign.list_id IS 'audience it was sent to';
COMMENT ON COLUMN _campaign.sent_at IS 'when it was sent';
COMMENT ON COLUMN _campaign.read_at IS 'when its reports were last read to the end';
COMMENT ON COLUMN _campaign.seen IS 'the newest event in them then; a day before it is where the next reading begins';
COMMENT ON COLUMN _campaign.job IS 'job.id of the poll that is to read it, if any';
COMMENT ON COLUMN _campaign.report IS 'report that is being read: unsubscribed, abuse-reports, email-activity, human-activity (the same without what machines did) or open-details';
COMMENT ON COLUMN _campaign.place IS 'where its next page begins';
COMMENT ON COLUMN _campaign.items IS 'rows of the report, as the last page said';
COMMENT ON COLUMN _campaign.shifted IS 'whether the report changed while it was read';
COMMENT ON COLUMN _campaign.rounds IS 'how often it was read before in this poll';
COMMENT ON COLUMN _campaign.reached IS 'the newest event met in this poll';

CREATE UNIQUE INDEX job_one_poll ON job (kind) WHERE kind = 'poll' AND args->>'scheduled' = 'false' AND state IN ('waiting', 'running', 'paused');

CREATE FUNCTION _begin_poll(scheduled boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    known bigint;
BEGIN
    -- What came of polls by the clock is of interest only as long as no other one has begun.
    IF scheduled THEN
        DELETE FROM integration.job j WHERE j.id IN (
            SELECT k.id FROM integration.job k
            WHERE k.kind = 'poll' AND k.state NOT IN ('waiting', 'running', 'paused') AND (k.args->>'scheduled')::boolean FOR UPDATE SKIP LOCKED);
    END IF;
    LOOP
        SELECT p.job INTO known FROM integration._poll p JOIN integration.job j ON j.id = p.job
        -- One by the clock reads only what is due.
        WHERE j.state IN ('waiting', 'running', 'paused') AND (scheduled OR NOT (j.args->>'scheduled')::boolean) ORDER BY p.job LIMIT 1;
        IF FOUND THEN
            IF NOT scheduled THEN
                RAISE NOTICE 'job % polls already', known
                    USING HINT = format('SELECT * FROM integration.job WHERE id = %s; shows how far it is, SELECT integration.cancel_job(%s); stops it.', known, known);
            END IF;
            RETURN known;
        END IF;
        -- Of two callers at once the second waits here, and finds the first one's job. The worker waits for nobody.
        known := integration._open_job('poll', jsonb_build_object('target', 'mailchimp', 'scheduled', scheduled));
        EXIT WHEN known IS NOT NULL;
    END LOOP;
    INSERT INTO integration._poll (job) VALUES (known);
    RETURN known;
END
$$;
COMMENT ON FUNCTION _begin_poll(boolean) IS 'begins a poll, or finds the one under way';

CREATE FUNCTION poll(target text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM integration._known_target(coalesce(target, 'mailchimp'));
    IF target = 'hubspot' THEN
        RAISE EXCEPTION 'nothing is polled from hubspot'
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'HubSpot tells what happens by webhook, see integration.import_hubspot_webhook(); integration.reconcile() compares both sides.';
    END IF;
    RETURN integration._begin_poll(false);
END
$$;
COMMENT ON FUNCTION poll(text) IS 'fetches what people did with Mailchimp''s campaigns of the last 180 days, now, into activity; behind everything else; returns the job''s id';
