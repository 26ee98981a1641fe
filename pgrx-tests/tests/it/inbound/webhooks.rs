//! What happens at the services comes back, once, and does not echo.

use std::time::{Duration, SystemTime};

use integration_tests::{
    crm::{Crm, SOON},
    remote::{Delivery, ObjectType, Service, path_secret},
    sql::{quote_literal, refused},
    wait::{holds_for, wait_until},
};
use serde_json::json;

/// Calls the import function with a webhook as it was sent; received, queued, duplicate, ignored.
pub fn import(crm: &mut Crm, webhook: &Delivery) -> String {
    crm.rows(&format!("SELECT * FROM {}", call(webhook)))
        .remove(0)
}

fn call(webhook: &Delivery) -> String {
    let headers = serde_json::to_string(&webhook.headers).unwrap();
    let (body, headers) = (quote_literal(&webhook.body), quote_literal(&headers));
    match webhook.service {
        Service::HubSpot => {
            let (method, uri) = (quote_literal(&webhook.method), quote_literal(&webhook.uri));
            format!("integration.import_hubspot_webhook({body}, {headers}, {method}, {uri})")
        }
        Service::Mailchimp => format!(
            "integration.import_mailchimp_webhook({body}, {headers}, {})",
            quote_literal(path_secret(webhook))
        ),
    }
}

