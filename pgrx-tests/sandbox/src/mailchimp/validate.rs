//! What Mailchimp refuses in an address or a merge field.

use serde_json::Value;

use super::errors::Problem;
use super::store::{Audience, MergeField, Pairs};
use crate::config::MailchimpConfig;

/// Malformed addresses, those that look fake, and those that signed up too often lately: with a word
/// or at a domain that the configuration names.
pub(crate) fn check_address(config: &MailchimpConfig, address: &str) -> Result<(), Problem> {
    if !crate::hubspot::is_email(address) {
        return Err(Problem::invalid("Please provide a valid email address."));
    }
    let lower = address.to_ascii_lowercase();
    let domain = lower.rsplit('@').next().unwrap_or_default();
    if config.fake_words.iter().any(|word| lower.contains(&**word))
        || config.fake_domains.iter().any(|fake| fake == domain)
    {
        return Err(Problem::invalid(format!(
            "{address} looks fake or invalid, please enter a real email address."
        )));
    }
    if config.busy_words.iter().any(|word| lower.contains(&**word)) {
        return Err(Problem::invalid(format!(
            "{address} has signed up to a lot of lists very recently; we're not allowing more signups for now"
        )));
    }
    Ok(())
}

/// Checks and normalises merge fields. Unknown tags are ignored without an error.
pub(crate) fn check_merge(
    audience: &Audience,
    sent: Pairs<'_>,
) -> Result<Vec<(usize, Value)>, Problem> {
    let mut values = Vec::with_capacity(sent.0.len());
    let mut refused = Vec::new();
    for (tag, value) in sent.0 {
        let Some(at) = audience.field(&tag) else {
            continue;
        };
        match check_value(&audience.fields[at], value) {
            Ok(value) => values.push((at, value)),
            Err(Wrong::Schema(message)) => {
                return Err(Problem::field(&format!("merge_fields.{tag}"), message));
            }
            Err(Wrong::Value(message)) => refused.push((tag.into_owned(), message.to_owned())),
        }
    }
    merge_verdict(refused).map(|()| values)
}

/// Required fields must have a value, sent or stored.
pub(crate) fn check_required(
    audience: &Audience,
    values: &[(usize, Value)],
    has: impl Fn(usize) -> bool,
) -> Result<(), Problem> {
    if audience.fields.iter().all(|field| !field.required) {
        return Ok(());
    }
    let empty = |value: &Value| value.as_str().is_some_and(str::is_empty);
    let missing = audience.fields.iter().enumerate().filter(|(at, field)| {
        field.required
            && match values.iter().find(|(sent, _)| sent == at) {
                Some((_, value)) => empty(value),
                None => !has(*at),
            }
    });
    merge_verdict(
        missing
            .map(|(_, field)| (field.tag.clone(), "Please enter a value".to_owned()))
            .collect(),
    )
}

fn merge_verdict(refused: Vec<(String, String)>) -> Result<(), Problem> {
    if refused.is_empty() {
        return Ok(());
    }
    let mut problem = Problem::invalid("Your merge fields were invalid.");
    problem.fields = refused;
    Err(problem)
}

enum Wrong {
    /// The JSON has the wrong type.
    Schema(&'static str),
    Value(&'static str),
}

fn check_value(field: &MergeField, value: Value) -> Result<Value, Wrong> {
    match value {
        Value::Null => Err(Wrong::Schema("Schema describes string, NULL found instead")),
        Value::Array(_) | Value::Bool(_) => Err(Wrong::Schema(
            "Data did not match any of the schemas described in anyOf.",
        )),
        Value::Object(parts) if field.kind == "address" => {
            let filled = |part: &str| {
                parts
                    .get(part)
                    .and_then(Value::as_str)
                    .is_some_and(|text| !text.is_empty())
            };
            let complete = ["addr1", "city", "state", "zip"]
                .iter()
                .all(|part| filled(part));
            if complete {
                Ok(Value::Object(parts))
            } else {
                Err(Wrong::Value("Please enter a complete address"))
            }
        }
        Value::Object(_) => Err(Wrong::Schema(
            "Data did not match any of the schemas described in anyOf.",
        )),
        Value::Number(number) if field.kind == "number" => Ok(Value::Number(number)),
        Value::Number(number) => check_text(field, number.to_string()),
        Value::String(text) => check_text(field, text),
    }
}

fn check_text(field: &MergeField, mut text: String) -> Result<Value, Wrong> {
    // The empty string clears, whatever the type.
    if text.is_empty() {
        return Ok(Value::String(text));
    }
    let valid = match &*field.kind {
        "text" => {
            // Mailchimp cuts text at 255 bytes.
            text.truncate(text.floor_char_boundary(255));
            true
        }
        "number" => {
            let number = text.parse().ok().and_then(serde_json::Number::from_f64);
            return number
                .map(Value::Number)
                .ok_or(Wrong::Value("Please enter a number"));
        }
        "radio" | "dropdown" => field.options["choices"]
            .as_array()
            .is_some_and(|choices| choices.iter().any(|choice| choice == &text)),
        "date" => match to_date(&text) {
            Some(date) => {
                text = date;
                true
            }
            None => false,
        },
        "birthday" => is_birthday(&text),
        "phone" => field.options["phone_format"] != "US" || is_us_phone(&text),
        "zip" => text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()),
        "url" | "imageurl" => text.starts_with("http://") || text.starts_with("https://"),
        "address" => false,
        _ => true,
    };
    let message = match &*field.kind {
        "date" | "birthday" => "Please enter a valid date",
        "address" => "Please enter a complete address",
        "zip" => "Please enter a valid zip code",
        "phone" => "Please enter a valid phone number",
        "url" | "imageurl" => "Please enter a valid URL",
        _ => "Please select one of the choices",
    };
    if valid {
        Ok(Value::String(text))
    } else {
        Err(Wrong::Value(message))
    }
}

/// `YYYY-MM-DD`, `YYYY/MM/DD`, `DD-MM-YYYY` or `MM/DD/YYYY`.
fn to_date(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split(['-', '/']).collect();
    let (year, month, day) = match (&parts[..], text.contains('/')) {
        ([year, month, day], _) if year.len() == 4 => (year, month, day),
        ([month, day, year], true) => (year, month, day),
        ([day, month, year], false) => (year, month, day),
        _ => return None,
    };
    crate::clock::parse_date(&format!("{year:0>4}-{month:0>2}-{day:0>2}"))
}

/// Ten digits, perhaps with the country's 1 before them. Seen: other countries' numbers are refused;
/// the exact rule is not documented.
fn is_us_phone(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let plain = text
        .chars()
        .all(|c| c.is_ascii_digit() || " ()-.+".contains(c));
    plain && (digits.len() == 10 || (digits.len() == 11 && digits.starts_with('1')))
}

fn is_birthday(text: &str) -> bool {
    let Some((month, day)) = text.split_once('/') else {
        return false;
    };
    matches!((month.parse(), day.parse()), (Ok(1..=12_u8), Ok(1..=31_u8)))
}
