//! HubSpot events into CRM rows.

use integration_engine::call::Link;
use integration_engine::clock::{Tick, ValueHash, Writer};
use integration_engine::conflict::{self, Decision};
use integration_engine::hubspot::values;
use integration_engine::hubspot::webhook::{HubSpotAction, HubSpotSubject};
use integration_engine::mapping::Direction;
use integration_engine::queue::RecordRef;
use integration_engine::record::{Lane, RemoteId, Target, Timestamp};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::{Fate, Scene, applied, failed, ignored, unless_written};
use crate::capture;
use crate::store::links::{self, Cause, Entry};
use crate::store::{apply, sources::Source};

pub fn apply(scene: &Scene, event: &HubSpotSubject, at: Timestamp) -> SpiResult<Fate> {
    match &event.action {
        HubSpotAction::PropertyChange { property, value } => {
            property_change(scene, event, at, property, value.as_deref())
        }
        HubSpotAction::Merge { merged, surviving } => merge(scene, event, merged, surviving),
        HubSpotAction::Creation => Ok(ignored(
            "a record created in HubSpot is taken over when it is linked",
        )),
        HubSpotAction::Deletion | HubSpotAction::PrivacyDeletion => {
            Ok(ignored("deleted in HubSpot; the CRM row stays as it is"))
        }
        HubSpotAction::Restore => Ok(ignored("restored in HubSpot")),
        HubSpotAction::AssociationChange => Ok(ignored("associations are kept in the CRM")),
        HubSpotAction::Other(kind) => Ok(ignored(format!("{kind} changes nothing in the CRM"))),
    }
}

fn linked<'a>(
    scene: &'a Scene,
    event: &HubSpotSubject,
) -> SpiResult<Option<(RecordRef, Link, &'a Source)>> {
    let Some(id) = &event.object_id else {
        return Ok(None);
    };
    let found = links::by_remote_id(Target::HubSpot, id)?;
    Ok(found.into_iter().find_map(|(record, link)| {
        let source = scene.source(&record)?;
        (Some(source.entity) == event.entity).then_some((record, link, source))
    }))
}

fn property_change(
    scene: &Scene,
    event: &HubSpotSubject,
    at: Timestamp,
    property: &str,
    reported: Option<&str>,
) -> SpiResult<Fate> {
    let Some((record, mut link, source)) = linked(scene, event)? else {
        return Ok(ignored("no CRM row is linked to this record"));
    };
    let Some(map) = source.maps.get(&Target::HubSpot) else {
        return Ok(ignored("the table is not sent to HubSpot"));
    };
    let Some((index, field)) = map.field_named(property) else {
        return Ok(ignored(format!("{property} is not mapped")));
    };
    if scene.flying(Target::HubSpot, &record) {
        return Ok(Fate::Later);
    }
    let rows = source.read(map, &[&record.key])?;
    let Some(present) = rows
        .get(&record.key)
        .map(|row| row.get(index).cloned().flatten())
    else {
        return Ok(ignored("the CRM row is gone"));
    };
    let remote = match value::field_canonical(map, field, reported) {
        Ok(canonical) => ValueHash::of(canonical.as_deref()),
        Err(why) => return Ok(failed(why.to_string())),
    };
    let row = rows.get(&record.key).map_or(&[][..], Vec::as_slice);
    let local = values::from_row(map, row, index).map_or(ValueHash(u64::MAX), |canonical| {
        ValueHash::of(canonical.as_deref())
    });
    let agreed = link.clock.get(field.id).copied();
    let changed_at = scene.crm_changed_at(Target::HubSpot, &record, agreed.as_ref(), local);
    let tick = Tick {
        field: field.id,
        hash: remote,
        at,
        by: Writer::Remote,
    };
    match conflict::decide(
        field.conflict,
        field.direction,
        at,
        remote,
        local,
        agreed.as_ref(),
        changed_at,
    ) {
        Decision::Older => return Ok(ignored("older than the last change")),
        Decision::KeepCrm if agreed.is_some_and(|agreed| agreed.hash == remote) => {
            return Ok(ignored("nothing new"));
        }
        Decision::KeepCrm => {
            link.clock.set(tick);
            remember(&record, link)?;
            if field.direction != Direction::Pull {
                capture::enqueue(
                    Target::HubSpot,
                    record.source,
                    Lane::Live,
                    [record.key.as_str()],
                );
            }
            return Ok(ignored("the CRM's value wins, and is sent again"));
        }
        Decision::AlreadyEqual => {
            if agreed.is_none_or(|agreed| agreed.hash != remote) {
                link.clock.set(tick);
                remember(&record, link)?;
            }
            return Ok(ignored("the CRM holds this value already"));
        }
        Decision::Apply => {}
    }
    let column_value = match values::to_column(field, reported, present.as_deref()) {
        Ok(column_value) => column_value,
        Err(why) => return Ok(failed(why.to_string())),
    };
    let outcome = apply::set_column(
        source,
        &record.key,
        &field.column,
        present.as_deref(),
        column_value.as_deref(),
    )?;
    if let Some(fate) = unless_written(outcome) {
        return Ok(fate);
    }
    link.clock.set(tick);
    let detail = format!(
        "{} {}: {} written",
        source.name,
        record.key.as_str(),
        field.column
    );
    remember(&record, link)?;
    Ok(applied(detail))
}

fn remember(record: &RecordRef, link: Link) -> SpiResult<()> {
    links::write(
        Target::HubSpot,
        Cause::Pulled,
        &[Entry {
            record: record.clone(),
            link,
        }],
    )
}

/// HubSpot: a merge makes a new id; the old ones no longer resolve in batch calls.
fn merge(
    scene: &Scene,
    event: &HubSpotSubject,
    merged: &[String],
    surviving: &str,
) -> SpiResult<Fate> {
    let mut followed = Vec::new();
    for id in merged.iter().filter(|id| *id != surviving) {
        for (record, link) in links::by_remote_id(Target::HubSpot, id)? {
            let of_kind = scene
                .source(&record)
                .is_some_and(|source| Some(source.entity) == event.entity);
            if of_kind && scene.flying(Target::HubSpot, &record) {
                return Ok(Fate::Later);
            } else if of_kind {
                followed.push(Entry {
                    record,
                    link: Link {
                        remote_id: Some(RemoteId::from(surviving)),
                        ..link
                    },
                });
            }
        }
    }
    if followed.is_empty() {
        return Ok(ignored("no CRM row is linked to the merged records"));
    }
    links::write(Target::HubSpot, Cause::Pulled, &followed)?;
    Ok(applied(format!("now linked to {surviving}")))
}
