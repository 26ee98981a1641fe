//! The records of one object type, and the indexes of its unique properties.

use std::time::Instant;

use rustc_hash::FxHashMap;

use super::definitions::{Definitions, PropertyKey};
use super::types::ObjectType;
use crate::clock::{Millis, Now};

/// Who made a change, as HubSpot labels it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeSource {
    /// An app through the API.
    Integration,
    /// A person in HubSpot.
    CrmUi,
}

impl ChangeSource {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Integration => "INTEGRATION",
            Self::CrmUi => "CRM_UI",
        }
    }
}

/// A value of a record; `""` is kept, because it is a change that happened.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub key: PropertyKey,
    pub source: ChangeSource,
    pub at: Millis,
    pub value: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    /// In the recycle bin.
    Archived(Millis),
    /// Merged: the position of the record that survived.
    Merged(usize),
    /// Deleted for good.
    Erased,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub id: u64,
    pub state: State,
    pub created: Millis,
    pub updated: Millis,
    pub values: Vec<Stored>,
    /// Until when the answer to the last write is on its way: a write that arrives before is
    /// in flight at the same time.
    pub busy_until: Instant,
}

impl Record {
    #[inline]
    pub(crate) fn value(&self, key: PropertyKey) -> Option<&Stored> {
        self.values.iter().find(|stored| stored.key == key)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state == State::Live
    }
}

/// All records of a type. An id is `first_id` plus the position.
#[derive(Debug)]
pub(crate) struct Store {
    pub object: ObjectType,
    pub first_id: u64,
    pub definitions: Definitions,
    pub records: Vec<Record>,
    /// Value → position, for each unique property; holds live records only.
    unique: Vec<(PropertyKey, FxHashMap<Box<str>, usize>)>,
}

impl Store {
    pub(crate) fn new(object: ObjectType, first_id: u64) -> Self {
        let definitions = Definitions::of(object);
        let mut store = Self {
            object,
            first_id,
            definitions,
            records: Vec::new(),
            unique: Vec::new(),
        };
        if object == ObjectType::Contact
            && let Some((email, _)) = store.definitions.find("email")
        {
            store.index(email);
        }
        store
    }

    /// Starts to keep values of `key` unique.
    pub(crate) fn index(&mut self, key: PropertyKey) {
        if self.unique_index(key).is_none() {
            self.unique.push((key, FxHashMap::default()));
        }
    }

    pub(crate) fn is_unique(&self, key: PropertyKey) -> bool {
        self.unique_index(key).is_some()
    }

    #[inline]
    fn unique_index(&self, key: PropertyKey) -> Option<&FxHashMap<Box<str>, usize>> {
        self.unique
            .iter()
            .find(|(indexed, _)| *indexed == key)
            .map(|(_, index)| index)
    }

    fn unique_index_mut(&mut self, key: PropertyKey) -> Option<&mut FxHashMap<Box<str>, usize>> {
        self.unique
            .iter_mut()
            .find(|(indexed, _)| *indexed == key)
            .map(|(_, index)| index)
    }

    /// The live record that has this value of a unique property.
    #[inline]
    pub(crate) fn holder(&self, key: PropertyKey, value: &str) -> Option<usize> {
        self.unique_index(key)?.get(value).copied()
    }

    /// Gives a value of a unique property to a record, beside those it has (secondary e-mails).
    pub(crate) fn claim(&mut self, key: PropertyKey, value: &str, position: usize) {
        if let Some(index) = self.unique_index_mut(key) {
            index.insert(value.into(), position);
        }
    }

    /// Position of an id, whatever state the record is in.
    #[inline]
    pub(crate) fn position(&self, id: u64) -> Option<usize> {
        let position = usize::try_from(id.checked_sub(self.first_id)?).ok()?;
        (position < self.records.len()).then_some(position)
    }

    pub(crate) fn live(&self, id: &str) -> Option<usize> {
        let position = self.position(id.parse().ok()?)?;
        self.records[position].is_live().then_some(position)
    }

    /// Like [`Store::live`], but follows merges, as single reads and updates do.
    pub(crate) fn resolve(&self, id: &str) -> Option<usize> {
        let mut position = self.position(id.parse().ok()?)?;
        loop {
            match self.records[position].state {
                State::Live => return Some(position),
                State::Merged(into) => position = into,
                State::Archived(_) | State::Erased => return None,
            }
        }
    }

    /// A new record without values.
    pub(crate) fn create(&mut self, now: Now, capacity: usize) -> usize {
        let position = self.records.len();
        self.records.push(Record {
            id: self.first_id + position as u64,
            state: State::Live,
            created: now.wall,
            updated: now.wall,
            values: Vec::with_capacity(capacity),
            busy_until: now.mono,
        });
        position
    }

    /// Sets a value; whether that changed anything.
    pub(crate) fn set(
        &mut self,
        position: usize,
        key: PropertyKey,
        value: &str,
        source: ChangeSource,
        at: Millis,
    ) -> bool {
        let record = &mut self.records[position];
        let old = match record.values.iter_mut().find(|stored| stored.key == key) {
            Some(stored) if &*stored.value == value => return false,
            Some(stored) => {
                (stored.source, stored.at) = (source, at);
                Some(std::mem::replace(&mut stored.value, value.into()))
            }
            None if value.is_empty() => return false,
            None => {
                record.values.push(Stored {
                    key,
                    source,
                    at,
                    value: value.into(),
                });
                None
            }
        };
        record.updated = at;
        if let Some(index) = self.unique_index_mut(key) {
            if let Some(old) = old {
                index.remove(&old);
            }
            if !value.is_empty() {
                index.insert(value.into(), position);
            }
        }
        true
    }

    /// Takes a record out of use; its unique values become free.
    pub(crate) fn retire(&mut self, position: usize, state: State, now: Now) {
        self.records[position].state = state;
        self.records[position].updated = now.wall;
        for (_, index) in &mut self.unique {
            let record = &self.records[position];
            for stored in &record.values {
                if index.get(&stored.value) == Some(&position) {
                    index.remove(&stored.value);
                }
            }
        }
        self.free_secondary(position);
    }

    /// Secondary addresses are listed in one value, separated by semicolons.
    fn free_secondary(&mut self, position: usize) {
        let Some((email, secondary)) = self.email_keys() else {
            return;
        };
        let addresses = self.records[position]
            .value(secondary)
            .map(|stored| stored.value.clone());
        let Some(addresses) = addresses else { return };
        if let Some(index) = self.unique_index_mut(email) {
            for address in addresses.split(';') {
                if index.get(address) == Some(&position) {
                    index.remove(address);
                }
            }
        }
    }

    /// A contact's addresses, primary and secondary.
    pub(crate) fn addresses(&self, position: usize) -> Vec<String> {
        let Some((email, secondary)) = self.email_keys() else {
            return Vec::new();
        };
        let held = [email, secondary].map(|key| self.records[position].value(key));
        let texts = held.into_iter().flatten().map(|stored| &*stored.value);
        texts
            .flat_map(|text| text.split(';'))
            .filter(|address| !address.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Keys of a contact's primary and secondary addresses.
    pub(crate) fn email_keys(&self) -> Option<(PropertyKey, PropertyKey)> {
        let email = self.definitions.find("email")?.0;
        Some((email, self.definitions.find("hs_additional_emails")?.0))
    }
}
