//! The faults that a tracked table can have.

use integration_engine::record::Target;

/// A fault of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldCause {
    /// The table was dropped.
    Table,
    /// The payload view was dropped.
    Payload,
    /// A column of the key was dropped, or can no longer be used as a key.
    Key,
    /// The consent column was dropped, or no longer holds consent.
    Consent,
    /// A column that identifies a person at Mailchimp, address or audience, was dropped or can no
    /// longer be used.
    Identity,
    /// A column that is mapped to another field has a fault: it is left out.
    Column,
    /// A column that defines an association has a fault: the association is left out.
    Association,
    /// A trigger does not fire: changes are not captured.
    Trigger,
    /// Row security hides rows from the table's owner.
    RowSecurity,
    /// The table or its payload view cannot be read.
    Unreadable,
    /// Code of the table, its view or its triggers took too long.
    Timeout,
    /// Somebody has locked it for long.
    Locked,
    /// HubSpot: most of the records with the names of its rows are somebody else's.
    ExternalId,
    /// HubSpot has no such custom object, or does not show it.
    Schema,
}

impl HoldCause {
    const ALL: [HoldCause; 14] = [
        HoldCause::Table,
        HoldCause::Payload,
        HoldCause::Key,
        HoldCause::Consent,
        HoldCause::Identity,
        HoldCause::Column,
        HoldCause::Association,
        HoldCause::Trigger,
        HoldCause::RowSecurity,
        HoldCause::Unreadable,
        HoldCause::Timeout,
        HoldCause::Locked,
        HoldCause::ExternalId,
        HoldCause::Schema,
    ];

    /// Causes that the catalogue shows; `sources::findings()` says what to do about them.
    pub const FOUND: [HoldCause; 8] = [
        HoldCause::Table,
        HoldCause::Payload,
        HoldCause::Key,
        HoldCause::Consent,
        HoldCause::Identity,
        HoldCause::Column,
        HoldCause::Association,
        HoldCause::Trigger,
    ];

    /// Returns what `_hold.cause` holds.
    pub const fn name(self) -> &'static str {
        match self {
            HoldCause::Table => "table",
            HoldCause::Payload => "payload",
            HoldCause::Key => "key",
            HoldCause::Consent => "consent",
            HoldCause::RowSecurity => "row_security",
            HoldCause::Unreadable => "unreadable",
            HoldCause::Timeout => "timeout",
            HoldCause::Locked => "locked",
            HoldCause::Identity => "identity",
            HoldCause::Column => "column",
            HoldCause::Association => "association",
            HoldCause::Trigger => "trigger",
            HoldCause::ExternalId => "external_id",
            HoldCause::Schema => "schema",
        }
    }

    /// Returns whether nothing of the table is sent because of it. Otherwise a part is left out.
    pub const fn holds(self) -> bool {
        !matches!(
            self,
            HoldCause::Column | HoldCause::Association | HoldCause::Trigger
        )
    }

    /// Returns what to do about it; empty where the reason says so already.
    pub const fn hint(self) -> &'static str {
        match self {
            HoldCause::Table
            | HoldCause::Payload
            | HoldCause::Key
            | HoldCause::Consent
            | HoldCause::Identity
            | HoldCause::Column
            | HoldCause::Association
            | HoldCause::Trigger
            | HoldCause::ExternalId => "",
            HoldCause::RowSecurity => {
                "ALTER TABLE … NO FORCE ROW LEVEL SECURITY, or give the table an owner with BYPASSRLS; it is tried again by itself"
            }
            HoldCause::Locked => "it goes on by itself once that transaction ends",
            HoldCause::Schema => {
                "HubSpot is asked again with later changes, and at once after SELECT integration.resume('hubspot');"
            }
            HoldCause::Unreadable => "once that is put right, it is tried again by itself",
            HoldCause::Timeout => {
                "make the view or the trigger faster, or integration.crm_timeout longer; it is tried again by itself, at once after SELECT integration.resume(target);"
            }
        }
    }

    /// Returns the target that it concerns; `None`: both.
    pub const fn target(self) -> Option<Target> {
        match self {
            HoldCause::ExternalId | HoldCause::Schema => Some(Target::HubSpot),
            _ => None,
        }
    }

    /// Returns whether the worker finds out by trying that it is over.
    pub const fn is_tried(self) -> bool {
        matches!(
            self,
            HoldCause::RowSecurity | HoldCause::Unreadable | HoldCause::Timeout | HoldCause::Locked
        )
    }

    /// Returns the cause with a stored name.
    pub fn from_name(name: &str) -> Option<HoldCause> {
        HoldCause::ALL
            .into_iter()
            .find(|cause| cause.name() == name)
    }
}
