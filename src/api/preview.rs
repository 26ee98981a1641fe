//! What would be sent for a record, sending nothing.

use std::collections::HashMap;

use integration_engine::call::{Decision, Work};
use integration_engine::hubspot::RemoteType;
use integration_engine::mailchimp::merge::MergeType;
use integration_engine::mapping::{Direction, Field, SourceMap};
use integration_engine::outcome::Verdict;
use integration_engine::queue::NO_CAP;
use integration_engine::record::{Entity, RecordKey, Target, Timestamp};
use integration_engine::{hubspot, mailchimp};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::error::Error;
use crate::store::{links, secrets, sources, withheld};
use crate::worker::now_ms;

/// One row per target: what the next delivery of the record would be.
#[pg_extern]
fn _preview(
    source: pg_sys::Oid,
    key: &str,
) -> Result<TableIterator<'static, (name!(target, &'static str), name!(request, JsonB))>, ErrorReport>
{
    let settings = Settings::read(&secrets::load().map_err(Error::Spi)?);
    let source = sources::load()
        .map_err(Error::Spi)?
        .into_iter()
        .find(|known| known.oid == source)
        .ok_or_else(|| Error::NotTracked(format!("oid {}", source.to_u32())))?;
    let mut rows = Vec::new();
    for (target, map) in &source.maps {
        let request = preview(&settings, &source, *target, map, key).map_err(Error::Spi)?;
        rows.push((target.name(), JsonB(request)));
    }
    rows.sort_by_key(|(target, _)| *target);
    Ok(TableIterator::new(rows))
}

fn preview(
    settings: &Settings,
    source: &sources::Source,
    target: Target,
    map: &SourceMap,
    key: &str,
) -> pgrx::spi::SpiResult<Value> {
    let key = RecordKey::from(key);
    if withheld::among(source.id, target, &[key.as_str()])?.contains(&key) {
        return Ok(nothing(Verdict::Withheld));
    }
    let row = source.read(map, &[&key])?.remove(&key);
    let mut links: HashMap<_, _> = links::read(source.id, target, &[key.as_str()])?;
    let work = Work {
        source: source.id,
        link: links.remove(&key),
        row,
        key,
        changed_at: Timestamp(now_ms()),
        batch_cap: NO_CAP,
        rival: None,
        gives_way: false,
        audience_met: true,
        syncing: false,
        standing: None,
        objection: None,
    };
    let (map, unread) = &without_unread(map);
    // Whether the unique property exists is asked when something is sent; here it is assumed.
    let hubspot_api = integration_engine::call::HubSpotSettings {
        external_id_ready: Entity::ALL.to_vec(),
        ..settings.hubspot_api.clone()
    };
    let decision = match target {
        Target::HubSpot => hubspot::decide(&work, 0, map, &hubspot_api),
        Target::Mailchimp => mailchimp::decide(&work, 0, map, &settings.mailchimp_api),
    };
    let (kind, item) = match decision {
        Decision::Settled(verdict) => return Ok(nothing(verdict)),
        Decision::Send(kind, item) => (kind, item),
    };
    let calls = match target {
        Target::HubSpot => hubspot::assemble(vec![(kind, item)], &hubspot_api),
        Target::Mailchimp => mailchimp::assemble(vec![(kind, item)], &settings.mailchimp_api),
    };
    Ok(calls.into_iter().next().map_or(Value::Null, |call| {
        let body = call
            .request
            .body
            .and_then(|body| serde_json::from_slice::<Value>(&body).ok());
        let mut shown = json!({ "method": call.request.method.name(), "path": call.request.path, "body": body });
        if !unread.is_empty() {
            shown["with"] = json!(format!(
                "{}, by what the audience has, which the worker alone knows",
                unread.join(", ")
            ));
        }
        shown
    }))
}

/// Interests and permissions go by ids that an audience has to be asked for; here they are named
/// only.
fn without_unread(map: &SourceMap) -> (SourceMap, Vec<String>) {
    let unread = |field: &Field| {
        matches!(
            field.remote_type,
            RemoteType::Merge(MergeType::Interests(None) | MergeType::Permissions(None))
        )
    };
    let names = map.fields.iter().filter(|field| unread(field));
    let names = names.map(|field| field.remote.clone()).collect();
    let mut map = map.clone();
    for field in map.fields.iter_mut().filter(|field| unread(field)) {
        field.direction = Direction::Pull;
    }
    (map, names)
}

fn nothing(verdict: Verdict) -> Value {
    match verdict {
        Verdict::NoConsent => json!({ "nothing": "the person has not opted in" }),
        Verdict::Withheld => {
            json!({ "nothing": "it was erased, or deleted there; integration.allow_again() changes that" })
        }
        Verdict::Dead { category, why, .. } => {
            json!({ "dead_letter": category.name(), "why": why })
        }
        Verdict::Retry { why, .. } => json!({ "waits": why }),
        Verdict::Removed => json!({ "nothing": "there is no such row, and nothing to remove" }),
        _ => json!({ "nothing": "the service holds this state already" }),
    }
}
