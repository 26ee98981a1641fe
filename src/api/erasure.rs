//! What `integration.erase()` has to know about the row.

use integration_engine::record::RecordKey;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::store::{crm::people, sources};

/// Returns the e-mail addresses in a contact's row as it is now, read with the rights of the
/// table's owner.
#[pg_extern(volatile)]
fn _addresses(source: pg_sys::Oid, key: &str) -> Result<Vec<String>, ErrorReport> {
    let sources = sources::load().map_err(Error::Spi)?;
    // A table that is no longer tracked has no field map: the links have to do.
    let Some(source) = sources.into_iter().find(|known| known.oid == source) else {
        return Ok(Vec::new());
    };
    let addresses = people::addresses(&source, &RecordKey::from(key)).map_err(Error::Spi)?;
    Ok(addresses.into_iter().collect())
}
