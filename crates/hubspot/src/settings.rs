//! What planning for HubSpot goes by.

use integration_engine::record::Entity;

/// The settings, and what is known of the portal.
#[derive(Clone, Debug, PartialEq)]
pub struct HubSpotSettings {
    /// `2026-09`, another dated version, or `v3`.
    pub api_version: String,
    /// Name of our unique property.
    pub external_id_property: String,
    /// Entities on which that property is known to exist.
    pub external_id_ready: Vec<Entity>,
    /// Entities of which the portal holds records that others named: an address says nothing about
    /// whose a record is.
    pub external_id_shared: Vec<Entity>,
    pub on_delete: HubSpotOnDelete,
}

/// What becomes of a HubSpot record whose CRM row was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubSpotOnDelete {
    /// It goes to the recycle bin.
    Archive,
    /// A contact is erased for good (HubSpot: no other kind of record can be); others are archived.
    Gdpr,
    Ignore,
}
