//! What people do in HubSpot's own screens, and a look at the records for tests.

use std::collections::BTreeMap;

use serde::Serialize;

use super::HubSpot;
use super::store::{ChangeSource, Record, State, Store};
use super::types::ObjectType;
use super::write::Moment;
use crate::clock::{Millis, Now};

/// A record as tests look at it: only values that are not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HubSpotRecord {
    pub id: u64,
    pub properties: BTreeMap<String, String>,
    pub archived: bool,
    /// Milliseconds since 1970.
    pub created_at: i64,
    pub updated_at: i64,
}

/// An association, one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Association {
    pub from_type: &'static str,
    pub from: u64,
    pub to_type: &'static str,
    pub to: u64,
    /// HubSpot's own types.
    pub type_ids: Vec<u32>,
    /// Labels that people gave the pair.
    pub labels: Vec<u32>,
}

fn by_a_person() -> Moment {
    let now = Now::read();
    Moment {
        now,
        arrived: now.mono,
        answered: now.mono,
        source: ChangeSource::CrmUi,
        since_2026_09: false,
    }
}

impl HubSpot {
    /// A person sets values; a property that does not exist is an error.
    pub(crate) fn person_sets(
        &mut self,
        object: ObjectType,
        id: u64,
        values: &[(String, String)],
    ) -> Result<(), String> {
        let moment = by_a_person();
        let position = self.live(object, id)?;
        for (name, value) in values {
            let key = self.stores[object.index()]
                .definitions
                .find(name)
                .ok_or_else(|| format!("no property {name}"))?
                .0;
            let value = if name == "email" {
                value.to_lowercase()
            } else {
                value.clone()
            };
            let holder = self.stores[object.index()].holder(key, &value);
            if holder.is_some_and(|holder| holder != position) {
                return Err(format!("another record has {name} {value}"));
            }
            self.set(object, position, key, &value, &moment);
        }
        Ok(())
    }

    pub(crate) fn person_creates(
        &mut self,
        object: ObjectType,
        values: &[(String, String)],
    ) -> Result<u64, String> {
        let position = self.create(object, values.len(), &by_a_person());
        let id = self.stores[object.index()].records[position].id;
        self.person_sets(object, id, values)?;
        Ok(id)
    }

    pub(crate) fn person_deletes(
        &mut self,
        object: ObjectType,
        id: u64,
        erase: bool,
    ) -> Result<(), String> {
        let position = self.live(object, id)?;
        self.delete(object, position, erase, &by_a_person());
        Ok(())
    }

    pub(crate) fn person_restores(&mut self, object: ObjectType, id: u64) -> Result<(), String> {
        let moment = by_a_person();
        let store = &mut self.stores[object.index()];
        let position = store
            .position(id)
            .filter(|at| matches!(store.records[*at].state, State::Archived(_)));
        let position = position.ok_or_else(|| format!("no deleted record {id}"))?;
        store.records[position].state = State::Live;
        store.records[position].updated = moment.now.wall;
        let values = store.records[position].values.clone();
        for stored in values.iter().filter(|stored| !stored.value.is_empty()) {
            store.claim(stored.key, &stored.value, position);
        }
        self.events
            .restore(object, id, &moment, &self.config.subscriptions);
        Ok(())
    }

    /// Returns the id of the record that survives: a new one.
    pub(crate) fn person_merges(
        &mut self,
        object: ObjectType,
        primary: u64,
        other: u64,
    ) -> Result<u64, String> {
        let (primary, other) = (self.live(object, primary)?, self.live(object, other)?);
        if primary == other {
            return Err("a record can't be merged with itself".to_owned());
        }
        let survivor = self.merge(object, primary, other, &by_a_person());
        Ok(self.stores[object.index()].records[survivor].id)
    }

    pub(crate) fn person_associates(
        &mut self,
        from: (ObjectType, u64),
        to: (ObjectType, u64),
    ) -> Result<(), String> {
        self.live(from.0, from.1)?;
        self.live(to.0, to.1)?;
        self.connect(from, to, &[], &by_a_person());
        Ok(())
    }

    /// A person gives the pair a label, which is defined if there is none of that number.
    pub(crate) fn person_labels(
        &mut self,
        from: (ObjectType, u64),
        to: (ObjectType, u64),
        label: u32,
    ) -> Result<(), String> {
        self.live(from.0, from.1)?;
        self.live(to.0, to.1)?;
        self.associations.label(from, to, label);
        Ok(())
    }

    fn live(&self, object: ObjectType, id: u64) -> Result<usize, String> {
        let store = &self.stores[object.index()];
        store
            .position(id)
            .filter(|at| store.records[*at].is_live())
            .ok_or_else(|| format!("no {} {id}", object.singular()))
    }

    /// Records in the order of their ids, either live or archived ones.
    pub(crate) fn look(&self, object: ObjectType, archived: bool) -> Vec<HubSpotRecord> {
        let store = &self.stores[object.index()];
        let wanted = |record: &&Record| {
            if archived {
                matches!(record.state, State::Archived(_))
            } else {
                record.is_live()
            }
        };
        store
            .records
            .iter()
            .filter(wanted)
            .map(|record| seen(store, record))
            .collect()
    }

    pub(crate) fn look_at(&self, object: ObjectType, id: u64) -> Option<HubSpotRecord> {
        let store = &self.stores[object.index()];
        let record = &store.records[store.position(id)?];
        matches!(record.state, State::Live | State::Archived(_)).then(|| seen(store, record))
    }

    /// The live record with a value of a unique property.
    pub(crate) fn look_up(
        &self,
        object: ObjectType,
        property: &str,
        value: &str,
    ) -> Option<HubSpotRecord> {
        let store = &self.stores[object.index()];
        let (key, _) = store.definitions.find(property)?;
        let position = match store.is_unique(key) {
            true => store.holder(key, value)?,
            false => store
                .records
                .iter()
                .position(|r| r.is_live() && r.value(key).is_some_and(|s| &*s.value == value))?,
        };
        Some(seen(store, &store.records[position]))
    }

    pub(crate) fn count(&self, object: ObjectType) -> usize {
        self.stores[object.index()]
            .records
            .iter()
            .filter(|record| record.is_live())
            .count()
    }

    pub(crate) fn look_at_associations(&self) -> Vec<Association> {
        self.associations
            .all()
            .map(|(from, to, types)| Association {
                from_type: from.0.plural(),
                from: from.1,
                to_type: to.0.plural(),
                to: to.1,
                type_ids: types.iter().filter_map(|tie| tie.defined()).collect(),
                labels: types.iter().filter_map(|tie| tie.label()).collect(),
            })
            .collect()
    }

    /// Webhooks that wait, as ready requests.
    pub(crate) fn take_webhooks(&mut self, now: Millis) -> Vec<crate::delivery::Delivery> {
        self.events.take(&self.config, now)
    }
}

fn seen(store: &Store, record: &Record) -> HubSpotRecord {
    HubSpotRecord {
        id: record.id,
        properties: record
            .values
            .iter()
            .filter(|stored| !stored.value.is_empty())
            .map(|stored| {
                (
                    store.definitions.get(stored.key).name.clone(),
                    stored.value.to_string(),
                )
            })
            .collect(),
        archived: !record.is_live(),
        created_at: record.created,
        updated_at: record.updated,
    }
}
