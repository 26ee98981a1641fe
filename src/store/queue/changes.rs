//! The queue: reading what is new, deleting what is settled, and the retry table.

use std::rc::Rc;

use integration_engine::limits::retry::Retry;
use integration_engine::queue::Run;
use integration_engine::queue::scan::{Position, Snapshot, Window};
use integration_engine::record::once::Once;
use integration_engine::record::{Lane, RecordRef, SourceId, Target, Timestamp, keys};
use pgrx::spi::{SpiHeapTupleData, SpiResult};

use crate::store::{column, execute, record, scalar, select};

/// A stored queue row.
pub struct ChangeRow {
    pub position: Position,
    pub source: SourceId,
    /// How many keys it contains.
    pub records: usize,
    pub keys: Vec<u8>,
    pub op: ChangeOp,
    /// Numbers of the columns that changed, as a bit set; `None`: all of them.
    pub changed: Option<Rc<[u8]>>,
    pub enqueued_at: Timestamp,
}

/// What happened to the rows whose keys a queue row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOp {
    Upsert,
    Delete,
    /// The table was truncated: the keys have to be taken from the links.
    Truncate,
}

const SNAPSHOT: &str = "SELECT pg_catalog.pg_current_snapshot()::text";

/// Which transactions are finished, as the present transaction's snapshot sees it.
pub fn snapshot() -> SpiResult<Option<Snapshot>> {
    let text = select(SNAPSHOT, &[], |row| row.get::<String>(1))?;
    Ok(text
        .into_iter()
        .next()
        .flatten()
        .and_then(|text| Snapshot::parse(&text).ok()))
}

const NEXT: &str = "\
    SELECT c.xid::text, c.seq, c.source, c.keys, c.op::text, (1000 * extract(epoch FROM c.enqueued_at))::int8, c.records, c.changed \
    FROM integration._change c \
    WHERE c.lane = $2 AND (c.xid, c.seq) > ($3::text::xid8, $4) AND c.xid < $5::text::xid8 AND c.targets & $1 <> 0 \
    ORDER BY c.lane, c.xid, c.seq LIMIT $6";

/// Returns the next rows of a window, in order.
pub fn next(target: Target, lane: Lane, window: Window, most: i64) -> SpiResult<Vec<ChangeRow>> {
    let args = [
        bit(target).into(),
        (lane as i16).into(),
        window.after.xid.to_string().into(),
        window.after.seq.into(),
        window.until_xid.to_string().into(),
        most.into(),
    ];
    select(NEXT, &args, change_row)
}

fn change_row(row: &SpiHeapTupleData) -> SpiResult<ChangeRow> {
    let xid: Option<String> = row.get(1)?;
    Ok(ChangeRow {
        position: Position {
            xid: xid.and_then(|xid| xid.parse().ok()).unwrap_or(0),
            seq: row.get(2)?.unwrap_or(0),
        },
        source: SourceId(row.get(3)?.unwrap_or(0)),
        keys: row.get(4)?.unwrap_or_default(),
        op: match row.get::<&str>(5)? {
            Some("t") => ChangeOp::Truncate,
            Some("d") => ChangeOp::Delete,
            _ => ChangeOp::Upsert,
        },
        changed: row.get::<&[u8]>(8)?.map(Rc::from),
        records: row.get::<i32>(7)?.unwrap_or(0).unsigned_abs() as usize,
        enqueued_at: Timestamp(row.get(6)?.unwrap_or(0)),
    })
}

const IN_RUNS: &str = "\
    SELECT f.* FROM unnest($3::text[], $4::int4[], $5::int4[]) AS d(xid, first, last) CROSS JOIN LATERAL ( \
        SELECT c.xid::text, c.seq, c.source, c.keys, c.op::text, (1000 * extract(epoch FROM c.enqueued_at))::int8, c.records, c.changed \
        FROM integration._change c \
        WHERE c.lane = $2 AND c.xid = d.xid::xid8 AND c.seq BETWEEN d.first AND d.last AND c.targets & $1 <> 0 \
        ORDER BY c.lane, c.xid, c.seq OFFSET 0) AS f";

/// Returns those of the rows that were passed over before which are still there.
pub fn in_runs(target: Target, lane: Lane, runs: &[Run]) -> SpiResult<Vec<ChangeRow>> {
    let args = [
        bit(target).into(),
        (lane as i16).into(),
        column(runs, |run| run.xid.to_string()),
        column(runs, |run| run.first),
        column(runs, |run| run.last),
    ];
    select(IN_RUNS, &args, change_row)
}

/// One index look-up a row, whatever the planner believes of the table (OFFSET 0 is the fence).
macro_rules! rows_named {
    () => {
        "c.ctid = ANY (ARRAY(SELECT f.ctid FROM unnest($3::text[], $4::int4[]) AS d(xid, seq) CROSS JOIN LATERAL \
         (SELECT x.ctid FROM integration._change x WHERE x.lane = $2 AND x.xid = d.xid::xid8 AND x.seq = d.seq OFFSET 0) AS f))"
    };
}

