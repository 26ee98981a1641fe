//! Records' parts of bodies become calls.

use crate::{Call, HubSpotCall, HubSpotSettings};
use integration_engine::{
    delivery::{
        batch::{Group, group},
        call::Item,
    },
    record::{Entity, Target},
    value::json::{push_member, push_name, push_string},
    wire::{Method, Request},
};

use super::{erasure::ERASE, objects_path};

/// Results of one search. HubSpot: at most 200.
pub(super) const MATCH_RESULTS: usize = 200;

/// Puts records together into as few calls as the rules allow.
pub(crate) fn assemble(sends: Vec<(HubSpotCall, Item)>, settings: &HubSpotSettings) -> Vec<Call> {
    group(sends)
        .into_iter()
        .filter_map(|group| call(group, settings))
        .collect()
}

fn call(group: Group<HubSpotCall>, settings: &HubSpotSettings) -> Option<Call> {
    let Group { kind, items, .. } = group;
    let (entity, action) = route(&kind);
    let path = format!("{}/{action}", objects_path(&settings.api_version, entity));
    let request = Request {
        target: Target::HubSpot,
        method: match kind {
            HubSpotCall::Patch { .. } => Method::Patch,
            _ => Method::Post,
        },
        path,
        body: Some(match &kind {
            HubSpotCall::Match { property, .. } => search(property, &items, settings).into_bytes(),
            HubSpotCall::Patch { .. } | HubSpotCall::Erase { .. } => {
                items.first()?.fragment.clone().into_bytes()
            }
            _ => body(&kind, &items, settings).into_bytes(),
        }),
    };
    Some(Call {
        kind,
        request,
        items,
    })
}

fn route(kind: &HubSpotCall) -> (Entity, &str) {
    match kind {
        HubSpotCall::Upsert { entity, .. } => (*entity, "batch/upsert"),
        HubSpotCall::Update { entity } => (*entity, "batch/update"),
        HubSpotCall::GiveWay { entity } => (*entity, "batch/update"),
        HubSpotCall::Patch { entity, id } => (*entity, id.as_str()),
        HubSpotCall::Archive { entity } => (*entity, "batch/archive"),
        HubSpotCall::Erase { entity } => (*entity, ERASE),
        HubSpotCall::Find { entity, .. } => (*entity, "batch/read"),
        HubSpotCall::Match { entity, .. } => (*entity, "search"),
    }
}

/// A request of its own, beside records' calls.
pub(super) fn post(path: String, body: &serde_json::Value) -> Request {
    Request {
        target: Target::HubSpot,
        method: Method::Post,
        path,
        body: Some(body.to_string().into_bytes()),
    }
}

/// Oldest first: of several records with one value, the first is the one to adopt.
fn search(property: &str, items: &[Item], settings: &HubSpotSettings) -> String {
    let group = |property: &str, values: Vec<String>| serde_json::json!({ "filters": [{ "propertyName": property, "operator": "IN", "values": values }] });
    let names = items.iter().map(|item| item.name.clone()).collect();
    let mut groups = vec![group(property, names)];
    // Others may have chosen the same names.
    let chosen = items.iter().filter_map(|item| item.own.as_ref());
    let chosen = chosen.filter(|own| own.ids.chosen);
    let ids: Vec<String> = chosen.map(|own| own.ids.of(&own.key)).collect();
    if !ids.is_empty() {
        groups.push(group(&settings.external_id_property, ids));
    }
    serde_json::json!({
        "filterGroups": groups,
        "sorts": [{ "propertyName": "createdate", "direction": "ASCENDING" }],
        "properties": wanted(property, items, settings),
        "limit": MATCH_RESULTS,
    })
    .to_string()
}

/// The properties that tell whose a record is, beside the one it is looked for by.
fn wanted<'a>(by: &'a str, items: &'a [Item], settings: &'a HubSpotSettings) -> Vec<&'a str> {
    let mut names = vec![by];
    let owns = items.iter().filter_map(|item| item.own.as_ref());
    for own in owns {
        let telling = own.traits.iter().map(|(name, _)| name.as_str());
        for name in std::iter::once(settings.external_id_property.as_str()).chain(telling) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

fn body(kind: &HubSpotCall, items: &[Item], settings: &HubSpotSettings) -> String {
    let fragments: usize = items.iter().map(|item| item.fragment.len() + 32).sum();
    let mut body = String::with_capacity(fragments + 128);
    body.push('{');
    if let HubSpotCall::Find { id_property, .. } = kind {
        push_name(&mut body, "properties");
        body.push('[');
        for (place, name) in wanted(id_property, items, settings).iter().enumerate() {
            if place > 0 {
                body.push(',');
            }
            push_string(&mut body, name);
        }
        body.push(']');
        // The official client always says that it wants no history.
        push_name(&mut body, "propertiesWithHistory");
        body.push_str("[]");
        push_member(&mut body, "idProperty", id_property);
    }
    push_name(&mut body, "inputs");
    body.push('[');
    // Without a trace id on every input, one bad record fails the whole call.
    let traced = matches!(
        kind,
        HubSpotCall::Upsert { .. } | HubSpotCall::Update { .. } | HubSpotCall::GiveWay { .. }
    );
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            body.push(',');
        }
        if traced {
            body.push('{');
            push_member(&mut body, "objectWriteTraceId", &position.to_string());
            body.push(',');
            body.push_str(item.fragment.strip_prefix('{').unwrap_or(&item.fragment));
        } else {
            body.push_str(&item.fragment);
        }
    }
    body.push_str("]}");
    body
}
