//! Received events.

use integration_engine::record::Timestamp;
use integration_engine::webhook::Event;
use pgrx::JsonB;
use pgrx::spi::SpiResult;

use super::{execute, select};

/// An event that waits to be applied.
pub struct Pending {
    pub id: i64,
    pub origin: String,
    pub event_key: String,
    pub occurred_at: Timestamp,
    pub payload: serde_json::Value,
    pub attempts: i32,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Applied,
    Ignored,
    Failed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Applied => "applied",
            State::Ignored => "ignored",
            State::Failed => "failed",
        }
    }
}

const PUT: &str = "\
    INSERT INTO integration.inbox (origin, event_key, kind, occurred_at, payload, state, detail) \
    VALUES ($1, $2, $3, pg_catalog.to_timestamp($4 / 1000.0), $5, $6, $7) \
    ON CONFLICT ON CONSTRAINT inbox_event_once DO NOTHING RETURNING id";

/// Stores an event; `false`: it is known already.
pub fn put(origin: &str, event: Event, state: State, detail: Option<&str>) -> SpiResult<bool> {
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

const NEXT: &str = "\
    SELECT i.id, i.origin, i.payload, i.attempts, (1000 * extract(epoch FROM i.occurred_at))::int8, i.event_key FROM integration.inbox i \
    WHERE i.state = 'pending' AND i.id <> ALL ($2) ORDER BY i.occurred_at, i.id LIMIT $1";

/// The oldest events that wait, but for those named.
pub fn next(most: i64, but: &[i64]) -> SpiResult<Vec<Pending>> {
    select(NEXT, &[most.into(), but.to_vec().into()], |row| {
        Ok(Pending {
            id: row.get(1)?.unwrap_or(0),
            origin: row.get(2)?.unwrap_or_default(),
            payload: row
                .get::<JsonB>(3)?
                .map_or(serde_json::Value::Null, |payload| payload.0),
            attempts: row.get(4)?.unwrap_or(0),
            occurred_at: Timestamp(row.get(5)?.unwrap_or(0)),
            event_key: row.get(6)?.unwrap_or_default(),
        })
    })
}

/// Takes an event out again: it is about somebody who was erased.
pub fn remove(id: i64) -> SpiResult<()> {
    execute(
        "DELETE FROM integration.inbox i WHERE i.id = $1",
        &[id.into()],
    )
    .map(|_| ())
}

const SETTLE: &str =
    "UPDATE integration.inbox i SET state = $2, detail = $3, attempts = $4 WHERE i.id = $1";

/// Notes what became of an event.
pub fn settle(id: i64, state: State, detail: &str, attempts: i32) -> SpiResult<()> {
    execute(
        SETTLE,
        &[
            id.into(),
            state.name().into(),
            detail.into(),
            attempts.into(),
        ],
    )
    .map(|_| ())
}
