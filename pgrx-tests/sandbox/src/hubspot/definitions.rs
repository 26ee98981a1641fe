//! Property definitions: which properties exist, and of which type.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::types::{Kind, ObjectType};

/// Position of a property among the definitions of its object type.
pub(crate) type PropertyKey = u16;

/// How values of a property are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PropertyType {
    String,
    Number,
    Date,
    Datetime,
    Bool,
    Enumeration,
    PhoneNumber,
}

/// HubSpot shows sensitive properties only to those who ask for them, and may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sensitivity {
    #[default]
    NonSensitive,
    Sensitive,
    HighlySensitive,
}

impl Sensitivity {
    /// As in `dataSensitivity`, and in the names of scopes.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NonSensitive => "non_sensitive",
            Self::Sensitive => "sensitive",
            Self::HighlySensitive => "highly_sensitive",
        }
    }

    pub(crate) fn parse(name: Option<&str>) -> Option<Self> {
        let all = [Self::NonSensitive, Self::Sensitive, Self::HighlySensitive];
        match name {
            None => Some(Self::NonSensitive),
            Some(name) => all.into_iter().find(|known| known.name() == name),
        }
    }
}

/// A choice of an enumeration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PropertyChoice {
    pub label: String,
    pub value: String,
    #[serde(default)]
    pub display_order: i64,
    #[serde(default)]
    pub hidden: bool,
}

/// One property.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub name: String,
    pub label: String,
    pub kind: PropertyType,
    pub field_type: String,
    pub group: String,
    pub options: Vec<PropertyChoice>,
    pub unique: bool,
    pub read_only: bool,
    pub hubspot_defined: bool,
    pub archived: bool,
    /// Values are ids of owners, which the definition does not list.
    pub is_owner: bool,
    /// Values are e-mail addresses: kept lower-case, checked.
    pub is_email: bool,
    pub sensitivity: Sensitivity,
    /// An administrator wants a value of whatever is created.
    pub required: bool,
    /// An administrator wants a value while another property has a certain one.
    pub required_when: Option<Condition>,
}

/// While the property has the value.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Condition {
    pub property: String,
    pub value: String,
}

/// All properties of one object type.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    all: Vec<Definition>,
    by_name: FxHashMap<String, PropertyKey>,
}

impl Definitions {
    pub(crate) fn of(object: ObjectType) -> Self {
        let mut definitions = Self::default();
        for line in standard(object) {
            definitions.insert(line);
        }
        definitions
    }

    /// The property of that name unless it was deleted.
    #[inline]
    pub(crate) fn find(&self, name: &str) -> Option<(PropertyKey, &Definition)> {
        let key = *self.by_name.get(name)?;
        let definition = &self.all[usize::from(key)];
        (!definition.archived).then_some((key, definition))
    }

    pub(crate) fn get(&self, key: PropertyKey) -> &Definition {
        &self.all[usize::from(key)]
    }

    pub(crate) fn all(&self) -> &[Definition] {
        &self.all
    }

    pub(crate) fn find_mut(&mut self, name: &str) -> Option<&mut Definition> {
        let key = *self.by_name.get(name)?;
        Some(&mut self.all[usize::from(key)])
    }

    /// Adds a definition, or brings a deleted one of the same name back in the new form.
    pub(crate) fn insert(&mut self, definition: Definition) -> PropertyKey {
        if let Some(&key) = self.by_name.get(&definition.name) {
            self.all[usize::from(key)] = definition;
            return key;
        }
        // Far fewer than 65,536: HubSpot allows about 1,000 custom properties.
        let key = self.all.len() as PropertyKey;
        self.by_name.insert(definition.name.clone(), key);
        self.all.push(definition);
        key
    }
}

