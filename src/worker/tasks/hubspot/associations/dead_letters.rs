//! Dead letters about associations: written when one is given up on, closed when it is made or no
//! longer wanted.

use std::collections::BTreeMap;

use integration_engine::delivery::outcome::Category;
use integration_engine::delivery::settlement::{Attempted, DeadLetter};
use integration_engine::record::{RecordKey, RecordRef, Target};
use integration_hubspot::associations::AssociationState;
use pgrx::spi::SpiResult;

use crate::store::associations::{Association, AssociationChange};
use crate::store::queue::dead_letters;
use crate::worker::Context;

/// Takes note of what has just been stored.
pub(super) fn settle(context: &Context, stored: &[&AssociationChange]) -> SpiResult<()> {
    let mut over: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    let mut letters = Vec::new();
    for change in stored {
        let association = context
            .associations
            .iter()
            .find(|known| known.id == change.association);
        match change.now.state {
            AssociationState::Failed { category, status } => {
                letters.extend(
                    association
                        .map(|association| letter(context, association, change, category, status)),
                );
            }
            AssociationState::Agreed | AssociationState::Gone => {}
            AssociationState::Pending | AssociationState::Waiting => continue,
        }
        over.entry(change.association)
            .or_default()
            .push(change.key.as_str());
    }
    let open = context.dead(Target::HubSpot) > 0;
    if open {
        for (association, keys) in over {
            dead_letters::supersede_associations(association, &keys)?;
        }
    }
    dead_letters::insert(Target::HubSpot, &letters)?;
    if open || !letters.is_empty() {
        context.set_dead(Target::HubSpot, dead_letters::count(Target::HubSpot)?);
    }
    Ok(())
}

fn letter(
    context: &Context,
    association: &Association,
    change: &AssociationChange,
    category: Category,
    status: Option<u16>,
) -> DeadLetter {
    let name = |source| {
        context
            .sources
            .get(&source)
            .map_or("", |source| source.name.as_str())
    };
    let (child, parent) = (name(association.source), name(association.to_source));
    let Association { column, .. } = association;
    let ids = change.now.held.as_ref();
    let at_hubspot = ids.map_or_else(String::new, |pair| {
        let (from, to) = (pair.from.as_str(), pair.to.as_str());
        format!(" (HubSpot records {from} and {to})")
    });
    let why = change.now.why.as_deref().unwrap_or_default();
    let key = &change.key;
    let error = match &change.to_key {
        Some(to_key) => format!(
            "record {key} of {child} is not associated with record {to_key} of {parent}, which its column {column} names{at_hubspot}: {why}"
        ),
        None => format!(
            "record {key} of {child} is still associated with a record of {parent}, which its column {column} no longer names{at_hubspot}: {why}"
        ),
    };
    let request = serde_json::json!({
        "column": column, "to_source": parent, "to_key": change.to_key,
        "from": ids.map(|pair| pair.from.as_str()), "to": ids.map(|pair| pair.to.as_str()),
    });
    DeadLetter {
        record: RecordRef {
            source: association.source,
            key: RecordKey::from(key.clone()),
        },
        attempted: Attempted::Associate,
        category,
        status,
        why: error,
        request: Some(request.to_string()),
        attempts: change.now.attempts,
        enqueued_at: context.now.timestamp,
        holder: None,
        column: Some(column.clone()),
    }
}
