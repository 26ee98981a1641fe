//! The shapes of HubSpot's answers, read leniently: unknown fields are accepted, known ones may be
//! absent.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::json::Text;

/// The answer to a batch call. `P` is what is wanted of the properties.
#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de> + Default"))]
pub(super) struct BatchReply<'a, P> {
    #[serde(borrow, default = "Option::default")]
    pub results: Option<Vec<Row<'a, P>>>,
    #[serde(default)]
    pub errors: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de> + Default"))]
pub(super) struct Row<'a, P> {
    #[serde(borrow, default)]
    pub id: Text<'a>,
    #[serde(default)]
    pub properties: P,
    /// Which input it came from; whether HubSpot repeats it is not documented.
    #[serde(borrow, default, rename = "objectWriteTraceId")]
    pub trace: Text<'a>,
}

/// Properties in the order they came.
#[derive(Default)]
pub(super) struct Properties<'a>(Vec<(Text<'a>, Text<'a>)>);

impl Properties<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known.as_str() == name)
            .map(|(_, value)| value.as_str())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Properties<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PropertiesVisitor)
    }
}

struct PropertiesVisitor;

impl<'de> Visitor<'de> for PropertiesVisitor {
    type Value = Properties<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of properties")
    }

    fn visit_unit<E>(self) -> Result<Properties<'de>, E> {
        Ok(Properties::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties<'de>, A::Error> {
        let mut properties = Vec::with_capacity(16);
        while let Some(entry) = map.next_entry()? {
            properties.push(entry);
        }
        Ok(Properties(properties))
    }
}
