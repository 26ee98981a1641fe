use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;
const TEN: Duration = Duration::from_secs(10);

/// Asks whenever told to, for `seconds`; when requests were sent.
fn saturate(budget: &mut Budget, from: u64, seconds: u64) -> Vec<u64> {
    let mut now = from;
    let mut sent = Vec::new();
    while now < from + seconds * SECOND {
        match budget.permit(now) {
            Ok(()) => sent.push(now),
            Err(wait) => now += u64::try_from(wait.as_micros()).unwrap().max(1),
        }
    }
    sent
}

fn most_in_any(window: u64, arrivals: &[u64]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in arrivals.iter().enumerate() {
        while arrivals[first] + window <= *at {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[test]
fn settings_are_read() {
    let rate = |limit, seconds| {
        Ok(Some(Rate {
            limit,
            interval: Duration::from_secs(seconds),
        }))
    };
    let cases = [
        ("100/10s", rate(100, 10)),
        (" 190 / 10 s ", rate(190, 10)),
        ("500/10min", rate(500, 600)),
        ("5/s", rate(5, 1)),
        ("250000/1d", rate(250_000, 86_400)),
        ("3/2h", rate(3, 7_200)),
        ("off", Ok(None)),
        ("OFF", Ok(None)),
    ];
    for (text, expected) in cases {
        assert_eq!(Rate::parse(text), expected, "{text}");
    }
    for text in [
        "",
        "100",
        "100/",
        "/10s",
        "0/10s",
        "-1/10s",
        "100/0s",
        "100/10y",
        "x/1s",
        "1/99999999999999999999d",
    ] {
        assert!(Rate::parse(text).is_err(), "{text}");
    }
}

#[test]
fn from_rest_part_of_the_budget_goes_at_once_and_the_rest_is_paced() {
    let told = |budget: &mut Budget, now| {
        let report = BudgetReport {
            max: Some(100),
            remaining: Some(100),
            ..BudgetReport::default()
        };
        budget.report(now, &report);
    };
    let at_once = |budget: &mut Budget, now| {
        let sent = std::iter::from_fn(|| budget.permit(now).ok());
        sent.count()
    };
    // Nobody has told yet what others use; nor for long enough; and now.
    let mut budget = Budget::new(100, TEN);
    assert_eq!(at_once(&mut budget, 0), 25);
    told(&mut budget, SECOND);
    assert_eq!(at_once(&mut budget.clone(), 11 * SECOND), 25);
    told(&mut budget, 10 * SECOND);
    assert_eq!(at_once(&mut budget.clone(), 12 * SECOND), 49);
    // That was long ago.
    assert_eq!(at_once(&mut budget, 30 * SECOND), 25);
    let mut budget = Budget::new(100, TEN);
    let sent = saturate(&mut budget, SECOND, 60);
    // In the long run no two requests leave together.
    let steady: Vec<u64> = sent
        .iter()
        .copied()
        .filter(|at| *at > 22 * SECOND)
        .collect();
    let gaps: Vec<u64> = steady.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.iter().all(|gap| (90_000..120_000).contains(gap)),
        "{gaps:?}"
    );
}

#[test]
fn the_budget_is_used_to_95_percent() {
    for limit in [5, 19, 100, 110, 190, 250] {
        let mut budget = Budget::new(limit, TEN);
        let sent = saturate(&mut budget, 0, 100).len();
        assert!(
            sent as f64 >= 0.95 * f64::from(limit) * 10.0,
            "{sent} of {limit} in 10 s"
        );
    }
}

#[test]
fn other_users_of_the_budget_are_given_room() {
    let mut budget = Budget::new(100, TEN);
    for _ in 0..10 {
        budget.permit(SECOND).unwrap();
    }
    let report = BudgetReport {
        max: Some(100),
        remaining: Some(30),
        ..BudgetReport::default()
    };
    budget.report(SECOND, &report);
    // 60 requests are not ours; hearing it twice does not double them.
    budget.report(SECOND, &report);
    assert_eq!(budget.remaining(SECOND), 98 - 70 - 60 / 8);
    assert_eq!(budget.remaining(12 * SECOND), 98);
}

/// What was heard first does not leave all at once while answers go on to tell the same.
#[test]
fn others_who_go_on_are_not_forgotten() {
    let mut budget = Budget::new(100, TEN);
    let report = |used: u32| BudgetReport {
        max: Some(100),
        remaining: Some(100 - used),
        ..BudgetReport::default()
    };
    for second in 0..=15 {
        budget.report(second * SECOND, &report(50));
        assert_eq!(budget.known_of_others(), 50);
    }
    // They use less and less, and are given less room a window later.
    for (second, used, known) in [
        (16, 30, 50),
        (20, 10, 50),
        (25, 0, 50),
        (26, 0, 30),
        (31, 0, 0),
    ] {
        budget.report(second * SECOND, &report(used));
        assert_eq!(budget.known_of_others(), known, "{second}");
    }
}

#[test]
fn late_answers_do_not_look_like_other_users() {
    let mut budget = Budget::new(100, TEN);
    let sent = u32::try_from(saturate(&mut budget, 0, 10).len()).unwrap();
    // Sent within the first window, answered after it.
    let remaining = Some(100 - sent);
    let report = BudgetReport {
        max: Some(100),
        remaining,
        ..BudgetReport::default()
    };
    budget.report(11 * SECOND, &report);
    assert_eq!(budget.known_of_others(), 0);
}

/// What we sent before the window was counted in no longer: whoever takes it for what the service
/// tells of overlooks as many requests of others.
#[test]
fn quick_answers_tell_others_from_what_left_the_window() {
    let mut budget = Budget::new(100, TEN);
    for _ in 0..20 {
        budget.permit(0).unwrap();
    }
    budget.permit(11 * SECOND).unwrap();
    let report = BudgetReport {
        max: Some(100),
        remaining: Some(100 - 1 - 25),
        took: Some(Duration::from_millis(20)),
        ..BudgetReport::default()
    };
    budget.report(11 * SECOND, &report);
    assert_eq!(budget.known_of_others(), 25);
}

#[test]
fn the_service_knows_its_limit_better() {
    let mut budget = Budget::new(100, TEN);
    let report = BudgetReport {
        max: Some(190),
        remaining: Some(190),
        interval: Some(Duration::from_secs(5)),
        ..BudgetReport::default()
    };
    budget.report(0, &report);
    assert_eq!(budget.limit(), 190);
    assert!(saturate(&mut budget, 0, 10).len() > 2 * 180);
    budget.report(
        0,
        &BudgetReport {
            max: Some(0),
            ..BudgetReport::default()
        },
    );
    assert_eq!(budget.limit(), 190);
}

#[test]
fn a_refusal_blocks_and_then_slows_down_for_a_while() {
    let mut budget = Budget::new(100, TEN);
    budget.throttle(0, Duration::from_secs(3));
    budget.throttle(0, Duration::from_secs(2));
    assert_eq!(budget.permit(SECOND), Err(Duration::from_secs(2)));
    assert_eq!(
        budget.remaining(3 * SECOND),
        88,
        "one refusal costs a tenth, once"
    );
    assert_eq!(budget.remaining(100 * SECOND), 98);
    for refusal in 0..50 {
        budget.throttle(100 * SECOND + refusal, Duration::ZERO);
    }
    assert_eq!(
        budget.remaining(100 * SECOND + 50),
        49,
        "never less than half"
    );
}

proptest! {
    // Requests arrive up to 150 ms after they were sent, each at its own delay, and load comes
    // and goes: the service never counts more than the limit in any rolling interval.
    #[test]
    fn the_limit_is_kept_in_every_window(
        limit in 20u32..300,
        pauses in prop::collection::vec((0u64..12_000_000, 1usize..400), 1..25),
        seed in any::<u64>(),
    ) {
        let mut budget = Budget::new(limit, TEN);
        let (mut now, mut arrivals, mut noise) = (0, Vec::new(), seed | 1);
        for (pause, requests) in pauses {
            now += pause;
            for _ in 0..requests {
                while let Err(wait) = budget.permit(now) {
                    now += u64::try_from(wait.as_micros()).unwrap().max(1);
                }
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                arrivals.push(now + noise % 150_000);
            }
        }
        arrivals.sort_unstable();
        prop_assert!(most_in_any(10 * SECOND, &arrivals) <= limit as usize);
    }

    #[test]
    fn saturation_uses_the_budget(limit in 20u32..300, late in 0u64..20_000) {
        let mut budget = Budget::new(limit, TEN);
        let (mut now, mut sent) = (0, 0u32);
        while now < 100 * SECOND {
            match budget.permit(now) {
                Ok(()) => sent += 1,
                // The caller's loop turns up a little late.
                Err(wait) => now += u64::try_from(wait.as_micros()).unwrap().max(1) + late,
            }
        }
        prop_assert!(f64::from(sent) >= 0.95 * f64::from(limit) * 10.0, "{sent} of {limit}");
    }
}
