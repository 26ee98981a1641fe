//! Records' parts of bodies become calls.

use integration_engine::{
    delivery::{
        batch::{Group, group},
        call::{Call, CallKind, HubSpotSettings, Item},
    },
    record::{Entity, Target},
    value::json::{push_member, push_name, push_string},
    wire::{Method, Request},
};

use super::{BATCH_MAX, erasure::ERASE, objects_path};

/// Values looked for in one search.
const MATCH_MAX: usize = 50;

/// Results of one search. HubSpot: at most 200.
pub(super) const MATCH_RESULTS: usize = 200;

/// Puts records together into as few calls as the rules allow.
pub fn assemble(sends: Vec<(CallKind, Item)>, settings: &HubSpotSettings) -> Vec<Call> {
    let most = |kind: &CallKind| match kind {
        CallKind::HubSpotMatch { .. } => MATCH_MAX,
        CallKind::HubSpotPatch { .. } | CallKind::HubSpotErase { .. } => 1,
        _ => BATCH_MAX,
    };
    group(sends, most)
        .into_iter()
        .filter_map(|group| call(group, settings))
        .collect()
}

fn call(group: Group, settings: &HubSpotSettings) -> Option<Call> {
    let Group { kind, items, .. } = group;
    let (entity, action) = route(&kind)?;
    let path = format!("{}/{action}", objects_path(&settings.api_version, entity));
    let request = Request {
        target: Target::HubSpot,
        method: match kind {
            CallKind::HubSpotPatch { .. } => Method::Patch,
            _ => Method::Post,
        },
        path,
        body: Some(match &kind {
            CallKind::HubSpotMatch { property, .. } => {
                search(property, &items, settings).into_bytes()
            }
            CallKind::HubSpotPatch { .. } | CallKind::HubSpotErase { .. } => {
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

/// `None`: a call for another service, which a caller never passes here.
fn route(kind: &CallKind) -> Option<(Entity, &str)> {
    match kind {
        CallKind::HubSpotUpsert { entity, .. } => Some((*entity, "batch/upsert")),
        CallKind::HubSpotUpdate { entity } => Some((*entity, "batch/update")),
        CallKind::HubSpotGiveWay { entity } => Some((*entity, "batch/update")),
        CallKind::HubSpotPatch { entity, id } => Some((*entity, id.as_str())),
        CallKind::HubSpotArchive { entity } => Some((*entity, "batch/archive")),
        CallKind::HubSpotErase { entity } => Some((*entity, ERASE)),
        CallKind::HubSpotFind { entity, .. } => Some((*entity, "batch/read")),
        CallKind::HubSpotMatch { entity, .. } => Some((*entity, "search")),
        CallKind::MailchimpBulk { .. }
        | CallKind::MailchimpPut { .. }
        | CallKind::MailchimpPatch { .. }
        | CallKind::MailchimpTags { .. }
        | CallKind::MailchimpArchive { .. }
        | CallKind::MailchimpMeet { .. }
        | CallKind::MailchimpLook { .. }
        | CallKind::MailchimpLeave { .. }
        | CallKind::MailchimpDiscard { .. }
        | CallKind::MailchimpErase { .. } => None,
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

fn body(kind: &CallKind, items: &[Item], settings: &HubSpotSettings) -> String {
    let fragments: usize = items.iter().map(|item| item.fragment.len() + 32).sum();
    let mut body = String::with_capacity(fragments + 128);
    body.push('{');
    if let CallKind::HubSpotFind { id_property, .. } = kind {
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
        CallKind::HubSpotUpsert { .. }
            | CallKind::HubSpotUpdate { .. }
            | CallKind::HubSpotGiveWay { .. }
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
