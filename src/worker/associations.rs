//! Which associations are owed: noted when records are settled.

use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::{RecordRef, Target};
use pgrx::spi::SpiResult;

use super::Context;
use super::target::TargetWorker;
use crate::store::associations as table;
use crate::store::holds;

/// Records that were settled, as far as their associations are concerned.
#[derive(Default)]
pub struct Settled<'a> {
    /// Nothing more is to be sent for them.
    pub done: &'a [RecordRef],
    /// Written to HubSpot.
    pub pushed: &'a [LinkEntry],
    /// Another record at HubSpot than before.
    pub readopted: &'a [RecordRef],
    /// No longer at HubSpot.
    pub unlinked: &'a [RecordRef],
}

/// Notes which associations are owed now, in the transaction that settles the records. Returns the
/// records whose tables cannot be read at present: they are to be looked at once more.
pub fn note(
    worker: &mut TargetWorker,
    context: &Context,
    settled: Settled,
) -> SpiResult<Vec<RecordRef>> {
    if worker.target != Target::HubSpot || context.associations.is_empty() {
        return Ok(Vec::new());
    }
    let (mut owed, mut unread) = (0, Vec::new());
    if !settled.unlinked.is_empty() {
        owed += table::unhold(&context.associations, settled.unlinked)?;
    }
    for association in &context.associations {
        let done: Vec<_> = settled
            .done
            .iter()
            .filter(|record| record.source == association.source)
            .map(|record| &record.key)
            .collect();
        if let Some(source) = context.sources.get(&association.source)
            && !done.is_empty()
            && !holds::is_held_for(source.id, Target::HubSpot)
        {
            match table::note(association, source, &done)? {
                Some(noted) => owed += noted,
                None => unread.extend(done.into_iter().map(|key| RecordRef {
                    source: source.id,
                    key: key.clone(),
                })),
            }
        }
        let parents: Vec<&str> = settled
            .pushed
            .iter()
            .filter(|entry| entry.record.source == association.to_source)
            .map(|entry| entry.record.key.as_str())
            .collect();
        if !parents.is_empty() {
            owed += table::parents_linked(association, &parents)?;
        }
        let changed = table::keys_of(settled.readopted, association.to_source);
        if !changed.is_empty() {
            owed += table::parents_changed(association, &changed)?;
        }
    }
    worker.associations.add(owed, context.now.instant);
    Ok(unread)
}
