//! Waiting until there is nothing left to send.

use std::time::Duration;

use integration_engine::record::Target;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::latch::{self, Woken};
use crate::pg::clock;

const IDLE: &str = "\
    SELECT NOT EXISTS (SELECT FROM integration._change c WHERE $1::int2 IS NULL OR c.targets & (1 << ($1 - 1)) <> 0) \
       AND NOT EXISTS (SELECT FROM integration._retry r WHERE $1::int2 IS NULL OR r.target = $1) \
       AND NOT EXISTS (SELECT FROM integration._backfill b JOIN integration.job j ON j.id = b.job \
                       WHERE ($1::int2 IS NULL OR b.target = $1) AND b.stage <> 'finished' AND j.state IN ('waiting', 'running', 'paused')) \
       AND NOT EXISTS (SELECT FROM integration._reconcile r JOIN integration.job j ON j.id = r.job \
                       WHERE ($1::int2 IS NULL OR r.target = $1) AND j.state IN ('waiting', 'running', 'paused')) \
       AND NOT EXISTS (SELECT FROM integration._poll p JOIN integration.job j ON j.id = p.job \
                       WHERE ($1::int2 IS NULL OR $1 = 2) AND j.state IN ('waiting', 'running', 'paused')) \
       AND NOT EXISTS (SELECT FROM integration._erasure e JOIN integration.job j ON j.id = e.job \
                       WHERE j.state IN ('waiting', 'running', 'paused') \
                         AND ($1::int2 IS NULL OR NOT e.begun OR EXISTS (SELECT FROM integration._erasure_call c WHERE c.job = e.job AND c.target = $1))) \
       AND NOT EXISTS (SELECT FROM integration._association a WHERE a.state = 'pending' AND ($1::int2 IS NULL OR $1 = 1)) \
       AND NOT EXISTS (SELECT FROM integration.inbox i WHERE i.state = 'pending')";

const ISOLATED: &str = "SELECT pg_catalog.current_setting('transaction_isolation') IN ('repeatable read', 'serializable')";

/// NULL: not yet.
const SETTLED: &str = "\
    SELECT CASE WHEN pg_catalog.bool_or(s.state = 'dead') THEN false \
                WHEN pg_catalog.bool_and(s.state IN ('synced', 'no_consent', 'untracked', 'withheld')) THEN true END \
    FROM integration._do_sync_status($1::pg_catalog.regclass, $2) s";

/// Waits until everything queued has been settled, every backfill, comparison, poll and erasure done
/// and every imported event applied: `true`; or until the time is over: `false`.
#[pg_extern(security_definer)]
fn wait_idle(
    wait: default!(Interval, "'30s'"),
    target: default!(Option<&str>, "NULL"),
) -> Result<bool, ErrorReport> {
    let target = match target {
        Some(name) => Some(
            Target::from_name(name)
                .ok_or_else(|| Error::UnknownTarget(name.to_owned()))?
                .number(),
        ),
        None => None,
    };
    if !latch::preloaded() {
        return Err(Error::NotPreloaded.into());
    }
    wait_until(wait, || {
        let idle = ask::<bool>(IDLE, &[target.into()])?;
        Ok((idle == Some(true)).then_some(true))
    })
}

/// Waits until what was committed of a record has arrived wherever it is sent: `true`; `false` when
/// it is a dead letter, or the time is over.
#[pg_extern]
fn _wait_settled(source: pg_sys::Oid, key: &str, wait: Interval) -> Result<bool, ErrorReport> {
    if !latch::preloaded() {
        return Err(Error::NotPreloaded.into());
    }
    if ask::<bool>(ISOLATED, &[])? == Some(true) {
        return Err(Error::Isolated.into());
    }
    wait_until(wait, || ask::<bool>(SETTLED, &[source.into(), key.into()]))
}

fn ask<T: FromDatum + IntoDatum>(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>, ErrorReport> {
    // It takes a new snapshot each time, as a volatile function may.
    Spi::get_one_with_args::<T>(sql, arguments).map_err(|why| Error::Spi(why).into())
}

/// Asks again and again until there is an answer, or the time is over: `false`.
fn wait_until(
    wait: Interval,
    mut answer: impl FnMut() -> Result<Option<bool>, ErrorReport>,
) -> Result<bool, ErrorReport> {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(0);
    let deadline = clock::now().instant + Duration::from_micros(micros.min(86_400_000_000));
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = answer()? {
            return Ok(answer);
        }
        let left = deadline.saturating_duration_since(clock::now().instant);
        if left.is_zero() || latch::wait(None, Some(pause.min(left))) == Woken::Stop {
            return Ok(false);
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
