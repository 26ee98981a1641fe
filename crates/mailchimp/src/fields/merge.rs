//! Values for fields of an audience whose definition is known: a column's text in the form in which
//! Mailchimp gives it back, and Mailchimp's value in the form the column holds.
//!
//! The form sent is the form compared. Lists (tags, interests, permissions) are JSON lists in it,
//! sorted; tags in lower case, for Mailchimp may change their case.

mod address;
mod dates;
mod lists;

use std::borrow::Cow;

use integration_engine::{
    record::{field_type::MergeType, mapping::ValueKind},
    value::{self, Value, ValueError, array, json::shortened, number},
};

use address::{address, parts};
use dates::{birthday, date, dated, written_date};
pub use lists::ours;
use lists::{column_list, held_ids, held_list, list, named_as};
pub(crate) use lists::{ids, tags};

/// Mailchimp: a text field is cut at this many bytes, without a word.
const TEXT_BYTES: usize = 255;
/// Allowed names are listed up to so many characters.
const LISTED: usize = 300;

/// A column's text as the field's value; `None` clears it.
pub(crate) fn to_remote<'a>(
    kind: ValueKind,
    merge: &MergeType,
    text: Option<&'a str>,
) -> Value<'a> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = match merge {
        MergeType::Other | MergeType::Absent | MergeType::Phone => return plain(kind, text),
        MergeType::Text => {
            let text = plain(kind, text)?;
            text.as_deref().map_or(Ok(()), check_length)?;
            return Ok(text);
        }
        MergeType::Number => number::canonical(text)?,
        MergeType::Choice(choices) => {
            let Some(text) = plain(kind, text)? else {
                return Ok(None);
            };
            Cow::Owned(choice(choices, &text, kind)?.clone())
        }
        MergeType::Date => Cow::Owned(date(kind, text)?.to_string()),
        MergeType::Birthday => Cow::Owned(birthday(kind, text)?),
        MergeType::Address => return Ok(address(text, true)?.map(Cow::Owned)),
        MergeType::Zip => Cow::Owned(zip(kind, text)?),
        MergeType::Url => Cow::Borrowed(url(text)?),
        MergeType::Tags => return Ok(list(tags(kind, text)?, str::to_lowercase)),
        MergeType::Interests(known) => {
            let known = known.as_deref().ok_or(ValueError::InterestsUnknown)?;
            return Ok(list(ids(known, kind, text)?, str::to_owned));
        }
        MergeType::Permissions(known) => {
            let known = known.as_deref().ok_or(ValueError::PermissionsUnknown)?;
            return Ok(list(ids(known, kind, text)?, str::to_owned));
        }
    };
    Ok(Some(value))
}

/// The field's value as Mailchimp returns it, in the form that [`to_remote`] produces.
pub(crate) fn canonical<'a>(
    kind: ValueKind,
    merge: &MergeType,
    remote: Option<&'a str>,
) -> Value<'a> {
    let Some(text) = remote.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = match merge {
        MergeType::Other | MergeType::Absent | MergeType::Text | MergeType::Phone => {
            return value::canonical(kind, Some(text));
        }
        MergeType::Number => number::canonical(text)?,
        MergeType::Date => Cow::Owned(written_date(text)?.to_string()),
        MergeType::Birthday => Cow::Owned(birthday(ValueKind::Text, text)?),
        MergeType::Address => return Ok(address(text, false)?.map(Cow::Owned)),
        MergeType::Choice(_) | MergeType::Zip | MergeType::Url => Cow::Borrowed(text),
        MergeType::Tags => return Ok(list(held_list(text), str::to_lowercase)),
        MergeType::Interests(known) | MergeType::Permissions(known) => {
            let held = held_ids(known.as_deref().unwrap_or_default(), text);
            return Ok(list(held, str::to_owned));
        }
    };
    Ok(Some(value))
}

