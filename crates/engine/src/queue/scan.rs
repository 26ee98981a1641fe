//! Which transactions' queue rows a scan still has to look at.
//!
//! Queue rows carry the transaction that wrote them. A scan reads exactly the rows that its own
//! snapshot sees and the previous scan's did not: those of transactions that were running then,
//! one by one, and all later ones. So its cost follows the new rows, never the dead ones, and a
//! transaction that commits late is not missed.

/// `pg_current_snapshot()`: what was finished at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below is finished.
    pub xmin: u64,
    /// No transaction from here on had begun to write.
    pub xmax: u64,
    /// Those between that were still running, ascending.
    pub running: Vec<u64>,
}

/// The text is not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("«{0}» is not a snapshot (xmin:xmax:running,…)")]
pub struct NotASnapshot(pub String);

impl Snapshot {
    /// Reads `xmin:xmax:a,b,c`, the text form of `pg_snapshot`.
    pub fn parse(text: &str) -> Result<Snapshot, NotASnapshot> {
        let wrong = || NotASnapshot(text.to_owned());
        let mut parts = text.splitn(3, ':');
        let mut number = || {
            parts
                .next()
                .and_then(|part| part.parse().ok())
                .ok_or_else(wrong)
        };
        let (xmin, xmax) = (number()?, number()?);
        let running = match parts.next().ok_or_else(wrong)? {
            "" => Vec::new(),
            list => list
                .split(',')
                .map(|xid| xid.parse().map_err(|_| wrong()))
                .collect::<Result<_, _>>()?,
        };
        Ok(Snapshot {
            xmin,
            xmax,
            running,
        })
    }

    /// Whether rows of this transaction, if it committed, are to be seen.
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }
}

/// Where in the queue a scan stands: rows at or before it have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub xid: u64,
    pub seq: i32,
}

/// The rows to ask for next: those of one transaction or of a range, behind a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub after: Position,
    /// Exclusive.
    pub until_xid: u64,
}

/// A walk through the rows that are new since the previous snapshot.
#[derive(Clone, Debug)]
pub struct Scan {
    snapshot: Snapshot,
    /// Reverse order: the next one is last.
    windows: Vec<Window>,
}

impl Scan {
    /// The first scan after a start reads everything there is.
    pub fn everything(now: Snapshot) -> Scan {
        let windows = vec![Window {
            after: Position {
                xid: 0,
                seq: i32::MIN,
            },
            until_xid: now.xmax,
        }];
        Scan {
            snapshot: now,
            windows,
        }
    }

    /// What `now` sees and `before` did not.
    pub fn between(before: &Snapshot, now: Snapshot) -> Scan {
        let mut windows = Vec::new();
        if now.xmax > before.xmax {
            windows.push(Window {
                after: start_of(before.xmax),
                until_xid: now.xmax,
            });
        }
        for &xid in before.running.iter().rev().filter(|xid| now.sees(**xid)) {
            windows.push(Window {
                after: start_of(xid),
                until_xid: xid + 1,
            });
        }
        Scan {
            snapshot: now,
            windows,
        }
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The next rows to read, or `None` when all were.
    pub fn window(&self) -> Option<Window> {
        self.windows.last().copied()
    }

    /// All rows of the present window were read.
    pub fn window_done(&mut self) {
        self.windows.pop();
    }

    /// Rows up to here were read, more may follow in the window.
    pub fn advance(&mut self, to: Position) {
        if let Some(window) = self.windows.last_mut() {
            window.after = to;
        }
    }
}

fn start_of(xid: u64) -> Position {
    Position {
        xid: xid.saturating_sub(1),
        seq: i32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_text_form() {
        assert_eq!(
            Snapshot::parse("10:20:10,14"),
            Ok(Snapshot {
                xmin: 10,
                xmax: 20,
                running: vec![10, 14]
            })
        );
        assert_eq!(
            Snapshot::parse("7:7:"),
            Ok(Snapshot {
                xmin: 7,
                xmax: 7,
                running: vec![]
            })
        );
        assert!(Snapshot::parse("7:7").is_err());
        assert!(Snapshot::parse("7:x:").is_err());
    }

    /// Transactions begin in order and end in any order; scans come in between. Every committed
    /// transaction has to be read by exactly one scan.
    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        End(prop::sample::Index),
        Scan,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Begin),
            3 => any::<prop::sample::Index>().prop_map(Step::End),
            1 => Just(Step::Scan),
        ]
    }

    fn read(scan: &mut Scan, committed: &BTreeSet<u64>) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some(window) = scan.window() {
            seen.extend(
                committed
                    .iter()
                    .filter(|xid| Position { xid: **xid, seq: 0 } > window.after)
                    .filter(|xid| **xid < window.until_xid && scan.snapshot().sees(**xid)),
            );
            scan.window_done();
        }
        seen
    }

    proptest! {
        #[test]
        fn every_commit_is_read_once(steps in prop::collection::vec(step(), 1..200)) {
            let (mut next, mut running, mut committed) = (100u64, BTreeSet::new(), BTreeSet::new());
            let mut before: Option<Snapshot> = None;
            let mut seen = Vec::new();
            let snapshot = |next: u64, running: &BTreeSet<u64>| Snapshot {
                xmin: running.first().copied().unwrap_or(next),
                xmax: next,
                running: running.iter().copied().collect(),
            };
            for step in steps.into_iter().chain([Step::Scan]) {
                match step {
                    Step::Begin => { running.insert(next); next += 1; }
                    Step::End(index) if !running.is_empty() => {
                        let all: Vec<u64> = running.iter().copied().collect();
                        let xid = *index.get(&all);
                        running.remove(&xid);
                        committed.insert(xid);
                    }
                    Step::End(_) => {}
                    Step::Scan => {
                        let now = snapshot(next, &running);
                        let mut scan = match &before {
                            None => Scan::everything(now.clone()),
                            Some(before) => Scan::between(before, now.clone()),
                        };
                        seen.extend(read(&mut scan, &committed));
                        before = Some(now);
                    }
                }
            }
            let unique: BTreeSet<u64> = seen.iter().copied().collect();
            prop_assert_eq!(unique.len(), seen.len());
            prop_assert_eq!(unique, committed);
        }
    }
}
