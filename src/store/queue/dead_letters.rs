//! Dead letters, and the request log.

use integration_engine::delivery::settlement::{Attempted, DeadLetter};
use integration_engine::record::{Entity, RecordRef, Target};
use pgrx::spi::SpiResult;

use crate::services;
use crate::store::{column, execute, record, scalar, select};

const INSERT: &str = "\
    INSERT INTO integration.dlq (target, entity, source, record_key, op, category, http_status, error, request, attempts, first_enqueued_at, \
                                 holder_source, holder_key, column_name) \
    SELECT $1, t.entity, t.source, n.key, n.op, n.category, n.status, n.why, n.request::jsonb, n.attempts, pg_catalog.to_timestamp(n.enqueued_at / 1000.0), \
           h.source, CASE WHEN h.source IS NOT NULL THEN n.holder_key END, n.column_name \
    FROM unnest($2::int4[], $3::text[], $4::text[], $5::text[], $6::int4[], $7::text[], $8::text[], $9::int4[], $10::int8[], $11::int4[], $12::text[], $13::text[]) \
         AS n(source, key, op, category, status, why, request, attempts, enqueued_at, holder_source, holder_key, column_name) \
    JOIN integration.tracked_table t ON t.id = n.source LEFT JOIN integration.tracked_table h ON h.id = n.holder_source";

fn holder(letter: &DeadLetter) -> Option<&RecordRef> {
    letter.holder.as_ref()
}

/// Stores dead letters. An earlier one of the same record is superseded.
pub fn insert(target: Target, letters: &[DeadLetter]) -> SpiResult<()> {
    if letters.is_empty() {
        return Ok(());
    }
    supersede_by(target, letters)?;
    let args = [
        target.name().into(),
        column(letters, |letter| letter.record.source.0),
        column(letters, |letter| letter.record.key.as_str()),
        column(letters, |letter| letter.attempted.name()),
        column(letters, |letter| letter.category.name()),
        column(letters, |letter| letter.status.map(i32::from)),
        column(letters, |letter| letter.why.as_str()),
        column(letters, |letter| letter.request.as_deref()),
        column(letters, |letter| letter.attempts as i32),
        column(letters, |letter| letter.enqueued_at.0),
        column(letters, |letter| holder(letter).map(|of| of.source.0)),
        column(letters, |letter| holder(letter).map(|of| of.key.as_str())),
        column(letters, |letter| letter.column.as_deref()),
    ];
    execute(INSERT, &args).map(|_| ())
}

const SUPERSEDE: &str = "\
    UPDATE integration.dlq d SET resolution = 'superseded', resolved_at = pg_catalog.clock_timestamp() \
    WHERE d.ctid = ANY (ARRAY( \
        SELECT f.ctid FROM unnest($2::int4[], $3::text[]) AS n(source, key) CROSS JOIN LATERAL \
        (SELECT x.ctid FROM integration.dlq x WHERE x.source = (SELECT t.source FROM integration.tracked_table t WHERE t.id = n.source) \
         AND x.record_key = n.key AND x.target = $1 AND x.op <> 'associate' AND x.resolution IS NULL OFFSET 0) AS f))";

/// Closes open dead letters of records that have been delivered since, and returns how many there
/// were. [`supersede_associations`] closes those about associations.
pub fn supersede(target: Target, records: &[RecordRef]) -> SpiResult<usize> {
    if records.is_empty() {
        return Ok(0);
    }
    execute(
        SUPERSEDE,
        &[
            target.name().into(),
            column(records, |record| record.source.0),
            column(records, |record| record.key.as_str()),
        ],
    )
}

// A dead letter about consent stays open until the CRM agrees, whatever else is wrong with the row.
const SUPERSEDE_BY: &str = "\
    UPDATE integration.dlq d SET resolution = 'superseded', resolved_at = pg_catalog.clock_timestamp() \
    WHERE d.ctid = ANY (ARRAY( \
        SELECT f.ctid FROM unnest($2::int4[], $3::text[], $4::text[]) AS n(source, key, category) CROSS JOIN LATERAL \
        (SELECT x.ctid FROM integration.dlq x WHERE x.source = (SELECT t.source FROM integration.tracked_table t WHERE t.id = n.source) \
         AND x.record_key = n.key AND x.target = $1 AND x.op <> 'associate' AND x.resolution IS NULL \
         AND (x.category <> 'consent' OR n.category = 'consent') OFFSET 0) AS f))";