/// Ten contacts on both sides, and no webhooks waiting.
fn in_step() -> Crm {
    let mut crm = Crm::start();
    crm.add_contacts(1, 10);
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

/// A person in HubSpot sets a property of contact 4; the webhook of that.
pub fn changed_in_hubspot(crm: &mut Crm, property: &str, value: &str) -> Delivery {
    let (id, _) = crm.remote.contact("person4@example.org").unwrap();
    crm.remote.person_sets(id, property, value);
    let mut webhooks = crm.remote.webhooks_of(Service::HubSpot);
    assert_eq!(webhooks.len(), 1);
    webhooks.remove(0)
}

#[test]
fn change_in_hubspot_reaches_the_crm_and_mailchimp_and_does_not_echo() {
    let mut crm = in_step();
    let webhook = changed_in_hubspot(&mut crm, "firstname", "Augusta");
    let before = crm.remote.writes_to(Service::HubSpot);
    assert_eq!(import(&mut crm, &webhook), "1|1|0|0");
    crm.converges();
    assert_eq!(
        crm.ask::<String>("SELECT first_name FROM crm.contacts WHERE id = 4"),
        "Augusta"
    );
    assert_eq!(
        crm.remote
            .member("person4@example.org")
            .unwrap()
            .merge_fields["FNAME"],
        "Augusta"
    );
    assert_eq!(crm.rows("SELECT state FROM integration.inbox"), ["applied"]);
    holds_for(
        "nothing goes back to HubSpot",
        Duration::from_secs(1),
        || crm.remote.writes_to(Service::HubSpot) == before,
    );
    assert!(crm.ask::<bool>("SELECT pulled_at IS NOT NULL FROM integration.link WHERE target = 'hubspot' AND record_key = '4'"));
}

/// What HubSpot has of consent is what Mailchimp goes by.
fn consent_in_both() -> Crm {
    let mut crm = in_step();
    let property = json!({"name": "newsletter", "label": "Newsletter", "type": "string", "fieldType": "text", "groupName": "contactinformation"});
    crm.remote
        .define_property(ObjectType::Contact, property)
        .unwrap();
    crm.run(
        "ALTER TABLE crm.contacts ADD newsletter text;
         SELECT integration.map_field('crm.contacts', 'newsletter', 'mailchimp', 'status');
         SELECT integration.map_field('crm.contacts', 'newsletter', 'hubspot', 'newsletter');
         UPDATE crm.contacts SET newsletter = CASE WHEN marketing_opt_in THEN 'subscribed' ELSE 'unsubscribed' END",
    );
    crm.settle();
    crm.remote.clear_webhooks();
    crm
}

const DECIDED: &str =
    "SELECT changed_by, to_status FROM integration.consent_log WHERE record_key = '4' ORDER BY id";

/// The log says who decided: HubSpot, if the consent column is what HubSpot wrote into it.
#[test]
fn consent_given_in_hubspot_is_logged_as_hubspots() {
    let mut crm = consent_in_both();
    for (value, by, status) in [
        ("unsubscribed", "hubspot", "unsubscribed_by_crm"),
        ("subscribed", "hubspot", "subscribed"),
    ] {
        let webhook = changed_in_hubspot(&mut crm, "newsletter", value);
        import(&mut crm, &webhook);
        crm.settle();
        assert_eq!(
            crm.rows(DECIDED).last(),
            Some(&format!("{by}|{status}")),
            "{}",
            crm.report()
        );
    }
    crm.run("UPDATE crm.contacts SET newsletter = 'unsubscribed' WHERE id = 4");
    crm.settle();
    assert_eq!(
        crm.rows(DECIDED),
        [
            "crm|subscribed",
            "hubspot|unsubscribed_by_crm",
            "hubspot|subscribed",
            "crm|unsubscribed_by_crm"
        ]
    );
}

#[test]
fn consent_given_in_hubspot_is_logged_as_hubspots_though_the_table_is_held_there() {
    let mut crm = consent_in_both();
    crm.run("SELECT integration.pause('mailchimp', 'test')");
    let webhook = changed_in_hubspot(&mut crm, "newsletter", "unsubscribed");
    import(&mut crm, &webhook);
    wait_until("the CRM has it", SOON, || {
        let applied = "SELECT bool_and(state = 'applied') FROM integration.inbox";
        crm.ask::<bool>(applied).then_some(())
    });
    crm.run(
        "INSERT INTO integration._hold (source, target, cause, reason)
         SELECT id, 'hubspot', 'external_id', 'test' FROM integration.tracked_table WHERE source = 'crm.contacts'::regclass;
         SELECT integration.reload();
         SELECT integration.resume('mailchimp')",
    );
    wait_until("the opt-out is logged", SOON, || {
        let last = crm.rows(DECIDED).pop()?;
        (last == "hubspot|unsubscribed_by_crm").then_some(())
    });
}

#[test]
fn value_cleared_in_hubspot_is_cleared_in_the_crm() {
    let mut crm = in_step();
    let webhook = changed_in_hubspot(&mut crm, "jobtitle", "");
    import(&mut crm, &webhook);
    crm.converges();
    assert!(crm.ask::<bool>("SELECT coalesce(job_title, '') = '' FROM crm.contacts WHERE id = 4"));
}

#[test]
fn same_webhook_twice_is_one_event() {
    let mut crm = in_step();
    let webhook = changed_in_hubspot(&mut crm, "phone", "+49 1");
    assert_eq!(import(&mut crm, &webhook), "1|1|0|0");
    assert_eq!(import(&mut crm, &webhook), "1|0|1|0");
    crm.converges();
    assert_eq!(import(&mut crm, &webhook), "1|0|1|0");
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.inbox"), 1);
}

#[test]
fn our_own_changes_coming_back_change_nothing() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 10);
    crm.converges();
    crm.run("UPDATE crm.contacts SET phone = '+49 2'");
    crm.converges();
    let before = crm.remote.stats().requests;
    let webhooks = crm.remote.take_webhooks();
    assert!(!webhooks.is_empty());
    for webhook in &webhooks {
        import(&mut crm, webhook);
    }
    crm.converges();
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM crm.contacts WHERE phone = '+49 2'"),
        10
    );
    holds_for("nothing is sent", Duration::from_secs(1), || {
        crm.remote.stats().requests == before
    });
}

#[test]
fn older_event_that_arrives_late_changes_nothing() {
    let mut crm = in_step();
    let older = changed_in_hubspot(&mut crm, "phone", "+49 old");
    // Events carry milliseconds.
    let then = SystemTime::now();
    wait_until("time has passed", Duration::from_secs(1), || {
        (then.elapsed().unwrap() > Duration::from_millis(2)).then_some(())
    });
    let newer = changed_in_hubspot(&mut crm, "phone", "+49 new");
    import(&mut crm, &newer);
    crm.settle();
    import(&mut crm, &older);
    crm.converges();
    assert_eq!(
        crm.ask::<String>("SELECT phone FROM crm.contacts WHERE id = 4"),
        "+49 new"
    );
}

