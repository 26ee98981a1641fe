//! The bodies of members: addresses, statuses, merge fields, language, tags and interests.

use std::borrow::Cow;

use integration_engine::{
    delivery::{call::Link, given::Given, outcome::Verdict, verdicts::unmappable},
    record::{
        consent::MemberStatus,
        field_type::MergeType,
        mapping::{Direction, Field, ValueKind},
    },
    sync::clock::{Tick, ValueHash, Writer},
    value::{
        ValueError,
        json::{push_member, push_name, push_string},
    },
};

use super::{
    EMAIL_ADDRESS, INTERESTS, LANGUAGE, LIST_ID, PERMISSIONS, STATUS, TAGS, plan::MemberPlan,
};
use crate::fields::values;
use integration_engine::record::field_type::FieldType;

/// The status a member gets who is created where a known one was to be written to. Mailchimp: a
/// contact that gets no marketing, and is not asked whether they want any.
pub(super) const UNMAILED: &str = "transactional";

/// The name of the status for whoever is created.
pub(super) const STATUS_IF_NEW: &str = "status_if_new";

/// A row's mapped columns as text.
pub(super) type Row = [Option<String>];

/// Which fields go into a body.
#[derive(Clone, Copy)]
pub(super) enum Fields<'a> {
    /// All that hold something, and what the member may hold of us by a call whose answer was lost.
    Filled(Option<&'a Link>),
    /// All that differ from what was last agreed on.
    Changed(&'a Link),
}

/// A body under construction, and what the member holds once it is accepted.
#[derive(Default)]
pub(super) struct MemberBody {
    pub(super) json: String,
    pub(super) ticks: Vec<Tick>,
    /// What it has of us besides fields, where that changes.
    pub(super) given: Option<Given>,
    /// Something is left that takes another call.
    pub(super) more: bool,
}

/// Whether tags are sent along; PATCH does not take them, and of PUT that is not certain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tags {
    Along,
    Not,
}

