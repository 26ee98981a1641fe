//! Asking HubSpot for its definitions, and reading what it answers.

use std::sync::Arc;

use serde::Deserialize;

use super::{Definitions, OWNER, Sensitivity, WritableProperty};
use crate::{HubSpotSettings, object_type, versioned, wire::Paging};
use integration_engine::{
    record::{
        Entity, Target,
        field_type::{FieldOption, FieldType, Owners, Pipeline, Pipelines},
    },
    wire::Request,
};

/// `GET /crm/properties/{V}/{type}` lists all of them but sensitive ones, which have lists of their
/// own; there is no paging.
pub(crate) fn properties_request(
    settings: &HubSpotSettings,
    entity: Entity,
    list: Option<Sensitivity>,
) -> Request {
    let area = versioned("crm/", "properties", &settings.api_version);
    let list = list.map_or(String::new(), |list| {
        format!("?dataSensitivity={}", list.name())
    });
    let path = format!("{area}/{}{list}", object_type(entity));
    Request::get(Target::HubSpot, path)
}

/// `GET /crm/owners/{V}`, a page of 100.
pub(crate) fn owners_request(settings: &HubSpotSettings, after: Option<&str>) -> Request {
    let area = versioned("crm/", "owners", &settings.api_version);
    let after = after.map_or(String::new(), |after| {
        let after =
            percent_encoding::utf8_percent_encode(after, percent_encoding::NON_ALPHANUMERIC);
        format!("&after={after}")
    });
    Request::get(Target::HubSpot, format!("{area}?limit=100{after}"))
}

/// `GET /crm/pipelines/{V}/{type}`.
pub(crate) fn pipelines_request(settings: &HubSpotSettings, entity: Entity) -> Request {
    let area = versioned("crm/", "pipelines", &settings.api_version);
    Request::get(Target::HubSpot, format!("{area}/{}", object_type(entity)))
}

#[derive(Deserialize)]
struct Listed<'a, T> {
    results: Vec<T>,
    #[serde(borrow, default = "Option::default")]
    paging: Option<Paging<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PropertyRow {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    field_type: Option<String>,
    options: Option<Vec<OptionRow>>,
    calculated: Option<bool>,
    archived: Option<bool>,
    external_options: Option<bool>,
    referenced_object_type: Option<String>,
    modification_metadata: Option<Modification>,
}

#[derive(Deserialize)]
struct OptionRow {
    value: String,
    label: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Modification {
    read_only_value: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PipelineRow {
    id: String,
    label: Option<String>,
    display_order: Option<i64>,
    archived: Option<bool>,
    stages: Option<Vec<PipelineRow>>,
}

#[derive(Deserialize)]
struct OwnerRow {
    id: String,
    email: Option<String>,
    archived: Option<bool>,
}

/// Reads the usual list of property definitions, keeping those of `names`.
pub(crate) fn read_properties(body: &[u8], names: &[String]) -> Result<Definitions, String> {
    let listed: Listed<PropertyRow> = parse(body)?;
    if listed.results.is_empty() {
        // Every object comes with properties of its own.
        return Err("the list of properties is empty".to_owned());
    }
    Ok(mapped(listed, names))
}

/// Reads a list of sensitive ones, of which there may be none.
pub(crate) fn read_sensitive(body: &[u8], names: &[String]) -> Result<Definitions, String> {
    Ok(mapped(parse(body)?, names))
}

fn mapped(listed: Listed<PropertyRow>, names: &[String]) -> Definitions {
    let wanted = |row: &PropertyRow| row.archived != Some(true) && names.contains(&row.name);
    let mapped = listed.results.into_iter().filter(wanted);
    Definitions {
        known: mapped.map(property).collect(),
        hidden: Vec::new(),
    }
}

fn property(row: PropertyRow) -> (String, WritableProperty) {
    let metadata = row.modification_metadata.as_ref();
    let read_only = row.calculated == Some(true)
        || metadata.and_then(|metadata| metadata.read_only_value) == Some(true);
    let is_owner = row.name == OWNER || row.referenced_object_type.as_deref() == Some("OWNER");
    let external = row.external_options == Some(true);
    let options: Arc<[FieldOption]> = row
        .options
        .unwrap_or_default()
        .into_iter()
        .map(|option| choice(option.value, option.label))
        .collect();
    let remote_type = match (row.kind.as_deref(), row.field_type.as_deref()) {
        _ if is_owner => FieldType::Owner(None),
        (Some("number"), _) => FieldType::Number,
        (Some("date"), _) => FieldType::Date,
        (Some("datetime"), _) => FieldType::DateTime,
        (Some("bool"), _) => FieldType::Bool,
        // Without a list there is nothing to compare with.
        (Some("enumeration"), _) if external || options.is_empty() => FieldType::Text,
        (Some("enumeration"), Some("checkbox")) => FieldType::Choices(options),
        (Some("enumeration"), _) => FieldType::Choice(options),
        _ => FieldType::Text,
    };
    let property = WritableProperty {
        remote_type,
        read_only,
    };
    (row.name, property)
}

/// Reads a page of owners: those in use, and where the next page begins.
pub(crate) fn read_owners(body: &[u8]) -> Result<(Owners, Option<String>), String> {
    let listed: Listed<'_, OwnerRow> = parse(body)?;
    let next = listed.paging.and_then(Paging::after);
    let in_use = listed
        .results
        .into_iter()
        .filter(|row| row.archived != Some(true));
    let by_email = in_use.filter_map(|row| Some((row.email?.trim().to_lowercase(), row.id)));
    Ok((Owners(by_email.collect()), next))
}

/// Reads the pipelines of an object with their stages.
pub(crate) fn read_pipelines(body: &[u8]) -> Result<Pipelines, String> {
    let listed: Listed<'_, PipelineRow> = parse(body)?;
    let pipeline = |row: PipelineRow| Pipeline {
        stages: in_order(row.stages.unwrap_or_default())
            .map(|stage| choice(stage.id, stage.label))
            .collect(),
        name: choice(row.id, row.label),
    };
    Ok(in_order(listed.results).map(pipeline).collect())
}

fn in_order(mut rows: Vec<PipelineRow>) -> impl Iterator<Item = PipelineRow> {
    rows.retain(|row| row.archived != Some(true));
    rows.sort_by_key(|row| row.display_order);
    rows.into_iter()
}

fn choice(value: String, label: Option<String>) -> FieldOption {
    FieldOption {
        label: label.unwrap_or_else(|| value.clone()),
        value,
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the answer cannot be read: {error}"))
}
