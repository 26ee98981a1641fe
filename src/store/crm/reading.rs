//! Reading the rows of tracked tables, and finding out which cannot be read.

use std::collections::{HashMap, HashSet};

use integration_engine::record::mapping::{Field, SourceMap, ValueKind};
use integration_engine::record::{KeyMap, RecordHasher, RecordKey};
use pgrx::prelude::*;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

use crate::config;
use crate::pg::fence::{self, Access, Opened, Refusal, TableToOpen};
use crate::pg::shmem;
use crate::pg::{Column, SqlError};
use crate::store::holds::{self, HoldCause};
use crate::store::sources::{Relation, Source};
use crate::store::{crm::trouble, returned, select};

/// Rows as text, by key; a missing key has no row.
pub type Rows = KeyMap<Vec<Option<String>>>;

/// The result of reading some records.
#[derive(Default)]
pub struct ReadRows {
    /// The rows that were read.
    pub rows: Rows,
    /// Records that have a row which the payload view does not show, where that means: leave the
    /// record alone.
    pub left_out: HashSet<RecordKey>,
    /// Records that could not be read, and why.
    pub unreadable: HashMap<RecordKey, SqlError>,
}

/// What happens to the remote record of a row that the payload view does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingRow {
    /// It is treated as if the row had been deleted.
    #[default]
    Delete,
    /// It is left alone as long as the table has the row.
    Keep,
}

/// HubSpot takes 65,536 characters; one more shows that a value is too long.
const LONGEST_TEXT: usize = 65_537;

/// If none of so many rows can be read, the rows are not the cause.
const MANY: usize = 20;

impl Source {
    /// Runs statements on the table with the rights of its owner. An error says nothing about the
    /// table, for the statements may contain somebody's filter.
    pub fn run<T>(
        &self,
        access: Access,
        work: impl FnOnce(&Opened) -> SpiResult<T>,
    ) -> Result<T, Refusal> {
        let table = TableToOpen {
            oid: self.oid,
            payload: self.payload,
        };
        fence::run(table, access, config::crm_timeout(), work)
    }

    /// Runs our own statements on the table. A fault that keeps it from being read or written holds
    /// it.
    pub fn attempt<T>(
        &self,
        access: Access,
        work: impl FnOnce(&Opened) -> SpiResult<T>,
    ) -> Result<T, Refusal> {
        // What used up all the time it may take is not repeated at once.
        if holds::is_held(self.id, HoldCause::Timeout) {
            return Err(Refusal::TimedOut);
        }
        let attempt = self.run(access, work);
        trouble::note(self.id, access, &attempt);
        attempt
    }

    /// Returns the present rows of some records, or a SQL error: for callers in a subtransaction of
    /// their own, and in backends.
    pub fn read(&self, map: &SourceMap, keys: &[&RecordKey]) -> SpiResult<Rows> {
        Ok(self
            .try_read(map, keys)
            .unwrap_or_else(|refusal| refusal.raise()))
    }

    /// Returns some columns of the table itself by their numbers, as text, or a SQL error as above.
    pub fn read_columns(&self, columns: &[i16], keys: &[&RecordKey]) -> SpiResult<Rows> {
        Ok(self
            .try_read_columns(columns, keys)
            .unwrap_or_else(|refusal| refusal.raise()))
    }

    /// Returns the present rows of some records, or why one of them cannot be read.
    pub fn try_read(&self, map: &SourceMap, keys: &[&RecordKey]) -> Result<Rows, Refusal> {
        self.mapped(map, keys, Sees::Committed)
    }

    /// Returns a row as it is after the present transaction's writes, or a SQL error as above.
    pub fn read_written(&self, map: &SourceMap, key: &RecordKey) -> Rows {
        self.mapped(map, &[key], Sees::Written)
            .unwrap_or_else(|refusal| refusal.raise())
    }

    fn mapped(&self, map: &SourceMap, keys: &[&RecordKey], sees: Sees) -> Result<Rows, Refusal> {
        let statement =
            |opened: &Opened| self.read_statement(opened, Relation::Read, &self.texts(opened, map));
        self.rows(Access::ReadPayload, statement, map.fields.len(), keys, sees)
    }

