//! Checks the condition of a backfill where the person who wrote it can see what is wrong.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::store::{jobs::backfills, sources};

/// Refuses what is no condition on the rows of a tracked table. It is planned, not run, with the
/// rights of the table's owner, as the worker will run it.
#[pg_extern]
fn _check_filter(source: pg_sys::Oid, filter: &str) -> Result<(), ErrorReport> {
    sources::must_own(source).map_err(Error::Spi)?;
    let source = sources::load()
        .map_err(Error::Spi)?
        .into_iter()
        .find(|known| known.oid == source)
        .ok_or_else(|| Error::NotTracked(format!("oid {}", source.to_u32())))?;
    backfills::check_filter(&source, filter).map_err(|refusal| {
        let why = refusal.into_error();
        ErrorReport::new(why.code, format!("the filter cannot be used: {}", why.message), "integration")
            .set_hint(format!(
                "It is a SQL condition on the columns of {}, such as: created_at > '2026-01-01'. Functions, types and tables outside pg_catalog need their schema.",
                source.name
            ))
    })
}