impl Definition {
    pub(crate) fn custom(name: &str, kind: PropertyType, field_type: &str) -> Self {
        Self {
            name: name.to_owned(),
            label: name.to_owned(),
            kind,
            field_type: field_type.to_owned(),
            group: String::new(),
            options: Vec::new(),
            unique: false,
            read_only: false,
            hubspot_defined: false,
            archived: false,
            is_owner: false,
            is_email: false,
            sensitivity: Sensitivity::NonSensitive,
            required: false,
            required_when: None,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name, "label": self.label, "type": self.kind, "fieldType": self.field_type,
            "groupName": self.group, "description": "",
            "options": if self.is_owner { &[][..] } else { &self.options[..] },
            "hasUniqueValue": self.unique, "calculated": false, "externalOptions": self.is_owner,
            "referencedObjectType": self.is_owner.then_some("OWNER"),
            "hubspotDefined": self.hubspot_defined, "hidden": false, "formField": !self.read_only,
            "displayOrder": -1, "archived": self.archived, "dataSensitivity": self.sensitivity,
            "createdAt": "2020-01-01T00:00:00.000Z", "updatedAt": "2020-01-01T00:00:00.000Z",
            "modificationMetadata": {
                "archivable": !self.hubspot_defined, "readOnlyDefinition": self.hubspot_defined,
                "readOnlyValue": self.read_only,
            },
        })
    }
}

/// What every object has; see [`Kind::properties`].
const COMMON: &str = "hs_object_id! number; hs_created_by_user_id! number; hs_updated_by_user_id! number; \
    hs_object_source! string; hs_merged_object_ids! string; ";

fn standard(object: ObjectType) -> Vec<Definition> {
    let kind = object.kind();
    let stamps = format!(
        "{}! datetime; {}! datetime",
        object.created_property(),
        object.modified_property()
    );
    let engagement = if object.is_engagement() {
        "hs_timestamp datetime; hubspot_owner_id owner; "
    } else {
        ""
    };
    [kind.properties, engagement, COMMON, &stamps]
        .iter()
        .flat_map(|part| part.split(';'))
        .filter_map(|line| standard_line(line.trim(), kind))
        .collect()
}

fn standard_line(line: &str, object: &Kind) -> Option<Definition> {
    let mut words = line.split_whitespace();
    let (name, kind, choices) = (words.next()?, words.next()?, words.next());
    let (kind, field_type, choices) = match kind {
        "number" => (PropertyType::Number, "number", None),
        "datetime" => (PropertyType::Datetime, "date", None),
        "bool" => (PropertyType::Bool, "booleancheckbox", Some("true|false")),
        "enum" => (PropertyType::Enumeration, "select", choices),
        "lang" => (
            PropertyType::Enumeration,
            "select",
            Some("de|en|es|fr|it|nl|pl|pt"),
        ),
        "stage" => (PropertyType::Enumeration, "radio", stages(object)),
        "pipeline" => (PropertyType::Enumeration, "select", first_pipeline(object)),
        "phone" => (PropertyType::PhoneNumber, "phonenumber", None),
        "owner" => (PropertyType::Enumeration, "select", Some("77001")),
        _ => (PropertyType::String, "text", None),
    };
    let mut definition = Definition::custom(name.trim_end_matches('!'), kind, field_type);
    definition.read_only = name.ends_with('!');
    definition.hubspot_defined = true;
    definition.group = object.group.to_owned();
    definition.is_email = name == "email";
    definition.is_owner = name == "hubspot_owner_id";
    // `email` is unique for contacts, though HubSpot's definition says hasUniqueValue false.
    definition.options = choices.map(choices_of).unwrap_or_default();
    Some(definition)
}

fn stages(object: &Kind) -> Option<&'static str> {
    object.pipeline.map(|pipeline| pipeline.stages)
}

fn first_pipeline(object: &Kind) -> Option<&'static str> {
    object.pipeline.map(|pipeline| pipeline.first)
}

fn choices_of(text: &str) -> Vec<PropertyChoice> {
    (0..)
        .zip(text.split('|'))
        .map(|(display_order, value)| PropertyChoice {
            label: value.to_owned(),
            value: value.to_owned(),
            display_order,
            hidden: false,
        })
        .collect()
}
