use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;
use crate::record::RecordKey;
use crate::record::kind::sample::CONTACT;

fn change(key: u8, lane: Lane) -> Change {
    Change {
        record: RecordRef {
            source: SourceId(1 + i32::from(key) / 100),
            key: RecordKey::from(key.to_string()),
        },
        entity: CONTACT,
        lane,
        changed_at: Timestamp(i64::from(key)),
        attempts: 0,
        traces: Traces::default(),
    }
}

fn keys(queue: &Queue<u32>, handles: &[Handle]) -> Vec<String> {
    handles
        .iter()
        .map(|handle| {
            queue
                .record(*handle)
                .expect("taken")
                .key
                .as_str()
                .to_owned()
        })
        .collect()
}

#[test]
fn changes_of_a_record_fly_together() {
    let mut queue = Queue::default();
    queue.push_row(1, [change(7, Lane::Live)]);
    queue.push_row(2, [change(7, Lane::Live), change(8, Lane::Live)]);
    let taken = queue.take(10);
    assert_eq!(keys(&queue, &taken), ["7", "8"]);
    assert_eq!(queue.close(taken[0]).rows, [1]);
    assert_eq!(queue.close(taken[1]).rows, [2]);
    assert!(queue.is_empty());
}

#[test]
fn a_change_that_comes_in_flight_waits_for_its_own() {
    let mut queue = Queue::default();
    queue.push_row(1, [change(7, Lane::Live)]);
    let first = queue.take(10);
    queue.push_row(2, [change(7, Lane::Live)]);
    assert!(queue.take(10).is_empty(), "one flight a record");
    assert_eq!(queue.close(first[0]).rows, [1]);
    let second = queue.take(10);
    assert_eq!(queue.close(second[0]).rows, [2]);
}

#[test]
fn an_opt_out_overtakes() {
    let mut queue = Queue::default();
    queue.push_row(1, [change(1, Lane::Live), change(2, Lane::Live)]);
    queue.push_row(2, [change(2, Lane::OptOut)]);
    let taken = queue.take(10);
    assert_eq!(keys(&queue, &taken), ["2", "1"]);
}

#[test]
fn a_second_round_is_first_and_capped() {
    let mut queue = Queue::default();
    queue.push_row(1, [change(1, Lane::Live), change(2, Lane::Live)]);
    let taken = queue.take(1);
    queue.again(taken[0], Some(0));
    assert_eq!(queue.rounds(taken[0]), 1);
    let taken = queue.take(2);
    assert_eq!(keys(&queue, &taken), ["1", "2"]);
    assert_eq!(queue.batch_cap(taken[0]), 1);
    assert_eq!(queue.batch_cap(taken[1]), NO_CAP);
}

#[test]
fn live_changes_overtake_a_backfill() {
    let mut queue = Queue::default();
    let all = (1..=4).map(|key| change(key, Lane::Backfill));
    queue.push_row(1, all);
    queue.push_row(2, [change(4, Lane::Live), change(5, Lane::Live)]);
    let taken = queue.take(3);
    assert_eq!(keys(&queue, &taken), ["4", "5", "1"]);
    // Sent for both: the backfill does not send it again.
    assert_eq!(queue.close(taken[0]).rows, [0; 0]);
    assert_eq!(queue.close(taken[1]).rows, [2]);
    let rest = queue.take(9);
    assert_eq!(keys(&queue, &rest), ["2", "3"]);
}

#[test]
fn withdrawn_are_those_that_only_wait_in_that_lane() {
    let mut queue = Queue::default();
    queue.push_row(1, (1..=4).map(|key| change(key, Lane::Backfill)));
    let flying = queue.take(1);
    queue.push_row(2, [change(2, Lane::Live)]);
    queue.withdraw(Lane::Backfill, SourceId(9));
    assert_eq!(queue.len(), 4, "another source's");
    queue.withdraw(Lane::Backfill, SourceId(1));
    assert_eq!(queue.len(), 2);
    let live = queue.take(9);
    assert_eq!(keys(&queue, &live), ["2"]);
    assert_eq!(queue.close(live[0]).rows, [2]);
    assert_eq!(queue.close(flying[0]).rows, [1], "the last of its row");
    assert!(queue.is_empty());
}

#[test]
fn records_of_a_held_source_stay() {
    let mut queue = Queue::default();
    let other = |key| Change {
        record: RecordRef {
            source: SourceId(2),
            key: RecordKey::from(format!("{key}")),
        },
        ..change(key, Lane::Live)
    };
    queue.push_row(1, [change(1, Lane::Live), change(2, Lane::OptOut)]);
    queue.push_row(2, [other(3)]);
    let early = queue.take(1);
    assert!(queue.hold([SourceId(1)].into()).is_empty());
    assert_eq!((queue.ready(), queue.parked()), (1, 1));
    assert!(!queue.has_ready(Lane::OptOut) && !queue.has_any(Lane::OptOut));
    queue.put_back(early[0]);
    assert_eq!((queue.ready(), queue.parked()), (1, 2));
    let taken = queue.take(9);
    assert_eq!(keys(&queue, &taken), ["3"]);
    assert_eq!(queue.close(taken[0]).rows, [2], "the others go on");
    assert_eq!(queue.hold(HashSet::new()), [SourceId(1)]);
    let taken = queue.take(9);
    assert_eq!(keys(&queue, &taken), ["2", "1"]);
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u8>, bool),
    Retry(u8),
    Take(usize),
    Close(usize),
    Again(usize),
    PutBack(usize),
    /// The source, and whether it is held from here on.
    Hold(i32, bool),
}

