//! What people do with transactional mail: known by its record, and a matter of consent at times.

use integration_tests::{
    crm::Crm,
    remote::{MemberAction, Status, mandrill_webhook},
    sql::{quote_literal, refused},
};
use serde_json::{Value, json};

const URL: &str = "https://crm.example.com/webhooks/mandrill?tenant=7";
const KEY: &str = "mandrill-key-example";

/// Ten contacts on both sides, the even ones opted in.
fn in_step() -> Crm {
    let mut crm = Crm::start();
    crm.set("mandrill_webhook_key", KEY);
    crm.add_contacts(1, 10);
    crm.converges();
    crm
}

fn call(key: &str, events: &Value) -> String {
    let (body, signature) = mandrill_webhook(key, URL, events);
    call_with(&body, &signature)
}

fn call_with(body: &str, signature: &str) -> String {
    format!(
        "integration.import_mandrill_webhook({}, jsonb_build_object('X-Mandrill-Signature', {}), {})",
        quote_literal(body),
        quote_literal(signature),
        quote_literal(URL)
    )
}

/// Received, queued, duplicate, ignored.
fn import(crm: &mut Crm, events: &Value) -> String {
    let counts = crm
        .rows(&format!("SELECT * FROM {}", call(KEY, events)))
        .remove(0);
    crm.settle();
    counts
}

fn event(kind: &str, person: u32, ts: i64) -> Value {
    json!({
        "event": kind, "_id": format!("message-{person}"), "ts": ts,
        "msg": {"_id": format!("message-{person}"), "email": format!("Person{person}@example.org"), "subject": "Receipt"},
    })
}

#[test]
fn every_kind_of_event_is_noted_once() {
    let mut crm = in_step();
    let kinds = [
        "send",
        "deferral",
        "delivered",
        "soft_bounce",
        "open",
        "click",
        "reject",
    ];
    let events: Vec<Value> = kinds
        .iter()
        .zip(1_795_428_900..)
        .map(|(kind, ts)| {
            let mut event = event(kind, 4, ts);
            if *kind == "click" {
                event["url"] = json!("https://example.org/offer?a=1&b=2");
            }
            event
        })
        .collect();
    let events = Value::from(events);
    assert_eq!(import(&mut crm, &events), "7|7|0|0");
    assert_eq!(import(&mut crm, &events), "7|0|7|0");
    assert_eq!(
        crm.rows("SELECT source, record_key, origin, string_agg(kind, ' ' ORDER BY occurred_at) FROM integration.activity GROUP BY 1, 2, 3"),
        ["crm.contacts|4|mandrill|send deferral delivered bounce open click reject"]
    );
    assert_eq!(
        crm.rows("SELECT url, detail->>'message_id', detail->>'subject', occurred_at = to_timestamp(1795428905) FROM integration.activity WHERE kind = 'click'"),
        ["https://example.org/offer?a=1&b=2|message-4|Receipt|t"]
    );
    assert_eq!(
        crm.rows("SELECT detail->>'bounce' FROM integration.activity WHERE kind = 'bounce'"),
        ["soft"]
    );
    // The inbox forgets in time; what is told again after that is still stored once.
    crm.run("DELETE FROM integration.inbox");
    assert_eq!(import(&mut crm, &events), "7|7|0|0");
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.activity"),
        7
    );
    assert!(
        crm.ask::<bool>("SELECT bool_and(marketing_opt_in = (id % 2 = 0)) FROM crm.contacts"),
        "none of these is about consent"
    );
}

