# shellcheck shell=bash
# The story, first half: from the CRM to the services.

set_up() {
    chapter "1. Set up"
    say "An empty database whose server preloads the extension. It says what it lacks, and what to do:"
    sql "CREATE EXTENSION integration;"
    until_true 20 "both targets say they are not configured" "count(*) = 2 FROM integration.status WHERE state = 'unconfigured'"
    sql "SELECT target, state, reason FROM integration.status;"
    say "Secrets stay in files that only the server reads:"
    sql "ALTER SYSTEM SET integration.hubspot_access_token = 'file:$server_dir/secrets/hubspot';
ALTER SYSTEM SET integration.mailchimp_api_key = 'file:$server_dir/secrets/mailchimp';
ALTER SYSTEM SET integration.mailchimp_list_id = '$list';
SELECT pg_reload_conf();" -q
    until_true 20 "both targets run" "count(*) = 2 FROM integration.status WHERE state = 'running'"
    sql "SELECT target, state FROM integration.status;"
    check "the token is shown nowhere" "NOT EXISTS (SELECT FROM pg_settings WHERE setting LIKE '%$token%')"
}

fill() {
    local job mark
    chapter "2. Track two tables, and fill them"
    say "The columns are recognised by their names; the rest is left out until somebody maps it:"
    sql "\\i scripts/demo/tables.sql" -q
    sql "SELECT integration.track('crm.companies', 'company');" -o /dev/null
    sql "SELECT integration.track('crm.contacts', 'contact');" -o /dev/null
    say "HubSpot needs a unique property for the CRM's key; this creates it:"
    sql "SELECT integration.provision('hubspot') AS job;"
    until_true 20 "the job ends" "NOT EXISTS (SELECT FROM integration.job WHERE state IN ('waiting', 'running'))"
    check "the property is there" "bool_and(state = 'done') FROM integration.job"
    say "300 companies, 5,000 contacts, and eight more from a list that somebody typed at a fair:"
    sql "\\i scripts/demo/rows.sql
\\copy crm.contacts (email, first_name, last_name, phone, job_title, lifecycle_stage, marketing_opt_in) from 'scripts/demo/fair.csv' (format csv, header)"
    settle
    fetch
    sql "SELECT * FROM there.comparison;"
    check "what can be delivered is, and nothing without consent is at Mailchimp" \
        "sum(missing + \"too many\" + different) = 0 FROM there.comparison"
    say "Addresses that the services refuse are dead letters; they held up nobody else:"
    sql "SELECT target, category, count(*), array_agg(record_key) AS keys
FROM integration.dlq WHERE resolution IS NULL GROUP BY 1, 2 ORDER BY 1;
SELECT target, http_status, error FROM integration.dlq ORDER BY id LIMIT 1;"
    check "there is one for each bad address and service" "(count(*) FILTER (WHERE target = 'hubspot'), count(*) FILTER (WHERE target = 'mailchimp'),
        count(*) FILTER (WHERE category <> 'validation')) = (6, 4, 0) FROM integration.dlq"
    say "Batches were full, and no request was refused for being one too many:"
    sql "SELECT target, count(*) AS requests, sum(records) AS records, round(count(*) / sum(records)::numeric, 4) AS \"per record\",
       count(*) FILTER (WHERE status = 429) AS \"429s\"
FROM integration.request_log GROUP BY 1 ORDER BY 1;"
    check "less than 0.03 requests a record" "max(q) < 0.03 FROM (SELECT count(*) / sum(records)::numeric FROM integration.request_log GROUP BY target) x(q)"
}

# How many records a target was sent, and in how many requests, after request $mark.
sent_since() {
    sql "SELECT target, count(*) AS requests, sum(records) AS records FROM integration.request_log WHERE id > $1 GROUP BY 1;"
}

