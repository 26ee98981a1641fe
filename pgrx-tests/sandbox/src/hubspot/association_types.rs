//! HubSpot's numbers for kinds of associations.

use super::types::ObjectType;

/// The types HubSpot sets when none is named: (default, primary).
pub(crate) fn default_type(from: ObjectType, to: ObjectType) -> Option<u32> {
    use ObjectType::{Call, Company, Contact, Deal, Email, Meeting, Note, Task};
    Some(match (from, to) {
        (Contact, Company) => 279,
        (Company, Contact) => 280,
        (Deal, Contact) => 3,
        (Contact, Deal) => 4,
        (Deal, Company) => 341,
        (Company, Deal) => 342,
        (Contact, Contact) => 449,
        (Company, Company) => 450,
        (Deal, Deal) => 451,
        (Note, Contact) => 202,
        (Contact, Note) => 201,
        (Note, Company) => 190,
        (Company, Note) => 189,
        (Note, Deal) => 214,
        (Deal, Note) => 213,
        (Call, Contact) => 194,
        (Contact, Call) => 193,
        (Call, Company) => 182,
        (Company, Call) => 181,
        (Call, Deal) => 206,
        (Deal, Call) => 205,
        (Email, Contact) => 198,
        (Contact, Email) => 197,
        (Email, Company) => 186,
        (Company, Email) => 185,
        (Email, Deal) => 210,
        (Deal, Email) => 209,
        (Meeting, Contact) => 200,
        (Contact, Meeting) => 199,
        (Meeting, Company) => 188,
        (Company, Meeting) => 187,
        (Meeting, Deal) => 212,
        (Deal, Meeting) => 211,
        (Task, Contact) => 204,
        (Contact, Task) => 203,
        (Task, Company) => 192,
        (Company, Task) => 191,
        (Task, Deal) => 216,
        (Deal, Task) => 215,
        _ => return None,
    })
}

/// "Primary" types, which go with the default one.
pub(crate) fn primary_type(from: ObjectType, to: ObjectType) -> Option<u32> {
    use ObjectType::{Company, Contact, Deal};
    match (from, to) {
        (Contact, Company) => Some(1),
        (Company, Contact) => Some(2),
        (Deal, Company) => Some(5),
        (Company, Deal) => Some(6),
        _ => None,
    }
}

/// The type id of the other direction; pairs of HubSpot's ids are neighbours.
pub(crate) fn reverse(id: u32) -> u32 {
    match id {
        449..=451 => id,
        1 | 3 | 5 | 13 | 279 | 341 => id + 1,
        2 | 4 | 6 | 14 | 280 | 342 => id - 1,
        181..=216 if id % 2 == 1 => id + 1,
        181..=216 => id - 1,
        _ => id,
    }
}

/// Which object types a type id leads to, for associations that go along with a create.
pub(crate) fn target_of(from: ObjectType, id: u32) -> Option<ObjectType> {
    ObjectType::ALL
        .into_iter()
        .find(|to| default_type(from, *to) == Some(id) || primary_type(from, *to) == Some(id))
}
