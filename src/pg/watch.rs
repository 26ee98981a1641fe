//! Noticing changes of the tracked tables in the catalogue.
//!
//! PostgreSQL announces them to every session at the start of its next transaction, and whenever it
//! takes a lock. A sleeping worker learns of them when it wakes up.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static WATCHED: RefCell<HashSet<u32>> = RefCell::default();
    static CHANGED: Cell<bool> = const { Cell::new(false) };
}

/// Begins to listen. Call it once a worker, after it has connected to its database.
pub fn begin() {
    let schemas = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
    // SAFETY: the callbacks only set a flag of this process, and live as long as it does.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        pg_sys::CacheRegisterSyscacheCallback(
            schemas,
            Some(schema_changed),
            pg_sys::Datum::from(0),
        );
    }
}

/// Sets the relations to listen for, from here on.
pub fn watch(relations: impl Iterator<Item = pg_sys::Oid>) {
    WATCHED.set(relations.map(pg_sys::Oid::to_u32).collect());
}

/// Returns whether something has happened to one of them, or may have, since [`heed`].
pub fn changed() -> bool {
    CHANGED.get()
}

/// Takes note of what has happened so far.
pub fn heed() {
    CHANGED.set(false);
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_unused: pg_sys::Datum, relation: pg_sys::Oid) {
    let watched = || WATCHED.with_borrow(|watched| watched.contains(&relation.to_u32()));
    if relation == pg_sys::InvalidOid || watched() {
        CHANGED.set(true);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_unused: pg_sys::Datum, _cache: i32, _hash: u32) {
    CHANGED.set(true);
}
