//! All SQL, on our own tables and on the CRM's. Main thread only.
//!
//! Statements are prepared once a session and kept. Those that only read run without a transaction
//! id.

pub mod associations;
pub mod consent;
pub mod crm;
pub mod holds;
pub mod inbound;
pub mod jobs;
pub mod links;
pub mod queue;
mod rows;
pub mod server;
pub mod sources;
pub mod state;
pub mod waiting;

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::PgOid;
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiHeapTupleData, SpiResult};

use crate::pg::extension;
use crate::pg::shmem::{self, Doing};
use rows::{column, record};

thread_local! {
    static READING: RefCell<HashMap<String, Rc<OwnedPreparedStatement>>> = RefCell::default();
    static WRITING: RefCell<HashMap<String, Rc<OwnedPreparedStatement>>> = RefCell::default();
}

/// How many statements are kept before all of them are dropped: the text of some depends on the
/// tracked tables.
const MOST_STATEMENTS: usize = 500;

/// Runs a worker's transaction. A SQL error in it ends the process, as does the removal of the
/// extension; the launcher starts the worker again, and what was not settled is sent again.
pub fn transaction<T>(work: impl FnOnce() -> T) -> T {
    if shmem::stop_asked() {
        extension::stop();
    }
    shmem::doing(Doing::Housekeeping, None);
    BackgroundWorker::transaction(AssertUnwindSafe(|| {
        if !extension::hold() {
            extension::leave();
        }
        work()
    }))
}

/// Makes the present transaction refuse whatever somebody has locked instead of waiting for it.
pub fn wait_for_nobody() -> SpiResult<()> {
    const QUICK: &str = "SELECT pg_catalog.set_config('lock_timeout', '50ms', true)";
    select(QUICK, &[], |_| Ok(())).map(|_| ())
}

/// Makes the present transaction's commit wait until it is safe on disk.
pub fn commit_durably() -> SpiResult<()> {
    const DURABLY: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'on', true)";
    execute(DURABLY, &[]).map(|_| ())
}

/// Runs a statement that only reads, and returns its rows.
#[allow(clippy::disallowed_methods, reason = "the one place that runs SQL")]
fn select<T>(
    sql: &str,
    args: &[DatumWithOid],
    mut row: impl FnMut(&SpiHeapTupleData) -> SpiResult<T>,
) -> SpiResult<Vec<T>> {
    Spi::connect(|client| {
        let known = READING.with_borrow(|known| known.get(sql).cloned());
        let statement = match known {
            Some(statement) => statement,
            None => keep(&READING, sql, client.prepare(sql, &types(args))?.keep()),
        };
        client
            .select(&*statement, None, args)?
            .map(|tuple| row(&tuple))
            .collect()
    })
}

/// Returns the first column of the first row of a statement that only reads. `None`: there is no
/// row, or the value is NULL.
fn scalar<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid]) -> SpiResult<Option<T>> {
    let rows = select(sql, args, |row| row.get::<T>(1))?;
    Ok(rows.into_iter().next().flatten())
}

/// Runs a statement that writes, and returns how many rows it touched.
#[allow(clippy::disallowed_methods, reason = "the one place that runs SQL")]
fn execute(sql: &str, args: &[DatumWithOid]) -> SpiResult<usize> {
    Spi::connect_mut(|client| {
        let known = WRITING.with_borrow(|known| known.get(sql).cloned());
        let statement = match known {
            Some(statement) => statement,
            None => keep(&WRITING, sql, client.prepare_mut(sql, &types(args))?.keep()),
        };
        Ok(client.update(&*statement, None, args)?.len())
    })
}

/// Runs a statement that writes, and returns the rows that it returns.
#[allow(clippy::disallowed_methods, reason = "the one place that runs SQL")]
fn returned<T>(
    sql: &str,
    args: &[DatumWithOid],
    mut row: impl FnMut(&SpiHeapTupleData) -> SpiResult<T>,
) -> SpiResult<Vec<T>> {
    Spi::connect_mut(|client| {
        let known = WRITING.with_borrow(|known| known.get(sql).cloned());
        let statement = match known {
            Some(statement) => statement,
            None => keep(&WRITING, sql, client.prepare_mut(sql, &types(args))?.keep()),
        };
        client
            .update(&*statement, None, args)?
            .map(|tuple| row(&tuple))
            .collect()
    })
}

fn types(args: &[DatumWithOid]) -> Vec<PgOid> {
    args.iter().map(|arg| PgOid::from(arg.oid())).collect()
}

fn keep(
    statements: &'static std::thread::LocalKey<
        RefCell<HashMap<String, Rc<OwnedPreparedStatement>>>,
    >,
    sql: &str,
    statement: OwnedPreparedStatement,
) -> Rc<OwnedPreparedStatement> {
    let statement = Rc::new(statement);
    statements.with_borrow_mut(|known| {
        if known.len() >= MOST_STATEMENTS {
            known.clear();
        }
        known.insert(sql.to_owned(), statement.clone());
    });
    statement
}
