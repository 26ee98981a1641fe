//! A column's text and a service's value: each turned into the other, so that a value that went
//! there and back compares equal.
//!
//! Column texts are PostgreSQL's output with DateStyle ISO, TimeZone UTC, bytea_output hex and
//! extra_float_digits 1. The *canonical* form is what is sent, what is hashed for the field clock,
//! and what a value read from the service is brought into before it is compared.

pub mod array;
pub mod form;
pub mod json;
pub mod number;
pub mod time;

use std::borrow::Cow;

use crate::record::mapping::ValueKind;

pub use array::elements;

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

/// A value in the form in which it is sent and compared. `None`: there is none.
pub type Value<'a> = Result<Option<Cow<'a, str>>, ValueError>;

/// A column's text as a canonical value. `None`: there is no value (NULL, or nothing but blanks),
/// which clears the field if anything was there. How long it may be is the service's to say.
pub fn to_remote(kind: ValueKind, text: Option<&str>) -> Value<'_> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = match kind {
        ValueKind::Text | ValueKind::Json => Cow::Borrowed(text),
        ValueKind::Integer | ValueKind::Decimal | ValueKind::Float => number::canonical(text)?,
        ValueKind::Bool => Cow::Borrowed(boolean(text)?),
        ValueKind::Date => Cow::Borrowed(time::column_date(text)?),
        ValueKind::Timestamp | ValueKind::TimestampTz => Cow::Owned(time::column_time(text)?),
        ValueKind::TextArray => match array::joined(array::elements(text)?)? {
            Some(list) => Cow::Owned(list),
            None => return Ok(None),
        },
    };
    Ok(Some(value))
}

/// A value as the service returns it, in the form that [`to_remote`] produces. `None`: no value.
pub fn canonical(kind: ValueKind, remote: Option<&str>) -> Value<'_> {
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
            return to_remote(kind, Some(text));
        }
    };
    Ok(Some(value))
}

/// Whether two values of the service mean the same. What cannot be read is equal only to itself.
pub fn same(kind: ValueKind, a: Option<&str>, b: Option<&str>) -> bool {
    if a == b {
        return true;
    }
    match (canonical(kind, a), canonical(kind, b)) {
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

pub fn boolean(text: &str) -> Result<&'static str, ValueError> {
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