#[test]
fn bounce_complaint_and_unsubscribe_opt_out_everywhere() {
    let mut crm = in_step();
    let events = json!([
        event("hard_bounce", 2, 1_795_428_900),
        event("spam", 4, 1_795_428_901),
        event("unsub", 6, 1_795_428_902),
    ]);
    assert_eq!(import(&mut crm, &events), "3|3|0|0");
    crm.converges();
    assert_eq!(
        crm.rows("SELECT id FROM crm.contacts WHERE marketing_opt_in ORDER BY id"),
        ["8", "10"]
    );
    for person in [2, 4, 6] {
        let status = crm.remote.status_of(&format!("person{person}@example.org"));
        assert_eq!(status, Some(Status::Unsubscribed), "{person}");
    }
    assert_eq!(
        crm.rows("SELECT kind FROM integration.activity ORDER BY record_key"),
        ["bounce", "spam", "unsub"]
    );
    let log =
        "SELECT record_key, changed_by, from_status, to_status, reason FROM integration.consent_log
               WHERE from_status IS NOT NULL ORDER BY record_key, id";
    assert_eq!(
        crm.rows(log),
        [
            "2|mandrill|subscribed|cleaned|hard_bounce",
            "2|mandrill|subscribed|cleaned|NULL",
            "4|mandrill|subscribed|unsubscribed_by_member|spam",
            "4|mandrill|subscribed|unsubscribed_by_member|NULL",
            "6|mandrill|subscribed|unsubscribed_by_member|unsub",
            "6|mandrill|subscribed|unsubscribed_by_member|NULL",
        ]
    );
    // Told once more, about people who are opted out already.
    import(&mut crm, &json!([event("unsub", 4, 1_795_428_999)]));
    assert_eq!(crm.rows(log).len(), 6);
}

