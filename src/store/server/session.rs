//! The worker's session and server: its role, the version of the tables, prepared transactions.

use pgrx::spi::SpiResult;

use crate::store::{execute, scalar, select};

const VERSION: &str =
    "SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'integration'";

/// Returns the version of the extension's tables.
pub fn tables_version() -> SpiResult<String> {
    Ok(scalar::<String>(VERSION, &[])?.unwrap_or_default())
}

const PREPARED: &str = "\
    SELECT p.transaction::text FROM pg_catalog.pg_prepared_xacts p WHERE p.database = pg_catalog.current_database()";

/// Returns the prepared transactions of this database.
pub fn prepared_transactions() -> SpiResult<Vec<String>> {
    let rows = select(PREPARED, &[], |row| row.get::<String>(1))?;
    Ok(rows.into_iter().flatten().collect())
}

// A database's settings may name another user, or a role.
const MYSELF: &str = "\
    SELECT pg_catalog.set_config('session_authorization', r.rolname::text, false) \
    FROM pg_catalog.pg_roles r WHERE r.oid = 10 AND r.rolname <> SESSION_USER";
const ROLE: &str = "SELECT pg_catalog.set_config('role', $1, false)";
const MAY_WORK: &str = "\
    SELECT pg_catalog.pg_has_role(CURRENT_USER, e.extowner, 'USAGE') \
    FROM pg_catalog.pg_extension e WHERE e.extname = 'integration'";

/// Takes on a role, or with `none` the worker's own. Returns whether it may do the worker's work.
pub fn become_role(role: &str) -> SpiResult<bool> {
    execute(MYSELF, &[])?;
    execute(ROLE, &[role.into()])?;
    Ok(scalar::<bool>(MAY_WORK, &[])?.unwrap_or(false))
}
