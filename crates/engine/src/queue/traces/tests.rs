use proptest::prelude::*;

use super::*;
use crate::sync::clock::FieldClock;

const NOW: Timestamp = Timestamp(5);

/// Fields 1 to 4 are columns 11 to 14, field 5 is computed, 6 is an address.
fn fields() -> Vec<Watched> {
    let watched = |field, number, returns| Watched {
        field: FieldId(field),
        number,
        returns,
    };
    let plain = (1..=4).map(|field| watched(field, Some(10 + field), true));
    plain
        .chain([watched(5, None, true), watched(6, Some(16), false)])
        .collect()
}

/// Agreed on: everything but field 4.
fn clock() -> FieldClock {
    let mut clock = FieldClock::default();
    for field in [0, 1, 2, 3, 5, 6] {
        clock.set(Tick {
            field: FieldId(field),
            hash: ValueHash(7),
            at: Timestamp(1),
            by: Writer::Crm,
        });
    }
    clock
}

fn columns(numbers: &[i16]) -> Option<Rc<[u8]>> {
    let mut set = vec![0; 3];
    for number in numbers {
        set[*number as usize / 8] |= 1 << (*number % 8);
    }
    Some(set.into())
}

fn doubted(changes: &[Traces]) -> Vec<i16> {
    let mut traces = changes[0].clone();
    changes[1..].iter().for_each(|more| traces.join(more));
    let doubts = traces.doubts(&clock(), &fields(), NOW);
    assert!(
        doubts
            .iter()
            .all(|tick| tick.hash == ValueHash::UNCERTAIN && tick.at == NOW)
    );
    doubts.iter().map(|tick| tick.field.0).collect()
}

#[test]
fn what_is_in_doubt_follows_from_what_is_queued() {
    let update = |inherited, numbers: &[i16]| Traces::new(inherited, false, columns(numbers));
    let insert = |inherited| Traces::new(inherited, false, None);
    let delete = |inherited| Traces::new(inherited, true, None);
    let cases: [(&str, Vec<Traces>, &[i16]); 12] = [
        (
            "a change of this worker's days",
            vec![update(false, &[11])],
            &[],
        ),
        (
            "several of them",
            vec![update(false, &[11]), update(false, &[12])],
            &[],
        ),
        ("a change from before", vec![update(true, &[11])], &[1]),
        ("a field never agreed on", vec![update(true, &[14])], &[4]),
        (
            "both from before",
            vec![update(true, &[11]), update(true, &[12])],
            &[1, 2, 5],
        ),
        (
            "the second one is new",
            vec![update(true, &[11]), update(false, &[12])],
            &[1, 2, 5],
        ),
        ("an insert or a retry alone", vec![insert(true)], &[]),
        (
            "and what was changed since",
            vec![insert(true), update(false, &[13])],
            &[3, 5],
        ),
        (
            "whichever is read first",
            vec![update(false, &[13]), insert(true)],
            &[3, 5],
        ),
        (
            "the row is another one",
            vec![delete(true), insert(true)],
            &[0, 1, 2, 3, 5],
        ),
        (
            "and had another address",
            vec![update(true, &[16]), delete(true), insert(false)],
            &[0, 1, 2, 3, 5, 6],
        ),
        ("columns nobody watches", vec![update(true, &[3, 20])], &[]),
    ];
    for (case, changes, expected) in cases {
        assert_eq!(doubted(&changes), expected, "{case}");
    }
}

#[test]
fn what_arrived_is_in_doubt_no_more() {
    let doubts = Traces::new(true, false, columns(&[11, 12])).doubts(&clock(), &fields(), NOW);
    let arrived = [doubts[0]];
    assert_eq!(but_for(doubts.clone(), &arrived), doubts[1..]);
    assert_eq!(but_for(doubts.clone(), &[]), doubts);
}

fn traces() -> impl Strategy<Value = Traces> {
    let numbers = prop::option::of(prop::collection::vec(0_i16..24, 0..4));
    (any::<bool>(), any::<bool>(), numbers).prop_map(|(inherited, gone, numbers)| {
        Traces::new(
            inherited,
            gone,
            numbers.and_then(|numbers| columns(&numbers)),
        )
    })
}

proptest! {
    /// In whichever order changes are read, the same is in doubt; more of them never make it less.
    #[test]
    fn order_does_not_matter_and_nothing_is_forgotten(
        changes in prop::collection::vec(traces(), 1..6).prop_shuffle(),
    ) {
        let mut reversed = changes.clone();
        reversed.reverse();
        prop_assert_eq!(doubted(&changes), doubted(&reversed));
        let all = doubted(&changes);
        for some in 1..changes.len() {
            prop_assert!(doubted(&changes[..some]).iter().all(|field| all.contains(field)));
        }
        prop_assert!(changes.iter().any(Traces::is_inherited) || all.is_empty());
    }
}