#[test]
fn opt_out_that_is_older_than_a_new_sign_up_changes_nothing() {
    let mut crm = in_step();
    let signs_up = MemberAction::Subscribe {
        merge_fields: [].into(),
    };
    crm.remote
        .member_does("person3@example.org", signs_up)
        .unwrap();
    let body = "type=subscribe&fired_at=2026-11-23+10%3A15%3A00&data[email]=person3%40example.org";
    crm.run(&format!(
        "SELECT integration.import_mailchimp_webhook('{body}', '{{}}', 'path-secret')"
    ));
    crm.settle();
    assert!(crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 3"));
    import(&mut crm, &json!([event("unsub", 3, 1_795_000_000)]));
    assert!(crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 3"));
    assert_eq!(crm.rows("SELECT kind FROM integration.activity"), ["unsub"]);
    import(&mut crm, &json!([event("unsub", 3, 1_795_500_000)]));
    assert!(!crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 3"));
}

#[test]
fn bounce_of_an_address_that_was_replaced_says_nothing_about_the_next() {
    let mut crm = in_step();
    crm.run("SELECT integration.pause('mailchimp', 'so that the link keeps the old address')");
    crm.run("UPDATE crm.contacts SET email = 'new4@example.org' WHERE id = 4");
    let (body, signature) =
        mandrill_webhook(KEY, URL, &json!([event("hard_bounce", 4, 1_795_428_900)]));
    crm.run(&format!("SELECT {}", call_with(&body, &signature)));
    crm.run("SELECT integration.resume('mailchimp')");
    crm.converges();
    assert!(crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 4"));
}

#[test]
fn people_are_found_in_the_table_only_by_an_index() {
    let mut crm = Crm::untracked(
        integration_tests::cluster::Cluster::shared(),
        integration_tests::remote::unlimited(),
    );
    crm.run("SELECT integration.track('crm.contacts', 'contact', targets => '{mailchimp}')");
    crm.set("mandrill_webhook_key", KEY);
    crm.add_contacts(1, 3);
    crm.settle();
    import(&mut crm, &json!([event("open", 3, 1_795_428_900)]));
    import(&mut crm, &json!([event("open", 77, 1_795_428_900)]));
    assert_eq!(
        crm.rows("SELECT state, detail FROM integration.inbox"),
        vec!["ignored|no CRM row is known under this address"; 2]
    );
    crm.run("CREATE INDEX ON crm.contacts (lower(email))");
    import(&mut crm, &json!([event("open", 3, 1_795_428_901)]));
    assert_eq!(
        crm.rows("SELECT record_key, kind FROM integration.activity"),
        ["3|open"]
    );
}

#[test]
fn list_changes_are_no_activity() {
    let mut crm = in_step();
    let change = json!([{"type": "denylist", "action": "add", "ts": 1_795_428_900, "reject": {"email": "person4@example.org"}}]);
    assert_eq!(import(&mut crm, &change), "1|1|0|0");
    assert_eq!(
        crm.rows("SELECT state, detail FROM integration.inbox"),
        ["ignored|denylist is no event of a message"]
    );
}

#[test]
fn signature_decides() {
    let mut crm = Crm::start();
    let one = json!([event("open", 4, 1_795_428_900)]);
    // A new address is tried out before there is a key.
    assert_eq!(
        crm.rows(&format!(
            "SELECT * FROM {}",
            call("test-webhook", &json!([]))
        )),
        ["0|0|0|0"]
    );
    let refusal = |crm: &mut Crm, call: &str| {
        let error = refused(&mut crm.client, &format!("SELECT {call}"));
        assert!(error.hint().is_some(), "{error:?}");
        error.code().code().to_owned()
    };
    assert_eq!(refusal(&mut crm, &call(KEY, &one)), "F0000");
    crm.set("mandrill_webhook_key", KEY);
    let vector = "SELECT * FROM integration.import_mandrill_webhook('mandrill_events=[]', \
                  '{\"x-mandrill-signature\": \"xAPFWTQc+gc7UGtQ6dcOSooJ9Og=\"}', 'https://hooks.example.com/mandrill?tenant=7')";
    assert_eq!(crm.rows(vector), ["0|0|0|0"]);
    let elsewhere = vector.replace("tenant=7", "tenant=8");
    let (body, signature) = mandrill_webhook(KEY, URL, &one);
    let forged = body.replace("open", "spam");
    for bad in [
        call("test-webhook", &one),
        call("another key", &one),
        call("another key", &json!([])),
        call_with(&forged, &signature),
        call_with(&body, "not base64!"),
        call_with(&body, ""),
        call_with(&body, &signature).replace("X-Mandrill", "X-Other"),
        elsewhere.replace("SELECT * FROM ", ""),
    ] {
        assert_eq!(refusal(&mut crm, &bad), "28000", "{bad}");
    }
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.inbox"), 0);
    let accepted = crm.rows(&format!("SELECT queued FROM {}", call(KEY, &one)));
    assert_eq!(accepted, ["1"]);
}

#[test]
fn hostile_bodies_are_refused_with_the_reason() {
    let mut crm = Crm::start();
    crm.set("mandrill_webhook_key", KEY);
    let bodies = [
        ("data[merges][A]=1&".repeat(10_000), "more than 2000 fields"),
        (
            format!("type=profile&data{}=1", "[x]".repeat(50_000)),
            "nested more than",
        ),
        (format!("type=profile&{}=1", "[".repeat(50_000)), "brackets"),
        ("type=profile&data[email]=%zz".to_owned(), "percent sign"),
        ("type=profile&data[email]=%C3%28".to_owned(), "not UTF-8"),
        (
            format!("type=profile&data[email]={}", "a".repeat(10 << 20)),
            "bytes; at most",
        ),
        (String::new(), "no readable type"),
    ];
    for (body, why) in &bodies {
        let body = quote_literal(body);
        let sql =
            format!("SELECT integration.import_mailchimp_webhook({body}, '{{}}', 'path-secret')");
        let error = refused(&mut crm.client, &sql);
        assert_eq!(error.code().code(), "22023", "{why}: {error:?}");
        let detail = error.detail().unwrap_or_default();
        assert!(detail.contains(why) && detail.len() < 400, "{detail}");
        let sql = format!(
            "SELECT {}",
            call_with(&body[1..body.len() - 1], "c2lnbmF0dXJl")
        );
        let code = refused(&mut crm.client, &sql).code().code().to_owned();
        assert!(["22023", "28000"].contains(&code.as_str()), "{why}: {code}");
    }
    for events in [json!({}), json!(vec![json!({"event": "open"}); 1_001])] {
        let error = refused(&mut crm.client, &format!("SELECT {}", call(KEY, &events)));
        assert_eq!(error.code().code(), "22023", "{error:?}");
    }
    // What is no event is passed over.
    let counts = crm.rows(&format!("SELECT * FROM {}", call(KEY, &json!([1, {}]))));
    assert_eq!(counts, ["2|0|0|2"]);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.inbox"), 0);
}
