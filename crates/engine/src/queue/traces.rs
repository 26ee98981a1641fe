//! What the queue tells of a record that an earlier worker may have had in a call when it ended.
//!
//! Such a call may have been carried out, and nobody heard of it. If the row is back to what both
//! sides agreed on before, nothing seems to be left to send, though the service holds what it was in
//! between. What has been changed in the meantime is in the queue, so that is sent again, and
//! nothing else: a record that has nothing in the queue had no call under way.

use std::rc::Rc;

use crate::{
    record::{Timestamp, mapping::FieldId},
    sync::clock::{FieldClock, Tick, ValueHash, Writer},
};

/// What the queued changes of a record say about its past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// One of them was there when this worker began: it may have been sent before.
    inherited: bool,
    /// There are several.
    several: bool,
    /// The row went; if there is one, it was entered again.
    gone: bool,
    /// Numbers of the columns that changed, as a set of bits. Not those of an insert: what is empty
    /// since then was changed by something else that is in the queue.
    columns: Option<Rc<[u8]>>,
}

impl Traces {
    /// Of one change. `inherited`: it was queued before the worker began.
    pub fn new(inherited: bool, gone: bool, columns: Option<Rc<[u8]>>) -> Traces {
        Traces {
            inherited,
            several: false,
            gone,
            columns,
        }
    }

    /// Another change of the same record.
    pub fn join(&mut self, other: &Traces) {
        self.inherited |= other.inherited;
        self.gone |= other.gone;
        self.several = true;
        match (&mut self.columns, &other.columns) {
            (Some(mine), Some(others)) if mine != others => {
                let bytes = mine.len().max(others.len());
                let byte = |set: &[u8], at: usize| set.get(at).copied().unwrap_or(0);
                *mine = (0..bytes)
                    .map(|at| byte(mine, at) | byte(others, at))
                    .collect();
            }
            (None, Some(others)) => self.columns = Some(others.clone()),
            (Some(_), _) | (None, None) => {}
        }
    }

    /// Whether some of it may have been sent by an earlier worker.
    pub const fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// The fields that the service may hold otherwise than `clock` says.
    pub fn doubts(&self, clock: &FieldClock, fields: &[Watched], at: Timestamp) -> Vec<Tick> {
        if !self.inherited {
            return Vec::new();
        }
        let tick = |field| Tick {
            field,
            hash: ValueHash::UNCERTAIN,
            at,
            by: Writer::Crm,
        };
        let written = |field| clock.get(field).is_some();
        let key = self.gone && written(FieldId::CRM_KEY);
        // What the CRM holds of such a field may be a part of what the service does: it must not be
        // sent because it may have been. What the CRM has changed since is sent anyway.
        let whole = fields
            .iter()
            .filter(|watched| !clock.is_lossy(watched.field));
        let changed = whole.filter(|watched| {
            let named = watched.number.is_some_and(|number| self.has(number));
            // Which of them changed cannot be told: one that came back takes a second change.
            let perhaps = watched.number.is_none() && self.several && self.columns.is_some();
            let again = self.gone && watched.returns;
            named || ((perhaps || again) && written(watched.field))
        });
        key.then(|| tick(FieldId::CRM_KEY))
            .into_iter()
            .chain(changed.map(|watched| tick(watched.field)))
            .collect()
    }

    fn has(&self, number: i16) -> bool {
        let number = usize::from(number.unsigned_abs());
        let byte = self.columns.as_ref().and_then(|set| set.get(number / 8));
        byte.is_some_and(|byte| byte & (1 << (number % 8)) != 0)
    }
}

/// A field that travels to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pub field: FieldId,
    /// Number of its column as triggers see it. `None`: it is computed, or the table has parts with
    /// columns in another order.
    pub number: Option<i16>,
    /// Whether a row that was entered again may have lost it. What the link notes before each call
    /// stays as it was.
    pub returns: bool,
}

/// What is left of doubts once `sent` is known to have arrived.
pub fn but_for(mut doubts: Vec<Tick>, sent: &[Tick]) -> Vec<Tick> {
    doubts.retain(|doubt| sent.iter().all(|tick| tick.field != doubt.field));
    doubts
}

#[cfg(test)]
mod tests;
