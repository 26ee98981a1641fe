//! Open erasures, and what is known about the records that they remove.

use std::collections::BTreeSet;

use integration_engine::erasure::{ErasureFacts, ErasureStep};
use integration_engine::record::{Entity, RecordKey, RecordRef, RemoteId, SourceId, Target};
use pgrx::spi::SpiResult;

use crate::services;
use crate::store::links::intents;
use crate::store::{column, execute, scalar, select};

/// An erasure.
pub struct Erasure {
    pub job: i64,
    pub record: RecordRef,
    pub entity: Entity,
    /// The addresses in the row when the erasure was asked for, and those found since.
    pub addresses: BTreeSet<String>,
    pub begun: bool,
}

/// A request that an erasure has to make.
pub struct StoredCall {
    pub job: i64,
    pub place: i32,
    pub step: ErasureStep,
}

macro_rules! open {
    () => {
        "('waiting', 'running', 'paused')"
    };
}

const OPEN: &str = concat!(
    "SELECT e.job, e.source, e.entity, e.record_key, e.addresses, e.begun FROM integration._erasure e \
     JOIN integration.job j ON j.id = e.job WHERE j.state IN ",
    open!(),
    " ORDER BY e.job LIMIT $1"
);
const OVER: &str = concat!(
    "DELETE FROM integration._erasure e WHERE e.job IN (SELECT k.job FROM integration._erasure k \
     JOIN integration.job j ON j.id = k.job WHERE j.state NOT IN ",
    open!(),
    " FOR UPDATE OF k SKIP LOCKED)"
);

/// Whether some erasures were cancelled and still hold what they needed.
const LEFT: &str = concat!(
    "SELECT EXISTS (SELECT FROM integration._erasure e JOIN integration.job j ON j.id = e.job WHERE j.state NOT IN ",
    open!(),
    ")"
);

