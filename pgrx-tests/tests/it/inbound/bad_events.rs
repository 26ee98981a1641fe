//! Events that make no sense, that are dated wrongly, or that are of somebody else's account.

use std::time::Duration;

use integration_tests::{
    crm::{Crm, SOON},
    remote::{Config, Delivery, Service, Status, signature_v3},
    sql::quote_literal,
    wait::{holds_for, wait_until},
};
use serde_json::{Value, json};

use crate::inbound::webhooks::import;

/// Ten contacts on both sides, and no webhooks waiting.
fn in_step() -> Crm {
    let mut crm = Crm::start();
    crm.add_contacts(1, 10);
    crm.converges();
    crm.remote.clear_webhooks();
    crm
}

/// A webhook of HubSpot's that tells of a change of contact 4, and its event.
fn changed(crm: &mut Crm, property: &str, value: &str) -> (Delivery, Value) {
    let (id, _) = crm.remote.contact("person4@example.org").unwrap();
    crm.remote.clear_webhooks();
    crm.remote.person_sets(id, property, value);
    let webhook = crm.remote.webhooks_of(Service::HubSpot).remove(0);
    let events: Vec<Value> = serde_json::from_str(&webhook.body).unwrap();
    (webhook, events[0].clone())
}

/// The same webhook with another body, signed.
fn with_body(webhook: &Delivery, body: String) -> Delivery {
    let mut webhook = webhook.clone();
    let secret = Config::default().hubspot.client_secret;
    let timestamp = webhook.headers["x-hubspot-request-timestamp"].clone();
    let signature = signature_v3(&secret, &webhook.method, &webhook.uri, &body, &timestamp);
    let name = "x-hubspot-signature-v3".to_owned();
    webhook.headers.insert(name, signature);
    webhook.body = body;
    webhook
}

/// An event like another one, but for some fields.
fn like(event: &Value, fields: Value) -> String {
    let mut event = event.clone();
    let fields = fields.as_object().cloned().unwrap();
    event.as_object_mut().unwrap().extend(fields);
    event.to_string()
}

/// Hands over a Mailchimp webhook; received, queued, duplicate, ignored.
fn import_mailchimp(crm: &mut Crm, body: &str) -> String {
    let sql = format!(
        "SELECT * FROM integration.import_mailchimp_webhook({}, '{{}}', 'path-secret')",
        quote_literal(body)
    );
    let counts = crm.rows(&sql).remove(0);
    crm.settle();
    counts
}

#[test]
fn event_that_makes_no_sense_spoils_no_other_of_its_webhook() {
    let mut crm = in_step();
    let (webhook, event) = changed(&mut crm, "phone", "+49 7");
    let job = json!({"propertyName": "jobtitle", "propertyValue": "Countess", "eventId": 2});
    let bad = [
        like(
            &event,
            json!({"eventId": 3, "propertyName": "firstname", "propertyValue": "A\u{0}da"}),
        ),
        like(
            &event,
            json!({"eventId": 4, "propertyName": "lastname", "propertyValue": "King", "occurredAt": i64::MAX}),
        ),
        like(&event, json!({"eventId": 5, "occurredAt": -1})),
        like(&event, json!({"eventId": 6, "occurredAt": "soon"})),
        r#"{"half":"\ud800"}"#.to_owned(),
        "null".to_owned(),
    ];
    let body = format!("[{event},{},{}]", bad.join(","), like(&event, job));
    assert_eq!(import(&mut crm, &with_body(&webhook, body)), "8|2|0|6");
    crm.settle();
    assert_eq!(
        crm.rows("SELECT phone, job_title, first_name, last_name FROM crm.contacts WHERE id = 4"),
        ["+49 7|Countess|First 4|Last 4"],
        "{}",
        crm.report()
    );
    // Those that can be stored say why they are not applied.
    let why = crm.rows("SELECT detail FROM integration.inbox WHERE state = 'ignored' ORDER BY id");
    assert_eq!(why.len(), 3, "{why:?}");
    assert!(why[0].contains("NUL"), "{why:?}");
    assert!(why[1].contains("impossible time"), "{why:?}");
}

