//! What is noted of members before calls leave.

use super::*;
use integration_engine::{
    consent::{
        membership::Membership,
        standing::{EVERYWHERE, News, Remembered},
    },
    delivery::{
        call::{Beside, Leaver},
        given::Given,
        intents::{Intents, are_needed},
        settlement::InFlight,
    },
    queue::{Change, Queue, traces::Traces},
    record::{Lane, Op, RecordKey, RecordRef},
    wire::{Method, Request},
};

const ADDRESS: &str = "a@example.com";

fn flight(key: &str, link: Option<Link>) -> InFlight {
    let mut queue = Queue::<u8>::default();
    let change = Change {
        record: RecordRef {
            source: SourceId(1),
            key: RecordKey::from(key),
        },
        entity: CONTACT,
        lane: Lane::Live,
        changed_at: Timestamp(10_000),
        attempts: 0,
        traces: Traces::default(),
    };
    queue.push_retry(change.clone());
    InFlight::of(queue.take(1)[0], 0, &change, Op::Upsert, link, &[])
}

fn item() -> Item {
    Item {
        work: 0,
        name: ADDRESS.to_owned(),
        ticks: vec![Tick {
            field: FieldId(3),
            hash: ValueHash(7),
            at: Timestamp(10_000),
            by: Writer::Crm,
        }],
        remote_key: Some(ADDRESS.to_owned()),
        member_status: None,
        expected: None,
        intent: true,
        leaver: Leaver::No,
        batch_cap: 500,
        fragment: String::new(),
        beside: Beside::default(),
        own: None,
    }
}

fn call(items: Vec<Item>) -> Call {
    Call {
        kind: bulk(),
        request: Request {
            target: Target::Mailchimp,
            method: Method::Post,
            path: String::new(),
            body: None,
        },
        items,
    }
}

fn bulk() -> MailchimpCall {
    MailchimpCall::Bulk {
        list: "a1".to_owned(),
    }
}

fn member() -> Link {
    Link {
        remote_id: Some(RemoteId::from("c1")),
        remote_key: Some(ADDRESS.to_owned()),
        member_status: Some(MemberStatus::Subscribed),
        membership: Membership::of("a1"),
        ..Link::default()
    }
}

#[test]
fn creates_are_noted_call_by_call() {
    let mut intents = Intents::default();
    for _ in 0..2 {
        let mut call = call(vec![item(), item()]);
        let mut flights = [flight("1", None), flight("2", None)];
        assert!(are_needed(&call, &flights));
        intents.note(&mut call, &mut flights);
        let group = intents.creates.last().unwrap();
        assert_eq!(group.len(), 2);
        for (entry, flight) in group.iter().zip(&flights) {
            let to_be = Link::to_be(Some(ADDRESS.to_owned()), Some("a1".to_owned()));
            assert_eq!(entry.link, to_be);
            // What the answer is settled by is what has been stored.
            assert_eq!(flight.link.as_ref(), Some(&entry.link));
            assert_eq!(flight.record, entry.record);
        }
        // Nothing is noted twice.
        assert!(!are_needed(&call, &flights));
        let before = intents.creates.len();
        intents.note(&mut call, &mut flights);
        assert_eq!(intents.creates.len(), before);
    }
    assert_eq!(intents.creates.len(), 2);
    assert!(intents.noted.is_empty() && !intents.is_empty());
}

#[test]
fn members_are_noted_as_uncertain() {
    let mut intents = Intents::default();
    let mut call = call(vec![item()]);
    let mut flights = [flight("1", Some(member()))];
    intents.note(&mut call, &mut flights);
    assert!(intents.creates.is_empty() && intents.asked.is_empty());
    let expected = Link {
        member_status: None,
        ..member()
    };
    assert_eq!(intents.noted[0].link, expected);
    assert_eq!(flights[0].link, Some(expected));
}

#[test]
fn calls_that_can_be_repeated_need_no_note() {
    let mut intents = Intents::default();
    let harmless = Item {
        intent: false,
        ..item()
    };
    let mut call = call(vec![harmless]);
    let mut flights = [flight("1", Some(member()))];
    assert!(!are_needed(&call, &flights));
    intents.note(&mut call, &mut flights);
    assert!(intents.is_empty());
    assert_eq!(flights[0].link, Some(member()));
}

#[test]
fn what_is_given_is_noted_before_it_can_be_taken_back() {
    let vip = Given {
        tags: vec!["vip".to_owned()],
        ..Given::default()
    };
    let giving = Item {
        intent: false,
        beside: Beside {
            given: Some(vip.clone()),
            note: true,
            more: false,
        },
        ..item()
    };
    let mut intents = Intents::default();
    let mut call = call(vec![giving]);
    let mut flights = [flight("1", Some(member()))];
    intents.note(&mut call, &mut flights);
    let noted = &intents.noted[0].link;
    assert_eq!(noted.membership.given, vip);
    assert_eq!(noted.member_status, Some(MemberStatus::Subscribed));
    let held = noted.clock.get(FieldId(3)).map(|tick| tick.hash);
    assert_eq!(held, Some(ValueHash::UNCERTAIN));
    assert!(!call.items[0].beside.note);
}

#[test]
fn who_is_asked_is_remembered_in_every_audience_they_know_of() {
    let mut moved = member();
    moved.membership.former = vec!["b2".to_owned()];
    let cases = [
        (None, vec!["a1", EVERYWHERE]),
        (Some(moved), vec!["a1", EVERYWHERE, "b2"]),
    ];
    for (link, lists) in cases {
        let asking = Item {
            leaver: Leaver::Asked,
            ..item()
        };
        let mut intents = Intents::default();
        let mut call = call(vec![asking]);
        intents.note(&mut call, &mut [flight("1", link)]);
        let asked = intents.asked.iter();
        let found: Vec<&str> = asked.map(|asked| asked.list.as_str()).collect();
        assert_eq!(found, lists);
        let asked = |asked: &Remembered| (asked.address == ADDRESS) && asked.news == News::Asked;
        assert!(intents.asked.iter().all(asked));
    }
}
