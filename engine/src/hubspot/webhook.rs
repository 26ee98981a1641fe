//! HubSpot events.
use crate::webhook::{Event, WebhookError};
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSpotSubject {
    pub entity: Option<crate::record::Entity>,
    /// `0-1`, or the classic name.
    pub object_type: String,
    pub object_id: Option<String>,
    pub portal_id: String,
    pub app_id: Option<String>,
    pub change_source: Option<String>,
    pub source_id: Option<String>,
    pub action: HubSpotAction,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubSpotAction {
    PropertyChange { property: String, value: Option<String> },
    Creation,
    Deletion,
    PrivacyDeletion,
    Merge { merged: Vec<String>, surviving: String },
    Restore,
    AssociationChange,
    Other(String),
}
pub fn parse(_body: &[u8]) -> Result<Vec<Event>, WebhookError> { unimplemented!() }
/// Whether this event is the echo of a write of ours.
pub fn is_echo(_subject: &HubSpotSubject, _own_app_id: &str) -> bool { unimplemented!() }