#[test]
fn event_dated_in_the_future_goes_before_nothing_that_happens_later() {
    let mut crm = in_step();
    let (webhook, event) = changed(&mut crm, "phone", "+49 1");
    let in_2100 = 4_102_444_800_000_i64;
    let body = format!("[{}]", like(&event, json!({"occurredAt": in_2100})));
    assert_eq!(import(&mut crm, &with_body(&webhook, body)), "1|1|0|0");
    crm.settle();
    let phone = "SELECT phone FROM crm.contacts WHERE id = 4";
    assert_eq!(crm.ask::<String>(phone), "+49 1");
    let (webhook, _) = changed(&mut crm, "phone", "+49 2");
    import(&mut crm, &webhook);
    crm.settle();
    assert_eq!(crm.ask::<String>(phone), "+49 2", "{}", crm.report());
    crm.run("UPDATE crm.contacts SET phone = '+49 3' WHERE id = 4");
    crm.converges();
}

#[test]
fn opt_out_counts_whatever_else_the_event_says() {
    let mut crm = in_step();
    let event = |kind: &str, contact: u32, fired_at: &str, more: &str| {
        format!(
            "type={kind}&fired_at={fired_at}&data%5Blist_id%5D=a6b5da1054&data%5Bemail%5D=person{contact}%40example.org{more}"
        )
    };
    let profile = event(
        "profile",
        4,
        "2026-11-23+10%3A15%3A00",
        "&data%5Bmerges%5D%5BFNAME%5D=A%00da",
    );
    assert_eq!(import_mailchimp(&mut crm, &profile), "1|0|0|1");
    let profile = event(
        "profile",
        4,
        "2026-13-45+00%3A00%3A00",
        "&data%5Bmerges%5D%5BFNAME%5D=Ada",
    );
    assert_eq!(import_mailchimp(&mut crm, &profile), "1|0|0|1");
    assert_eq!(
        crm.rows("SELECT first_name, marketing_opt_in FROM crm.contacts WHERE id = 4"),
        ["First 4|t"]
    );
    // They signed up in the future, but have left by now.
    let signs_up = event("subscribe", 4, "2100-01-01+00%3A00%3A00", "");
    assert_eq!(import_mailchimp(&mut crm, &signs_up), "1|1|0|0");
    crm.remote.clear_webhooks();
    crm.remote.person_unsubscribes("person4@example.org");
    let leaves = crm.remote.webhooks_of(Service::Mailchimp).remove(0).body;
    assert_eq!(import_mailchimp(&mut crm, &leaves), "1|1|0|0");
    for (contact, fired_at) in [
        (6, "0000-00-00+00%3A00%3A00"),
        (8, "1970-01-02+00%3A00%3A00"),
    ] {
        crm.remote
            .person_unsubscribes(&format!("person{contact}@example.org"));
        let leaves = event("unsubscribe", contact, fired_at, "&data%5Breason%5D=%00");
        assert_eq!(import_mailchimp(&mut crm, &leaves), "1|1|0|0");
    }
    assert_eq!(
        crm.rows("SELECT id FROM crm.contacts WHERE marketing_opt_in ORDER BY id"),
        ["2", "10"],
        "{}",
        crm.report()
    );
}

