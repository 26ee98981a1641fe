//! The shapes of HubSpot's answers, read leniently: unknown fields are accepted, known ones may be
//! absent.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use integration_engine::value::json::Text;

/// The answer to a batch call. `P` is what is wanted of the properties.
#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de> + Default"))]
pub(super) struct BatchReply<'a, P> {
    #[serde(borrow, default = "Option::default")]
    pub results: Option<Vec<ResultRow<'a, P>>>,
    #[serde(default)]
    pub errors: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de> + Default"))]
pub(super) struct ResultRow<'a, P> {
    #[serde(borrow, default)]
    pub id: Text<'a>,
    #[serde(default)]
    pub properties: P,
    /// Which input it came from; whether HubSpot repeats it is not documented.
    #[serde(borrow, default, rename = "objectWriteTraceId")]
    pub trace: Text<'a>,
    /// Whether an upsert created it.
    #[serde(default)]
    pub new: Option<bool>,
}

/// How a list goes on. It ends where nothing follows.
#[derive(Clone, Deserialize)]
pub(super) struct Paging<'a> {
    #[serde(borrow, default = "Option::default")]
    next: Option<NextPage<'a>>,
}

#[derive(Clone, Deserialize)]
struct NextPage<'a> {
    #[serde(borrow, default)]
    after: Text<'a>,
}

impl Paging<'_> {
    /// Returns the cursor to ask for the next page with.
    pub(crate) fn after(self) -> Option<String> {
        let after = self.next?.after.0.into_owned();
        (!after.is_empty()).then_some(after)
    }
}

/// A property's value out of an object of properties.
///
/// Of a dozen properties one is wanted: looking for its name in the text costs a fraction of parsing
/// them all. The name with its quotes cannot stand inside of a value, for quotes are escaped there.
pub(super) fn property<'a>(properties: &'a RawValue, name: &str) -> Option<Text<'a>> {
    let json = properties.get();
    let key = json
        .match_indices(name)
        .find(|(at, _)| json[..*at].ends_with('"') && json[at + name.len()..].starts_with("\":"));
    if let Some((at, _)) = key {
        let value = &json[at + name.len() + 2..];
        let mut value = serde_json::Deserializer::from_str(value);
        return Text::deserialize(&mut value).ok();
    }
    // Spaces, escapes, or the name within another one.
    let all: HashMap<Cow<'_, str>, Text<'a>> = serde_json::from_str(json).ok()?;
    all.into_iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, name: &str) -> Option<String> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        property(raw, name).map(|text| text.as_str().to_owned())
    }

    #[test]
    fn one_property_is_found_among_others() {
        let cases = [
            (r#"{"email":"a@b.co","x":1}"#, Some("a@b.co")),
            (r#"{"x":"email","email":"a@b.co"}"#, Some("a@b.co")),
            (r#"{"work_email":"no","email":"a@b.co"}"#, Some("a@b.co")),
            (
                r#"{"x":"\"email\":\"no\"","email":"a@b.co"}"#,
                Some("a@b.co"),
            ),
            (r#"{ "email" : "a\u0040b.co" }"#, Some("a@b.co")),
            (r#"{"e\u006dail":"a@b.co"}"#, Some("a@b.co")),
            (r#"{"email":null}"#, Some("")),
            (r#"{"email":12345678901234567}"#, Some("12345678901234567")),
            (r#"{"emails":"no"}"#, None),
            ("{}", None),
            ("[]", None),
        ];
        for (json, expected) in cases {
            assert_eq!(found(json, "email").as_deref(), expected, "{json}");
        }
    }
}
