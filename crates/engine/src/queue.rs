//! One target's changes in memory: coalesced by record, one flight per record, every queue row
//! given back exactly when the last change it holds is settled.
//!
//! The table remains the truth: whatever is in here can be lost and is then read again.

mod ends;
mod parked;
pub mod scan;
pub mod traces;

use std::collections::{BTreeMap, HashSet, VecDeque, hash_map};

use crate::{
    queue::traces::Traces,
    record::{Entity, Lane, RecordMap, RecordRef, SourceId, Timestamp},
};

pub use parked::{Parked, Run};

/// A row of the queue table, by whatever the caller finds it again with.
pub trait RowId: Copy + PartialEq {}
impl<T: Copy + PartialEq> RowId for T {}

/// A queued change of one record.
#[derive(Clone, Debug)]
pub struct Change {
    pub record: RecordRef,
    pub entity: Entity,
    pub lane: Lane,
    pub changed_at: Timestamp,
    /// Failed attempts so far, for changes that come from the retry table.
    pub attempts: u32,
    /// What may have been sent of it before this worker began.
    pub traces: Traces,
}

/// A record taken out to be sent; give it back with one of the `Queue`'s closing calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    record: RecordRef,
    entity: Entity,
    lane: Lane,
    changed_at: Timestamp,
    attempts: u32,
    /// Of all its changes since it came in, those that came in flight included.
    traces: Traces,
    batch_cap: usize,
    rounds: u32,
    flying: bool,
    /// It is in the retry table.
    retried: bool,
    /// Rows whose change this flight carries (or will carry).
    rows: Vec<u32>,
    /// Rows that came while flying: their change may be newer than what was read.
    late: Vec<u32>,
    late_lane: Option<Lane>,
    late_changed_at: Timestamp,
}

#[derive(Debug)]
struct Row<R> {
    id: R,
    open: u32,
}

/// What a closed flight gives back.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed<R> {
    /// Queue rows that hold no unsettled change any more.
    pub rows: Vec<R>,
}

/// The most records a call may hold before anything went wrong with one of them.
pub const NO_CAP: usize = usize::MAX;

/// See the module's documentation.
#[derive(Debug)]
pub struct Queue<R> {
    slots: Vec<(u32, Option<Entry>)>,
    free: Vec<u32>,
    by_record: RecordMap<u32>,
    ready: BTreeMap<(Lane, Entity, SourceId), VecDeque<Handle>>,
    rows: Vec<Option<Row<R>>>,
    free_rows: Vec<u32>,
    flying: usize,
    retried: usize,
    retried_flying: usize,
    /// Sources none of whose records are handed out.
    held: HashSet<SourceId>,
    /// Records of each source that are not flying.
    waiting: BTreeMap<SourceId, usize>,
}

impl<R: RowId> Default for Queue<R> {
    fn default() -> Self {
        Queue {
            slots: Vec::new(),
            free: Vec::new(),
            by_record: RecordMap::default(),
            ready: BTreeMap::new(),
            rows: Vec::new(),
            free_rows: Vec::new(),
            flying: 0,
            retried: 0,
            retried_flying: 0,
            held: HashSet::new(),
            waiting: BTreeMap::new(),
        }
    }
}

impl<R: RowId> Queue<R> {
    /// Records in memory, flying ones included.
    pub fn len(&self) -> usize {
        self.by_record.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_record.is_empty()
    }

    pub fn flying(&self) -> usize {
        self.flying
    }

    /// Records in memory that are in the retry table as well, and how many of those are flying.
    pub fn retried(&self) -> (usize, usize) {
        (self.retried, self.retried_flying)
    }

    /// Records that may be taken out.
    pub fn ready(&self) -> usize {
        self.len() - self.flying - self.parked()
    }

    /// Records of held sources that wait in memory.
    pub fn parked(&self) -> usize {
        let waiting = |source| self.waiting.get(source).copied().unwrap_or(0);
        self.held.iter().map(waiting).sum()
    }

