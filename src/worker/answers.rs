//! Requests that carry no records: who are we, and the log rows of those.

use integration_engine::record::Target;
use integration_engine::wire::Request;
use integration_hubspot as hubspot;
use integration_mailchimp as mailchimp;

use super::Context;
use crate::http::Answer;
use crate::store::queue::dead_letters::LogEntry;

/// A harmless request that any credential may make: who are we?
pub fn probe(target: Target, context: &Context) -> Request {
    match target {
        Target::HubSpot => hubspot::property::account_request(&context.settings.hubspot_api),
        Target::Mailchimp => mailchimp::account_request(),
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
