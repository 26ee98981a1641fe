//! The tracked tables: their configuration, and reading their rows.

use std::collections::HashMap;

use integration_engine::consent::words::Words;
use integration_engine::hubspot::RemoteType;
use integration_engine::hubspot::external_id::ExternalIds;
use integration_engine::mailchimp;
use integration_engine::mapping::{
    ConflictRule, Direction, Field, FieldId, OnLossy, SourceMap, ValueKind,
};
use integration_engine::record::{Entity, SourceId, Target};
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

use super::reading::Missing;
use super::select;

/// A tracked table.
pub struct Source {
    pub id: SourceId,
    pub oid: pg_sys::Oid,
    /// `schema.table` when it was loaded, quoted as SQL wants it: for people. Statements name what
    /// the fence has opened.
    pub name: String,
    pub entity: Entity,
    pub key: Vec<KeyColumn>,
    /// The view that is read instead of the table, if there is one.
    pub payload: Option<pg_sys::Oid>,
    /// What it means that the view does not show a row.
    pub missing: Missing,
    /// Whether row security hides rows of the table from its owner.
    pub hidden: bool,
    /// Whether this database is the one that may send its rows.
    pub bound: bool,
    pub maps: HashMap<Target, SourceMap>,
    /// The map for Mailchimp as it is in each audience: the same fields in the same order, with what
    /// is known of them there.
    pub audiences: HashMap<String, SourceMap>,
    /// Numbers of the mapped columns in the table, where its triggers number them the same: not
    /// those of a payload view, nor of partitions.
    numbers: HashMap<String, i16>,
    /// Type of each mapped column, quoted as SQL wants it.
    pub column_types: HashMap<String, String>,
}

/// A column of the key, both parts quoted as SQL wants them.
pub struct KeyColumn {
    pub name: String,
    pub type_name: String,
}

impl Source {
    /// The map for a target; for Mailchimp as it is in an audience.
    pub fn map_in(&self, target: Target, list: &str) -> Option<&SourceMap> {
        let map = self.maps.get(&target)?;
        match target {
            Target::HubSpot => Some(map),
            Target::Mailchimp => Some(self.audiences.get(list).unwrap_or(map)),
        }
    }