    /// Sources none of whose records are handed out; returns those that were held and are no longer.
    pub fn hold(&mut self, sources: HashSet<SourceId>) -> Vec<SourceId> {
        let before = std::mem::replace(&mut self.held, sources);
        before.difference(&self.held).copied().collect()
    }

    /// Whether a source's records stay where they are.
    pub fn holds(&self, source: SourceId) -> bool {
        self.held.contains(&source)
    }

    /// The held sources.
    pub fn held(&self) -> impl Iterator<Item = SourceId> {
        self.held.iter().copied()
    }

    fn waits(&mut self, source: SourceId, more: bool) {
        let waiting = self.waiting.entry(source).or_default();
        *waiting = match more {
            true => *waiting + 1,
            false => waiting.saturating_sub(1),
        };
    }

    /// Whether a flight of this record is under way.
    pub fn is_flying(&self, record: &RecordRef) -> bool {
        let slot = self
            .by_record
            .get(record)
            .and_then(|slot| self.slots[*slot as usize].1.as_ref());
        slot.is_some_and(|entry| entry.flying)
    }

    /// When the CRM last changed this record, as far as the changes in memory tell.
    pub fn changed_at(&self, record: &RecordRef) -> Option<Timestamp> {
        let slot = *self.by_record.get(record)?;
        let entry = self.slots[slot as usize].1.as_ref()?;
        Some(entry.changed_at.max(entry.late_changed_at))
    }

    /// When the change at the head of the earliest lane was made: the oldest, as changes come in order.
    pub fn oldest(&self) -> Option<Timestamp> {
        let head = |line: &VecDeque<Handle>| {
            line.iter()
                .find_map(|handle| Some(self.entry(*handle)?.changed_at))
        };
        self.ready.values().filter_map(head).min()
    }

    /// Adds a queue row with all the changes it holds.
    pub fn push_row(&mut self, id: R, changes: impl IntoIterator<Item = Change>) {
        let row = match self.free_rows.pop() {
            Some(row) => row,
            None => {
                self.rows.push(None);
                (self.rows.len() - 1) as u32
            }
        };
        let mut open = 0;
        for change in changes {
            open += 1;
            self.push(change, Some(row));
        }
        self.rows[row as usize] = Some(Row { id, open });
    }

    /// Adds a change that no queue row stands for (it lives in the retry table).
    pub fn push_retry(&mut self, change: Change) {
        self.push(change, None);
    }

