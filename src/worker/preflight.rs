//! Definitions of what is mapped at HubSpot: reading them when they are needed, and the maps and
//! alerts that follow from them.

use integration_engine::call::{Reply, TransportError};
use integration_engine::hubspot::preflight::{Heard, Subject};
use integration_engine::outcome::{BudgetReport, Category, TargetSignal, Verdict};
use integration_engine::record::Target;
use pgrx::spi::SpiResult;
use std::time::Instant;

use super::target::TargetWorker;
use super::{Outcome, World, answers};
use crate::store::{sources, state};

/// Kinds of alerts raised here.
pub const DROPPED: &str = "properties";
pub const UNREAD: &str = "preflight";

/// What is told in alerts at present.
#[derive(Default)]
pub struct Told {
    dropped: Option<String>,
    unread: Option<String>,
}

/// Sees the maps in the light of what is known of HubSpot, and tells what cannot be served.
/// The maps have to be as the tables say.
pub fn refine(worker: &mut TargetWorker, world: &mut World) -> SpiResult<()> {
    if worker.target != Target::HubSpot {
        return Ok(());
    }
    let maps = world.sources.values();
    worker
        .preflight
        .expect(maps.filter_map(|source| source.maps.get(&Target::HubSpot)));
    let mut dropped = Vec::new();
    for source in world.sources.values_mut() {
        if let Some(map) = source.maps.get_mut(&Target::HubSpot) {
            let catalog = &worker.preflight.catalog;
            let (refined, left_out) = catalog.refine(map, &world.settings.hubspot_api);
            *map = refined;
            dropped.extend(left_out.iter().map(ToString::to_string));
        }
    }
    dropped.sort_unstable();
    let dropped = (!dropped.is_empty()).then(|| {
        format!(
            "{}; it is not sent until that is put right in HubSpot or by integration.map_field()",
            dropped.join("; ")
        )
    });
    let refusals = worker.preflight.refusals();
    let unread = (!refusals.is_empty()).then(|| {
        format!(
            "HubSpot's definitions cannot be read, so values go unchecked and unconverted: {}",
            refusals.join("; ")
        )
    });
    tell(DROPPED, &mut worker.preflight_told.dropped, dropped)?;
    tell(UNREAD, &mut worker.preflight_told.unread, unread)
}

fn tell(kind: &str, told: &mut Option<String>, message: Option<String>) -> SpiResult<()> {
    if *told == message {
        return Ok(());
    }
    match &message {
        Some(message) => state::raise(kind, Target::HubSpot, message)?,
        None => state::clear_alert(Target::HubSpot, kind)?,
    }
    *told = message;
    Ok(())
}

/// Takes in an answer; `true` when the maps have to be refined.
pub fn hear(
    worker: &mut TargetWorker,
    subject: Subject,
    result: &Result<Reply, TransportError>,
    clock: u64,
) -> bool {
    let heard = worker.preflight.hear(subject, result.as_ref(), clock);
    let signal = answers::signal(Target::HubSpot, result);
    // A permission that is missing here, or a failure, need not concern the records.
    let concerns_all = heard == Heard::Later
        || (!worker.breaker.is_closed() && matches!(signal, TargetSignal::Failing { .. }));
    if concerns_all {
        worker.hear(&signal, &BudgetReport::default(), clock, Instant::now());
    } else {
        worker.breaker.success();
    }
    heard == Heard::News
}

/// Reads the maps from the tables again, and refines them.
pub fn renew(worker: &mut TargetWorker, world: &mut World) -> SpiResult<()> {
    if worker.target != Target::HubSpot {
        return Ok(());
    }
    world.sources = sources::load()?
        .into_iter()
        .map(|source| (source.id, source))
        .collect();
    refine(worker, world)
}

/// Records that failed for what a definition is thought to be are planned again once it has been
/// read again, unless that has just been done.
pub fn second_chance(
    worker: &mut TargetWorker,
    world: &World,
    outcomes: &mut [Outcome],
    clock: u64,
) {
    for outcome in outcomes {
        let Verdict::Dead {
            category: Category::Definition,
            why,
            ..
        } = &mut outcome.verdict
        else {
            continue;
        };
        let source = world.sources.get(&outcome.flight.record.source);
        if source.is_some_and(|source| worker.preflight.doubt(source.entity, clock)) {
            outcome.verdict = Verdict::Again {
                relink: None,
                batch_cap: None,
                why: std::mem::take(why),
            };
        }
    }
}
