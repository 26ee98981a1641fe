use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;
const MOST: (usize, usize) = (8, 500);

fn end(now: u64, strain: Strain) -> Finished {
    Finished {
        now,
        took: SECOND / 2,
        beside: 8,
        records: 500,
        strain,
    }
}

/// Good answers until nothing changes any more, one each tenth of a second from `now`.
fn recovered(concurrency: &mut Concurrency, mut now: u64, answers: usize) -> Vec<usize> {
    let mut levels = vec![concurrency.requests(MOST.0)];
    for _ in 0..answers {
        now += SECOND / 10;
        let beside = concurrency.requests(MOST.0);
        concurrency.note(
            &Finished {
                beside,
                ..end(now, Strain::None)
            },
            MOST,
        );
        if levels.last() != Some(&concurrency.requests(MOST.0)) {
            levels.push(concurrency.requests(MOST.0));
        }
    }
    levels
}

#[test]
fn all_is_allowed_at_first() {
    let mut concurrency = Concurrency::default();
    assert_eq!((concurrency.requests(8), concurrency.records(500)), MOST);
    concurrency.note(&end(SECOND, Strain::None), MOST);
    assert_eq!((concurrency.requests(8), concurrency.records(500)), MOST);
    assert_eq!(concurrency.held_back(MOST), None);
}

#[test]
fn refused_together_is_refused_once() {
    let mut concurrency = Concurrency::default();
    for _ in 0..4 {
        concurrency.note(&end(10 * SECOND, Strain::Crowded), MOST);
    }
    assert_eq!(concurrency.requests(8), 4);
    assert_eq!(
        concurrency.records(500),
        500,
        "large calls were not the trouble"
    );
    assert_eq!(
        concurrency.held_back(MOST).unwrap(),
        "at most 4 of 8 requests at once for now"
    );
    // One sent since then.
    let later = Finished {
        beside: 4,
        ..end(11 * SECOND, Strain::Crowded)
    };
    concurrency.note(&later, MOST);
    assert_eq!(concurrency.requests(8), 2);
    for second in 12..20 {
        let later = Finished {
            beside: 2,
            ..end(second * SECOND, Strain::Crowded)
        };
        concurrency.note(&later, MOST);
        assert_eq!(concurrency.requests(8), 1);
    }
}

#[test]
fn it_comes_back_step_by_step_and_waits_below_what_was_too_much() {
    let mut concurrency = Concurrency::default();
    concurrency.note(&end(SECOND, Strain::Crowded), MOST);
    // 4, 5 and 6 good answers for a step each.
    assert_eq!(recovered(&mut concurrency, SECOND, 15), [4, 5, 6, 7]);
    assert_eq!(
        recovered(&mut concurrency, 3 * SECOND, 70),
        [7],
        "8 were too much"
    );
    assert_eq!(recovered(&mut concurrency, 11 * SECOND, 1), [7, 8]);
    // Too much again: it is patient for longer.
    concurrency.note(&end(12 * SECOND, Strain::Crowded), MOST);
    assert_eq!(recovered(&mut concurrency, 13 * SECOND, 70), [4, 5, 6, 7]);
    assert_eq!(recovered(&mut concurrency, 40 * SECOND, 1), [7, 8]);
}

#[test]
fn slow_calls_shrink_and_grow_back() {
    let mut concurrency = Concurrency::default();
    let slow = |now, records| Finished {
        took: 130 * SECOND,
        records,
        ..end(now, Strain::Slow)
    };
    concurrency.note(&slow(130 * SECOND, 500), MOST);
    concurrency.note(&slow(131 * SECOND, 500), MOST);
    assert_eq!(
        (concurrency.requests(8), concurrency.records(500)),
        (4, 250),
        "sent together"
    );
    assert_eq!(
        concurrency.held_back(MOST).unwrap(),
        "at most 4 of 8 requests at once, 250 of 500 records in a call for now"
    );
    for (round, expected) in [(2, 125), (3, 62), (4, 31), (5, 15), (6, 10), (7, 10)] {
        concurrency.note(&slow(round * 300 * SECOND, 500), MOST);
        assert_eq!(concurrency.records(500), expected);
    }
    let good = |records, took| Finished {
        took,
        records,
        ..end(4_000 * SECOND, Strain::None)
    };
    concurrency.note(&good(3, SECOND), MOST);
    assert_eq!(concurrency.records(500), 10, "a small call shows nothing");
    concurrency.note(&good(500, 61 * SECOND), MOST);
    assert_eq!(concurrency.records(500), 10, "nor does one that took long");
    for step in 1..=9 {
        concurrency.note(&good(500, SECOND), MOST);
        assert_eq!(concurrency.records(500), 10 + 50 * step);
    }
    concurrency.note(&good(500, SECOND), MOST);
    assert_eq!(concurrency.records(500), 500);
    // A call with one record cannot be shorter.
    concurrency.note(&slow(5_000 * SECOND, 1), MOST);
    assert_eq!(concurrency.records(500), 500);
}

