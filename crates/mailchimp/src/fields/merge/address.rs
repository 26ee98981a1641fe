//! Addresses: JSON objects of parts, most of which Mailchimp wants.

use serde_json::{Map, Value as Json};

use integration_engine::value::ValueError;

const REQUIRED_PARTS: [&str; 4] = ["addr1", "city", "state", "zip"];
const PARTS: [&str; 6] = ["addr1", "addr2", "city", "state", "zip", "country"];

/// The parts of an address that hold something. `None`: it is no JSON object.
pub(super) fn parts(text: &str) -> Option<Map<String, Json>> {
    let mut given: Map<String, Json> = serde_json::from_str(text).ok()?;
    let filled = |name: &&str| {
        let text = match given.remove(*name)? {
            Json::String(text) => text.trim().to_owned(),
            Json::Number(number) => number.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then(|| ((*name).to_owned(), Json::from(text)))
    };
    Some(PARTS.iter().filter_map(filled).collect())
}

/// Mailchimp: an address has street, city, state and zip, or is refused.
pub(super) fn address(text: &str, complete: bool) -> Result<Option<String>, ValueError> {
    let parts = parts(text).ok_or(ValueError::NotAnAddress)?;
    let missing: Vec<&str> = REQUIRED_PARTS
        .into_iter()
        .filter(|part| !parts.contains_key(*part))
        .collect();
    if complete && !parts.is_empty() && !missing.is_empty() {
        return Err(ValueError::IncompleteAddress {
            missing: missing.join(", "),
        });
    }
    // In an order of our own, whatever a map's is.
    let named = PARTS
        .into_iter()
        .filter_map(|name| Some(format!("\"{name}\":{}", parts.get(name)?)));
    let written: Vec<String> = named.collect();
    Ok((!written.is_empty()).then(|| format!("{{{}}}", written.join(","))))
}
