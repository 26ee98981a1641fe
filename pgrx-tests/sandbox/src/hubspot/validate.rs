//! What HubSpot refuses in a value, and how it normalises what it takes.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::definitions::{Definition, Definitions, PropertyKey, PropertyType};
use super::errors::Problem;
use super::inputs::{Properties, Sent};
use super::store::Store;
use crate::clock;

/// HubSpot: a text value has at most 65,536 characters.
const MAX_CHARS: usize = 65_536;

/// Checked values of one record, ready to be stored.
pub(crate) type Values<'a> = Vec<(PropertyKey, Cow<'a, str>)>;

/// Why a value is refused.
#[derive(Debug)]
struct Refusal {
    name: String,
    code: &'static str,
    message: String,
}

/// Checks all properties of one record and appends them to `values`.
pub(crate) fn check<'a>(
    definitions: &Definitions,
    properties: &mut Properties<'a>,
    values: &mut Values<'a>,
) -> Result<(), Problem> {
    let start = values.len();
    let mut refusals = Vec::new();
    for (name, sent) in properties.0.drain(..) {
        match check_one(definitions, &name, sent) {
            Ok((key, value)) => match values[start..].iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 = value,
                None => values.push((key, value)),
            },
            Err((code, message)) => refusals.push(Refusal {
                name: name.into_owned(),
                code,
                message,
            }),
        }
    }
    if refusals.is_empty() {
        return Ok(());
    }
    values.truncate(start);
    Err(problem(&refusals))
}

/// What HubSpot says of dates that it stores in another form than they were sent in.
pub(crate) fn warnings(definitions: &Definitions, properties: &Properties<'_>) -> Vec<Value> {
    let warning = |(name, sent): &(Cow<'_, str>, Sent<'_>)| {
        let (_, definition) = definitions.find(name)?;
        let (PropertyType::Date | PropertyType::Datetime, Sent::Text(raw)) =
            (definition.kind, sent)
        else {
            return None;
        };
        let stored = check_type(definition, Cow::Borrowed(&**raw)).ok()?;
        (stored != *raw && !raw.is_empty()).then(|| {
            json!({
                "category": "PROPERTY_VALUE_NORMALIZED", "message": "The value was normalized",
                "context": {"propertyName": [name], "rawValue": [raw], "normalizedValue": [stored]},
            })
        })
    };
    properties.0.iter().filter_map(warning).collect()
}

type Checked<'a> = Result<(PropertyKey, Cow<'a, str>), (&'static str, String)>;

fn check_one<'a>(definitions: &Definitions, name: &str, sent: Sent<'a>) -> Checked<'a> {
    let Some((key, definition)) = definitions.find(name) else {
        return Err((
            "PROPERTY_DOESNT_EXIST",
            format!("Property \"{name}\" does not exist"),
        ));
    };
    if definition.read_only {
        return Err((
            "READ_ONLY_VALUE",
            format!("\"{name}\" is a read only property; its value cannot be set."),
        ));
    }
    let text = match sent {
        Sent::Text(text) => text,
        Sent::Number(number) => Cow::Owned(number),
        Sent::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
        // The document says "ignored or rejected": the stricter reading.
        Sent::Null => {
            return Err((
                "INVALID_VALUE",
                format!("Property \"{name}\" must not be null"),
            ));
        }
        Sent::Composite => {
            return Err((
                "INVALID_VALUE",
                format!("Property \"{name}\" must be a string"),
            ));
        }
    };
    if text.is_empty() {
        return Ok((key, text));
    }
    if text.len() > MAX_CHARS && text.chars().count() > MAX_CHARS {
        return Err((
            "VALUE_TOO_LONG",
            format!("Property \"{name}\" is longer than {MAX_CHARS} characters"),
        ));
    }
    if has_blank_ends(&text) {
        return Err((
            "LEADING_TRAILING_WHITESPACE",
            format!("Property \"{name}\" has leading or trailing whitespace"),
        ));
    }
    Ok((key, check_type(definition, text)?))
}

fn has_blank_ends(text: &str) -> bool {
    text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace)
}

