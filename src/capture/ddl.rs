//! Noticing DDL in the session that runs it. Disabling a trigger or dropping a column changes no
//! row: a sleeping worker would not learn of it unless this session wakes it.
#![allow(unsafe_code)]

use pgrx::pg_sys;

use crate::pg::shmem::{self, Wake};

/// Called when something is done to an object.
pub fn heard(kind: pg_sys::ObjectAccessType::Type, class: pg_sys::Oid, object: pg_sys::Oid) {
    match kind {
        pg_sys::ObjectAccessType::OAT_TRUNCATE => super::truncated(object),
        pg_sys::ObjectAccessType::OAT_POST_ALTER | pg_sys::ObjectAccessType::OAT_DROP
            if concerns_us(class, object) =>
        {
            super::tell_at_commit(Wake::CATALOG);
        }
        _ => {}
    }
}

/// Returns whether the worker may have to look. This is cheap rather than exact: the worker finds
/// out what happened.
fn concerns_us(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    let catalogued = match class {
        pg_sys::RelationRelationId => {
            // SAFETY: a look-up in the system caches inside a transaction.
            let persistence = unsafe { pg_sys::get_rel_persistence(object) } as u8;
            persistence != pg_sys::RELPERSISTENCE_TEMP
        }
        pg_sys::TriggerRelationId | pg_sys::NamespaceRelationId => true,
        _ => false,
    };
    catalogued && shmem::my_slot().is_some()
}
