//! Each verdict, for each state of the record that makes a difference.

mod consent;
mod relink;
mod uncertain;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::record::kind::sample::{CONTACT, DEAL};
use crate::{
    delivery::{
        call::{Beside, Link},
        given::Given,
    },
    queue::{Change, Handle, Queue, traces::Traces},
    record::{
        Op, RecordKey, RecordRef, RemoteId, SourceId, consent::MemberStatus, mapping::FieldId,
    },
    sync::clock::{FieldClock, ValueHash, Writer},
};

const POLICY: Policy = Policy {
    base: Duration::from_secs(1),
    max: Duration::from_secs(900),
    max_attempts: 12,
};

const RULES: Rules = Rules {
    retry: &POLICY,
    recycles: false,
    now: Timestamp(50_000),
};

fn record() -> RecordRef {
    RecordRef {
        source: SourceId(1),
        key: RecordKey::from("7"),
    }
}

fn handle() -> Handle {
    let mut queue = Queue::<u8>::default();
    queue.push_retry(Change {
        record: record(),
        entity: CONTACT,
        lane: Lane::Live,
        changed_at: Timestamp(10_000),
        attempts: 0,
        traces: Traces::default(),
    });
    queue.take(1)[0]
}

fn flight(link: Option<Link>) -> InFlight {
    InFlight {
        handle: handle(),
        record: record(),
        entity: CONTACT,
        op: Op::Upsert,
        lane: Lane::Live,
        attempts: 0,
        rounds: 0,
        changed_at: Timestamp(10_000),
        link,
        list: None,
        identity: None,
        holder: None,
        doubts: Vec::new(),
    }
}

fn outcome(flight: InFlight, verdict: Verdict) -> Outcome {
    Outcome {
        flight,
        verdict,
        request: Some("{}".to_owned()),
        doubtful: Vec::new(),
        resting: false,
        beside: Beside::default(),
    }
}

fn effects_of(outcome: Outcome) -> Effects {
    let mut effects = Effects::default();
    settle(outcome, &RULES, 0.5, &mut effects);
    effects
}

fn settled(flight: InFlight, verdict: Verdict) -> Effects {
    effects_of(outcome(flight, verdict))
}

fn linked(id: &str) -> Link {
    Link {
        remote_id: Some(RemoteId::from(id)),
        ..Link::default()
    }
}

fn tick(field: i16, at: i64, by: Writer) -> Tick {
    Tick {
        field: FieldId(field),
        hash: ValueHash(9),
        at: Timestamp(at),
        by,
    }
}

fn delivered(id: Option<&str>) -> Verdict {
    Verdict::Delivered {
        remote_id: id.map(RemoteId::from),
        remote_key: None,
        member_status: None,
        ticks: Vec::new(),
        met: false,
    }
}

fn overruled() -> Verdict {
    Verdict::Overruled {
        remote_id: RemoteId::from("r1"),
        remote_key: None,
        ticks: Vec::new(),
        why: "kept".to_owned(),
    }
}

fn again(relink: Option<crate::delivery::outcome::Relink>) -> Verdict {
    Verdict::Again {
        relink,
        batch_cap: Some(3),
        why: "halved".to_owned(),
    }
}

fn retry(counted: bool, wait: Option<Duration>) -> Verdict {
    Verdict::Retry {
        why: "busy".to_owned(),
        status: Some(503),
        wait,
        counted,
    }
}

fn dead(member_status: Option<MemberStatus>) -> Verdict {
    Verdict::Dead {
        category: Category::Validation,
        status: Some(400),
        why: "refused".to_owned(),
        member_status,
    }
}

/// What of the effects names the record, a letter each: pushed, noted, unlinked, to be Retried,
/// done, withheld, Superseded, Dead letter.
fn names(effects: &Effects) -> String {
    let all = [
        ('p', effects.pushed.len()),
        ('n', effects.noted.len()),
        ('u', effects.unlinked.len()),
        ('R', effects.retries.len()),
        ('d', effects.done.len()),
        ('w', effects.withheld.len()),
        ('S', effects.superseded.len()),
        ('D', effects.dead_letters.len()),
    ];
    all.iter()
        .flat_map(|(name, count)| std::iter::repeat_n(*name, *count))
        .collect()
}

