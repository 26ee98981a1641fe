//! Results and errors of a batch answer, taken apart record by record.

use std::{borrow::Cow, collections::HashMap};

use super::{STAGE, overruled, stage};
use crate::{
    Call, EMAIL, HubSpotCall, HubSpotSettings,
    fault::ErrorBody,
    wire::{BatchReply, ResultRow},
};
use integration_engine::{
    delivery::{
        call::Item,
        outcome::{Category, Relink, Verdict},
        verdicts::no_verdict,
    },
    record::RemoteId,
};

/// A key as items are named by it: e-mail addresses in lower case.
pub(super) fn named<'a>(value: &'a str, id_property: &str) -> Cow<'a, str> {
    if id_property == EMAIL && value.chars().any(char::is_uppercase) {
        Cow::Owned(value.to_lowercase())
    } else {
        Cow::Borrowed(value)
    }
}

pub(super) fn verdicts<P>(
    call: &Call,
    status: u16,
    body: &BatchReply<'_, P>,
    key: impl Fn(&ResultRow<'_, P>) -> Option<String>,
    value: impl Fn(&ResultRow<'_, P>, &str) -> Option<String>,
    settings: &HubSpotSettings,
) -> Vec<Verdict> {
    let items = &call.items;
    let mut found: Vec<Option<Verdict>> = vec![None; items.len()];
    let positions: HashMap<&str, usize> = items
        .iter()
        .enumerate()
        .map(|(at, item)| (item.name.as_str(), at))
        .collect();
    let mut strangers = Vec::new();
    // Whoever was looked for may be somebody else's.
    let judged = |item: &Item, row: &ResultRow<'_, P>, verdict: Verdict| match &item.own {
        Some(own) if matches!(call.kind, HubSpotCall::Find { .. }) => {
            let held = value(row, &settings.external_id_property).unwrap_or_default();
            let judged = own.judge(&held, |name| value(row, name));
            let id = row.id.as_str();
            judged.map_or_else(|why| taken(item, id, &item.name, &why), |()| verdict)
        }
        _ => verdict,
    };
    for row in body
        .results
        .iter()
        .flatten()
        .filter(|row| !row.id.as_str().is_empty())
    {
        let at = traced(row, items).or_else(|| positions.get(key(row)?.as_str()).copied());
        match at.filter(|at| found[*at].is_none()) {
            Some(at) => {
                let (item, id) = (&items[at], row.id.as_str());
                let met = row.new == Some(false);
                let verdict = success(&call.kind, item, id, met);
                found[at] = Some(match stage(item) {
                    Some(_) => overruled(verdict, item, value(row, STAGE)),
                    None => judged(item, row, verdict),
                });
            }
            None => strangers.push(row),
        }
    }
    let faults: Vec<ErrorBody> = body.errors.iter().flatten().map(ErrorBody::of).collect();
    blame(call, &mut found, &faults, settings, status);
    by_exclusion(call, &mut found, &strangers, judged);
    let unnamed = faults.iter().find(|fault| !fault.names_records());
    let rest = |item| silent(call, item, unnamed, status, settings);
    found
        .into_iter()
        .zip(items)
        .map(|(verdict, item)| verdict.unwrap_or_else(|| rest(item)))
        .collect()
}

/// Gives records without a verdict that of the error that names them.
fn blame(
    call: &Call,
    found: &mut [Option<Verdict>],
    faults: &[ErrorBody],
    settings: &HubSpotSettings,
    status: u16,
) {
    for fault in faults.iter().filter(|fault| fault.names_records()) {
        let left = call.items.iter().zip(&mut *found).enumerate();
        let left = left.filter(|(_, (_, verdict))| verdict.is_none());
        for (at, (item, verdict)) in left {
            *verdict = fault
                .concerns(at, item)
                .then(|| fault.verdict(&call.kind, item, settings, status));
        }
    }
}

/// The place of the record that a result is of, where HubSpot repeats what the call named it by.
fn traced<P>(row: &ResultRow<'_, P>, items: &[Item]) -> Option<usize> {
    let at = row.trace.as_str().parse().ok();
    at.filter(|at| *at < items.len())
}

/// One result and one record are left over: they belong together. HubSpot answers with a contact's
/// primary address where a secondary one was sent, and with a new id where records were merged.
fn by_exclusion<P>(
    call: &Call,
    found: &mut [Option<Verdict>],
    strangers: &[&ResultRow<'_, P>],
    judged: impl Fn(&Item, &ResultRow<'_, P>, Verdict) -> Verdict,
) {
    let mut left = found
        .iter_mut()
        .enumerate()
        .filter(|(_, verdict)| verdict.is_none());
    if let ([row], Some((at, verdict)), None) = (strangers, left.next(), left.next()) {
        let item = &call.items[at];
        let met = success(&call.kind, item, row.id.as_str(), true);
        *verdict = Some(judged(item, row, met));
    }
}

pub(super) fn success(kind: &HubSpotCall, item: &Item, id: &str, met: bool) -> Verdict {
    match kind {
        HubSpotCall::Find { .. } => Verdict::Again {
            relink: Some(Relink::Adopt(RemoteId::from(id))),
            batch_cap: None,
            why: format!("HubSpot has it as record {id}"),
        },
        HubSpotCall::Archive { .. } => Verdict::Removed,
        HubSpotCall::GiveWay { .. } => Verdict::Again {
            relink: Some(Relink::Unaddressed(item.ticks.clone())),
            batch_cap: None,
            why: "it gave up its e-mail address, which another record wants".to_owned(),
        },
        _ => Verdict::Delivered {
            remote_id: Some(RemoteId::from(id)),
            remote_key: item.remote_key.clone(),
            member_status: None,
            ticks: item.ticks.clone(),
            met: (met && is_by_address(kind)) || is_another(kind, item, id),
        },
    }
}

/// The record that was found is somebody else's, and nothing was written to it.
pub(crate) fn taken(item: &Item, id: &str, by: &str, why: &str) -> Verdict {
    let key = item.own.as_ref().map_or("", |own| own.key.as_str());
    Verdict::Dead {
        category: Category::Taken,
        status: None,
        why: format!(
            "HubSpot record {id} is known by {by}, but is not taken for record {key}: {why}; nothing \
             was written to it. If the two are one, make them alike and retry this"
        ),
        member_status: None,
    }
}

/// HubSpot: the id of a record that was merged into another one leads to that.
fn is_another(kind: &HubSpotCall, item: &Item, id: &str) -> bool {
    match kind {
        HubSpotCall::Patch { id: asked, .. } => asked.as_str() != id,
        HubSpotCall::Update { .. } => item.name != id,
        _ => false,
    }
}

fn is_by_address(kind: &HubSpotCall) -> bool {
    matches!(kind, HubSpotCall::Upsert { id_property, .. } if id_property == EMAIL)
}

/// A record that neither a result nor an error names.
fn silent(
    call: &Call,
    item: &Item,
    unnamed: Option<&ErrorBody>,
    status: u16,
    settings: &HubSpotSettings,
) -> Verdict {
    match (&call.kind, unnamed) {
        // A single record's error needs no name.
        (kind, Some(fault)) if call.items.len() == 1 => fault.verdict(kind, item, settings, status),
        (HubSpotCall::Archive { .. }, None) => Verdict::Removed,
        // Reading is not writing: what is not among the results does not exist.
        (HubSpotCall::Find { .. }, None) => Verdict::Again {
            relink: Some(Relink::Forget),
            batch_cap: None,
            why: "HubSpot does not have this record".to_owned(),
        },
        _ => no_verdict("HubSpot", call.items.len(), status),
    }
}