    /// `t.a = ($1).a …`: the condition that finds the row of a key whose parts are `parts`.
    pub fn key_condition(&self, parts: impl Fn(usize) -> String) -> String {
        let part = |(index, column): (usize, &KeyColumn)| {
            format!("t.{} = {}::{}", column.name, parts(index), column.type_name)
        };
        self.key
            .iter()
            .enumerate()
            .map(part)
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// A record key's parts, one for each key column. `None`: the text is no key of this table.
    pub fn key_parts(&self, key: &str) -> Option<Vec<String>> {
        if self.key.len() == 1 {
            return Some(vec![key.to_owned()]);
        }
        let parts: Vec<String> = serde_json::from_str(key).ok()?;
        (parts.len() == self.key.len()).then_some(parts)
    }

    /// The number of a mapped column as triggers note it, if that is known.
    pub fn number(&self, column: &str) -> Option<i16> {
        self.numbers.get(column).copied()
    }

    /// Whether the table itself is read, and not a payload view.
    pub fn reads_itself(&self) -> bool {
        self.payload.is_none()
    }

    /// Reads some columns, SQL that begins with a comma, of the records in the parameters.
    pub(super) fn read_statement(&self, relation: &str, columns: &str) -> String {
        let names: Vec<String> = (0..self.key.len())
            .map(|index| format!("k{index}"))
            .collect();
        let arrays: Vec<String> = (1..=self.key.len())
            .map(|index| format!("${index}::text[]"))
            .collect();
        // The fence (OFFSET 0) makes it one index look-up a key, whatever the planner believes of
        // the table: plans are kept while it grows.
        format!(
            "SELECT r.* FROM unnest({}) WITH ORDINALITY AS k({}, place) \
             CROSS JOIN LATERAL (SELECT k.place{columns} FROM {} t WHERE {} OFFSET 0) AS r",
            arrays.join(", "),
            names.join(", "),
            relation,
            self.key_condition(|index| format!("k.k{index}")),
        )
    }
}

const TABLES: &str = "\
    SELECT t.id, t.source::oid, pg_catalog.format('%I.%I', n.nspname, c.relname), t.entity, t.payload::oid, t.payload_missing, \
           c.relrowsecurity AND c.relforcerowsecurity AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles r WHERE r.oid = c.relowner), \
           t.bound_to = (SELECT integration._identity()), t.targets, \
           (SELECT pg_catalog.array_agg(pg_catalog.quote_ident(k.name) ORDER BY k.place) FROM pg_catalog.unnest(t.key_columns) WITH ORDINALITY AS k(name, place)), \
           (SELECT pg_catalog.array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY k.place) \
            FROM pg_catalog.unnest(t.key_columns) WITH ORDINALITY AS k(name, place) JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = k.name), \
           t.external_id_prefix, t.external_id IS NOT NULL AS chosen, \
           NOT EXISTS (SELECT FROM integration.tracked_table o WHERE o.entity = t.entity AND o.id <> t.id) AS alone \
    FROM integration.tracked_table t JOIN pg_catalog.pg_class c ON c.oid = t.source JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE t.targets <> '{}' ORDER BY t.id";

const DROPPED: &str = "\
    SELECT t.id FROM integration.tracked_table t \
    WHERE t.targets <> '{}' AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.source)";

/// Returns the tracked tables that were dropped.
pub fn dropped() -> SpiResult<Vec<SourceId>> {
    select(DROPPED, &[], |row| Ok(SourceId(row.get(1)?.unwrap_or(0))))
}

const FIELDS: &str = "\
    SELECT t.id, m.target, m.field, m.column_name::text, integration._value_kind(a.atttypid), m.remote_field, m.direction, m.conflict, \
           pg_catalog.format_type(a.atttypid, a.atttypmod), \
           CASE WHEN t.payload IS NULL AND (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid = t.source) = 'r' THEN a.attnum END, \
           m.value_map::text, m.on_lossy \
    FROM integration.field_map m JOIN integration.tracked_table t ON t.source = m.source \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = coalesce(t.payload, t.source) AND a.attname = m.column_name AND NOT a.attisdropped \
    WHERE m.target = ANY (t.targets) ORDER BY t.id, m.field";

struct FieldRow {
    source: SourceId,
    target: Target,
    field: Field,
    type_name: String,
    number: Option<i16>,
}

fn kind(name: &str) -> ValueKind {
    match name {
        "integer" => ValueKind::Integer,
        "decimal" => ValueKind::Decimal,
        "float" => ValueKind::Float,
        "bool" => ValueKind::Bool,
        "date" => ValueKind::Date,
        "timestamp" => ValueKind::Timestamp,
        "timestamptz" => ValueKind::TimestampTz,
        "text_array" => ValueKind::TextArray,
        "json" => ValueKind::Json,
        _ => ValueKind::Text,
    }
}

fn fields() -> SpiResult<Vec<FieldRow>> {
    let rows = select(FIELDS, &[], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let Some(target) = Target::from_name(&text(2)?) else {
            return Ok(None);
        };
        Ok(Some(FieldRow {
            source: SourceId(row.get(1)?.unwrap_or(0)),
            target,
            field: Field {
                id: FieldId(row.get(3)?.unwrap_or(0)),
                column: text(4)?,
                kind: kind(&text(5)?),
                remote_type: match target {
                    Target::HubSpot => RemoteType::Unknown,
                    Target::Mailchimp => mailchimp::type_of(&text(6)?),
                },
                remote: text(6)?,
                direction: match text(7)?.as_str() {
                    "push" => Direction::Push,
                    "pull" => Direction::Pull,
                    _ => Direction::Both,
                },
                conflict: match text(8)?.as_str() {
                    "crm_wins" => ConflictRule::CrmWins,
                    "remote_wins" => ConflictRule::RemoteWins,
                    _ => ConflictRule::LastWriteWins,
                },
                words: row.get::<&str>(11)?.map(Words::parse).unwrap_or_default(),
                on_lossy: match text(12)?.as_str() {
                    "refuse" => OnLossy::Refuse,
                    _ => OnLossy::Keep,
                },
            },
            type_name: text(9)?,
            number: row.get(10)?,
        }))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

fn named(row: &SpiHeapTupleData) -> SpiResult<ExternalIds> {
    Ok(ExternalIds {
        prefix: row.get_by_name("external_id_prefix")?.unwrap_or_default(),
        chosen: row.get_by_name("chosen")?.unwrap_or(true),
        alone: row.get_by_name("alone")?.unwrap_or(false),
    })
}

const NAMES: &str = "\
    SELECT t.external_id_prefix, t.external_id IS NOT NULL AS chosen, false AS alone FROM integration.tracked_table t WHERE t.id = $1";

/// How a table's rows are named at HubSpot, whether or not it still is tracked.
pub fn external_ids(source: SourceId) -> SpiResult<ExternalIds> {
    let rows = select(NAMES, &[source.0.into()], named)?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// All tracked tables that still exist, with their maps.
pub fn load() -> SpiResult<Vec<Source>> {
    let mut fields = fields()?;
    select(TABLES, &[], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let list = |column: usize| {
            row.get::<Vec<String>>(column)
                .map(Option::unwrap_or_default)
        };
        let id = SourceId(row.get(1)?.unwrap_or(0));
        let name = text(3)?;
        let entity = Entity::from_name(&text(4)?).unwrap_or(Entity::Contact);
        let external_ids = named(row)?;
        let mine: Vec<FieldRow> = fields.extract_if(.., |row| row.source == id).collect();
        let map = |target: Target| SourceMap {
            source: id,
            name: name.clone(),
            entity,
            target,
            fields: mine
                .iter()
                .filter(|row| row.target == target)
                .map(|row| row.field.clone())
                .collect(),
            external_ids: external_ids.clone(),
        };
        let targets = list(9)?;
        Ok(Source {
            id,
            oid: row.get(2)?.unwrap_or(pg_sys::InvalidOid),
            entity,
            key: list(10)?
                .into_iter()
                .zip(list(11)?)
                .map(|(name, type_name)| KeyColumn { name, type_name })
                .collect(),
            payload: row.get(5)?,
            missing: match text(6)?.as_str() {
                "keep" => Missing::Keep,
                _ => Missing::Delete,
            },
            hidden: row.get(7)?.unwrap_or(false),
            bound: row.get(8)?.unwrap_or(false),
            maps: targets
                .iter()
                .filter_map(|name| Target::from_name(name))
                .map(|target| (target, map(target)))
                .collect(),
            audiences: HashMap::new(),
            numbers: mine
                .iter()
                .filter_map(|row| Some((row.field.column.clone(), row.number?)))
                .collect(),
            column_types: mine
                .iter()
                .map(|row| (row.field.column.clone(), row.type_name.clone()))
                .collect(),
            name,
        })
    })
}
