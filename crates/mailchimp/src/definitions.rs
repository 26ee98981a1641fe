//! What audiences are made of: their merge fields, interest groups and marketing permissions, read
//! from Mailchimp's answers, and the field map seen in the light of one audience.

pub mod preflight;
pub mod provision;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::Deserialize;

use crate::{Decision, MailchimpCall};
use integration_engine::{
    delivery::outcome::{Category, Verdict},
    record::{
        Target,
        field_type::{FieldType, MergeType, NamedInterest},
        mapping::{Direction, Field, SourceMap},
    },
    wire::Request,
};

use super::{EMAIL_ADDRESS, INTERESTS, LANGUAGE, LIST_ID, PERMISSIONS, STATUS, TAGS};
use crate::answer::fault::is_opt_out;

/// Mailchimp: at most 1,000 in a page.
const PAGE: usize = 1_000;

/// One audience, as far as it has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// By tag, with its type. `None`: they have not been read.
    pub(super) fields: Option<BTreeMap<String, MergeType>>,
    pub(super) interests: Option<Arc<[NamedInterest]>>,
    pub(super) permissions: Option<Arc<[NamedInterest]>>,
}

/// Everything that has been read of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudienceDefinitions(pub(super) BTreeMap<String, Audience>);

/// A line of a field map that an audience cannot serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingField {
    pub table: String,
    pub column: String,
    pub tag: String,
    pub list: String,
}

impl fmt::Display for MissingField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "column {} of {}: audience {} has no merge field {}",
            self.column, self.table, self.list, self.tag
        )
    }
}

/// What is known of a field before an audience has been asked.
pub fn type_of(remote: &str) -> FieldType {
    match remote {
        TAGS => FieldType::Merge(MergeType::Tags),
        INTERESTS => FieldType::Merge(MergeType::Interests(None)),
        PERMISSIONS => FieldType::Merge(MergeType::Permissions(None)),
        _ => FieldType::Unknown,
    }
}

/// Whether it is a merge field, which an audience may lack.
pub(super) fn is_merge_field(field: &Field) -> bool {
    let others = [
        EMAIL_ADDRESS,
        STATUS,
        TAGS,
        LIST_ID,
        LANGUAGE,
        INTERESTS,
        PERMISSIONS,
    ];
    !others.contains(&field.remote.as_str())
}

impl AudienceDefinitions {
    /// The map for members of one audience: the same fields in the same order, each with its type.
    pub fn refine(&self, map: &SourceMap, list: &str) -> SourceMap {
        let Some(audience) = self.0.get(list) else {
            return map.clone();
        };
        let refined = |field: &Field| Field {
            remote_type: audience.type_of(field),
            ..field.clone()
        };
        SourceMap {
            fields: map.fields.iter().map(refined).collect(),
            ..map.clone()
        }
    }

    /// The merge fields that are mapped, and that these audiences lack, as far as they were read.
    pub fn missing<'a>(
        &self,
        map: &SourceMap,
        lists: impl Iterator<Item = &'a String>,
    ) -> Vec<MissingField> {
        let read = lists.filter_map(|list| Some((list, self.0.get(list)?.fields.as_ref()?)));
        let lacking = |(list, known): (&String, &BTreeMap<String, MergeType>)| {
            let fields = map
                .fields
                .iter()
                .filter(|field| is_merge_field(field) && !known.contains_key(&field.remote));
            let missing = |field: &Field| MissingField {
                table: map.name.clone(),
                column: field.column.clone(),
                tag: field.remote.clone(),
                list: list.clone(),
            };
            fields.map(missing).collect::<Vec<_>>()
        };
        read.flat_map(lacking).collect()
    }
}

impl Audience {
    fn type_of(&self, field: &Field) -> FieldType {
        match field.remote.as_str() {
            INTERESTS => FieldType::Merge(MergeType::Interests(self.interests.clone())),
            PERMISSIONS => FieldType::Merge(MergeType::Permissions(self.permissions.clone())),
            tag if is_merge_field(field) => match &self.fields {
                None => FieldType::Unknown,
                Some(known) => {
                    let held = known.get(tag).cloned();
                    FieldType::Merge(held.unwrap_or(MergeType::Absent))
                }
            },
            _ => field.remote_type.clone(),
        }
    }
}

/// Whether what is to be done depends on what the audience's fields are. Nobody who wants no more
/// mail has to wait for that.
pub fn needs_definitions(decision: &Decision) -> bool {
    match decision {
        Decision::Send(kind, item) => {
            let writes = matches!(
                kind,
                MailchimpCall::Bulk { .. }
                    | MailchimpCall::Put { .. }
                    | MailchimpCall::Patch { .. }
                    | MailchimpCall::Tags { .. }
            );
            writes && !is_opt_out(item)
        }
        Decision::Settled(verdict) => matches!(
            verdict,
            Verdict::Dead {
                category: Category::Definition | Category::TooLarge | Category::Unmappable,
                ..
            }
        ),
    }
}

/// What is mapped, as far as audiences are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) tags: BTreeSet<String>,
    pub(super) interests: bool,
    pub(super) permissions: bool,
}

impl Mapped {
    pub(super) fn lacks_some_of(&self, known: &BTreeMap<String, MergeType>) -> bool {
        self.tags.iter().any(|tag| !known.contains_key(tag))
    }