#[test]
fn refusals_in_a_row_are_waited_for_longer_and_longer() {
    let mut concurrency = Concurrency::default();
    let wait = Duration::from_secs(2);
    let mut waits = Vec::new();
    for round in 1..=10 {
        concurrency.note(&end(round * 400 * SECOND, Strain::Crowded), MOST);
        waits.push(concurrency.wait(wait).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
    let long = Duration::from_secs(900);
    assert_eq!(
        concurrency.wait(long),
        long,
        "what it asks for is not cut short"
    );
    concurrency.note(&end(5_000 * SECOND, Strain::None), MOST);
    concurrency.note(&end(5_001 * SECOND, Strain::Crowded), MOST);
    assert_eq!(concurrency.wait(wait), wait);
}

fn strain() -> impl Strategy<Value = Strain> {
    prop_oneof![
        6 => Just(Strain::None),
        1 => Just(Strain::Crowded),
        1 => Just(Strain::Slow),
    ]
}

proptest! {
    /// Whatever happens, it stays within what is allowed, and comes back when all is well.
    #[test]
    fn never_above_the_setting_and_never_stuck(
        ends in prop::collection::vec((0u64..200, 0u64..200, 1usize..600, strain()), 0..200),
        most in 1usize..=10,
    ) {
        let (mut concurrency, mut now) = (Concurrency::default(), 0);
        for (after, took, records, strain) in ends {
            now += after * SECOND;
            let beside = concurrency.requests(most);
            let before = (beside, concurrency.records(500));
            concurrency.note(&Finished { now, took: took * SECOND, beside, records, strain }, (most, 500));
            let after = (concurrency.requests(most), concurrency.records(500));
            prop_assert!((1..=most).contains(&after.0));
            prop_assert!((FEWEST_RECORDS..=500).contains(&after.1));
            match strain {
                Strain::None => prop_assert!(after.0 >= before.0 && after.1 >= before.1 && after.0 <= before.0 + 1),
                _ => prop_assert!(after.0 <= before.0 && after.1 <= before.1),
            }
        }
        // 400 s of good answers are enough, whatever there was.
        for _ in 0..4_000 {
            now += SECOND / 10;
            let good = Finished { beside: concurrency.requests(most), ..end(now, Strain::None) };
            concurrency.note(&good, (most, 500));
        }
        prop_assert_eq!(concurrency.held_back((most, 500)), None);
    }

    /// Somebody else holds some connections for good: few requests are refused.
    #[test]
    fn it_settles_below_what_others_leave(free in 1usize..=7) {
        let (mut concurrency, mut now, mut refused, mut served) = (Concurrency::default(), SECOND, 0u32, 0u32);
        while now < 1_200 * SECOND {
            let beside = concurrency.requests(8);
            now += SECOND / 2;
            let good = beside.min(free);
            for place in 0..beside {
                let strain = if place < good { Strain::None } else { Strain::Crowded };
                concurrency.note(&Finished { now, took: SECOND / 3, beside, records: 500, strain }, MOST);
            }
            served += good as u32;
            refused += (beside - good) as u32;
        }
        prop_assert!(refused * 20 < served, "{} refused, {} served", refused, served);
        prop_assert!(served as usize >= 2_400 * free * 7 / 10, "{} served", served);
    }
}
