//! Addresses as their audiences know them, and who has claimed which in the records that are planned
//! together.

use std::collections::HashMap;

use crate::{
    delivery::call::{Item, Link},
    record::{RecordHasher, RecordRef},
};

/// Where a row wants to be known: under its address, at Mailchimp in its audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub address: String,
    /// `None`: the service knows addresses alone.
    pub audience: Option<String>,
}

impl Place {
    /// Where a record was last written to. `None`: nowhere. `default`: the audience of links that
    /// name none.
    pub fn of_link(link: &Link, default: &str) -> Option<Place> {
        let list = link.membership.list.as_deref();
        Some(Place {
            address: link.remote_key.clone().filter(|_| !link.is_nowhere())?,
            audience: Some(list.unwrap_or(default).to_owned()),
        })
    }

    /// Whether a record with this link is known there already.
    pub fn is_known(&self, link: Option<&Link>, default: &str) -> bool {
        link.is_some_and(|link| {
            let list = link.membership.list.as_deref();
            link.remote_key.as_ref() == Some(&self.address) && self.is_in(list, default)
        })
    }

    /// Whether a member in this audience (`None`: the default one) would be in its way.
    pub fn is_in(&self, list: Option<&str>, default: &str) -> bool {
        let audience = self.audience.as_deref();
        audience.is_none_or(|audience| audience == list.unwrap_or(default))
    }
}

/// Contacts and members that records are about to be written to in the same round of calls: of two
/// new rows with one address, nobody is known there yet.
///
/// By audience, and by address.
#[derive(Debug, Default)]
pub struct Claims(HashMap<String, HashMap<String, RecordRef, RecordHasher>>);

impl Claims {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The record that was first, of those that want to be known there.
    pub fn first(&self, place: &Place) -> Option<&RecordRef> {
        let audience = place.audience.as_deref().unwrap_or_default();
        self.0.get(audience)?.get(&place.address)
    }

    /// Records that want to be known under the address in other audiences.
    pub fn elsewhere<'c>(&'c self, place: &'c Place) -> impl Iterator<Item = &'c RecordRef> {
        let audience = place.audience.as_deref().unwrap_or_default();
        let others = self.0.iter().filter(move |(list, _)| *list != audience);
        others.filter_map(|(_, claimed)| claimed.get(&place.address))
    }

    /// Notes where a record is about to be sent to. `list`: the audience of its call.
    pub fn note(&mut self, list: Option<&str>, item: &Item, record: &RecordRef) {
        let Some(address) = &item.remote_key else {
            return;
        };
        let list = list.unwrap_or_default();
        let claimed = match self.0.get_mut(list) {
            Some(claimed) => claimed,
            None => self.0.entry(list.to_owned()).or_default(),
        };
        claimed
            .entry(address.clone())
            .or_insert_with(|| record.clone());
    }
}
