//! What can be wrong with a tracked table.

use integration_engine::record::Target;

/// What is wrong with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The table was dropped.
    Table,
    /// The payload view was dropped.
    Payload,
    /// A column of the key was dropped, or cannot be used as a key any more.
    Key,
    /// The consent column was dropped, or does not hold consent any more.
    Consent,
    /// The same of a column that says who somebody is at Mailchimp: address or audience.
    Identity,
    /// A column that is mapped to something else: it is left out.
    Column,
    /// A column that names what a record is associated with: the association is left out.
    Association,
    /// A trigger does not fire: changes are not captured.
    Trigger,
    /// Row security hides rows from the table's owner.
    RowSecurity,
    /// The table or its payload view cannot be read.
    Unreadable,
    /// Code of the table, its view or its triggers took too long.
    Timeout,
    /// Somebody has held a lock on it for long.
    Locked,
    /// HubSpot: most records that its rows are known by are somebody else's.
    ExternalId,
}

impl Cause {
    const ALL: [Cause; 13] = [
        Cause::Table,
        Cause::Payload,
        Cause::Key,
        Cause::Consent,
        Cause::Identity,
        Cause::Column,
        Cause::Association,
        Cause::Trigger,
        Cause::RowSecurity,
        Cause::Unreadable,
        Cause::Timeout,
        Cause::Locked,
        Cause::ExternalId,
    ];

    /// Those that the catalogue tells: see `sources::findings()`, which says what to do as well.
    pub const FOUND: [Cause; 8] = [
        Cause::Table,
        Cause::Payload,
        Cause::Key,
        Cause::Consent,
        Cause::Identity,
        Cause::Column,
        Cause::Association,
        Cause::Trigger,
    ];

    /// Returns what `_hold.cause` holds.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Table => "table",
            Cause::Payload => "payload",
            Cause::Key => "key",
            Cause::Consent => "consent",
            Cause::RowSecurity => "row_security",
            Cause::Unreadable => "unreadable",
            Cause::Timeout => "timeout",
            Cause::Locked => "locked",
            Cause::Identity => "identity",
            Cause::Column => "column",
            Cause::Association => "association",
            Cause::Trigger => "trigger",
            Cause::ExternalId => "external_id",
        }
    }

    /// Whether nothing is sent of the table because of it. Otherwise part of it is left out.
    pub const fn holds(self) -> bool {
        !matches!(self, Cause::Column | Cause::Association | Cause::Trigger)
    }

    /// Returns what to do about it; empty where the reason says that.
    pub const fn hint(self) -> &'static str {
        match self {
            Cause::Table
            | Cause::Payload
            | Cause::Key
            | Cause::Consent
            | Cause::Identity
            | Cause::Column
            | Cause::Association
            | Cause::Trigger
            | Cause::ExternalId => "",
            Cause::RowSecurity => {
                "ALTER TABLE … NO FORCE ROW LEVEL SECURITY, or give the table an owner with BYPASSRLS; it is tried again by itself"
            }
            Cause::Locked => "it goes on by itself once that transaction ends",
            Cause::Unreadable => "once that is put right, it is tried again by itself",
            Cause::Timeout => {
                "make the view or the trigger faster, or integration.crm_timeout longer; it is tried again by itself, at once after SELECT integration.resume(target);"
            }
        }
    }

    /// The target that it is about; `None`: both.
    pub const fn target(self) -> Option<Target> {
        match self {
            Cause::ExternalId => Some(Target::HubSpot),
            _ => None,
        }
    }

    /// Whether the worker finds out by itself, by trying, that it is over.
    pub const fn is_tried(self) -> bool {
        matches!(
            self,
            Cause::RowSecurity | Cause::Unreadable | Cause::Timeout | Cause::Locked
        )
    }

    /// The cause that is stored under a name.
    pub fn from_name(name: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.name() == name)
    }
}
