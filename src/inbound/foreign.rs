//! Events of accounts that are not ours. One secret signs the events of all accounts that have
//! installed an app, and whoever knows a URL can have another audience's sent there.

use integration_engine::record::Target;
use integration_hubspot::objects;
use integration_hubspot::webhook::HubSpotSubject;
use pgrx::spi::SpiResult;

use super::ApplyContext;
use crate::config;
use crate::services::AnySubject;
use crate::store::inbound::webhooks;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::target::TargetWorker;

/// Where an event comes from that is not ours: HubSpot's account or app, or Mailchimp's audience, in
/// words. `None`: it is ours.
pub fn from(apply_context: &ApplyContext, subject: &AnySubject) -> SpiResult<Option<String>> {
    let from = stranger(apply_context, subject)?;
    Ok(from.map(|from| from.chars().take(LONGEST).collect()))
}

/// Names come from outside, and are shown to people.
const LONGEST: usize = 80;

fn stranger(apply_context: &ApplyContext, subject: &AnySubject) -> SpiResult<Option<String>> {
    match subject {
        AnySubject::HubSpot(subject) => Ok(of_hubspot(apply_context, subject)),
        AnySubject::Mailchimp(subject) => match subject.list() {
            Some(list) if !is_known(apply_context, list)? => Ok(Some(format!("audience {list}"))),
            _ => Ok(None),
        },
        // They are of no account: the key belongs to one.
        AnySubject::Mandrill(_) => Ok(None),
    }
}

fn of_hubspot(apply_context: &ApplyContext, subject: &HubSpotSubject) -> Option<String> {
    let account = apply_context
        .worker(Target::HubSpot)?
        .account
        .stored
        .as_ref()?;
    if subject.portal_id != account.account {
        return Some(format!("account {}", subject.portal_id));
    }
    let own = config::hubspot_app_id()?;
    let app = subject.app_id.as_ref().filter(|app| **app != own)?;
    Some(format!("app {app}"))
}

/// Whether an audience is one that records are written to, or were, or that a webhook was made for.
/// Where rows name their audiences, any may be one that a row names.
fn is_known(apply_context: &ApplyContext, list: &str) -> SpiResult<bool> {
    let settings = &apply_context.context.settings.mailchimp_api;
    let in_use = apply_context
        .worker(Target::Mailchimp)
        .is_some_and(|worker| worker.audiences.is_met(list));
    if settings.several || list == settings.list || in_use {
        return Ok(true);
    }
    Ok(webhooks::all()?.iter().any(|webhook| webhook.list == list))
}

/// Origins whose events have to wait: it is not known yet whose account ours is, or by which number
/// they name a custom object.
pub fn held_origins(context: &Context, targets: &[TargetWorker]) -> Vec<&'static str> {
    let goes_to = |target| {
        let mut sources = context.sources.values();
        sources.any(|source| source.maps.contains_key(&target))
    };
    let mut held = Vec::new();
    let unknown = targets
        .iter()
        .any(|worker| worker.target == Target::HubSpot && worker.account.stored.is_none());
    if unknown && goes_to(Target::HubSpot) {
        held.push("hubspot");
    }
    let unread = targets.iter().any(|worker| {
        let preflight = &worker.preflight.hubspot;
        let waits = |source: &Source| {
            source.maps.contains_key(&Target::HubSpot)
                && objects::type_id(source.entity).is_none()
                && preflight.refused(source.entity).is_none()
        };
        worker.target == Target::HubSpot && context.sources.values().any(waits)
    });
    if unread && !unknown {
        held.push("hubspot");
    }
    if context.settings.mailchimp_api.list.is_empty() && goes_to(Target::Mailchimp) {
        held.push("mailchimp");
    }
    held
}
