//! The endpoints for property definitions.

use serde::Deserialize;
use serde_json::{Value, json};

use super::HubSpot;
use super::definitions::{Definition, PropertyChoice, PropertyType, Sensitivity};
use super::errors::{self, Problem};
use super::inputs::parse;
use super::scopes;
use super::types::ObjectType;
use super::write::Moment;
use crate::query::Query;
use crate::reply::Reply;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewProperty {
    name: String,
    label: String,
    #[serde(rename = "type")]
    kind: PropertyType,
    field_type: String,
    group_name: String,
    #[serde(default)]
    has_unique_value: bool,
    #[serde(default)]
    data_sensitivity: Sensitivity,
    #[serde(default)]
    options: Vec<PropertyChoice>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    label: Option<String>,
    group_name: Option<String>,
    field_type: Option<String>,
    options: Option<Vec<PropertyChoice>>,
}

#[derive(Deserialize)]
struct Names {
    inputs: Vec<Name>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

impl HubSpot {
    /// Everything below `/crm/properties/{V}/{type}`.
    pub(crate) fn properties(
        &mut self,
        object: ObjectType,
        method: &str,
        rest: &[&str],
        query: &Query,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        match (method, rest) {
            ("GET", []) => {
                let wanted = query.get("dataSensitivity");
                let sensitivity = Sensitivity::parse(wanted).ok_or_else(|| {
                    Problem::validation(format!(
                        "Invalid dataSensitivity: {}",
                        wanted.unwrap_or_default()
                    ))
                })?;
                let lacking = scopes::lacking_for(&self.config.scopes, object, "read", sensitivity);
                Ok(match lacking {
                    Some(scope) => errors::missing_scopes(&[scope]),
                    None => self.list_properties(object, query.flag("archived"), sensitivity),
                })
            }
            ("POST", []) => Ok(Reply::value(
                201,
                &self.create_property(object, parse(body)?)?,
            )),
            ("POST", ["batch", "create"]) => self.create_properties(object, body, moment),
            ("POST", ["batch", "read"]) => self.read_properties(object, body, moment),
            ("POST", ["batch", "archive"]) => {
                let names: Names = parse(body)?;
                for name in &names.inputs {
                    self.archive_property(object, &name.name)?;
                }
                Ok(Reply::empty(204))
            }
            ("GET", ["groups"]) => Ok(Reply::value(200, &json!({"results": self.groups(object)}))),
            ("GET", [name]) => {
                let (_, definition) = self.stores[object.index()]
                    .definitions
                    .find(name)
                    .ok_or_else(|| unknown(name))?;
                Ok(Reply::value(200, &definition.to_json()))
            }
            ("PATCH", [name]) => self.change_property(object, name, body),
            ("DELETE", [name]) => {
                self.archive_property(object, name)?;
                Ok(Reply::empty(204))
            }
            _ => Err(Problem::not_found()),
        }
    }

    fn list_properties(
        &self,
        object: ObjectType,
        archived: bool,
        sensitivity: Sensitivity,
    ) -> Reply {
        let all = self.stores[object.index()].definitions.all();
        let results: Vec<Value> = all
            .iter()
            .filter(|definition| {
                definition.archived == archived && definition.sensitivity == sensitivity
            })
            .map(Definition::to_json)
            .collect();
        Reply::value(200, &json!({"results": results}))
    }

    fn groups(&self, object: ObjectType) -> Vec<Value> {
        let mut names: Vec<&str> = self.stores[object.index()]
            .definitions
            .all()
            .iter()
            .map(|d| &*d.group)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
            .iter()
            .map(|name| json!({"name": name, "label": name, "displayOrder": -1, "archived": false}))
            .collect()
    }

    pub(crate) fn create_property(
        &mut self,
        object: ObjectType,
        new: NewProperty,
    ) -> Result<Value, Problem> {
        let store = &mut self.stores[object.index()];
        if store.definitions.find(&new.name).is_some() {
            let message = format!("A property named '{}' already exists.", new.name);
            return Err(Problem::new(409, "OBJECT_ALREADY_EXISTS", message)
                .sub("Properties.PROPERTY_WITH_NAME_EXISTS"));
        }
        if !is_property_name(&new.name) {
            return Err(Problem::validation(format!(
                "Property name '{}' is not valid",
                new.name
            )));
        }
        let uniques = store
            .definitions
            .all()
            .iter()
            .filter(|d| d.unique && !d.archived)
            .count();
        if new.has_unique_value && uniques >= 10 {
            return Err(Problem::validation(
                "At most 10 unique properties are allowed per object type",
            ));
        }
        if new.has_unique_value && !object.kind().takes_unique {
            return Err(Problem::validation(
                "Unique properties are not available for products",
            ));
        }
        if new.kind == PropertyType::Enumeration && new.options.is_empty() {
            return Err(Problem::validation("Enumerations need options"));
        }
        let mut definition = Definition::custom(&new.name, new.kind, &new.field_type);
        definition.label = new.label;
        definition.group = new.group_name;
        definition.options = new.options;
        definition.unique = new.has_unique_value;
        definition.sensitivity = new.data_sensitivity;
        if definition.kind == PropertyType::Bool && definition.options.is_empty() {
            definition.options = ["true", "false"]
                .map(|value| PropertyChoice {
                    label: value.to_owned(),
                    value: value.to_owned(),
                    display_order: 0,
                    hidden: false,
                })
                .to_vec();
        }
        let answer = definition.to_json();
        let key = store.definitions.insert(definition);
        if new.has_unique_value {
            store.index(key);
        }
        Ok(answer)
    }