    /// Returns some columns of the table itself by their numbers, as text, or why a row cannot be
    /// read.
    pub fn try_read_columns(&self, columns: &[i16], keys: &[&RecordKey]) -> Result<Rows, Refusal> {
        let statement = |opened: &Opened| {
            let text = |number: &i16| match opened.column(*number) {
                Some(column) => format!(", t.{}::text", column.name),
                None => ", NULL::text".to_owned(),
            };
            let texts: String = columns.iter().map(text).collect();
            self.read_statement(opened, Relation::Table, &texts)
        };
        let sees = Sees::Committed;
        self.rows(Access::ReadTable, statement, columns.len(), keys, sees)
    }

    /// Returns the rows of some records as the transaction's snapshot sees them. A row that is
    /// missing may exist all the same.
    pub fn read_by_snapshot(
        &self,
        map: &SourceMap,
        keys: &[&RecordKey],
    ) -> Result<ReadRows, Refusal> {
        self.apart(keys, |some| self.mapped(map, some, Sees::Snapshot))
    }

    /// Returns the present rows of some records, and which of them cannot be read.
    pub fn read_apart(&self, map: &SourceMap, keys: &[&RecordKey]) -> Result<ReadRows, Refusal> {
        let mut reading = self.apart(keys, |some| self.try_read(map, some))?;
        if self.payload.is_some() && self.missing == MissingRow::Keep {
            let absent: Vec<&RecordKey> = keys
                .iter()
                .copied()
                .filter(|key| !reading.rows.contains_key(*key))
                .filter(|key| !reading.unreadable.contains_key(*key))
                .collect();
            if !absent.is_empty() {
                let there = self.try_read_columns(&[], &absent)?;
                reading.left_out = there.into_keys().collect();
            }
        }
        Ok(reading)
    }

    /// Returns which of these records the table has.
    pub fn existing(&self, keys: &[&RecordKey]) -> Result<HashSet<RecordKey>, Refusal> {
        let reading = self.read_columns_apart(&[], keys)?;
        Ok(reading.rows.into_keys().collect())
    }

    /// Returns some columns of the table itself by their numbers, as text, and which rows cannot be
    /// read.
    pub fn read_columns_apart(
        &self,
        columns: &[i16],
        keys: &[&RecordKey],
    ) -> Result<ReadRows, Refusal> {
        self.apart(keys, |some| self.try_read_columns(columns, some))
    }

    /// Returns whether a record's row is gone. Where the payload view does not show it, that
    /// depends on the table's setting.
    pub fn is_gone(&self, key: &RecordKey) -> Result<bool, Refusal> {
        match self.payload.is_some() && self.missing == MissingRow::Keep {
            true => Ok(self.try_read_columns(&[], &[key])?.is_empty()),
            false => Ok(true),
        }
    }

