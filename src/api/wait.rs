//! Waiting until there is nothing left to send.

use std::time::{Duration, Instant};

use integration_engine::record::Target;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::latch::{self, Woken};

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

/// Waits until everything queued has been settled, every backfill, comparison, poll and erasure done
/// and every imported event applied: `true`; or until the time is over: `false`.
#[pg_extern]
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
    let deadline = Instant::now()
        + Duration::from_micros(
            u64::try_from(wait.as_micros())
                .unwrap_or(0)
                .min(86_400_000_000),
        );
    let mut pause = Duration::from_millis(1);
    loop {
        // `get_one` takes a new snapshot each time, as a volatile function may.
        let idle = Spi::get_one_with_args::<bool>(IDLE, &[target.into()]).map_err(Error::Spi)?;
        if idle == Some(true) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || latch::wait(None, Some(pause.min(left))) == Woken::Stop {
            return Ok(false);
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
