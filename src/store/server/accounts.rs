//! Accounts, rotated tokens, connection tests.

use std::time::Duration;

use integration_engine::record::{Target, Timestamp};
use pgrx::spi::SpiResult;

use crate::store::{execute, scalar, select};

/// The account that a target's records go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredAccount {
    pub account: String,
    pub time_zone: Option<String>,
    /// Another account that the settings lead to, and that nobody has accepted.
    pub other: Option<String>,
}

pub fn known(target: Target) -> SpiResult<Option<StoredAccount>> {
    let rows = select(
        "SELECT a.account, a.time_zone, a.other FROM integration._account a WHERE a.target = $1",
        &[target.name().into()],
        |row| {
            Ok(StoredAccount {
                account: row.get(1)?.unwrap_or_default(),
                time_zone: row.get(2)?,
                other: row.get(3)?,
            })
        },
    )?;
    Ok(rows.into_iter().next())
}

// A zone that this server does not know is not kept, for it is used in SQL.
const REMEMBER: &str = "\
    INSERT INTO integration._account AS a (target, account, detail, time_zone) \
    VALUES ($1, $2, $3, (SELECT z.name FROM pg_catalog.pg_timezone_names z WHERE z.name = $4)) \
    ON CONFLICT (target) DO UPDATE SET detail = excluded.detail, time_zone = excluded.time_zone, other = NULL";

/// Stores the account in use and its details.
pub fn remember(
    target: Target,
    account: &str,
    detail: &str,
    time_zone: Option<&str>,
) -> SpiResult<()> {
    let args = [
        target.name().into(),
        account.into(),
        detail.into(),
        time_zone.into(),
    ];
    execute(REMEMBER, &args).map(|_| ())
}

/// Stores that the settings lead to another account now.
pub fn suspect(target: Target, other: &str) -> SpiResult<()> {
    execute(
        "UPDATE integration._account a SET other = $2 WHERE a.target = $1 AND a.other IS DISTINCT FROM $2",
        &[target.name().into(), other.into()],
    )
    .map(|_| ())
}

const DAY: &str = "\
    SELECT extract(epoch FROM d.local - date_trunc('day', d.local))::float8, \
           extract(epoch FROM (date_trunc('day', d.local) + interval '1 day') AT TIME ZONE $1 - d.now)::float8, \
           to_char(date_trunc('day', d.local) + interval '1 day', 'YYYY-MM-DD HH24:MI') \
    FROM (SELECT n.now, n.now AT TIME ZONE $1 AS local FROM (SELECT pg_catalog.clock_timestamp() AS now) n) d";

/// How far an account is into its day.
pub struct AccountDay {
    pub since_midnight: Duration,
    pub to_midnight: Duration,
    /// The next midnight there, as text.
    pub ends: String,
}

pub fn day(time_zone: &str) -> SpiResult<Option<AccountDay>> {
    let rows = select(DAY, &[time_zone.into()], |row| {
        let span = |seconds: Option<f64>| {
            Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default()
        };
        Ok(AccountDay {
            since_midnight: span(row.get(1)?),
            to_midnight: span(row.get(2)?),
            ends: row.get(3)?.unwrap_or_default(),
        })
    })?;
    Ok(rows.into_iter().next())
}

const REQUESTS_TODAY: &str = "\
    SELECT count(*) FROM integration.request_log r \
    WHERE r.target = $1 AND r.at >= date_trunc('day', pg_catalog.clock_timestamp() AT TIME ZONE $2) AT TIME ZONE $2";

/// Returns how many requests have been answered or given up on since midnight there, as far as the
/// log still has them.
pub fn requests_today(target: Target, time_zone: &str) -> SpiResult<u32> {
    let args = [target.name().into(), time_zone.into()];
    let count = scalar::<i64>(REQUESTS_TODAY, &args)?.unwrap_or(0);
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Returns a refresh token that replaced the one in the settings: the token it descends from
/// (hashed), and itself, sealed.
pub fn rotated(target: Target) -> SpiResult<Option<(String, Vec<u8>)>> {
    let rows = select(
        "SELECT o.seed, o.sealed FROM integration._oauth o WHERE o.target = $1",
        &[target.name().into()],
        |row| Ok(row.get::<String>(1)?.zip(row.get::<Vec<u8>>(2)?)),
    )?;
    Ok(rows.into_iter().flatten().next())
}

const KEEP_ROTATED: &str = "\
    INSERT INTO integration._oauth (target, seed, sealed) VALUES ($1, $2, $3) \
    ON CONFLICT (target) DO UPDATE SET seed = excluded.seed, sealed = excluded.sealed, stored_at = now()";

pub fn keep_rotated(target: Target, seed: &str, sealed: &[u8]) -> SpiResult<()> {
    execute(
        KEEP_ROTATED,
        &[target.name().into(), seed.into(), sealed.into()],
    )
    .map(|_| ())
}

/// The result of a connection test.
pub struct Tested {
    pub target: Target,
    pub asked_at: Timestamp,
    pub ok: bool,
    pub account: Option<String>,
    pub detail: String,
}

const PUT_TESTED: &str = "\
    INSERT INTO integration._connection (target, asked_at, ok, account, detail) \
    VALUES ($1, pg_catalog.to_timestamp($2 / 1000.0), $3, $4, $5) \
    ON CONFLICT (target) DO UPDATE SET asked_at = excluded.asked_at, ok = excluded.ok, account = excluded.account, detail = excluded.detail";

pub fn put_tested(tested: &Tested) -> SpiResult<()> {
    let args = [
        tested.target.name().into(),
        (tested.asked_at.0 as f64).into(),
        tested.ok.into(),
        tested.account.as_deref().into(),
        tested.detail.as_str().into(),
    ];
    execute(PUT_TESTED, &args).map(|_| ())
}