    /// Reads in halves until whatever fails is alone.
    fn apart(
        &self,
        keys: &[&RecordKey],
        read: impl Fn(&[&RecordKey]) -> Result<Rows, Refusal>,
    ) -> Result<ReadRows, Refusal> {
        let mut reading = ReadRows::default();
        let is_key = |key: &&RecordKey| self.key_parts(key.as_str()).is_some();
        let (known, strange): (Vec<&RecordKey>, Vec<&RecordKey>) =
            keys.iter().copied().partition(is_key);
        for key in strange {
            reading.unreadable.insert(key.clone(), no_key());
        }
        let mut parts: Vec<&[&RecordKey]> = vec![&known];
        while let Some(part) = parts.pop() {
            match read(part) {
                Ok(rows) if reading.rows.is_empty() => reading.rows = rows,
                Ok(rows) => reading.rows.extend(rows),
                Err(Refusal::Failed(error)) if !error.is_about_the_table() => match part {
                    [key] => {
                        reading.unreadable.insert((*key).clone(), error);
                    }
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                Err(refusal) => return Err(refusal),
            }
        }
        let none = reading.rows.is_empty() && reading.unreadable.len() == keys.len();
        if none
            && keys.len() >= MANY
            && let Some(error) = reading.unreadable.values().next()
        {
            trouble::find(self.id, HoldCause::Unreadable, error.to_string());
            return Err(Refusal::Failed(error.clone()));
        }
        Ok(reading)
    }

    /// Returns whether the table can be read again.
    pub fn probe(&self) -> Result<(), Refusal> {
        for map in self.maps.values() {
            self.run(Access::ReadPayload, |opened| {
                let columns = self.texts(opened, map);
                let statement = format!("SELECT 1{columns} FROM {} t LIMIT 1", opened.reads);
                select(&statement, &[], |_| Ok(())).map(|_| ())
            })?;
        }
        Ok(())
    }

    /// Returns the mapped columns as they are now, as text: SQL that begins with a comma.
    fn texts(&self, opened: &Opened, map: &SourceMap) -> String {
        let text = |field: &Field| {
            let column = self.column(opened, Relation::Read, &field.column);
            format!(", {}", self.text(&column, field.kind))
        };
        map.fields.iter().map(text).collect()
    }

    fn text(&self, column: &Column, kind: ValueKind) -> String {
        let column = format!("t.{}::text", column.name);
        match kind {
            // Counting characters takes longer than counting bytes. A column of a view would be
            // computed for each mention.
            ValueKind::Text if self.payload.is_none() => format!(
                "CASE WHEN octet_length({column}) < {LONGEST_TEXT} THEN {column} ELSE left({column}, {LONGEST_TEXT}) END"
            ),
            ValueKind::Text | ValueKind::Json | ValueKind::TextArray => {
                format!("left({column}, {LONGEST_TEXT})")
            }
            _ => column,
        }
    }

    fn rows(
        &self,
        access: Access,
        statement: impl Fn(&Opened) -> String,
        columns: usize,
        keys: &[&RecordKey],
        sees: Sees,
    ) -> Result<Rows, Refusal> {
        let mut rows = self.rows_once(access, &statement, columns, keys, sees)?;
        if rows.len() == keys.len() || sees != Sees::Committed || !shmem::is_worker() {
            return Ok(rows);
        }
        // Records whose rows seem to be missing would be deleted at the services. To our snapshot,
        // a table that was rewritten since seems empty; from here on nobody can rewrite it before
        // we end.
        if !fence::knows_partitions_of(&self.partitioned()?) {
            return Err(Refusal::Busy);
        }
        let absent: Vec<&RecordKey> = keys
            .iter()
            .copied()
            .filter(|key| !rows.contains_key(*key))
            .collect();
        let late = fence::as_of_now(|| self.rows_once(access, &statement, columns, &absent, sees))?;
        rows.extend(late);
        Ok(rows)
    }

    /// Returns the table and those of its partitions that have partitions themselves; nothing if it
    /// has none.
    fn partitioned(&self) -> Result<Vec<pg_sys::Oid>, Refusal> {
        if !fence::is_partitioned(self.oid) {
            return Ok(Vec::new());
        }
        let sql =
            "SELECT relid::oid FROM pg_catalog.pg_partition_tree($1::regclass) WHERE NOT isleaf";
        select(sql, &[self.oid.into()], |row| {
            Ok(row.get::<pg_sys::Oid>(1)?.unwrap_or(self.oid))
        })
        .map_err(|why| {
            Refusal::Failed(SqlError {
                code: PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                message: why.to_string(),
            })
        })
    }

    fn rows_once(
        &self,
        access: Access,
        statement: impl Fn(&Opened) -> String,
        columns: usize,
        keys: &[&RecordKey],
        sees: Sees,
    ) -> Result<Rows, Refusal> {
        let mut arrays: Vec<Vec<String>> = vec![Vec::with_capacity(keys.len()); self.key.len()];
        let mut asked = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(parts) = self.key_parts(key.as_str()) {
                asked.push(*key);
                for (array, part) in arrays.iter_mut().zip(parts) {
                    array.push(part);
                }
            }
        }
        let args: Vec<_> = arrays.into_iter().map(Into::into).collect();
        let rows = self.attempt(access, |opened| {
            let read = |row: &SpiHeapTupleData| {
                let place = row.get::<i64>(1)?.unwrap_or(1) as usize - 1;
                let mut values = Vec::with_capacity(columns);
                for column in 0..columns {
                    values.push(row.get::<String>(column + 2)?);
                }
                Ok((place, values))
            };
            match sees {
                Sees::Committed | Sees::Snapshot => select(&statement(opened), &args, read),
                Sees::Written => returned(&statement(opened), &args, read),
            }
        })?;
        let mut found = Rows::with_capacity_and_hasher(rows.len(), RecordHasher::default());
        for (place, values) in rows {
            if let Some(key) = asked.get(place) {
                found.insert((*key).clone(), values);
            }
        }
        Ok(found)
    }
}

/// Which rows a statement that reads sees. Rows that the present transaction has written are seen
/// by the last one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// What the transaction's snapshot shows, and what exists by now without being in it.
    Committed,
    Snapshot,
    Written,
}

fn no_key() -> SqlError {
    SqlError {
        code: PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
        message: "this is no key of the table".to_owned(),
    }
}
