//! Merging two records into a new one.

use serde::Deserialize;

use super::HubSpot;
use super::errors::Problem;
use super::inputs::parse;
use super::render::{self, Shape};
use super::store::{State, Stored};
use super::types::ObjectType;
use super::write::Moment;
use crate::reply::Reply;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Merge {
    primary_object_id: String,
    object_id_to_merge: String,
}

impl HubSpot {
    pub(crate) fn merge_call(
        &mut self,
        object: ObjectType,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let merge: Merge = parse(body)?;
        let store = &self.stores[object.index()];
        let primary = store
            .resolve(&merge.primary_object_id)
            .ok_or_else(Problem::not_found)?;
        let other = store
            .resolve(&merge.object_id_to_merge)
            .ok_or_else(Problem::not_found)?;
        if primary == other {
            return Err(Problem::validation("Cannot merge a record with itself"));
        }
        let survivor = self.merge(object, primary, other, moment);
        let mut out = Vec::new();
        let store = &self.stores[object.index()];
        render::record(
            &mut out,
            store,
            survivor,
            &Shape::asked(store, &[], &[]),
            self.config.portal_id,
        );
        Ok(Reply::json(200, out))
    }

    /// HubSpot: a merge makes a new record (since January 2025); both old ids lead to it in
    /// single calls. The primary's values win; the other's address becomes a secondary one.
    pub(crate) fn merge(
        &mut self,
        object: ObjectType,
        primary: usize,
        other: usize,
        moment: &Moment,
    ) -> usize {
        let store = &mut self.stores[object.index()];
        let survivor = store.create(moment.now, 8);
        let ids = [primary, other, survivor].map(|position| store.records[position].id);
        let winners = store.records[primary].values.clone();
        let losers = store.records[other].values.clone();
        let types: Vec<ObjectType> = self.stores.iter().map(|store| store.object).collect();
        let types = &types;
        let pairs: Vec<_> = [ids[0], ids[1]]
            .into_iter()
            .flat_map(|id| types.iter().map(move |to| (id, *to)))
            .flat_map(|(id, to)| {
                self.associations
                    .targets((object, id), to)
                    .map(move |(target, types)| ((to, target), types.to_vec()))
            })
            .collect();
        let store = &mut self.stores[object.index()];
        for position in [primary, other] {
            store.retire(position, State::Merged(survivor), moment.now);
            let id = store.records[position].id;
            self.associations.forget(object, id);
        }
        let mut moved = 0;
        for stored in winners.iter().chain(&losers) {
            let taken = winners
                .iter()
                .any(|winner| winner.key == stored.key && !winner.value.is_empty());
            if taken && !winners.iter().any(|winner| std::ptr::eq(winner, stored)) {
                continue;
            }
            moved += usize::from(store.set(
                survivor,
                stored.key,
                &stored.value,
                stored.source,
                moment.now.wall,
            ));
        }
        self.keep_addresses(object, survivor, &losers, moment);
        for (to, types) in pairs {
            self.associations.connect((object, ids[2]), to, &types);
        }
        let (key, merged) = (
            self.stores[object.index()]
                .definitions
                .find("hs_merged_object_ids"),
            format!("{};{}", ids[0], ids[1]),
        );
        if let Some(key) = key.map(|(key, _)| key) {
            self.stores[object.index()].set(survivor, key, &merged, moment.source, moment.now.wall);
        }
        self.events
            .merge(object, ids, moved, moment, &self.config.subscriptions);
        survivor
    }

    /// Addresses of the merged contact go on to belong to the survivor.
    fn keep_addresses(
        &mut self,
        object: ObjectType,
        survivor: usize,
        losers: &[Stored],
        moment: &Moment,
    ) {
        let store = &mut self.stores[object.index()];
        let Some((email, secondary)) = store.email_keys() else {
            return;
        };
        let present = store.records[survivor]
            .value(email)
            .map(|stored| stored.value.clone());
        let known = store.records[survivor]
            .value(secondary)
            .map_or(String::new(), |stored| stored.value.to_string());
        let mut addresses: Vec<String> = known
            .split(';')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        for stored in losers
            .iter()
            .filter(|stored| stored.key == email || stored.key == secondary)
        {
            addresses.extend(
                stored
                    .value
                    .split(';')
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned),
            );
        }
        addresses.retain(|address| present.as_deref() != Some(address));
        addresses.sort();
        addresses.dedup();
        for address in &addresses {
            store.claim(email, address, survivor);
        }
        store.set(
            survivor,
            secondary,
            &addresses.join(";"),
            moment.source,
            moment.now.wall,
        );
    }
}
