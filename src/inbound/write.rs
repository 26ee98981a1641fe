//! Writing a service's value into a column, and what the column makes of it.
//!
//! A column may hold less than the service's field (`varchar(20)`, `numeric(6,1)`), and a trigger may
//! write something else. What the column holds then stands for the service's value: it is not sent
//! back, and not taken for a difference.

use std::panic::AssertUnwindSafe;

use integration_engine::record::mapping::{Field, OnLossy, SourceMap};
use integration_engine::sync::clock::ValueHash;
use pgrx::prelude::*;
use pgrx::spi::SpiResult;

use super::fields::Reported;
use super::{Alert, Refused};
use crate::pg;
use crate::services;
use crate::store::crm::apply::{self, Applied};
use crate::store::inbound::inbox::LOSSY_ALERT;

/// What a column holds of a value that was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// All of it.
    Same,
    /// Something else, with this hash.
    Less(ValueHash),
}

impl Reported<'_> {
    /// Writes a value. `present`: what the column was read as.
    pub(super) fn write(
        &self,
        map: &SourceMap,
        index: usize,
        present: Option<&str>,
        column_value: Option<&str>,
        reported: Option<&str>,
    ) -> SpiResult<Result<Held, Refused>> {
        let field = &map.fields[index];
        let (source, key) = (self.source, &self.record.key);
        let write = || {
            let written = apply::set_column(source, key, &field.column, present, column_value)?;
            match written {
                Applied::Written => self.held(map, index, reported).map(Ok),
                Applied::Moved => Ok(Err(Refused::changing())),
                Applied::Refused(why) => Ok(Err(Refused::of(&why).of_column(&field.column))),
            }
        };
        let written = match field.on_lossy {
            OnLossy::Keep => write()?,
            OnLossy::Refuse => whole_or_not(write, &field.column)?,
        };
        Ok(written.map(|(held, same)| {
            if held != Held::Same && !same {
                self.apply_context
                    .alerts
                    .borrow_mut()
                    .push(self.shortened(field));
            }
            held
        }))
    }

    /// What the column holds now, after all triggers, and whether that means the same.
    fn held(
        &self,
        map: &SourceMap,
        index: usize,
        reported: Option<&str>,
    ) -> SpiResult<(Held, bool)> {
        let field = &map.fields[index];
        let rows = self.source.read_written(map, &self.record.key);
        let row = rows.get(&self.record.key);
        let crm = row.and_then(|row| services::to_remote(map, row, index).ok());
        let remote = services::canonical(map, field, reported).ok();
        let (Some(crm), Some(remote)) = (crm, remote) else {
            return Ok((Held::Same, true));
        };
        let hash = ValueHash::of(crm.as_deref());
        if hash == ValueHash::of(remote.as_deref()) {
            return Ok((Held::Same, true));
        }
        let same = services::same(map.target, field, crm.as_deref(), reported);
        Ok((Held::Less(hash), same))
    }

    fn shortened(&self, field: &Field) -> Alert {
        let column = format!("{}.{}", self.source.name, field.column);
        let type_name = self.source.type_of(&field.column);
        Alert {
            kind: LOSSY_ALERT,
            message: format!(
                "column {column} ({type_name}) does not hold {}'s {} as it is: what it holds, or a trigger makes of it, stands for that value and is not sent back. Make the column wider, or have such values refused: map_field(…, on_lossy => 'refuse')",
                self.target, field.remote
            ),
            subject: column,
        }
    }
}

/// Undoes a write that the column does not hold as it is.
fn whole_or_not(
    write: impl FnOnce() -> SpiResult<Result<(Held, bool), Refused>>,
    column: &str,
) -> SpiResult<Result<(Held, bool), Refused>> {
    let written = pg::guarded(AssertUnwindSafe(|| {
        let written = write()?;
        if let Ok((Held::Less(_), false)) = written {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
                "the column does not hold the value as it is, and on_lossy is refuse"
            );
        }
        Ok(written)
    }));
    written.unwrap_or_else(|error| Ok(Err(Refused::of(&error).of_column(column))))
}
