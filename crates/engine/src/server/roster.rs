//! Which databases get a worker process next, where processes are few.
//!
//! A database that wants a worker goes first. Of those of which nothing is known, one at a time is
//! looked at: a process that finds nothing to do leaves at once, and the next one follows.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// First and longest time before a worker that failed is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// A worker that lived so long is taken to have been well.
const WELL: Duration = Duration::from_secs(30);

/// A process that looks at a database and takes longer holds up the others no more.
const LOOK: Duration = Duration::from_secs(1);

/// How long until a process is asked for again when there was none.
const SHORT: Duration = Duration::from_secs(1);

/// What a database says of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// None runs: it has not been started, or has failed.
    Down,
    /// None runs, and there is something to do.
    Wanted,
    /// One that was wanted has been started.
    Starting,
    Running,
    /// None runs, for there is nothing to do.
    Resting,
}

impl Presence {
    /// As stored; what is not known counts as [`Presence::Down`].
    pub fn from_number(number: u32) -> Presence {
        match number {
            1 => Presence::Wanted,
            2 => Presence::Running,
            3 => Presence::Resting,
            4 => Presence::Starting,
            _ => Presence::Down,
        }
    }

    pub fn number(self) -> u32 {
        match self {
            Presence::Down => 0,
            Presence::Wanted => 1,
            Presence::Running => 2,
            Presence::Resting => 3,
            Presence::Starting => 4,
        }
    }
}

/// A process that was started for a database.
#[derive(Clone, Copy, Debug)]
struct Child {
    started: Duration,
    /// Nothing is known of the database.
    looks: bool,
}

#[derive(Clone, Debug, Default)]
struct Database {
    child: Option<Child>,
    /// Not to be started before.
    not_before: Option<Duration>,
    pause: Duration,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchStep {
    /// Start a process for this database.
    Start(u32),
    /// Nothing, for so long; `None`: until something happens.
    Wait(Option<Duration>),
}

/// See the module's documentation. Times are those since the launcher's start.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    databases: BTreeMap<u32, Database>,
    unknown: VecDeque<u32>,
    /// No process was free; not to be asked for before.
    short_until: Option<Duration>,
    told_short: bool,
}

impl Roster {
    /// Has every one of these databases looked at that has no process; pauses are over.
    pub fn look_at(&mut self, databases: &[u32]) {
        for oid in databases {
            if !self.unknown.contains(oid) {
                self.unknown.push_back(*oid);
            }
            if let Some(database) = self.databases.get_mut(oid) {
                database.not_before = None;
            }
        }
        self.short_until = None;
    }

    /// Forgets databases that are not among these.
    pub fn keep(&mut self, databases: &[u32]) {
        self.databases.retain(|oid, _| databases.contains(oid));
        self.unknown.retain(|oid| databases.contains(oid));
    }

    /// What to do next; `seats` are the databases that say something of their worker.
    pub fn next(&mut self, seats: &[(u32, Presence)], now: Duration) -> LaunchStep {
        let due = |oid: u32, presence: Presence| match self.databases.get(&oid) {
            Some(database) if database.child.is_some() => None,
            known => match presence {
                Presence::Down | Presence::Starting => {
                    let not_before = known.and_then(|database| database.not_before);
                    Some(not_before.unwrap_or_default())
                }
                Presence::Wanted => Some(Duration::ZERO),
                Presence::Running | Presence::Resting => None,
            },
        };
        let first = seats
            .iter()
            .filter_map(|(oid, presence)| Some((due(*oid, *presence)?, *oid)))
            .min();
        self.unknown.retain(|oid| {
            let known = self.databases.get(oid).and_then(|known| known.child);
            let runs = seats.contains(&(*oid, Presence::Running));
            known.is_none() && !runs
        });
        let look = self.look_from(seats, now);
        let soonest = first.into_iter().chain(look).min();
        let Some((at, oid)) = soonest else {
            self.told_short = false;
            return LaunchStep::Wait(None);
        };
        let at = at.max(self.short_until.unwrap_or_default());
        match at.checked_sub(now).filter(|wait| !wait.is_zero()) {
            Some(wait) => LaunchStep::Wait(Some(wait)),
            None => LaunchStep::Start(oid),
        }
    }

    /// The next database that nothing is known of, and from when on it may be looked at.
    fn look_from(&self, seats: &[(u32, Presence)], now: Duration) -> Option<(Duration, u32)> {
        let oid = *self.unknown.front()?;
        let looking = self.databases.iter().filter_map(|(oid, database)| {
            let child = database.child.filter(|child| child.looks)?;
            let settled = seats.contains(&(*oid, Presence::Running));
            (!settled).then_some(child.started + LOOK)
        });
        // Whoever wants a worker goes first.
        Some((looking.max().unwrap_or(now).max(now), oid))
    }

    /// A process was started for a database.
    pub fn started(&mut self, oid: u32, now: Duration) {
        let looks = self.unknown.contains(&oid);
        self.unknown.retain(|other| *other != oid);
        self.databases.entry(oid).or_default().child = Some(Child {
            started: now,
            looks,
        });
    }

    /// No process was free; `true` when that is to be told.
    pub fn short(&mut self, now: Duration) -> bool {
        self.short_until = Some(now + SHORT);
        !std::mem::replace(&mut self.told_short, true)
    }

    /// Whether whoever wants a process has to wait for one to be free.
    pub fn is_short(&self, now: Duration) -> bool {
        self.short_until.is_some_and(|until| until > now)
    }

