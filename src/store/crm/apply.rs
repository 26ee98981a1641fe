//! Writing to CRM tables, with the rights of their owners.

use integration_engine::record::RecordKey;
use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiResult;

use crate::pg::fence::{Access, Opened};
use crate::pg::{Column, SqlError};
use crate::store::execute;
use crate::store::sources::{Relation, Source};

/// The outcome of a write to a CRM row.
#[derive(Debug)]
pub enum Applied {
    Written,
    /// The row is gone, or the column no longer holds the value that was read.
    Moved,
    /// The CRM refused the value: a constraint, a trigger, a type.
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
    let statement = |opened: &Opened| {
        let Column { name, type_name } = source.column(opened, Relation::Table, column);
        let part = |index| format!("${}", index + 3);
        let condition = source.key_condition(opened, Relation::Table, part);
        // An explicit cast truncates what is too long, and rounds.
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

/// Deletes a row.
pub fn delete_row(source: &Source, key: &RecordKey) -> SpiResult<Applied> {
    let Some(parts) = source.key_parts(key.as_str()) else {
        return Ok(Applied::Moved);
    };
    let statement = |opened: &Opened| {
        let part = |index| format!("${}", index + 1);
        let condition = source.key_condition(opened, Relation::Table, part);
        format!("DELETE FROM {} t WHERE {condition}", opened.table)
    };
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
