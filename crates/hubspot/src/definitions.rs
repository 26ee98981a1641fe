//! What HubSpot's objects are made of: the definitions of mapped properties, owners and
//! pipelines, read from its answers, and the field map seen in their light.

mod wire;

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::HubSpotSettings;
use integration_engine::record::{
    Entity,
    field_type::{FieldType, Owners, Pipelines},
    mapping::{Direction, Field, SourceMap},
};

pub(super) use wire::{
    owners_request, pipelines_request, properties_request, read_owners, read_pipelines,
    read_properties, read_sensitive,
};

use super::{EMAIL, object_type, objects, schema::Schema};

/// A property as far as sending values to it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WritableProperty {
    remote_type: FieldType,
    read_only: bool,
}

/// The properties of one object type that are mapped, and exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    known: BTreeMap<String, WritableProperty>,
    /// Lists that the credential may not see.
    hidden: Vec<Sensitivity>,
}

impl Definitions {
    pub(super) fn has(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    /// Takes over what another list has.
    pub(super) fn add(&mut self, other: Definitions) {
        self.known.extend(other.known);
    }

    /// The credential may not see this list.
    pub(super) fn hide(&mut self, list: Sensitivity) {
        self.hidden.push(list);
    }
}

/// How sensitive the values of a property are, if they are. HubSpot lists such properties apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitivity {
    Sensitive,
    HighlySensitive,
}

impl Sensitivity {
    /// As HubSpot's `dataSensitivity`, and in the names of scopes.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Sensitivity::Sensitive => "sensitive",
            Sensitivity::HighlySensitive => "highly_sensitive",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Sensitivity> {
        [Sensitivity::Sensitive, Sensitivity::HighlySensitive]
            .into_iter()
            .find(|known| known.name() == name)
    }

    /// The list that is looked at after this one; `None`: after the usual one.
    pub(super) const fn after(list: Option<Sensitivity>) -> Option<Sensitivity> {
        match list {
            None => Some(Sensitivity::Sensitive),
            Some(Sensitivity::Sensitive) => Some(Sensitivity::HighlySensitive),
            Some(Sensitivity::HighlySensitive) => None,
        }
    }
}

/// Everything that has been read of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalDefinitions {
    pub objects: BTreeMap<Entity, Definitions>,
    pub owners: Option<Arc<Owners>>,
    pub pipelines: BTreeMap<Entity, Arc<Pipelines>>,
    /// What custom objects are like.
    pub schemas: BTreeMap<Entity, Schema>,
    /// Custom objects that HubSpot does not have, or does not show, and what to do.
    pub refused: BTreeMap<Entity, String>,
}

/// A line of a field map that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub table: String,
    pub column: String,
    pub property: String,
    pub object: &'static str,
    pub why: Defect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    Missing,
    /// It is in no list that the credential may see, but there are these.
    Hidden(Vec<Sensitivity>),
    ReadOnly,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match &self.why {
            Defect::Missing => "does not exist".to_owned(),
            Defect::Hidden(lists) => hidden(self.object, lists),
            Defect::ReadOnly => "is read-only".to_owned(),
        };
        write!(
            f,
            "column {} of {}: property {} of HubSpot's {} {why}",
            self.column, self.table, self.property, self.object
        )
    }
}

/// HubSpot: `crm.objects.{type}.sensitive.{read,write}.v2`, and the same with `highly_sensitive`.
fn hidden(object: &str, lists: &[Sensitivity]) -> String {
    let scopes: Vec<String> = lists
        .iter()
        .map(|list| format!("crm.objects.{object}.{}.read.v2", list.name()))
        .collect();
    format!(
        "does not exist, or it is sensitive and the token lacks the scope {} (and the one with write instead of read, to send it)",
        scopes.join(" or ")
    )
}

impl PortalDefinitions {
    /// Whether HubSpot is known to have the object.
    pub fn is_there(&self, entity: Entity) -> bool {
        let known = || self.schemas.contains_key(&entity) && !self.refused.contains_key(&entity);
        !objects::is_custom(entity) || known()
    }

