//! Records that people deleted in HubSpot, and brought back.

use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::{Lane, RecordRef, RemoteId, Target};
use integration_engine::refusal::RefusalCause;
use integration_hubspot::webhook::HubSpotSubject;
use pgrx::spi::SpiResult;

use super::hubspot::linked;
use super::{ApplyContext, Fate, Refused, applied, failed, ignored};
use crate::capture;
use crate::config::OnRemoteDelete;
use crate::store::associations;
use crate::store::crm::apply::{self, Applied};
use crate::store::links::{self, LinkCause};
use crate::store::queue::withheld::{self, Reason, WithheldName};
use crate::store::sources::Source;

/// It was deleted there: its row is not sent again by itself, or goes as well.
pub fn deleted(
    apply_context: &ApplyContext,
    event: &HubSpotSubject,
    reason: Reason,
) -> SpiResult<Fate> {
    // A record that was merged into another one lives on in that.
    let merged = |source: &String| source.to_ascii_uppercase().contains("MERGE");
    if event.change_source.as_ref().is_some_and(merged) {
        return Ok(ignored("merged into another record"));
    }
    let Some((record, link, source)) = linked(apply_context, event)? else {
        return gone_already(apply_context, event, reason);
    };
    if apply_context.flying(Target::HubSpot, &record) {
        return Ok(Fate::Later);
    }
    let id = link.remote_id.unwrap_or(RemoteId::from(""));
    // First of all: what is done to the row from here on is not sent back.
    let records = [record.clone()];
    links::remove(Target::HubSpot, &records)?;
    let owed = associations::unhold(&apply_context.context.associations, &records)?;
    apply_context.owed.set(apply_context.owed.get() + owed);
    let fate = match apply_context.context.settings.on_remote_delete {
        OnRemoteDelete::Ignore => KeptReason::ByPolicy,
        OnRemoteDelete::Delete => match delete(source, &record)? {
            Ok(kept) => kept,
            Err(fate) => return Ok(fate),
        },
    };
    withheld::put(&record, Target::HubSpot, id.as_str(), reason)?;
    apply_context.withholds.set(true);
    Ok(kept(&fate, &name(source, &record), reason))
}

/// Deletes a row as the service did. `Err`: that is all there is to it.
fn delete(source: &Source, record: &RecordRef) -> SpiResult<Result<KeptReason, Fate>> {
    Ok(match apply::delete_row(source, &record.key)? {
        Applied::Written => Err(applied(format!("{} deleted", name(source, record)))),
        Applied::Moved if !is_there(source, record)? => {
            Err(applied("the CRM row was gone already"))
        }
        Applied::Moved => Ok(KeptReason::ByTheCrm),
        Applied::Refused(why) => {
            let refused = Refused::of(&why);
            match RefusalCause::of(&refused.sqlstate) {
                // It has to stay away from there from now on, whatever becomes of it here.
                RefusalCause::Value => Ok(KeptReason::Refused(format!(
                    "{} ({})",
                    why.message, refused.sqlstate
                ))),
                RefusalCause::Busy | RefusalCause::Passing => Err(Fate::Refused(refused)),
            }
        }
    })
}

/// Why the row is still there.
enum KeptReason {
    ByPolicy,
    /// A trigger thought otherwise.
    ByTheCrm,
    Refused(String),
}

fn kept(kept: &KeptReason, name: &str, reason: Reason) -> Fate {
    let stays = match reason {
        Reason::Privacy => {
            "for privacy reasons; integration.erase() erases it here and at Mailchimp"
        }
        _ => "integration.allow_again() or its restoration there change that",
    };
    let text = |why: &str| format!("{name} {why}, and is not sent to HubSpot again ({stays})");
    match kept {
        KeptReason::ByPolicy => applied(text("stays in the CRM")),
        KeptReason::ByTheCrm => applied(text("was not deleted by the CRM")),
        KeptReason::Refused(why) => failed(format!(
            "the CRM refused to delete it: {why}; {}",
            text("stays")
        )),
    }
}

fn name(source: &Source, record: &RecordRef) -> String {
    format!("{} {}", source.name, record.key.as_str())
}

/// HubSpot tells of a privacy deletion twice, in either order. Or the CRM refused to delete the row,
/// and somebody has the event applied again.
fn gone_already(
    apply_context: &ApplyContext,
    event: &HubSpotSubject,
    reason: Reason,
) -> SpiResult<Fate> {
    for named in withheld_of(apply_context, event)? {
        if apply_context.context.settings.on_remote_delete == OnRemoteDelete::Delete
            && let Some(source) = apply_context.source(&named.record)
            && named.reason != Reason::Erased
            && is_there(source, &named.record)?
        {
            let name = name(source, &named.record);
            return Ok(match delete(source, &named.record)? {
                Ok(why) => kept(&why, &name, reason),
                Err(fate) => fate,
            });
        }
        if reason == Reason::Privacy && named.reason == Reason::Deleted {
            withheld::put(&named.record, Target::HubSpot, &named.name, reason)?;
            return Ok(applied("deleted for privacy reasons: it stays away"));
        }
    }
    Ok(ignored("no CRM row is linked to this record"))
}

/// It was brought back: the row is linked to it again, and sent.
pub fn restored(apply_context: &ApplyContext, event: &HubSpotSubject) -> SpiResult<Fate> {
    let Some(WithheldName {
        record,
        reason,
        name: id,
    }) = withheld_of(apply_context, event)?.into_iter().next()
    else {
        return Ok(ignored("no CRM row was kept from this record"));
    };
    let Some(source) = apply_context
        .source(&record)
        .filter(|_| reason == Reason::Deleted)
    else {
        return Ok(ignored("the record was erased"));
    };
    if apply_context.flying(Target::HubSpot, &record) {
        return Ok(Fate::Later);
    }
    withheld::lift(&record, Target::HubSpot)?;
    if !is_there(source, &record)? {
        return Ok(ignored("the CRM row is gone"));
    }
    let link = Link {
        remote_id: Some(RemoteId::from(id.as_str())),
        ..Link::default()
    };
    let entry = LinkEntry {
        record: record.clone(),
        link,
    };
    links::write(Target::HubSpot, LinkCause::Pulled, &[entry].into())?;
    let key = record.key.as_str();
    capture::enqueue(Target::HubSpot, source.id, Lane::Live, [key]);
    Ok(applied(format!(
        "{} is linked to it again, and sent",
        name(source, &record)
    )))
}

/// The withheld records that the event is about, of the same kind.
fn withheld_of(
    apply_context: &ApplyContext,
    event: &HubSpotSubject,
) -> SpiResult<Vec<WithheldName>> {
    let Some(id) = &event.object_id else {
        return Ok(Vec::new());
    };
    let sources = &apply_context.context.sources;
    let of_kind = |named: &WithheldName| {
        let source = sources.get(&named.record.source);
        source.is_some_and(|source| Some(source.entity) == event.entity)
    };
    let named = withheld::named(Target::HubSpot, &[id])?;
    Ok(named.into_iter().filter(|named| of_kind(named)).collect())
}

fn is_there(source: &Source, record: &RecordRef) -> SpiResult<bool> {
    let rows = source.read_columns(&[], &[&record.key])?;
    Ok(!rows.is_empty())
}
