//! Checking the condition of a backfill where the person who wrote it can see what is wrong.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::pg::fence::Access;
use crate::store::{backfills, sources};

/// Refuses what is no condition on the rows of a tracked table. It is planned, not run, with the
/// rights of the table's owner, as the worker will run it.
#[pg_extern]
fn _check_filter(source: pg_sys::Oid, filter: &str) -> Result<(), ErrorReport> {
    Spi::run_with_args(
        "SELECT integration._must_own($1::pg_catalog.regclass)",
        &[source.into()],
    )
    .map_err(Error::Spi)?;
    let source = sources::load()
        .map_err(Error::Spi)?
        .into_iter()
        .find(|known| known.oid == source)
        .ok_or_else(|| Error::NotTracked(format!("oid {}", source.to_u32())))?;
    let checked = source.run(Access::ReadTable, |opened| {
        let statement = backfills::walk_statement(&source, opened, false, Some(filter));
        // Only a single SELECT can be opened: a filter cannot smuggle in another statement.
        Spi::connect(|client| {
            client
                .open_cursor(statement.as_str(), &[1_i64.into()])
                .fetch(0)
                .map(|_| ())
        })
    });
    checked.map_err(|refusal| {
        let why = refusal.into_error();
        ErrorReport::new(why.code, format!("the filter cannot be used: {}", why.message), "integration")
            .set_hint(format!(
                "It is a SQL condition on the columns of {}, such as: created_at > '2026-01-01'. Functions, types and tables outside pg_catalog need their schema.",
                source.name
            ))
    })
}
