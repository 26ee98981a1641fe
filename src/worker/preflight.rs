//! Definitions of what is mapped at the services: reading them when they are needed, and the maps
//! and alerts that follow from them.

use integration_engine::delivery::outcome::{Category, TargetSignal, Verdict};
use integration_engine::delivery::settlement::Outcome;
use integration_engine::limits::BudgetReport;
use integration_engine::now::Now;
use integration_engine::record::Target;
use integration_engine::wire::{Reply, TransportError};
use integration_hubspot::preflight as hubspot;
use integration_mailchimp::preflight::LookupResult;
use pgrx::spi::SpiResult;

use super::Context;
use super::target::TargetWorker;
use crate::services;
use crate::store::holds::{self, HoldCause};
use crate::store::{sources, state};
use crate::worker::target::preflight::{Said, Subject};

/// Kinds of alerts raised here.
pub const DROPPED: &str = "properties";
pub const UNREAD: &str = "preflight";

/// Problems listed in an alert; there may be as many as audiences times columns.
const LISTED: usize = 20;

/// Sees the maps in the light of what is known of the services, and tells what cannot be served.
/// The maps have to be as the tables say.
pub fn refine(worker: &mut TargetWorker, context: &mut Context) -> SpiResult<()> {
    let mut dropped = match worker.target {
        Target::HubSpot => {
            hold_unknown_objects(worker, context)?;
            refine_hubspot(worker, context)
        }
        Target::Mailchimp => refine_mailchimp(worker, context),
    };
    dropped.sort_unstable();
    let remedy = match worker.target {
        Target::HubSpot => "put right in HubSpot or by integration.map_field()",
        Target::Mailchimp => {
            "created: SELECT integration.provision('mailchimp'); does so, or map another field"
        }
    };
    let dropped = (!dropped.is_empty()).then(|| {
        format!(
            "{}; it is not sent until that is {remedy}",
            listed(&dropped)
        )
    });
    let refusals = worker.preflight.refusals();
    let unread = (!refusals.is_empty()).then(|| {
        let service = match worker.target {
            Target::HubSpot => "HubSpot's",
            Target::Mailchimp => "Mailchimp's",
        };
        format!(
            "{service} definitions cannot be read, so values go unchecked and unconverted: {}",
            listed(&refusals)
        )
    });
    let (target, known) = (worker.target, worker.preflight.is_known());
    let told = &mut worker.preflight_told;
    tell(target, DROPPED, &mut told.dropped, dropped, known)?;
    tell(target, UNREAD, &mut told.unread, unread, known)
}

