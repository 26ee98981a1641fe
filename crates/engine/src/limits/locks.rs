//! Tables that somebody holds a lock on: when to look again, and when it has lasted so long that
//! people should know.
//!
//! Times are monotonic microseconds.

use std::{collections::BTreeMap, time::Duration};

use crate::limits::breaker::micros;

/// Whoever holds a lock for so long is named.
pub const LONG: Duration = Duration::from_secs(5 * 60);

/// How long a locked table is left alone: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A lock that nobody looked at for so long may have been another one.
const SAME: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Lock {
    since: u64,
    until: u64,
    wait: Duration,
    /// The time is not over yet.
    rests: bool,
}

/// See the module's documentation. `K` is a table.
#[derive(Clone, Debug)]
pub struct Locks<K>(BTreeMap<K, Lock>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Locks(BTreeMap::new())
    }
}

impl<K: Copy + Ord> Locks<K> {
    /// A table turned out to be locked. Returns whether it has been for long.
    pub fn met(&mut self, table: K, now: u64) -> bool {
        let same = |before: &&Lock| now <= before.until.saturating_add(micros(SAME));
        let before = self.0.get(&table).filter(same);
        let wait = before.map_or(FIRST_WAIT, |before| (before.wait * 2).min(LONGEST_WAIT));
        let since = before.map_or(now, |before| before.since);
        let lock = Lock {
            since,
            until: now.saturating_add(micros(wait)),
            wait,
            rests: true,
        };
        self.0.insert(table, lock);
        now.saturating_sub(since) >= micros(LONG)
    }

    /// A table is not locked. Returns whether it was left alone.
    pub fn free(&mut self, table: K) -> bool {
        !self.0.is_empty() && self.0.remove(&table).is_some_and(|was| was.rests)
    }

    /// Tables whose time is over are no longer left alone. Returns whether there are any.
    pub fn look_again(&mut self, now: u64) -> bool {
        let mut over = false;
        for lock in self.0.values_mut().filter(|lock| lock.until <= now) {
            over |= std::mem::replace(&mut lock.rests, false);
        }
        over
    }

    /// Returns the tables that are left alone for a moment.
    pub fn resting(&self) -> impl Iterator<Item = K> {
        let resting = self.0.iter().filter(|(_, lock)| lock.rests);
        resting.map(|(table, _)| *table)
    }

    /// Returns when the next of them is to be looked at.
    pub fn next_look(&self) -> Option<u64> {
        let resting = self.0.values().filter(|lock| lock.rests);
        resting.map(|lock| lock.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Looks again whenever it is time, until then. Returns when it was said to be long, if it was.
    fn look_until(locks: &mut Locks<u8>, mut now: u64, end: u64) -> (Option<u64>, u64) {
        let (mut long, mut looks) = (None, 0);
        while now < end {
            looks += 1;
            if locks.met(1, now) {
                long = long.or(Some(now));
            }
            assert_eq!(locks.resting().collect::<Vec<_>>(), [1]);
            now = locks.next_look().unwrap();
            assert!(locks.look_again(now));
            assert_eq!(locks.resting().count(), 0);
        }
        (long, looks)
    }

    #[test]
    fn lock_is_looked_at_once_a_second_and_is_long_after_five_minutes() {
        let (long, looks) = look_until(&mut Locks::default(), 0, 3_600 * SECOND);
        let long = long.unwrap();
        assert!((300 * SECOND..302 * SECOND).contains(&long), "{long}");
        assert!((3_600..3_610).contains(&looks), "{looks}");
    }

    #[test]
    fn short_locks_are_not_long_however_many_there_are() {
        let mut locks = Locks::default();
        for minute in 0..60 {
            let begun = minute * 60 * SECOND;
            let (long, _) = look_until(&mut locks, begun, begun + 30 * SECOND);
            assert_eq!(long, None);
            if minute % 2 == 0 {
                locks.free(1);
            }
        }
    }

    #[test]
    fn free_table_is_at_once_no_longer_left_alone() {
        let mut locks = Locks::default();
        assert!(!locks.free(1));
        locks.met(1, 0);
        locks.met(2, 10);
        assert_eq!(locks.next_look(), Some(50_000));
        assert!(locks.free(1));
        assert_eq!(locks.resting().collect::<Vec<_>>(), [2]);
        assert!(!locks.look_again(50_009));
        assert!(locks.look_again(50_010));
        assert_eq!(locks.next_look(), None);
        assert!(!locks.free(2), "it was looked at again already");
    }
}
