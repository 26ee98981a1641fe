//! Answers to calls that carried records: what they mean for the target, the tables and the log.

use std::sync::atomic::Ordering;

use integration_engine::delivery::call::{Call, CallKind, Reading};
use integration_engine::delivery::outbound::Outbound;
use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::delivery::settlement::{InFlight, Outcome};
use integration_engine::record::Target;

use super::{Answered, Road};
use crate::http::Answer;
use crate::services::with_call;
use crate::store::queue::dead_letters::LogEntry;
use crate::worker::requests::AnsweredCall;
use crate::worker::target::{PlannedCall, TargetWorker};
use crate::worker::{Context, preflight};

/// Reads the answer to a call. Returns what becomes of its records, and adds a row to the log.
pub fn read(
    worker: &mut TargetWorker,
    context: &Context,
    answered: AnsweredCall,
    log: &mut Vec<LogEntry>,
) -> Vec<Outcome> {
    let AnsweredCall {
        planned,
        answer,
        current,
    } = answered;
    let PlannedCall {
        call,
        flights,
        urgent,
        ..
    } = planned;
    with_call!(call, call => {
        let carried = Carried { call, flights, urgent, current };
        read_carried(worker, context, carried, &answer, log)
    })
}

/// What a call of one service carried.
struct Carried<S: Outbound> {
    call: Call<S>,
    flights: Vec<InFlight>,
    urgent: bool,
    /// It was sent with the credential we have now.
    current: bool,
}

fn read_carried<S: Road>(
    worker: &mut TargetWorker,
    context: &Context,
    carried: Carried<S>,
    answer: &Answer,
    log: &mut Vec<LogEntry>,
) -> Vec<Outcome> {
    let Carried {
        call,
        flights,
        urgent,
        current,
    } = carried;
    if let Some(slot) = context.slot {
        let under_way = slot.flights(worker.target);
        let records = flights.iter();
        records.for_each(|flight| under_way.end(flight.record.hash()));
    }
    let mut reading = S::read(&call, answer.result.as_ref(), &S::settings(worker, context));
    reading.budget.took = Some(answer.duration);
    if urgent {
        worker.urgent.hear(&reading.signal, context.now.instant);
    }
    let refused = matches!(
        reading.signal,
        TargetSignal::Unauthorized { .. } | TargetSignal::Forbidden { .. }
    );
    let outdated = !current && refused;
    let own = worker.hear_of(call.kind.allowance(), &reading.signal, context.now);
    let answered = Answered {
        call: &call,
        flights: &flights,
        result: &answer.result,
        outdated,
    };
    let partial = S::hear(worker, context, answered, &mut reading);
    if !outdated && !own && !partial {
        worker.hear(&reading.signal, &reading.budget, context.now);
    }
    if reading.signal == TargetSignal::Healthy {
        worker.account.proven();
    }
    note_gauges(context, worker.target, &reading);
    log.push(log_entry(&call, &flights, answer, &reading));
    let mut outcomes = outcomes(worker, call, flights, reading);
    preflight::second_chance(worker, context, &mut outcomes);
    outcomes
}

/// What becomes of a call's records.
fn outcomes<S: Outbound>(
    worker: &TargetWorker,
    call: Call<S>,
    flights: Vec<InFlight>,
    reading: Reading,
) -> Vec<Outcome> {
    let resting = match reading.signal {
        TargetSignal::Healthy => false,
        TargetSignal::Failing { .. } => !worker.breaker.is_closed(),
        TargetSignal::Throttled { .. }
        | TargetSignal::DailyLimit { .. }
        | TargetSignal::Crowded { .. }
        | TargetSignal::Unauthorized { .. }
        | TargetSignal::Forbidden { .. } => true,
    };
    let items = call.items.into_iter().zip(flights);
    items
        .zip(reading.verdicts)
        .map(|((item, flight), verdict)| {
            Outcome::called(worker.target, flight, item, verdict, resting)
        })
        .collect()
}

/// Log row of a request that carried records.
fn log_entry<S: Outbound>(
    call: &Call<S>,
    flights: &[InFlight],
    answer: &Answer,
    reading: &Reading,
) -> LogEntry {
    LogEntry {
        target: S::TARGET,
        method: call.request.method.name(),
        path: call.request.path.clone(),
        status: answer.result.as_ref().ok().map(|reply| reply.status),
        duration_ms: answer.duration.as_secs_f64() * 1_000.0,
        records: call.items.len(),
        attempt: flights
            .iter()
            .map(|flight| flight.attempts)
            .max()
            .unwrap_or(0)
            + 1,
        correlation_id: reading.correlation_id.clone(),
        error: reading.error.clone(),
    }
}

/// Figures for the view `status`.
fn note_gauges(context: &Context, target: Target, reading: &Reading) {
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
