//! Storing credentials.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::config;
use crate::error::Error;
use crate::pg::statement;
use crate::secret::Secret;
use crate::store::server::secrets;

/// Keeps a credential sealed in the database. It takes precedence over the setting of the same
/// name, from the commit on. NULL removes it.
#[pg_extern(security_definer)]
fn set_secret(name: &str, value: Option<&str>) -> Result<(), ErrorReport> {
    if let Some(value) = value {
        statement::hide(value);
    }
    let name = name.trim();
    let name = name.strip_prefix("integration.").unwrap_or(name);
    if !config::stored_secrets().any(|known| known == name) {
        // Perhaps the arguments changed places.
        statement::hide(name);
        return Err(Error::UnknownSecret(config::stored_secrets().collect()).into());
    }
    match value.map(str::trim) {
        None => secrets::forget(name).map_err(Error::Spi)?,
        Some("") => return Err(Error::EmptySecret.into()),
        Some(value) if Secret::is_reference(value) => return Err(Error::ReferenceAsSecret.into()),
        Some(value) => secrets::keep(name, value)
            .map_err(Error::Setting)?
            .map_err(Error::Spi)?,
    }
    super::internal::wake();
    Ok(())
}
