//! What a bulk call cannot do for a member: taking tags back, and marketing permissions. They come
//! last, when nothing else is left to be sent.

use serde_json::json;

use crate::{Decision, MailchimpCall};
use integration_engine::{
    crypto::subscriber_hash,
    delivery::{
        call::Link,
        given::{Given, stale},
        outcome::Verdict,
        verdicts::unmappable,
    },
    record::{
        field_type::MergeType,
        mapping::{Direction, Field},
    },
    sync::clock::{Tick, ValueHash},
};

use crate::fields::merge;
use crate::plan::known::MemberRef;
use crate::{
    INTERESTS, PERMISSIONS, TAGS,
    member::{Fields, MemberBody, Row},
    plan::MemberPlan,
};
use integration_engine::record::field_type::FieldType;

/// How a list of the member's stands to the column.
pub(crate) struct ColumnLabels {
    /// Tags as they are written, the others by id.
    pub(crate) wanted: Vec<String>,
    /// What we gave, and the column does not name any more.
    pub(crate) stale: Vec<String>,
    /// The column differs from what was last agreed on.
    changed: bool,
    /// What of it is not known to have been given.
    new: Vec<String>,
    pub(crate) tick: Tick,
}

impl ColumnLabels {
    /// Whether there is anything to be done at all.
    pub(crate) fn is_pending(&self) -> bool {
        !self.stale.is_empty() || self.is_new()
    }

    /// Whether there is something to be given.
    pub(crate) fn is_new(&self) -> bool {
        self.changed && !self.wanted.is_empty()
    }
}

