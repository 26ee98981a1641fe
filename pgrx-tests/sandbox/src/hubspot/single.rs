//! Calls on one record, lists, merge and GDPR deletion.

use std::borrow::Cow;

use serde::Deserialize;

use super::HubSpot;
use super::batch::archived_position;
use super::errors::Problem;
use super::inputs::{Input, parse};
use super::render::{self, Shape};
use super::store::{State, Store};
use super::types::ObjectType;
use super::validate::{self, Values};
use super::write::{Moment, Plan};
use crate::json;
use crate::query::Query;
use crate::reply::Reply;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Forget {
    object_id: String,
    id_property: Option<String>,
}

/// The record that a path names, by id (merged ones lead to the survivor) or unique property.
fn locate(store: &Store, id: &str, id_property: Option<&str>) -> Result<usize, Problem> {
    let found = match id_property {
        None | Some("hs_object_id") => store.resolve(id),
        Some(name) => match store.definitions.find(name) {
            Some((key, _)) if store.is_unique(key) => {
                store.holder(key, &validate::lower_if(store, key, id))
            }
            _ => {
                return Err(Problem::validation(format!(
                    "Property {name} is not unique"
                )));
            }
        },
    };
    found.ok_or_else(Problem::not_found)
}

impl HubSpot {
    pub(crate) fn read_one(
        &self,
        object: ObjectType,
        id: &str,
        query: &Query,
    ) -> Result<Reply, Problem> {
        let store = &self.stores[object.index()];
        let archived = query.flag("archived");
        let position = match archived {
            true => archived_position(store, id).ok_or_else(Problem::not_found)?,
            false => locate(store, id, query.get("idProperty"))?,
        };
        let (properties, history) = (
            query.list("properties"),
            query.list("propertiesWithHistory"),
        );
        let mut out = Vec::new();
        render::record(
            &mut out,
            store,
            position,
            &Shape::asked(store, &properties, &history),
            self.config.portal_id,
        );
        self.append_associations(&mut out, object, position, &query.list("associations"));
        Ok(Reply::json(200, out))
    }

    /// `associations` of a read, in the v3 form: id and type per target.
    fn append_associations(
        &self,
        out: &mut Vec<u8>,
        object: ObjectType,
        position: usize,
        asked: &[&str],
    ) {
        let id = self.stores[object.index()].records[position].id;
        let mut found = serde_json::Map::new();
        for to in asked.iter().filter_map(|name| ObjectType::parse(name)) {
            let results: Vec<_> = self
                .associations
                .targets((object, id), to)
                .map(|(id, _)| {
                    let kind = format!("{}_to_{}", object.singular(), to.singular());
                    serde_json::json!({"id": id.to_string(), "type": kind})
                })
                .collect();
            if !results.is_empty() {
                found.insert(
                    to.plural().to_owned(),
                    serde_json::json!({"results": results}),
                );
            }
        }
        if !found.is_empty() {
            out.pop();
            out.extend_from_slice(b",\"associations\":");
            json::push(out, &found);
            out.push(b'}');
        }
    }

    pub(crate) fn create_one(
        &mut self,
        object: ObjectType,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let mut input: Input<'_> = parse(body)?;
        let mut values = Values::new();
        let store = &self.stores[object.index()];
        validate::check(&store.definitions, &mut input.properties, &mut values)?;
        self.check_record(store, None, &values, moment)
            .map_err(without_context)?;
        self.check_associations(object, &input.associations)?;
        let plan = Plan {
            target: None,
            values: 0..values.len(),
        };
        let position = self.apply(object, &plan, &values, moment);
        self.associate_new(object, position, &input.associations, moment);
        let id = self.stores[object.index()].records[position].id;
        Ok(self.written(201, object, position, &values).with(
            "location",
            format!("/crm/v3/objects/{}/{id}", object.plural()),
        ))
    }

    pub(crate) fn update_one(
        &mut self,
        object: ObjectType,
        id: &str,
        query: &Query,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let mut input: Input<'_> = parse(body)?;
        let mut values = Values::new();
        let store = &self.stores[object.index()];
        let position = locate(store, id, query.get("idProperty"))?;
        validate::check(&store.definitions, &mut input.properties, &mut values)?;
        self.check_record(store, Some(position), &values, moment)?;
        let plan = Plan {
            target: Some(position),
            values: 0..values.len(),
        };
        self.apply(object, &plan, &values, moment);
        Ok(self.written(200, object, position, &values))
    }