#[test]
fn each_verdict_has_its_effects() {
    let handle = handle();
    let leave = QueueStep::Leave(handle);
    let fresh = || flight(Some(linked("r1")));
    let tired = || InFlight {
        rounds: MOST_ROUNDS,
        ..fresh()
    };
    let patient = || InFlight {
        attempts: POLICY.max_attempts - 1,
        ..fresh()
    };
    let cases = [
        (fresh(), delivered(Some("r1")), false, leave, "pdS"),
        (flight(None), delivered(Some("r1")), false, leave, "pdS"),
        (fresh(), overruled(), false, leave, "pdSD"),
        (fresh(), Verdict::Unchanged, false, leave, "dS"),
        (fresh(), Verdict::NoConsent, false, leave, "dS"),
        (fresh(), Verdict::Withheld, false, leave, "w"),
        (fresh(), Verdict::Removed, false, leave, "udS"),
        (
            fresh(),
            again(None),
            false,
            QueueStep::Again(handle, Some(3)),
            "",
        ),
        (tired(), again(None), false, leave, "R"),
        (fresh(), retry(true, None), false, leave, "R"),
        (fresh(), retry(false, None), false, leave, "R"),
        (patient(), retry(true, None), false, leave, "dD"),
        (patient(), retry(false, None), false, leave, "R"),
        (
            fresh(),
            retry(true, None),
            true,
            QueueStep::PutBack(handle),
            "",
        ),
        (
            patient(),
            retry(true, None),
            true,
            QueueStep::PutBack(handle),
            "",
        ),
        (fresh(), dead(None), false, leave, "dD"),
        (fresh(), dead(None), true, leave, "dD"),
    ];
    for (flight, verdict, resting, step, expected) in cases {
        let case = format!("{verdict:?} after {} rounds", flight.rounds);
        let effects = effects_of(Outcome {
            resting,
            ..outcome(flight, verdict)
        });
        assert_eq!(effects.queue, [step], "{case}");
        assert_eq!(names(&effects), expected, "{case}");
    }
}

#[test]
fn opt_outs_keep_their_lane_and_all_else_becomes_a_retry() {
    let cases = [
        (Lane::OptOut, Lane::OptOut),
        (Lane::Live, Lane::Retry),
        (Lane::Retry, Lane::Retry),
        (Lane::Backfill, Lane::Retry),
        (Lane::Reconcile, Lane::Retry),
    ];
    for (lane, expected) in cases {
        let flight = InFlight {
            lane,
            op: Op::Delete,
            ..flight(None)
        };
        let effects = settled(flight, retry(true, None));
        let [written] = &effects.retries[..] else {
            panic!("{lane:?}: {:?}", effects.retries);
        };
        assert_eq!((written.lane, written.op), (expected, Op::Delete));
        assert_eq!((written.attempts, written.wait_ms), (1, 500));
        assert_eq!(written.enqueued_at, Timestamp(10_000));
    }
}

#[test]
fn what_the_service_asked_for_is_waited_for() {
    let minute = Duration::from_mins(1);
    let effects = settled(flight(None), retry(false, Some(minute)));
    let [written] = &effects.retries[..] else {
        panic!("{:?}", effects.retries);
    };
    // A part of the back-off is added, for all that waited would come back together.
    assert_eq!((written.attempts, written.wait_ms), (0, 60_500));
}

#[test]
fn dead_letters_say_what_was_attempted_and_why() {
    let cases = [
        (0, retry(true, None), None),
        (11, retry(true, None), Some((Category::Exhausted, 12))),
        (4, dead(None), Some((Category::Validation, 5))),
        (0, overruled(), Some((Category::Validation, 1))),
    ];
    for (attempts, verdict, expected) in cases {
        let flight = InFlight {
            attempts,
            ..flight(None)
        };
        let letters = settled(flight, verdict).dead_letters;
        let found = letters
            .first()
            .map(|letter| (letter.category, letter.attempts));
        assert_eq!(found, expected);
        for letter in letters {
            assert_eq!(letter.attempted, Attempted::Write(Op::Upsert));
            assert_eq!(letter.request.as_deref(), Some("{}"));
            assert_eq!(letter.enqueued_at, Timestamp(10_000));
        }
    }
    let exhausted = InFlight {
        attempts: 11,
        ..flight(None)
    };
    let effects = settled(exhausted, retry(true, None));
    assert_eq!(
        effects.dead_letters[0].why,
        "given up after 12 attempts; the last one: busy"
    );
    let empty = Outcome {
        request: Some(String::new()),
        ..outcome(flight(None), dead(None))
    };
    assert_eq!(effects_of(empty).dead_letters[0].request, None);
}