/// A record has one open dead letter a target, the latest. Each of its associations has one of its
/// own, see [`supersede_associations`].
fn supersede_by(target: Target, letters: &[DeadLetter]) -> SpiResult<()> {
    let writes = || {
        let all = letters.iter();
        all.filter(|letter| matches!(letter.attempted, Attempted::Write(_)))
    };
    let sources: Vec<i32> = writes().map(|letter| letter.record.source.0).collect();
    if sources.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = writes().map(|letter| letter.record.key.as_str()).collect();
    let categories: Vec<&str> = writes().map(|letter| letter.category.name()).collect();
    let args = [
        target.name().into(),
        sources.into(),
        keys.into(),
        categories.into(),
    ];
    execute(SUPERSEDE_BY, &args).map(|_| ())
}

const SUPERSEDE_ASSOCIATIONS: &str = "\
    UPDATE integration.dlq d SET resolution = 'superseded', resolved_at = pg_catalog.clock_timestamp() \
    WHERE d.ctid = ANY (ARRAY( \
        SELECT f.ctid FROM unnest($1::text[]) AS n(key) CROSS JOIN LATERAL \
        (SELECT x.ctid FROM integration.dlq x \
         WHERE x.source = (SELECT m.source FROM integration.association_map m WHERE m.id = $2) \
         AND x.record_key = n.key AND x.target = 'hubspot' AND x.op = 'associate' AND x.resolution IS NULL \
         AND x.column_name = (SELECT m.column_name FROM integration.association_map m WHERE m.id = $2) OFFSET 0) AS f))";

/// Closes open dead letters about an association of these records that has been made since, is no
/// longer wanted, or has failed anew.
pub fn supersede_associations(association: i32, keys: &[&str]) -> SpiResult<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let args = [keys.to_vec().into(), association.into()];
    execute(SUPERSEDE_ASSOCIATIONS, &args).map(|_| ())
}

/// Selects dead letters whose cause is a missing permission.
pub enum Forbidden {
    Records(Entity),
    Associations,
}

const REQUEUE: &str = "\
    WITH chosen AS ( \
        UPDATE integration.dlq d SET resolution = 'retried', resolved_at = pg_catalog.clock_timestamp() \
        WHERE d.id IN (SELECT x.id FROM integration.dlq x WHERE x.resolution IS NULL AND x.target = 'hubspot' AND x.category = 'permission' \
                       AND CASE WHEN $1::text IS NULL THEN x.op = 'associate' ELSE x.op <> 'associate' AND x.entity = $1 END ORDER BY x.id LIMIT $2) \
        RETURNING d.source, d.record_key) \
    INSERT INTO integration._retry (target, source, record_key, op, attempts, not_before, last_error, enqueued_at) \
    SELECT DISTINCT 1, t.id, c.record_key, 'u'::\"char\", 0, pg_catalog.clock_timestamp(), 'HubSpot refused it for lack of a permission', pg_catalog.clock_timestamp() \
    FROM chosen c JOIN integration.tracked_table t ON t.source = c.source WHERE 'hubspot' = ANY (t.targets) \
    ON CONFLICT DO NOTHING";

/// Queues records again that became dead letters because the credential lacked a permission.
pub fn requeue(which: &Forbidden, most: i64) -> SpiResult<usize> {
    let entity = match which {
        Forbidden::Records(entity) => Some(entity.name()),
        Forbidden::Associations => None,
    };
    execute(REQUEUE, &[entity.into(), most.into()])
}

const FORBIDDEN: &str = "\
    SELECT DISTINCT ON (d.entity) d.entity, d.error FROM integration.dlq d \
    WHERE d.resolution IS NULL AND d.target = 'hubspot' AND d.category = 'permission' AND d.op <> 'associate' ORDER BY d.entity, d.id DESC";

