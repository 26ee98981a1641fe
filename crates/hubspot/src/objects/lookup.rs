//! Finding a kind in the table, and what follows from its line.

use std::sync::Arc;

use super::{OBJECTS, Object, custom, is_custom};
use integration_engine::record::Entity;

impl Object {
    pub const fn entity(&'static self) -> Entity {
        Entity::of(&self.kind)
    }

    /// The scopes that keeping its records in step takes.
    pub fn scopes(&'static self) -> Vec<String> {
        let rights = ["read", "write"].into_iter();
        let of_records = rights.map(|right| format!("crm.objects.{}.{right}", self.scopes));
        let schema = is_custom(self.entity()).then(|| format!("crm.schemas.{}.read", self.scopes));
        of_records.chain(schema).collect()
    }
}
/// All of them but custom ones, parents first.
pub fn all() -> impl Iterator<Item = &'static Object> {
    OBJECTS.iter()
}

/// What is known of a kind.
pub fn of(entity: Entity) -> &'static Object {
    let known = OBJECTS.get(usize::from(entity.place()));
    known.or_else(|| custom::of(entity)).unwrap_or(&OBJECTS[0])
}

/// HubSpot's number of a type, as in its events. That of a custom object is not known from the start.
pub fn type_id(entity: Entity) -> Option<Arc<str>> {
    match is_custom(entity) {
        true => custom::type_id(entity),
        false => Some(of(entity).type_id.into()),
    }
}

/// The kind whose records are people.
pub fn person() -> Entity {
    let person = all().find(|object| object.kind.is_person);
    person.unwrap_or(&OBJECTS[0]).entity()
}

/// A kind by the name SQL users see.
pub fn from_name(name: &str) -> Option<Entity> {
    let mut objects = all().map(Object::entity);
    let known = objects.find(|entity| entity.name() == name);
    known.or_else(|| custom::from_name(name))
}

/// A kind as events name it: by HubSpot's number of the type, or, in classic ones, by its name.
pub fn from_event(object_type: &str) -> Option<Entity> {
    let known = all().find(|object| object.type_id == object_type);
    known
        .map(Object::entity)
        .or_else(|| custom::from_type_id(object_type))
        .or_else(|| from_name(object_type))
}

/// HubSpot's numbers for the kinds of association a record of `from` has with its parent `to`, the
/// primary one first; empty: the one that HubSpot gives. `None`: they cannot be associated by a
/// column.
pub fn associations(from: Entity, to: Entity) -> Option<&'static [u16]> {
    if is_custom(from) || is_custom(to) {
        // People decide which objects are associated.
        return Some(&[]);
    }
    let mut parents = of(from).parents.iter();
    let parent = parents.find(|(name, _)| *name == to.name());
    parent.map(|(_, types)| *types)
}

/// Whose records a column can name.
pub fn parents(entity: Entity) -> Vec<&'static str> {
    match is_custom(entity) {
        true => all().map(|object| object.kind.name).collect(),
        false => of(entity).parents.iter().map(|(name, _)| *name).collect(),
    }
}

#[cfg(test)]
pub(crate) mod named {
    //! Kinds by name.

    use super::{Entity, OBJECTS, all, from_name};

    pub(crate) const COMPANY: Entity = kind("company");
    pub(crate) const CONTACT: Entity = kind("contact");
    pub(crate) const DEAL: Entity = kind("deal");
    pub(crate) const NOTE: Entity = kind("note");
    pub(crate) const TASK: Entity = kind("task");

    const fn kind(name: &str) -> Entity {
        let mut place = 0;
        while !is_same(OBJECTS[place].kind.name.as_bytes(), name.as_bytes()) {
            place += 1;
        }
        OBJECTS[place].entity()
    }

    const fn is_same(one: &[u8], other: &[u8]) -> bool {
        let mut at = 0;
        while at < one.len() && at < other.len() && one[at] == other[at] {
            at += 1;
        }
        at == one.len() && at == other.len()
    }

    /// All of them.
    pub(crate) fn every_kind() -> Vec<Entity> {
        all().map(super::Object::entity).collect()
    }

    #[test]
    fn every_kind_is_found_by_its_names() {
        for object in all() {
            let entity = object.entity();
            assert_eq!(from_name(entity.name()), Some(entity));
            assert_eq!(super::from_event(object.type_id), Some(entity));
            assert_eq!(super::of(entity).path, object.path);
            let known = object
                .parents
                .iter()
                .all(|(name, _)| from_name(name).is_some());
            assert!(known, "{object:?}");
        }
    }
}
