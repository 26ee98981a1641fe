//! What administrators set up: properties and their options, owners, pipelines.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

use super::HubSpot;
use super::definitions::{Condition, PropertyChoice, PropertyKey};
use super::errors::Problem;
use super::store::Store;
use super::types::ObjectType;
use super::validate;
use crate::query::Query;
use crate::reply::Reply;

/// Somebody records can be assigned to.
#[derive(Debug)]
pub(crate) struct Owner {
    id: u64,
    email: String,
}

/// A pipeline.
#[derive(Debug)]
pub(crate) struct Pipeline {
    object: ObjectType,
    id: String,
    label: String,
    stages: Vec<PropertyChoice>,
}

/// What an administrator changes about a property.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PropertyChange {
    options: Option<Vec<PropertyChoice>>,
    read_only: Option<bool>,
    required: Option<bool>,
    required_when: Option<Condition>,
}

pub(crate) fn first_owner() -> Vec<Owner> {
    vec![Owner {
        id: 77_001,
        email: "owner@example.com".to_owned(),
    }]
}

/// The pipelines that objects come with.
pub(crate) fn first_pipelines() -> Vec<Pipeline> {
    let objects = ObjectType::ALL.iter();
    let pipelines = objects.filter_map(|&object| Some((object, object.kind().pipeline?)));
    pipelines
        .map(|(object, pipelines)| Pipeline {
            object,
            id: pipelines.first.to_owned(),
            label: pipelines.label.to_owned(),
            stages: (0..)
                .zip(pipelines.stages.split('|'))
                .map(|(order, id)| choice(id, id, order))
                .collect(),
        })
        .collect()
}

pub(crate) fn choice(value: &str, label: &str, display_order: i64) -> PropertyChoice {
    PropertyChoice {
        label: label.to_owned(),
        value: value.to_owned(),
        display_order,
        hidden: false,
    }
}

impl HubSpot {
    /// Defines a property as the API does: `{"name":…,"label":…,"type":…,"fieldType":…,"groupName":…}`.
    pub(crate) fn admin_defines(&mut self, object: ObjectType, new: Value) -> Result<(), String> {
        let new = serde_json::from_value(new).map_err(|error| error.to_string())?;
        let created = self.create_property(object, new);
        created
            .map(|_| ())
            .map_err(|problem| problem.message.into_owned())
    }

    pub(crate) fn admin_deletes(&mut self, object: ObjectType, name: &str) -> Result<(), String> {
        self.archive_property(object, name)
            .map_err(|problem| problem.message.into_owned())
    }

    pub(crate) fn admin_changes(
        &mut self,
        object: ObjectType,
        name: &str,
        change: PropertyChange,
    ) -> Result<(), String> {
        let definition = self.stores[object.index()].definitions.find_mut(name);
        let definition = definition.ok_or_else(|| format!("no property {name}"))?;
        if let Some(options) = change.options {
            definition.options = options;
        }
        if let Some(read_only) = change.read_only {
            definition.read_only = read_only;
        }
        if let Some(required) = change.required {
            definition.required = required;
        }
        definition.required_when = change.required_when.or(definition.required_when.take());
        Ok(())
    }

    /// A new user; gives the owner id.
    pub(crate) fn admin_adds_owner(&mut self, email: &str) -> u64 {
        let id = 77_001 + self.owners.len() as u64;
        self.owners.push(Owner {
            id,
            email: email.to_owned(),
        });
        for store in &mut self.stores {
            if let Some(definition) = store.definitions.find_mut("hubspot_owner_id") {
                definition.options.push(choice(&id.to_string(), email, 0));
            }
        }
        id
    }

    /// A new pipeline with these stages; gives its id and theirs, in order.
    pub(crate) fn admin_adds_pipeline(
        &mut self,
        object: ObjectType,
        label: &str,
        stages: &[String],
    ) -> (String, Vec<String>) {
        let number = 880_000 + 100 * self.pipelines.len();
        let stages: Vec<PropertyChoice> = (1..)
            .zip(stages)
            .map(|(order, label)| choice(&(number as i64 + order).to_string(), label, order))
            .collect();
        let ids = stages.iter().map(|stage| stage.value.clone()).collect();
        let id = number.to_string();
        let definitions = &mut self.stores[object.index()].definitions;
        if let Some(names) = object.kind().pipeline {
            if let Some(definition) = definitions.find_mut(names.pipeline) {
                definition.options.push(choice(&id, label, 0));
            }
            if let Some(definition) = definitions.find_mut(names.stage) {
                definition.options.extend(stages.iter().cloned());
            }
        }
        self.pipelines.push(Pipeline {
            object,
            id: id.clone(),
            label: label.to_owned(),
            stages,
        });
        (id, ids)
    }

