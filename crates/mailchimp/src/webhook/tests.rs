use serde_json::json;

use super::*;
use integration_engine::{
    event_order::EventOrder,
    value::form,
    webhook::{Accepted, accept},
};

const LIST: &str = "a6b5da1054";

fn body(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("fired_at", "2026-11-23 10:15:00");
    form.append_pair("data[list_id]", LIST);
    form.extend_pairs(fields);
    form.finish().into_bytes()
}

fn subject_of(fields: &[(&str, &str)]) -> MailchimpSubject {
    parse(&body(fields)).unwrap().subject
}

#[test]
fn every_kind_is_told_apart() {
    let list = || LIST.to_owned();
    let email = || "ada@example.com".to_owned();
    let address = ("data[email]", "ada@example.com");
    let cases = [
        (
            vec![("type", "subscribe"), address],
            MailchimpSubject::Subscribe {
                list: list(),
                email: email(),
            },
            Some(MemberStatus::Subscribed),
        ),
        (
            vec![
                ("type", "unsubscribe"),
                address,
                ("data[action]", "unsub"),
                ("data[reason]", "manual"),
                ("data[campaign_id]", "c"),
            ],
            MailchimpSubject::Unsubscribe {
                list: list(),
                email: email(),
                action: Some("unsub".into()),
                reason: Some("manual".into()),
                campaign: Some("c".into()),
            },
            Some(MemberStatus::UnsubscribedByMember),
        ),
        (
            vec![("type", "unsubscribe"), address, ("data[action]", "delete")],
            MailchimpSubject::Unsubscribe {
                list: list(),
                email: email(),
                action: Some("delete".into()),
                reason: None,
                campaign: None,
            },
            Some(MemberStatus::Archived),
        ),
        (
            vec![("type", "unsubscribe"), address],
            MailchimpSubject::Unsubscribe {
                list: list(),
                email: email(),
                action: None,
                reason: None,
                campaign: None,
            },
            Some(MemberStatus::UnsubscribedByMember),
        ),
        (
            vec![
                ("type", "profile"),
                address,
                ("data[merges][LNAME]", "King"),
            ],
            MailchimpSubject::Profile {
                list: list(),
                email: email(),
            },
            None,
        ),
        (
            vec![
                ("type", "upemail"),
                ("data[new_email]", "new@example.com"),
                ("data[old_email]", "ada@example.com"),
            ],
            MailchimpSubject::EmailChange {
                list: list(),
                old_email: email(),
                new_email: "new@example.com".into(),
            },
            None,
        ),
        (
            vec![("type", "cleaned"), address, ("data[reason]", "hard")],
            MailchimpSubject::Cleaned {
                list: list(),
                email: email(),
                reason: Some("hard".into()),
                campaign: None,
            },
            Some(MemberStatus::Cleaned),
        ),
        (
            vec![
                ("type", "campaign"),
                ("data[id]", "cb398d21d2"),
                ("data[status]", "sent"),
            ],
            MailchimpSubject::Campaign {
                list: list(),
                campaign: "cb398d21d2".into(),
                status: Some("sent".into()),
            },
            None,
        ),
        (
            vec![("type", "subscribe")],
            MailchimpSubject::Other("subscribe".into()),
            None,
        ),
        (
            vec![("type", "sms_subscribe"), address],
            MailchimpSubject::Other("sms_subscribe".into()),
            None,
        ),
    ];
    for (fields, expected, status) in cases {
        let subject = subject_of(&fields);
        assert_eq!(subject.member_status(), status, "{fields:?}");
        assert_eq!(subject, expected, "{fields:?}");
    }
}

