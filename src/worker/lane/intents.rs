//! What is stored of records' identities before calls leave.

use std::collections::VecDeque;

use integration_engine::delivery::intents::{self, Intents};
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::once::Once;
use integration_engine::record::{RecordRef, Target};
use pgrx::spi::SpiResult;

use crate::services::with_call;
use crate::store::associations::{self as table, Association};
use crate::store::consent::suppressions::{self, SignUps};
use crate::store::links::{self, LinkCause};
use crate::store::queue::dead_letters;
use crate::worker::Context;
use crate::worker::lane::plan::Move;
use crate::worker::target::PlannedCall;

/// Whether something has to be stored before a call leaves.
pub fn is_to_note(planned: &PlannedCall) -> bool {
    with_call!(&planned.call, call => intents::are_needed(call, &planned.flights))
}

/// Stores, before calls leave, which records they may create: should an answer get lost, the
/// record is looked for instead of being created twice. Returns whether there was something.
pub fn note_intents(target: Target, planned: &mut VecDeque<PlannedCall>) -> SpiResult<bool> {
    let mut intents = Intents::default();
    for planned in planned {
        let flights = &mut planned.flights;
        with_call!(&mut planned.call, call => intents.note(call, flights));
    }
    for created in &intents.creates {
        links::intents::note(target, created)?;
    }
    links::write(target, LinkCause::Noted, &intents.noted)?;
    suppressions::remember(&intents.asked, SignUps::OfLeavers, "outbox")?;
    Ok(!intents.is_empty())
}

/// Stores links under the keys their rows have by now.
pub fn move_links(target: Target, context: &Context, moves: Vec<Move>) -> SpiResult<()> {
    for moved in moves.iter().filter(|_| target == Target::HubSpot) {
        let of_source = |known: &&Association| known.source == moved.from.source;
        for association in context.associations.iter().filter(of_source) {
            table::move_record(association, &moved.from.key, &moved.to.record.key)?;
        }
    }
    if !moves.is_empty() && context.dead(target) > 0 {
        let moved: Vec<_> = moves
            .iter()
            .map(|moved| (&moved.from, &moved.to.record))
            .collect();
        dead_letters::pass_on(target, &moved)?;
    }
    let (from, to): (Vec<RecordRef>, Once<LinkEntry>) = moves
        .into_iter()
        .map(|moved| (moved.from, moved.to))
        .unzip();
    links::remove(target, &from)?;
    links::write(target, LinkCause::Noted, &to)
}
