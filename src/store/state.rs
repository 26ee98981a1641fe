//! Small tables: target states, pauses, alerts, jobs, retention.

use std::time::Duration;

use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use super::{consent::audiences, execute, holds, inbound::inbox, select, server::copies};

/// A target that somebody paused.
pub struct Pause {
    pub target: Target,
    pub reason: Option<String>,
}

pub fn pauses() -> SpiResult<Vec<Pause>> {
    let rows = select(
        "SELECT p.target, p.reason FROM integration._pause p",
        &[],
        |row| {
            let target = row
                .get::<String>(1)?
                .and_then(|name| Target::from_name(&name));
            Ok(target.map(|target| (target, row.get::<String>(2))))
        },
    )?;
    rows.into_iter()
        .flatten()
        .map(|(target, reason)| {
            Ok(Pause {
                target,
                reason: reason?,
            })
        })
        .collect()
}

/// Returns a target's state and reason, as people see them.
pub fn told(target: Target) -> SpiResult<Option<(String, String)>> {
    let sql =
        "SELECT s.state, coalesce(s.reason, '') FROM integration.status s WHERE s.target = $1";
    let rows = select(sql, &[target.name().into()], |row| {
        Ok(row.get::<String>(1)?.zip(row.get::<String>(2)?))
    })?;
    Ok(rows.into_iter().flatten().next())
}

