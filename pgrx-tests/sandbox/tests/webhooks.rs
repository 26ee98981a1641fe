//! Webhooks: who caused them, how many to a request, and delivery by HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use common::{hubspot, mailchimp};
use integration_sandbox::{
    Config, MemberAction, ObjectType, Sandbox, Service, Subscriptions, signature_v3,
};
use serde_json::{Value, json};

fn events(sandbox: &Sandbox) -> Vec<Value> {
    let deliveries = sandbox.take_webhooks();
    let hubspot = deliveries
        .iter()
        .filter(|delivery| delivery.service == Service::HubSpot);
    hubspot
        .flat_map(|delivery| serde_json::from_str::<Vec<Value>>(&delivery.body).unwrap())
        .collect()
}

#[test]
fn echoes_and_people_are_told_apart() {
    let sandbox = Sandbox::start(Config::default());
    hubspot(
        &sandbox,
        "POST",
        "/crm/v3/objects/contacts",
        r#"{"properties":{"email":"a@example.com"}}"#,
    );
    let echoes = events(&sandbox);
    assert!(
        echoes
            .iter()
            .all(|event| event["changeSource"] == "INTEGRATION" && event["sourceId"] == "50780459")
    );
    let id = sandbox.records(ObjectType::Contact)[0].id;
    sandbox
        .set_property(ObjectType::Contact, id, "phone", "1")
        .unwrap();
    let by_person = events(&sandbox);
    assert_eq!(by_person.len(), 1);
    assert_eq!(by_person[0]["changeSource"], "CRM_UI");
    assert_eq!(
        (
            &by_person[0]["propertyName"],
            &by_person[0]["propertyValue"]
        ),
        (&json!("phone"), &json!("1"))
    );
    // A save that changes nothing is no event.
    sandbox
        .set_property(ObjectType::Contact, id, "phone", "1")
        .unwrap();
    assert!(events(&sandbox).is_empty());
}

#[test]
fn at_most_a_hundred_events_and_only_those_subscribed_to() {
    let mut config = Config::default();
    config.hubspot.subscriptions =
        Subscriptions::Only(vec!["contact.propertyChange:email".to_owned()]);
    let sandbox = Sandbox::start(config);
    for number in 0..150 {
        let email = format!("p{number}@example.com");
        sandbox
            .create_record(ObjectType::Contact, &[("email", &email), ("city", "Ulm")])
            .unwrap();
    }
    let deliveries = sandbox.take_webhooks();
    let sizes: Vec<_> = deliveries
        .iter()
        .map(|d| serde_json::from_str::<Vec<Value>>(&d.body).unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 50]);
}

#[test]
fn mailchimp_tells_of_api_changes_only_if_asked() {
    let mut config = Config::default();
    let bulk = r#"{"members":[{"email_address":"a@example.com","status":"subscribed"}]}"#;
    let quiet = Sandbox::start(config.clone());
    mailchimp(&quiet, "POST", "/lists/{list}", bulk);
    assert!(quiet.take_webhooks().is_empty());
    quiet
        .member_does("a@example.com", MemberAction::Unsubscribe { abuse: false })
        .unwrap();
    assert!(
        quiet.take_webhooks()[0]
            .body
            .starts_with("type=unsubscribe&")
    );
    config.mailchimp.webhook.as_mut().unwrap().api = true;
    let loud = Sandbox::start(config);
    mailchimp(&loud, "POST", "/lists/{list}", bulk);
    assert!(loud.take_webhooks()[0].body.starts_with("type=subscribe&"));
}

#[test]
fn webhooks_are_posted_and_repeated_until_taken() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::default();
    config.hubspot.webhook_uri =
        format!("http://{}/hooks?tenant=7", receiver.local_addr().unwrap());
    config.hubspot.webhook_post = true;
    config.hubspot.subscriptions = Subscriptions::Only(vec!["contact.creation".to_owned()]);
    let sandbox = Sandbox::start(config.clone());
    sandbox
        .create_record(ObjectType::Contact, &[("email", "a@example.com")])
        .unwrap();
    for status in ["500 Internal Server Error", "200 OK"] {
        let (mut stream, _) = receiver.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        let header = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let mut body = vec![0; header("content-length: ").parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(head.starts_with("POST /hooks?tenant=7 HTTP/1.1"));
        let timestamp = header("x-hubspot-request-timestamp: ");
        let expected = signature_v3(
            &config.hubspot.client_secret,
            "POST",
            &config.hubspot.webhook_uri,
            &body,
            &timestamp,
        );
        assert_eq!(header("x-hubspot-signature-v3: "), expected);
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}
