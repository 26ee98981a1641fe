//! What answers mean for the tables: readings as outcomes, log rows and figures.

use std::sync::atomic::Ordering;

use integration_engine::delivery::call::Reading;
use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::delivery::settlement::Outcome;
use integration_engine::record::Target;
use integration_engine::service::failure::Class;
use integration_engine::wire::{Reply, Request, TransportError};
use integration_hubspot as hubspot;
use integration_mailchimp as mailchimp;

use super::target::{PlannedCall, TargetWorker};
use super::{Context, sharing};
use crate::http::Answer;
use crate::services;
use crate::store::queue::dead_letters::LogEntry;

/// A harmless request that any credential may make: who are we?
pub fn probe(target: Target, context: &Context) -> Request {
    match target {
        Target::HubSpot => hubspot::property::account_request(&context.settings.hubspot_api),
        Target::Mailchimp => mailchimp::account_request(),
    }
}

/// What an answer that is not about records says about its target.
pub fn signal(target: Target, result: &Result<Reply, TransportError>) -> TargetSignal {
    match services::classify(target, result.as_ref()) {
        Class::Answered | Class::Rejected | Class::NotFound => TargetSignal::Healthy,
        Class::Failing { why, .. } => TargetSignal::Failing { why },
        Class::Throttled { why, wait } => TargetSignal::Throttled { wait, why },
        Class::DailyLimit { why, until, .. } => TargetSignal::DailyLimit { until, why },
        Class::Crowded { why, wait, .. } => TargetSignal::Crowded { wait, why },
        Class::Unauthorized { why } => TargetSignal::Unauthorized { why },
        Class::Forbidden { why } => TargetSignal::Forbidden { why },
    }
}

/// Log row of a request that carried no records.
pub fn plain_entry(target: Target, request: &Request, answer: &Answer) -> LogEntry {
    LogEntry {
        target,
        method: request.method.name(),
        path: request.path.clone(),
        status: answer.result.as_ref().ok().map(|reply| reply.status),
        duration_ms: answer.duration.as_secs_f64() * 1_000.0,
        records: 0,
        attempt: 1,
        correlation_id: None,
        error: answer.result.as_ref().err().map(ToString::to_string),
    }
}

pub fn read(
    worker: &TargetWorker,
    planned: &PlannedCall,
    result: &Result<Reply, TransportError>,
    context: &Context,
) -> Reading {
    match worker.target {
        Target::HubSpot => {
            let settings = sharing::settings(worker, context);
            hubspot::read(&planned.call, result.as_ref(), &settings)
        }
        Target::Mailchimp => mailchimp::read(
            &planned.call,
            result.as_ref(),
            &context.settings.mailchimp_api,
        ),
    }
}

pub fn outcomes(worker: &TargetWorker, planned: PlannedCall, reading: Reading) -> Vec<Outcome> {
    let resting = match reading.signal {
        TargetSignal::Healthy => false,
        TargetSignal::Failing { .. } => !worker.breaker.is_closed(),
        TargetSignal::Throttled { .. }
        | TargetSignal::DailyLimit { .. }
        | TargetSignal::Crowded { .. }
        | TargetSignal::Unauthorized { .. }
        | TargetSignal::Forbidden { .. } => true,
    };
    let items = planned.call.items.into_iter().zip(planned.flights);
    items
        .zip(reading.verdicts)
        .map(|((item, flight), verdict)| {
            Outcome::called(worker.target, flight, item, verdict, resting)
        })
        .collect()
}

pub fn log_entry(
    target: Target,
    planned: &PlannedCall,
    answer: &Answer,
    reading: &Reading,
) -> LogEntry {
    LogEntry {
        target,
        method: planned.call.request.method.name(),
        path: planned.call.request.path.clone(),
        status: answer.result.as_ref().ok().map(|reply| reply.status),
        duration_ms: answer.duration.as_secs_f64() * 1_000.0,
        records: planned.call.items.len(),
        attempt: planned
            .flights
            .iter()
            .map(|flight| flight.attempts)
            .max()
            .unwrap_or(0)
            + 1,
        correlation_id: reading.correlation_id.clone(),
        error: reading.error.clone(),
    }
}

pub fn note_gauges(context: &Context, target: Target, reading: &Reading) {
    let Some(slot) = context.slot else { return };
    let (gauges, now) = (slot.gauges(target), context.now.timestamp.0);
    if now - gauges.minute.load(Ordering::Relaxed) >= 60_000 {
        gauges.minute.store(now, Ordering::Relaxed);
        gauges.requests.store(0, Ordering::Relaxed);
        gauges.errors.store(0, Ordering::Relaxed);
    }
    gauges.requests.fetch_add(1, Ordering::Relaxed);
    if reading.error.is_some() {
        gauges.errors.fetch_add(1, Ordering::Relaxed);
    }
    if matches!(reading.signal, TargetSignal::Healthy) {
        gauges.last_success.store(now, Ordering::Relaxed);
    }
    let number = |value: Option<u32>| value.map_or(-1, i64::from);
    if reading.budget.max.is_some() {
        gauges
            .rate_limit
            .store(number(reading.budget.max), Ordering::Relaxed);
        gauges
            .rate_remaining
            .store(number(reading.budget.remaining), Ordering::Relaxed);
    }
}
