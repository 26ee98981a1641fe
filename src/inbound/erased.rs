//! Events about people who were erased: nothing of them is kept.

use std::collections::HashSet;

use integration_engine::crypto::subscriber_hash;
use integration_engine::record::{RecordRef, Target};
use integration_engine::value;
use integration_hubspot::webhook::{HubSpotAction, HubSpotSubject};
use integration_mailchimp::webhook::{MailchimpSubject, MandrillSubject};
use pgrx::spi::SpiResult;

use crate::services::AnySubject;
use crate::store::queue::withheld::{self, Reason};
use crate::worker::Context;

/// The erased records that an event speaks of.
pub fn hidden(context: &Context, subject: &AnySubject) -> SpiResult<HashSet<RecordRef>> {
    if !context.withheld {
        return Ok(HashSet::new());
    }
    let (target, names) = names(subject);
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let named = withheld::named(target, &known)?.into_iter();
    let entity = match subject {
        AnySubject::HubSpot(subject) => subject.entity,
        AnySubject::Mailchimp(_) | AnySubject::Mandrill(_) => None,
    };
    // HubSpot: ids are unique within an object type only.
    let of_kind = |record: &RecordRef| {
        let source = context.sources.get(&record.source);
        target != Target::HubSpot || source.is_none_or(|source| Some(source.entity) == entity)
    };
    Ok(named
        .filter(|named| named.reason == Reason::Erased && of_kind(&named.record))
        .map(|named| named.record)
        .collect())
}

/// Whether an event speaks of somebody who was erased.
pub fn is_about_erased(subject: &AnySubject) -> SpiResult<bool> {
    let (target, names) = names(subject);
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let named = withheld::named(target, &known)?;
    Ok(named.iter().any(|named| named.reason == Reason::Erased))
}

/// Whom an event is about, in the form in which erased people are remembered.
fn names(subject: &AnySubject) -> (Target, Vec<String>) {
    match subject {
        AnySubject::HubSpot(subject) => (Target::HubSpot, ids(subject)),
        AnySubject::Mailchimp(subject) => (Target::Mailchimp, hashes(addresses(subject))),
        AnySubject::Mandrill(MandrillSubject { email, .. }) => {
            (Target::Mailchimp, hashes(email.as_deref().into_iter()))
        }
    }
}

fn ids(subject: &HubSpotSubject) -> Vec<String> {
    let merged = match &subject.action {
        HubSpotAction::Merge { merged, surviving } => {
            [merged.as_slice(), std::slice::from_ref(surviving)].concat()
        }
        _ => Vec::new(),
    };
    subject.object_id.iter().cloned().chain(merged).collect()
}

fn addresses(subject: &MailchimpSubject) -> impl Iterator<Item = &str> {
    let (one, other) = match subject {
        MailchimpSubject::Subscribe { email, .. }
        | MailchimpSubject::Unsubscribe { email, .. }
        | MailchimpSubject::Profile { email, .. }
        | MailchimpSubject::Cleaned { email, .. } => (Some(email), None),
        MailchimpSubject::EmailChange {
            old_email,
            new_email,
            ..
        } => (Some(old_email), Some(new_email)),
        MailchimpSubject::Campaign { .. } | MailchimpSubject::Other(_) => (None, None),
    };
    one.into_iter().chain(other).map(String::as_str)
}

fn hashes<'a>(addresses: impl Iterator<Item = &'a str>) -> Vec<String> {
    addresses
        .filter_map(|address| value::email_key(address).ok())
        .map(|address| subscriber_hash(&address))
        .collect()
}
