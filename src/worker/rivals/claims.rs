//! Addresses as their audiences know them, and who has claimed which in the block that is being
//! planned.

use std::collections::HashMap;

use integration_engine::delivery::call::{CallKind, Item, Link, Work};
use integration_engine::record::{Entity, RecordRef, Target};

use super::address;
use crate::store::links::Holder as Known;
use crate::store::sources::Source;
use crate::worker::{World, fill};

/// Where a row wants to be known: under its address, at Mailchimp in its audience.
#[derive(PartialEq, Eq)]
pub struct Place {
    pub(super) address: String,
    pub(super) audience: Option<String>,
}

impl Place {
    /// Where the rows of some records want to be known; nothing where they are no people.
    pub fn of_rows(
        target: Target,
        world: &World,
        source: &Source,
        works: &[Work],
    ) -> Vec<Option<Place>> {
        if source.entity != Entity::Contact {
            return Vec::new();
        }
        let rows = works.iter().map(|work| work.row.as_deref());
        rows.map(|row| Place::of_row(world, source, target, row?))
            .collect()
    }

    pub(super) fn of_row(
        world: &World,
        source: &Source,
        target: Target,
        row: &[Option<String>],
    ) -> Option<Place> {
        Some(Place {
            address: address(source, target, row)?,
            audience: fill::named(world, source.maps.get(&target)?, row),
        })
    }

    /// Where a record was last written to. `None`: nowhere.
    pub(super) fn of_link(link: &Link, world: &World) -> Option<Place> {
        let default = || world.settings.mailchimp_api.list.clone();
        Some(Place {
            address: link.remote_key.clone().filter(|_| !link.is_nowhere())?,
            audience: Some(link.membership.list.clone().unwrap_or_else(default)),
        })
    }

    /// Where it is known already.
    pub(super) fn is_known(&self, work: &Work, world: &World) -> bool {
        work.link.as_ref().is_some_and(|link| {
            let list = link.membership.list.as_deref();
            link.remote_key.as_ref() == Some(&self.address) && self.is_in(list, world)
        })
    }

    fn is_in(&self, list: Option<&str>, world: &World) -> bool {
        let default = world.settings.mailchimp_api.list.as_str();
        let audience = self.audience.as_deref();
        audience.is_none_or(|audience| audience == list.unwrap_or(default))
    }

    pub(super) fn is_held_by(&self, holder: &Known, mine: &RecordRef, world: &World) -> bool {
        holder.record != *mine && self.is_in(holder.list.as_deref(), world)
    }
}

/// Contacts and members that records are about to be written to in the same round of calls: of two
/// new rows with one address, nobody is known there yet.
#[derive(Default)]
pub struct Claims(HashMap<(String, String), RecordRef>);

impl Claims {
    /// The record that was first, of those that want the same as this one, whose row wants to be
    /// known at `place`.
    pub fn first(
        &self,
        target: Target,
        work: &Work,
        place: Option<&Place>,
        world: &World,
    ) -> Option<&RecordRef> {
        if self.0.is_empty() || work.rival.is_some() {
            return None;
        }
        let place = place.filter(|place| !place.is_known(work, world))?;
        let audience = match target {
            Target::HubSpot => String::new(),
            Target::Mailchimp => place.audience.clone()?,
        };
        self.0.get(&(audience, place.address.clone()))
    }

    /// Notes where a record is about to be sent to.
    pub fn note(&mut self, kind: &CallKind, item: &Item, record: &RecordRef) {
        if let Some(address) = &item.remote_key {
            let list = kind.list().unwrap_or_default();
            let place = (list.to_owned(), address.clone());
            self.0.entry(place).or_insert_with(|| record.clone());
        }
    }
}