const DELETE: &str = concat!(
    "DELETE FROM integration._change c WHERE c.targets = $1 AND ",
    rows_named!()
);
const TICK_OFF: &str = concat!(
    "UPDATE integration._change c SET targets = c.targets & ~$1 WHERE ",
    rows_named!()
);

/// Settles rows of a lane for a target: they are deleted, or ticked off if another target still
/// needs them.
pub fn settle(target: Target, lane: Lane, rows: &[Position]) -> SpiResult<()> {
    if !rows.is_empty() {
        let args = [
            bit(target).into(),
            (lane as i16).into(),
            column(rows, |row| row.xid.to_string()),
            column(rows, |row| row.seq),
        ];
        if execute(DELETE, &args)? < rows.len() {
            execute(TICK_OFF, &args)?;
        }
    }
    Ok(())
}

/// Returns a target's bit in `_change.targets`.
pub const fn bit(target: Target) -> i16 {
    1 << (target.number() - 1)
}

/// What was in the queue when the worker began.
pub struct Heritage {
    /// Keys.
    pub count: i64,
    /// When the latest of its changes was made.
    pub latest: Timestamp,
}

const HERITAGE: &str = "\
    SELECT coalesce(sum(c.records), 0)::int8, (1000 * extract(epoch FROM greatest(pg_catalog.clock_timestamp(), max(c.enqueued_at), \
           (SELECT max(r.enqueued_at) FROM integration._retry r WHERE r.target = $2))))::int8 \
    FROM integration._change c WHERE c.targets & $1 <> 0";

/// Looks at what is in the queue. It reads all of it: for the worker's start only. After a
/// fail-over the clock may be behind the times of the changes.
pub fn heritage(target: Target) -> SpiResult<Heritage> {
    let rows = select(
        HERITAGE,
        &[bit(target).into(), target.number().into()],
        |row| {
            Ok(Heritage {
                count: row.get(1)?.unwrap_or(0),
                latest: Timestamp(row.get(2)?.unwrap_or(0)),
            })
        },
    )?;
    Ok(rows.into_iter().next().unwrap_or(Heritage {
        count: 0,
        latest: Timestamp::default(),
    }))
}

const PUT_RETRY: &str = "\
    INSERT INTO integration._retry AS r (target, source, record_key, op, attempts, not_before, last_error, enqueued_at, lane) \
    SELECT $1, n.source, n.key, n.op::\"char\", n.attempts, \
           pg_catalog.clock_timestamp() + n.wait * interval '1 millisecond', n.why, pg_catalog.to_timestamp(n.enqueued_at / 1000.0), n.lane \
    FROM unnest($2::int4[], $3::text[], $4::text[], $5::int4[], $6::int8[], $7::text[], $8::int8[], $9::int2[]) \
         AS n(source, key, op, attempts, wait, why, enqueued_at, lane) \
    ON CONFLICT (target, source, record_key) DO UPDATE \
    SET op = excluded.op, attempts = greatest(r.attempts, excluded.attempts), not_before = excluded.not_before, \
        last_error = excluded.last_error, enqueued_at = least(r.enqueued_at, excluded.enqueued_at), lane = least(r.lane, excluded.lane)";

/// Notes changes that wait for another attempt.
pub fn put_retries(target: Target, retries: &Once<Retry>) -> SpiResult<()> {
    if retries.is_empty() {
        return Ok(());
    }
    let args = [
        target.number().into(),
        column(retries.iter(), |retry| retry.record.source.0),
        column(retries.iter(), |retry| retry.record.key.as_str()),
        column(retries.iter(), |retry| &retry.op.name()[..1]),
        column(retries.iter(), |retry| retry.attempts as i32),
        column(retries.iter(), |retry| retry.wait_ms),
        column(retries.iter(), |retry| retry.why.as_str()),
        column(retries.iter(), |retry| retry.enqueued_at.0),
        column(retries.iter(), |retry| retry.lane as i16),
    ];
    execute(PUT_RETRY, &args).map(|_| ())
}

const DROP_RETRIES: &str = "\
    DELETE FROM integration._retry r WHERE r.ctid = ANY (ARRAY( \
        SELECT f.ctid FROM unnest($2::int4[], $3::text[]) AS d(source, key) CROSS JOIN LATERAL \
        (SELECT x.ctid FROM integration._retry x WHERE x.target = $1 AND x.source = d.source AND x.record_key = d.key OFFSET 0) AS f))";

/// Removes records from the retry table, and returns how many were in it.
pub fn drop_retries(target: Target, records: &[RecordRef]) -> SpiResult<usize> {
    if records.is_empty() {
        return Ok(0);
    }
    execute(
        DROP_RETRIES,
        &[
            target.number().into(),
            column(records, |record| record.source.0),
            column(records, |record| record.key.as_str()),
        ],
    )
}

const RETRY_UNTRIED: &str = "\
    UPDATE integration._retry r SET not_before = pg_catalog.clock_timestamp() WHERE r.target = $1 AND r.attempts = 0";

