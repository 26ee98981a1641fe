//! Answers about who a record is: a single record's own path, and a search by a common value.

use std::collections::HashMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{parse, success};
use crate::{
    call::{Call, HubSpotSettings, Item, Reply},
    failure::Class,
    hubspot::{
        calls::MATCH_RESULTS,
        wire::{BatchReply, Row, property},
    },
    outcome::{Relink, Verdict},
    record::RemoteId,
    verdicts::no_verdict,
};

/// One record, under its own id or, after a merge, another one.
pub(super) fn patched(call: &Call, reply: &Reply) -> Result<Vec<Verdict>, Class> {
    let row: Row<'_, IgnoredAny> = parse(reply)?;
    let verdict = |item| match row.id.as_str() {
        "" => no_verdict("HubSpot", 1, reply.status),
        id => success(&call.kind, item, id, false),
    };
    Ok(call.items.iter().map(verdict).collect())
}

/// Which of the values looked for are held by a record that is nobody's yet. One that carries a
/// CRM key belongs to the row with that key.
pub(super) fn matched(
    call: &Call,
    reply: &Reply,
    property_name: &str,
    settings: &HubSpotSettings,
) -> Result<Vec<Verdict>, Class> {
    let body: BatchReply<'_, Option<&RawValue>> = parse(reply)?;
    let results = body.results.unwrap_or_default();
    let cut_off = results.len() >= MATCH_RESULTS;
    let mut free: HashMap<String, &str> = HashMap::new();
    for row in results.iter().filter(|row| !row.id.as_str().is_empty()) {
        let value = |name| property(row.properties?, name).map(|text| text.as_str().to_owned());
        let taken = value(&settings.external_id_property).is_some_and(|key| !key.is_empty());
        if let Some(held) = value(property_name).filter(|_| !taken) {
            free.entry(held.to_lowercase())
                .or_insert_with(|| row.id.as_str());
        }
    }
    let verdict = |item: &Item| match free.get(item.name.as_str()) {
        Some(id) => Verdict::Again {
            relink: Some(Relink::Adopt(RemoteId::from(*id))),
            batch_cap: None,
            why: format!("HubSpot has {} as record {id}", item.name),
        },
        None if cut_off && call.items.len() > 1 => Verdict::Again {
            relink: None,
            batch_cap: Some(call.items.len() / 2),
            why: "HubSpot has too many records with the values looked for".to_owned(),
        },
        None => vacant(item),
    };
    Ok(call.items.iter().map(verdict).collect())
}

pub(super) fn vacant(item: &Item) -> Verdict {
    Verdict::Again {
        relink: Some(Relink::Vacant),
        batch_cap: None,
        why: format!("HubSpot has no record of others for {}", item.name),
    }
}
