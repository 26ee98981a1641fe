-- Who we are at the services: the accounts that may be written to, rotated tokens, connection tests.

CREATE TABLE _account (
    target     text PRIMARY KEY CHECK (target IN ('hubspot', 'mailchimp')),
    account    text NOT NULL,
    detail     text,
    time_zone  text,
    other      text,
    since      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE _account IS 'the account at each service that records are sent to; another one behind the same settings holds the target';
COMMENT ON COLUMN _account.target IS 'hubspot or mailchimp';
COMMENT ON COLUMN _account.account IS 'HubSpot: the portal''s number; Mailchimp: account and audience';
COMMENT ON COLUMN _account.detail IS 'the service''s description of it, for people';
COMMENT ON COLUMN _account.time_zone IS 'the account''s time zone: HubSpot counts a day''s requests from midnight there';
COMMENT ON COLUMN _account.other IS 'another account that the settings lead to now; integration.resume() accepts it';
COMMENT ON COLUMN _account.since IS 'since when it is the account in use';

CREATE TABLE _oauth (
    target    text PRIMARY KEY CHECK (target = 'hubspot'),
    seed      text NOT NULL,
    sealed    bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE _oauth IS 'refresh tokens that replaced the one in the settings, encrypted as in _secret';
COMMENT ON COLUMN _oauth.target IS 'hubspot';
COMMENT ON COLUMN _oauth.seed IS 'digest of the token in the settings from which it descends; a new token in the settings takes precedence';
COMMENT ON COLUMN _oauth.sealed IS 'nonce, ciphertext and tag (AES-256-GCM)';
COMMENT ON COLUMN _oauth.stored_at IS 'when it was received';

CREATE TABLE _connection (
    target   text PRIMARY KEY CHECK (target IN ('hubspot', 'mailchimp')),
    asked_at timestamptz NOT NULL,
    ok       boolean NOT NULL,
    account  text,
    detail   text NOT NULL
);
COMMENT ON TABLE _connection IS 'result of the worker''s last connection test; read by integration.test_connection()';
COMMENT ON COLUMN _connection.target IS 'hubspot or mailchimp';
COMMENT ON COLUMN _connection.asked_at IS 'when the test began';
COMMENT ON COLUMN _connection.ok IS 'whether records can be sent';
COMMENT ON COLUMN _connection.account IS 'the account that accepts us';
COMMENT ON COLUMN _connection.detail IS 'details from the service, or what is wrong';

CREATE FUNCTION _accept_account(wanted text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    UPDATE integration._account a SET account = a.other, other = NULL, detail = NULL, time_zone = NULL, since = now()
    WHERE a.other IS NOT NULL AND (wanted IS NULL OR a.target = wanted)
$$;
COMMENT ON FUNCTION _accept_account(text) IS 'accepts the account that the settings lead to now';

CREATE TABLE _webhook (
    list_id   text NOT NULL,
    url       text NOT NULL,
    hook_id   text NOT NULL,
    sealed    bytea,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (list_id, url)
);
COMMENT ON TABLE _webhook IS 'Mailchimp''s webhooks created by integration.mailchimp_register_webhook(), with their signing secrets, encrypted as in _secret';
COMMENT ON COLUMN _webhook.list_id IS 'the audience it belongs to';
COMMENT ON COLUMN _webhook.url IS 'where Mailchimp sends its events';
COMMENT ON COLUMN _webhook.hook_id IS 'Mailchimp''s id of it';
COMMENT ON COLUMN _webhook.sealed IS 'its signing secret: nonce, ciphertext and tag (AES-256-GCM); NULL: Mailchimp sent none';
COMMENT ON COLUMN _webhook.stored_at IS 'when it was made';

CREATE TABLE _secret (
    name   text PRIMARY KEY,
    sealed bytea NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE _secret IS 'what integration.set_secret() keeps: credentials, encrypted with integration.encryption_key or, where none is set, with the key in integration.key in the data directory';
COMMENT ON COLUMN _secret.name IS 'name, without integration., of the setting over which it takes precedence';
COMMENT ON COLUMN _secret.sealed IS 'nonce, ciphertext and tag (AES-256-GCM)';
COMMENT ON COLUMN _secret.set_at IS 'when it was set';
