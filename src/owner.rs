//! Running with somebody else's rights, and surviving a SQL error.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};

/// Runs `work` with the rights of a table's owner, so that nothing the owner put into triggers,
/// views or types runs with ours.
pub fn as_owner<T>(owner: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let (mut before, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: inside a transaction. An error in between ends the (sub)transaction, which puts the
    // user back by itself.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before, &mut context);
        pg_sys::SetUserIdAndSecContext(
            owner,
            context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32,
        );
    }
    let result = work();
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(before, context) };
    result
}

/// What a SQL statement failed with.
#[derive(Debug)]
pub struct SqlError {
    pub code: PgSqlErrorCode,
    pub message: String,
}

/// Runs `work` in a subtransaction, which is rolled back if a SQL error happens in it.
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
