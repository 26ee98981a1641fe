//! The tasks there are, each in a file of its own.

mod backfill;
mod consent_writeback;
mod erasures;
mod hubspot;
mod inbox;
mod poll;
mod recheck;
mod reconcile;
mod tidy;
mod webhook_registration;

use super::task::{Place, Tasks};
use crate::config::Settings;

/// All of them: what is listed first goes first.
pub fn all(settings: &Settings) -> Tasks {
    let mut tasks = Tasks::default();
    tasks.add(Place::BeforeAnswers, recheck::Recheck::default());
    let first = Place::BeforeRecords;
    tasks.add(first, consent_writeback::ConsentWritebacks::default());
    tasks.add(first, inbox::Inbox::default());
    tasks.add(first, backfill::Backfills::default());
    tasks.add(first, erasures::Erasures::default());
    let last = Place::AfterRecords;
    tasks.add(
        last,
        hubspot::associations::Associations::new(&settings.retry),
    );
    tasks.add(last, webhook_registration::WebhookRegistration::default());
    tasks.add(last, reconcile::Reconciles::default());
    tasks.add(last, poll::Polls::default());
    tasks.add(last, tidy::Tidy::default());
    tasks
}
