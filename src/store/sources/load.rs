//! Loads the configuration of the tracked tables.

use std::collections::HashMap;

use integration_engine::record::consent::words::Words;
use integration_engine::record::external_id::ExternalIds;
use integration_engine::record::field_type::FieldType;
use integration_engine::record::mapping::{
    ConflictRule, Direction, Field, FieldId, OnLossy, SourceMap, ValueKind,
};
use integration_engine::record::{SourceId, Target};
use integration_mailchimp as mailchimp;
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

use super::{KeyColumn, Numbers, Source};
use crate::pg::Column;
use crate::services;
use crate::store::crm::reading::MissingRow;
use crate::store::select;

const TABLES: &str = "\
    SELECT t.id, t.source::oid, pg_catalog.format('%I.%I', n.nspname, c.relname), t.entity, t.payload::oid, t.payload_missing, \
           c.relrowsecurity AND c.relforcerowsecurity AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles r WHERE r.oid = c.relowner), \
           t.bound_to = (SELECT integration._identity()), t.targets, \
           ARRAY(SELECT pg_catalog.quote_ident(k.name) FROM pg_catalog.unnest(t.key_columns) WITH ORDINALITY AS k(name, place) ORDER BY k.place), \
           ARRAY(SELECT coalesce(pg_catalog.format_type(a.atttypid, a.atttypmod), 'text') \
                 FROM pg_catalog.unnest(t.key_attnums) WITH ORDINALITY AS k(number, place) \
                 LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND NOT a.attisdropped ORDER BY k.place), \
           ARRAY(SELECT coalesce(k.number, 0::int2) FROM pg_catalog.unnest(t.key_attnums) WITH ORDINALITY AS k(number, place) ORDER BY k.place), \
           ARRAY(SELECT coalesce(k.number, 0::int2) \
                 FROM pg_catalog.unnest(CASE WHEN t.payload IS NULL THEN t.key_attnums ELSE t.payload_key_attnums END) WITH ORDINALITY AS k(number, place) ORDER BY k.place), \
           t.external_id_prefix, t.external_id IS NOT NULL AS chosen, \
           NOT EXISTS (SELECT FROM integration.tracked_table o WHERE o.entity = t.entity AND o.id <> t.id) AS alone, \
           t.collisions_accepted \
    FROM integration.tracked_table t JOIN pg_catalog.pg_class c ON c.oid = t.source JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE t.targets <> '{}' ORDER BY t.id";

const FIELDS: &str = "\
    SELECT t.id, m.target, m.field, m.column_name::text, integration._value_kind(a.atttypid), m.remote_field, m.direction, m.conflict, \
           a.attnum, m.table_attnum, \
           t.payload IS NULL AND (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid = t.source) = 'r', \
           m.value_map::text, m.on_lossy \
    FROM integration.field_map m JOIN integration.tracked_table t ON t.source = m.source \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = coalesce(t.payload, t.source) AND a.attnum = m.attnum AND NOT a.attisdropped \
    WHERE m.target = ANY (t.targets) AND integration._fits(m.target, m.remote_field, integration._value_kind(a.atttypid)) ORDER BY t.id, m.field";

struct FieldRow {
    source: SourceId,
    target: Target,
    field: Field,
    numbers: Numbers,
    /// The number that triggers note.
    noted: Option<i16>,
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
                    Target::HubSpot => FieldType::Unknown,
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
                words: row.get::<&str>(12)?.map(Words::parse).unwrap_or_default(),
                on_lossy: match text(13)?.as_str() {
                    "refuse" => OnLossy::Refuse,
                    _ => OnLossy::Keep,
                },
            },
            numbers: Numbers {
                read: row.get(9)?.unwrap_or(0),
                table: row.get(10)?,
            },
            noted: row
                .get(9)?
                .filter(|_| row.get(11).ok().flatten().unwrap_or(false)),
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

/// How a table's rows are named at HubSpot, whether or not the table is still tracked.
pub fn external_ids(source: SourceId) -> SpiResult<ExternalIds> {
    let rows = select(NAMES, &[source.0.into()], named)?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Returns all tracked tables that still exist, with their maps.
pub fn load() -> SpiResult<Vec<Source>> {
    let mut fields = fields()?;
    let rows = select(TABLES, &[], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let list = |column: usize| {
            row.get::<Vec<String>>(column)
                .map(Option::unwrap_or_default)
        };
        let numbers = |column: usize| row.get::<Vec<i16>>(column).map(Option::unwrap_or_default);
        let id = SourceId(row.get(1)?.unwrap_or(0));
        let name = text(3)?;
        let Some(entity) = services::entity(&text(4)?) else {
            return Ok(None);
        };
        let external_ids = named(row)?;
        let mine: Vec<FieldRow> = fields.extract_if(.., |row| row.source == id).collect();
        let map = |target: Target| SourceMap {
            source: id,
            name: name.clone(),
            entity,
            target,
            fields: fields_of(&mine, target),
            external_ids: external_ids.clone(),
        };
        let targets = list(9)?;
        Ok(Some(Source {
            id,
            oid: row.get(2)?.unwrap_or(pg_sys::InvalidOid),
            entity,
            key: key_columns(list(10)?, list(11)?, numbers(12)?, numbers(13)?),
            payload: row.get(5)?,
            missing: match text(6)?.as_str() {
                "keep" => MissingRow::Keep,
                _ => MissingRow::Delete,
            },
            hidden: row.get(7)?.unwrap_or(false),
            bound: row.get(8)?.unwrap_or(false),
            collisions_accepted: row.get_by_name("collisions_accepted")?.unwrap_or(false),
            maps: targets
                .iter()
                .filter_map(|name| Target::from_name(name))
                .map(|target| (target, map(target)))
                .collect(),
            audiences: HashMap::new(),
            numbers: mine
                .iter()
                .filter_map(|row| Some((row.field.column.clone(), row.noted?)))
                .collect(),
            columns: mine
                .iter()
                .map(|row| (row.field.column.clone(), row.numbers))
                .collect(),
            name,
        }))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

fn fields_of(rows: &[FieldRow], target: Target) -> Vec<Field> {
    let rows = rows.iter().filter(|row| row.target == target);
    rows.map(|row| row.field.clone()).collect()
}

fn key_columns(
    names: Vec<String>,
    types: Vec<String>,
    in_table: Vec<i16>,
    in_read: Vec<i16>,
) -> Vec<KeyColumn> {
    let columns = names.into_iter().zip(types);
    let numbers = in_table.into_iter().zip(in_read);
    let column = |((name, type_name), (table, read))| KeyColumn {
        column: Column { name, type_name },
        numbers: Numbers {
            read,
            table: Some(table),
        },
    };
    columns.zip(numbers).map(column).collect()
}