    fn written(
        &self,
        status: u16,
        object: ObjectType,
        position: usize,
        values: &Values<'_>,
    ) -> Reply {
        let mut out = Vec::new();
        let shape = Shape::written(values, None);
        render::record(
            &mut out,
            &self.stores[object.index()],
            position,
            &shape,
            self.config.portal_id,
        );
        Reply::json(status, out)
    }

    /// 204 for known ids, archived ones too; 404 for ids that never were.
    pub(crate) fn delete_one(
        &mut self,
        object: ObjectType,
        id: &str,
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let store = &self.stores[object.index()];
        if let Some(position) = store.resolve(id) {
            self.delete(object, position, false, moment);
        } else if id.parse().ok().and_then(|id| store.position(id)).is_none() {
            return Err(Problem::not_found());
        }
        Ok(Reply::empty(204))
    }

    /// HubSpot: `limit` at most 100 (50 with history); `after` is the id to go on from.
    pub(crate) fn list(&self, object: ObjectType, query: &Query) -> Result<Reply, Problem> {
        let store = &self.stores[object.index()];
        let (properties, history) = (
            query.list("properties"),
            query.list("propertiesWithHistory"),
        );
        let limit = query.number("limit").unwrap_or(10);
        let most = if history.is_empty() { 100 } else { 50 };
        if limit == 0 || limit > most {
            return Err(Problem::validation(format!(
                "limit must be between 1 and {most}"
            )));
        }
        let start = match query.get("after") {
            None => 0,
            Some(after) => after.parse().map_err(|_| {
                Problem::validation(format!(
                    "Cannot deserialize value of type `long` from String \"{after}\""
                ))
            })?,
        };
        let archived = query.flag("archived");
        let shape = Shape::asked(store, &properties, &history);
        let mut out = b"{\"results\":[".to_vec();
        let (mut shown, mut next) = (0, None);
        let first =
            usize::try_from(u64::saturating_sub(start, store.first_id)).unwrap_or(usize::MAX);
        for (position, record) in store.records.iter().enumerate().skip(first) {
            if !(if archived {
                matches!(record.state, State::Archived(_))
            } else {
                record.is_live()
            }) {
                continue;
            }
            if shown == limit {
                next = Some(record.id);
                break;
            }
            json::comma(&mut out);
            render::record(&mut out, store, position, &shape, self.config.portal_id);
            self.append_associations(&mut out, object, position, &query.list("associations"));
            shown += 1;
        }
        out.push(b']');
        if let Some(next) = next {
            let link = format!(
                "https://api.hubapi.com/crm/v3/objects/{}?limit={limit}&after={next}",
                object.plural()
            );
            out.extend_from_slice(b",\"paging\":");
            json::push(
                &mut out,
                &serde_json::json!({"next": {"after": next.to_string(), "link": link}}),
            );
        }
        out.push(b'}');
        Ok(Reply::json(200, out))
    }

    /// HubSpot: purges a contact by id or address, in the recycle bin as well; answers 204 for
    /// unknown ones, too. Other records cannot be purged. The addresses are kept out from then on.
    pub(crate) fn gdpr_delete(
        &mut self,
        object: ObjectType,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        if object != ObjectType::Contact {
            return Err(Problem::not_found());
        }
        let forget: Forget = parse(body)?;
        let store = &self.stores[object.index()];
        let found = locate(store, &forget.object_id, forget.id_property.as_deref()).ok();
        let by_id = forget.id_property.is_none();
        let binned = || archived_position(store, &forget.object_id).filter(|_| by_id);
        if let Some(position) = found.or_else(binned) {
            self.delete(object, position, true, moment);
        } else if forget.id_property.as_deref() == Some("email") {
            self.blocked
                .insert(validate::lower(Cow::Owned(forget.object_id)).into_owned());
        }
        Ok(Reply::empty(204))
    }
}

/// A single create names the existing record in its message only.
fn without_context(mut problem: Problem) -> Problem {
    problem.context.clear();
    problem
}
