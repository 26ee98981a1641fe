//! Writing to CRM tables, with the rights of their owners.

use integration_engine::record::RecordKey;
use pgrx::datum::DatumWithOid;
use pgrx::spi;
use pgrx::spi::SpiResult;

use super::{execute, select, sources::Source};
use crate::pg::SqlError;
use crate::pg::fence::{Access, Opened};

/// What became of a write to a CRM row.
#[derive(Debug)]
pub enum Applied {
    Written,
    /// The row is gone, or the column no longer holds what it was read as.
    Moved,
    /// The CRM refuses the value: a constraint, a trigger, a type.
    Refused(SqlError),
}

/// Sets one column of one row, provided it still holds `expected`. Triggers of the CRM run as usual.
pub fn set_column(
    source: &Source,
    key: &RecordKey,
    column: &str,
    expected: Option<&str>,
    value: Option<&str>,
) -> SpiResult<Applied> {
    let Some(parts) = source.key_parts(key.as_str()) else {
        return Ok(Applied::Moved);
    };
    let type_name = type_of(source, column)?;
    let name = spi::quote_identifier(column);
    let condition = source.key_condition(|index| format!("${}", index + 3));
    let statement = |opened: &Opened| {
        format!(
            "UPDATE {} t SET {name} = $1::{type_name} WHERE t.{name}::text IS NOT DISTINCT FROM $2 AND {condition}",
            opened.table,
        )
    };
    let mut args = vec![
        value.map(str::to_owned).into(),
        expected.map(str::to_owned).into(),
    ];
    args.extend(parts.into_iter().map(Into::into));
    write(source, statement, &args)
}

// As it is now: what the column was when the table was loaded says nothing about how much it holds.
const TYPE: &str = "\
    SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
    WHERE a.attrelid = $1 AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

/// The type of a column. An explicit cast to it shortens what is too long, and rounds.
fn type_of(source: &Source, column: &str) -> SpiResult<String> {
    let args = [source.oid.into(), column.into()];
    let types = select(TYPE, &args, |row| row.get::<String>(1))?;
    let known = types.into_iter().flatten().next();
    Ok(known.unwrap_or_else(|| "text".to_owned()))
}

/// Deletes a row.
pub fn delete_row(source: &Source, key: &RecordKey) -> SpiResult<Applied> {
    let Some(parts) = source.key_parts(key.as_str()) else {
        return Ok(Applied::Moved);
    };
    let condition = source.key_condition(|index| format!("${}", index + 1));
    let statement = |opened: &Opened| format!("DELETE FROM {} t WHERE {condition}", opened.table);
    let args: Vec<_> = parts.into_iter().map(Into::into).collect();
    write(source, statement, &args)
}

fn write(
    source: &Source,
    statement: impl Fn(&Opened) -> String,
    args: &[DatumWithOid],
) -> SpiResult<Applied> {
    let written = source.attempt(Access::Write, |opened| execute(&statement(opened), args));
    Ok(match written {
        Ok(0) => Applied::Moved,
        Ok(_) => Applied::Written,
        Err(refusal) => Applied::Refused(refusal.into_error()),
    })
}
