//! The tracked tables: how they are configured, and how their rows are read.

mod load;
mod shape;

pub use load::{external_ids, load};
pub use shape::{findings, follow, relations, shape};

use std::collections::HashMap;

use integration_engine::record::mapping::SourceMap;
use integration_engine::record::{Entity, SourceId, Target};
use pgrx::pg_sys;
use pgrx::spi::{SpiResult, quote_identifier};

use super::crm::reading::MissingRow;
use super::returned;
use crate::pg::fence::Opened;
use crate::pg::{self, Column};

/// A tracked table.
pub struct Source {
    pub id: SourceId,
    pub oid: pg_sys::Oid,
    /// `schema.table` as it was when this was loaded, quoted as SQL requires: for people.
    /// Statements use the name of what the fence has opened.
    pub name: String,
    pub entity: Entity,
    pub key: Vec<KeyColumn>,
    /// The view that is read instead of the table, if there is one.
    pub payload: Option<pg_sys::Oid>,
    /// What happens to a record whose row the view does not show.
    pub missing: MissingRow,
    /// Whether row security hides rows of the table from its owner.
    pub hidden: bool,
    /// Whether this database may send the table's rows.
    pub bound: bool,
    /// HubSpot: most of its records are known to be somebody else's, and each of them is a dead
    /// letter.
    pub collisions_accepted: bool,
    pub maps: HashMap<Target, SourceMap>,
    /// The Mailchimp map for each audience: the same fields in the same order, with the audience's
    /// own definitions.
    pub audiences: HashMap<String, SourceMap>,
    /// Numbers of the mapped columns in the table, where its triggers use the same numbers; not
    /// those of a payload view, nor of partitions.
    numbers: HashMap<String, i16>,
    /// Where the mapped columns are found, under the names they had when this was loaded.
    columns: HashMap<String, Numbers>,
}

/// The numbers by which a renamed column is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    /// The number in what is read: the table, or its payload view.
    read: i16,
    /// The number in the table; `None`: the table has no such column.
    table: Option<i16>,
}

/// A column of the key.
pub struct KeyColumn {
    /// The name it had when this was loaded.
    column: Column,
    numbers: Numbers,
}

/// One of the relations of which a source consists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The table itself.
    Table,
    /// What is read: the table, or its payload view.
    Read,
}

const MUST_OWN: &str = "SELECT integration._must_own($1::pg_catalog.regclass)";

/// Refuses callers who do not own the table.
pub fn must_own(table: pg_sys::Oid) -> SpiResult<()> {
    returned(MUST_OWN, &[table.into()], |_| Ok(())).map(|_| ())
}

impl Source {
    /// Returns the map for a target; for Mailchimp, the one of an audience.
    pub fn map_in(&self, target: Target, list: &str) -> Option<&SourceMap> {
        let map = self.maps.get(&target)?;
        match target {
            Target::HubSpot => Some(map),
            Target::Mailchimp => Some(self.audiences.get(list).unwrap_or(map)),
        }
    }

    /// Returns `t.a = ($1).a …`, the condition that finds the row of a key with the parts `parts`.
    pub fn key_condition(
        &self,
        opened: &Opened,
        of: Relation,
        parts: impl Fn(usize) -> String,
    ) -> String {
        let part = |(index, column): (usize, Column)| {
            format!("t.{} = {}::{}", column.name, parts(index), column.type_name)
        };
        let columns = self.key_columns(opened, of).into_iter();
        columns
            .enumerate()
            .map(part)
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// Returns the key's columns as they are now.
    pub fn key_columns(&self, opened: &Opened, of: Relation) -> Vec<Column> {
        let now =
            |key: &KeyColumn| find(opened, of, key.numbers).unwrap_or_else(|| key.column.clone());
        self.key.iter().map(now).collect()
    }

    /// Returns a mapped column as it is now. A column that has just been dropped keeps its name:
    /// the statement that contains it fails and says so.
    pub fn column(&self, opened: &Opened, of: Relation, name: &str) -> Column {
        let numbers = self.columns.get(name);
        let now = numbers.and_then(|numbers| find(opened, of, *numbers));
        now.unwrap_or_else(|| Column {
            name: quote_identifier(name),
            type_name: "text".to_owned(),
        })
    }

    /// Returns the type of the table's column to which a mapped one is written; for people.
    pub fn type_of(&self, name: &str) -> String {
        let number = self.columns.get(name).and_then(|numbers| numbers.table);
        let found = number.and_then(|number| pg::column(self.oid, number));
        found.map_or_else(|| "text".to_owned(), |column| column.type_name)
    }

    /// Returns a record key's parts, one for each key column. `None`: the text is no key of this
    /// table.
    pub fn key_parts(&self, key: &str) -> Option<Vec<String>> {
        if self.key.len() == 1 {
            return Some(vec![key.to_owned()]);
        }
        let parts: Vec<String> = serde_json::from_str(key).ok()?;
        (parts.len() == self.key.len()).then_some(parts)
    }

    /// Returns the number that triggers note for a mapped column, if it is known.
    pub fn number(&self, column: &str) -> Option<i16> {
        self.numbers.get(column).copied()
    }

    /// Returns whether the table itself is read, not a payload view.
    pub fn reads_itself(&self) -> bool {
        self.payload.is_none()
    }

    /// Returns the statement that reads some columns of the records in its parameters; `columns` is
    /// SQL that begins with a comma.
    pub(super) fn read_statement(&self, opened: &Opened, of: Relation, columns: &str) -> String {
        let names: Vec<String> = (0..self.key.len())
            .map(|index| format!("k{index}"))
            .collect();
        let arrays: Vec<String> = (1..=self.key.len())
            .map(|index| format!("${index}::text[]"))
            .collect();
        // The fence (OFFSET 0) makes it one index look-up a key, whatever the planner believes
        // about the table: plans are kept while it grows.
        format!(
            "SELECT r.* FROM unnest({}) WITH ORDINALITY AS k({}, place) \
             CROSS JOIN LATERAL (SELECT k.place{columns} FROM {} t WHERE {} OFFSET 0) AS r",
            arrays.join(", "),
            names.join(", "),
            match of {
                Relation::Table => &opened.table,
                Relation::Read => &opened.reads,
            },
            self.key_condition(opened, of, |index| format!("k.k{index}")),
        )
    }
}

fn find(opened: &Opened, of: Relation, numbers: Numbers) -> Option<Column> {
    match of {
        Relation::Table => opened.column(numbers.table?),
        Relation::Read => opened.column_read(numbers.read),
    }
}
