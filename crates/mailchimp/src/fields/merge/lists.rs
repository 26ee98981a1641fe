//! Lists: tags by name, interests and permissions by id or by name.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::Value as Json;

use super::{LISTED, plain};
use integration_engine::{
    record::{field_type::NamedInterest, mapping::ValueKind},
    value::{self, ValueError, array, json::shortened},
};

/// A list as a column holds it: an array, a JSON list, or one element.
fn elements(kind: ValueKind, text: &str) -> Result<Vec<Cow<'_, str>>, ValueError> {
    let all = match kind {
        ValueKind::TextArray => array::elements(text)?,
        ValueKind::Json => match serde_json::from_str(text) {
            Ok(Json::String(one)) => vec![Cow::Owned(one)],
            Ok(Json::Array(all)) => {
                let texts = all.into_iter().map(|each| match each {
                    Json::String(text) => Ok(Cow::Owned(text)),
                    _ => Err(ValueError::NotAList),
                });
                texts.collect::<Result<_, _>>()?
            }
            Ok(Json::Null) => Vec::new(),
            _ => return Err(ValueError::NotAList),
        },
        _ => plain(kind, text)?.into_iter().collect(),
    };
    let trimmed = all.into_iter().map(|each| match each {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    });
    Ok(trimmed.filter(|each| !each.is_empty()).collect())
}

/// The tags that a column names, as it writes them, each once.
pub(crate) fn tags(kind: ValueKind, text: &str) -> Result<Vec<Cow<'_, str>>, ValueError> {
    let mut seen = BTreeSet::new();
    let mut all = elements(kind, text)?;
    all.retain(|tag| seen.insert(tag.to_lowercase()));
    Ok(all)
}

/// The ids of what a column names, by id or by name.
pub(crate) fn ids<'a>(
    known: &[NamedInterest],
    kind: ValueKind,
    text: &'a str,
) -> Result<Vec<Cow<'a, str>>, ValueError> {
    let all = elements(kind, text)?.into_iter();
    all.map(|name| Ok(Cow::Owned(find(known, &name)?.id.clone())))
        .collect()
}

/// By id; else by category and name; else by name, if only one has it. In any case.
fn find<'k>(known: &'k [NamedInterest], text: &str) -> Result<&'k NamedInterest, ValueError> {
    if let Some(found) = known.iter().find(|each| each.id == text) {
        return Ok(found);
    }
    let wanted = text.to_lowercase();
    if let Some(found) = known
        .iter()
        .find(|each| each.full().to_lowercase() == wanted)
    {
        return Ok(found);
    }
    let by_name = |each: &&NamedInterest| each.name.trim().to_lowercase() == wanted;
    let mut found = known.iter().filter(by_name);
    let allowed = || {
        let all: Vec<String> = known.iter().map(NamedInterest::full).collect();
        shortened(&all.join(", "), LISTED).into_owned()
    };
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(ValueError::Ambiguous {
            name: text.to_owned(),
            allowed: allowed(),
        }),
        (None, _) => Err(ValueError::NotNamed {
            name: text.to_owned(),
            allowed: allowed(),
        }),
    }
}

/// Sorted and without repetitions, as JSON; `None`: nothing.
pub(super) fn list<'a>(
    all: Vec<Cow<'_, str>>,
    form: impl Fn(&str) -> String,
) -> Option<Cow<'a, str>> {
    let sorted: BTreeSet<String> = all.iter().map(|each| form(each)).collect();
    (!sorted.is_empty()).then(|| Cow::Owned(Json::from_iter(sorted).to_string()))
}

/// A list as it is read here: JSON.
pub(super) fn held_list(text: &str) -> Vec<Cow<'_, str>> {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(all) => all.into_iter().map(Cow::Owned).collect(),
        Err(_) => vec![Cow::Borrowed(text)],
    }
}

/// The ids of what a member has: a JSON list of them, or the names that webhooks give, separated by
/// commas. Names that are not known say nothing.
pub(super) fn held_ids<'a>(known: &[NamedInterest], text: &'a str) -> Vec<Cow<'a, str>> {
    if let Ok(ids) = serde_json::from_str::<Vec<String>>(text) {
        return ids.into_iter().map(Cow::Owned).collect();
    }
    let names = escaped_commas(text);
    let found = names.iter().filter_map(|name| find(known, name).ok());
    found.map(|each| Cow::Owned(each.id.clone())).collect()
}

/// `A, B\, C`: a comma within a name has a backslash before it.
fn escaped_commas(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let last = names.len() - 1;
        match character {
            '\\' => names[last].extend(characters.next()),
            ',' => names.push(String::new()),
            other => names[last].push(other),
        }
    }
    names.iter_mut().for_each(|name| *name = name.trim().into());
    names
}

/// In the manner of what stands in the column: as ids, with the category, or by name if that tells.
pub(super) fn named_as(
    known: &[NamedInterest],
    id: &str,
    kind: ValueKind,
    present: &str,
) -> String {
    let Some(found) = known.iter().find(|each| each.id == id) else {
        return id.to_owned();
    };
    let stands = elements(kind, present).unwrap_or_default();
    let any = |holds: &dyn Fn(&NamedInterest, &str) -> bool| {
        let mut stands = stands.iter();
        stands.any(|text| known.iter().any(|each| holds(each, text)))
    };
    let alike = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    if any(&|each, text| each.id == text) {
        return found.id.clone();
    }
    let with_category = any(&|each, text| !each.category.is_empty() && alike(&each.full(), text));
    let alone = known.iter().filter(|each| alike(&each.name, &found.name));
    match !with_category && alone.count() == 1 {
        true => found.name.clone(),
        false => found.full(),
    }
}

pub(super) fn column_list(
    kind: ValueKind,
    all: Vec<Cow<'_, str>>,
) -> Result<Option<String>, ValueError> {
    match (kind, all.as_slice()) {
        (_, []) => Ok(None),
        (ValueKind::TextArray, _) => Ok(Some(array::literal(&all))),
        (ValueKind::Json, _) => Ok(Some(
            Json::from_iter(all.iter().map(|each| &**each)).to_string(),
        )),
        (_, [one]) => value::to_column(kind, Some(one)),
        _ => Err(ValueError::Several),
    }
}

/// Of a list that a member holds, what is ours to compare: what the column names, and what we gave
/// the member before. Everything else is others'.
pub fn ours(held: &str, wanted: Option<&str>, given: &[String]) -> String {
    let lower = |text: &str| text.to_lowercase();
    let mut known: BTreeSet<String> = given.iter().map(|each| lower(each)).collect();
    known.extend(
        wanted
            .map(held_list)
            .unwrap_or_default()
            .iter()
            .map(|each| lower(each)),
    );
    let mut kept = held_list(held);
    kept.retain(|each| known.contains(&lower(each)));
    Json::from_iter(kept.iter().map(|each| &**each)).to_string()
}
