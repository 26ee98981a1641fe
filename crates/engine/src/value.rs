//! A column's text and a service's value: each turned into the other, so that a value that went
//! there and back compares equal.
//!
//! Column texts are PostgreSQL's output with DateStyle ISO, TimeZone UTC, bytea_output hex and
//! extra_float_digits 1. The *canonical* form is what is sent, what is hashed for the field clock,
//! and what a value read from the service is brought into before it is compared.

pub(crate) mod array;
pub mod form;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod time;

use std::borrow::Cow;

use crate::{
    hubspot::{RemoteType, values},
    mailchimp::merge,
    record::{
        Entity, Target,
        mapping::{Field, SourceMap, ValueKind},
    },
};

pub use array::elements;

/// HubSpot: a text property holds at most this many characters.
const HUBSPOT_TEXT_CHARACTERS: usize = 65_536;
/// RFC 5321, and what both services accept.
const EMAIL_BYTES: usize = 254;

/// Why a value cannot go there or come back. Reads as the end of a sentence about the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("is {characters} characters long; at most 65536 are possible, so shorten it")]
    TooLong { characters: usize },
    #[error(
        "is {bytes} bytes long in UTF-8; Mailchimp would cut it off after 255 without a word, so shorten it"
    )]
    TooManyBytes { bytes: usize },
    #[error("is not a number the service can hold (NaN and infinity have no counterpart)")]
    NotANumber,
    #[error("is not a whole number")]
    NotWhole,
    #[error("is neither true nor false")]
    NotABoolean,
    #[error("is not a date between the years 1 and 9999")]
    NotADate,
    #[error("is not a point in time between the years 1 and 9999")]
    NotATime,
    #[error("is not a one-dimensional array")]
    NotAnArray,
    #[error("has an element with a semicolon, which separates values at the service")]
    Semicolon,
    #[error("is not JSON")]
    NotJson,
    #[error("is not an e-mail address: {0}")]
    NotAnEmail(&'static str),
    #[error("is none of the options allowed there: {allowed}")]
    NoOption { allowed: String },
    #[error("is neither the id nor the label of a pipeline; there are: {allowed}")]
    NoPipeline { allowed: String },
    #[error(
        "is neither the id nor the label of a stage of pipeline {pipeline}, which has: {allowed}"
    )]
    NoStage { pipeline: String, allowed: String },
    #[error("is the e-mail address of no active owner in HubSpot")]
    NoOwner,
    #[error(
        "is an e-mail address, and HubSpot's owners could not be read to look it up (scope crm.objects.owners.read); see integration.alert"
    )]
    OwnersUnknown,
    #[error("is no birthday: it takes a date, or a month and a day such as 09/27")]
    NotABirthday,
    #[error("is a birthday without a year, and the column holds no date whose year could stay")]
    NoYear,
    #[error(
        "is no address: it takes a JSON object with addr1, city, state and zip, and perhaps addr2 and country"
    )]
    NotAnAddress,
    #[error("is an incomplete address: Mailchimp takes none without {missing}")]
    IncompleteAddress { missing: String },
    #[error("is no US zip code of five digits, which is all that a field of type zip takes")]
    NotAZip,
    #[error("is no URL: it has to begin with http:// or https:// and hold no blanks")]
    NotAUrl,
    #[error("is neither a list of texts nor one text")]
    NotAList,
    #[error("would be several elements in a column that holds one")]
    Several,
    #[error("names \"{name}\", of which there is more than one; say which: {allowed}")]
    Ambiguous { name: String, allowed: String },
    #[error("names \"{name}\", which the audience does not have; it has: {allowed}")]
    NotNamed { name: String, allowed: String },
    #[error(
        "names interest groups, and the audience's could not be read to look them up; see integration.alert"
    )]
    InterestsUnknown,
    #[error(
        "names marketing permissions, and the audience's could not be read to look them up; see integration.alert"
    )]
    PermissionsUnknown,
}

impl ValueError {
    /// Whether the value may be right by what the service allows today, if not by what was read of it.
    pub const fn may_be_outdated(&self) -> bool {
        matches!(
            self,
            ValueError::NoOption { .. }
                | ValueError::NoPipeline { .. }
                | ValueError::NoStage { .. }
                | ValueError::NoOwner
                | ValueError::NotABirthday
                | ValueError::NotAnAddress
                | ValueError::IncompleteAddress { .. }
                | ValueError::NotAZip
                | ValueError::NotAUrl
                | ValueError::Ambiguous { .. }
                | ValueError::NotNamed { .. }
                | ValueError::InterestsUnknown
                | ValueError::PermissionsUnknown
        )
    }
}

