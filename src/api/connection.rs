//! Asking the services who we are.

use std::time::Duration;

use integration_engine::record::Target;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::config;
use crate::error::Error;
use crate::latch::{self, Wake, Woken};
use crate::pg::clock::Stopwatch;

/// A worker that is just being started may take this long.
const START: Duration = Duration::from_secs(5);

/// In whole milliseconds, as the worker notes the beginning of a test.
const NOW: &str = "SELECT floor(1000 * extract(epoch FROM pg_catalog.clock_timestamp()))::float8";
const ISOLATED: &str = "SELECT pg_catalog.current_setting('transaction_isolation') IN ('repeatable read', 'serializable')";
const RESULT: &str = "\
    SELECT c.ok, c.account, c.detail FROM integration._connection c \
    WHERE c.target = $1 AND c.asked_at >= pg_catalog.to_timestamp($2 / 1000.0)";

type Row = (String, bool, Option<String>, String);

/// Has the worker ask each service who we are, and waits for the answer. Requests are the worker's
/// alone: it is asked through shared memory, for nothing that this statement writes can be seen
/// before it ends.
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
    if !latch::preloaded() {
        return Err(Error::NotPreloaded.into());
    }
    if ask::<bool>(ISOLATED)? {
        return Err(Error::Isolated.into());
    }
    let asked_at = ask::<f64>(NOW)?;
    let patience = 3 * config::request_timeout() + START;
    let began = Stopwatch::start();
    let (mut told, mut pause) = (None, Duration::from_millis(1));
    loop {
        let slot = latch::claim_slot();
        let worker = slot.and_then(|slot| Some((slot, slot.worker()?)));
        match worker {
            Some((slot, pid)) if told != Some(pid) => {
                slot.wake(Wake::TEST);
                told = Some(pid);
            }
            None if config::wants_my_database() => {
                slot.into_iter().for_each(latch::Slot::call);
            }
            _ => {}
        }
        let rows = targets
            .iter()
            .map(|target| result(*target, asked_at))
            .collect::<Result<Vec<Option<Row>>, ErrorReport>>()?;
        let patience = if worker.is_some() { patience } else { START };
        let left = patience.saturating_sub(began.elapsed());
        if rows.iter().all(Option::is_some) || left.is_zero() {
            let why = no_answer(worker.is_some());
            let rows = targets.into_iter().zip(rows).map(move |(target, row)| {
                row.unwrap_or_else(|| (target.name().to_owned(), false, None, why.clone()))
            });
            return Ok(TableIterator::new(rows));
        }
        if latch::wait(None, Some(pause.min(left))) == Woken::Stop {
            return Ok(TableIterator::new(Vec::new()));
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn no_answer(working: bool) -> String {
    if working {
        return "the worker has not answered in time; look at integration.status and the server's log".to_owned();
    }
    let database = ask::<String>("SELECT pg_catalog.current_database()::text").unwrap_or_default();
    if config::wants_database(&database) {
        "no worker is running in this database; look at the server's log, or call SELECT integration.reload();".to_owned()
    } else {
        "integration.databases does not name this database, so no worker runs in it".to_owned()
    }
}

fn ask<T: FromDatum + IntoDatum>(sql: &str) -> Result<T, ErrorReport> {
    Spi::get_one::<T>(sql)
        .map_err(Error::Spi)?
        .ok_or_else(|| Error::Internal(format!("no answer to {sql}")).into())
}

/// A result of a test that began after we asked. The snapshot is a new one each time.
fn result(target: Target, asked_at: f64) -> Result<Option<Row>, ErrorReport> {
    let found = Spi::connect_mut(|client| {
        let table = client.update(RESULT, None, &[target.name().into(), asked_at.into()])?;
        let Some(row) = table.into_iter().next() else {
            return Ok(None);
        };
        Ok(Some((
            target.name().to_owned(),
            row.get::<bool>(1)?.unwrap_or(false),
            row.get::<String>(2)?,
            row.get::<String>(3)?.unwrap_or_default(),
        )))
    });
    found.map_err(|why| Error::Spi(why).into())
}
