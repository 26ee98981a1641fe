//! Backfills: their progress, and the keys that come next.

use integration_engine::jobs as progress;
use integration_engine::record::{Lane, RecordKey, SourceId, Target, Timestamp};
use pgrx::spi::{Spi, SpiResult};

use crate::pg::Column;
use crate::pg::fence::{Access, Opened, Refusal};
use crate::store::queue::changes::bit;
use crate::store::sources::{Relation, Source};
use crate::store::{execute, select};

/// What is left to do for a table and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillStage {
    /// There are rows to look at.
    Walking,
    /// All are queued.
    Settling,
    /// All are settled.
    Finished,
}

impl BackfillStage {
    const ALL: [BackfillStage; 3] = [
        BackfillStage::Walking,
        BackfillStage::Settling,
        BackfillStage::Finished,
    ];

    const fn name(self) -> &'static str {
        match self {
            BackfillStage::Walking => "walking",
            BackfillStage::Settling => "settling",
            BackfillStage::Finished => "finished",
        }
    }
}

/// The progress of sending one table to one target.
pub struct BackfillWalk {
    pub job: i64,
    pub target: Target,
    pub source: SourceId,
    pub filter: Option<String>,
    /// Key of the last row read, its parts as text.
    pub mark: Option<Vec<String>>,
    pub stage: BackfillStage,
    /// The estimated number of the table's rows.
    pub rows: u64,
    pub walked: u64,
    pub queued: u64,
    pub done: u64,
    /// Whether its job is still open.
    pub open: bool,
}

impl BackfillWalk {
    /// Returns how many rows will have been queued in the end.
    pub fn total(&self) -> u64 {
        match self.stage {
            BackfillStage::Walking => progress::expected(self.queued, self.walked, self.rows),
            BackfillStage::Settling | BackfillStage::Finished => self.queued,
        }
    }
}

/// The states of an open job.
macro_rules! open {
    () => {
        "('waiting', 'running', 'paused')"
    };
}

const WALKS: &str = concat!(
    "SELECT b.job, b.target, b.source, b.filter, b.mark, b.stage, b.rows, b.walked, b.queued, b.done, j.state IN ",
    open!(),
    " FROM integration._backfill b JOIN integration.job j ON j.id = b.job ORDER BY b.job, b.target"
);

/// Returns all of them, the oldest job first.
pub fn load() -> SpiResult<Vec<BackfillWalk>> {
    let walks = select(WALKS, &[], |row| {
        let count = |column: usize| {
            row.get::<i64>(column)
                .map(|number| number.unwrap_or(0).unsigned_abs())
        };
        let Some(target) = row.get::<i16>(2)?.and_then(Target::from_number) else {
            return Ok(None);
        };
        let stage = row.get::<String>(6)?.unwrap_or_default();
        Ok(Some(BackfillWalk {
            job: row.get(1)?.unwrap_or(0),
            target,
            source: SourceId(row.get(3)?.unwrap_or(0)),
            filter: row.get(4)?,
            mark: row.get(5)?,
            stage: BackfillStage::ALL
                .into_iter()
                .find(|known| known.name() == stage)
                .unwrap_or(BackfillStage::Walking),
            rows: count(7)?,
            walked: count(8)?,
            queued: count(9)?,
            done: count(10)?,
            open: row.get(11)?.unwrap_or(false),
        }))
    })?;
    Ok(walks.into_iter().flatten().collect())
}

const SAVE: &str = "\
    UPDATE integration._backfill b SET mark = $3, stage = $4, walked = $5, queued = $6, done = $7, total = $8 \
    WHERE b.job = $1 AND b.target = $2";

/// Stores the progress, in the transaction that queues the rows below the mark.
pub fn save(walk: &BackfillWalk) -> SpiResult<()> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let args = [
        walk.job.into(),
        walk.target.number().into(),
        walk.mark.clone().into(),
        walk.stage.name().into(),
        number(walk.walked).into(),
        number(walk.queued).into(),
        number(walk.done).into(),
        number(walk.total()).into(),
    ];
    execute(SAVE, &args).map(|_| ())
}