    fn create_properties(
        &mut self,
        object: ObjectType,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        #[derive(Deserialize)]
        struct News {
            inputs: Vec<NewProperty>,
        }
        let news: News = parse(body)?;
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for new in news.inputs {
            match self.create_property(object, new) {
                Ok(created) => results.push(created),
                Err(problem) => errors.push(problem.as_batch_error()),
            }
        }
        Ok(answer(&results, &errors, 201, moment))
    }

    fn read_properties(
        &self,
        object: ObjectType,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let names: Names = parse(body)?;
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for Name { name } in &names.inputs {
            match self.stores[object.index()].definitions.find(name) {
                Some((_, definition)) => results.push(definition.to_json()),
                None => errors.push(unknown(name).as_batch_error()),
            }
        }
        Ok(answer(&results, &errors, 200, moment))
    }

    /// HubSpot: a change of `options` replaces them all; `hasUniqueValue` can't be changed.
    fn change_property(
        &mut self,
        object: ObjectType,
        name: &str,
        body: &[u8],
    ) -> Result<Reply, Problem> {
        let change: Change = parse(body)?;
        let definition = self.stores[object.index()]
            .definitions
            .find_mut(name)
            .filter(|d| !d.archived)
            .ok_or_else(|| unknown(name))?;
        if let Some(label) = change.label {
            definition.label = label;
        }
        if let Some(group) = change.group_name {
            definition.group = group;
        }
        if let Some(field_type) = change.field_type {
            definition.field_type = field_type;
        }
        if let Some(options) = change.options {
            definition.options = options;
        }
        Ok(Reply::value(200, &definition.to_json()))
    }

    pub(crate) fn archive_property(
        &mut self,
        object: ObjectType,
        name: &str,
    ) -> Result<(), Problem> {
        let definition = self.stores[object.index()]
            .definitions
            .find_mut(name)
            .filter(|d| !d.archived)
            .ok_or_else(|| unknown(name))?;
        if definition.hubspot_defined {
            return Err(Problem::validation(format!(
                "Property {name} is HubSpot defined and can't be deleted"
            )));
        }
        definition.archived = true;
        Ok(())
    }
}

impl HubSpot {
    /// The scopes that writing the sensitive properties named in a body takes, and that are not
    /// granted.
    pub(crate) fn lacking_to_write(&self, object: ObjectType, body: &[u8]) -> Vec<String> {
        let definitions = &self.stores[object.index()].definitions;
        let sensitive: Vec<&Definition> = definitions
            .all()
            .iter()
            .filter(|definition| definition.sensitivity != Sensitivity::NonSensitive)
            .collect();
        if sensitive.is_empty() {
            return Vec::new();
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let inputs = body["inputs"].as_array().cloned();
        let inputs = inputs.unwrap_or_else(|| vec![body]);
        let written = |definition: &&&Definition| {
            inputs
                .iter()
                .any(|input| input["properties"].get(&definition.name).is_some())
        };
        let mut lacking: Vec<String> = sensitive
            .iter()
            .filter(written)
            .filter_map(|definition| {
                scopes::lacking_for(&self.config.scopes, object, "write", definition.sensitivity)
            })
            .collect();
        lacking.dedup();
        lacking
    }
}

fn answer(results: &[Value], errors: &[Value], complete: u16, moment: &Moment) -> Reply {
    let mut out = b"{\"status\":\"COMPLETE\",\"results\":".to_vec();
    crate::json::push(&mut out, results);
    super::batch::finish(out, complete, errors, moment)
}

/// HubSpot: lower-case letters, digits and underscores, beginning with a letter.
fn is_property_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 100
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn unknown(name: &str) -> Problem {
    Problem::new(
        404,
        "OBJECT_NOT_FOUND",
        format!("Property {name} does not exist"),
    )
}
