//! Rows whose address is another row's member, in whatever audience.

use std::collections::BTreeMap;

use integration_engine::consent::shared::{self, Meeting};
use integration_engine::record::consent::Consent;
use integration_engine::record::{Lane, RecordRef, Target};
use pgrx::spi::SpiResult;

use crate::store::links;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::address_owner::describe;
use crate::worker::lane::plan::Planning;
use crate::worker::mailchimp::objections::{Noted, PlannedRow, look_at, looked_at_again};
use crate::worker::target::TargetWorker;

/// Looks at the members that have the addresses of a block: the opt-out of a row reaches them, and
/// theirs counts for the row.
pub fn meet(
    worker: &TargetWorker,
    context: &Context,
    source: &Source,
    rows: &mut [PlannedRow],
    noted: &Noted,
    planning: &mut Planning,
) -> SpiResult<()> {
    let mut wanted: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        // In one audience, a member with the address is what a row is refused for.
        let perhaps = context.settings.mailchimp_api.several || row.work.rival.is_some();
        if let Some(said) = row.said.as_ref().filter(|_| perhaps) {
            let of_address = wanted.entry(said.address.clone()).or_default();
            of_address.push(index);
        }
    }
    let addresses: Vec<String> = wanted.keys().cloned().collect();
    for (address, other) in links::written_under(Target::Mailchimp, &addresses)? {
        for index in wanted.get(&address).into_iter().flatten() {
            let row = &mut rows[*index];
            if row.flight.record != other {
                meet_one(worker, context, source, row, &other, noted, planning);
            }
        }
    }
    Ok(())
}

fn meet_one(
    worker: &TargetWorker,
    context: &Context,
    source: &Source,
    row: &mut PlannedRow,
    other: &RecordRef,
    noted: &Noted,
    planning: &mut Planning,
) {
    let PlannedRow { flight, work, said } = row;
    let Some(said) = said else { return };
    let change = worker.queue.change(flight.handle);
    // Taken back, even if what stands there now says nothing.
    let taken_back = change.is_some_and(|change| change.lane == Lane::OptOut);
    let mine = match said.consent {
        Consent::Unknown if taken_back => Consent::OptedOut,
        consent => consent,
    };
    let hash = said.hash();
    let meeting = shared::meet(mine, look_at(context, other, &hash));
    match meeting {
        Meeting::Nothing => return,
        Meeting::Met => {}
        Meeting::OptsOut => {
            let out = looked_at_again(flight, other, Lane::OptOut);
            planning.heirs.push(out);
        }
        Meeting::OptedOut => {
            work.objection
                .get_or_insert_with(|| describe(context, source, other));
        }
    }
    let met = [
        (other, meeting == Meeting::OptedOut),
        (&flight.record, mine == Consent::OptedOut),
    ];
    for (record, opted_out) in met {
        let mut known = noted.get(&hash).into_iter().flatten();
        if !known.any(|note| note.record == *record && note.opted_out == opted_out) {
            planning.objections.meets(&hash, record, opted_out);
        }
    }
}