/// Returns the objects that open dead letters call forbidden, and why. It reads all open ones: for
/// the worker's start only.
pub fn forbidden() -> SpiResult<Vec<(Entity, String)>> {
    let rows = select(FORBIDDEN, &[], |row| {
        let entity = row
            .get::<String>(1)?
            .and_then(|name| services::entity(&name));
        Ok(entity.zip(row.get::<String>(2)?))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

const REFUSED_FOR: &str = "\
    SELECT n.place, t.id, d.record_key FROM unnest($2::int4[], $3::text[]) WITH ORDINALITY AS n(source, key, place) CROSS JOIN LATERAL \
    (SELECT x.id, x.source, x.record_key FROM integration.dlq x WHERE x.holder_source = (SELECT t.source FROM integration.tracked_table t WHERE t.id = n.source) \
     AND x.holder_key = n.key AND x.target = $1 AND x.resolution IS NULL AND x.category = 'conflict' OFFSET 0) AS d \
    JOIN integration.tracked_table t ON t.source = d.source ORDER BY d.id";

/// Returns the records that were refused because one of these holds what they want, the oldest
/// refusal first, each with the position of the holder.
pub fn refused_for(target: Target, holders: &[RecordRef]) -> SpiResult<Vec<(usize, RecordRef)>> {
    let args = [
        target.name().into(),
        column(holders, |holder| holder.source.0),
        column(holders, |holder| holder.key.as_str()),
    ];
    select(REFUSED_FOR, &args, |row| {
        let place = row.get::<i64>(1)?.unwrap_or(1);
        let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
        Ok((place, record(row, 2)?))
    })
}

const PASS_ON: &str = "\
    UPDATE integration.dlq d SET holder_source = h.source, holder_key = n.to_key \
    FROM unnest($2::int4[], $3::text[], $4::int4[], $5::text[]) AS n(from_source, from_key, to_source, to_key) \
    JOIN integration.tracked_table f ON f.id = n.from_source JOIN integration.tracked_table h ON h.id = n.to_source \
    WHERE d.target = $1 AND d.resolution IS NULL AND d.holder_source = f.source AND d.holder_key = n.from_key";

/// Passes dead letters on whose holder is another record now: from, and to.
pub fn pass_on(target: Target, moved: &[(&RecordRef, &RecordRef)]) -> SpiResult<()> {
    let args = [
        target.name().into(),
        column(moved, |(from, _)| from.source.0),
        column(moved, |(from, _)| from.key.as_str()),
        column(moved, |(_, to)| to.source.0),
        column(moved, |(_, to)| to.key.as_str()),
    ];
    execute(PASS_ON, &args).map(|_| ())
}

const REFUSALS: &str = "\
    SELECT DISTINCT t.id, d.record_key FROM integration.dlq d JOIN integration.tracked_table t ON t.source = d.source \
    WHERE d.target = 'mailchimp' AND d.resolution IS NULL AND d.category = 'consent'";

/// Returns records that are opted in and that Mailchimp refuses for a reason other than the
/// person's own decision: their dead letters stay open until the CRM agrees.
pub fn refusals() -> SpiResult<Vec<RecordRef>> {
    select(REFUSALS, &[], |row| record(row, 1))
}

const COUNT: &str =
    "SELECT count(*) FROM integration.dlq d WHERE d.target = $1 AND d.resolution IS NULL";

/// Returns all open dead letters, at the worker's start and after somebody changed them.
pub fn count(target: Target) -> SpiResult<i64> {
    Ok(scalar::<i64>(COUNT, &[target.name().into()])?.unwrap_or(0))
}

/// A finished API request.
pub struct LogEntry {
    pub target: Target,
    pub method: &'static str,
    pub path: String,
    pub status: Option<u16>,
    pub duration_ms: f64,
    pub records: usize,
    pub attempt: u32,
    pub correlation_id: Option<String>,
    pub error: Option<String>,
}

const LOG: &str = "\
    INSERT INTO integration.request_log (at, target, method, path, status, duration_ms, records, attempt, correlation_id, error) \
    SELECT pg_catalog.clock_timestamp() - n.duration * interval '1 millisecond', n.target, n.method, n.path, n.status, n.duration, n.records, n.attempt, n.correlation, n.error \
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::float8[], $6::int4[], $7::int4[], $8::text[], $9::text[]) \
         AS n(target, method, path, status, duration, records, attempt, correlation, error)";

/// Logs finished requests.
pub fn log_requests(entries: &[LogEntry]) -> SpiResult<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let args = [
        column(entries, |entry| entry.target.name()),
        column(entries, |entry| entry.method),
        column(entries, |entry| entry.path.as_str()),
        column(entries, |entry| entry.status.map(i32::from)),
        column(entries, |entry| entry.duration_ms),
        column(entries, |entry| entry.records as i32),
        column(entries, |entry| entry.attempt as i32),
        column(entries, |entry| entry.correlation_id.as_deref()),
        column(entries, |entry| entry.error.as_deref()),
    ];
    execute(LOG, &args).map(|_| ())
}