/// Returns the oldest open erasures, and clears away those that were cancelled.
pub fn load(most: i64) -> SpiResult<Vec<Erasure>> {
    if scalar::<bool>(LEFT, &[])?.unwrap_or(false) {
        execute(OVER, &[])?;
    }
    let rows = select(OPEN, &[most.into()], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let Some(entity) = services::entity(&text(3)?) else {
            return Ok(None);
        };
        Ok(Some(Erasure {
            job: row.get(1)?.unwrap_or(0),
            record: RecordRef {
                source: SourceId(row.get(2)?.unwrap_or(0)),
                key: RecordKey::from(text(4)?),
            },
            entity,
            addresses: row
                .get::<Vec<String>>(5)?
                .unwrap_or_default()
                .into_iter()
                .collect(),
            begun: row.get(6)?.unwrap_or(false),
        }))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

const CALLS: &str = "\
    SELECT c.job, c.place, c.action, c.name, c.list_id FROM integration._erasure_call c WHERE c.job = ANY ($1) ORDER BY c.job, c.place";

/// Returns the requests that are still to be made.
pub fn calls(jobs: Vec<i64>) -> SpiResult<Vec<StoredCall>> {
    let rows = select(CALLS, &[jobs.into()], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let (job, place) = (row.get(1)?.unwrap_or(0), row.get(2)?.unwrap_or(0));
        let list = row.get::<String>(5)?;
        let step = ErasureStep::from_stored(&text(3)?, &text(4)?, list.as_deref());
        Ok(step.map(|step| StoredCall { job, place, step }))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

const COUNT: &str = concat!(
    "SELECT count(*) FROM integration._erasure e JOIN integration.job j ON j.id = e.job \
     LEFT JOIN integration._erasure_call c ON c.job = e.job \
     WHERE j.state IN ",
    open!(),
    " AND (c.target = $1 OR NOT e.begun)"
);

/// Returns the requests that a target still has to be sent.
pub fn count(target: Target) -> SpiResult<i64> {
    Ok(scalar::<i64>(COUNT, &[target.number().into()])?.unwrap_or(0))
}

const ARCHIVED: &str = "\
    INSERT INTO integration._archived (source, record_key, remote_id) \
    SELECT n.source, n.key, n.id FROM unnest($1::int4[], $2::text[], $3::text[]) AS n(source, key, id) ON CONFLICT DO NOTHING";

/// Notes contacts that went to HubSpot's recycle bin because their rows were deleted.
pub fn note_archived(contacts: &[(RecordRef, RemoteId)]) -> SpiResult<()> {
    if contacts.is_empty() {
        return Ok(());
    }
    let args = [
        column(contacts, |(record, _)| record.source.0),
        column(contacts, |(record, _)| record.key.as_str()),
        column(contacts, |(_, id)| id.as_str()),
    ];
    execute(ARCHIVED, &args).map(|_| ())
}

/// HubSpot keeps records in its recycle bin for 90 days.
const FORGET_ARCHIVED: &str = "\
    DELETE FROM integration._archived a WHERE a.since < pg_catalog.clock_timestamp() - interval '90 days'";

/// Forgets those that the recycle bin no longer has.
pub fn tidy() -> SpiResult<()> {
    execute(FORGET_ARCHIVED, &[]).map(|_| ())
}

const NAMES: &str = "\
    SELECT w.name FROM integration._withheld w \
    WHERE w.source = $1 AND w.target = $2 AND w.record_key = $3 AND w.name <> '' \
    UNION SELECT a.remote_id FROM integration._archived a WHERE $2 = 1 AND a.source = $1 AND a.record_key = $3";

/// Returns the names that a service had for a record which is withheld, or in its recycle bin.
pub fn former_names(record: &RecordRef, target: Target) -> SpiResult<Vec<String>> {
    let args = [
        record.source.0.into(),
        target.number().into(),
        record.key.as_str().into(),
    ];
    let names = select(NAMES, &args, |row| row.get::<String>(1))?;
    Ok(names.into_iter().flatten().collect())
}

const HASHES: &str = "\
    SELECT DISTINCT c.subscriber_hash FROM integration.consent_log c JOIN integration.tracked_table t ON t.source = c.source \
    WHERE t.id = $1 AND c.record_key = $2 AND c.subscriber_hash IS NOT NULL";

/// Returns hashes of the addresses in the consent log of a record.
pub fn hashes(record: &RecordRef) -> SpiResult<Vec<String>> {
    let args = [record.source.0.into(), record.key.as_str().into()];
    let hashes = select(HASHES, &args, |row| row.get::<String>(1))?;
    Ok(hashes.into_iter().flatten().collect())
}

const MEMBERS: &str = "\
    SELECT md5(l.remote_key), l.list_id FROM integration._link l \
    WHERE l.target = 2 AND md5(l.remote_key) = ANY ($1) AND (l.source, l.record_key) <> ($2, $3) \
    AND (l.list_id IS NOT NULL OR l.former_lists = '{}')";

/// Returns those of the members known by their hashes alone which are other records', with their
/// audiences. It reads all links.
pub fn taken_members(
    hashes: &[String],
    record: &RecordRef,
) -> SpiResult<Vec<(String, Option<String>)>> {
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let args = [
        hashes.to_vec().into(),
        record.source.0.into(),
        record.key.as_str().into(),
    ];
    let mut taken = select(MEMBERS, &args, |row| {
        Ok((row.get::<String>(1)?.unwrap_or_default(), row.get(2)?))
    })?;
    taken.extend(intents::members(hashes, record));
    Ok(taken)
}

const TRACES: &str = "SELECT integration._erase_traces($1, $2, $3, $4, $5)";
const BEGIN: &str = "\
    UPDATE integration._erasure e SET begun = true, addresses = $2, remark = $3 WHERE e.job = $1";
const PUT: &str = "\
    INSERT INTO integration._erasure_call (job, target, action, name, list_id) \
    SELECT $1, n.target, n.action, n.name, n.list FROM unnest($2::int2[], $3::text[], $4::text[], $5::text[]) AS n(target, action, name, list)";

/// Removes what is stored here about the record, and notes the requests to the services.
pub fn begin(
    job: i64,
    known: &ErasureFacts,
    steps: &[ErasureStep],
    remark: Option<&str>,
) -> SpiResult<()> {
    let own: Vec<&str> = known.own_addresses().into_iter().collect();
    let hashes: Vec<String> = known.own_hashes().into_iter().collect();
    let id = |link: &Option<integration_engine::delivery::call::Link>| {
        link.as_ref().and_then(|link| link.remote_id.clone())
    };
    let ids: Vec<String> = id(&known.hubspot)
        .into_iter()
        .chain(known.former_ids.iter().cloned())
        .map(|id| id.as_str().to_owned())
        .collect();
    let contacts: Vec<String> = id(&known.mailchimp)
        .map(|id| id.as_str().to_owned())
        .into_iter()
        .collect();
    let args = [
        job.into(),
        own.clone().into(),
        hashes.into(),
        ids.into(),
        contacts.into(),
    ];
    crate::store::returned(TRACES, &args, |_| Ok(()))?;
    execute(BEGIN, &[job.into(), own.into(), remark.into()])?;
    put(job, steps)?;
    progress(job)
}

fn put(job: i64, steps: &[ErasureStep]) -> SpiResult<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let args = [
        job.into(),
        column(steps, |step| step.target().number()),
        column(steps, |step| step.stored().0),
        column(steps, |step| step.stored().1),
        column(steps, |step| step.stored().2),
    ];
    execute(PUT, &args).map(|_| ())
}

const DONE: &str = "DELETE FROM integration._erasure_call c WHERE c.job = $1 AND c.place = $2";

/// Notes that a request has been made. `next`: what follows from its answer.
pub fn done(job: i64, place: i32, next: &[ErasureStep]) -> SpiResult<()> {
    execute(DONE, &[job.into(), place.into()])?;
    put(job, next)?;
    progress(job)
}

// While somebody is changing the job, its progress has to wait.
const PROGRESS: &str = concat!(
    "UPDATE integration.job j SET total = greatest(j.total, n.left_over + j.done), \
        done = greatest(j.total, n.left_over + j.done) - n.left_over \
     FROM (SELECT count(*) AS left_over FROM integration._erasure_call c WHERE c.job = $1) AS n \
     WHERE j.id = (SELECT k.id FROM integration.job k WHERE k.id = $1 AND k.state IN ",
    open!(),
    " FOR UPDATE SKIP LOCKED)"
);

fn progress(job: i64) -> SpiResult<()> {
    execute(PROGRESS, &[job.into()]).map(|_| ())
}

const END: &str = "SELECT integration._end_erasure($1)";

/// Removes what the requests needed, and ends the job; returns `false` when that has to wait.
pub fn end(job: i64) -> SpiResult<bool> {
    let ended = crate::store::returned(END, &[job.into()], |row| row.get::<bool>(1))?;
    Ok(ended.into_iter().flatten().any(|ended| ended))
}
