//! Polls of Mailchimp's reports: their progress, and the campaigns they read.

use std::collections::{BTreeMap, HashMap};

use integration_engine::record::Timestamp;
use integration_mailchimp::engagement::{Report, ReportCursor, SentCampaign};
use pgrx::spi::{SpiHeapTupleData, SpiResult};

use crate::store::{column, execute, scalar, select};

/// An open poll.
pub struct Poll {
    pub job: i64,
    /// Whether the clock began it: it reads only campaigns that are due.
    pub scheduled: bool,
    /// Whether the campaigns to be read are known.
    pub listed: bool,
    pub walk: ReportCursor,
    pub done: u64,
    pub total: u64,
    /// Why a campaign could not be read.
    pub failure: Option<String>,
    /// Whether its job is still open.
    pub open: bool,
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads the four columns of a cursor, beginning with column `first`.
fn walk(row: &SpiHeapTupleData, first: usize) -> SpiResult<ReportCursor> {
    let items: Option<i64> = row.get(first + 1)?;
    Ok(ReportCursor {
        offset: row.get::<i64>(first)?.unwrap_or(0).unsigned_abs(),
        items: items.map(i64::unsigned_abs),
        shifted: row.get(first + 2)?.unwrap_or(false),
        rounds: u8::try_from(row.get::<i16>(first + 3)?.unwrap_or(0)).unwrap_or(0),
    })
}

const POLLS: &str = "\
    SELECT p.job, (j.args->>'scheduled')::boolean, p.listed, p.place, p.items, p.shifted, p.rounds, p.done, p.total, p.failure, \
    j.state IN ('waiting', 'running', 'paused') FROM integration._poll p JOIN integration.job j ON j.id = p.job ORDER BY p.job";

/// Returns all of them, the oldest first.
pub fn load() -> SpiResult<Vec<Poll>> {
    select(POLLS, &[], |row| {
        Ok(Poll {
            job: row.get(1)?.unwrap_or(0),
            scheduled: row.get(2)?.unwrap_or(false),
            listed: row.get(3)?.unwrap_or(false),
            walk: walk(row, 4)?,
            done: row.get::<i64>(8)?.unwrap_or(0).unsigned_abs(),
            total: row.get::<i64>(9)?.unwrap_or(0).unsigned_abs(),
            failure: row.get(10)?,
            open: row.get(11)?.unwrap_or(false),
        })
    })
}

const SAVE: &str = "\
    UPDATE integration._poll p SET listed = $2, place = $3, items = $4, shifted = $5, rounds = $6, done = $7, \
    total = CASE WHEN $2 THEN $8 END, failure = $9 WHERE p.job = $1";

/// Stores the progress, in the transaction that stores what was read up to there.
pub fn save(poll: &Poll) -> SpiResult<()> {
    let args = [
        poll.job.into(),
        poll.listed.into(),
        number(poll.walk.offset).into(),
        poll.walk.items.map(number).into(),
        poll.walk.shifted.into(),
        i16::from(poll.walk.rounds).into(),
        number(poll.done).into(),
        number(poll.total).into(),
        poll.failure.as_deref().into(),
    ];
    execute(SAVE, &args).map(|_| ())
}

/// Forgets the progress of a job.
pub fn remove(job: i64) -> SpiResult<()> {
    execute(
        "UPDATE integration._campaign c SET job = NULL WHERE c.job = $1",
        &[job.into()],
    )?;
    execute(
        "DELETE FROM integration._poll p WHERE p.job = $1",
        &[job.into()],
    )
    .map(|_| ())
}

/// Begins a poll because one is due.
pub fn begin() -> SpiResult<()> {
    execute("SELECT integration._begin_poll(true)", &[]).map(|_| ())
}

const BEGUN: &str = "\
    SELECT (1000 * extract(epoch FROM j.created_at))::int8 FROM integration.job j WHERE j.kind = 'poll' ORDER BY j.id DESC LIMIT 1";

/// Returns when the last poll was begun.
pub fn begun() -> SpiResult<Option<Timestamp>> {
    Ok(scalar::<i64>(BEGUN, &[])?.map(Timestamp))
}

const READ_AT: &str = "\
    SELECT c.campaign_id, (1000 * extract(epoch FROM c.read_at))::int8 FROM unnest($1::text[]) AS n(id) CROSS JOIN LATERAL \
    (SELECT x.campaign_id, x.read_at FROM integration._campaign x WHERE x.campaign_id = n.id OFFSET 0) AS c";

/// Returns when campaigns were last read, by id.
pub fn read_at(sent: &[SentCampaign]) -> SpiResult<HashMap<String, Timestamp>> {
    let rows = select(READ_AT, &[column(sent, |sent| sent.id.as_str())], |row| {
        Ok(row.get::<String>(1)?.zip(row.get::<i64>(2)?.map(Timestamp)))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

const OWE: &str = "\
    INSERT INTO integration._campaign (campaign_id, list_id, sent_at, job, report) \
    SELECT n.id, n.list, pg_catalog.to_timestamp(n.at / 1000.0), $1, $5 FROM unnest($2::text[], $3::text[], $4::int8[]) AS n(id, list, at) \
    ON CONFLICT (campaign_id) DO UPDATE SET list_id = excluded.list_id, sent_at = excluded.sent_at, job = excluded.job, \
    report = excluded.report, place = 0, items = NULL, shifted = false, rounds = 0, reached = NULL";

/// Notes campaigns that a poll is to read, from the beginning of their first report.
pub fn owe(job: i64, sent: &[&SentCampaign]) -> SpiResult<()> {
    // A list that changes while it is read can name a campaign twice.
    let once: BTreeMap<&str, &SentCampaign> =
        sent.iter().map(|sent| (sent.id.as_str(), *sent)).collect();
    let sent: &[&SentCampaign] = &once.into_values().collect::<Vec<_>>();
    if sent.is_empty() {
        return Ok(());
    }
    let args = [
        job.into(),
        column(sent, |sent| sent.id.as_str()),
        column(sent, |sent| sent.list.as_str()),
        column(sent, |sent| sent.sent_at.0),
        Report::ALL[0].name().into(),
    ];
    execute(OWE, &args).map(|_| ())
}

/// Returns how many campaigns a poll has left to read.
pub fn owed(job: i64) -> SpiResult<u64> {
    let rows = select(
        "SELECT count(*) FROM integration._campaign c WHERE c.job = $1",
        &[job.into()],
        |row| row.get::<i64>(1),
    )?;
    Ok(rows
        .into_iter()
        .flatten()
        .next()
        .unwrap_or(0)
        .unsigned_abs())
}

/// A campaign that is being read.
#[derive(Clone)]
pub struct Campaign {
    pub id: String,
    pub list: String,
    /// The newest event when it was last read.
    pub seen: Option<Timestamp>,
    pub report: Report,
    pub walk: ReportCursor,
    /// The newest event met in this poll.
    pub reached: Option<Timestamp>,
}

const NEXT: &str = "\
    SELECT c.campaign_id, c.list_id, (1000 * extract(epoch FROM c.seen))::int8, c.report, c.place, c.items, c.shifted, c.rounds, \
    (1000 * extract(epoch FROM c.reached))::int8 FROM integration._campaign c WHERE c.job = $1 ORDER BY c.job, c.sent_at, c.campaign_id LIMIT 1";

/// Returns the next campaign that a poll is to read, and where it stopped.
pub fn next(job: i64) -> SpiResult<Option<Campaign>> {
    let rows = select(NEXT, &[job.into()], |row| {
        let report = row.get::<String>(4)?.unwrap_or_default();
        Ok(Campaign {
            id: row.get(1)?.unwrap_or_default(),
            list: row.get(2)?.unwrap_or_default(),
            seen: row.get::<i64>(3)?.map(Timestamp),
            report: Report::from_name(&report).unwrap_or(Report::ALL[0]),
            walk: walk(row, 5)?,
            reached: row.get::<i64>(9)?.map(Timestamp),
        })
    })?;
    Ok(rows.into_iter().next())
}

const SAVE_CAMPAIGN: &str = "\
    UPDATE integration._campaign c SET report = $2, place = $3, items = $4, shifted = $5, rounds = $6, \
    reached = pg_catalog.to_timestamp($7::int8 / 1000.0) WHERE c.campaign_id = $1";

/// Stores how far its reports have been read, in the transaction that stores what they said.
pub fn save_campaign(campaign: &Campaign) -> SpiResult<()> {
    let args = [
        campaign.id.as_str().into(),
        campaign.report.name().into(),
        number(campaign.walk.offset).into(),
        campaign.walk.items.map(number).into(),
        campaign.walk.shifted.into(),
        i16::from(campaign.walk.rounds).into(),
        campaign.reached.map(|at| at.0).into(),
    ];
    execute(SAVE_CAMPAIGN, &args).map(|_| ())
}

const FINISH: &str = "\
    UPDATE integration._campaign c SET job = NULL, read_at = pg_catalog.clock_timestamp(), \
    seen = greatest(c.seen, pg_catalog.to_timestamp($2::int8 / 1000.0)) WHERE c.campaign_id = $1";

/// Notes that all its reports have been read.
pub fn finish(campaign: &Campaign) -> SpiResult<()> {
    let reached = campaign.reached.map(|at| at.0);
    execute(FINISH, &[campaign.id.as_str().into(), reached.into()]).map(|_| ())
}

/// Notes that it could not be read; the next poll tries again.
pub fn give_up(campaign: &Campaign) -> SpiResult<()> {
    execute(
        "UPDATE integration._campaign c SET job = NULL WHERE c.campaign_id = $1",
        &[campaign.id.as_str().into()],
    )
    .map(|_| ())
}

/// Forgets campaigns that are too old to be listed again.
pub fn forget(before: Timestamp) -> SpiResult<()> {
    execute(
        "DELETE FROM integration._campaign c WHERE c.sent_at < pg_catalog.to_timestamp($1 / 1000.0) AND c.job IS NULL",
        &[before.0.into()],
    )
    .map(|_| ())
}