#[test]
fn newer_change_in_the_crm_wins_over_an_older_event() {
    let mut crm = in_step();
    let webhook = changed_in_hubspot(&mut crm, "phone", "+49 hubspot");
    crm.run("UPDATE crm.contacts SET phone = '+49 crm' WHERE id = 4");
    import(&mut crm, &webhook);
    crm.converges();
    assert_eq!(
        crm.ask::<String>("SELECT phone FROM crm.contacts WHERE id = 4"),
        "+49 crm"
    );
}

/// That something else of the record was changed later does not make an empty field a decision of
/// the CRM's.
#[test]
fn field_that_was_empty_is_filled_whatever_else_of_the_record_is_queued() {
    let mut crm = in_step();
    crm.run("INSERT INTO crm.contacts (email, first_name) VALUES ('ada@example.org', 'Ada')");
    crm.converges();
    crm.remote.clear_webhooks();
    crm.run("SELECT integration.pause('hubspot', 'so that changes stay in the queue')");
    let (id, _) = crm.remote.contact("ada@example.org").unwrap();
    crm.remote.person_sets(id, "jobtitle", "Countess");
    let webhooks = crm.remote.webhooks_of(Service::HubSpot);
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta' WHERE email = 'ada@example.org'");
    import(&mut crm, &webhooks[0]);
    crm.run("SELECT integration.resume('hubspot')");
    crm.converges();
    assert_eq!(
        crm.rows("SELECT first_name, job_title FROM crm.contacts WHERE email = 'ada@example.org'"),
        ["Augusta|Countess"]
    );
}

#[test]
fn property_that_is_not_mapped_is_ignored() {
    let mut crm = in_step();
    let webhook = changed_in_hubspot(&mut crm, "country", "Germany");
    import(&mut crm, &webhook);
    crm.converges();
    assert!(
        crm.rows("SELECT state FROM integration.inbox WHERE state <> 'ignored'")
            .is_empty()
    );
}

#[test]
fn event_of_a_record_we_do_not_know_is_no_failure() {
    let mut crm = in_step();
    let id = crm
        .remote
        .create_record(
            integration_tests::remote::ObjectType::Contact,
            &[("email", "stranger@example.org")],
        )
        .unwrap();
    crm.remote.clear_webhooks();
    crm.remote.person_sets(id, "phone", "1");
    for webhook in crm.remote.webhooks_of(Service::HubSpot) {
        import(&mut crm, &webhook);
    }
    crm.settle();
    assert!(
        crm.rows("SELECT state FROM integration.inbox WHERE state = 'failed'")
            .is_empty()
    );
}

#[test]
fn value_the_column_cannot_take_fails_that_event_only() {
    let mut crm = in_step();
    crm.run("ALTER TABLE crm.contacts ADD CHECK (phone <> '666')");
    let bad = changed_in_hubspot(&mut crm, "phone", "666");
    let good = changed_in_hubspot(&mut crm, "jobtitle", "Countess");
    import(&mut crm, &bad);
    import(&mut crm, &good);
    crm.settle();
    assert_eq!(
        crm.ask::<String>("SELECT job_title FROM crm.contacts WHERE id = 4"),
        "Countess"
    );
    let states = crm.rows("SELECT state, detail <> '' FROM integration.inbox ORDER BY id");
    assert_eq!(states, ["failed|t", "applied|t"]);
}

#[test]
fn forged_and_stale_webhooks_are_refused_and_not_stored() {
    let mut crm = in_step();
    let genuine = changed_in_hubspot(&mut crm, "phone", "+49 3");
    let mut forged = genuine.clone();
    forged.body = forged.body.replace("+49 3", "+49 4");
    let mut elsewhere = genuine.clone();
    elsewhere.uri.push_str("/other");
    let mut unsigned = genuine.clone();
    unsigned.headers.clear();
    let mut stale = genuine.clone();
    let long_ago = "1600000000000";
    let secret = integration_tests::remote::Config::default()
        .hubspot
        .client_secret;
    let signature = integration_tests::remote::signature_v3(
        &secret,
        &stale.method,
        &stale.uri,
        &stale.body,
        long_ago,
    );
    stale.headers.insert(
        "x-hubspot-request-timestamp".to_owned(),
        long_ago.to_owned(),
    );
    stale
        .headers
        .insert("x-hubspot-signature-v3".to_owned(), signature);
    for webhook in [&forged, &elsewhere, &unsigned, &stale] {
        let error = refused(&mut crm.client, &format!("SELECT * FROM {}", call(webhook)));
        assert_eq!(error.code().code(), "28000", "{error:?}");
    }
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.inbox"), 0);
    // The genuine one is still good.
    assert_eq!(import(&mut crm, &genuine), "1|1|0|0");
}

