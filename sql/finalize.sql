-- Comments on functions that are written in Rust; rights, dumps, and the first start of the worker.

COMMENT ON FUNCTION _unpack_keys(bytea) IS 'the keys packed into a queue row';
COMMENT ON FUNCTION _unpack_clock(bytea) IS 'the agreements stored with a link';
COMMENT ON FUNCTION _stored_key(integer, text) IS 'a record key as it is stored';
COMMENT ON FUNCTION _kinds() IS 'the names of all kinds of objects, parents first';
COMMENT ON FUNCTION _kind(text) IS 'what a kind of object is like: where it can be sent, HubSpot''s number of its type, properties without which HubSpot creates no record (a bar: one of them is enough), and whose records its own can be associated with';
COMMENT ON FUNCTION _conventions(text) IS 'column names that track() recognises, best first, and the kinds of value that each may hold';
COMMENT ON FUNCTION _associable(text, text) IS 'whether records of one kind can be associated with their parents of another';
COMMENT ON FUNCTION _lacks(text) IS 'what a target lacks before anything can be sent to it';
COMMENT ON FUNCTION _check_filter(oid, text) IS 'refuses what is no condition on the rows of a tracked table';
COMMENT ON FUNCTION _environment() IS 'integration.environment, with env: resolved';
COMMENT ON FUNCTION _incarnation() IS 'the mark of the data directory; whether the server goes on as what the database says it was; why the mark was made: new, standby, restored or moved';
COMMENT ON FUNCTION _preloaded() IS 'whether the library was loaded through shared_preload_libraries';
COMMENT ON FUNCTION _asker() IS 'who asks for what is being done with our rights';
COMMENT ON FUNCTION _wait_settled(oid, text, interval) IS 'see wait_synced()';
COMMENT ON FUNCTION _forget_plan(oid) IS 'has every session read anew what the capture triggers of a table watch';
COMMENT ON FUNCTION _wake() IS 'has the worker look at configuration, pauses and jobs when the transaction commits';
COMMENT ON FUNCTION _enqueue(text, integer, text[]) IS 'queues records of a source again';
COMMENT ON FUNCTION _in_flight(text, integer, text) IS 'whether a record is in a request under way';
COMMENT ON FUNCTION _gauges() IS 'the worker''s figures, for the view status';
COMMENT ON FUNCTION _unfit_webhook(text) IS 'why no webhook can be had under a URL; NULL: it can';
COMMENT ON FUNCTION _without_path(text) IS 'a webhook''s URL as it may be shown: its path is a secret';
COMMENT ON FUNCTION _lacks_encryption_key() IS 'why secrets cannot be stored; NULL: they can';
COMMENT ON FUNCTION _preview(oid, text) IS 'see preview()';
COMMENT ON FUNCTION _addresses(oid, text) IS 'the e-mail addresses in a contact''s row, in lower case';
COMMENT ON FUNCTION @extschema@.version() IS 'version of the extension, and which build of it runs: profile and commit';
COMMENT ON FUNCTION @extschema@.reload() IS 'restarts this database''s worker; false when there is none';
COMMENT ON FUNCTION set_secret(text, text) IS 'keeps a credential encrypted in the database, in place of the setting of the same name, from the commit on; NULL takes it back';
COMMENT ON FUNCTION wait_idle(interval, text) IS 'waits until everything queued has been settled, every backfill, comparison, poll and erasure done and every imported event applied; false when the time is over';
COMMENT ON FUNCTION test_connection(text) IS 'has the worker ask each service who we are, and what our credential may do';
COMMENT ON FUNCTION import_hubspot_webhook(text, jsonb, text, text, inet) IS 'takes a HubSpot webhook, body and headers as they were received';
COMMENT ON FUNCTION import_mailchimp_webhook(text, jsonb, text, inet) IS 'takes a Mailchimp webhook, the form-encoded body as it was received';
COMMENT ON FUNCTION import_mandrill_webhook(text, jsonb, text, inet) IS 'takes a Mandrill (Mailchimp Transactional) webhook, the form-encoded body as it was received, and the URL that Mandrill was told';

-- Names in a body are looked up where only the server's own are found, whoever calls. A body in SQL-standard form was
-- looked up when it was created; _capture looks nothing up, and is called for every row.
DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE p.pronamespace = 'integration'::regnamespace AND p.prokind = 'f' AND p.prosqlbody IS NULL AND p.proname <> '_capture'
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', object.name);
    END LOOP;
END
$$;

DO $$
DECLARE
    object record;
BEGIN
    FOR object IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'integration'::regnamespace LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', object.name);
    END LOOP;
END
$$;

-- Whoever creates or attaches a partition of a tracked table creates its triggers. The function goes by the table that
-- its trigger is on: on any table that is not tracked it does nothing.
GRANT EXECUTE ON FUNCTION _capture() TO PUBLIC;

DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT c.oid FROM pg_class c
        WHERE c.relnamespace = 'integration'::regnamespace AND (c.relkind = 'r' AND c.relname NOT IN ('_target_state', '_connection', '_server', '_hold', '_role_right') OR c.relkind = 'S')
    LOOP
        PERFORM pg_extension_config_dump(object.oid, '');
    END LOOP;
END
$$;

SELECT _wake();