change_in_bulk() {
    local mark
    chapter "3. Thousands of changes"
    say "Two updates of the same 4,000 rows. A record is sent once, as it is when its turn comes:"
    mark=$(last_request)
    sql "BEGIN;
UPDATE crm.contacts SET job_title = upper(job_title) WHERE id <= 4000;
UPDATE crm.contacts SET job_title = initcap(job_title) WHERE id <= 4000;
COMMIT;" -q
    settle
    sent_since "$mark"
    check "8,000 changes were 4,000 records in 40 batches; Mailchimp has no job titles" \
        "(count(*), sum(records), count(DISTINCT target)) = (40, 4000, 1) FROM integration.request_log WHERE id > $mark"
    say "An update of a column that is not mapped sends nothing:"
    mark=$(last_request)
    sql "UPDATE crm.contacts SET notes = 'checked';"
    settle
    check "no request" "NOT EXISTS (SELECT FROM integration.request_log WHERE id > $mark)"
}

survive_an_outage() {
    chapter "4. HubSpot is down"
    say "Nothing listens at HubSpot's address any more. Work goes on: 500 updates, 20 new contacts, 5 deletions."
    control POST /down/hubspot >/dev/null
    sql "UPDATE crm.contacts SET phone = '+49 30 ' || 7000000 + id WHERE id <= 500;
INSERT INTO crm.contacts (email, first_name, last_name, marketing_opt_in)
SELECT format('new%s@example.com', n), 'Nina', 'Walker', true FROM generate_series(1, 20) n;
DELETE FROM crm.contacts WHERE id BETWEEN 4991 AND 4995;"
    until_true 30 "status tells of the outage" "state = 'outage' FROM integration.status WHERE target = 'hubspot'"
    until_true 30 "Mailchimp goes on meanwhile" "integration.wait_idle('30s', 'mailchimp')"
    sql "SELECT target, state, reason, pending + retrying + in_flight AS waiting, dead FROM integration.status;"
    check "HubSpot's changes wait, Mailchimp's are delivered" "array_agg(pending + retrying + in_flight > 0 ORDER BY target) = '{t,f}' FROM integration.status"
    say "HubSpot is back:"
    control POST /up/hubspot >/dev/null
    settle
    fetch
    check "nothing became a dead letter" "count(*) = 10 FROM integration.dlq"
    check "everything arrived" "sum(missing + \"too many\" + different) = 0 FROM there.comparison"
    until_true 10 "status says running" "bool_and(state = 'running') FROM integration.status"
}

repair_a_poisoned_record() {
    local mark
    chapter "5. A poisoned record"
    say "One of 50 new values is a typing error that HubSpot refuses. The other 49 arrive:"
    mark=$(ask "max(id) FROM integration.dlq")
    sql "UPDATE crm.contacts SET lifecycle_stage = CASE id WHEN 1007 THEN 'costumer' ELSE 'customer' END
WHERE id BETWEEN 1001 AND 1050;"
    settle
    fetch
    sql "SELECT id, record_key, category, http_status, error FROM integration.dlq WHERE id > $mark;"
    check "one dead letter" "(count(*), min(record_key)) = (1, '1007') FROM integration.dlq WHERE id > $mark"
    check "its 49 batch-mates are customers in HubSpot" "count(*) = 49 FROM there.held
        WHERE what = 'contacts in HubSpot' AND fields->>'lifecyclestage' = 'customer'"
    say "Somebody corrects it, and the addresses from the fair, and replays the dead letters:"
    sql "BEGIN;
UPDATE crm.contacts SET lifecycle_stage = 'customer' WHERE id = 1007;
UPDATE crm.contacts SET email = regexp_replace(replace(replace(replace(replace(email, '@@', '@'),
    '..', '.'), '.con', '.com'), ' ', '@'), '@example\$', '@example.com') WHERE id > 5000;
SELECT integration.dlq_retry();
COMMIT;" -q
    settle
    sql "SELECT target, resolution, count(*) FROM integration.dlq GROUP BY 1, 2 ORDER BY 1, 2;"
    check "no dead letter is open" "NOT EXISTS (SELECT FROM integration.dlq WHERE resolution IS NULL)"
}