const LANE: i16 = Lane::Backfill as i16;

const QUEUED: &str = "\
    SELECT count(*), coalesce(sum(c.records), 0)::int8 FROM integration._change c \
    WHERE c.lane = $1 AND c.targets & $2 <> 0 AND ($3::int4 IS NULL OR c.source = $3) AND NOT c.source = ANY ($4)";

/// What backfills have waiting in the queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queued {
    pub chunks: usize,
    pub records: u64,
}

/// Rows of one source, or of all but some.
pub fn queued(target: Target, source: Option<SourceId>, but: &[i32]) -> SpiResult<Queued> {
    let args = [
        LANE.into(),
        bit(target).into(),
        source.map(|source| source.0).into(),
        but.to_vec().into(),
    ];
    let rows = select(QUEUED, &args, |row| {
        Ok(Queued {
            chunks: row.get::<i64>(1)?.unwrap_or(0).unsigned_abs() as usize,
            records: row.get::<i64>(2)?.unwrap_or(0).unsigned_abs(),
        })
    })?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Deletes what waits in the queue. Each chunk is for one target.
pub fn drop_queued(target: Target, source: SourceId) -> SpiResult<()> {
    execute(
        "DELETE FROM integration._change c WHERE c.lane = $1 AND c.targets = $2 AND c.source = $3",
        &[LANE.into(), bit(target).into(), source.0.into()],
    )
    .map(|_| ())
}

/// Forgets the progress of a job.
pub fn remove(job: i64) -> SpiResult<()> {
    execute(
        "DELETE FROM integration._backfill b WHERE b.job = $1",
        &[job.into()],
    )
    .map(|_| ())
}

/// Locks a job's row, unless the job is over or somebody is changing it: a transaction that is left
/// open must not stop the worker.
macro_rules! job_at_hand {
    () => {
        concat!(
            " WHERE j.id = (SELECT k.id FROM integration.job k WHERE k.id = $1 AND k.state IN ",
            open!(),
            " FOR UPDATE SKIP LOCKED)"
        )
    };
}

macro_rules! sums {
    () => {
        "(done, total) = (SELECT coalesce(sum(w.done), 0), sum(w.total) FROM \
         (SELECT b.done, b.total FROM integration._backfill b WHERE b.job = $1 \
          UNION ALL SELECT r.done, r.total FROM integration._reconcile r WHERE r.job = $1 \
          UNION ALL SELECT p.done, p.total FROM integration._poll p WHERE p.job = $1) w)"
    };
}

const PROGRESS: &str = concat!(
    "UPDATE integration.job j SET eta = pg_catalog.to_timestamp($2::int8 / 1000.0), ",
    sums!(),
    job_at_hand!()
);

/// Shows people a job's progress.
pub fn progress(job: i64, eta: Option<Timestamp>) -> SpiResult<()> {
    let eta = eta.map(|at| at.0);
    execute(PROGRESS, &[job.into(), eta.into()]).map(|_| ())
}

const TELL: &str = concat!(
    "UPDATE integration.job j SET state = CASE WHEN $2::text IS NULL THEN 'running' ELSE 'paused' END, error = $2, \
     eta = CASE WHEN $2 IS NULL THEN j.eta END, started_at = coalesce(j.started_at, pg_catalog.clock_timestamp())",
    job_at_hand!()
);

/// Shows people whether a job is running, and if not, why; returns `false` when that has to wait.
pub fn tell(job: i64, waits_for: Option<&str>) -> SpiResult<bool> {
    Ok(execute(TELL, &[job.into(), waits_for.into()])? > 0)
}

/// How a job ended.
pub enum JobEnd {
    Done,
    Failed(String),
    Cancelled(String),
}

const END: &str = concat!(
    "UPDATE integration.job j SET state = $2, error = $3, eta = NULL, ",
    sums!(),
    ", started_at = coalesce(j.started_at, pg_catalog.clock_timestamp()), finished_at = pg_catalog.clock_timestamp()",
    job_at_hand!()
);

/// Ends a job; returns `false` when that has to wait.
pub fn end(job: i64, end: &JobEnd) -> SpiResult<bool> {
    let (state, error) = match end {
        JobEnd::Done => ("done", None),
        JobEnd::Failed(why) => ("failed", Some(why.as_str())),
        JobEnd::Cancelled(why) => ("cancelled", Some(why.as_str())),
    };
    Ok(execute(END, &[job.into(), state.into(), error.into()])? > 0)
}

/// Plans the walk of a table with a filter, without running any of it.
#[allow(
    clippy::disallowed_methods,
    reason = "only a single SELECT can be opened: a filter cannot smuggle in another statement"
)]
pub fn check_filter(source: &Source, filter: &str) -> Result<(), Refusal> {
    source.run(Access::ReadTable, |opened| {
        let statement = walk_statement(source, opened, false, Some(filter));
        Spi::connect(|client| {
            client
                .open_cursor(statement.as_str(), &[1_i64.into()])
                .fetch(0)
                .map(|_| ())
        })
    })
}

