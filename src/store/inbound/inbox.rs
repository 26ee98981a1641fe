//! Received events.

use std::time::Duration;

use integration_engine::record::{Target, Timestamp};
use integration_engine::webhook::Event;
use pgrx::JsonB;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

use crate::store::{execute, scalar, select};

/// The kind of alert about events that failed.
pub const FAILED_ALERT: &str = "inbox_failed";

/// The kind of alert about events that have waited for long.
pub const WAITS_ALERT: &str = "inbox_waits";

/// The kind of alert about columns that cannot hold what a service's fields do; its subject names
/// the column.
pub const LOSSY_ALERT: &str = "lossy";

/// The kind of alert about events of accounts that are not ours.
pub const FOREIGN_ALERT: &str = "foreign_events";

/// An event that waits to be applied.
pub struct PendingEvent {
    pub id: i64,
    pub origin: String,
    pub event_key: String,
    pub occurred_at: Timestamp,
    pub received_at: Timestamp,
    pub payload: serde_json::Value,
    /// How often the CRM refused it.
    pub attempts: u32,
}

impl PendingEvent {
    /// Returns the target whose service reported it.
    pub fn target(&self) -> Target {
        match self.origin.as_str() {
            "hubspot" => Target::HubSpot,
            _ => Target::Mailchimp,
        }
    }
}

/// The state of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    Pending,
    Applied,
    Ignored,
    Failed,
}

impl EventState {
    const fn name(self) -> &'static str {
        match self {
            EventState::Pending => "pending",
            EventState::Applied => "applied",
            EventState::Ignored => "ignored",
            EventState::Failed => "failed",
        }
    }
}

const PUT: &str = "\
    INSERT INTO integration.inbox (origin, event_key, kind, occurred_at, payload, state, detail) \
    VALUES ($1, $2, $3, pg_catalog.to_timestamp($4 / 1000.0), $5, $6, $7) \
    ON CONFLICT ON CONSTRAINT inbox_event_once DO NOTHING RETURNING id";

/// Stores an event; returns `false` if it is known already.
pub fn put<T>(
    origin: &str,
    event: Event<T>,
    state: EventState,
    detail: Option<&str>,
) -> SpiResult<bool> {
    let args = [
        origin.into(),
        event.event_key.into(),
        event.kind.into(),
        event.occurred_at.0.into(),
        JsonB(event.payload).into(),
        state.name().into(),
        detail.into(),
    ];
    Ok(execute(PUT, &args)? > 0)
}

macro_rules! pending {
    ($which:literal) => {
        concat!(
            "SELECT i.id, i.origin, i.payload, i.attempts, (1000 * extract(epoch FROM i.occurred_at))::int8, i.event_key, \
             (1000 * extract(epoch FROM i.received_at))::int8 FROM integration.inbox i WHERE i.state = 'pending' AND ",
            $which
        )
    };
}

// The index has postponed events at its end: they are not met here.
const NEW: &str = pending!(
    "i.not_before IS NULL AND i.id <> ALL ($2) AND i.origin <> ALL ($3) \
     ORDER BY i.not_before NULLS FIRST, i.occurred_at, i.id LIMIT $1"
);
const DUE: &str = pending!(
    "i.not_before <= pg_catalog.clock_timestamp() AND i.id <> ALL ($2) AND i.origin <> ALL ($3) \
     ORDER BY i.occurred_at, i.id LIMIT $1"
);
const PUT_OFF: &str = pending!("i.not_before IS NOT NULL ORDER BY i.not_before");

/// Which of the waiting events to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that were never postponed.
    New,
    /// Those that were postponed and are due.
    Due,
}

fn pending(row: &SpiHeapTupleData) -> SpiResult<PendingEvent> {
    Ok(PendingEvent {
        id: row.get(1)?.unwrap_or(0),
        origin: row.get(2)?.unwrap_or_default(),
        payload: row
            .get::<JsonB>(3)?
            .map_or(serde_json::Value::Null, |payload| payload.0),
        attempts: row.get::<i32>(4)?.unwrap_or(0).unsigned_abs(),
        occurred_at: Timestamp(row.get(5)?.unwrap_or(0)),
        event_key: row.get(6)?.unwrap_or_default(),
        received_at: Timestamp(row.get(7)?.unwrap_or(0)),
    })
}

/// Returns the oldest waiting events, except those named and those of some origins.
pub fn next(which: Which, most: i64, but: &[i64], held: &[&str]) -> SpiResult<Vec<PendingEvent>> {
    let sql = match which {
        Which::New => NEW,
        Which::Due => DUE,
    };
    let args = [most.into(), but.to_vec().into(), held.to_vec().into()];
    select(sql, &args, pending)
}

/// Returns all postponed events.
pub fn put_off() -> SpiResult<Vec<PendingEvent>> {
    select(PUT_OFF, &[], pending)
}

const WAITS: &str = "SELECT true FROM integration.inbox i WHERE i.id = $1 AND i.state = 'pending'";

/// Returns whether an event still waits.
pub fn waits(id: i64) -> SpiResult<bool> {
    Ok(!select(WAITS, &[id.into()], |_| Ok(()))?.is_empty())
}

