//! Functions that the extension's own SQL calls.

use integration_engine::record::{Lane, SourceId, Target, keys};
use integration_engine::sync::clock::{FieldClock, Writer};
use integration_hubspot::objects;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::config::Settings;
use crate::error::Error;
use crate::pg::shmem::{self, Wake};
use crate::store::server::secrets;
use crate::{capture, config, services};

/// Returns the keys packed into a queue row.
#[pg_extern(immutable, parallel_safe)]
fn _unpack_keys(keys: &[u8]) -> SetOfIterator<'static, String> {
    let unpacked: Vec<String> = keys::iter(keys)
        .filter_map(Result::ok)
        .map(str::to_owned)
        .collect();
    SetOfIterator::new(unpacked)
}

/// Returns the field clock stored with a link.
#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelt out")]
fn _unpack_clock(
    clock: &[u8],
) -> TableIterator<
    'static,
    (
        name!(field, i16),
        name!(hash, String),
        name!(at, TimestampWithTimeZone),
        name!(writer, &'static str),
    ),
> {
    let clock = FieldClock::unpack(clock);
    let rows: Vec<_> = clock
        .ticks()
        .iter()
        .map(|tick| {
            let at = to_timestamp(tick.at.0 as f64 / 1_000.0);
            (
                tick.field.0,
                format!("{:016x}", tick.hash.0),
                at,
                if tick.by == Writer::Crm {
                    "crm"
                } else {
                    "remote"
                },
            )
        })
        .collect();
    TableIterator::new(rows)
}

/// Returns a record key as it is stored: if it has several columns, a JSON array without blanks
/// between its parts.
#[pg_extern(immutable, parallel_safe)]
fn _stored_key(columns: i32, key: &str) -> String {
    match serde_json::from_str::<Vec<String>>(key) {
        Ok(parts) if columns > 1 => serde_json::Value::from(parts).to_string(),
        _ => key.to_owned(),
    }
}

/// Whether a column of records of one kind can name their parents of another.
#[pg_extern(immutable, parallel_safe)]
fn _associable(entity: &str, to_entity: &str) -> bool {
    match (services::entity(entity), services::entity(to_entity)) {
        (Some(from), Some(to)) => objects::associations(from, to).is_some(),
        _ => false,
    }
}

/// Returns the name of this installation, with `env:` resolved.
#[pg_extern(stable)]
fn _environment() -> String {
    config::environment()
}

/// Returns whether the library was loaded through `shared_preload_libraries`.
#[pg_extern(stable)]
fn _preloaded() -> bool {
    shmem::preloaded()
}

/// Returns what a target lacks before anything can be sent to it; NULL: nothing.
#[pg_extern(volatile)]
fn _lacks(target: &str) -> Result<Option<String>, ErrorReport> {
    let Some(target) = Target::from_name(target) else {
        return Ok(None);
    };
    let settings = Settings::read(&secrets::load().map_err(Error::Spi)?);
    Ok(settings.endpoint(target).err().map(str::to_owned))
}

/// Makes the worker look at configuration, pauses and jobs once this transaction commits; starts it
/// if there is none.
#[pg_extern]
fn _wake() {
    wake();
}

/// The same, for the functions here.
pub fn wake() {
    if config::wants_my_database() {
        capture::launch_at_commit();
        capture::tell_at_commit(Wake::CONFIG);
    }
}

/// Makes every session read again what the capture triggers of a table watch.
#[pg_extern]
fn _forget_plan(relation: pg_sys::Oid) {
    capture::forget_plan(relation);
}

/// Queues records of a source again.
#[pg_extern]
fn _enqueue(target: &str, source: i32, keys: Vec<String>) -> Result<(), ErrorReport> {
    let target =
        Target::from_name(target).ok_or_else(|| Error::UnknownTarget(target.to_owned()))?;
    capture::enqueue(
        target,
        SourceId(source),
        Lane::Live,
        keys.iter().map(String::as_str),
    );
    capture::tell_at_commit(Wake::CONFIG);
    Ok(())
}