#[test]
fn events_have_a_time_a_payload_and_a_key() {
    let fields = [
        ("type", "profile"),
        ("data[email]", "ada@example.com"),
        ("data[merges][ADDRESS][zip]", "1"),
    ];
    let event = parse(&body(&fields)).unwrap();
    assert_eq!(event.occurred_at, Timestamp(1_795_428_900_000));
    assert_eq!(event.payload["data"]["merges"]["ADDRESS"]["zip"], "1");
    assert_eq!(event, parse(&body(&fields)).unwrap());
    let other = [("type", "profile"), ("data[email]", "bob@example.com")];
    assert_ne!(event.event_key, parse(&body(&other)).unwrap().event_key);
    let timeless = parse(b"type=cleaned&data[email]=a%40b.co").unwrap();
    assert_eq!(timeless.occurred_at, Timestamp(0));
    let incomplete = WebhookError::Incomplete {
        position: 0,
        field: "type",
    };
    assert_eq!(parse(b""), Err(incomplete));
    assert!(matches!(parse(b"type=%"), Err(WebhookError::Form(_))));
}

#[test]
fn mandrill_sends_lists() {
    let events = r#"[{"event":"click","_id":"m1","ts":1795428900,"url":"https://example.com","msg":{"email":"ada@example.com"}},
        {"type":"denylist","action":"add","ts":1795428901,"reject":{"email":"bob@example.com"}}]"#;
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("mandrill_events", events)
        .finish();
    let events = parse_mandrill(body.as_bytes()).unwrap().into_iter();
    let events: Vec<_> = events.map(Result::unwrap).collect();
    assert_eq!(events[0].occurred_at, Timestamp(1_795_428_900_000));
    assert_eq!(
        events[0].event_key,
        "m1:click:1795428900:https://example.com::"
    );
    let second = &events[1].subject;
    assert_eq!(
        (second.event.as_str(), second.email.as_deref()),
        ("denylist", Some("bob@example.com"))
    );
    assert_eq!(parse_mandrill(b"mandrill_events=[]"), Ok(Vec::new()));
    assert!(parse_mandrill(b"x=1").is_err());
    let bare = parse_mandrill(b"mandrill_events=[{}]").unwrap().remove(0);
    assert!(matches!(bare, Err(WebhookError::Incomplete { .. })));
}

