//! How a flight ends: closed, sent again, given back or withdrawn.

use super::{Closed, Entry, Handle, NO_CAP, Queue, RowId};
use crate::record::{Lane, SourceId};

impl<R: RowId> Queue<R> {
    /// The flight is over for good (delivered, dead, or noted in the retry table). A change that
    /// came in the meantime stays, and is ready.
    pub fn close(&mut self, handle: Handle) -> Closed<R> {
        let mut closed = Closed { rows: Vec::new() };
        let (generation, stored) = &mut self.slots[handle.slot as usize];
        if *generation != handle.generation {
            return closed;
        }
        let Some(mut entry) = stored.take() else {
            return closed;
        };
        self.flying -= usize::from(entry.flying);
        if !entry.flying {
            self.waits(entry.record.source, false);
        }
        let (generation, _) = &mut self.slots[handle.slot as usize];
        self.retried_flying -= usize::from(entry.flying && entry.retried);
        self.retried -= usize::from(std::mem::take(&mut entry.retried));
        *generation = generation.wrapping_add(1);
        for row in entry.rows.drain(..) {
            if let Some(state) = &mut self.rows[row as usize] {
                state.open -= 1;
                if state.open == 0 {
                    closed.rows.push(state.id);
                    self.rows[row as usize] = None;
                    self.free_rows.push(row);
                }
            }
        }
        if entry.late.is_empty() {
            self.by_record.remove(&entry.record);
            self.free.push(handle.slot);
            return closed;
        }
        entry.rows = std::mem::take(&mut entry.late);
        entry.lane = entry.late_lane.take().unwrap_or(entry.lane);
        entry.changed_at = std::mem::take(&mut entry.late_changed_at);
        entry.attempts = 0;
        entry.batch_cap = NO_CAP;
        entry.rounds = 0;
        entry.flying = false;
        self.waits(entry.record.source, true);
        self.slots[handle.slot as usize].1 = Some(entry);
        self.enqueue(handle.slot, false);
        closed
    }

    /// The record has to fly again at once, in calls of at most `batch_cap` records.
    pub fn again(&mut self, handle: Handle, batch_cap: Option<usize>) {
        self.back(handle, |entry| {
            entry.rounds += 1;
            if let Some(cap) = batch_cap {
                entry.batch_cap = entry.batch_cap.min(cap.max(1));
            }
        });
    }

    /// The record did not fly after all (its target went down): as before it was taken.
    pub fn put_back(&mut self, handle: Handle) {
        self.back(handle, |_| ());
    }

    fn back(&mut self, handle: Handle, change: impl FnOnce(&mut Entry)) {
        let (generation, entry) = &mut self.slots[handle.slot as usize];
        let Some(entry) = entry
            .as_mut()
            .filter(|entry| *generation == handle.generation && entry.flying)
        else {
            return;
        };
        entry.flying = false;
        self.flying -= 1;
        self.retried_flying -= usize::from(entry.retried);
        entry.rows.append(&mut entry.late);
        entry.changed_at = entry.changed_at.max(entry.late_changed_at);
        if let Some(lane) = entry.late_lane.take() {
            entry.lane = entry.lane.min(lane);
        }
        change(entry);
        let source = entry.record.source;
        self.waits(source, true);
        self.enqueue(handle.slot, true);
    }

    /// Takes a source's changes that wait in this lane out for good; nobody wants them sent any
    /// more. What is flying, or has moved to an earlier lane, stays. The caller deletes the rows.
    pub fn withdraw(&mut self, lane: Lane, source: SourceId) {
        let lines: Vec<_> = self
            .ready
            .keys()
            .filter(|(its_lane, _, its_source)| *its_lane == lane && *its_source == source)
            .copied()
            .collect();
        for line in lines {
            for handle in self.ready.remove(&line).unwrap_or_default() {
                let waits = self
                    .entry(handle)
                    .is_some_and(|entry| !entry.flying && entry.lane == lane);
                if waits {
                    self.close(handle);
                }
            }
        }
    }

    /// Forgets everything, as after a restart.
    pub fn clear(&mut self) {
        *self = Queue::default();
    }
}
