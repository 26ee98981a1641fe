//! What SQL functions that wait look at again and again. Each look takes a new snapshot, as a
//! volatile function may.

use integration_engine::record::{Target, Timestamp};
use pgrx::pg_sys;
use pgrx::spi::SpiResult;

use super::returned;

const SNAPSHOT_IS_KEPT: &str = "SELECT pg_catalog.current_setting('transaction_isolation') IN ('repeatable read', 'serializable')";

/// Returns whether the transaction sees nothing that others commit from now on.
pub fn snapshot_is_kept() -> SpiResult<bool> {
    let kept = returned(SNAPSHOT_IS_KEPT, &[], |row| row.get::<bool>(1))?;
    Ok(kept.into_iter().flatten().any(|kept| kept))
}

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

/// Returns whether nothing is left to do, for one target or for all, and no event is left to apply.
pub fn is_idle(target: Option<Target>) -> SpiResult<bool> {
    let idle = returned(IDLE, &[target.map(Target::number).into()], |row| {
        row.get::<bool>(1)
    })?;
    Ok(idle.into_iter().flatten().any(|idle| idle))
}

const SETTLED: &str = "\
    SELECT CASE WHEN pg_catalog.bool_or(s.state = 'dead') THEN false \
                WHEN pg_catalog.bool_and(s.state IN ('synced', 'no_consent', 'untracked', 'withheld')) THEN true END \
    FROM integration._do_sync_status($1::pg_catalog.regclass, $2) s";

/// Returns whether a record has arrived wherever it is sent; `false`: it is a dead letter. `None`:
/// not yet.
pub fn settled(source: pg_sys::Oid, key: &str) -> SpiResult<Option<bool>> {
    let settled = returned(SETTLED, &[source.into(), key.into()], |row| {
        row.get::<bool>(1)
    })?;
    Ok(settled.into_iter().flatten().next())
}

const TESTED: &str = "\
    SELECT c.ok, c.account, c.detail FROM integration._connection c \
    WHERE c.target = $1 AND c.asked_at >= pg_catalog.to_timestamp($2 / 1000.0)";

/// The result of a connection test: whether the service accepts us, as which account, and details.
pub type Tested = (bool, Option<String>, String);

/// Returns the result of a connection test that began after this moment.
pub fn tested(target: Target, asked_at: Timestamp) -> SpiResult<Option<Tested>> {
    let args = [target.name().into(), (asked_at.0 as f64).into()];
    let found = returned(TESTED, &args, |row| {
        Ok((
            row.get::<bool>(1)?.unwrap_or(false),
            row.get::<String>(2)?,
            row.get::<String>(3)?.unwrap_or_default(),
        ))
    })?;
    Ok(found.into_iter().next())
}
