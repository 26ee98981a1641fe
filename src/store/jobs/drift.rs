//! Comparisons of both sides: their progress, what they found, and the records that are on their
//! way.

use std::collections::HashSet;

use integration_engine::record::{RecordKey, SourceId, Target, Timestamp};
use pgrx::spi::SpiResult;

use crate::store::{execute, select};

/// What is left to do for a table and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileStage {
    /// The CRM's rows are walked.
    Rows,
    /// The service's records are walked.
    Remote,
    /// The members that Mailchimp has archived are walked.
    Archived,
    Finished,
}

impl ReconcileStage {
    const ALL: [ReconcileStage; 4] = [
        ReconcileStage::Rows,
        ReconcileStage::Remote,
        ReconcileStage::Archived,
        ReconcileStage::Finished,
    ];

    const fn name(self) -> &'static str {
        match self {
            ReconcileStage::Rows => "rows",
            ReconcileStage::Remote => "remote",
            ReconcileStage::Archived => "archived",
            ReconcileStage::Finished => "finished",
        }
    }
}

/// The progress of comparing one table with one target.
#[derive(Clone)]
pub struct Course {
    pub job: i64,
    pub target: Target,
    pub source: SourceId,
    pub repair: bool,
    pub stage: ReconcileStage,
    /// Key of the last row compared, its parts as text.
    pub mark: Option<Vec<String>>,
    /// Where the next page of the service's records begins.
    pub after: Option<String>,
    pub done: u64,
    pub total: u64,
    /// Whether its job is still open.
    pub open: bool,
}

const COURSES: &str = "\
    SELECT r.job, r.target, r.source, r.repair, r.stage, r.mark, r.after, r.done, r.total, j.state IN ('waiting', 'running', 'paused') \
    FROM integration._reconcile r JOIN integration.job j ON j.id = r.job ORDER BY r.job, r.target";

/// Returns all of them, the oldest job first.
pub fn load() -> SpiResult<Vec<Course>> {
    let courses = select(COURSES, &[], |row| {
        let Some(target) = row.get::<i16>(2)?.and_then(Target::from_number) else {
            return Ok(None);
        };
        let stage = row.get::<String>(5)?.unwrap_or_default();
        let count = |column: usize| {
            row.get::<i64>(column)
                .map(|number| number.unwrap_or(0).unsigned_abs())
        };
        Ok(Some(Course {
            job: row.get(1)?.unwrap_or(0),
            target,
            source: SourceId(row.get(3)?.unwrap_or(0)),
            repair: row.get(4)?.unwrap_or(false),
            stage: ReconcileStage::ALL
                .into_iter()
                .find(|known| known.name() == stage)
                .unwrap_or(ReconcileStage::Rows),
            mark: row.get(6)?,
            after: row.get(7)?,
            done: count(8)?,
            total: count(9)?,
            open: row.get(10)?.unwrap_or(false),
        }))
    })?;
    Ok(courses.into_iter().flatten().collect())
}

const SAVE: &str = "\
    UPDATE integration._reconcile r SET stage = $3, mark = $4, after = $5, done = $6, total = $7 WHERE r.job = $1 AND r.target = $2";

/// Stores the progress, in the transaction that stores what was found up to there.
pub fn save(course: &Course) -> SpiResult<()> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let args = [
        course.job.into(),
        course.target.number().into(),
        course.stage.name().into(),
        course.mark.clone().into(),
        course.after.clone().into(),
        number(course.done).into(),
        number(course.total).into(),
    ];
    execute(SAVE, &args).map(|_| ())
}

/// Forgets the progress of a job. What it found stays.
pub fn remove(job: i64) -> SpiResult<()> {
    execute(
        "DELETE FROM integration._seen s WHERE s.job = $1",
        &[job.into()],
    )?;
    execute(
        "DELETE FROM integration._reconcile r WHERE r.job = $1",
        &[job.into()],
    )
    .map(|_| ())
}

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftKind {
    MissingRemote,
    MissingLocal,
    Field,
    Status,
    Duplicate,
    WrongLink,
}

impl DriftKind {
    const fn name(self) -> &'static str {
        match self {
            DriftKind::MissingRemote => "missing_remote",
            DriftKind::MissingLocal => "missing_local",
            DriftKind::Field => "field",
            DriftKind::Status => "status",
            DriftKind::Duplicate => "duplicate",
            DriftKind::WrongLink => "wrong_link",
        }
    }
}

