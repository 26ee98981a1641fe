//! Kinds of objects, as data: which there are, and what they are like, is their service's to say.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

/// What the mechanism has to know of a kind.
#[derive(Debug)]
pub struct Kind {
    /// The name SQL users see.
    pub name: &'static str,
    /// Its place in the order in which records depend on each other, parents first. Every kind has
    /// a place of its own.
    pub place: u16,
    /// Its records are people: services know them by an e-mail address, they have a consent, and can
    /// be erased.
    pub is_person: bool,
    /// Records that others made are recognised by a property that several of them may share.
    pub is_shared: bool,
}

/// What a tracked table's rows are: the id of a kind.
#[derive(Clone, Copy)]
pub struct Entity(&'static Kind);

impl Entity {
    pub const fn of(kind: &'static Kind) -> Entity {
        Entity(kind)
    }

    /// The name SQL users see.
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// See [`Kind::place`].
    pub const fn place(self) -> u16 {
        self.0.place
    }

    /// See [`Kind::is_person`].
    pub const fn is_person(self) -> bool {
        self.0.is_person
    }

    /// See [`Kind::is_shared`].
    pub const fn is_shared(self) -> bool {
        self.0.is_shared
    }
}

impl PartialEq for Entity {
    fn eq(&self, other: &Entity) -> bool {
        self.0.place == other.0.place
    }
}

impl Eq for Entity {}

impl PartialOrd for Entity {
    fn partial_cmp(&self, other: &Entity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entity {
    fn cmp(&self, other: &Entity) -> Ordering {
        self.0.place.cmp(&other.0.place)
    }
}

impl Hash for Entity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.place.hash(state);
    }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

/// A remote field that `track()` maps by itself.
#[derive(Clone, Copy, Debug)]
pub struct Convention {
    pub remote_field: &'static str,
    /// What it takes besides text.
    pub takes: Takes,
    /// The columns that are recognised, best first, with a blank between them.
    pub columns: &'static str,
}

/// What a remote field takes besides text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Text,
    Bool,
    Number,
    Time,
}

impl Takes {
    /// The kinds of value that a column may have, as `integration._value_kind()` names them.
    pub const fn value_kinds(self) -> &'static [&'static str] {
        match self {
            Takes::Text => &["text"],
            Takes::Bool => &["text", "bool"],
            Takes::Number => &["text", "integer", "decimal", "float"],
            Takes::Time => &["text", "date", "timestamp", "timestamptz"],
        }
    }
}

#[cfg(test)]
pub(crate) mod sample {
    //! Kinds as a service has them.

    use super::{Entity, Kind};

    const PLAIN: Kind = Kind {
        name: "",
        place: 0,
        is_person: false,
        is_shared: false,
    };

    static COMPANIES: Kind = Kind {
        name: "company",
        is_shared: true,
        ..PLAIN
    };
    static CONTACTS: Kind = Kind {
        name: "contact",
        place: 1,
        is_person: true,
        ..PLAIN
    };
    static DEALS: Kind = Kind {
        name: "deal",
        place: 2,
        ..PLAIN
    };

    pub(crate) const COMPANY: Entity = Entity::of(&COMPANIES);
    pub(crate) const CONTACT: Entity = Entity::of(&CONTACTS);
    pub(crate) const DEAL: Entity = Entity::of(&DEALS);
}
