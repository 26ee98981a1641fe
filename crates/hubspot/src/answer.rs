//! What HubSpot's answer to a batch call means for each of its records.

mod lookups;
mod results;

use std::time::Duration;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use crate::{Call, HubSpot, HubSpotCall, HubSpotSettings};
use integration_engine::{
    delivery::{
        call::{Item, Reading},
        outcome::{Category, Relink, TargetSignal, Verdict},
        verdicts::{bisect, failing, for_all, no_verdict, summary},
    },
    erasure::is_confirmed,
    limits::BudgetReport,
    service::failure::{Class, classify},
    sync::clock::ValueHash,
    wire::{Reply, TransportError},
};

use lookups::{matched, patched, vacant};
pub(super) use results::taken;
use results::{named, verdicts};

use super::{
    fault::ErrorBody,
    wire::{BatchReply, ResultRow, property},
};

/// Reads an answer. Success is only what `results` confirm; a record that is named nowhere is
/// unknown and sent again alone.
pub(crate) fn read(
    call: &Call,
    reply: Result<&Reply, &TransportError>,
    settings: &HubSpotSettings,
) -> Reading {
    let status = reply.ok().map(|reply| reply.status);
    let class = classify::<HubSpot>(reply);
    let by_record = match (&class, reply) {
        (Class::Answered, Ok(reply)) => answered(call, reply, settings),
        (Class::Rejected, Ok(reply)) => Ok(rejected(call, reply, settings)),
        (Class::NotFound, Ok(reply)) => not_found(call, reply, settings),
        _ => Err(class),
    };
    let by_record = by_record.map(|verdicts| vacated(call, verdicts));
    let correlation_id = reply.ok().and_then(correlation_id);
    let budget = reply.map(budget).unwrap_or_default();
    let by_record = by_record.map_err(|class| for_all(&class, status, call.items.len()));
    match by_record {
        Ok(verdicts) => {
            let error = summary(&verdicts).filter(|_| !is_find(&call.kind));
            Reading {
                verdicts,
                signal: TargetSignal::Healthy,
                budget,
                correlation_id,
                error,
            }
        }
        Err(Some((verdicts, signal, why))) => Reading {
            verdicts,
            signal,
            budget,
            correlation_id,
            error: Some(why),
        },
        // No class that concerns the whole call is left without verdicts.
        Err(None) => Reading {
            verdicts: vec![no_verdict("HubSpot", call.items.len(), 0); call.items.len()],
            signal: TargetSignal::Healthy,
            budget,
            correlation_id,
            error: None,
        },
    }
}

/// A record that was looked for before it is created, and is not there, may be created.
fn vacated(call: &Call, mut verdicts: Vec<Verdict>) -> Vec<Verdict> {
    for (item, verdict) in call.items.iter().zip(&mut verdicts) {
        let forgotten = matches!(
            verdict,
            Verdict::Again {
                relink: Some(Relink::Forget),
                ..
            }
        );
        if forgotten && item.own.is_some() && is_find(&call.kind) {
            *verdict = vacant(item);
        }
    }
    verdicts
}

const fn is_find(kind: &HubSpotCall) -> bool {
    matches!(kind, HubSpotCall::Find { .. } | HubSpotCall::Match { .. })
}

fn answered(call: &Call, reply: &Reply, settings: &HubSpotSettings) -> Result<Vec<Verdict>, Class> {
    match &call.kind {
        HubSpotCall::Match { property, .. } => {
            return matched(call, reply, property, settings);
        }
        HubSpotCall::Patch { .. } => return patched(call, reply),
        _ => {}
    }
    let removes = matches!(call.kind, HubSpotCall::Archive { .. });
    let erased = matches!(call.kind, HubSpotCall::Erase { .. }) && is_confirmed(reply);
    if erased || (removes && reply.body.iter().all(u8::is_ascii_whitespace)) {
        return Ok(vec![Verdict::Removed; call.items.len()]);
    }
    match &call.kind {
        HubSpotCall::Upsert { id_property, .. } | HubSpotCall::Find { id_property, .. } => {
            let body: BatchReply<'_, Option<&RawValue>> = parse(reply)?;
            let key = |row: &ResultRow<'_, Option<&RawValue>>| {
                let value = property(row.properties?, id_property)?;
                Some(named(value.as_str(), id_property).into_owned())
            };
            Ok(verdicts(call, reply.status, &body, key, held, settings))
        }
        HubSpotCall::Update { .. } if call.items.iter().any(|item| stage(item).is_some()) => {
            let body: BatchReply<'_, Option<&RawValue>> = parse(reply)?;
            let key = |row: &ResultRow<'_, Option<&RawValue>>| Some(row.id.as_str().to_owned());
            Ok(verdicts(call, reply.status, &body, key, held, settings))
        }
        _ => {
            let body: BatchReply<'_, IgnoredAny> = parse(reply)?;
            let key = |row: &ResultRow<'_, IgnoredAny>| Some(row.id.as_str().to_owned());
            Ok(verdicts(
                call,
                reply.status,
                &body,
                key,
                |_, _| None,
                settings,
            ))
        }
    }
}

/// A property's value in a result.
fn held(row: &ResultRow<'_, Option<&RawValue>>, name: &str) -> Option<String> {
    Some(property(row.properties?, name)?.as_str().to_owned())
}

/// A contact's or company's stage in its life as a customer.
const STAGE: &str = "lifecyclestage";

/// The lifecycle stage that is sent for a record.
fn stage(item: &Item) -> Option<&str> {
    let (_, rest) = item.fragment.split_once("\"lifecyclestage\":\"")?;
    let (stage, _) = rest.split_once('"')?;
    (!stage.is_empty()).then_some(stage)
}