/// What was done about a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    Nothing,
    Done(String),
    Refused(String),
}

/// A difference.
pub struct DriftRow {
    pub key: Option<RecordKey>,
    pub remote_id: Option<String>,
    pub kind: DriftKind,
    pub field: Option<String>,
    pub crm: Option<String>,
    pub remote: Option<String>,
    pub agreed: Option<String>,
    pub repair: Repair,
}

const PUT: &str = "\
    INSERT INTO integration.drift (job, source, record_key, target, remote_id, kind, remote_field, crm_value, remote_value, agreed_hash, repaired_at, repair) \
    SELECT $1, t.source, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $12 THEN pg_catalog.clock_timestamp() END, $11 \
    FROM integration.tracked_table t WHERE t.id = $2 ON CONFLICT DO NOTHING";

/// Notes a difference, unless it is known.
pub fn put(course: &Course, found: &DriftRow) -> SpiResult<()> {
    let (repair, repaired) = match &found.repair {
        Repair::Nothing => (None, false),
        Repair::Done(how) => (Some(how.as_str()), true),
        Repair::Refused(why) => (Some(why.as_str()), false),
    };
    let args = [
        course.job.into(),
        course.source.0.into(),
        found.key.as_ref().map(RecordKey::as_str).into(),
        course.target.name().into(),
        found.remote_id.as_deref().into(),
        found.kind.name().into(),
        found.field.as_deref().into(),
        found.crm.as_deref().into(),
        found.remote.as_deref().into(),
        found.agreed.as_deref().into(),
        repair.into(),
        repaired.into(),
    ];
    execute(PUT, &args).map(|_| ())
}

const UNMISS: &str = "\
    DELETE FROM integration.drift d WHERE d.job = $1 AND d.target = $2 AND d.kind = 'missing_remote' AND d.record_key = $3";

/// Forgets that a record seemed to be missing: it was met after all.
pub fn unmiss(course: &Course, key: &RecordKey) -> SpiResult<()> {
    let args = [
        course.job.into(),
        course.target.name().into(),
        key.as_str().into(),
    ];
    execute(UNMISS, &args).map(|_| ())
}

const MOVING: &str = "\
    SELECT k.key FROM unnest($3::text[]) AS k(key) WHERE \
    EXISTS (SELECT FROM integration._retry r WHERE r.target = $2 AND r.source = $1 AND r.record_key = k.key OFFSET 0) OR \
    EXISTS (SELECT FROM integration._link l WHERE l.source = $1 AND l.target = $2 AND l.record_key = k.key \
            AND greatest(l.pushed_at, l.pulled_at) >= pg_catalog.to_timestamp($4::int8 / 1000.0) OFFSET 0)";

/// Returns which of these records wait for another attempt, or were written on either side since.
pub fn moving(
    source: SourceId,
    target: Target,
    keys: &[&str],
    since: Timestamp,
) -> SpiResult<HashSet<RecordKey>> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let args = [
        source.0.into(),
        target.number().into(),
        keys.to_vec().into(),
        since.0.into(),
    ];
    let keys = select(MOVING, &args, |row| row.get::<String>(1))?;
    Ok(keys.into_iter().flatten().map(RecordKey::from).collect())
}

const SEE: &str = "\
    INSERT INTO integration._seen (job, record_key) SELECT $1, k.key FROM unnest($2::text[]) AS k(key) ON CONFLICT DO NOTHING";

/// Notes that the members of these rows have been met.
pub fn see(job: i64, keys: &[&str]) -> SpiResult<()> {
    if keys.is_empty() {
        return Ok(());
    }
    execute(SEE, &[job.into(), keys.to_vec().into()]).map(|_| ())
}

const SEEN: &str = "\
    SELECT s.record_key FROM unnest($2::text[]) AS k(key) CROSS JOIN LATERAL \
    (SELECT x.record_key FROM integration._seen x WHERE x.job = $1 AND x.record_key = k.key OFFSET 0) AS s";

/// Returns those of these rows whose members have been met.
pub fn seen(job: i64, keys: &[&str]) -> SpiResult<HashSet<RecordKey>> {
    let keys = select(SEEN, &[job.into(), keys.to_vec().into()], |row| {
        row.get::<String>(1)
    })?;
    Ok(keys.into_iter().flatten().map(RecordKey::from).collect())
}