/// Returns the messages of a target's open alerts of some kinds.
pub fn alerts(target: Target, kinds: &[&str]) -> SpiResult<Vec<String>> {
    let sql = "SELECT a.message FROM integration.alert a \
        WHERE a.target = $1 AND a.kind = ANY ($2) AND a.cleared_at IS NULL ORDER BY a.id";
    let kinds: Vec<&str> = kinds.to_vec();
    let rows = select(sql, &[target.name().into(), kinds.into()], |row| {
        row.get::<String>(1)
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Returns the targets that a guard stopped.
pub fn guarded() -> SpiResult<Vec<Target>> {
    let rows = select(
        "SELECT s.target FROM integration._target_state s WHERE s.guarded",
        &[],
        |row| {
            let target = row
                .get::<String>(1)?
                .and_then(|name| Target::from_name(&name));
            Ok(target)
        },
    )?;
    Ok(rows.into_iter().flatten().collect())
}

const PUT_STATE: &str = "\
    INSERT INTO integration._target_state AS s (target, state, reason, guarded) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (target) DO UPDATE SET state = excluded.state, reason = excluded.reason, guarded = excluded.guarded, \
    since = CASE WHEN s.state = excluded.state THEN s.since ELSE pg_catalog.clock_timestamp() END";

/// Stores a target's state. `guarded`: a guard stopped it.
pub fn put_state(
    target: Target,
    state: &str,
    reason: Option<&str>,
    guarded: bool,
) -> SpiResult<()> {
    let args = [
        target.name().into(),
        state.into(),
        reason.into(),
        guarded.into(),
    ];
    execute(PUT_STATE, &args).map(|_| ())
}

const RAISE: &str = "\
    INSERT INTO integration.alert AS a (kind, target, subject, message) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (kind, target, subject) WHERE cleared_at IS NULL \
    DO UPDATE SET message = excluded.message, last_seen_at = pg_catalog.clock_timestamp(), count = a.count + 1";

/// Raises an alert, or counts it if it is open already. `subject` is the table or column that it is
/// about, so that several of a kind can be open; it is empty where there is at most one.
pub fn raise(kind: &str, target: Target, subject: &str, message: &str) -> SpiResult<()> {
    let args = [
        kind.into(),
        target.name().into(),
        subject.into(),
        message.into(),
    ];
    execute(RAISE, &args).map(|_| ())
}

const CLEAR: &str = "\
    UPDATE integration.alert a SET cleared_at = pg_catalog.clock_timestamp() \
    WHERE a.target = $1 AND a.cleared_at IS NULL AND NOT (a.kind = ANY ($2))";

/// A consent column contains words with an unknown meaning.
pub const CONSENT_WORDS: &str = "consent_words";

/// Kinds of alerts that do not depend on the target's state.
const LASTING: [&str; 12] = [
    CONSENT_WORDS,
    copies::ENVIRONMENT_ALERT,
    inbox::LOSSY_ALERT,
    inbox::FOREIGN_ALERT,
    inbox::FAILED_ALERT,
    inbox::WAITS_ALERT,
    "deprecation",
    "warning",
    "encryption_key",
    audiences::MISSING,
    holds::HELD,
    holds::LEFT_OUT,
];

/// Clears a target's alerts, except those of kinds that still apply.
pub fn clear_alerts(target: Target, but: &[&str]) -> SpiResult<()> {
    let but: Vec<&str> = but.iter().copied().chain(LASTING).collect();
    execute(CLEAR, &[target.name().into(), but.into()]).map(|_| ())
}

// One open alert of a kind collects all remarks. A remark is made once, whether or not the alert is
// still open.
const REMARK: &str = "\
    INSERT INTO integration.alert AS a (kind, target, message, subject, remarks) \
    SELECT $1, $2, $3 || ': ' || $4, $5, ARRAY[$3] \
    WHERE NOT EXISTS (SELECT FROM integration.alert k WHERE k.kind = $1 AND k.target = $2 AND k.subject = $5 AND $3 = ANY (k.remarks)) \
    ON CONFLICT (kind, target, subject) WHERE cleared_at IS NULL \
    DO UPDATE SET message = left(a.message || E'\\n' || excluded.message, 10000), remarks = a.remarks || excluded.remarks, last_seen_at = pg_catalog.clock_timestamp(), count = a.count + 1";

/// Raises an alert about something, once.
pub fn remark(kind: &str, target: Target, about: &str, text: &str) -> SpiResult<()> {
    remark_of(kind, target, "", about, text)
}

/// The same, about a table or column.
pub fn remark_of(
    kind: &str,
    target: Target,
    subject: &str,
    about: &str,
    text: &str,
) -> SpiResult<()> {
    let args = [
        kind.into(),
        target.name().into(),
        about.into(),
        text.into(),
        subject.into(),
    ];
    execute(REMARK, &args).map(|_| ())
}

const CLEAR_ONE: &str = "\
    UPDATE integration.alert a SET cleared_at = pg_catalog.clock_timestamp() \
    WHERE a.target = $1 AND a.kind = $2 AND a.subject = $3 AND a.cleared_at IS NULL";

/// Clears a target's alert of one kind about a subject.
pub fn clear_alert(target: Target, kind: &str, subject: &str) -> SpiResult<()> {
    let args = [target.name().into(), kind.into(), subject.into()];
    execute(CLEAR_ONE, &args).map(|_| ())
}

/// A job that waits to be begun, or was under way when the worker ended.
pub struct Job {
    pub id: i64,
    pub kind: String,
    /// `None`: for all of them.
    pub target: Option<Target>,
}

pub fn open_jobs() -> SpiResult<Vec<Job>> {
    select(
        "SELECT j.id, j.kind, j.args ->> 'target' FROM integration.job j WHERE j.state IN ('waiting', 'running') ORDER BY j.id",
        &[],
        |row| {
            Ok(Job {
                id: row.get(1)?.unwrap_or(0),
                kind: row.get(2)?.unwrap_or_default(),
                target: row
                    .get::<String>(3)?
                    .and_then(|name| Target::from_name(&name)),
            })
        },
    )
}

const JOB_PROGRESS: &str = "\
    UPDATE integration.job j SET state = 'running', done = $2, total = $3, started_at = coalesce(j.started_at, pg_catalog.clock_timestamp()) WHERE j.id = $1";

pub fn job_progress(id: i64, done: i64, total: i64) -> SpiResult<()> {
    execute(JOB_PROGRESS, &[id.into(), done.into(), total.into()]).map(|_| ())
}

const JOB_END: &str = "\
    UPDATE integration.job j SET state = CASE WHEN $2::text IS NULL THEN 'done' ELSE 'failed' END, error = $2, \
    started_at = coalesce(j.started_at, pg_catalog.clock_timestamp()), finished_at = pg_catalog.clock_timestamp() WHERE j.id = $1";

/// Ends a job; `error` says why it failed.
pub fn end_job(id: i64, error: Option<&str>) -> SpiResult<()> {
    execute(JOB_END, &[id.into(), error.into()]).map(|_| ())
}

const TIDY_LOG: &str = "DELETE FROM integration.request_log r WHERE r.at < pg_catalog.clock_timestamp() - $1 * interval '1 second'";
const TIDY_INBOX: &str = "\
    DELETE FROM integration.inbox i WHERE i.received_at < pg_catalog.clock_timestamp() - $1 * interval '1 second' AND i.state <> 'pending'";

/// How many rows are deleted at once, so that nobody waits long for the transaction.
const TIDY_MOST: i64 = 50_000;

const TIDY_ACTIVITY: &str = "\
    DELETE FROM integration.activity a WHERE a.id IN (SELECT x.id FROM integration.activity x \
    WHERE x.occurred_at < pg_catalog.clock_timestamp() - $1 * interval '1 second' ORDER BY x.occurred_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

// The latest entry about a person stays: it explains why they get mail or not.
const TIDY_CONSENT: &str = "\
    DELETE FROM integration.consent_log c USING (SELECT x.source, x.record_key, x.id FROM integration.consent_log x \
    WHERE x.recorded_at < pg_catalog.clock_timestamp() - $1 * interval '1 second' \
    AND EXISTS (SELECT FROM integration.consent_log y WHERE y.source = x.source AND y.record_key = x.record_key AND y.id > x.id) \
    LIMIT $2 FOR UPDATE SKIP LOCKED) o WHERE c.source = o.source AND c.record_key = o.record_key AND c.id = o.id";

/// Deletes old activity and old entries of the consent log, where they are not kept for ever.
pub fn tidy_people(activity: Option<Duration>, consent_log: Option<Duration>) -> SpiResult<()> {
    for (sql, kept) in [(TIDY_ACTIVITY, activity), (TIDY_CONSENT, consent_log)] {
        if let Some(kept) = kept {
            execute(sql, &[kept.as_secs_f64().into(), TIDY_MOST.into()])?;
        }
    }
    Ok(())
}

/// Deletes what has been kept long enough.
pub fn tidy(request_log: Duration, inbox: Duration) -> SpiResult<()> {
    execute(TIDY_LOG, &[request_log.as_secs_f64().into()])?;
    execute(TIDY_INBOX, &[inbox.as_secs_f64().into()])?;
    Ok(())
}
