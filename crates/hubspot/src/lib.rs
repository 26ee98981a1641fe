//! HubSpot: records become batch calls, answers become verdicts.
//!
//! Facts about the API are those of its public documentation as of November 2026.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "tables of cases are long")
)]

mod answer;
pub mod associations;
mod calls;
pub mod collisions;
pub mod definitions;
pub mod erasure;
mod fault;
mod kind;
pub mod listing;
pub mod oauth;
pub mod objects;
mod plan;
pub mod preflight;
pub mod property;
pub mod schema;
pub mod scopes;
mod service;
mod settings;
pub mod sharing;
mod values;
pub mod webhook;
mod wire;

pub use {
    answer::budget,
    kind::{HubSpotCall, SEARCH},
    service::HubSpot,
    settings::{HubSpotOnDelete, HubSpotSettings},
};

use integration_engine::{delivery::call, record::Entity};

/// HubSpot: at most 100 inputs in a batch call.
pub const BATCH_MAX: usize = 100;

/// A call that carries records to HubSpot.
pub type Call = call::Call<HubSpot>;
type Decision = call::Decision<HubSpot>;

/// The property by which contacts are known; the only unique one HubSpot brings along.
const EMAIL: &str = "email";

/// An entity's name in paths.
fn object_type(entity: Entity) -> &'static str {
    objects::of(entity).path
}

/// `/crm/v3/objects/contacts` and `/crm/objects/2026-09/contacts`: where the version stands
/// depends on its kind.
fn versioned(area: &str, resource: &str, version: &str) -> String {
    if version.starts_with('v') {
        format!("/{area}{version}/{resource}")
    } else {
        format!("/{area}{resource}/{version}")
    }
}

fn objects_path(version: &str, entity: Entity) -> String {
    format!(
        "{}/{}",
        versioned("crm/", "objects", version),
        object_type(entity)
    )
}

/// What is to be done while the unique property is missing.
fn not_provisioned(property: &str) -> String {
    format!("property {property} does not exist yet; run SELECT integration.provision('hubspot')")
}

#[cfg(test)]
mod specs;
#[cfg(test)]
mod tests;
