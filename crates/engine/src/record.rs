//! The nouns: what is synchronised, where to, and how it is named on either side.

pub mod consent;
pub mod external_id;
pub mod field_type;
pub mod keys;
pub mod kind;
pub mod mapping;
pub mod once;

use std::{collections::HashMap, fmt, sync::Arc};

pub use kind::Entity;

/// A service that records are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    HubSpot,
    Mailchimp,
}

impl Target {
    pub const ALL: [Target; 2] = [Target::HubSpot, Target::Mailchimp];

    /// The name SQL users see.
    pub const fn name(self) -> &'static str {
        match self {
            Target::HubSpot => "hubspot",
            Target::Mailchimp => "mailchimp",
        }
    }

    /// The number stored in queue rows.
    pub const fn number(self) -> i16 {
        match self {
            Target::HubSpot => 1,
            Target::Mailchimp => 2,
        }
    }

    pub fn from_number(number: i16) -> Option<Target> {
        Target::ALL
            .into_iter()
            .find(|target| target.number() == number)
    }

    pub fn from_name(name: &str) -> Option<Target> {
        Target::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Whether records of this kind can be sent there at all.
    pub const fn accepts(self, entity: Entity) -> bool {
        match self {
            Target::HubSpot => true,
            Target::Mailchimp => entity.is_person(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tracked table, by the number `integration.tracked_table` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub i32);

/// A row's key as text: the column's text form, or for composite keys a JSON array of text forms.
/// Everything that is known of a record carries its key, so copies share the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(Arc<str>);

impl RecordKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From the text forms of the key's columns.
    pub fn from_parts(parts: &[String]) -> RecordKey {
        match parts {
            [key] => RecordKey::from(key.as_str()),
            _ => RecordKey::from(serde_json::Value::from(parts.to_vec()).to_string()),
        }
    }
}

impl From<&str> for RecordKey {
    fn from(text: &str) -> Self {
        RecordKey(text.into())
    }
}

impl From<String> for RecordKey {
    fn from(text: String) -> Self {
        RecordKey(text.into())
    }
}

/// A record of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordRef {
    pub source: SourceId,
    pub key: RecordKey,
}

impl RecordRef {
    /// By which it is known where there is no room for more.
    pub fn hash(&self) -> u64 {
        let source = u64::from(self.source.0.cast_unsigned());
        xxhash_rust::xxh3::xxh3_64_with_seed(self.key.as_str().as_bytes(), source)
    }
}

/// Of the tables below, which are asked for every record several times. Seeded by chance: nobody can
/// choose keys that collide.
pub type RecordHasher = foldhash::fast::RandomState;

/// Something of records of one source.
pub type KeyMap<T> = HashMap<RecordKey, T, RecordHasher>;

/// Something of records.
pub type RecordMap<T> = HashMap<RecordRef, T, RecordHasher>;

/// The id a service gave a record. HubSpot: an int64 as text, unique within an object type.
/// Mailchimp: the member's `contact_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteId(pub Box<str>);

impl RemoteId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RemoteId {
    fn from(text: &str) -> Self {
        RemoteId(text.into())
    }
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Upsert,
    Delete,
}

impl Op {
    pub const fn name(self) -> &'static str {
        match self {
            Op::Upsert => "upsert",
            Op::Delete => "delete",
        }
    }
}

/// Whose turn it is: each later lane uses only the budget the earlier ones leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    OptOut = 0,
    Live = 1,
    Retry = 2,
    Backfill = 3,
    Reconcile = 4,
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);
