//! Values for properties whose definition is known: a column's text in the form HubSpot gives it
//! back, and HubSpot's value in the form the column holds.
//!
//! The form sent is the form compared: what is read back after a write is equal to what was sent.

use std::borrow::Cow;

use crate::{EMAIL, objects};
use integration_engine::{
    record::{
        field_type::{FieldOption, FieldType, Pipelines},
        mapping::{Field, SourceMap, ValueKind},
    },
    value::{self, Value, ValueError, array, boolean, number, time},
};

/// Allowed options are listed up to so many characters.
const LISTED: usize = 300;
/// A text property holds at most this many characters.
const TEXT_CHARACTERS: usize = 65_536;

/// A row's column as the property's value, in the light of the row's other fields; `None` clears
/// it.
pub(super) fn to_remote<'a>(map: &SourceMap, row: &'a [Option<String>], index: usize) -> Value<'a> {
    let (Some(field), text) = (
        map.fields.get(index),
        row.get(index).and_then(Option::as_deref),
    ) else {
        return Ok(None);
    };
    match (&field.remote_type, text) {
        (FieldType::Stage(pipelines), _) => {
            let named = objects::of(map.entity)
                .pipeline
                .and_then(|properties| map.field_named(properties.pipeline))
                .and_then(|(at, _)| row.get(at)?.as_deref());
            // A pipeline that is not there is the other field's mistake.
            let pipeline =
                named.and_then(|name| find(pipelines.iter().map(|each| &each.name), name.trim()));
            converted(field, text, pipeline)
        }
        (_, Some(text)) if is_identity(map, field) && !text.trim().is_empty() => {
            value::email_key(text).map(|key| Some(Cow::Owned(key)))
        }
        _ => converted(field, text, None),
    }
}

/// Whether the field holds the address by which HubSpot knows the record. Addresses are compared in
/// lower case.
fn is_identity(map: &SourceMap, field: &Field) -> bool {
    map.entity.is_person() && field.remote.eq_ignore_ascii_case(EMAIL)
}

/// By the column's type, if it is not too long.
fn plain(kind: ValueKind, text: Option<&str>) -> Value<'_> {
    let value = value::to_remote(kind, text)?;
    // Bytes are at least as many as characters: counting is rarely needed.
    let long = value.as_ref().filter(|text| text.len() > TEXT_CHARACTERS);
    match long.map_or(0, |text| text.chars().count()) {
        0..=TEXT_CHARACTERS => Ok(value),
        characters => Err(ValueError::TooLong { characters }),
    }
}

fn converted<'a>(
    field: &Field,
    text: Option<&'a str>,
    pipeline: Option<&FieldOption>,
) -> Value<'a> {
    let Some(plain) = plain(field.kind, text)? else {
        return Ok(None);
    };
    let value = match &field.remote_type {
        FieldType::Unknown | FieldType::Text | FieldType::Merge(_) => plain,
        FieldType::Number => owned(plain, |text| number::canonical(text).map(Cow::into_owned))?,
        FieldType::Bool => Cow::Borrowed(boolean(&plain)?),
        FieldType::Date => owned(plain, |text| date(field.kind, text))?,
        FieldType::DateTime => owned(plain, |text| datetime(field.kind, text))?,
        FieldType::Choice(options) => Cow::Owned(option(options, &plain)?.value.clone()),
        FieldType::Choices(options) => return choices(options, &plain),
        FieldType::Owner(owners) => match (plain.contains('@'), owners) {
            (false, _) => plain,
            (true, None) => return Err(ValueError::OwnersUnknown),
            (true, Some(owners)) => {
                let id = owners.0.get(&plain.to_lowercase());
                Cow::Owned(id.ok_or(ValueError::NoOwner)?.clone())
            }
        },
        FieldType::Pipeline(pipelines) => {
            let found = find(pipelines.iter().map(|each| &each.name), &plain);
            let all = || pipelines.iter().map(|each| &each.name);
            let found = found.ok_or_else(|| ValueError::NoPipeline {
                allowed: listed(all()),
            });
            Cow::Owned(found?.value.clone())
        }
        FieldType::Stage(pipelines) => Cow::Owned(stage(pipelines, pipeline, &plain)?),
    };
    Ok(Some(value))
}

