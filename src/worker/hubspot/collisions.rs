//! HubSpot: a table most of whose records turn out to be somebody else's is held, instead of a dead
//! letter for every row of it.

use integration_engine::delivery::call::Reading;
use integration_engine::delivery::outcome::{Category, Verdict};
use integration_engine::record::SourceId;
use integration_hubspot::HubSpot;
use integration_hubspot::collisions::{self, Tally};

use pgrx::spi::quote_literal;

use crate::store::crm::trouble;
use crate::store::holds::HoldCause;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::Answered;
use crate::worker::target::TargetWorker;

/// Counts whose the records of an answer are. Those of tables that are to be held wait.
pub fn hear(
    worker: &mut TargetWorker,
    context: &Context,
    answered: &Answered<'_, HubSpot>,
    reading: &mut Reading,
) {
    let source_of = |id: &SourceId| {
        let source = context.sources.get(id);
        source.filter(|source| !source.collisions_accepted)
    };
    let tallies = &mut worker.collisions.tallies;
    for (flight, verdict) in answered.flights.iter().zip(&reading.verdicts) {
        let owner = collisions::owner(&answered.call.kind, verdict);
        if let Some((owner, source)) = owner.zip(source_of(&flight.record.source)) {
            tallies.entry(source.id).or_default().count(owner);
        }
    }
    for (flight, verdict) in answered.flights.iter().zip(&mut reading.verdicts) {
        let Some(source) = source_of(&flight.record.source) else {
            continue;
        };
        let tally = tallies.get(&source.id).copied().unwrap_or_default();
        if let Verdict::Dead {
            category: Category::Taken,
            why,
            ..
        } = verdict
            && tally.is_systematic()
        {
            trouble::find_once(source.id, HoldCause::ExternalId, || {
                reason(source, tally, why)
            });
            *verdict = Verdict::Again {
                relink: None,
                batch_cap: None,
                why: std::mem::take(why),
            };
        }
    }
}

fn reason(source: &Source, tally: Tally, example: &str) -> String {
    let Source { name, entity, .. } = source;
    format!(
        "{} of the {} records looked up in HubSpot are somebody else's; {example}. If another table, \
         database or program names its records the same, SELECT integration.track({}, '{}', \
         external_id => '<prefix>:'); names these otherwise; if each of them is to be a dead letter \
         instead, and the others are to be sent, SELECT integration.resume('hubspot');",
        tally.others,
        tally.looked,
        quote_literal(name),
        entity.name(),
    )
}