    /// HubSpot: a stage is one of its pipeline; the first one if none is named.
    pub(crate) fn check_stage(
        &self,
        store: &Store,
        target: Option<usize>,
        values: &[(PropertyKey, Cow<'_, str>)],
    ) -> Result<(), Problem> {
        let Some(names) = store.object.kind().pipeline else {
            return Ok(());
        };
        let after = |name: &str| {
            let (key, _) = store.definitions.find(name)?;
            let sent = values.iter().find(|(known, _)| *known == key);
            let stored = || Some(&*store.records[target?].value(key)?.value);
            sent.map(|(_, value)| &**value).or_else(stored)
        };
        let Some(stage) = after(names.stage).filter(|stage| !stage.is_empty()) else {
            return Ok(());
        };
        let pipeline = after(names.pipeline)
            .filter(|id| !id.is_empty())
            .unwrap_or(names.first);
        let mut known = self.pipelines_of(store.object);
        let stages = known.find(|known| known.id == pipeline);
        match stages.is_some_and(|known| known.stages.iter().any(|known| known.value == stage)) {
            true => Ok(()),
            false => Err(validate::refuse(
                names.stage,
                "INVALID_OPTION",
                format!("{stage} is not a stage of pipeline {pipeline}"),
            )),
        }
    }

    /// `/crm/owners/{V}`
    pub(crate) fn list_owners(&self, rest: &[&str], query: &Query) -> Result<Reply, Problem> {
        match rest {
            [] if query.flag("archived") => Ok(Reply::value(200, &json!({"results": []}))),
            [] => {
                let wanted = |owner: &&Owner| {
                    query.get("email").is_none_or(|email| owner.email == email)
                        && query
                            .get("after")
                            .and_then(|after| after.parse::<u64>().ok())
                            .is_none_or(|after| owner.id > after)
                };
                let limit = query.number("limit").unwrap_or(100).min(500);
                let found: Vec<&Owner> = self.owners.iter().filter(wanted).collect();
                let page: Vec<Value> = found
                    .iter()
                    .take(limit)
                    .map(|owner| owner.to_json())
                    .collect();
                let mut body = json!({"results": page});
                if let (true, Some(last)) = (found.len() > limit, found.get(limit.wrapping_sub(1)))
                {
                    body["paging"] = json!({"next": {"after": last.id.to_string(), "link": ""}});
                }
                Ok(Reply::value(200, &body))
            }
            [id] => {
                let owner = self.owners.iter().find(|owner| owner.id.to_string() == *id);
                Ok(Reply::value(
                    200,
                    &owner.ok_or_else(Problem::not_found)?.to_json(),
                ))
            }
            _ => Err(Problem::not_found()),
        }
    }

    fn pipelines_of(&self, object: ObjectType) -> impl Iterator<Item = &Pipeline> {
        let all = self.pipelines.iter();
        all.filter(move |pipeline| pipeline.object == object)
    }

    /// `/crm/pipelines/{V}/{type}`
    pub(crate) fn list_pipelines(
        &self,
        object: ObjectType,
        rest: &[&str],
    ) -> Result<Reply, Problem> {
        let found = |id: &str| {
            let pipeline = self.pipelines_of(object).find(|pipeline| pipeline.id == id);
            pipeline.ok_or_else(Problem::not_found)
        };
        let answer = match rest {
            [] => {
                json!({"results": self.pipelines_of(object).map(Pipeline::to_json).collect::<Vec<_>>()})
            }
            [id] => found(id)?.to_json(),
            [id, "stages"] => json!({"results": found(id)?.to_json()["stages"]}),
            _ => return Err(Problem::not_found()),
        };
        Ok(Reply::value(200, &answer))
    }
}

impl Owner {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id.to_string(), "email": self.email, "type": "PERSON", "firstName": "Sales", "lastName": "Owner",
            "userId": 7_006 + self.id - 77_001, "userIdIncludingInactive": 7_006 + self.id - 77_001,
            "createdAt": STAMP, "updatedAt": STAMP, "archived": false, "teams": [],
        })
    }
}

impl Pipeline {
    fn to_json(&self) -> Value {
        let stage = |stage: &PropertyChoice| {
            let closed = stage.value.starts_with("closed");
            let probability = match stage.value.as_str() {
                "closedwon" => "1.0",
                _ if closed => "0.0",
                _ => "0.2",
            };
            json!({
                "id": stage.value, "label": stage.label, "displayOrder": stage.display_order, "archived": false,
                "metadata": {"isClosed": closed.to_string(), "probability": probability},
                "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT", "createdAt": STAMP, "updatedAt": STAMP,
            })
        };
        json!({
            "id": self.id, "label": self.label, "displayOrder": 0, "archived": false,
            "stages": self.stages.iter().map(stage).collect::<Vec<_>>(), "createdAt": STAMP, "updatedAt": STAMP,
        })
    }
}

const STAMP: &str = "2020-01-01T00:00:00.000Z";
