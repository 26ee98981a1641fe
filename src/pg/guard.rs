//! Surviving a SQL error.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};

/// The error of a SQL statement.
#[derive(Clone, Debug)]
pub struct SqlError {
    /// SQLSTATE.
    pub code: PgSqlErrorCode,
    /// The message itself, without detail and hint.
    pub message: String,
}

impl SqlError {
    /// Returns the five characters of the SQLSTATE.
    pub fn sqlstate(&self) -> String {
        // Six bits each, as in PostgreSQL's MAKE_SQLSTATE.
        let code = self.code as i32;
        (0..5)
            .map(|place| char::from(((code >> (6 * place)) & 0x3f) as u8 + b'0'))
            .collect()
    }

    /// Returns whether the error is about something other than single rows: names, rights,
    /// resources, or what a view or the server is not prepared for.
    pub fn is_about_the_table(&self) -> bool {
        let state = self.sqlstate();
        ["0A", "25", "28", "3F", "40", "42", "53", "55", "57", "58"].contains(&&state[..2])
    }
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} ({})", self.message, self.sqlstate())
    }
}

/// Runs `work`, statements of our own, in a subtransaction, which a SQL error rolls back. Whatever
/// runs code of others goes through [`super::fence`].
pub fn guarded<T>(work: impl FnOnce() -> T + UnwindSafe + RefUnwindSafe) -> Result<T, SqlError> {
    // SAFETY: inside a transaction. The caller's memory context and resource owner are put back on
    // both ways out, as PL/pgSQL's exception blocks do.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
            .catch_others(|error| Err(describe(error)))
            .catch_rust_panic(|error| Err(describe(error)))
            .execute();
        if result.is_ok() {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        result
    }
}

fn describe(error: CaughtError) -> SqlError {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => SqlError {
            code: report.sql_error_code(),
            message: report.message().to_owned(),
        },
        CaughtError::RustPanic { ereport, .. } => SqlError {
            code: ereport.sql_error_code(),
            message: ereport.message().to_owned(),
        },
    }
}
