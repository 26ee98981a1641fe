//! Connection tests: asking the services who we are.

use std::time::Duration;

use integration_engine::record::Target;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::config;
use crate::error::Error;
use crate::pg::clock::{self, Stopwatch};
use crate::pg::shmem::{self, Wake, Woken};
use crate::store::waiting;

/// A worker that is being started may take this long.
const START: Duration = Duration::from_secs(5);

/// Asks the worker to test the connection to each service, and waits for the result. Only the
/// worker makes requests. It is asked through shared memory, for nothing that this statement writes
/// is visible before it ends.
#[pg_extern(security_definer)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelt out")]
fn test_connection(
    target: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(target, String),
            name!(ok, bool),
            name!(account, Option<String>),
            name!(detail, String),
        ),
    >,
    ErrorReport,
> {
    let targets = match target {
        Some(name) => {
            vec![Target::from_name(name).ok_or_else(|| Error::UnknownTarget(name.to_owned()))?]
        }
        None => Target::ALL.into_iter().collect(),
    };
    if !shmem::preloaded() {
        return Err(Error::NotPreloaded.into());
    }
    if waiting::snapshot_is_kept().map_err(Error::Spi)? {
        return Err(Error::Isolated.into());
    }
    let asked_at = clock::now().timestamp;
    let patience = 3 * config::request_timeout() + START;
    let began = Stopwatch::start();
    let (mut told, mut pause) = (None, Duration::from_millis(1));
    loop {
        let working = ask_worker(&mut told);
        let rows = targets
            .iter()
            .map(|target| waiting::tested(*target, asked_at).map_err(Error::Spi))
            .collect::<Result<Vec<_>, Error>>()?;
        let patience = if working { patience } else { START };
        let left = patience.saturating_sub(began.elapsed());
        if rows.iter().all(Option::is_some) || left.is_zero() {
            let why = no_answer(working);
            let rows = targets.into_iter().zip(rows).map(move |(target, row)| {
                let (ok, account, detail) = row.unwrap_or_else(|| (false, None, why.clone()));
                (target.name().to_owned(), ok, account, detail)
            });
            return Ok(TableIterator::new(rows));
        }
        if shmem::wait(None, Some(pause.min(left))) == Woken::Stop {
            return Ok(TableIterator::new(Vec::new()));
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Makes the worker test the connections, each worker once. Returns whether there is one.
fn ask_worker(told: &mut Option<i32>) -> bool {
    let slot = shmem::claim_slot();
    let worker = slot.and_then(|slot| Some((slot, slot.worker()?)));
    match worker {
        Some((slot, pid)) if *told != Some(pid) => {
            slot.wake(Wake::TEST);
            *told = Some(pid);
        }
        None if config::wants_my_database() => {
            slot.into_iter().for_each(shmem::Slot::call);
        }
        _ => {}
    }
    worker.is_some()
}

fn no_answer(working: bool) -> String {
    if working {
        return "the worker has not answered in time; look at integration.status and the server's log".to_owned();
    }
    if config::wants_my_database() {
        "no worker is running in this database; look at the server's log, or call SELECT integration.reload();".to_owned()
    } else {
        "integration.databases does not name this database, so no worker runs in it".to_owned()
    }
}