/// A column's text as the service's canonical value. `None`: there is no value (NULL, or nothing
/// but blanks), which clears the field if anything was there.
pub fn to_remote<'a>(
    kind: ValueKind,
    text: Option<&'a str>,
    target: Target,
) -> Result<Option<Cow<'a, str>>, ValueError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = match kind {
        ValueKind::Text => return bounded(Cow::Borrowed(text), target).map(Some),
        ValueKind::Json => {
            check_length(text, target)?;
            Cow::Borrowed(text)
        }
        ValueKind::Integer | ValueKind::Decimal | ValueKind::Float => number::canonical(text)?,
        ValueKind::Bool => Cow::Borrowed(boolean(text)?),
        ValueKind::Date => Cow::Borrowed(time::column_date(text)?),
        ValueKind::Timestamp | ValueKind::TimestampTz => Cow::Owned(time::column_time(text)?),
        ValueKind::TextArray => match array::joined(array::elements(text)?)? {
            Some(list) => return bounded(Cow::Owned(list), target).map(Some),
            None => return Ok(None),
        },
    };
    Ok(Some(value))
}

/// A value as the service returns it, in the form [`to_remote`] gives. `None`: no value.
pub fn canonical<'a>(
    kind: ValueKind,
    target: Target,
    remote: Option<&'a str>,
) -> Result<Option<Cow<'a, str>>, ValueError> {
    let Some(text) = remote.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = match kind {
        ValueKind::Date => time::remote_date(text)?,
        ValueKind::Timestamp | ValueKind::TimestampTz => time::remote_time(text)?,
        ValueKind::TextArray => match array::joined(array::split(text))? {
            Some(list) => Cow::Owned(list),
            None => return Ok(None),
        },
        // What the service holds is never refused for its length.
        ValueKind::Text | ValueKind::Json => Cow::Borrowed(text),
        ValueKind::Integer | ValueKind::Decimal | ValueKind::Float | ValueKind::Bool => {
            return to_remote(kind, Some(text), target);
        }
    };
    Ok(Some(value))
}

/// Whether two values of the service mean the same. What cannot be read is equal only to itself.
pub fn same(kind: ValueKind, target: Target, a: Option<&str>, b: Option<&str>) -> bool {
    if a == b {
        return true;
    }
    match (canonical(kind, target, a), canonical(kind, target, b)) {
        (Ok(Some(a)), Ok(Some(b))) if kind == ValueKind::Json => same_json(&a, &b),
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn same_json(a: &str, b: &str) -> bool {
    let parsed = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || (parsed(a).is_some() && parsed(a) == parsed(b))
}

/// A service's value as text that the column type's input function takes. `None`: NULL.
pub fn to_column(kind: ValueKind, remote: Option<&str>) -> Result<Option<String>, ValueError> {
    let Some(text) = remote.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let trimmed = text.trim();
    let column = match kind {
        ValueKind::Text => text.to_owned(),
        ValueKind::Integer => {
            let number = number::canonical(trimmed)?;
            if number.contains('.') {
                return Err(ValueError::NotWhole);
            }
            number.into_owned()
        }
        ValueKind::Decimal | ValueKind::Float => number::canonical(trimmed)?.into_owned(),
        ValueKind::Bool => boolean(trimmed)?.to_owned(),
        ValueKind::Date => time::remote_date(trimmed)?.into_owned(),
        ValueKind::Timestamp => time::remote_time(trimmed)?
            .replace('T', " ")
            .replace('Z', ""),
        ValueKind::TimestampTz => time::remote_time(trimmed)?
            .replace('T', " ")
            .replace('Z', "+00"),
        ValueKind::TextArray => array::literal(&array::split(trimmed)),
        ValueKind::Json => match serde_json::from_str::<serde::de::IgnoredAny>(trimmed) {
            Ok(_) => trimmed.to_owned(),
            Err(_) => return Err(ValueError::NotJson),
        },
    };
    Ok(Some(column))
}

/// [`to_remote`] for a line of a field map: e-mail addresses that identify a record are compared
/// in lower case by both services.
pub fn field_to_remote<'a>(
    map: &SourceMap,
    field: &Field,
    text: Option<&'a str>,
) -> Result<Option<Cow<'a, str>>, ValueError> {
    match text {
        Some(text) if is_identity(map, field) && !text.trim().is_empty() => {
            email_key(text).map(|key| Some(Cow::Owned(key)))
        }
        _ => match &field.remote_type {
            RemoteType::Unknown => to_remote(field.kind, text, map.target),
            RemoteType::Merge(merge) => merge::to_remote(field.kind, merge, text),
            _ => values::to_remote(field, text),
        },
    }
}