/// Reads the keys of the next rows, in the order of the index on the key, and which of them the
/// filter lets through. The last parameter limits how many rows are looked at, whatever the filter
/// lets through: nothing waits long for a walk.
fn walk_statement(source: &Source, opened: &Opened, marked: bool, filter: Option<&str>) -> String {
    let key = source.key_columns(opened, Relation::Table);
    let each = |text: &dyn Fn(usize, &Column) -> String| {
        let columns = key.iter().enumerate();
        columns
            .map(|(index, column)| text(index, column))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let named = |_: usize, column: &Column| format!("{}.{}", opened.table, column.name);
    // Writes keys as triggers do, by the type's output function; a cast to text does not always use
    // it.
    let keys = each(&|index, column| format!("pg_catalog.concat({})", named(index, column)));
    let after = if marked {
        let parts = each(&|index, column| format!("${}::{}", index + 1, column.type_name));
        format!(" WHERE ({}) > ({parts})", each(&named))
    } else {
        String::new()
    };
    let wanted = filter.map_or("true".to_owned(), |filter| {
        // A comment at the end of the filter ends with the line.
        format!("coalesce((\n{filter}\n), false)")
    });
    let limit = if marked { source.key.len() + 1 } else { 1 };
    format!(
        "SELECT {keys}, {wanted} FROM {}{after} ORDER BY {} LIMIT ${limit}",
        opened.table,
        each(&named)
    )
}

/// Some rows, by their keys.
pub struct Keys {
    pub wanted: Vec<RecordKey>,
    /// Key of the last row read.
    pub last: Option<Vec<String>>,
    /// How many rows were read.
    pub looked_at: usize,
}

/// Returns the next rows of a walk, read with the rights of the table's owner.
pub fn next_keys(
    source: &Source,
    mark: Option<&[String]>,
    filter: Option<&str>,
    most: usize,
) -> Result<Keys, Refusal> {
    let columns = source.key.len();
    let mut args: Vec<_> = mark
        .into_iter()
        .flatten()
        .map(|part| part.clone().into())
        .collect();
    args.push((most as i64).into());
    let rows = source.run(Access::ReadTable, |opened| {
        let statement = walk_statement(source, opened, mark.is_some(), filter);
        select(&statement, &args, |row| {
            let parts = (1..=columns)
                .map(|column| row.get::<String>(column).map(Option::unwrap_or_default))
                .collect::<SpiResult<Vec<_>>>()?;
            Ok((parts, row.get::<bool>(columns + 1)?.unwrap_or(false)))
        })
    })?;
    let wanted = rows.iter().filter(|(_, wanted)| *wanted);
    Ok(Keys {
        wanted: wanted
            .map(|(parts, _)| RecordKey::from_parts(parts))
            .collect(),
        looked_at: rows.len(),
        last: rows.into_iter().last().map(|(parts, _)| parts),
    })
}
