//! Waiting until there is nothing left to send.

use std::time::Duration;

use integration_engine::record::Target;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiResult;

use crate::error::Error;
use crate::pg::clock;
use crate::pg::shmem::{self, Woken};
use crate::store::waiting;

/// Waits until everything queued has been settled, every backfill, comparison, poll and erasure is
/// done and every imported event applied. Returns `false` if the time is over first.
#[pg_extern(security_definer)]
fn wait_idle(
    wait: default!(Interval, "'30s'"),
    target: default!(Option<&str>, "NULL"),
) -> Result<bool, ErrorReport> {
    let target = match target {
        Some(name) => {
            Some(Target::from_name(name).ok_or_else(|| Error::UnknownTarget(name.to_owned()))?)
        }
        None => None,
    };
    if !shmem::preloaded() {
        return Err(Error::NotPreloaded.into());
    }
    wait_until(wait, || {
        let idle = waiting::is_idle(target)?;
        Ok(idle.then_some(true))
    })
}

/// Waits until what was committed of a record has arrived wherever it is sent. Returns `false` if
/// it is a dead letter, or the time is over first.
#[pg_extern]
fn _wait_settled(source: pg_sys::Oid, key: &str, wait: Interval) -> Result<bool, ErrorReport> {
    if !shmem::preloaded() {
        return Err(Error::NotPreloaded.into());
    }
    if waiting::snapshot_is_kept().map_err(Error::Spi)? {
        return Err(Error::Isolated.into());
    }
    wait_until(wait, || waiting::settled(source, key))
}

/// Asks repeatedly until there is an answer. Returns `false` if the time is over first.
fn wait_until(
    wait: Interval,
    mut answer: impl FnMut() -> SpiResult<Option<bool>>,
) -> Result<bool, ErrorReport> {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(0);
    let deadline = clock::now().instant + Duration::from_micros(micros.min(86_400_000_000));
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = answer().map_err(Error::Spi)? {
            return Ok(answer);
        }
        let left = deadline.saturating_duration_since(clock::now().instant);
        if left.is_zero() || shmem::wait(None, Some(pause.min(left))) == Woken::Stop {
            return Ok(false);
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