#[test]
fn body_that_cannot_be_read_is_refused() {
    let mut crm = in_step();
    let mut webhook = changed_in_hubspot(&mut crm, "phone", "+49 3");
    webhook.body = "[{\"eventId\":".to_owned();
    let secret = integration_tests::remote::Config::default()
        .hubspot
        .client_secret;
    let timestamp = webhook.headers["x-hubspot-request-timestamp"].clone();
    let signature = integration_tests::remote::signature_v3(
        &secret,
        &webhook.method,
        &webhook.uri,
        &webhook.body,
        &timestamp,
    );
    webhook
        .headers
        .insert("x-hubspot-signature-v3".to_owned(), signature);
    let error = refused(
        &mut crm.client,
        &format!("SELECT * FROM {}", call(&webhook)),
    );
    assert_eq!(error.code().code(), "22023", "{error:?}");
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.inbox"), 0);
}

#[test]
fn mailchimp_webhook_with_a_wrong_secret_is_refused() {
    let mut crm = in_step();
    crm.remote.person_unsubscribes("person4@example.org");
    let webhook = crm.remote.webhooks_of(Service::Mailchimp).remove(0);
    for secret in ["'wrong'", "''", "NULL"] {
        let sql = format!(
            "SELECT integration.import_mailchimp_webhook({}, '{{}}', {secret})",
            quote_literal(&webhook.body)
        );
        assert_eq!(
            refused(&mut crm.client, &sql).code().code(),
            "28000",
            "{secret}"
        );
    }
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.inbox"), 0);
}

#[test]
fn mailchimp_webhook_is_trusted_by_its_signature_where_a_signing_secret_is_set() {
    let mut crm = in_step();
    crm.set("mailchimp_webhook_signing_secret", "whsec-sandbox");
    crm.remote.person_unsubscribes("person4@example.org");
    let webhook = crm.remote.webhooks_of(Service::Mailchimp).remove(0);
    let mut forged = webhook.clone();
    forged.body.push_str("&data%5Breason%5D=abuse");
    let error = refused(&mut crm.client, &format!("SELECT * FROM {}", call(&forged)));
    assert_eq!(error.code().code(), "28000", "{error:?}");
    assert_eq!(import(&mut crm, &webhook), "1|1|0|0");
    crm.settle();
    assert!(!crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 4"));
}

#[test]
fn event_whose_transaction_is_rolled_back_is_not_stored() {
    let mut crm = in_step();
    let webhook = changed_in_hubspot(&mut crm, "phone", "+49 3");
    crm.run(&format!("BEGIN; SELECT {}; ROLLBACK", call(&webhook)));
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.inbox"), 0);
    assert_eq!(import(&mut crm, &webhook), "1|1|0|0");
}

#[test]
fn address_that_is_not_allowed_is_refused() {
    let mut crm = in_step();
    crm.set("webhook_allowed_ips", "192.0.2.0/24, 2001:db8::/32");
    let webhook = changed_in_hubspot(&mut crm, "phone", "+49 3");
    let from = |address: &str| {
        call(&webhook).replace(
            &format!("{})", quote_literal(&webhook.uri)),
            &format!("{}, {address})", quote_literal(&webhook.uri)),
        )
    };
    for address in ["'198.51.100.7'", "NULL", "'2001:db9::1'"] {
        let error = refused(&mut crm.client, &format!("SELECT {}", from(address)));
        assert_eq!(error.code().code(), "42501", "{address}");
    }
    let accepted = crm.rows(&format!("SELECT queued FROM {}", from("'192.0.2.200'")));
    assert_eq!(accepted, ["1"]);
}