    /// A database's process ended; `presence` is what it left, if anything.
    pub fn ended(&mut self, oid: u32, presence: Option<Presence>, now: Duration) {
        let Some(database) = self.databases.get_mut(&oid) else {
            return;
        };
        let Some(child) = database.child.take() else {
            return;
        };
        // Whoever waited for a process may have this one.
        self.short_until = None;
        match presence {
            Some(Presence::Down | Presence::Starting) => {
                let well = now.saturating_sub(child.started) > WELL;
                database.pause = if well {
                    RESTART.0
                } else {
                    (database.pause * 2).clamp(RESTART.0, RESTART.1)
                };
                database.not_before = Some(now + database.pause);
            }
            Some(Presence::Wanted) => database.not_before = None,
            Some(Presence::Running | Presence::Resting) | None => {
                self.databases.remove(&oid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn unknown_databases_are_looked_at_one_at_a_time() {
        let mut roster = Roster::default();
        roster.look_at(&[1, 2, 3]);
        assert_eq!(roster.next(&[], ms(0)), LaunchStep::Start(1));
        roster.started(1, ms(0));
        assert_eq!(roster.next(&[], ms(10)), LaunchStep::Wait(Some(ms(990))));
        roster.ended(1, None, ms(20));
        assert_eq!(roster.next(&[], ms(20)), LaunchStep::Start(2));
        roster.started(2, ms(20));
        // It stays: there is something to do.
        assert_eq!(
            roster.next(&[(2, Presence::Running)], ms(30)),
            LaunchStep::Start(3)
        );
    }

    #[test]
    fn a_look_that_takes_long_holds_up_nobody() {
        let mut roster = Roster::default();
        roster.look_at(&[1, 2]);
        roster.started(1, ms(0));
        assert_eq!(roster.next(&[], ms(1_000)), LaunchStep::Start(2));
    }

    #[test]
    fn who_wants_a_worker_goes_first_and_is_not_held_up_by_a_look() {
        let mut roster = Roster::default();
        roster.look_at(&[1, 2]);
        roster.started(1, ms(0));
        assert_eq!(
            roster.next(&[(9, Presence::Wanted)], ms(1)),
            LaunchStep::Start(9)
        );
        roster.started(9, ms(1));
        assert_eq!(
            roster.next(&[(9, Presence::Wanted)], ms(1)),
            LaunchStep::Wait(Some(ms(999)))
        );
    }

    #[test]
    fn failures_are_repeated_with_growing_pauses_and_what_was_asked_for_at_once() {
        let mut roster = Roster::default();
        let down = [(1, Presence::Down)];
        let mut now = ms(0);
        for pause in [500, 1_000, 2_000, 4_000] {
            assert_eq!(roster.next(&down, now), LaunchStep::Start(1));
            roster.started(1, now);
            roster.ended(1, Some(Presence::Down), now);
            assert_eq!(roster.next(&down, now), LaunchStep::Wait(Some(ms(pause))));
            now += ms(pause);
        }
        roster.started(1, now);
        roster.ended(1, Some(Presence::Wanted), now);
        assert_eq!(
            roster.next(&[(1, Presence::Wanted)], now),
            LaunchStep::Start(1)
        );
        // One that was well for long starts over with the shortest pause.
        roster.started(1, now);
        now += ms(31_000);
        roster.ended(1, Some(Presence::Down), now);
        assert_eq!(roster.next(&down, now), LaunchStep::Wait(Some(ms(500))));
    }

    #[test]
    fn where_there_is_nothing_to_do_nothing_is_started() {
        let mut roster = Roster::default();
        roster.look_at(&[1]);
        roster.started(1, ms(0));
        roster.ended(1, Some(Presence::Resting), ms(5));
        assert_eq!(
            roster.next(&[(1, Presence::Resting)], ms(5)),
            LaunchStep::Wait(None)
        );
        // Unless all are looked at again.
        roster.look_at(&[1]);
        assert_eq!(
            roster.next(&[(1, Presence::Resting)], ms(6)),
            LaunchStep::Start(1)
        );
    }

    #[test]
    fn a_shortage_is_told_once_and_over_when_somebody_leaves() {
        let mut roster = Roster::default();
        let seats = [(1, Presence::Running), (2, Presence::Wanted)];
        roster.started(1, ms(0));
        assert_eq!(roster.next(&seats, ms(0)), LaunchStep::Start(2));
        assert!(roster.short(ms(0)));
        assert!(roster.is_short(ms(999)) && !roster.is_short(ms(1_000)));
        assert_eq!(
            roster.next(&seats, ms(0)),
            LaunchStep::Wait(Some(ms(1_000)))
        );
        assert_eq!(roster.next(&seats, ms(1_000)), LaunchStep::Start(2));
        assert!(!roster.short(ms(1_000)));
        roster.ended(1, Some(Presence::Resting), ms(1_100));
        assert_eq!(
            roster.next(&[(2, Presence::Wanted)], ms(1_100)),
            LaunchStep::Start(2)
        );
        roster.started(2, ms(1_100));
        assert_eq!(
            roster.next(&[(2, Presence::Running)], ms(1_100)),
            LaunchStep::Wait(None)
        );
        assert!(roster.short(ms(2_000)), "another shortage is told again");
    }

    #[test]
    fn a_dropped_database_is_forgotten() {
        let mut roster = Roster::default();
        roster.look_at(&[1, 2]);
        roster.started(1, ms(0));
        roster.keep(&[]);
        assert_eq!(roster.next(&[], ms(0)), LaunchStep::Wait(None));
    }
}
