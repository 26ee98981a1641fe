use super::*;
use crate::record::kind::sample::CONTACT;
use crate::{
    delivery::outbound::plain::PlainCall,
    queue::{Change, Queue, traces::Traces},
    record::{Lane, Op, RecordKey, RecordRef, SourceId, Timestamp},
    service::plain::Plain,
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
        ticks: Vec::new(),
        remote_key: Some(ADDRESS.to_owned()),
        member_status: None,
        expected: None,
        intent: true,
        leaver: Leaver::No,
        batch_cap: 500,
        fragment: String::new(),
        beside: Default::default(),
        own: None,
    }
}

fn call(items: Vec<Item>) -> Call<Plain> {
    let kind = PlainCall {
        list: None,
        number: 0,
    };
    let sends = items.into_iter().map(|item| (kind.clone(), item)).collect();
    Plain::assemble(sends, &()).remove(0)
}

#[test]
fn creates_are_noted_call_by_call() {
    let mut intents = Intents::default();
    for _ in 0..2 {
        let other = Item {
            name: "b@example.com".to_owned(),
            ..item()
        };
        let mut call = call(vec![item(), other]);
        let mut flights = [flight("1", None), flight("2", None)];
        assert!(are_needed(&call, &flights));
        intents.note(&mut call, &mut flights);
        let group = intents.creates.last().unwrap();
        assert_eq!(group.len(), 2);
        for (entry, flight) in group.iter().zip(&flights) {
            assert_eq!(entry.link, Link::to_be(Some(ADDRESS.to_owned()), None));
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
fn calls_that_can_be_repeated_need_no_note() {
    let mut intents = Intents::default();
    let harmless = Item {
        intent: false,
        ..item()
    };
    let mut call = call(vec![harmless]);
    let mut flights = [flight("1", Some(Link::default()))];
    assert!(!are_needed(&call, &flights));
    intents.note(&mut call, &mut flights);
    assert!(intents.is_empty());
    assert_eq!(flights[0].link, Some(Link::default()));
}
