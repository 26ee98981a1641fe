//! Records' parts of bodies become calls.

use crate::{
    batch::{Group, group},
    call::{Call, CallKind, HubSpotSettings, Item, Method, Request},
    json::{push_member, push_name, push_string},
    record::{Entity, Target},
};

use super::{BATCH_MAX, objects_path};

/// Puts records together into as few calls as the rules allow.
pub fn assemble(sends: Vec<(CallKind, Item)>, settings: &HubSpotSettings) -> Vec<Call> {
    group(sends, |_| BATCH_MAX)
        .into_iter()
        .filter_map(|group| call(group, settings))
        .collect()
}

fn call(group: Group, settings: &HubSpotSettings) -> Option<Call> {
    let Group { kind, items, .. } = group;
    let (entity, action) = route(&kind)?;
    let path = format!(
        "{}/batch/{action}",
        objects_path(&settings.api_version, entity)
    );
    let request = Request {
        target: Target::HubSpot,
        method: Method::Post,
        path,
        body: Some(body(&kind, &items).into_bytes()),
    };
    Some(Call {
        kind,
        request,
        items,
    })
}

/// `None`: a call for another service, which a caller never passes here.
const fn route(kind: &CallKind) -> Option<(Entity, &'static str)> {
    match kind {
        CallKind::HubSpotUpsert { entity, .. } => Some((*entity, "upsert")),
        CallKind::HubSpotUpdate { entity } => Some((*entity, "update")),
        CallKind::HubSpotArchive { entity } => Some((*entity, "archive")),
        CallKind::HubSpotFind { entity, .. } => Some((*entity, "read")),
        CallKind::MailchimpBulk { .. }
        | CallKind::MailchimpPut { .. }
        | CallKind::MailchimpPatch { .. }
        | CallKind::MailchimpArchive { .. } => None,
    }
}

fn body(kind: &CallKind, items: &[Item]) -> String {
    let fragments: usize = items.iter().map(|item| item.fragment.len() + 32).sum();
    let mut body = String::with_capacity(fragments + 128);
    body.push('{');
    if let CallKind::HubSpotFind { id_property, .. } = kind {
        push_name(&mut body, "properties");
        body.push('[');
        push_string(&mut body, id_property);
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
        CallKind::HubSpotUpsert { .. } | CallKind::HubSpotUpdate { .. }
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
