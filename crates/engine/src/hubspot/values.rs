//! Values for properties whose definition is known: a column's text in the form HubSpot gives it
//! back, and HubSpot's value in the form the column holds.
//!
//! The form sent is the form compared: what is read back after a write is equal to what was sent.

use std::borrow::Cow;

use crate::{
    record::{
        Target,
        mapping::{Field, SourceMap, ValueKind},
    },
    value::{self, ValueError, array, boolean, number, time},
};

use super::definitions::{Choice, PIPELINE, Pipelines, RemoteType};

/// Allowed options are listed up to so many characters.
const LISTED: usize = 300;

type Value<'a> = Result<Option<Cow<'a, str>>, ValueError>;

/// A column's text as the property's value; `None` clears it. A stage is looked for in all
/// pipelines; [`from_row`] knows which one the record is in.
pub fn to_remote<'a>(field: &Field, text: Option<&'a str>) -> Value<'a> {
    converted(field, text, None)
}

/// What [`value::field_to_remote`] gives for a field of a row, in the light of the other fields.
pub fn from_row<'a>(map: &SourceMap, row: &'a [Option<String>], index: usize) -> Value<'a> {
    let (Some(field), text) = (
        map.fields.get(index),
        row.get(index).and_then(Option::as_deref),
    ) else {
        return Ok(None);
    };
    let RemoteType::Stage(pipelines) = &field.remote_type else {
        return value::field_to_remote(map, field, text);
    };
    let named = map
        .field_named(PIPELINE)
        .and_then(|(at, _)| row.get(at)?.as_deref());
    // A pipeline that is not there is the other field's mistake.
    let pipeline =
        named.and_then(|name| find(pipelines.iter().map(|each| &each.name), name.trim()));
    converted(field, text, pipeline)
}

fn converted<'a>(field: &Field, text: Option<&'a str>, pipeline: Option<&Choice>) -> Value<'a> {
    let Some(plain) = value::to_remote(field.kind, text, Target::HubSpot)? else {
        return Ok(None);
    };
    let value = match &field.remote_type {
        RemoteType::Unknown | RemoteType::Text | RemoteType::Merge(_) => plain,
        RemoteType::Number => owned(plain, |text| number::canonical(text).map(Cow::into_owned))?,
        RemoteType::Bool => Cow::Borrowed(boolean(&plain)?),
        RemoteType::Date => owned(plain, |text| date(field.kind, text))?,
        RemoteType::DateTime => owned(plain, |text| datetime(field.kind, text))?,
        RemoteType::Choice(options) => Cow::Owned(option(options, &plain)?.value.clone()),
        RemoteType::Choices(options) => return choices(options, &plain),
        RemoteType::Owner(owners) => match (plain.contains('@'), owners) {
            (false, _) => plain,
            (true, None) => return Err(ValueError::OwnersUnknown),
            (true, Some(owners)) => {
                let id = owners.0.get(&plain.to_lowercase());
                Cow::Owned(id.ok_or(ValueError::NoOwner)?.clone())
            }
        },
        RemoteType::Pipeline(pipelines) => {
            let found = find(pipelines.iter().map(|each| &each.name), &plain);
            let all = || pipelines.iter().map(|each| &each.name);
            let found = found.ok_or_else(|| ValueError::NoPipeline {
                allowed: listed(all()),
            });
            Cow::Owned(found?.value.clone())
        }
        RemoteType::Stage(pipelines) => Cow::Owned(stage(pipelines, pipeline, &plain)?),
    };
    Ok(Some(value))
}

/// A property's value as HubSpot returns it, in the form [`to_remote`] gives.
///
/// Where the column holds less than the property (a date of a point in time), that is all that is
/// compared: the rest could not have come from here.
pub fn canonical<'a>(field: &Field, remote: Option<&'a str>) -> Value<'a> {
    let Some(text) = remote.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = match &field.remote_type {
        RemoteType::Unknown | RemoteType::Text | RemoteType::Merge(_) => {
            return value::canonical(field.kind, Target::HubSpot, Some(text));
        }
        RemoteType::Number => number::canonical(text)?,
        RemoteType::Bool => Cow::Borrowed(boolean(text)?),
        RemoteType::Date => time::remote_date(text)?,
        RemoteType::DateTime if field.kind == ValueKind::Date => {
            Cow::Owned(midnight(&time::remote_date(text)?))
        }
        RemoteType::DateTime => time::remote_time(text)?,
        RemoteType::Choices(_) => {
            return Ok(array::joined(array::split(text))?.map(Cow::Owned));
        }
        RemoteType::Choice(_)
        | RemoteType::Owner(_)
        | RemoteType::Pipeline(_)
        | RemoteType::Stage(_) => Cow::Borrowed(text),
    };
    Ok(Some(value))
}