impl MemberPlan<'_> {
    pub(crate) fn given(&self) -> Given {
        let link = self.work.link.as_ref();
        link.map(|link| link.membership.given.clone())
            .unwrap_or_default()
    }

    pub(crate) fn standing(
        &self,
        field: &Field,
        text: Option<&str>,
        which: Fields<'_>,
    ) -> Result<ColumnLabels, Verdict> {
        let hash = ValueHash::of(self.value(field, text)?.as_deref());
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        let wanted = text.map_or(Ok(Vec::new()), |text| match &field.remote_type {
            FieldType::Merge(MergeType::Interests(known) | MergeType::Permissions(known)) => {
                merge::ids(known.as_deref().unwrap_or_default(), field.kind, text)
            }
            _ => merge::tags(field.kind, text),
        });
        let wanted = wanted.map_err(|error| unmappable(self.map, field, "field", text, &error))?;
        let wanted: Vec<String> = wanted.into_iter().map(|each| each.into_owned()).collect();
        let given = self.given();
        let known = given.of(&field.remote);
        let stale = stale(known, &wanted);
        let last = self
            .work
            .link
            .as_ref()
            .and_then(|link| link.clock.get(field.id));
        let certain = last.is_some_and(|last| last.hash != ValueHash::UNCERTAIN);
        let is_new = |each: &&String| !certain || !known.contains(each);
        let new = wanted.iter().filter(is_new).cloned().collect();
        Ok(ColumnLabels {
            stale: stale.into_iter().map(str::to_owned).collect(),
            changed: which.includes(field, hash),
            tick: self.tick(field, hash),
            new,
            wanted,
        })
    }

    /// What the member has of us once these are given.
    pub(crate) fn giving(&self, body: &mut MemberBody, remote: &str, list: Vec<String>) {
        let given = body.given.get_or_insert_with(|| self.given());
        match remote {
            TAGS => given.tags = list,
            INTERESTS => given.interests = list,
            _ => given.permissions = list,
        }
    }

    /// Whether permissions are to be sent. What cannot be read yet may be readable once the person
    /// is a member.
    pub(crate) fn owes_permissions(&self, field: &Field, text: Option<&str>) -> bool {
        let known = match self.work.link.as_ref().filter(|link| !link.is_nowhere()) {
            Some(link) => Fields::Changed(link),
            None => Fields::Filled(self.work.link.as_ref()),
        };
        let standing = self.standing(field, text, known);
        standing.map_or(true, |standing| standing.is_pending())
    }

    /// Everything else has been sent.
    pub(crate) fn rest(
        &self,
        row: &Row,
        link: &Link,
        known: MemberRef<'_>,
        email: &str,
    ) -> Result<Decision, Verdict> {
        let field = |name: &str| {
            let mut columns = self.columns(row);
            let found = columns.find(|(field, _)| field.remote == name);
            found.filter(|(field, _)| field.direction != Direction::Pull)
        };
        let permissions = field(PERMISSIONS);
        if let Some((field, text)) = field(TAGS) {
            let standing = self.standing(field, text, Fields::Changed(link))?;
            if standing.is_pending() {
                let owes =
                    permissions.is_some_and(|(field, text)| self.owes_permissions(field, text));
                return Ok(self.retag(standing, known, email, owes));
            }
        }
        if let Some((field, text)) = permissions {
            let standing = self.standing(field, text, Fields::Changed(link))?;
            if standing.is_pending() {
                return Ok(self.permit(standing, known, email));
            }
        }
        Ok(Decision::Settled(Verdict::Unchanged))
    }

    /// Mailchimp: `{"tags":[{"name","status"}]}`, documented for the hash of the address; the
    /// contact's id is what is tried where nobody is found under that.
    fn retag(
        &self,
        standing: ColumnLabels,
        known: MemberRef<'_>,
        email: &str,
        more: bool,
    ) -> Decision {
        let ColumnLabels {
            wanted,
            stale,
            tick,
            ..
        } = standing;
        let tag = |name: &String, status: &str| json!({"name": name, "status": status});
        let active = wanted.iter().map(|name| tag(name, "active"));
        let tags: Vec<_> = active
            .chain(stale.iter().map(|name| tag(name, "inactive")))
            .collect();
        // Automations are for what happens, not for what has been so all along.
        let body = match self.work.syncing {
            true => json!({"tags": tags, "is_syncing": true}),
            false => json!({"tags": tags}),
        };
        let hash = match self.is_alone() {
            true => known.path(),
            false => subscriber_hash(known.address),
        };
        let list = self.list();
        self.small_call(
            MailchimpCall::Tags { list, hash },
            body.to_string(),
            tick,
            (TAGS, wanted),
            known,
            email,
            more,
        )
    }

    /// Mailchimp: `marketing_permissions` is no field of bulk calls. What was given before is not
    /// given again: the person may have withdrawn it there since.
    fn permit(&self, standing: ColumnLabels, known: MemberRef<'_>, email: &str) -> Decision {
        let ColumnLabels {
            wanted,
            stale,
            tick,
            new,
            ..
        } = standing;
        let permission =
            |id: &String, enabled: bool| json!({"marketing_permission_id": id, "enabled": enabled});
        let granted = new.iter().map(|id| permission(id, true));
        let all: Vec<_> = granted
            .chain(stale.iter().map(|id| permission(id, false)))
            .collect();
        let kind = MailchimpCall::Patch {
            list: self.list(),
            hash: known.path(),
        };
        let body = json!({"marketing_permissions": all}).to_string();
        self.small_call(kind, body, tick, (PERMISSIONS, wanted), known, email, false)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one call")]
    fn small_call(
        &self,
        kind: MailchimpCall,
        json: String,
        tick: Tick,
        (remote, wanted): (&str, Vec<String>),
        known: MemberRef<'_>,
        email: &str,
        more: bool,
    ) -> Decision {
        let mut body = MemberBody {
            json,
            ticks: vec![tick],
            more,
            ..MemberBody::new()
        };
        self.giving(&mut body, remote, wanted);
        let mut item = self.item(known.address, Some(email), None, body);
        item.expected = known.contact.cloned();
        Decision::Send(kind, item)
    }
}