const NEXT_DUE: &str = "\
    SELECT (1000 * extract(epoch FROM min(i.not_before) - pg_catalog.clock_timestamp()))::float8 \
    FROM integration.inbox i WHERE i.state = 'pending' AND i.not_before IS NOT NULL";

/// Returns how long it is until the next postponed event is due.
pub fn next_due() -> SpiResult<Option<Duration>> {
    let millis = scalar::<f64>(NEXT_DUE, &[])?;
    Ok(millis.map(|millis| Duration::from_secs_f64(millis.max(0.0) / 1_000.0)))
}

/// Removes an event that is about somebody who was erased.
pub fn remove(id: i64) -> SpiResult<()> {
    execute(
        "DELETE FROM integration.inbox i WHERE i.id = $1",
        &[id.into()],
    )
    .map(|_| ())
}

const SETTLE: &str = "\
    UPDATE integration.inbox i SET state = $2, detail = $3, attempts = $4, not_before = NULL WHERE i.id = $1";

/// Stores the state of an event.
pub fn settle(id: i64, state: EventState, detail: &str, attempts: u32) -> SpiResult<()> {
    let args = [
        id.into(),
        state.name().into(),
        detail.into(),
        count(attempts).into(),
    ];
    execute(SETTLE, &args).map(|_| ())
}

const POSTPONE: &str = "\
    UPDATE integration.inbox i SET detail = $2, attempts = $3, \
    not_before = pg_catalog.clock_timestamp() + $4 * interval '1 millisecond' WHERE i.id = $1";

/// Postpones an event that was refused.
pub fn postpone(id: i64, detail: &str, attempts: u32, wait: Duration) -> SpiResult<()> {
    let args = [
        id.into(),
        detail.into(),
        count(attempts).into(),
        (wait.as_secs_f64() * 1_000.0).into(),
    ];
    execute(POSTPONE, &args).map(|_| ())
}

const QUEUE_BEHIND: &str = "\
    UPDATE integration.inbox i SET detail = 'waits for event ' || $2 || ', which is of the same record and older', \
    not_before = (SELECT b.not_before FROM integration.inbox b WHERE b.id = $2) WHERE i.id = $1";

/// Postpones an event until an earlier one of its record is tried again.
pub fn queue_behind(id: i64, earlier: i64) -> SpiResult<()> {
    execute(QUEUE_BEHIND, &[id.into(), earlier.into()]).map(|_| ())
}

fn count(attempts: u32) -> i32 {
    i32::try_from(attempts).unwrap_or(i32::MAX)
}

/// How many events are counted at most.
const MOST_COUNTED: i64 = 100_000;

const WAITING: &str = "\
    SELECT count(*) FILTER (WHERE i.origin = 'hubspot' AND i.attempts = 0), count(*) FILTER (WHERE i.origin <> 'hubspot' AND i.attempts = 0), \
           count(*) FILTER (WHERE i.origin = 'hubspot' AND i.attempts > 0), count(*) FILTER (WHERE i.origin <> 'hubspot' AND i.attempts > 0) \
    FROM (SELECT x.origin, x.attempts FROM integration.inbox x WHERE x.state = 'pending' LIMIT $1) i";
const FAILED: &str = "\
    SELECT count(*) FILTER (WHERE i.origin = 'hubspot'), count(*) FILTER (WHERE i.origin <> 'hubspot') \
    FROM (SELECT x.origin FROM integration.inbox x WHERE x.state = 'failed' LIMIT $1) i";

/// How many events of a target's service wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingEvents {
    /// Events that have not been tried yet.
    pub pending: i64,
    /// Events that were refused and are tried again.
    pub retrying: i64,
}

/// Counts the waiting events of HubSpot and of Mailchimp.
pub fn waiting() -> SpiResult<[(Target, WaitingEvents); 2]> {
    let rows = select(WAITING, &[MOST_COUNTED.into()], |row| {
        let figure = |column: usize| row.get::<i64>(column).map(Option::unwrap_or_default);
        let waiting = |first: usize| {
            Ok::<_, pgrx::spi::Error>(WaitingEvents {
                pending: figure(first)?,
                retrying: figure(first + 2)?,
            })
        };
        Ok([
            (Target::HubSpot, waiting(1)?),
            (Target::Mailchimp, waiting(2)?),
        ])
    })?;
    Ok(rows.into_iter().next().unwrap_or([
        (Target::HubSpot, WaitingEvents::default()),
        (Target::Mailchimp, WaitingEvents::default()),
    ]))
}

/// Counts the failed events of HubSpot and of Mailchimp.
pub fn failed() -> SpiResult<[(Target, i64); 2]> {
    let rows = select(FAILED, &[MOST_COUNTED.into()], |row| {
        Ok((row.get(1)?.unwrap_or(0), row.get(2)?.unwrap_or(0)))
    })?;
    let (hubspot, mailchimp) = rows.into_iter().next().unwrap_or((0, 0));
    Ok([(Target::HubSpot, hubspot), (Target::Mailchimp, mailchimp)])
}
