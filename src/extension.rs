//! The extension's own entry in the catalogue: is it there, and may it stay for a moment.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use pgrx::prelude::*;

/// Whether the extension is installed in this database. Inside a transaction.
pub fn present() -> bool {
    find() != pg_sys::InvalidOid
}

/// Keeps `DROP EXTENSION` out until the transaction ends; `false` when it was dropped.
///
/// Dropping locks the extension first and its tables one after the other. A transaction of ours
/// that takes the same first lock meets it here, and never half-way through the tables, where
/// each would wait for the other.
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
    // Perhaps that was a wait for its end.
    find() == extension
}

fn find() -> pg_sys::Oid {
    // SAFETY: a look-up in the catalogue inside a transaction.
    unsafe { pg_sys::get_extension_oid(c"integration".as_ptr(), true) }
}

/// Ends a worker whose extension is gone.
pub fn leave() -> ! {
    log!("integration worker ends: the extension was dropped");
    // SAFETY: the transaction is rolled back by PostgreSQL's own exit handlers. The launcher looks
    // whether a worker is wanted again.
    unsafe { pg_sys::proc_exit(1) }
}
