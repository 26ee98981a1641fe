//! What one statement is to write: at most one thing of each key.
//!
//! PostgreSQL refuses to insert or update a row twice in one statement, and of two changes of one
//! row an `UPDATE … FROM` takes either. So what is written by key is collected here, and things of
//! the same key become one as they come in.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    ops::Deref,
};

use crate::record::RecordHasher;

/// Something that is written under a key.
pub trait Keyed {
    type Key: Clone + Eq + Hash;

    fn key(&self) -> Self::Key;

    /// Becomes what is to be written of itself and of a later one with the same key.
    fn merge(&mut self, later: Self);
}

/// Things to be written, in the order in which their keys first came up.
#[derive(Clone, Debug)]
pub struct Once<T: Keyed> {
    things: Vec<T>,
    places: HashMap<T::Key, usize, RecordHasher>,
}

impl<T: Keyed> Default for Once<T> {
    fn default() -> Self {
        Once {
            things: Vec::new(),
            places: HashMap::default(),
        }
    }
}

impl<T: Keyed> Once<T> {
    pub fn push(&mut self, thing: T) {
        match self.places.entry(thing.key()) {
            Entry::Occupied(place) => self.things[*place.get()].merge(thing),
            Entry::Vacant(place) => {
                place.insert(self.things.len());
                self.things.push(thing);
            }
        }
    }

    /// With room for so many.
    pub fn with_capacity(things: usize) -> Once<T> {
        Once {
            things: Vec::with_capacity(things),
            places: HashMap::with_capacity_and_hasher(things, RecordHasher::default()),
        }
    }
}

impl<T: Keyed> Deref for Once<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.things
    }
}

impl<T: Keyed> Extend<T> for Once<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, things: I) {
        things.into_iter().for_each(|thing| self.push(thing));
    }
}

impl<T: Keyed> FromIterator<T> for Once<T> {
    fn from_iter<I: IntoIterator<Item = T>>(things: I) -> Self {
        let mut once = Once::default();
        once.extend(things);
        once
    }
}

impl<T: Keyed, const N: usize> From<[T; N]> for Once<T> {
    fn from(things: [T; N]) -> Self {
        things.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        limits::retry::Retry,
        record::{Lane, Op, RecordKey, RecordRef, SourceId, Timestamp},
    };

    fn retry() -> impl Strategy<Value = Retry> {
        let record = (0..3i32, 0..4u8);
        let lane = prop_oneof![Just(Lane::OptOut), Just(Lane::Retry)];
        let op = prop_oneof![Just(Op::Upsert), Just(Op::Delete)];
        (record, lane, op, 0..9u32, 0..5i64, 0..5i64).prop_map(
            |((source, key), lane, op, attempts, wait_ms, at)| Retry {
                record: RecordRef {
                    source: SourceId(source),
                    key: RecordKey::from(key.to_string()),
                },
                op,
                lane,
                attempts,
                wait_ms,
                why: format!("{op:?} {attempts} {wait_ms}"),
                enqueued_at: Timestamp(at),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Whatever planning and settling come to, and however often they name a record: one row
        /// of each, which says no less than each of those that were noted.
        #[test]
        fn a_key_is_met_once(noted in prop::collection::vec(retry(), 0..30)) {
            let once: Once<Retry> = noted.iter().cloned().collect();
            let mut keys: Vec<RecordRef> = once.iter().map(Keyed::key).collect();
            let mut first: Vec<RecordRef> = Vec::new();
            for retry in &noted {
                if !first.contains(&retry.record) {
                    first.push(retry.record.clone());
                }
            }
            prop_assert_eq!(&keys, &first);
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), once.len());
            for written in once.iter() {
                let of_it = || noted.iter().filter(|retry| retry.record == written.record);
                prop_assert_eq!(Some(written.attempts), of_it().map(|retry| retry.attempts).max());
                prop_assert_eq!(Some(written.lane), of_it().map(|retry| retry.lane).min());
                prop_assert_eq!(Some(written.enqueued_at), of_it().map(|retry| retry.enqueued_at).min());
                prop_assert_eq!(Some(written.wait_ms), of_it().map(|retry| retry.wait_ms).max());
                prop_assert_eq!(Some(written.op), of_it().map(|retry| retry.op).next_back());
                prop_assert!(of_it().any(|retry| retry.why == written.why && retry.wait_ms == written.wait_ms));
            }
        }
    }
}
