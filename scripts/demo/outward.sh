# shellcheck shell=bash
# shellcheck disable=SC2154 # scripts/demo.sh sets $server_dir, $token and $list
# The story, first half: from the CRM to the services.

set_up() {
    chapter "1. Set up"
    say "An empty database, on a server that preloads the extension. It says what it lacks and what to do:"
    sql "CREATE EXTENSION integration;"
    until_true 20 "both targets say they are not configured" "count(*) = 2 FROM integration.status WHERE state = 'unconfigured'"
    sql_text "SELECT target, state, reason FROM integration.status;"
    say "Secrets are kept encrypted, and count at once. psql reads them from files, so that no history has them:"
    sql -o /dev/null "\\set token \`cat $server_dir/secrets/hubspot\`
SELECT integration.set_secret('hubspot_access_token', :'token');
\\set key \`cat $server_dir/secrets/mailchimp\`
SELECT integration.set_secret('mailchimp_api_key', :'key');
ALTER SYSTEM SET integration.mailchimp_list_id = '$list';
SELECT pg_reload_conf();"
    until_true 20 "both targets run" "count(*) = 2 FROM integration.status WHERE state = 'running'"
    sql_text "SELECT target, state FROM integration.status;"
}

fill() {
    local stats
    chapter "2. Track two tables, and fill them"
    say "Columns are recognised by their names; the others are left out until somebody maps them:"
    sql -q "\\i scripts/demo/tables.sql"
    sql -o /dev/null -v VERBOSITY=terse "SELECT integration.track('crm.companies', 'company');"
    sql -o /dev/null "SELECT integration.track('crm.contacts', 'contact');"
    say "HubSpot needs a unique property for the CRM's key; this creates it:"
    sql -A -t "SELECT integration.provision('hubspot') AS job;"
    until_true 20 "the job ends" "NOT EXISTS (SELECT FROM integration.job WHERE state IN ('waiting', 'running'))"
    check "job 1 is done" "state = 'done' FROM integration.job WHERE id = 1"
    say "300 companies, 5,000 contacts, and eight more that somebody typed in at a fair:"
    sql "\\i scripts/demo/rows.sql"
    settle
    fetch
    sql "SELECT * FROM there.comparison; -- what the sandbox holds, next to the CRM"
    check_both_sides "what can be delivered is, and nobody is in Mailchimp without consent"
    say "Addresses that no service would take are dead letters. They held up nobody else:"
    sql_text "SELECT category, count(*), min(error) FROM integration.dlq GROUP BY 1;"
    check "there is one for each bad address and service" \
        "(count(*) FILTER (WHERE target = 'hubspot'), count(*) FILTER (WHERE target = 'mailchimp')) = (6, 4) FROM integration.dlq"
    say "Batches were full, and no request was one too many (429):"
    sql "SELECT target, count(*) AS requests, sum(records) AS records,
       round(count(*) / sum(records)::numeric, 4) AS \"per record\",
       count(*) FILTER (WHERE status = 429) AS \"429\"
FROM integration.request_log GROUP BY 1 ORDER BY 1;"
    check "less than 0.03 requests a record, no 429" "max(count / records) < 0.03 AND sum(throttled) = 0
        FROM (SELECT count(*), sum(records)::numeric AS records, count(*) FILTER (WHERE status = 429) AS throttled
              FROM integration.request_log GROUP BY target) x"
    stats=$(control GET /stats)
    check "the services counted as many requests" "count(*) = ('$stats'::jsonb->>'requests')::int FROM integration.request_log"
}

change_in_bulk() {
    local mark
    chapter "3. Thousands of changes"
    say "Two updates of the same 4,000 rows. A record is sent once, as it is when its turn comes; HubSpot allows" \
        "100 requests in 10 s, so there may be a wait:"
    mark=$(last_request)
    sql -q "BEGIN;
UPDATE crm.contacts SET job_title = job_title || ', EMEA' WHERE id <= 4000;
UPDATE crm.contacts SET job_title = replace(job_title, 'EMEA', 'Europe') WHERE id <= 4000;
COMMIT;"
    settle
    sql "SELECT target, count(*) AS requests, sum(records) AS records
FROM integration.request_log WHERE id > $mark GROUP BY 1;"
    check "8,000 changes were 4,000 records in full batches; Mailchimp has no job titles" \
        "count(*) BETWEEN 40 AND 44 AND sum(records) = 4000 AND count(DISTINCT target) = 1 FROM integration.request_log WHERE id > $mark"
    say "A column that is not mapped concerns nobody:"
    mark=$(last_request)
    sql "UPDATE crm.contacts SET notes = 'checked';"
    settle
    check "no request for 5,008 updates" "count(*) = 0 FROM integration.request_log WHERE id > $mark"
}

survive_an_outage() {
    local dead
    chapter "4. HubSpot is down"
    say "Nothing listens at HubSpot's address any more. The work in the CRM goes on:"
    dead=$(ask "count(*) FROM integration.dlq")
    control POST /down/hubspot >/dev/null
    sql "UPDATE crm.contacts SET phone = '+49 30 ' || 7000000 + id WHERE id <= 500;
INSERT INTO crm.contacts (email, first_name, last_name, marketing_opt_in)
SELECT format('new%s@example.com', n), 'Nina', 'Walker', true FROM generate_series(1, 20) n;
DELETE FROM crm.contacts WHERE id BETWEEN 4991 AND 4995;"
    until_true 30 "status tells of the outage" "state = 'outage' FROM integration.status WHERE target = 'hubspot'"
    settle mailchimp
    sql_text "SELECT target, state, reason FROM integration.status;"
    sql "SELECT target, count(*) AS waiting FROM integration.outbox GROUP BY 1;"
    check "HubSpot's 525 changes wait, Mailchimp's are delivered" \
        "(count(*), min(target), max(target)) = (525, 'hubspot', 'hubspot') FROM integration.outbox"
    say "HubSpot is back:"
    control POST /up/hubspot >/dev/null
    settle
    check "nothing became a dead letter" "count(*) = $dead FROM integration.dlq"
    check_both_sides "everything has arrived"
    until_true 10 "status says running" "bool_and(state = 'running') FROM integration.status"
}

repair_a_poisoned_record() {
    local mark
    chapter "5. A poisoned record"
    say "One of 50 new values is a typing error that HubSpot refuses. The other 49 arrive:"
    mark=$(ask "max(id) FROM integration.dlq")
    forget_webhooks
    sql "UPDATE crm.contacts
SET lifecycle_stage = CASE id WHEN 1007 THEN 'costumer' ELSE 'customer' END
WHERE id BETWEEN 1001 AND 1050;"
    settle
    sql_text "SELECT record_key, category, http_status, error FROM integration.dlq WHERE id > $mark;"
    check "one dead letter" "(count(*), min(record_key), min(category)) = (1, '1007', 'validation') FROM integration.dlq WHERE id > $mark"
    check_both_sides "its 49 batch-mates have arrived"
    say "Somebody corrects it, and the addresses from the fair, and has the dead letters tried again:"
    sql -q -A -t "BEGIN;
UPDATE crm.contacts SET lifecycle_stage = 'customer' WHERE id = 1007;
UPDATE crm.contacts
SET email = replace(replace(replace(email, '@@', '@'), ' ', '@'), '.con', '.com')
WHERE id::text IN (SELECT record_key FROM integration.dlq);
SELECT integration.dlq_retry();
COMMIT;"
    settle
    sql_text "SELECT resolution, count(*) FROM integration.dlq GROUP BY 1;"
    check "no dead letter is open" "NOT EXISTS (SELECT FROM integration.dlq WHERE resolution IS NULL)"
    check_both_sides "all of them have arrived"
}
