//! The extension's own entry in the catalogue: whether it exists, and keeping it there for a
//! moment.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use pgrx::prelude::*;

/// Returns whether the extension is installed in this database. Call it inside a transaction.
pub fn present() -> bool {
    find() != pg_sys::InvalidOid
}

/// Keeps `DROP EXTENSION` out until the transaction ends; returns `false` if the extension was
/// dropped.
///
/// Dropping locks the extension first and its tables one after the other. A transaction of ours
/// that takes the same lock first meets it here, and never half-way through the tables, where each
/// would wait for the other.
pub fn hold() -> bool {
    let extension = find();
    if extension == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: inside a transaction, whose end releases the lock; an error in it is an ordinary one.
    unsafe {
        pg_sys::LockDatabaseObject(
            pg_sys::ExtensionRelationId,
            extension,
            0,
            pg_sys::AccessShareLock as pg_sys::LOCKMODE,
        );
    }
    // The wait may have been for its end.
    find() == extension
}

/// Returns the extension's entry in the catalogue; invalid: there is none. Call it inside a
/// transaction.
pub fn find() -> pg_sys::Oid {
    // SAFETY: a look-up in the catalogue inside a transaction.
    unsafe { pg_sys::get_extension_oid(c"integration".as_ptr(), true) }
}

/// Returns the name of the database of this session. Call it inside a transaction.
pub fn database_name() -> Option<String> {
    // SAFETY: a look-up in the catalogue inside a transaction; the name is copied, and freed with
    // the memory of the transaction.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        (!name.is_null()).then(|| {
            let name = std::ffi::CStr::from_ptr(name);
            name.to_string_lossy().into_owned()
        })
    }
}

/// Returns a table's name as SQL requires it; `None`: the table is gone. Call it inside a
/// transaction.
pub fn table_name(table: pg_sys::Oid) -> Option<String> {
    let text = |name: *const std::ffi::c_char| {
        (!name.is_null()).then(|| {
            // SAFETY: a name that the catalogue returned; it is copied.
            let name = unsafe { std::ffi::CStr::from_ptr(name) };
            pgrx::spi::quote_identifier(name.to_string_lossy())
        })
    };
    // SAFETY: look-ups in the catalogue inside a transaction.
    let (schema, name) = unsafe {
        (
            text(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table))),
            text(pg_sys::get_rel_name(table)),
        )
    };
    Some(format!("{}.{}", schema?, name?))
}

/// Ends a worker that the server asked to stop, between two transactions.
pub fn stop() -> ! {
    crate::pg::shmem::end_orderly();
    log!("integration worker stops");
    // SAFETY: no transaction is open; the slot is given back by the exit handler.
    unsafe { pg_sys::proc_exit(0) }
}

/// Ends a worker whose extension is gone.
pub fn leave() -> ! {
    log!("integration worker ends: the extension was dropped");
    // SAFETY: the transaction is rolled back by PostgreSQL's own exit handlers. The launcher looks
    // whether a worker is wanted again.
    unsafe { pg_sys::proc_exit(1) }
}
