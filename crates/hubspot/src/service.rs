//! HubSpot as the mechanism sees it.

use std::time::Duration;

use serde_json::Value as Json;

use integration_engine::{
    delivery::{
        call::{Item, Link, Reading, Work},
        outbound::Outbound,
    },
    queue::traces::Watched,
    record::{
        Target,
        mapping::{Direction, Field, SourceMap},
    },
    service::{
        Service,
        failure::{Class, FailedReply},
    },
    value::{self, Value, ValueError},
    wire::{Reply, TransportError},
};

use super::{
    BATCH_MAX, Call, Decision, HubSpotCall, HubSpotSettings, answer, calls, kind, plan, values,
};

/// The window of the usual limit.
const WINDOW: Duration = Duration::from_secs(10);
/// The search limit is per second.
const SEARCH_WINDOW: Duration = Duration::from_secs(1);
/// How often to ask again while the day's requests are used up, if nobody says until when.
const DAILY_WAIT: Duration = Duration::from_secs(600);

/// The service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubSpot;

impl Outbound for HubSpot {
    type Settings = HubSpotSettings;
    type Kind = HubSpotCall;

    const BATCH: usize = BATCH_MAX;

    fn decide(work: &Work, index: usize, map: &SourceMap, settings: &HubSpotSettings) -> Decision {
        plan::decide(work, index, map, settings)
    }

    fn assemble(sends: Vec<(HubSpotCall, Item)>, settings: &HubSpotSettings) -> Vec<Call> {
        calls::assemble(sends, settings)
    }

    fn to_note(known: Option<&Link>, item: &Item, kind: &HubSpotCall) -> Option<Link> {
        kind::to_note(known, item, kind)
    }

    fn read(
        call: &Call,
        reply: Result<&Reply, &TransportError>,
        settings: &HubSpotSettings,
    ) -> Reading {
        answer::read(call, reply, settings)
    }
}

impl Service for HubSpot {
    const TARGET: Target = Target::HubSpot;
    const CREDENTIAL: &'static str = "integration.hubspot_access_token (or its OAuth settings)";
    // It takes no longer over many requests than over few.
    const SLOWS_DOWN: bool = false;

    fn judge(refusal: &FailedReply<'_>) -> Option<Class> {
        match refusal.status {
            403 => forbidden(refusal),
            429 => Some(too_many(refusal)),
            _ => None,
        }
    }

    fn watched(field: &Field, number: Option<i16>) -> Option<Watched> {
        (field.direction != Direction::Pull).then_some(Watched {
            field: field.id,
            number,
            returns: true,
        })
    }

    fn to_remote<'r>(map: &SourceMap, row: &'r [Option<String>], index: usize) -> Value<'r> {
        values::to_remote(map, row, index)
    }

    fn canonical<'t>(map: &SourceMap, field: &Field, remote: Option<&'t str>) -> Value<'t> {
        values::canonical(map, field, remote)
    }

    fn to_column(
        field: &Field,
        remote: Option<&str>,
        present: Option<&str>,
    ) -> Result<Option<String>, ValueError> {
        values::to_column(field, remote, present)
    }

    fn same(field: &Field, crm: Option<&str>, remote: Option<&str>) -> bool {
        value::same(field.kind, crm, remote)
    }
}

fn forbidden(refusal: &FailedReply<'_>) -> Option<Class> {
    let target = HubSpot::TARGET;
    let scopes = scopes(refusal.body.as_ref()?);
    let why = match scopes.is_empty() {
        false => format!(
            "{target}: the token lacks the scopes {}; grant them",
            scopes.join(", ")
        ),
        true if refusal.text("category") == "MISSING_SCOPES" => format!(
            "{target}: the token lacks a scope (HTTP 403{})",
            refusal.said()
        ),
        true => return None,
    };
    Some(Class::Forbidden { why })
}

/// The scopes a token lacks.
fn scopes(body: &serde_json::Map<String, Json>) -> Vec<&str> {
    let errors = body.get("errors").and_then(Json::as_array);
    let of_errors = errors.into_iter().flatten();
    let contexts = body
        .get("context")
        .into_iter()
        .chain(of_errors.filter_map(|error| error.get("context")));
    let lists = contexts.flat_map(|context| {
        ["requiredGranularScopes", "requiredScopes"]
            .into_iter()
            .filter_map(|name| context.get(name)?.as_array())
    });
    let mut scopes: Vec<&str> = lists.flatten().filter_map(Json::as_str).collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

fn too_many(refusal: &FailedReply<'_>) -> Class {
    let why = refusal.too_many(HubSpot::TARGET);
    let policy = refusal.text("policyName");
    let message = refusal.text("message").to_ascii_lowercase();
    if policy.eq_ignore_ascii_case("DAILY") || message.contains("daily limit") {
        return Class::DailyLimit {
            why,
            until: refusal.until(),
            wait: refusal.wait.unwrap_or(DAILY_WAIT),
        };
    }
    let window = match policy.eq_ignore_ascii_case("SECONDLY") {
        true => SEARCH_WINDOW,
        false => WINDOW,
    };
    Class::Throttled {
        why,
        wait: refusal.wait.unwrap_or(window),
    }
}
