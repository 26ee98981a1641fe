//! Queue rows of held sources: left in the table, and found again when the source is released.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    queue::scan::Position,
    record::{Lane, SourceId},
};

/// Queue rows of one source that one transaction wrote one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The transaction.
    pub xid: u64,
    /// Number of the first row in it.
    pub first: i32,
    /// Number of the last row in it.
    pub last: i32,
}

/// Which rows were passed over, and which of them are to be read now.
#[derive(Debug, Default)]
pub struct Parked {
    runs: BTreeMap<(SourceId, Lane), Stretch>,
    released: VecDeque<(Lane, Run)>,
    /// Keys in rows of released sources that have not been read.
    released_keys: usize,
}

#[derive(Debug, Default)]
struct Stretch {
    runs: Vec<Run>,
    keys: usize,
}

impl Parked {
    /// A row is passed over that holds so many keys.
    pub fn skip(&mut self, source: SourceId, lane: Lane, row: Position, keys: usize) {
        let stretch = self.runs.entry((source, lane)).or_default();
        stretch.keys += keys;
        match stretch.runs.last_mut() {
            Some(run) if run.xid == row.xid && run.last.checked_add(1) == Some(row.seq) => {
                run.last = row.seq;
            }
            _ => stretch.runs.push(Run {
                xid: row.xid,
                first: row.seq,
                last: row.seq,
            }),
        }
    }

    /// A source is held no longer: its rows are to be read.
    pub fn release(&mut self, source: SourceId) {
        let lanes: Vec<(SourceId, Lane)> = self
            .runs
            .keys()
            .filter(|(known, _)| *known == source)
            .copied()
            .collect();
        for key in lanes {
            if let Some(stretch) = self.runs.remove(&key) {
                self.released_keys += stretch.keys;
                let runs = stretch.runs.into_iter().map(|run| (key.1, run));
                self.released.extend(runs);
            }
        }
    }

    /// Whether rows of released sources wait to be read.
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Takes out runs to be read, all of one lane, with about `most` rows or fewer.
    pub fn next(&mut self, most: usize) -> Option<(Lane, Vec<Run>)> {
        let (lane, _) = *self.released.front()?;
        let (mut runs, mut rows) = (Vec::new(), 0);
        while let Some((its, run)) = self.released.front_mut() {
            let left = most.saturating_sub(rows);
            if *its != lane || left == 0 {
                break;
            }
            let length = usize::try_from(i64::from(run.last) - i64::from(run.first) + 1);
            let length = length.unwrap_or(1).max(1);
            if length <= left {
                rows += length;
                runs.push(*run);
                self.released.pop_front();
            } else {
                let taken = i32::try_from(left).unwrap_or(i32::MAX);
                runs.push(Run {
                    last: run.first + taken - 1,
                    ..*run
                });
                run.first += taken;
                break;
            }
        }
        if self.released.is_empty() {
            self.released_keys = 0;
        }
        Some((lane, runs))
    }

    /// Keys in rows that were passed over, about.
    pub fn keys(&self) -> usize {
        let parked: usize = self.runs.values().map(|stretch| stretch.keys).sum();
        parked + self.released_keys
    }

    /// So many keys of released rows have been read.
    pub fn read(&mut self, keys: usize) {
        self.released_keys = self.released_keys.saturating_sub(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(xid: u64, seq: i32) -> Position {
        Position { xid, seq }
    }

    #[test]
    fn rows_of_a_transaction_are_one_run() {
        let mut parked = Parked::default();
        for seq in 0..5 {
            parked.skip(SourceId(1), Lane::Live, at(7, seq), 10);
        }
        parked.skip(SourceId(1), Lane::Live, at(7, 6), 1);
        parked.skip(SourceId(1), Lane::Live, at(8, 7), 1);
        parked.skip(SourceId(2), Lane::Live, at(9, 0), 1);
        assert_eq!(parked.keys(), 53);
        assert!(!parked.has_released());
        parked.release(SourceId(1));
        let run = |xid, first, last| Run { xid, first, last };
        assert_eq!(parked.next(3), Some((Lane::Live, vec![run(7, 0, 2)])));
        assert_eq!(
            parked.next(100),
            Some((Lane::Live, vec![run(7, 3, 4), run(7, 6, 6), run(8, 7, 7)]))
        );
        assert_eq!(parked.next(100), None);
        assert_eq!(parked.keys(), 1, "the other source is held");
    }

    #[test]
    fn lanes_are_read_one_by_one() {
        let mut parked = Parked::default();
        parked.skip(SourceId(1), Lane::Live, at(7, 0), 1);
        parked.skip(SourceId(1), Lane::OptOut, at(7, 1), 1);
        parked.release(SourceId(1));
        assert_eq!(parked.next(9).map(|(lane, _)| lane), Some(Lane::OptOut));
        assert_eq!(parked.next(9).map(|(lane, _)| lane), Some(Lane::Live));
        assert!(!parked.has_released());
    }
}
