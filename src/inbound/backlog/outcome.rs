//! Stores what became of an event, or undoes what it did.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use pgrx::prelude::*;
use pgrx::spi::SpiResult;

use super::super::{ApplyContext, Fate, Refused};
use crate::pg;
use crate::store::inbound::inbox::{self, EventState, FAILED_ALERT, PendingEvent};
use crate::store::{self, state};

/// Stores the outcome of an event.
pub(super) fn settle(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    state: EventState,
    detail: &str,
) -> SpiResult<()> {
    if state == EventState::Ignored && !apply_context.hidden.is_empty() {
        return inbox::remove(event.id);
    }
    settle_after(apply_context, event, state, detail, event.attempts)
}

pub(super) fn settle_after(
    apply_context: &ApplyContext,
    event: &PendingEvent,
    state: EventState,
    detail: &str,
    attempts: u32,
) -> SpiResult<()> {
    inbox::settle(event.id, state, detail, attempts)?;
    apply_context.raise_alerts(event.target())?;
    if state != EventState::Failed {
        return Ok(());
    }
    if let Some(slot) = apply_context.context.slot {
        let failed = &slot.gauges(event.target()).inbox_failed;
        failed.fetch_add(1, Ordering::Relaxed);
    }
    let message = format!(
        "event {} of {} could not be applied: {detail}. Once that is put right: SELECT integration.inbox_retry(); all of them: SELECT * FROM integration.inbox WHERE state = 'failed'",
        event.id, event.origin
    );
    state::raise(FAILED_ALERT, event.target(), "", &message)
}

/// Does all of something or nothing: what was refused leaves nothing behind.
pub(super) fn attempt(work: impl FnOnce() -> SpiResult<Fate>) -> SpiResult<Fate> {
    store::links::intents::begin_attempt();
    let mut refused = None;
    let done = pg::guarded(AssertUnwindSafe(|| {
        let fate = work()?;
        if let Fate::Refused(why) = fate {
            refused = Some(why);
            // It ends the subtransaction.
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_TRANSACTION_ROLLBACK,
                "the event is refused"
            );
        }
        Ok(fate)
    }));
    match done {
        Ok(fate) => fate,
        Err(error) => {
            store::links::intents::undo_attempt();
            Ok(Fate::Refused(
                refused.unwrap_or_else(|| Refused::of(&error)),
            ))
        }
    }
}