impl MemberPlan<'_> {
    /// Opens a member with its address, where that is said, and a status, where one is named.
    pub(super) fn open(
        &self,
        row: &Row,
        email: Option<&str>,
        status: Option<(&str, &str)>,
    ) -> MemberBody {
        let mut json = String::with_capacity(96 + 32 * self.map.fields.len());
        json.push('{');
        if let Some(email) = email {
            push_member(&mut json, EMAIL_ADDRESS, email);
        }
        if let Some((name, status)) = status {
            push_member(&mut json, name, status);
        }
        let mut ticks = Vec::with_capacity(self.map.fields.len());
        let address = self
            .columns(row)
            .find(|(field, _)| field.remote == EMAIL_ADDRESS);
        if let (Some(email), Some((field, _))) = (email, address) {
            ticks.push(self.tick(field, ValueHash::of(Some(email))));
        }
        MemberBody {
            json,
            ticks,
            ..MemberBody::default()
        }
    }

    /// Adds merge fields, language, tags and interests.
    pub(super) fn fields(
        &self,
        body: &mut MemberBody,
        row: &Row,
        which: Fields<'_>,
        tags: Tags,
    ) -> Result<(), Verdict> {
        let start = body.json.len();
        push_name(&mut body.json, "merge_fields");
        body.json.push('{');
        let opened = body.json.len();
        let mut aside = Vec::new();
        for (field, text) in self.columns(row) {
            let remote = field.remote.as_str();
            let absent = field.remote_type == FieldType::Merge(MergeType::Absent);
            let elsewhere = matches!(remote, EMAIL_ADDRESS | STATUS | LIST_ID);
            if elsewhere || absent || field.direction == Direction::Pull {
                continue;
            }
            if matches!(remote, LANGUAGE | TAGS | INTERESTS | PERMISSIONS) {
                aside.push((field, text));
                continue;
            }
            let value = self.value(field, text)?;
            let hash = ValueHash::of(value.as_deref());
            if which.includes(field, hash) {
                push_name(&mut body.json, remote);
                self.push_value(&mut body.json, field, value.as_deref())?;
                body.ticks.push(self.tick(field, hash));
            }
        }
        if body.json.len() == opened {
            // An empty object would be refused or worse; it is left out.
            body.json.truncate(start);
        } else {
            body.json.push('}');
        }
        for (field, text) in aside {
            self.push_aside(body, field, text, which, tags)?;
        }
        Ok(())
    }

    /// What stands beside the merge fields.
    fn push_aside(
        &self,
        body: &mut MemberBody,
        field: &Field,
        text: Option<&str>,
        which: Fields<'_>,
        tags: Tags,
    ) -> Result<(), Verdict> {
        match field.remote.as_str() {
            PERMISSIONS => {
                body.more |= self.owes_permissions(field, text);
                Ok(())
            }
            TAGS => self.push_tags(body, field, text, which, tags),
            INTERESTS => self.push_interests(body, field, text, which),
            _ => {
                let value = self.value(field, text)?;
                let hash = ValueHash::of(value.as_deref());
                if which.includes(field, hash) {
                    // It cannot be emptied.
                    if let Some(value) = &value {
                        push_member(&mut body.json, LANGUAGE, value);
                    }
                    body.ticks.push(self.tick(field, hash));
                }
                Ok(())
            }
        }
    }

    /// Here tags are only ever added, for others may have set some, too. As soon as some of ours
    /// are to be taken back, all of it is left to the call that can.
    fn push_tags(
        &self,
        body: &mut MemberBody,
        field: &Field,
        text: Option<&str>,
        which: Fields<'_>,
        tags: Tags,
    ) -> Result<(), Verdict> {
        let standing = self.standing(field, text, which)?;
        let along = tags == Tags::Along && standing.stale.is_empty();
        if !along || !standing.is_new() {
            body.more |= standing.is_pending();
            return Ok(());
        }
        push_name(&mut body.json, TAGS);
        body.json.push('[');
        for (position, tag) in standing.wanted.iter().enumerate() {
            if position > 0 {
                body.json.push(',');
            }
            push_string(&mut body.json, tag);
        }
        body.json.push(']');
        body.ticks.push(standing.tick);
        self.giving(body, TAGS, standing.wanted);
        Ok(())
    }

    /// Mailchimp: an interest that is not sent stays as it is.
    fn push_interests(
        &self,
        body: &mut MemberBody,
        field: &Field,
        text: Option<&str>,
        which: Fields<'_>,
    ) -> Result<(), Verdict> {
        let standing = self.standing(field, text, which)?;
        if !standing.is_pending() {
            return Ok(());
        }
        push_name(&mut body.json, INTERESTS);
        body.json.push('{');
        for (ids, value) in [(&standing.wanted, "true"), (&standing.stale, "false")] {
            for id in ids {
                push_name(&mut body.json, id);
                body.json.push_str(value);
            }
        }
        body.json.push('}');
        body.ticks.push(standing.tick);
        self.giving(body, INTERESTS, standing.wanted);
        Ok(())
    }

    /// Mailchimp: number fields take JSON numbers, addresses objects, everything else strings; an
    /// empty string clears any of them, null is refused.
    fn push_value(
        &self,
        json: &mut String,
        field: &Field,
        value: Option<&str>,
    ) -> Result<(), Verdict> {
        let Some(value) = value else {
            json.push_str("\"\"");
            return Ok(());
        };
        match (&field.remote_type, field.kind) {
            // In the form in which they are compared, which is JSON.
            (FieldType::Merge(MergeType::Number | MergeType::Address), _) => json.push_str(value),
            (FieldType::Merge(_), _) => push_string(json, value),
            (_, ValueKind::Integer | ValueKind::Decimal | ValueKind::Float) => json.push_str(value),
            (_, ValueKind::Json) if value.starts_with('{') => {
                serde_json::from_str::<serde::de::IgnoredAny>(value).map_err(|_| {
                    unmappable(self.map, field, "field", Some(value), &ValueError::NotJson)
                })?;
                json.push_str(value);
            }
            _ => push_string(json, value),
        }
        Ok(())
    }

    pub(super) fn columns<'r>(
        &'r self,
        row: &'r Row,
    ) -> impl Iterator<Item = (&'r Field, Option<&'r str>)> {
        self.map
            .fields
            .iter()
            .zip(row)
            .map(|(field, text)| (field, text.as_deref()))
    }

    pub(super) fn value<'t>(
        &self,
        field: &Field,
        text: Option<&'t str>,
    ) -> Result<Option<Cow<'t, str>>, Verdict> {
        values::to_remote(field, text)
            .map_err(|error| unmappable(self.map, field, "field", text, &error))
    }

    pub(super) fn tick(&self, field: &Field, hash: ValueHash) -> Tick {
        Tick {
            field: field.id,
            hash,
            at: self.work.changed_at,
            by: Writer::Crm,
        }
    }
}

impl Fields<'_> {
    pub(super) fn includes(self, field: &Field, hash: ValueHash) -> bool {
        let empty = ValueHash::of(None);
        match self {
            Fields::Filled(link) => {
                let stands = |link: &Link| {
                    link.remote_id.is_some()
                        && !link.is_nowhere()
                        && link.clock.is_stand_in(field.id, hash)
                };
                (hash != empty && !link.is_some_and(stands))
                    || link.is_some_and(|link| link.clock.is_doubtful(field.id))
            }
            Fields::Changed(link) => {
                hash != link.clock.get(field.id).map_or(empty, |tick| tick.hash)
            }
        }
    }
}

impl MemberBody {
    pub(super) fn new() -> MemberBody {
        MemberBody::default()
    }

    pub(super) fn close(mut self) -> MemberBody {
        self.json.push('}');
        self
    }
}

pub(super) const fn status_text(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Subscribed => "subscribed",
        MemberStatus::Pending => "pending",
        // Nothing else is ever asked for; an opt-out is the safe reading of it.
        MemberStatus::UnsubscribedByCrm
        | MemberStatus::UnsubscribedByMember
        | MemberStatus::Cleaned
        | MemberStatus::Forgotten
        | MemberStatus::Archived => "unsubscribed",
    }
}