#[test]
fn conflicts_name_the_record_that_has_what_is_wanted() {
    let other = RecordRef {
        key: RecordKey::from("8"),
        ..record()
    };
    let cases = [
        (Category::Conflict, Some(other.clone())),
        (Category::Conflict, None),
        (Category::Taken, Some(other.clone())),
        (Category::Validation, Some(other)),
    ];
    for (category, holder) in cases {
        let refused = Verdict::Dead {
            category,
            status: None,
            why: "it is another record's".to_owned(),
            member_status: None,
        };
        let flight = InFlight {
            holder: holder.clone(),
            ..flight(None)
        };
        let letters = settled(flight, refused).dead_letters;
        let expected = holder.filter(|_| category != Category::Validation);
        assert_eq!(letters[0].holder, expected, "{category:?}");
    }
}

#[test]
fn removed_records_are_kept_for_erasures_where_the_service_recycles_them() {
    let cases = [
        (true, CONTACT, Some("r1"), true),
        (true, CONTACT, None, false),
        (true, DEAL, Some("r1"), false),
        (false, CONTACT, Some("r1"), false),
    ];
    for (recycles, entity, id, kept) in cases {
        let mut effects = Effects::default();
        let flight = InFlight {
            entity,
            ..flight(id.map(linked))
        };
        let rules = Rules { recycles, ..RULES };
        settle(outcome(flight, Verdict::Removed), &rules, 0.0, &mut effects);
        let expected: Vec<_> = id
            .filter(|_| kept)
            .map(RemoteId::from)
            .into_iter()
            .collect();
        let found: Vec<_> = effects.archived.into_iter().map(|(_, id)| id).collect();
        assert_eq!(found, expected, "{recycles} {entity:?} {id:?}");
        assert_eq!(effects.unlinked, [record()]);
    }
}

#[test]
fn delivered_records_keep_what_the_answer_does_not_name() {
    let known = Link {
        remote_key: Some("a@b.c".to_owned()),
        ..linked("r1")
    };
    let cases = [
        (None, Some("r2"), Some("r2"), false),
        (Some(known.clone()), Some("r1"), Some("r1"), false),
        (Some(known.clone()), Some("r2"), Some("r2"), true),
        (Some(known.clone()), None, Some("r1"), false),
        (None, None, None, false),
    ];
    for (link, answered, id, readopted) in cases {
        let key = link.as_ref().and_then(|link| link.remote_key.clone());
        let effects = settled(flight(link), delivered(answered));
        let written = &effects.pushed[0].link;
        assert_eq!(written.remote_id.as_ref().map(RemoteId::as_str), id);
        assert_eq!(written.remote_key, key);
        assert_eq!(!effects.readopted.is_empty(), readopted, "{answered:?}");
    }
}

#[test]
fn delivered_fields_are_no_older_than_what_we_wrote_before() {
    let cases = [
        (None, 10_000, 10_000),
        (Some(tick(3, 8_000, Writer::Crm)), 10_000, 10_000),
        (Some(tick(3, 12_000, Writer::Crm)), 10_000, 12_000),
        (Some(tick(3, 12_000, Writer::Remote)), 10_000, 10_000),
    ];
    for (before, sent, expected) in cases {
        let mut clock = FieldClock::default();
        before.into_iter().for_each(|tick| clock.set(tick));
        let link = Link {
            clock,
            ..linked("r1")
        };
        let verdict = Verdict::Delivered {
            remote_id: None,
            remote_key: None,
            member_status: None,
            ticks: vec![tick(3, sent, Writer::Crm)],
            met: false,
        };
        let effects = settled(flight(Some(link)), verdict);
        let held = effects.pushed[0].link.clock.get(FieldId(3)).copied();
        assert_eq!(held, Some(tick(3, expected, Writer::Crm)), "{before:?}");
    }
}