fn check_type<'a>(
    definition: &Definition,
    text: Cow<'a, str>,
) -> Result<Cow<'a, str>, (&'static str, String)> {
    match definition.kind {
        PropertyType::String | PropertyType::PhoneNumber if definition.is_email => {
            check_email(text)
        }
        PropertyType::String | PropertyType::PhoneNumber => Ok(text),
        PropertyType::Number if is_number(&text) => Ok(text),
        PropertyType::Number => Err(("INVALID_INTEGER", format!("{text} was not a valid number."))),
        PropertyType::Bool | PropertyType::Enumeration => check_options(definition, text),
        PropertyType::Date => clock::parse_date(&text)
            .map(Cow::Owned)
            .ok_or_else(|| ("INVALID_DATE", format!("{text} was not a valid date."))),
        PropertyType::Datetime => clock::parse_moment(&text)
            .map(|ms| Cow::Owned(clock::iso(ms)))
            .ok_or_else(|| ("INVALID_DATE", format!("{text} was not a valid long."))),
    }
}

/// HubSpot: digits and one point, no thousands separators.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
        && digits.bytes().filter(|byte| *byte == b'.').count() <= 1
}

/// HubSpot: option values, not labels, case-sensitive; `a;b` replaces, `;a` adds.
fn check_options<'a>(
    definition: &Definition,
    text: Cow<'a, str>,
) -> Result<Cow<'a, str>, (&'static str, String)> {
    let known = |value: &str| {
        definition
            .options
            .iter()
            .any(|option| option.value == value)
    };
    let valid = if definition.field_type == "checkbox" {
        text.split(';').filter(|part| !part.is_empty()).all(known)
    } else {
        known(&text)
    };
    if valid {
        return Ok(text);
    }
    let allowed: Vec<&str> = definition
        .options
        .iter()
        .map(|option| &*option.value)
        .collect();
    Err((
        "INVALID_OPTION",
        format!("{text} was not one of the allowed options: {allowed:?}"),
    ))
}

/// HubSpot checks the form of an address and its top-level domain, and stores it lower-case.
fn check_email(text: Cow<'_, str>) -> Result<Cow<'_, str>, (&'static str, String)> {
    if !is_email(&text) {
        return Err(("INVALID_EMAIL", format!("Email address {text} is invalid")));
    }
    Ok(lower(text))
}

/// Lower-case without allocating when it is already.
pub(crate) fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text
        .bytes()
        .any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
    {
        Cow::Owned(text.to_lowercase())
    } else {
        text
    }
}

/// A key value as it is stored: addresses lower-case, all else as it is.
pub(crate) fn lower_if<'a>(store: &Store, key: PropertyKey, text: &'a str) -> Cow<'a, str> {
    if store.definitions.get(key).is_email {
        lower(Cow::Borrowed(text))
    } else {
        Cow::Borrowed(text)
    }
}

pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let Some((host, top)) = domain.rsplit_once('.') else {
        return false;
    };
    !local.is_empty()
        && local.len() <= 64
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && !text.contains(|c: char| {
            c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';' | ':' | '(' | ')' | '"')
        })
        && !local.contains('@')
        && host
            .split('.')
            .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        && is_top_level_domain(top)
}

fn is_top_level_domain(top: &str) -> bool {
    // Nearly all addresses end in .com: that spares the lookup.
    top == "com" || tld::exist(&top.to_ascii_lowercase())
}

fn problem(refusals: &[Refusal]) -> Problem {
    let inner: Vec<Value> = refusals
        .iter()
        .map(|refusal| json!({"isValid": false, "message": refusal.message, "error": refusal.code, "name": refusal.name}))
        .collect();
    let mut problem = Problem::validation(format!(
        "Property values were not valid: {}",
        Value::from(inner)
    ));
    problem.details = refusals
        .iter()
        .map(|refusal| json!({"message": refusal.message, "code": refusal.code, "context": {"propertyName": [refusal.name]}}))
        .collect();
    problem
}

/// The same document for a rule that concerns a single property.
pub(crate) fn refuse(name: &str, code: &'static str, message: String) -> Problem {
    problem(&[Refusal {
        name: name.to_owned(),
        code,
        message,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "ada@example.com",
            "Ada.King+x@sub.example.co.uk",
            "a@b.museum",
            "zoë@example.org",
        ] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "ada",
            "ada@example",
            "ada@example.invalid",
            "a b@example.com",
            "a@b@example.com",
            "@example.com",
            "ada@.com",
            "a..b@example.com",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn numbers() {
        assert!(is_number("1234.5") && is_number("-7"));
        assert!(
            !is_number("1,234")
                && !is_number("1e5")
                && !is_number("1.2.3")
                && !is_number("-")
                && !is_number("abc")
        );
    }
}