fn listed(all: &[String]) -> String {
    let mut text = all
        .iter()
        .take(LISTED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    if all.len() > LISTED {
        text.push_str(&format!("; and {} more", all.len() - LISTED));
    }
    text
}

/// Tables whose custom object HubSpot does not have, or does not show, are held until it does.
fn hold_unknown_objects(worker: &mut TargetWorker, context: &Context) -> SpiResult<()> {
    let preflight = &worker.preflight.hubspot;
    for source in context.sources.values() {
        match preflight.refused(source.entity) {
            Some(why) => holds::hold(source.id, HoldCause::Schema, why)?,
            None if preflight.catalog.is_there(source.entity) => {
                holds::release(source.id, HoldCause::Schema)?
            }
            None => {}
        }
    }
    match worker.holds_changed() {
        true => worker.note_holds(context),
        false => Ok(()),
    }
}

fn refine_hubspot(worker: &mut TargetWorker, context: &mut Context) -> Vec<String> {
    let preflight = &mut worker.preflight.hubspot;
    let maps = context.sources.values();
    preflight.expect(maps.filter_map(|source| source.maps.get(&Target::HubSpot)));
    let mut dropped = Vec::new();
    for source in context.sources.values_mut() {
        if let Some(map) = source.maps.get_mut(&Target::HubSpot) {
            let catalog = &preflight.catalog;
            let (refined, left_out) = catalog.refine(map, &context.settings.hubspot_api);
            let lacking = catalog.lacking(map).map(|property| {
                format!(
                    "HubSpot creates no {} without {property}, and no column of {} is mapped to it",
                    map.entity.name(),
                    map.name
                )
            });
            dropped.extend(lacking);
            dropped.extend(left_out.iter().map(ToString::to_string));
            *map = refined;
        }
    }
    dropped
}

fn refine_mailchimp(worker: &mut TargetWorker, context: &mut Context) -> Vec<String> {
    let preflight = &mut worker.preflight.mailchimp;
    let used = worker
        .audiences
        .in_use(&context.settings.mailchimp_api.list);
    let maps = context.sources.values();
    preflight.expect(
        maps.filter_map(|source| source.maps.get(&Target::Mailchimp)),
        used.into_iter(),
    );
    let mut dropped = Vec::new();
    for source in context.sources.values_mut() {
        if let Some(map) = source.maps.get(&Target::Mailchimp) {
            let catalog = &preflight.catalog;
            let missing = catalog.missing(map, preflight.lists());
            dropped.extend(missing.iter().map(ToString::to_string));
            let refined = preflight
                .lists()
                .map(|list| (list.clone(), catalog.refine(map, list)));
            source.audiences = refined.collect();
        }
    }
    dropped
}

/// Nothing to tell is all well only where all is `known`.
fn tell(
    target: Target,
    kind: &str,
    told: &mut Said,
    message: Option<String>,
    known: bool,
) -> SpiResult<()> {
    if told.as_ref() == Some(&message) || (message.is_none() && !known) {
        return Ok(());
    }
    match &message {
        Some(message) => state::raise(kind, target, "", message)?,
        None => state::clear_alert(target, kind, "")?,
    }
    *told = Some(message);
    Ok(())
}

/// Takes in an answer; `true` when the maps have to be refined.
pub fn hear(
    worker: &mut TargetWorker,
    subject: &Subject,
    result: &Result<Reply, TransportError>,
    now: Now,
) -> bool {
    let preflight = &mut worker.preflight;
    let known_before = preflight.is_known();
    let heard = match subject {
        Subject::HubSpot(subject) => preflight.hubspot.hear(*subject, result.as_ref(), now.clock),
        Subject::Mailchimp(subject) => {
            preflight
                .mailchimp
                .hear(subject, result.as_ref(), now.clock)
        }
    };
    // What was not told for want of knowledge can be told now.
    let news = heard == LookupResult::News || (!known_before && preflight.is_known());
    let signal = services::signal(worker.target, result);
    if let Subject::HubSpot(hubspot::Subject::Schema(entity)) = subject
        && news
    {
        // Another object of that name, perhaps.
        worker.properties.remove(entity);
    }
    // A permission that is missing here, or a failure, need not concern the records.
    let concerns_all = heard == LookupResult::Later
        || (!worker.breaker.is_closed() && matches!(signal, TargetSignal::Failing { .. }));
    if concerns_all {
        worker.hear(&signal, &BudgetReport::default(), now);
    } else {
        worker.breaker.success();
    }
    news
}

/// Reads the maps from the tables again, and refines them for all targets.
pub fn renew(targets: &mut [TargetWorker], context: &mut Context) -> SpiResult<()> {
    context.sources = sources::load()?
        .into_iter()
        .map(|source| (source.id, source))
        .collect();
    targets
        .iter_mut()
        .try_for_each(|worker| refine(worker, context))
}

/// Records that failed for what a definition is thought to be are planned again once it has been
/// read again, unless that has just been done.
pub fn second_chance(worker: &mut TargetWorker, context: &Context, outcomes: &mut [Outcome]) {
    for outcome in outcomes {
        let Verdict::Dead {
            category: Category::Definition,
            why,
            ..
        } = &mut outcome.verdict
        else {
            continue;
        };
        let flight = &outcome.flight;
        let preflight = &mut worker.preflight;
        let doubted = match (worker.target, &flight.list) {
            (Target::HubSpot, _) => {
                let source = context.sources.get(&flight.record.source);
                source
                    .is_some_and(|source| preflight.hubspot.doubt(source.entity, context.now.clock))
            }
            (Target::Mailchimp, Some(list)) => preflight.mailchimp.doubt(list, context.now.clock),
            (Target::Mailchimp, None) => false,
        };
        if doubted {
            outcome.verdict = Verdict::Again {
                relink: None,
                batch_cap: None,
                why: std::mem::take(why),
            };
        }
    }
}