/// A property's value as text for the column, in the manner of what stands there at present: a
/// label instead of a value, an e-mail address instead of an owner's id.
pub fn to_column(
    field: &Field,
    remote: Option<&str>,
    present: Option<&str>,
) -> Result<Option<String>, ValueError> {
    let present = present.map_or("", str::trim);
    let label = |options: &mut dyn Iterator<Item = &Choice>| {
        let all: Vec<&Choice> = options.collect();
        let by_label = !all.iter().any(|choice| choice.value == present)
            && find(all.iter().copied(), present).is_some();
        let new = all
            .iter()
            .find(|choice| Some(choice.value.as_str()) == remote);
        new.filter(|_| by_label).map(|choice| choice.label.clone())
    };
    let named = match &field.remote_type {
        RemoteType::Owner(Some(owners)) if holds_addresses(field, present) => {
            let mut known = owners
                .0
                .iter()
                .filter(|(_, id)| Some(id.as_str()) == remote);
            known.next().map(|(email, _)| email.clone())
        }
        RemoteType::Choice(options) => label(&mut options.iter()),
        RemoteType::Pipeline(all) => label(&mut all.iter().map(|each| &each.name)),
        RemoteType::Stage(all) => label(&mut all.iter().flat_map(|each| &each.stages)),
        _ => None,
    };
    value::to_column(field.kind, named.as_deref().or(remote))
}

fn holds_addresses(field: &Field, present: &str) -> bool {
    present.contains('@') || (present.is_empty() && field.column.to_lowercase().contains("mail"))
}

fn owned<'a>(
    text: Cow<'a, str>,
    convert: impl Fn(&str) -> Result<String, ValueError>,
) -> Result<Cow<'a, str>, ValueError> {
    let converted = convert(&text)?;
    Ok(if *text == converted {
        text
    } else {
        Cow::Owned(converted)
    })
}

/// Points in time are dated by UTC.
fn date(kind: ValueKind, text: &str) -> Result<String, ValueError> {
    match kind {
        ValueKind::Date => Ok(text.to_owned()),
        _ => {
            let mut time = time::written_time(text).map_err(|_| ValueError::NotADate)?;
            time.truncate(10);
            Ok(time)
        }
    }
}

/// Dates are midnight UTC.
fn datetime(kind: ValueKind, text: &str) -> Result<String, ValueError> {
    match kind {
        ValueKind::Date => Ok(midnight(text)),
        ValueKind::Timestamp | ValueKind::TimestampTz => Ok(text.to_owned()),
        _ => time::written_time(text),
    }
}

fn midnight(date: &str) -> String {
    format!("{date}T00:00:00Z")
}

/// By value, which is exact; else by label, as people write it.
fn find<'c>(options: impl Iterator<Item = &'c Choice> + Clone, text: &str) -> Option<&'c Choice> {
    let wanted = text.to_lowercase();
    let by_label = |choice: &&Choice| choice.label.trim().to_lowercase() == wanted;
    options
        .clone()
        .find(|choice| choice.value == text)
        .or_else(|| options.clone().find(by_label))
}

fn option<'c>(options: &'c [Choice], text: &str) -> Result<&'c Choice, ValueError> {
    find(options.iter(), text).ok_or_else(|| ValueError::NoOption {
        allowed: listed(options.iter()),
    })
}

fn choices<'a>(options: &[Choice], text: &str) -> Value<'a> {
    let parts = text
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let values = parts
        .map(|part| Ok(Cow::Borrowed(option(options, part)?.value.as_str())))
        .collect::<Result<Vec<_>, ValueError>>()?;
    Ok(array::joined(values)?.map(Cow::Owned))
}

/// A stage of the pipeline, or of whichever comes first if that is not known.
fn stage(
    pipelines: &Pipelines,
    pipeline: Option<&Choice>,
    text: &str,
) -> Result<String, ValueError> {
    let within = |name: &Choice| pipeline.is_none_or(|wanted| wanted.value == name.value);
    let stages = || {
        let candidates = pipelines.iter().filter(|each| within(&each.name));
        candidates.flat_map(|each| &each.stages)
    };
    let all: Vec<&Choice> = stages().collect();
    match find(all.iter().copied(), text) {
        Some(found) => Ok(found.value.clone()),
        None => Err(ValueError::NoStage {
            pipeline: pipeline
                .map_or("any", |name| name.label.as_str())
                .to_owned(),
            allowed: listed(stages()),
        }),
    }
}

/// `open (Open), won (Won)`: values with the labels that differ.
fn listed<'c>(options: impl Iterator<Item = &'c Choice>) -> String {
    let named = options.map(|choice| match choice.label == choice.value {
        true => choice.value.clone(),
        false => format!("{} ({})", choice.value, choice.label),
    });
    let all = named.collect::<Vec<_>>().join(", ");
    crate::value::json::shortened(&all, LISTED).into_owned()
}