/// [`canonical`] for a line of a field map: what [`field_to_remote`] is to [`to_remote`].
pub fn field_canonical<'a>(
    map: &SourceMap,
    field: &Field,
    remote: Option<&'a str>,
) -> Result<Option<Cow<'a, str>>, ValueError> {
    match remote {
        Some(text) if is_identity(map, field) && !text.trim().is_empty() => {
            Ok(Some(Cow::Owned(text.trim().to_lowercase())))
        }
        _ => match &field.remote_type {
            RemoteType::Unknown => canonical(field.kind, map.target, remote),
            RemoteType::Merge(merge) => merge::canonical(field.kind, merge, remote),
            _ => values::canonical(field, remote),
        },
    }
}

/// A service's value as text for the column of a line of a field map, in the manner of what stands
/// there at present.
pub fn field_to_column(
    field: &Field,
    remote: Option<&str>,
    present: Option<&str>,
) -> Result<Option<String>, ValueError> {
    match &field.remote_type {
        RemoteType::Merge(merge) => merge::to_column(field.kind, merge, remote, present),
        _ => values::to_column(field, remote, present),
    }
}

/// Whether what the service holds means what would be sent. What cannot be read is equal only to
/// itself.
pub fn field_same(map: &SourceMap, field: &Field, crm: Option<&str>, remote: Option<&str>) -> bool {
    let alike = match &field.remote_type {
        RemoteType::Merge(merge) => merge::same(merge, crm, remote),
        _ => false,
    };
    alike || same(field.kind, map.target, crm, remote)
}

/// Whether the field holds the address by which the target knows the record.
fn is_identity(map: &SourceMap, field: &Field) -> bool {
    match map.target {
        Target::HubSpot => {
            map.entity == Entity::Contact && field.remote.eq_ignore_ascii_case("email")
        }
        Target::Mailchimp => field.remote.eq_ignore_ascii_case("email_address"),
    }
}

/// The form in which an e-mail address identifies a person: trimmed and in lower case.
///
/// Only what no mail system accepts is refused; the services apply stricter rules of their own.
pub fn email_key(text: &str) -> Result<String, ValueError> {
    let text = text.trim();
    let Some((local, domain)) = text.split_once('@') else {
        return Err(ValueError::NotAnEmail("it has no @"));
    };
    if domain.contains('@') {
        return Err(ValueError::NotAnEmail("it has more than one @"));
    }
    if local.is_empty() || domain.is_empty() {
        return Err(ValueError::NotAnEmail(
            "nothing stands before or after the @",
        ));
    }
    if !domain.contains('.') || domain.split('.').any(str::is_empty) {
        return Err(ValueError::NotAnEmail("its domain is incomplete"));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ValueError::NotAnEmail(
            "it holds a blank or a control character",
        ));
    }
    let key = text.to_lowercase();
    if key.len() > EMAIL_BYTES {
        return Err(ValueError::NotAnEmail("it is longer than 254 bytes"));
    }
    Ok(key)
}

fn bounded(text: Cow<'_, str>, target: Target) -> Result<Cow<'_, str>, ValueError> {
    match target {
        Target::HubSpot => check_length(&text, target)?,
        Target::Mailchimp => merge::check_length(&text)?,
    }
    Ok(text)
}

fn check_length(text: &str, target: Target) -> Result<(), ValueError> {
    // Bytes are at least as many as characters: counting is rarely needed.
    if target == Target::Mailchimp || text.len() <= HUBSPOT_TEXT_CHARACTERS {
        return Ok(());
    }
    match text.chars().count() {
        0..=HUBSPOT_TEXT_CHARACTERS => Ok(()),
        characters => Err(ValueError::TooLong { characters }),
    }
}

pub(crate) fn boolean(text: &str) -> Result<&'static str, ValueError> {
    const TRUE: [&str; 5] = ["t", "true", "yes", "on", "1"];
    const FALSE: [&str; 5] = ["f", "false", "no", "off", "0"];
    if TRUE.iter().any(|known| text.eq_ignore_ascii_case(known)) {
        Ok("true")
    } else if FALSE.iter().any(|known| text.eq_ignore_ascii_case(known)) {
        Ok("false")
    } else {
        Err(ValueError::NotABoolean)
    }
}

#[cfg(test)]
mod tests;
