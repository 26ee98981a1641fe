//! Secrets that `integration.set_secret()` keeps, sealed.

use pgrx::spi::SpiResult;

use crate::config::StoredSecrets;
use crate::sealing;
use crate::store::{execute, select};

/// Returns all of them, opened, or why one cannot be opened.
pub fn load() -> SpiResult<StoredSecrets> {
    let sealed = select(
        "SELECT s.name, s.sealed FROM integration._secret s",
        &[],
        |row| {
            let name = row.get::<String>(1)?.unwrap_or_default();
            Ok((name, row.get::<Vec<u8>>(2)?.unwrap_or_default()))
        },
    )?;
    // Most installations have none, and need no key.
    let keys = if sealed.is_empty() {
        Vec::new()
    } else {
        sealing::keys()
    };
    let opened = sealed.into_iter().map(|(name, sealed)| {
        let secret = sealing::open(&keys, &context(&name), &sealed).map_err(|why| {
            format!(
                "the stored secret cannot be opened: {why}; set it again: SELECT integration.set_secret('{name}', '…');"
            )
        });
        (name, secret)
    });
    Ok(opened.collect())
}

/// A secret is sealed for its name and cannot be used under another one.
fn context(name: &str) -> String {
    format!("secret {name}")
}

/// Seals a secret and keeps it.
pub fn keep(name: &str, secret: &str) -> Result<SpiResult<()>, String> {
    let sealed = sealing::seal(&context(name), secret)?;
    const KEEP: &str = "\
        INSERT INTO integration._secret AS s (name, sealed) VALUES ($1, $2) \
        ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, set_at = pg_catalog.now()";
    Ok(execute(KEEP, &[name.into(), sealed.into()]).map(|_| ()))
}

/// Removes a secret, so that the setting counts from now on.
pub fn forget(name: &str) -> SpiResult<()> {
    execute(
        "DELETE FROM integration._secret s WHERE s.name = $1",
        &[name.into()],
    )
    .map(|_| ())
}
