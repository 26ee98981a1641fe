# shellcheck shell=bash
# shellcheck disable=SC2154 # scripts/demo.sh sets $bin, $work, $server_dir, $token and $key
# The story, second half: from the services to the CRM, and the reckoning.

forget_webhooks() { control DELETE /webhooks >/dev/null; }

# Requests that HubSpot has counted.
hubspot_requests() { ask "('$(control GET /stats)'::jsonb->>'hubspot_requests')::int"; }

follow_hubspot() {
    local mark count id
    local import="SELECT * FROM integration.import_hubspot_webhook(:'body', :'headers', :'method', :'uri');"
    chapter "6. A person changes a phone number in HubSpot"
    say "HubSpot's webhooks tell of our own writes too. The company's backend hands them over all the same:"
    receive
    sql_received "SELECT sum(received) AS received, sum(queued) AS queued, sum(ignored) AS ignored
FROM jsonb_array_elements(:'deliveries') AS d,
     integration.import_hubspot_webhook(d->>'body', d->'headers', d->>'method', d->>'uri');"
    check "each is known as our own" "count(*) >= 50 AND bool_and(state = 'ignored') FROM integration.inbox"

    id=$(ask "remote_id FROM integration.link WHERE source = 'crm.contacts'::regclass AND record_key = '42' AND target = 'hubspot'")
    say "Now somebody changes the number of contact 42 in HubSpot, which signs a webhook and sends it:"
    mark=$(last_request)
    count=$(hubspot_requests)
    control PATCH "/hubspot/contacts/$id" '{"phone":"+49 40 123456"}' >/dev/null
    receive
    sql_received "$import"
    settle
    sql "SELECT id, email, phone FROM crm.contacts WHERE id = 42;"
    sql_text "SELECT target, method, path, status, records FROM integration.request_log WHERE id > $mark;"
    check "the CRM has the new number" "phone = '+49 40 123456' FROM crm.contacts WHERE id = 42"
    check "Mailchimp was told; HubSpot was not told what it said itself" \
        "array_agg(DISTINCT target) = '{mailchimp}' AND $(hubspot_requests) = $count FROM integration.request_log WHERE id > $mark"
    check_both_sides "all three have the same number"

    say "One that was tampered with is refused:"
    count=$(ask "count(*) FROM integration.inbox")
    if sql_received "SELECT * FROM integration.import_hubspot_webhook(
    replace(:'body', '123456', '666666'), :'headers', :'method', :'uri');" >"$work/refusal"; then
        fail "a forged webhook is refused"
    fi
    cat "$work/refusal"
    grep -q '^ERROR: .*not authentic' "$work/refusal" || fail "that is why the forged webhook is refused"
    sql_received "$import" >"$work/again"
    grep -q '1 | *0 | *1 | *0' "$work/again" || fail "the same webhook again is a duplicate: $(cat "$work/again")"
    check "it is not stored, nor is the good one when it comes a second time" "count(*) = $count FROM integration.inbox"
}

follow_consent() {
    local email
    chapter "7. Consent"
    say "Contact 31 unsubscribes in Mailchimp, which signs a webhook and sends it:"
    email=$(ask "lower(email) FROM crm.contacts WHERE id = 31")
    forget_webhooks
    control POST /mailchimp/members "{\"email\":\"$email\",\"action\":\"unsubscribe\"}" >/dev/null
    receive
    sql_received "SELECT * FROM integration.import_mailchimp_webhook(:'body', :'headers');"
    settle
    sql "SELECT id, email, marketing_opt_in FROM crm.contacts WHERE id = 31;"
    check "the consent is withdrawn in the CRM" "marketing_opt_in = false FROM crm.contacts WHERE id = 31"
    say "It sticks, even when somebody ticks the box again later. Ten others opt out in the CRM:"
    sql "UPDATE crm.contacts SET phone = '+49 89 1234', marketing_opt_in = true WHERE id = 31;
UPDATE crm.contacts SET marketing_opt_in = false
WHERE id % 10 = 1 AND id BETWEEN 1001 AND 1100;"
    settle
    sql_text "SELECT record_key, category, error FROM integration.dlq WHERE category = 'consent';"
    check "the box is not ticked any more" "marketing_opt_in = false FROM crm.contacts WHERE id = 31"
    fetch
    check "the eleven are unsubscribed" "count(*) = 11 AND bool_or(key = '$email') FROM there.held WHERE what = 'unsubscribed in Mailchimp'"
}

look_at_one_record() {
    local mark
    chapter "8. Where does one record stand, and what would be sent?"
    sql "SELECT target, state, remote_id, pushed_at::timestamptz(0)
FROM integration.sync_status('crm.contacts', '42');"
    check "contact 42 is in step with both" "count(*) = 2 AND bool_and(state = 'synced') FROM integration.sync_status('crm.contacts', '42')"
    say "A preview sends nothing, and what is rolled back never leaves the database:"
    mark=$(last_request)
    sql_text -q "BEGIN;
UPDATE crm.contacts SET last_name = 'Carpenter' WHERE id = 42;
SELECT target, request FROM integration.preview('crm.contacts', '42');
ROLLBACK;"
    settle
    check "no request" "count(*) = 0 FROM integration.request_log WHERE id > $mark"
}

compare_everything() {
    chapter "9. What both sides hold"
    fetch
    sql "SELECT * FROM there.comparison;"
    sql "SELECT * FROM there.side_by_side WHERE id IN (31, 42, 1001, 1007, 5003) ORDER BY id;"
    check "no dead letter is open" "count(*) = 0 FROM integration.dlq WHERE resolution IS NULL"
    check_both_sides "the CRM, HubSpot and Mailchimp agree, field by field"
    "$bin/pg_dump" -h "$server_dir" -p 5432 -U postgres crm >"$work/dump.sql"
    if grep -qF -e "$token" -e "$key" "$work/dump.sql" "$server_dir/log"; then
        fail "no credential is in a dump or in the server's log"
    fi
    ok "no credential is in a dump or in the server's log"
}