/// A property's value as HubSpot returns it, in the form that [`to_remote`] produces.
///
/// Where the column holds less than the property (a date of a point in time), that is all that is
/// compared: the rest could not have come from here.
pub(super) fn canonical<'a>(map: &SourceMap, field: &Field, remote: Option<&'a str>) -> Value<'a> {
    let Some(text) = remote.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if is_identity(map, field) {
        return Ok(Some(Cow::Owned(text.to_lowercase())));
    }
    let value = match &field.remote_type {
        FieldType::Unknown | FieldType::Text | FieldType::Merge(_) => {
            return value::canonical(field.kind, Some(text));
        }
        FieldType::Number => number::canonical(text)?,
        FieldType::Bool => Cow::Borrowed(boolean(text)?),
        FieldType::Date => time::remote_date(text)?,
        FieldType::DateTime if field.kind == ValueKind::Date => {
            Cow::Owned(midnight(&time::remote_date(text)?))
        }
        FieldType::DateTime => time::remote_time(text)?,
        FieldType::Choices(_) => {
            return Ok(array::joined(array::split(text))?.map(Cow::Owned));
        }
        FieldType::Choice(_)
        | FieldType::Owner(_)
        | FieldType::Pipeline(_)
        | FieldType::Stage(_) => Cow::Borrowed(text),
    };
    Ok(Some(value))
}

/// A property's value as text for the column, in the manner of what stands there at present: a
/// label instead of a value, an e-mail address instead of an owner's id.
pub(super) fn to_column(
    field: &Field,
    remote: Option<&str>,
    present: Option<&str>,
) -> Result<Option<String>, ValueError> {
    let present = present.map_or("", str::trim);
    let label = |options: &mut dyn Iterator<Item = &FieldOption>| {
        let all: Vec<&FieldOption> = options.collect();
        let by_label = !all.iter().any(|choice| choice.value == present)
            && find(all.iter().copied(), present).is_some();
        let new = all
            .iter()
            .find(|choice| Some(choice.value.as_str()) == remote);
        new.filter(|_| by_label).map(|choice| choice.label.clone())
    };
    let named = match &field.remote_type {
        FieldType::Owner(Some(owners)) if holds_addresses(field, present) => {
            let mut known = owners
                .0
                .iter()
                .filter(|(_, id)| Some(id.as_str()) == remote);
            known.next().map(|(email, _)| email.clone())
        }
        FieldType::Choice(options) => label(&mut options.iter()),
        FieldType::Pipeline(all) => label(&mut all.iter().map(|each| &each.name)),
        FieldType::Stage(all) => label(&mut all.iter().flat_map(|each| &each.stages)),
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
fn find<'c>(
    options: impl Iterator<Item = &'c FieldOption> + Clone,
    text: &str,
) -> Option<&'c FieldOption> {
    let wanted = text.to_lowercase();
    let by_label = |choice: &&FieldOption| choice.label.trim().to_lowercase() == wanted;
    options
        .clone()
        .find(|choice| choice.value == text)
        .or_else(|| options.clone().find(by_label))
}

fn option<'c>(options: &'c [FieldOption], text: &str) -> Result<&'c FieldOption, ValueError> {
    find(options.iter(), text).ok_or_else(|| ValueError::NoOption {
        allowed: listed(options.iter()),
    })
}

fn choices<'a>(options: &[FieldOption], text: &str) -> Value<'a> {
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
    pipeline: Option<&FieldOption>,
    text: &str,
) -> Result<String, ValueError> {
    let within = |name: &FieldOption| pipeline.is_none_or(|wanted| wanted.value == name.value);
    let stages = || {
        let candidates = pipelines.iter().filter(|each| within(&each.name));
        candidates.flat_map(|each| &each.stages)
    };
    let all: Vec<&FieldOption> = stages().collect();
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
fn listed<'c>(options: impl Iterator<Item = &'c FieldOption>) -> String {
    let named = options.map(|choice| match choice.label == choice.value {
        true => choice.value.clone(),
        false => format!("{} ({})", choice.value, choice.label),
    });
    let all = named.collect::<Vec<_>>().join(", ");
    integration_engine::value::json::shortened(&all, LISTED).into_owned()
}