/// HubSpot: a lifecycle stage only moves forward; an earlier one is ignored without a word.
fn overruled(verdict: Verdict, item: &Item, kept: Option<String>) -> Verdict {
    let (sent, kept) = match (stage(item), kept) {
        (Some(sent), Some(kept)) if !kept.is_empty() && kept != sent => (sent, kept),
        _ => return verdict,
    };
    let Verdict::Delivered {
        remote_id: Some(remote_id),
        remote_key,
        mut ticks,
        met: false,
        ..
    } = verdict
    else {
        return verdict;
    };
    let hash = ValueHash::of(Some(sent));
    for tick in ticks.iter_mut().filter(|tick| tick.hash == hash) {
        tick.hash = ValueHash::of(Some(&kept));
    }
    let why = format!(
        "HubSpot kept {STAGE} {kept}: the stage only moves forward, and {sent} comes before it. \
         Everything else was written. Set it to {kept} or a later one, or clear it at HubSpot and \
         retry this"
    );
    Verdict::Overruled {
        remote_id,
        remote_key,
        ticks,
        why,
    }
}

fn parse<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, Class> {
    serde_json::from_slice(&reply.body).map_err(|error| {
        failing(
            format!(
                "HubSpot answered HTTP {} with a body that cannot be read: {error}",
                reply.status
            ),
            true,
        )
    })
}

/// The whole call was refused.
fn rejected(call: &Call, reply: &Reply, settings: &HubSpotSettings) -> Vec<Verdict> {
    let status = reply.status;
    let items = call.items.len();
    let fault = serde_json::from_slice::<Value>(&reply.body)
        .map(|body| ErrorBody::of(&body))
        .unwrap_or_default();
    if matches!(status, 413 | 414) {
        return too_large(items, status);
    }
    if let [item] = call.items.as_slice() {
        // What cannot be searched for cannot be found either.
        if matches!(call.kind, HubSpotCall::Match { .. }) {
            return vec![vacant(item)];
        }
        return vec![fault.verdict(&call.kind, item, settings, status)];
    }
    let why = fault.sentence();
    if fault.lacks_property(settings) || fault.is_about_type() {
        let verdict = |item| fault.verdict(&call.kind, item, settings, status);
        return call.items.iter().map(verdict).collect();
    }
    let culprits: Vec<Option<&ErrorBody>> = call
        .items
        .iter()
        .enumerate()
        .map(|(at, item)| {
            fault
                .inner
                .iter()
                .chain(std::iter::once(&fault))
                .find(|fault| fault.concerns(at, item))
        })
        .collect();
    if fault.is_duplicate() || culprits.iter().all(Option::is_none) {
        return bisect(items, &why);
    }
    let verdict = |(item, culprit): (&Item, Option<&ErrorBody>)| match culprit {
        Some(fault) => fault.verdict(&call.kind, item, settings, status),
        None => Verdict::Again {
            relink: None,
            batch_cap: None,
            why: format!("another record of its call was refused: {why}"),
        },
    };
    call.items.iter().zip(culprits).map(verdict).collect()
}

fn too_large(items: usize, status: u16) -> Vec<Verdict> {
    let why = "the request is larger than HubSpot accepts".to_owned();
    if items > 1 {
        return bisect(items, &why);
    }
    let category = Category::TooLarge;
    vec![Verdict::Dead {
        category,
        status: Some(status),
        why,
        member_status: None,
    }]
}

/// 404 for a whole batch call: records, if it says so; otherwise the path itself is unknown.
fn not_found(
    call: &Call,
    reply: &Reply,
    settings: &HubSpotSettings,
) -> Result<Vec<Verdict>, Class> {
    let fault = serde_json::from_slice::<Value>(&reply.body)
        .map(|body| ErrorBody::of(&body))
        .unwrap_or_default();
    // A record's own path. HubSpot often leaves the category out, but words it so.
    let named = fault.category == "OBJECT_NOT_FOUND" || fault.message == "resource not found";
    let by_id = matches!(
        call.kind,
        HubSpotCall::Patch { .. } | HubSpotCall::Erase { .. }
    );
    if named && by_id {
        return Ok(call
            .items
            .iter()
            .map(|_| fault.not_found(&call.kind, reply.status))
            .collect());
    }
    if fault.category == "OBJECT_NOT_FOUND" || fault.names_records() || fault.is_about_type() {
        return Ok(rejected(call, reply, settings));
    }
    let why = format!(
        "HubSpot does not know {} (HTTP {}); check integration.hubspot_api_version and \
         integration.hubspot_base_url",
        call.request.path, reply.status
    );
    Err(failing(why, false))
}

/// What the headers say about the request budget. HubSpot: on 2xx and 429, not on searches.
pub fn budget(reply: &Reply) -> BudgetReport {
    let number = |name| {
        reply
            .header(name)
            .and_then(|text| text.trim().parse::<u32>().ok())
    };
    BudgetReport {
        max: number("x-hubspot-ratelimit-max"),
        remaining: number("x-hubspot-ratelimit-remaining"),
        interval: number("x-hubspot-ratelimit-interval-milliseconds")
            .map(|milliseconds| Duration::from_millis(milliseconds.into())),
        daily: number("x-hubspot-ratelimit-daily"),
        daily_remaining: number("x-hubspot-ratelimit-daily-remaining"),
        took: None,
    }
}

/// HubSpot's own id of the request: a header, or else in the bodies of errors.
pub(super) fn correlation_id(reply: &Reply) -> Option<String> {
    if let Some(id) = reply.header("x-hubspot-correlation-id") {
        return Some(id.to_owned());
    }
    if reply.status < 300 {
        return None;
    }
    let body = serde_json::from_slice::<Value>(&reply.body).ok()?;
    body.get("correlationId")
        .and_then(Value::as_str)
        .map(str::to_owned)
}
