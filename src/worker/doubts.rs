//! What a call of an earlier worker's may have changed, though nobody heard of it: planned as if
//! its answer had been lost, and remembered until it is written.

use integration_engine::delivery::call::Link;
use integration_engine::delivery::outcome::Verdict;
use integration_engine::queue::Change;
use integration_engine::queue::traces::{Watched, but_for};
use integration_engine::record::mapping::{Field, SourceMap};
use integration_engine::sync::clock::Tick;

use super::target::Flight;
use crate::store::sources::Source;

/// The fields of a table that may be in doubt.
pub fn watched(source: &Source, map: &SourceMap) -> Vec<Watched> {
    let number = |field: &Field| source.number(&field.column);
    map.fields
        .iter()
        .filter_map(|field| Watched::of(map.target, field, number(field)))
        .collect()
}

/// Those that are in doubt for a record that is about to be planned.
pub fn of(change: &Change, link: Option<&Link>, watched: &[Watched]) -> Vec<Tick> {
    link.map_or_else(Vec::new, |link| {
        change
            .traces
            .doubts(&link.clock, watched, change.changed_at)
    })
}

/// A deletion is no write, but if it may have happened, nothing of the record is certain. (What is
/// known of Mailchimp's members is noted before.)
pub fn of_deletion(flight: &Flight) -> Vec<Tick> {
    let link = flight.link.as_ref();
    link.map_or_else(Vec::new, |link| link.clock.ticks().to_vec())
}

/// What is to be noted as unknown besides what the verdict stores. `sent`: what the call carried.
pub fn left(flight: &mut Flight, verdict: &Verdict, sent: Vec<Tick>) -> Vec<Tick> {
    let mut doubts = std::mem::take(&mut flight.doubts);
    match verdict {
        // The link is stored with these verdicts, and its doubts with it.
        Verdict::Delivered { ticks, .. } | Verdict::Overruled { ticks, .. } => {
            let doubts = but_for(doubts, ticks);
            flight.link.as_mut().map(|link| link.clock.doubt(&doubts));
            Vec::new()
        }
        Verdict::Again { .. }
        | Verdict::Dead {
            member_status: Some(_),
            ..
        } => {
            flight.link.as_mut().map(|link| link.clock.doubt(&doubts));
            Vec::new()
        }
        // Nothing is known of it any more, or is to be.
        Verdict::Removed | Verdict::Withheld => Vec::new(),
        Verdict::Retry { .. } if verdict.is_uncertain() => {
            doubts = but_for(doubts, &sent);
            doubts.extend(sent);
            doubts
        }
        Verdict::Retry { .. }
        | Verdict::Unchanged
        | Verdict::NoConsent
        | Verdict::Dead {
            member_status: None,
            ..
        } => doubts,
    }
}