#[test]
fn more_than_one_call_takes_is_sent_at_once_and_not_yet_done() {
    let given = Given {
        tags: vec!["vip".to_owned()],
        ..Given::default()
    };
    let more = Outcome {
        beside: Beside {
            given: Some(given.clone()),
            note: false,
            more: true,
        },
        ..outcome(flight(Some(linked("r1"))), delivered(None))
    };
    let effects = effects_of(more);
    assert_eq!(effects.queue, [QueueStep::Again(handle(), None)]);
    assert_eq!(names(&effects), "p");
    assert_eq!(effects.pushed[0].link.membership.given, given);
}

#[test]
fn doubtful_fields_are_noted_where_there_is_a_link_that_knows_them() {
    let sent = vec![tick(3, 10_000, Writer::Crm)];
    let doubtful = |link| Outcome {
        doubtful: sent.clone(),
        ..outcome(flight(link), retry(true, None))
    };
    assert_eq!(names(&effects_of(doubtful(None))), "R");
    let effects = effects_of(doubtful(Some(linked("r1"))));
    assert_eq!(names(&effects), "nR");
    let held = effects.noted[0].link.clock.get(FieldId(3));
    assert_eq!(held.map(|tick| tick.hash), Some(ValueHash::UNCERTAIN));
    // Noted before: there is nothing new to store.
    let known = effects.noted[0].link.clone();
    assert_eq!(names(&effects_of(doubtful(Some(known)))), "R");
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    let status = prop::option::of(prop_oneof![
        Just(MemberStatus::Subscribed),
        Just(MemberStatus::Pending),
        Just(MemberStatus::UnsubscribedByCrm),
        Just(MemberStatus::UnsubscribedByMember),
        Just(MemberStatus::Cleaned),
        Just(MemberStatus::Forgotten),
        Just(MemberStatus::Archived),
    ]);
    let wait = prop::option::of((0..200u64).prop_map(Duration::from_secs));
    prop_oneof![
        status.clone().prop_map(|member_status| Verdict::Delivered {
            remote_id: Some(RemoteId::from("r2")),
            remote_key: Some("a@b.c".to_owned()),
            member_status,
            ticks: Vec::new(),
            met: false,
        }),
        Just(overruled()),
        Just(Verdict::Unchanged),
        Just(Verdict::NoConsent),
        Just(Verdict::Withheld),
        Just(Verdict::Removed),
        prop::option::of(relink::any_relink()).prop_map(again),
        (any::<bool>(), wait).prop_map(|(counted, wait)| retry(counted, wait)),
        status.prop_map(dead),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever a record comes to, it leaves the flight exactly once; nothing is done that goes on,
    /// and nothing leaves the queue without a trace.
    #[test]
    fn every_record_ends_its_flight_once(
        verdict in any_verdict(),
        known in relink::any_link(),
        member in any::<bool>(),
        resting in any::<bool>(),
        rounds in 0..=MOST_ROUNDS,
        attempts in 0..POLICY.max_attempts,
    ) {
        let identity = member.then(|| Identity {
            list: "a1".to_owned(),
            address: Some("a@b.c".to_owned()),
            standing: None,
            renamed: false,
        });
        let flight = InFlight { rounds, attempts, identity, ..flight(known) };
        let effects = effects_of(Outcome { resting, ..outcome(flight, verdict.clone()) });
        let [step] = effects.queue[..] else {
            return Err(TestCaseError::fail(format!("{:?}", effects.queue)));
        };
        let left = matches!(step, QueueStep::Leave(_));
        let accounted = effects.done.len() + effects.withheld.len() + effects.retries.len();
        prop_assert_eq!(usize::from(left), accounted, "{:?}", verdict);
        prop_assert!(effects.superseded.len() <= effects.done.len());
        let told = matches!(&verdict, Verdict::Dead { member_status: Some(_), .. });
        prop_assert_eq!(effects.writebacks.len(), usize::from(told));
    }
}