#[test]
fn merge_fields_are_found_whatever_they_hold() {
    let fields = [
        ("type", "profile"),
        ("data[merges][FNAME]", "Ada"),
        ("data[merges][LNAME]", ""),
        ("data[merges][ADDRESS][city]", "London"),
    ];
    let event = parse(&body(&fields)).unwrap();
    let expected = [
        ("ADDRESS", Some(r#"{"city":"London"}"#)),
        ("FNAME", Some("Ada")),
        ("LNAME", None),
    ]
    .map(|(tag, value)| (tag.to_owned(), value.map(str::to_owned)));
    assert_eq!(merges(&event.payload), expected);
    assert_eq!(merges(&serde_json::json!({"data": "x"})), []);
    assert_eq!(subject_of(&fields[..1]).list(), None);
}

#[test]
fn hostile_forms_are_refused_with_the_reason() {
    let fields = "data[merges][A]=1&".repeat(10_000);
    let deep = format!("type=profile&data{}=1", "[x]".repeat(50_000));
    let open = format!("type=profile&{}=1", "[".repeat(50_000));
    let huge = format!("type=profile&data[email]={}", "a".repeat(10 << 20));
    let bodies = [
        (fields.as_str(), "more than 2000 fields"),
        (deep.as_str(), "nested more than 4 levels"),
        (open.as_str(), "brackets of the name"),
        ("type=profile&data[email]=%zz", "percent sign"),
        ("type=profile&data[email]=%C3%28", "not UTF-8"),
        (huge.as_str(), "bytes; at most"),
    ];
    for (body, why) in bodies {
        let error = parse(body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.len() < 400, "the reason is short");
    }
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn mailchimp(kind: &str, fired_at: &str) -> Accepted<MailchimpSubject> {
    let body = format!("type={kind}&fired_at={fired_at}&data[email]=a%40b.co&data[list_id]=l");
    accept(parse(body.as_bytes()).unwrap(), NOW)
}

#[test]
fn opt_out_counts_whenever_it_is_said_to_have_happened() {
    let cases = [
        ("profile", "2026-13-45+00:00:00", false),
        ("profile", "1812-01-01+00:00:00", false),
        ("subscribe", "yesterday", false),
        ("unsubscribe", "2026-13-45+00:00:00", true),
        ("cleaned", "1812-01-01+00:00:00", true),
        // Nothing said is nothing wrong.
        ("profile", "", true),
    ];
    for (kind, fired_at, taken) in cases {
        let accepted = mailchimp(kind, fired_at);
        assert_eq!(accepted.refused.is_none(), taken, "{kind} {fired_at}");
        assert_eq!(accepted.event.occurred_at, NOW, "{kind} {fired_at}");
    }
    let body = b"type=subscribe&fired_at=2100-01-01+00:00:00&data[email]=a%40b.co";
    let event = parse(body).unwrap();
    let accepted = accept(event, Timestamp(NOW.0 + 999));
    assert_eq!(accepted.event.occurred_at, NOW, "in whole seconds");
}

#[test]
fn nul_is_replaced_and_refused() {
    let of = |kind: &str| {
        let body = format!("type={kind}&data[email]=a%40b.co&data[merges][FNAME]=%00");
        let event = parse(body.as_bytes()).unwrap();
        accept(event, NOW).refused.is_none()
    };
    assert_eq!((of("profile"), of("unsubscribe")), (false, true));
    let events = json!([{"event": "open", "ts": 1, "x": "\u{0}"}, {"event": "spam", "msg": {"email": "a@b.co\u{0}"}}]);
    let events = events.to_string();
    let mut body = form_urlencoded::Serializer::new(String::new());
    let body = body.append_pair("mandrill_events", &events).finish();
    assert!(form::pairs(body.as_bytes()).is_ok());
    let taken = parse_mandrill(body.as_bytes()).unwrap();
    let taken = taken.into_iter().map(|event| accept(event.unwrap(), NOW));
    let taken: Vec<bool> = taken.map(|event| event.refused.is_none()).collect();
    assert_eq!(taken, [false, true]);
}

#[test]
fn what_waits_for_what() {
    let mailchimp = |payload: Value| replay(&payload).claim();
    let of = |kind: &str, email: &str| {
        mailchimp(json!({"type": kind, "data": {"list_id": "l", "email": email}}))
    };
    let moved = mailchimp(
        json!({"type": "upemail", "data": {"list_id": "l", "old_email": "a@b.co", "new_email": "c@d.co"}}),
    );
    let cases = [
        (
            &of("subscribe", "A@b.co"),
            &of("unsubscribe", "a@b.co"),
            true,
        ),
        (
            &of("unsubscribe", "a@b.co"),
            &of("subscribe", "a@b.co"),
            true,
        ),
        (&of("unsubscribe", "a@b.co"), &of("profile", "a@b.co"), true),
        // Nobody's opt-out waits for a field.
        (
            &of("profile", "a@b.co"),
            &of("unsubscribe", "a@b.co"),
            false,
        ),
        (&of("profile", "a@b.co"), &of("cleaned", "a@b.co"), false),
        (&of("profile", "a@b.co"), &of("subscribe", "a@b.co"), true),
        // But for who it is about.
        (&moved, &of("unsubscribe", "c@d.co"), true),
        (&moved, &of("unsubscribe", "a@b.co"), true),
        (&moved, &of("unsubscribe", "e@f.co"), false),
    ];
    for (earlier, later, expected) in cases {
        let mut order = EventOrder::default();
        order.park((Timestamp(5), 1), earlier.clone());
        let waits = order.before((Timestamp(6), 2), later) == Some(1);
        assert_eq!(waits, expected, "{earlier:?} {later:?}");
    }
}
