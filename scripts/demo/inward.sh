# shellcheck shell=bash
# The story, second half: from the services to the CRM, and the reckoning.

# What happened at the services up to now came from us.
forget_webhooks() { control DELETE /webhooks >/dev/null; }

# The waiting webhook is imported by the statement given, as a backend would.
import() {
    take_webhook
    show "$1"
    run_shown "$received
$1"
}

follow_hubspot() {
    local mark id
    chapter "6. A person changes a phone number in HubSpot"
    id=$(ask "remote_id FROM integration.link WHERE source = 'crm.contacts'::regclass AND record_key = '42' AND target = 'hubspot'")
    sql "SELECT id, email, phone FROM crm.contacts WHERE id = 42;"
    forget_webhooks
    mark=$(last_request)
    control PATCH "/hubspot/contacts/$id" '{"phone":"+49 40 123456"}' >/dev/null
    say "HubSpot signs a webhook and sends it to the company's backend, which hands it over as it came:"
    import "SELECT * FROM integration.import_hubspot_webhook(:'body', :'headers', :'method', :'uri');"
    settle
    sql "SELECT id, email, phone FROM crm.contacts WHERE id = 42;
SELECT target, method, path, status, records FROM integration.request_log WHERE id > $mark;"
    check "the CRM has the new number" "phone = '+49 40 123456' FROM crm.contacts WHERE id = 42"
    check "Mailchimp was told, HubSpot was not told what it said itself" \
        "array_agg(DISTINCT target) = '{mailchimp}' FROM integration.request_log WHERE id > $mark"
    say "The same webhook again is known; one that somebody tampered with is refused:"
    show "SELECT * FROM integration.import_hubspot_webhook(:'body', :'headers', :'method', :'uri');"
    run_shown "$received
SELECT * FROM integration.import_hubspot_webhook(:'body', :'headers', :'method', :'uri');"
    show "SELECT * FROM integration.import_hubspot_webhook(replace(:'body', '123456', '666'), :'headers', :'method', :'uri');"
    if run_shown "$received
SELECT * FROM integration.import_hubspot_webhook(replace(:'body', '123456', '666'), :'headers', :'method', :'uri');"; then
        fail "a forged webhook is refused"
    fi
    check "one event is stored" "count(*) = 1 FROM integration.inbox"
}

follow_an_unsubscription() {
    local mark email
    chapter "7. A member unsubscribes in Mailchimp"
    email=$(ask "lower(email) FROM crm.contacts WHERE id = 31")
    sql "SELECT id, email, marketing_opt_in FROM crm.contacts WHERE id = 31;"
    forget_webhooks
    control POST /mailchimp/members "{\"email\":\"$email\",\"action\":\"unsubscribe\"}" >/dev/null
    import "SELECT * FROM integration.import_mailchimp_webhook(:'body', :'headers');"
    settle
    sql "SELECT id, email, marketing_opt_in FROM crm.contacts WHERE id = 31;"
    check "the consent is withdrawn in the CRM" "marketing_opt_in = false FROM crm.contacts WHERE id = 31"
    say "Later somebody edits the contact. It stays unsubscribed:"
    sql "UPDATE crm.contacts SET last_name = 'Married', phone = '+49 89 1234' WHERE id = 31;"
    settle
    fetch
    check "still unsubscribed" "count(*) = 1 FROM there.held WHERE what = 'unsubscribed in Mailchimp' AND key = '$email'"
}

look_at_one_record() {
    chapter "8. Where does one record stand, and what would be sent?"
    sql "SELECT * FROM integration.sync_status('crm.contacts', '42');"
    sql "SELECT target, jsonb_pretty(request) AS request FROM integration.preview('crm.contacts', '42');"
    check "it is in step with both" "bool_and(state = 'synced') AND count(*) = 2 FROM integration.sync_status('crm.contacts', '42')"
}

compare_everything() {
    chapter "9. What both sides hold"
    settle
    fetch
    sql "SELECT * FROM there.comparison;"
    check "the CRM, HubSpot and Mailchimp agree" "sum(missing + \"too many\" + different) = 0 FROM there.comparison"
}