    pub(super) fn of<'a>(maps: impl Iterator<Item = &'a SourceMap>) -> Mapped {
        let mut mapped = Mapped::default();
        for field in maps.flat_map(|map| &map.fields) {
            match field.remote.as_str() {
                INTERESTS => mapped.interests = true,
                PERMISSIONS => mapped.permissions |= field.direction != Direction::Pull,
                _ if is_merge_field(field) => {
                    mapped.tags.insert(field.remote.clone());
                }
                _ => {}
            }
        }
        mapped
    }
}

pub(super) fn fields_request(list: &str, offset: usize) -> Request {
    let fields = "fields=merge_fields.tag,merge_fields.type,merge_fields.options,total_items";
    let path = format!("/lists/{list}/merge-fields?count={PAGE}&offset={offset}&{fields}");
    Request::get(Target::Mailchimp, path)
}

pub(super) fn categories_request(list: &str) -> Request {
    let fields = "fields=categories.id,categories.title";
    let path = format!("/lists/{list}/interest-categories?count={PAGE}&{fields}");
    Request::get(Target::Mailchimp, path)
}

pub(super) fn interests_request(list: &str, category: &str) -> Request {
    let fields = "fields=interests.id,interests.name";
    let path =
        format!("/lists/{list}/interest-categories/{category}/interests?count={PAGE}&{fields}");
    Request::get(Target::Mailchimp, path)
}

/// Mailchimp: the permissions of an audience, with their ids, are visible on its members only.
pub(super) fn permissions_request(list: &str) -> Request {
    let fields = "fields=members.marketing_permissions";
    Request::get(
        Target::Mailchimp,
        format!("/lists/{list}/members?count=1&{fields}"),
    )
}

#[derive(Deserialize)]
struct FieldPage {
    merge_fields: Vec<MergeFieldRow>,
    #[serde(default)]
    total_items: usize,
}

#[derive(Deserialize)]
struct MergeFieldRow {
    tag: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    choices: Option<Vec<String>>,
}

/// Reads a page of merge fields, from `offset` on; returns where the next one begins.
pub(super) fn read_fields(
    body: &[u8],
    offset: usize,
) -> Result<(BTreeMap<String, MergeType>, Option<usize>), String> {
    let page: FieldPage = parse(body)?;
    let next = offset + page.merge_fields.len();
    let more = !page.merge_fields.is_empty() && next < page.total_items;
    let fields = page.merge_fields.into_iter().map(merge_field).collect();
    Ok((fields, more.then_some(next)))
}

fn merge_field(row: MergeFieldRow) -> (String, MergeType) {
    let choices = row.options.and_then(|options| options.choices);
    let merge = match (row.kind.as_deref(), choices) {
        (Some("text"), _) => MergeType::Text,
        (Some("number"), _) => MergeType::Number,
        // Without a list there is nothing to compare with.
        (Some("radio" | "dropdown"), Some(choices)) if !choices.is_empty() => {
            MergeType::Choice(choices.into())
        }
        (Some("date"), _) => MergeType::Date,
        (Some("birthday"), _) => MergeType::Birthday,
        (Some("address"), _) => MergeType::Address,
        (Some("zip"), _) => MergeType::Zip,
        (Some("phone"), _) => MergeType::Phone,
        (Some("url" | "imageurl"), _) => MergeType::Url,
        _ => MergeType::Other,
    };
    (row.tag, merge)
}

#[derive(Deserialize)]
struct Categories {
    categories: Vec<CategoryRow>,
}

#[derive(Deserialize)]
struct CategoryRow {
    id: String,
    #[serde(default)]
    title: String,
}

/// Reads the categories of interests: ids and titles.
pub(super) fn read_categories(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let read: Categories = parse(body)?;
    let rows = read.categories.into_iter();
    Ok(rows.map(|row| (row.id, row.title)).collect())
}

#[derive(Deserialize)]
struct Interests {
    interests: Vec<InterestRow>,
}

#[derive(Deserialize)]
struct InterestRow {
    id: String,
    #[serde(default)]
    name: String,
}

pub(super) fn read_interests(body: &[u8], category: &str) -> Result<Vec<NamedInterest>, String> {
    let read: Interests = parse(body)?;
    let named = |row: InterestRow| NamedInterest {
        id: row.id,
        name: row.name,
        category: category.to_owned(),
    };
    Ok(read.interests.into_iter().map(named).collect())
}

#[derive(Deserialize)]
struct Members {
    members: Vec<MemberRow>,
}

#[derive(Deserialize)]
struct MemberRow {
    #[serde(default)]
    marketing_permissions: Vec<PermissionRow>,
}

#[derive(Deserialize)]
struct PermissionRow {
    marketing_permission_id: String,
    #[serde(default)]
    text: String,
}

/// Reads the permissions that a member shows. `None`: the audience has no member yet.
pub(super) fn read_permissions(body: &[u8]) -> Result<Option<Arc<[NamedInterest]>>, String> {
    let read: Members = parse(body)?;
    let named = |row: PermissionRow| NamedInterest {
        id: row.marketing_permission_id,
        name: row.text,
        category: String::new(),
    };
    let first = read.members.into_iter().next();
    Ok(first.map(|member| {
        member
            .marketing_permissions
            .into_iter()
            .map(named)
            .collect()
    }))
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the answer cannot be read: {error}"))
}