/// Makes changes due that waited for something other than the end of a back-off.
pub fn retry_untried(target: Target) -> SpiResult<()> {
    execute(RETRY_UNTRIED, &[target.number().into()]).map(|_| ())
}

/// Returns whether a record's change waits for another attempt.
pub fn is_retried(target: Target, record: &RecordRef) -> SpiResult<bool> {
    Ok(scalar::<bool>("SELECT EXISTS (SELECT FROM integration._retry r WHERE r.target = $1 AND r.source = $2 AND r.record_key = $3)",
        &[
            target.number().into(),
            record.source.0.into(),
            record.key.as_str().into(),
        ])?.unwrap_or(false))
}

const SINCE: &str = "\
    SELECT c.keys FROM integration._change c \
    WHERE c.lane <= $5 AND c.source = $2 AND c.targets & $1 <> 0 AND c.enqueued_at >= pg_catalog.to_timestamp($4 / 1000.0) \
      AND pg_catalog.position(c.keys, $3) > 0";

const RETRIED_SINCE: &str = "\
    SELECT EXISTS (SELECT FROM integration._retry r WHERE r.target = $1 AND r.source = $2 AND r.record_key = $3 \
                   AND r.enqueued_at >= pg_catalog.to_timestamp($4 / 1000.0))";

/// Whether a person's change of a record since then waits to be sent, read by the worker or not.
/// Looks through all of the queue's live changes.
pub fn changed_since(target: Target, record: &RecordRef, at: Timestamp) -> SpiResult<bool> {
    let key = record.key.as_str();
    let mut packed = Vec::new();
    keys::push(&mut packed, key);
    let args = [
        bit(target).into(),
        record.source.0.into(),
        packed.into(),
        (at.0 as f64).into(),
        (Lane::Live as i16).into(),
    ];
    let rows = select(SINCE, &args, |row| row.get::<Vec<u8>>(1))?;
    // The bytes may be a part of another key.
    let holds = |packed: &Vec<u8>| keys::iter(packed).any(|found| found == Ok(key));
    if rows.iter().flatten().any(holds) {
        return Ok(true);
    }
    let args = [
        target.number().into(),
        record.source.0.into(),
        key.into(),
        (at.0 as f64).into(),
    ];
    Ok(scalar::<bool>(RETRIED_SINCE, &args)?.unwrap_or(false))
}

/// A retry that is due.
pub struct DueRetry {
    pub record: RecordRef,
    pub attempts: u32,
    pub enqueued_at: Timestamp,
    pub lane: Lane,
}

const DUE: &str = "\
    SELECT r.source, r.record_key, r.attempts, (1000 * extract(epoch FROM r.enqueued_at))::int8, r.lane = 0 \
    FROM integration._retry r WHERE r.target = $1 AND r.not_before <= pg_catalog.clock_timestamp() AND r.lane <= $3 AND NOT r.source = ANY ($4) \
    ORDER BY r.lane, r.not_before LIMIT $2";

/// Returns retries that are due, opt-outs first, up to this lane, and not of the sources named.
pub fn due_retries(target: Target, last: Lane, most: i64, but: &[i32]) -> SpiResult<Vec<DueRetry>> {
    let args = [
        target.number().into(),
        most.into(),
        (last as i16).into(),
        but.to_vec().into(),
    ];
    select(DUE, &args, |row| {
        Ok(DueRetry {
            lane: match row.get(5)?.unwrap_or(false) {
                true => Lane::OptOut,
                false => Lane::Retry,
            },
            record: record(row, 1)?,
            attempts: row.get::<i32>(3)?.unwrap_or(0).unsigned_abs(),
            enqueued_at: Timestamp(row.get(4)?.unwrap_or(0)),
        })
    })
}

/// How many records wait for another attempt, and for how long the next one has to.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryOutlook {
    pub count: i64,
    pub next_in_ms: Option<i64>,
    /// Whether some of them are opt-outs.
    pub opt_outs: bool,
}

const OUTLOOK: &str = "\
    SELECT (SELECT count(*) FROM integration._retry r WHERE r.target = $1), \
           (SELECT (1000 * extract(epoch FROM min(r.not_before) - pg_catalog.clock_timestamp()))::int8 FROM integration._retry r WHERE r.target = $1 AND NOT r.source = ANY ($2)), \
           EXISTS (SELECT FROM integration._retry r WHERE r.target = $1 AND r.lane = 0 AND NOT r.source = ANY ($2))";

/// Counts the retry table, at the worker's start and after retries were noted, without the sources
/// named, which wait for something else.
pub fn retry_outlook(target: Target, but: &[i32]) -> SpiResult<RetryOutlook> {
    let args = [target.number().into(), but.to_vec().into()];
    let rows = select(OUTLOOK, &args, |row| {
        Ok(RetryOutlook {
            count: row.get(1)?.unwrap_or(0),
            next_in_ms: row.get(2)?,
            opt_outs: row.get(3)?.unwrap_or(false),
        })
    })?;
    Ok(rows.into_iter().next().unwrap_or_default())
}
