//! Which column goes to which remote field, and the conventional names a new mapping starts from.

use crate::record::{
    Entity, SourceId, Target, consent::words::Words, external_id::ExternalIds,
    field_type::FieldType,
};

/// A line of the field map, by the number `integration.field_map` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldId(pub i16);

impl FieldId {
    /// Not a line of the field map: the CRM key, which HubSpot keeps in our unique property.
    /// Lines are numbered from 1.
    pub const CRM_KEY: FieldId = FieldId(0);
}

/// Which way a field travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Push,
    Pull,
    Both,
}

/// Who wins when both sides changed a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictRule {
    LastWriteWins,
    CrmWins,
    RemoteWins,
}

/// What becomes of a service's value that the column cannot hold as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLossy {
    /// The column holds what it can, and that stands for the service's value.
    #[default]
    Keep,
    /// The value is not taken.
    Refuse,
}

/// What a column's text form is made of; decides how it is turned into a remote value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    Text,
    Integer,
    Decimal,
    Float,
    Bool,
    Date,
    /// Without zone; read as UTC.
    Timestamp,
    TimestampTz,
    /// `{a,b}`, sent as `a;b` to HubSpot and as a list of tags to Mailchimp.
    TextArray,
    Json,
}

/// A mapped column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub id: FieldId,
    /// Column of the source (or of its payload view).
    pub column: String,
    pub kind: ValueKind,
    /// HubSpot property, Mailchimp merge tag, or one of Mailchimp's pseudo fields
    /// (`email_address`, `status`, `tags`, `interests`, `marketing_permissions`, `language`,
    /// `list_id`).
    pub remote: String,
    /// What the remote field holds, where its definition has been read.
    pub remote_type: FieldType,
    pub direction: Direction,
    pub conflict: ConflictRule,
    pub on_lossy: OnLossy,
    /// Mailchimp's `status`: what words in the column mean, besides those that everybody
    /// understands.
    pub words: Words,
}

/// All fields of one tracked table for one target. A row's values come in the order of `fields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMap {
    pub source: SourceId,
    /// `schema.table`, for messages.
    pub name: String,
    pub entity: Entity,
    pub target: Target,
    pub fields: Vec<Field>,
    /// HubSpot: how its records are named.
    pub external_ids: ExternalIds,
}

impl SourceMap {
    pub fn field_named(&self, remote: &str) -> Option<(usize, &Field)> {
        self.fields
            .iter()
            .enumerate()
            .find(|(_, field)| field.remote.eq_ignore_ascii_case(remote))
    }
}