/// Of two sources.
fn key() -> impl Strategy<Value = u8> {
    prop_oneof![0u8..8, 100u8..108]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (prop::collection::vec(key(), 1..6), any::<bool>())
            .prop_map(|(keys, urgent)| Step::Push(keys, urgent)),
        key().prop_map(Step::Retry),
        (1usize..8).prop_map(Step::Take),
        any::<usize>().prop_map(Step::Close),
        any::<usize>().prop_map(Step::Again),
        any::<usize>().prop_map(Step::PutBack),
        (1i32..3, any::<bool>()).prop_map(|(source, held)| Step::Hold(source, held)),
    ]
}

proptest! {
    /// Whatever happens: a record never flies twice at once, every pushed row comes back
    /// exactly once, and not before a flight that began after the push has been closed.
    #[test]
    fn every_row_comes_back_once_and_not_too_early(steps in prop::collection::vec(step(), 1..120)) {
        let mut queue: Queue<u32> = Queue::default();
        let mut waiting: BTreeMap<u32, BTreeSet<u8>> = BTreeMap::new();
        let mut carried: Vec<(Handle, u8, BTreeSet<u32>)> = Vec::new();
        let mut next_row = 0;
        let mut held = HashSet::new();
        let finish = steps.len();
        let release = [Step::Hold(1, false), Step::Hold(2, false)];
        let all = steps.into_iter().chain(release).chain((0..400).map(|i| if i % 2 == 0 { Step::Take(50) } else { Step::Close(0) }));
        for (number, step) in all.enumerate() {
            match step {
                Step::Push(keys, urgent) => {
                    let lane = if urgent { Lane::OptOut } else { Lane::Live };
                    queue.push_row(next_row, keys.iter().map(|key| change(*key, lane)));
                    waiting.insert(next_row, keys.into_iter().collect());
                    next_row += 1;
                }
                Step::Retry(key) => queue.push_retry(change(key, Lane::Retry)),
                Step::Take(most) => {
                    for handle in queue.take(most) {
                        let record = queue.record(handle).expect("taken");
                        let key: u8 = record.key.as_str().parse().expect("a number");
                        prop_assert!(!held.contains(&record.source), "{key} is held");
                        prop_assert!(carried.iter().all(|(_, other, _)| *other != key), "two flights of {key}");
                        let rows = waiting.iter().filter(|(_, keys)| keys.contains(&key)).map(|(row, _)| *row).collect();
                        carried.push((handle, key, rows));
                    }
                }
                Step::Close(_) if carried.is_empty() => {}
                Step::Close(index) => {
                    let at = if number >= finish { 0 } else { index % carried.len() };
                    let (handle, key, rows) = carried.swap_remove(at);
                    let closed = queue.close(handle).rows;
                    for row in rows {
                        if let Some(open) = waiting.get_mut(&row) { open.remove(&key); }
                    }
                    for row in closed {
                        prop_assert_eq!(waiting.remove(&row), Some(BTreeSet::new()), "row {} came back too early", row);
                    }
                    prop_assert!(waiting.values().all(|open| !open.is_empty()), "a row was kept");
                }
                Step::Again(index) | Step::PutBack(index) if !carried.is_empty() => {
                    let (handle, ..) = carried.swap_remove(index % carried.len());
                    queue.again(handle, None);
                }
                Step::Again(_) | Step::PutBack(_) => {}
                Step::Hold(source, on) => {
                    match on {
                        true => held.insert(SourceId(source)),
                        false => held.remove(&SourceId(source)),
                    };
                    queue.hold(held.clone());
                }
            }
            prop_assert_eq!(queue.flying(), carried.len());
            let (retried, retried_flying) = queue.retried();
            prop_assert!(retried_flying <= queue.flying());
            prop_assert!(retried - retried_flying <= queue.ready() + queue.parked());
            let waits = waiting.values().flatten().collect::<BTreeSet<_>>();
            let parked = waits.iter().filter(|key| held.contains(&SourceId(1 + i32::from(***key) / 100)) && carried.iter().all(|(_, other, _)| other != **key));
            prop_assert!(parked.count() <= queue.parked());
        }
        prop_assert!(waiting.is_empty() && queue.is_empty());
        prop_assert_eq!(queue.retried(), (0, 0));
    }
}
