//! Who decided on a change of consent that the CRM's column made: somebody in the CRM, or in HubSpot.

use std::collections::BTreeMap;

use integration_engine::consent::Party;
use integration_engine::delivery::settlement::ConsentChange;
use integration_engine::record::mapping::SourceMap;
use integration_engine::record::{RecordKey, SourceId, Target};
use integration_engine::sync::clock::{ValueHash, Writer};
use pgrx::spi::SpiResult;

use crate::services;
use crate::store::holds;
use crate::store::links;
use crate::store::sources::Source;
use crate::worker::Context;

/// The place, in the map for HubSpot, of the column that holds consent.
fn shared_column(source: &Source) -> Option<(&SourceMap, usize)> {
    let (_, consent) = source.maps.get(&Target::Mailchimp)?.field_named("status")?;
    let map = source.maps.get(&Target::HubSpot)?;
    let mut fields = map.fields.iter();
    let index = fields.position(|field| field.column == consent.column)?;
    Some((map, index))
}

/// Names HubSpot where what the column holds now is what HubSpot wrote into it last.
pub fn attribute(context: &Context, changes: &mut [ConsentChange]) -> SpiResult<()> {
    let mut by_source: BTreeMap<SourceId, Vec<usize>> = BTreeMap::new();
    for (place, change) in changes.iter().enumerate() {
        if change.by == Party::Crm {
            by_source
                .entry(change.record.source)
                .or_default()
                .push(place);
        }
    }
    for (id, places) in by_source {
        let Some(source) = context.sources.get(&id) else {
            continue;
        };
        // What holds it for HubSpot alone says nothing about what HubSpot wrote before.
        if holds::is_held_for(id, Target::Mailchimp) {
            continue;
        }
        let Some((map, index)) = shared_column(source) else {
            continue;
        };
        let keys: Vec<&RecordKey> = places.iter().map(|at| &changes[*at].record.key).collect();
        let texts: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
        let known = links::read(id, Target::HubSpot, &texts)?;
        let Ok(rows) = source.try_read(map, &keys) else {
            continue;
        };
        let wrote = |key: &RecordKey| {
            let tick = known.get(key)?.clock.get(map.fields[index].id)?;
            let held = services::to_remote(map, rows.get(key)?, index).ok()?;
            let same = tick.hash == ValueHash::of(held.as_deref());
            (same && tick.by == Writer::Remote).then_some(())
        };
        let theirs: Vec<usize> = places
            .iter()
            .copied()
            .filter(|at| wrote(&changes[*at].record.key).is_some())
            .collect();
        for at in theirs {
            changes[at].by = Party::HubSpot;
        }
    }
    Ok(())
}
