//! The requests of a service's day: how many are used, and how long to rest once they all are.

use std::time::Duration;

use crate::limits::BudgetReport;

/// Soon after midnight it is more likely that clocks differ than that a day is used up again.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30 * 60);

/// How many requests of the day are used.
///
/// What the service says counts, for others may use the same account. HubSpot says nothing to OAuth
/// apps, and nothing in answers to searches, which count all the same: then it is our own requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    used: u32,
    /// Ours without an answer so far: what the service says may leave them out.
    under_way: u32,
}

impl Day {
    /// So many have been answered since the day began, and so many wait for their answers.
    pub const fn new(answered: u32, under_way: u32) -> Day {
        Day {
            used: answered.saturating_add(under_way),
            under_way,
        }
    }

    /// A request leaves.
    pub fn leave(&mut self) {
        self.used = self.used.saturating_add(1);
        self.under_way = self.under_way.saturating_add(1);
    }

    /// Its answer is here, or it is known that there will be none.
    pub fn settle(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Takes in what an answer's headers say. Soon after midnight they may still be about the day
    /// before.
    pub fn hear(&mut self, report: &BudgetReport, since_midnight: Duration) {
        if since_midnight < CLOCKS_DIFFER {
            return;
        }
        if let Some((all, left)) = report.daily.zip(report.daily_remaining) {
            self.used = all.saturating_sub(left).saturating_add(self.under_way);
        }
    }

    /// Whether a limit of our own is reached.
    pub const fn has_reached(&self, limit: u32) -> bool {
        self.used >= limit
    }
}

/// How long to rest once a day's requests are used up, by the account's own clock. HubSpot counts
/// from midnight.
pub fn rest(since_midnight: Duration, to_midnight: Duration) -> Duration {
    const ASK_AGAIN: Duration = Duration::from_secs(5 * 60);
    if since_midnight < CLOCKS_DIFFER {
        ASK_AGAIN
    } else {
        until_next(to_midnight)
    }
}

/// When the next day has begun at the service as well, by our clock.
pub fn until_next(to_midnight: Duration) -> Duration {
    const SLACK: Duration = Duration::from_secs(30);
    to_midnight + SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Leave(u32),
        Settle(u32),
        /// An answer that says how many of 1,000 are left, so many minutes after midnight.
        Left(u32, u64),
        /// One that says nothing.
        Silent,
    }
    use Step::{Leave, Left, Settle, Silent};

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    fn after(mut day: Day, steps: &[Step]) -> Day {
        for step in steps {
            match *step {
                Leave(count) => (0..count).for_each(|_| day.leave()),
                Settle(count) => (0..count).for_each(|_| day.settle()),
                Left(left, at) => day.hear(&report(Some(1_000), Some(left)), minutes(at)),
                Silent => day.hear(&BudgetReport::default(), minutes(600)),
            }
        }
        day
    }

    fn report(daily: Option<u32>, daily_remaining: Option<u32>) -> BudgetReport {
        BudgetReport {
            daily,
            daily_remaining,
            ..BudgetReport::default()
        }
    }

    #[test]
    fn our_own_requests_count_where_the_service_says_nothing() {
        let cases: [(Day, &[Step], u32); 9] = [
            (Day::default(), &[], 0),
            (Day::default(), &[Leave(3), Silent, Settle(3), Silent], 3),
            // What an earlier worker made, and what has no answer yet.
            (Day::new(40, 2), &[Settle(2), Leave(1)], 43),
            // Others have made some as well.
            (Day::new(40, 0), &[Left(900, 600)], 100),
            // It counts fewer than we do.
            (Day::new(40, 0), &[Left(990, 600)], 10),
            // Those under way come on top; those that leave later, too.
            (
                Day::new(0, 0),
                &[Leave(4), Settle(1), Left(999, 600), Leave(2)],
                6,
            ),
            (
                Day::new(0, 0),
                &[Leave(4), Settle(4), Left(996, 600), Silent],
                4,
            ),
            // The day before, by its clock.
            (Day::new(1, 0), &[Left(0, 29)], 1),
            (Day::new(1, 0), &[Left(0, 30)], 1_000),
        ];
        for (day, steps, used) in cases {
            let day = after(day, steps);
            assert!(day.has_reached(used), "{steps:?}: {day:?}");
            assert!(!day.has_reached(used + 1), "{steps:?}: {day:?}");
        }
    }

    #[test]
    fn half_an_answer_says_nothing() {
        for report in [report(Some(10), None), report(None, Some(0))] {
            let mut day = Day::new(5, 0);
            day.hear(&report, minutes(600));
            assert_eq!(day, Day::new(5, 0), "{report:?}");
        }
    }

    #[test]
    fn after_the_daily_limit_it_rests_until_midnight_unless_midnight_just_was() {
        let cases = [
            (0, 1_440, 300),
            (29, 1_411, 300),
            (30, 1_410, 84_630),
            (1_439, 1, 90),
        ];
        for (since, to, seconds) in cases {
            let rest = rest(minutes(since), minutes(to));
            assert_eq!(rest, Duration::from_secs(seconds), "{since} {to}");
        }
    }
}