    fn push(&mut self, change: Change, row: Option<u32>) {
        let slot = match self.by_record.entry(change.record.clone()) {
            hash_map::Entry::Occupied(known) => {
                let slot = *known.get();
                self.coalesce(slot, change, row);
                return;
            }
            hash_map::Entry::Vacant(place) => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.slots.push((0, None));
                    (self.slots.len() - 1) as u32
                });
                *place.insert(slot)
            }
        };
        let source = change.record.source;
        let entry = Entry {
            lane: change.lane,
            entity: change.entity,
            changed_at: change.changed_at,
            attempts: change.attempts,
            traces: change.traces,
            batch_cap: NO_CAP,
            rounds: 0,
            flying: false,
            retried: row.is_none(),
            rows: row.into_iter().collect(),
            late: Vec::new(),
            late_lane: None,
            late_changed_at: Timestamp::default(),
            record: change.record,
        };
        self.retried += usize::from(entry.retried);
        self.slots[slot as usize].1 = Some(entry);
        self.waits(source, true);
        self.enqueue(slot, false);
    }

    fn coalesce(&mut self, slot: u32, change: Change, row: Option<u32>) {
        let Some(entry) = self.slots[slot as usize].1.as_mut() else {
            return;
        };
        entry.traces.join(&change.traces);
        if entry.flying {
            // A retry of what is flying adds nothing; a new change has to be sent after it.
            if let Some(row) = row {
                entry.late.push(row);
                entry.late_lane = Some(
                    entry
                        .late_lane
                        .map_or(change.lane, |lane| lane.min(change.lane)),
                );
                entry.late_changed_at = entry.late_changed_at.max(change.changed_at);
            }
            return;
        }
        if row.is_none() && !std::mem::replace(&mut entry.retried, true) {
            self.retried += 1;
        }
        entry.rows.extend(row);
        entry.changed_at = entry.changed_at.max(change.changed_at);
        entry.attempts = entry.attempts.max(change.attempts);
        if change.lane < entry.lane {
            entry.lane = change.lane;
            self.enqueue(slot, false);
        }
    }

    fn enqueue(&mut self, slot: u32, front: bool) {
        let (generation, entry) = &self.slots[slot as usize];
        let Some(entry) = entry else { return };
        let handle = Handle {
            slot,
            generation: *generation,
        };
        let line = self
            .ready
            .entry((entry.lane, entry.entity, entry.record.source))
            .or_default();
        if front {
            line.push_front(handle);
        } else {
            line.push_back(handle);
        }
    }

    /// Whether there may be something ready in a lane.
    pub fn has_any(&self, lane: Lane) -> bool {
        let mut lines = self.ready.keys();
        lines.any(|(known, _, source)| *known == lane && !self.holds(*source))
    }

    /// Takes out up to `most` records for a flight, earlier lanes first, parents before children.
    pub fn take(&mut self, most: usize) -> Vec<Handle> {
        self.take_from(|_| true, most)
    }

    /// As [`Queue::take`], of one lane only.
    pub fn take_in(&mut self, lane: Lane, most: usize) -> Vec<Handle> {
        self.take_from(|known| known == lane, most)
    }

    /// Whether a record waits in this lane.
    pub fn has_ready(&self, lane: Lane) -> bool {
        let offered =
            |(known, _, source): &(Lane, Entity, SourceId)| *known == lane && !self.holds(*source);
        let mut lines = self.ready.iter().filter(|(line, _)| offered(line));
        lines.any(|(_, line)| {
            line.iter().any(|handle| {
                let entry = self.entry(*handle);
                entry.is_some_and(|entry| !entry.flying && entry.lane == lane)
            })
        })
    }

    fn take_from(&mut self, wanted: impl Fn(Lane) -> bool, most: usize) -> Vec<Handle> {
        let mut taken = Vec::with_capacity(most.min(self.ready()));
        let mut ready = std::mem::take(&mut self.ready);
        for ((lane, _, source), line) in &mut ready {
            if !wanted(*lane) || self.holds(*source) {
                continue;
            }
            while taken.len() < most {
                let Some(handle) = line.pop_front() else {
                    break;
                };
                let (generation, entry) = &mut self.slots[handle.slot as usize];
                let current = entry.as_mut().filter(|entry| {
                    *generation == handle.generation && !entry.flying && entry.lane == *lane
                });
                // Anything else is the trace of a record that moved to an earlier lane.
                if let Some(entry) = current {
                    entry.flying = true;
                    self.flying += 1;
                    self.retried_flying += usize::from(entry.retried);
                    self.waits(*source, false);
                    taken.push(handle);
                }
            }
        }
        ready.retain(|_, line| !line.is_empty());
        self.ready = ready;
        taken
    }

    fn entry(&self, handle: Handle) -> Option<&Entry> {
        let (generation, entry) = self.slots.get(handle.slot as usize)?;
        entry.as_ref().filter(|_| *generation == handle.generation)
    }

    pub fn record(&self, handle: Handle) -> Option<&RecordRef> {
        self.entry(handle).map(|entry| &entry.record)
    }

    pub fn change(&self, handle: Handle) -> Option<Change> {
        self.entry(handle).map(|entry| Change {
            record: entry.record.clone(),
            entity: entry.entity,
            lane: entry.lane,
            changed_at: entry.changed_at,
            attempts: entry.attempts,
            traces: entry.traces.clone(),
        })
    }

    pub fn batch_cap(&self, handle: Handle) -> usize {
        self.entry(handle).map_or(NO_CAP, |entry| entry.batch_cap)
    }

    /// How often in a row this record has been sent [`Queue::again`].
    pub fn rounds(&self, handle: Handle) -> u32 {
        self.entry(handle).map_or(0, |entry| entry.rounds)
    }
}

#[cfg(test)]
mod tests;
