//! How far a long job has come: what it will amount to, and when it will be over.

use std::collections::VecDeque;

use crate::record::Timestamp;

/// The pace is that of the last minute.
const WINDOW_MS: i64 = 60_000;

/// Measurements kept at most, whatever the clock does.
const MOST_SAMPLES: usize = 256;

/// How many of a table's rows a filter will let through: what it has let through so far, and as
/// large a part of the rows that are left. `rows` is an estimate and may prove too low.
pub fn expected(wanted: u64, walked: u64, rows: u64) -> u64 {
    let left = rows.saturating_sub(walked);
    if walked == 0 {
        return rows;
    }
    let more = u128::from(left) * u128::from(wanted) / u128::from(walked);
    wanted.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
}

/// How fast a job has gone lately.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    samples: VecDeque<(Timestamp, u64)>,
}

impl Pace {
    /// So much is done now. A clock or a count that goes back begins anew.
    pub fn note(&mut self, now: Timestamp, done: u64) {
        if let Some((at, before)) = self.samples.back()
            && (now < *at || done < *before)
        {
            self.samples.clear();
        }
        self.samples.push_back((now, done));
        // The last measurement before the window stays: the window is covered from its beginning.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now.0.saturating_sub(at.0) >= WINDOW_MS)
            || self.samples.len() > MOST_SAMPLES
        {
            self.samples.pop_front();
        }
    }

    /// When the rest will be done if it goes on like this. `None`: nobody can tell yet.
    pub fn eta(&self, now: Timestamp, left: u64) -> Option<Timestamp> {
        if left == 0 {
            return Some(now);
        }
        let ((began, before), (ended, after)) = (self.samples.front()?, self.samples.back()?);
        let (time, done) = (ended.0.checked_sub(began.0)?, after.checked_sub(*before)?);
        if time <= 0 || done == 0 {
            return None;
        }
        let wait = i128::from(left) * i128::from(time) / i128::from(done);
        let at = i128::from(now.0) + wait;
        Some(Timestamp(i64::try_from(at).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(samples: &[(i64, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (at, done) in samples {
            pace.note(Timestamp(*at), *done);
        }
        pace
    }

    #[test]
    fn what_a_filter_will_let_through() {
        for (wanted, walked, rows, amount) in [
            (0, 0, 500, 500),
            (100, 100, 500, 500),
            (10, 100, 500, 50),
            (0, 100, 500, 0),
            (500, 500, 500, 500),
            // The estimate was too low.
            (900, 900, 500, 900),
            (u64::MAX, 1, u64::MAX, u64::MAX),
        ] {
            let found = expected(wanted, walked, rows);
            assert_eq!(found, amount, "{wanted} of {walked}, {rows} in all");
        }
    }

    /// Measurements, the present time, what is left, when it will be done.
    type Case = (&'static [(i64, u64)], i64, u64, Option<i64>);

    #[test]
    fn when_it_will_be_done() {
        const MINUTE: i64 = 60_000;
        let cases: [Case; 7] = [
            (&[], 0, 10, None),
            (&[(0, 5)], 0, 10, None),
            (&[], 7, 0, Some(7)),
            // 10 a second.
            (&[(0, 0), (1_000, 10)], 1_000, 20, Some(3_000)),
            // It stands still.
            (&[(0, 10), (1_000, 10)], 1_000, 20, None),
            // It was slow an hour ago: only the last minute counts.
            (
                &[(0, 0), (60 * MINUTE, 60), (61 * MINUTE, 660)],
                61 * MINUTE,
                600,
                Some(62 * MINUTE),
            ),
            // Begun anew.
            (&[(0, 900), (1_000, 0), (2_000, 10)], 2_000, 10, Some(3_000)),
        ];
        for (samples, now, left, eta) in cases {
            let found = pace(samples).eta(Timestamp(now), left);
            assert_eq!(found, eta.map(Timestamp), "{samples:?}, {left} left");
        }
    }

    proptest! {
        /// It never promises the past, remembers a bounded number of measurements, and never fails.
        #[test]
        fn stays_sane(samples in prop::collection::vec((any::<i64>(), any::<u64>()), 0..600), left in any::<u64>()) {
            let pace = pace(&samples);
            let now = samples.last().map_or(0, |(at, _)| *at);
            prop_assert!(pace.samples.len() <= MOST_SAMPLES);
            if let Some(eta) = pace.eta(Timestamp(now), left) {
                prop_assert!(eta.0 >= now);
            }
        }

        /// At a steady pace it is right, however often it is measured.
        #[test]
        fn steady(each in 1u64..1_000, times in 2i64..300, left in 0u64..1_000) {
            let samples: Vec<(i64, u64)> = (0..times).map(|n| (n * 1_000, n.unsigned_abs() * each)).collect();
            let now = (times - 1) * 1_000;
            let eta = pace(&samples).eta(Timestamp(now), left * each);
            prop_assert_eq!(eta, Some(Timestamp(now + left as i64 * 1_000)));
        }
    }
}