/// The field's value as text for the column, in the manner of what stands there at present.
pub(crate) fn to_column(
    kind: ValueKind,
    merge: &MergeType,
    remote: Option<&str>,
    present: Option<&str>,
) -> Result<Option<String>, ValueError> {
    let Some(text) = remote.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let present = present.map_or("", str::trim);
    match merge {
        MergeType::Date => value::to_column(kind, Some(&written_date(text)?.to_string())),
        MergeType::Birthday => dated(kind, &birthday(ValueKind::Text, text)?, present).map(Some),
        MergeType::Address => value::to_column(kind, address(text, false)?.as_deref()),
        MergeType::Tags => column_list(kind, held_list(text)),
        MergeType::Interests(known) | MergeType::Permissions(known) => {
            let known = known.as_deref().unwrap_or_default();
            let held = held_ids(known, text);
            let names = held.iter().map(|id| named_as(known, id, kind, present));
            column_list(kind, names.map(Cow::Owned).collect())
        }
        _ => value::to_column(kind, Some(text)),
    }
}

/// Whether what Mailchimp holds is what would be sent, although it is not written alike.
pub(crate) fn same(merge: &MergeType, crm: Option<&str>, remote: Option<&str>) -> bool {
    let (Some(crm), Some(remote)) = (crm, remote) else {
        return false;
    };
    match merge {
        MergeType::Phone => digits(crm) == digits(remote) && !digits(crm).is_empty(),
        // Mailchimp has a default for the country.
        MergeType::Address => match (parts(crm), parts(remote)) {
            (Some(crm), Some(mut remote)) => {
                if !crm.contains_key("country") {
                    remote.remove("country");
                }
                crm == remote
            }
            _ => false,
        },
        _ => false,
    }
}

/// By the column's type, however long.
fn plain(kind: ValueKind, text: &str) -> Value<'_> {
    match kind {
        ValueKind::Text | ValueKind::Json => Ok(Some(Cow::Borrowed(text))),
        ValueKind::TextArray => Ok(array::joined(array::elements(text)?)?.map(Cow::Owned)),
        _ => value::to_remote(kind, Some(text)),
    }
}

/// Cut off, it would no longer be what the CRM holds, and nobody would know.
pub(crate) fn check_length(text: &str) -> Result<(), ValueError> {
    match text.len() {
        0..=TEXT_BYTES => Ok(()),
        bytes => Err(ValueError::TooManyBytes { bytes }),
    }
}

/// Exactly, else in any case; a boolean is `yes` or `no` as well.
fn choice<'c>(
    choices: &'c [String],
    text: &str,
    kind: ValueKind,
) -> Result<&'c String, ValueError> {
    let in_any_case = |wanted: &str| {
        let wanted = wanted.to_lowercase();
        let mut found = choices
            .iter()
            .filter(move |choice| choice.trim().to_lowercase() == wanted);
        found.next()
    };
    let exact = choices.iter().find(|choice| *choice == text);
    let spoken = || match (kind, text) {
        (ValueKind::Bool, "true") => in_any_case("yes"),
        (ValueKind::Bool, _) => in_any_case("no"),
        _ => None,
    };
    exact
        .or_else(|| in_any_case(text))
        .or_else(spoken)
        .ok_or_else(|| ValueError::NoOption {
            allowed: shortened(&choices.join(", "), LISTED).into_owned(),
        })
}

/// A number has lost its leading zeros.
fn zip(kind: ValueKind, text: &str) -> Result<String, ValueError> {
    let digits = match kind {
        ValueKind::Integer => format!("{text:0>5}"),
        _ => text.to_owned(),
    };
    match digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(digits),
        false => Err(ValueError::NotAZip),
    }
}

fn url(text: &str) -> Result<&str, ValueError> {
    let lower = text.to_ascii_lowercase();
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| lower.strip_prefix(scheme));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let usable = host.is_some_and(|host| !host.is_empty())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    usable.then_some(text).ok_or(ValueError::NotAUrl)
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}
