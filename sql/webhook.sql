-- Registering webhooks at Mailchimp.

CREATE TABLE _webhook_wanted (
    job     bigint PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    url     text NOT NULL,
    list_id text NOT NULL,
    replace boolean NOT NULL
);
COMMENT ON TABLE _webhook_wanted IS 'what integration.mailchimp_register_webhook() was asked for: job.args shows the URL without its path, which is a secret';
COMMENT ON COLUMN _webhook_wanted.job IS 'job.id';
COMMENT ON COLUMN _webhook_wanted.url IS 'where Mailchimp is to send its events';
COMMENT ON COLUMN _webhook_wanted.list_id IS 'the audience';
COMMENT ON COLUMN _webhook_wanted.replace IS 'whether one with this URL whose secret is not known is created again';

CREATE FUNCTION mailchimp_register_webhook(url text, list_id text DEFAULT NULL, replace boolean DEFAULT false) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    why text := integration._unfit_webhook(url);
    list text := coalesce(list_id, nullif(current_setting('integration.mailchimp_list_id', true), ''));
    known bigint;
BEGIN
    IF why IS NOT NULL THEN
        RAISE EXCEPTION 'no webhook can be sent to this URL: %', why
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use something like https://crm.example.com/webhooks/mailchimp/<random word>, whatever receives HTTP for your CRM.';
    ELSIF list IS NULL OR list !~ '^[A-Za-z0-9_-]{1,50}$' THEN
        RAISE EXCEPTION 'it is not known which audience is meant'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass its id as list_id, or set integration.mailchimp_list_id.';
    END IF;
    why := integration._lacks_encryption_key();
    IF why IS NOT NULL THEN
        RAISE EXCEPTION 'the webhook''s signing secret could not be kept: %', why
            USING ERRCODE = 'config_file_error',
                  HINT = 'Mailchimp shows it once. Correct integration.encryption_key (env:NAME or file:/path), which encrypts it; where it is not set, a key file in the data directory does.';
    END IF;
    SELECT j.id INTO known FROM integration.job j JOIN integration._webhook_wanted w ON w.job = j.id
    WHERE j.state IN ('waiting', 'running', 'paused') AND w.url = mailchimp_register_webhook.url AND w.list_id = list
    ORDER BY j.id LIMIT 1;
    IF FOUND THEN
        RETURN known;
    END IF;
    known := integration._open_job('webhook', jsonb_build_object('url', integration._without_path(url), 'list', list, 'replace', replace));
    INSERT INTO integration._webhook_wanted (job, url, list_id, replace) VALUES (known, url, list, replace);
    RETURN known;
END
$$;
COMMENT ON FUNCTION mailchimp_register_webhook(text, text, boolean) IS 'creates the audience''s webhook at Mailchimp and keeps its signing secret for import_mailchimp_webhook(); with replace, one with this URL whose secret is not known here is created again; returns the job''s id';
