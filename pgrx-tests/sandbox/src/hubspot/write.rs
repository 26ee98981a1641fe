//! Planning and applying writes: what one input would change, whether that is allowed, and
//! doing it. Batches and single calls share this.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use super::HubSpot;
use super::definitions::PropertyKey;
use super::errors::Problem;
use super::rules;
use super::store::{ChangeSource, State, Store};
use super::types::{Kind, ObjectType};
use super::validate::{self, Values};
use crate::clock::Now;

/// Facts about the request that a write belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub now: Now,
    /// When the request's headers were in.
    pub arrived: Instant,
    /// When its answer leaves.
    pub answered: Instant,
    pub source: ChangeSource,
    /// HubSpot: from 2026-09 on, answers say which dates were normalised, and what administrators
    /// require is enforced.
    pub since_2026_09: bool,
}

/// What one input is going to do: to which record (a new one if none), and its part of the
/// batch's values.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub target: Option<usize>,
    pub values: Range<usize>,
}

impl HubSpot {
    /// Checks what HubSpot requires of the record as a whole.
    pub(crate) fn check_record(
        &self,
        store: &Store,
        target: Option<usize>,
        values: &[(PropertyKey, Cow<'_, str>)],
        moment: &Moment,
    ) -> Result<(), Problem> {
        self.check_unique(store, target, values)?;
        self.check_blocked(store, values)?;
        self.check_stage(store, target, values)?;
        if target.is_none() && self.config.required_on_create {
            check_required(store, values)?;
        }
        match moment.since_2026_09 {
            true => rules::check(store, target, values),
            false => Ok(()),
        }
    }

    fn check_unique(
        &self,
        store: &Store,
        target: Option<usize>,
        values: &[(PropertyKey, Cow<'_, str>)],
    ) -> Result<(), Problem> {
        for (key, value) in values {
            if value.is_empty() || !store.is_unique(*key) {
                continue;
            }
            let Some(holder) = store
                .holder(*key, value)
                .filter(|holder| Some(*holder) != target)
            else {
                continue;
            };
            let (holder, name) = (store.records[holder].id, &store.definitions.get(*key).name);
            let on = match target {
                Some(target) => store.records[target].id,
                None if store.object == ObjectType::Contact && name == "email" => {
                    return Err(exists(holder));
                }
                // A create has no id yet; HubSpot names the one it would have had.
                None => store.first_id + store.records.len() as u64,
            };
            return Err(Problem::validation(format!(
                "Cannot set PropertyValueCoordinates{{portalId={}, objectTypeId={}, propertyName={name}, value={value}}} \
                 on {on}. {holder} already has that value.",
                self.config.portal_id,
                store.object.number(),
            )));
        }
        Ok(())
    }

    /// HubSpot: an address may be kept out by an earlier GDPR deletion.
    fn check_blocked(
        &self,
        store: &Store,
        values: &[(PropertyKey, Cow<'_, str>)],
    ) -> Result<(), Problem> {
        if self.blocked.is_empty() {
            return Ok(());
        }
        match values.iter().find(|(key, value)| {
            store.definitions.get(*key).is_email && self.blocked.contains(&**value)
        }) {
            Some((_, value)) => Err(validate::refuse(
                "email",
                "INVALID_EMAIL",
                format!("{value} was deleted for privacy reasons"),
            )),
            None => Ok(()),
        }
    }

    /// Carries a plan out; returns the record's position.
    pub(crate) fn apply(
        &mut self,
        object: ObjectType,
        plan: &Plan,
        values: &Values<'_>,
        moment: &Moment,
    ) -> usize {
        let position = match plan.target {
            Some(position) => position,
            None => self.create(object, plan.values.len(), moment),
        };
        self.mark_busy(object, position, moment);
        for (key, value) in &values[plan.values.clone()] {
            self.set(object, position, *key, value, moment);
        }
        position
    }

    /// Notes that a write of this record is on its way, and whether another one is.
    pub(crate) fn mark_busy(&mut self, object: ObjectType, position: usize, moment: &Moment) {
        let record = &mut self.stores[object.index()].records[position];
        if record.busy_until > moment.arrived && moment.source == ChangeSource::Integration {
            self.overlaps += 1;
        }
        record.busy_until = record.busy_until.max(moment.answered);
    }

    /// A new record and its webhook.
    pub(crate) fn create(&mut self, object: ObjectType, capacity: usize, moment: &Moment) -> usize {
        let position = self.stores[object.index()].create(moment.now, capacity);
        // Not in flight by itself: only a later request may overlap with this one.
        self.stores[object.index()].records[position].busy_until = moment.arrived;
        self.events.creation(
            object,
            self.stores[object.index()].records[position].id,
            moment,
            &self.config.subscriptions,
        );
        position
    }

    /// Sets one value, with HubSpot's special rules, and queues the webhook.
    pub(crate) fn set(
        &mut self,
        object: ObjectType,
        position: usize,
        key: PropertyKey,
        value: &str,
        moment: &Moment,
    ) {
        let store = &mut self.stores[object.index()];
        if store.definitions.get(key).name == "lifecyclestage"
            && moves_back(store, position, key, value)
        {
            // HubSpot ignores a backward lifecycle stage without an error.
            return;
        }
        if is_secondary_email(store, position, key, value) {
            return;
        }
        let added = add_option(store, position, key, value);
        let value = added.as_deref().unwrap_or(value);
        if store.set(position, key, value, moment.source, moment.now.wall) {
            let id = store.records[position].id;
            let definition = store.definitions.get(key);
            self.events.property(
                object,
                id,
                definition,
                value,
                moment,
                &self.config.subscriptions,
            );
        }
    }

    /// Moves a record to the recycle bin (or out of it for good); idempotent.
    pub(crate) fn delete(
        &mut self,
        object: ObjectType,
        position: usize,
        erase: bool,
        moment: &Moment,
    ) {
        self.mark_busy(object, position, moment);
        let state = if erase {
            State::Erased
        } else {
            State::Archived(moment.now.wall)
        };
        let store = &mut self.stores[object.index()];
        let id = store.records[position].id;
        if erase {
            self.blocked.extend(store.addresses(position));
        }
        store.retire(position, state, moment.now);
        self.associations.forget(object, id);
        self.events
            .deletion(object, id, erase, moment, &self.config.subscriptions);
    }
}

/// 409 of a create whose address is taken.
pub(crate) fn exists(holder: u64) -> Problem {
    Problem::new(
        409,
        "CONFLICT",
        format!("Contact already exists. Existing ID: {holder}"),
    )
    .context("existingId", vec![holder.to_string()])
}

/// A new record needs some properties.
fn check_required(store: &Store, values: &[(PropertyKey, Cow<'_, str>)]) -> Result<(), Problem> {
    let Kind { any_of, all_of, .. } = store.object.kind();
    let has = |name: &str| {
        store.definitions.find(name).is_some_and(|(key, _)| {
            values
                .iter()
                .any(|(k, value)| *k == key && !value.is_empty())
        })
    };
    if !any_of.is_empty() && !any_of.iter().any(|name| has(name)) {
        return Err(missing(
            any_of[0],
            &format!("one of {any_of:?} is required"),
        ));
    }
    match all_of.iter().find(|name| !has(name)) {
        Some(name) => Err(missing(name, &format!("Property \"{name}\" is required"))),
        None => Ok(()),
    }
}

fn missing(name: &str, message: &str) -> Problem {
    validate::refuse(name, "MISSING_REQUIRED_PROPERTY", message.to_owned())
}

fn moves_back(store: &Store, position: usize, key: PropertyKey, value: &str) -> bool {
    let options = &store.definitions.get(key).options;
    let rank = |value: &str| options.iter().position(|option| option.value == value);
    let now = store.records[position]
        .value(key)
        .and_then(|stored| rank(&stored.value));
    matches!((now, rank(value)), (Some(now), Some(new)) if new < now)
}

/// Writing an address that the contact already has as a secondary one changes nothing.
fn is_secondary_email(store: &Store, position: usize, key: PropertyKey, value: &str) -> bool {
    store.definitions.get(key).is_email
        && store.holder(key, value) == Some(position)
        && store.records[position]
            .value(key)
            .is_some_and(|stored| &*stored.value != value)
}

/// `;a` adds a choice to those a checkbox property has.
fn add_option(store: &Store, position: usize, key: PropertyKey, value: &str) -> Option<String> {
    let addition = value.strip_prefix(';')?;
    if store.definitions.get(key).field_type != "checkbox" {
        return None;
    }
    let present = store.records[position]
        .value(key)
        .map_or("", |stored| &*stored.value);
    let mut all: Vec<&str> = present.split(';').filter(|part| !part.is_empty()).collect();
    for part in addition.split(';') {
        if !all.contains(&part) {
            all.push(part);
        }
    }
    Some(all.join(";"))
}
