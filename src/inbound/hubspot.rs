//! HubSpot events into CRM rows.

use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::{RecordRef, RemoteId, Target, Timestamp};
use integration_hubspot::webhook::{HubSpotAction, HubSpotSubject};
use pgrx::spi::SpiResult;

use super::fields::{Knowledge, Reported};
use super::{ApplyContext, Fate, applied, ignored, removal};
use crate::store::links::{self, LinkCause};
use crate::store::queue::withheld::Reason;
use crate::store::sources::Source;
use crate::worker::hubspot::adopt::{self, Claim};

pub fn apply(
    apply_context: &ApplyContext,
    event: &HubSpotSubject,
    at: Timestamp,
) -> SpiResult<Fate> {
    match &event.action {
        HubSpotAction::PropertyChange { property, value } => {
            property_change(apply_context, event, at, property, value.as_deref())
        }
        HubSpotAction::Redacted { property } => Ok(ignored(format!(
            "HubSpot does not tell the value of {property}, which is sensitive; integration.reconcile() reads it"
        ))),
        HubSpotAction::Merge { merged, surviving } => {
            merge(apply_context, event, merged, surviving)
        }
        HubSpotAction::Creation => Ok(ignored(
            "a record created in HubSpot is taken over when it is linked",
        )),
        HubSpotAction::Deletion => removal::deleted(apply_context, event, Reason::Deleted),
        HubSpotAction::PrivacyDeletion => removal::deleted(apply_context, event, Reason::Privacy),
        HubSpotAction::Restore => removal::restored(apply_context, event),
        HubSpotAction::AssociationChange => Ok(ignored("associations are kept in the CRM")),
        HubSpotAction::Other(kind) => Ok(ignored(format!("{kind} changes nothing in the CRM"))),
    }
}

pub(super) fn linked<'a>(
    apply_context: &'a ApplyContext,
    event: &HubSpotSubject,
) -> SpiResult<Option<(RecordRef, Link, &'a Source)>> {
    let Some(id) = &event.object_id else {
        return Ok(None);
    };
    let found = links::by_remote_id(Target::HubSpot, id)?;
    Ok(found.into_iter().find_map(|(record, link)| {
        let source = apply_context.source(&record)?;
        (Some(source.entity) == event.entity).then_some((record, link, source))
    }))
}

fn property_change(
    apply_context: &ApplyContext,
    event: &HubSpotSubject,
    at: Timestamp,
    property: &str,
    reported: Option<&str>,
) -> SpiResult<Fate> {
    let Some((record, link, source)) = linked(apply_context, event)? else {
        return Ok(ignored("no CRM row is linked to this record"));
    };
    let mapped = source.maps.get(&Target::HubSpot);
    if mapped.is_none_or(|map| map.field_named(property).is_none()) {
        return Ok(ignored(format!("{property} is not mapped")));
    }
    if apply_context.flying(Target::HubSpot, &record) {
        return Ok(Fate::Later);
    }
    let news = Reported {
        apply_context,
        source,
        target: Target::HubSpot,
        knowledge: Knowledge::News,
        record,
        link,
        moved: false,
        at,
    };
    news.take(&[(property.to_owned(), reported.map(str::to_owned))])
}

/// HubSpot: a merge makes a new id; the old ones no longer resolve in batch calls. Where several
/// rows are linked to what was merged, one goes along.
fn merge(
    apply_context: &ApplyContext,
    event: &HubSpotSubject,
    merged: &[String],
    surviving: &str,
) -> SpiResult<Fate> {
    let surviving = RemoteId::from(surviving);
    let mut concerned = Vec::new();
    for id in merged.iter().filter(|id| **id != *surviving.as_str()) {
        for (record, link) in links::by_remote_id(Target::HubSpot, id)? {
            let of_kind = apply_context
                .source(&record)
                .is_some_and(|source| Some(source.entity) == event.entity);
            if of_kind && apply_context.flying(Target::HubSpot, &record) {
                return Ok(Fate::Later);
            } else if of_kind {
                concerned.push((record, link));
            }
        }
    }
    let (mut followed, mut refused) = (0, Vec::new());
    for (record, link) in concerned {
        match adopt::claim(apply_context.context, &record, &surviving, [].iter())? {
            Claim::Kept(holder, other) => {
                let holder = (&holder.record, other.as_str());
                refused.push(adopt::give_up_merged(
                    apply_context.context,
                    &record,
                    &surviving,
                    holder,
                )?);
            }
            Claim::Free | Claim::Leaving(_) => {
                let link = Link {
                    remote_id: Some(surviving.clone()),
                    ..link
                };
                links::write(
                    Target::HubSpot,
                    LinkCause::Pulled,
                    &[LinkEntry { record, link }].into(),
                )?;
                followed += 1;
            }
        }
    }
    Ok(match (followed, refused.is_empty()) {
        (0, true) => ignored("no CRM row is linked to the merged records"),
        (0, false) => applied(refused.join("; ")),
        (_, true) => applied(format!("now linked to {}", surviving.as_str())),
        (_, false) => applied(format!(
            "now linked to {}; {}",
            surviving.as_str(),
            refused.join("; ")
        )),
    })
}