#[test]
fn events_of_another_portal_or_app_change_nothing() {
    let mut crm = in_step();
    crm.set("hubspot_on_remote_delete", "delete");
    let (webhook, event) = changed(&mut crm, "phone", "+49 theirs");
    let theirs = |number: u32, kind: &str, more: Value| {
        let mut fields = json!({"portalId": 999, "eventId": number, "subscriptionType": kind});
        let more = more.as_object().cloned().unwrap();
        fields.as_object_mut().unwrap().extend(more);
        like(&event, fields)
    };
    let id = event["objectId"].clone();
    let events = [
        theirs(1, "contact.propertyChange", json!({})),
        theirs(2, "contact.deletion", json!({})),
        theirs(3, "contact.privacyDeletion", json!({})),
        theirs(
            4,
            "contact.merge",
            json!({"primaryObjectId": id, "mergedObjectIds": [id], "newObjectId": 77}),
        ),
        theirs(
            5,
            "contact.propertyChange",
            json!({"portalId": event["portalId"], "appId": 4711}),
        ),
    ];
    let body = format!("[{}]", events.join(","));
    let links = "SELECT record_key, remote_id FROM integration.link WHERE target = 'hubspot' ORDER BY record_key";
    let before = crm.rows(links);
    assert_eq!(import(&mut crm, &with_body(&webhook, body)), "5|5|0|0");
    crm.settle();
    let fates = crm.rows("SELECT DISTINCT state, detail FROM integration.inbox ORDER BY detail");
    assert_eq!(
        fates,
        [
            "ignored|of account 999, which is not ours",
            "ignored|of app 4711, which is not ours"
        ]
    );
    assert_eq!(crm.rows(links), before);
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM crm.contacts WHERE phone <> '+49 theirs'"),
        10
    );
    assert_eq!(
        crm.rows("SELECT target, count FROM integration.alert WHERE kind = 'foreign_events' AND cleared_at IS NULL"),
        ["hubspot|5"]
    );
    // Ours is another matter.
    import(&mut crm, &webhook);
    crm.settle();
    assert_eq!(
        crm.ask::<String>("SELECT phone FROM crm.contacts WHERE id = 4"),
        "+49 theirs"
    );
}

#[test]
fn events_wait_until_it_is_known_whose_account_is_ours() {
    let mut crm = in_step();
    let (webhook, event) = changed(&mut crm, "phone", "+49 ours");
    let theirs = like(
        &event,
        json!({"portalId": 999, "eventId": 9, "propertyValue": "+49 theirs"}),
    );
    crm.run("SELECT integration.pause('hubspot', 'nothing is asked there'); DELETE FROM integration._account WHERE target = 'hubspot'");
    crm.set("hubspot_app_id", "50780459");
    let body = format!("[{event},{theirs}]");
    import(&mut crm, &with_body(&webhook, body));
    wait_until("they are counted", SOON, || {
        let waiting = "SELECT inbox_pending FROM integration.status WHERE target = 'hubspot'";
        (crm.ask::<i64>(waiting) == 2).then_some(())
    });
    holds_for("they wait", Duration::from_millis(500), || {
        crm.ask::<i64>("SELECT count(*) FROM integration.inbox WHERE state = 'pending'") == 2
    });
    crm.run("SELECT integration.resume('hubspot')");
    crm.settle();
    assert_eq!(
        crm.ask::<String>("SELECT phone FROM crm.contacts WHERE id = 4"),
        "+49 ours",
        "{}",
        crm.report()
    );
    assert_eq!(
        crm.rows("SELECT state FROM integration.inbox ORDER BY id"),
        ["applied", "ignored"]
    );
}

#[test]
fn events_of_another_audience_opt_nobody_out() {
    let mut crm = in_step();
    let of = |kind: &str, more: &str| {
        format!(
            "type={kind}&fired_at=2026-11-23+10%3A15%3A00&data%5Blist_id%5D=ffffffffff&data%5Bemail%5D=person4%40example.org{more}"
        )
    };
    for body in [
        of("unsubscribe", ""),
        of("cleaned", "&data%5Breason%5D=hard"),
        of("profile", "&data%5Bmerges%5D%5BFNAME%5D=Theirs"),
    ] {
        assert_eq!(import_mailchimp(&mut crm, &body), "1|1|0|0");
    }
    assert_eq!(
        crm.rows("SELECT DISTINCT state, detail FROM integration.inbox"),
        ["ignored|of audience ffffffffff, which is not ours"]
    );
    assert_eq!(
        crm.rows("SELECT target, count FROM integration.alert WHERE kind = 'foreign_events' AND cleared_at IS NULL"),
        ["mailchimp|3"]
    );
    assert_eq!(
        crm.rows("SELECT first_name, marketing_opt_in FROM crm.contacts WHERE id = 4"),
        ["First 4|t"]
    );
    assert_eq!(
        crm.remote.status_of("person4@example.org"),
        Some(Status::Subscribed)
    );
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.suppression"),
        0
    );
}
