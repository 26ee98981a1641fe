//! Keys that secrets in tables are sealed with.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use integration_engine::crypto::seal::{NONCE, SealKey};
use pgrx::prelude::*;
use zeroize::Zeroizing;

use crate::config;
use crate::secret::Secret;

/// The file is in the data directory, the working directory of every server process. A base backup
/// includes it, a dump does not.
const KEY_FILE: &str = "integration.key";

/// How many bytes a generated key has.
const KEY: usize = 32;

/// Returns the key of `integration.encryption_key`.
fn configured_key() -> Result<SealKey, String> {
    let key = config::encryption_key()?.ok_or("integration.encryption_key is not set")?;
    SealKey::from_text(key.reveal()).map_err(|why| format!("integration.encryption_key: {why}"))
}

/// Returns the key to seal with: the configured one or, where none is, that of the key file, which
/// is created if there is none yet.
fn key() -> Result<SealKey, String> {
    if config::encryption_key()?.is_some() {
        return configured_key();
    }
    if let Some(key) = filed_key()? {
        return Ok(key);
    }
    make_key_file()
        .map_err(|why| format!("{KEY_FILE} cannot be written to the data directory: {why}"))?;
    filed_key()?.ok_or_else(|| format!("{KEY_FILE} is gone from the data directory"))
}

/// Returns the keys with which something may have been sealed: the configured one may have been set
/// later. A key's fault is reported only if no other key opens it.
pub fn keys() -> Vec<Result<SealKey, String>> {
    let configured = config::encryption_key()
        .and_then(|key| key.map(|_| configured_key()).transpose())
        .transpose();
    configured
        .into_iter()
        .chain(filed_key().transpose())
        .collect()
}

/// Opens what one of the keys has sealed.
pub fn open(
    keys: &[Result<SealKey, String>],
    context: &str,
    sealed: &[u8],
) -> Result<Secret, String> {
    let opened = keys
        .iter()
        .flatten()
        .find_map(|key| key.open(context, sealed).ok());
    opened.map(Secret::of).ok_or_else(|| {
        let wrong = keys.iter().find_map(|key| key.as_ref().err());
        wrong
            .cloned()
            .unwrap_or_else(|| "it was sealed with a key that is not here".to_owned())
    })
}

fn filed_key() -> Result<Option<SealKey>, String> {
    let text = match fs::read_to_string(KEY_FILE) {
        Ok(text) => Secret::of(text),
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        Err(why) => {
            return Err(format!(
                "{KEY_FILE} in the data directory cannot be read: {why}"
            ));
        }
    };
    let key = SealKey::from_text(text.reveal());
    key.map(Some)
        .map_err(|why| format!("{KEY_FILE} in the data directory: {why}"))
}

/// Creates the key file, whole or not at all; if another process is faster, that one's key counts.
fn make_key_file() -> std::io::Result<()> {
    let mut bytes = Zeroizing::new([0; KEY]);
    fill_randomly(&mut *bytes).map_err(std::io::Error::other)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = Secret::of(text + "\n");
    let draft = format!("{KEY_FILE}.{}", std::process::id());
    let written =
        write_draft(&draft, text.reveal()).and_then(|()| match fs::hard_link(&draft, KEY_FILE) {
            Err(why) if why.kind() != ErrorKind::AlreadyExists => Err(why),
            linked => Ok(linked.is_ok()),
        });
    // The outcome does not matter.
    let _ = fs::remove_file(&draft);
    let made = written?;
    File::open(".")?.sync_all()?;
    if made {
        ereport!(
            NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("a key for stored secrets was made: {KEY_FILE} in the data directory"),
            "Base backups carry it, dumps and pg_upgrade do not. Copy it to standbys that exist already, or set integration.encryption_key."
        );
    }
    Ok(())
}

fn write_draft(draft: &str, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Seals a secret for a table. Opening it takes the same context.
pub fn seal(context: &str, secret: &str) -> Result<Vec<u8>, String> {
    key()?
        .seal(nonce()?, context, secret)
        .map_err(|why| why.to_string())
}

/// Returns why secrets cannot be sealed.
pub fn lacks_key() -> Option<String> {
    key().err()
}

/// Returns a number that is used once.
fn nonce() -> Result<[u8; NONCE], String> {
    let mut nonce = [0; NONCE];
    fill_randomly(&mut nonce)?;
    Ok(nonce)
}

fn fill_randomly(bytes: &mut [u8]) -> Result<(), String> {
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_| "no random numbers".to_owned())
}
