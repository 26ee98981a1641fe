//! What a service's field holds, as far as its definition tells, with what is needed to convert values
//! for it.

use std::{collections::BTreeMap, sync::Arc};

/// What a property (or a field of an audience) holds, with what is needed to convert values for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldType {
    /// The definition has not been read: values go by the column's type.
    #[default]
    Unknown,
    Text,
    Number,
    Date,
    DateTime,
    Bool,
    /// One option out of a list.
    Choice(Arc<[FieldOption]>),
    /// Any number of them, `a;b` on the wire.
    Choices(Arc<[FieldOption]>),
    /// The id of an owner. `None`: the owners could not be read.
    Owner(Option<Arc<Owners>>),
    Pipeline(Arc<Pipelines>),
    /// A stage of the pipeline the same record is in.
    Stage(Arc<Pipelines>),
    /// A field of one of Mailchimp's audiences.
    Merge(MergeType),
}

/// An option: what is sent, and what people see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOption {
    pub value: String,
    pub label: String,
}

/// Owners' ids by their e-mail addresses, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners(pub BTreeMap<String, String>);

/// A pipeline of deals, in the order HubSpot shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    pub name: FieldOption,
    pub stages: Vec<FieldOption>,
}

pub type Pipelines = Vec<Pipeline>;

/// What a field of an audience takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeType {
    /// One that is not known here: values go by the column's type.
    Other,
    Text,
    Number,
    /// `radio` and `dropdown`: one of these.
    Choice(Arc<[String]>),
    Date,
    Birthday,
    Address,
    Zip,
    Phone,
    /// `url` and `imageurl`.
    Url,
    /// The member's tags; no merge field.
    Tags,
    /// The groups the member is in; no merge field. `None`: they have not been read.
    Interests(Option<Arc<[NamedInterest]>>),
    /// The marketing permissions the member has given; no merge field. `None` as above.
    Permissions(Option<Arc<[NamedInterest]>>),
    /// The audience has no such field: it is left out.
    Absent,
}

/// An interest or a marketing permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedInterest {
    pub id: String,
    /// What people see.
    pub name: String,
    /// The category that an interest belongs to; empty for permissions.
    pub category: String,
}

impl NamedInterest {
    /// A name that no other one has.
    pub fn full(&self) -> String {
        match self.category.is_empty() {
            true => self.name.clone(),
            false => format!("{}: {}", self.category, self.name),
        }
    }
}
