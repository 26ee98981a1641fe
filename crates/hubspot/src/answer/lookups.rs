//! Answers about who a record is: a single record's own path, and a search by a common value.

use std::collections::HashMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{
    parse,
    results::{success, taken},
};
use crate::{
    Call, HubSpotSettings,
    calls::MATCH_RESULTS,
    wire::{BatchReply, ResultRow, property},
};
use integration_engine::{
    delivery::{
        call::Item,
        outcome::{Relink, Verdict},
        verdicts::no_verdict,
    },
    record::RemoteId,
    service::failure::Class,
    wire::Reply,
};

/// One record, under its own id or, after a merge, another one.
pub(super) fn patched(call: &Call, reply: &Reply) -> Result<Vec<Verdict>, Class> {
    let row: ResultRow<'_, IgnoredAny> = parse(reply)?;
    let verdict = |item| match row.id.as_str() {
        "" => no_verdict("HubSpot", 1, reply.status),
        id => success(&call.kind, item, id, false),
    };
    Ok(call.items.iter().map(verdict).collect())
}

/// A record that a search brought up.
struct SearchHit<'a> {
    id: &'a str,
    properties: &'a RawValue,
    /// Its value of the unique property.
    held: String,
}

impl SearchHit<'_> {
    fn value(&self, name: &str) -> Option<String> {
        property(self.properties, name).map(|text| text.as_str().to_owned())
    }
}

/// The records that a search brought up.
#[derive(Default)]
struct SearchHits<'a> {
    /// By the value looked for, in lower case.
    by_value: HashMap<String, Vec<SearchHit<'a>>>,
    /// By the value of the unique property.
    by_name: HashMap<String, SearchHit<'a>>,
}

impl<'a> SearchHits<'a> {
    fn of(
        rows: &'a [ResultRow<'a, Option<&'a RawValue>>],
        sought: &str,
        unique: &str,
    ) -> SearchHits<'a> {
        let mut hits = SearchHits::default();
        for row in rows.iter().filter(|row| !row.id.as_str().is_empty()) {
            let Some(properties) = row.properties else {
                continue;
            };
            let hit = || SearchHit {
                id: row.id.as_str(),
                properties,
                held: property(properties, unique)
                    .map(|text| text.as_str().to_owned())
                    .unwrap_or_default(),
            };
            if let Some(value) = property(properties, sought) {
                let value = value.as_str().to_lowercase();
                hits.by_value.entry(value).or_default().push(hit());
            }
            let hit = hit();
            if !hit.held.is_empty() {
                hits.by_name.insert(hit.held.clone(), hit);
            }
        }
        hits
    }
}

/// Which of the values looked for are held by a record that is nobody's yet, or the row's own. One
/// that carries another value of the unique property belongs to whoever gave it that.
pub(super) fn matched(
    call: &Call,
    reply: &Reply,
    property_name: &str,
    settings: &HubSpotSettings,
) -> Result<Vec<Verdict>, Class> {
    let body: BatchReply<'_, Option<&RawValue>> = parse(reply)?;
    let results = body.results.unwrap_or_default();
    let cut_off = results.len() >= MATCH_RESULTS;
    let hits = SearchHits::of(&results, property_name, &settings.external_id_property);
    let adopt = |item: &Item, id: &str| Verdict::Again {
        relink: Some(Relink::Adopt(RemoteId::from(id))),
        batch_cap: None,
        why: format!("HubSpot has {} as record {id}", item.name),
    };
    let verdict = |item: &Item| {
        let judge = |found: &SearchHit<'_>| match &item.own {
            Some(own) => own.judge(&found.held, |name| found.value(name)),
            None if found.held.is_empty() => Ok(()),
            None => Err(String::new()),
        };
        let named = item.own.as_ref().map(|own| own.ids.of(&own.key));
        if let Some(found) = named.and_then(|named| hits.by_name.get(&named)) {
            return match judge(found) {
                Ok(()) => adopt(item, found.id),
                Err(why) => taken(item, found.id, &found.held, &why),
            };
        }
        let mut of_value = hits.by_value.get(item.name.as_str()).into_iter().flatten();
        match of_value.find(|found| judge(found).is_ok()) {
            Some(found) => adopt(item, found.id),
            None if cut_off && call.items.len() > 1 => Verdict::Again {
                relink: None,
                batch_cap: Some(call.items.len() / 2),
                why: "HubSpot has too many records with the values looked for".to_owned(),
            },
            None => vacant(item),
        }
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