    /// The group of properties that ours is put in.
    pub fn group(&self, entity: Entity) -> &str {
        let schema = self.schemas.get(&entity);
        schema.map_or(objects::of(entity).group, |schema| &schema.group)
    }

    /// Properties that a custom object's records have to have, and that no column is mapped to.
    pub fn lacking<'s>(&'s self, map: &'s SourceMap) -> impl Iterator<Item = &'s str> {
        let required = self.schemas.get(&map.entity).into_iter();
        let required = required.flat_map(|schema| &schema.required);
        let is_sent = |name: &String| {
            let field = map.field_named(name);
            field.is_some_and(|(_, field)| field.direction != Direction::Pull)
        };
        required
            .filter(move |name| !is_sent(name))
            .map(String::as_str)
    }

    /// The map without what HubSpot does not have or does not let us write, each field with its
    /// type; and what was left out. An object whose definitions are not known is mapped as it is.
    pub fn refine(&self, map: &SourceMap, settings: &HubSpotSettings) -> (SourceMap, Vec<Dropped>) {
        let Some(definitions) = self.objects.get(&map.entity) else {
            return (map.clone(), Vec::new());
        };
        let mut dropped = Vec::new();
        let mut fields = Vec::with_capacity(map.fields.len());
        for field in &map.fields {
            if is_ours(map, field, settings) {
                fields.push(field.clone());
                continue;
            }
            let known = definitions.known.get(&field.remote);
            let why = match known {
                None if definitions.hidden.is_empty() => Some(Defect::Missing),
                None => Some(Defect::Hidden(definitions.hidden.clone())),
                Some(known) if known.read_only && field.direction != Direction::Pull => {
                    Some(Defect::ReadOnly)
                }
                Some(_) => None,
            };
            let direction = match &why {
                None => Some(field.direction),
                // What cannot be written can still be read.
                Some(Defect::ReadOnly) if field.direction == Direction::Both => {
                    Some(Direction::Pull)
                }
                Some(_) => None,
            };
            dropped.extend(why.map(|why| Dropped {
                table: map.name.clone(),
                column: field.column.clone(),
                property: field.remote.clone(),
                object: object_type(map.entity),
                why,
            }));
            let Some(direction) = direction else {
                continue;
            };
            fields.push(Field {
                direction,
                remote_type: known.map_or(FieldType::Unknown, |known| {
                    self.with_lists(map.entity, known, field)
                }),
                ..field.clone()
            });
        }
        let map = SourceMap {
            fields,
            ..map.clone()
        };
        (map, dropped)
    }

    fn with_lists(&self, entity: Entity, property: &WritableProperty, field: &Field) -> FieldType {
        let properties = objects::of(entity).pipeline;
        let pipelines = self.pipelines.get(&entity);
        match (&property.remote_type, properties.zip(pipelines)) {
            (FieldType::Owner(_), _) => FieldType::Owner(self.owners.clone()),
            (FieldType::Choice(_), Some((names, pipelines))) if field.remote == names.pipeline => {
                FieldType::Pipeline(pipelines.clone())
            }
            (FieldType::Choice(_), Some((names, pipelines))) if field.remote == names.stage => {
                FieldType::Stage(pipelines.clone())
            }
            (known, _) => known.clone(),
        }
    }

    /// Whether values of the field are ids of owners.
    pub(super) fn is_owner(&self, entity: Entity, field: &Field) -> bool {
        let known = self
            .objects
            .get(&entity)
            .and_then(|all| all.known.get(&field.remote));
        field.remote == OWNER
            || known.is_some_and(|known| matches!(known.remote_type, FieldType::Owner(_)))
    }
}

pub(super) const OWNER: &str = "hubspot_owner_id";

/// The fields records are known by; without them nothing could be sent, so they are never dropped.
fn is_ours(map: &SourceMap, field: &Field, settings: &HubSpotSettings) -> bool {
    field
        .remote
        .eq_ignore_ascii_case(&settings.external_id_property)
        || (map.entity.is_person() && field.remote.eq_ignore_ascii_case(EMAIL))
}
