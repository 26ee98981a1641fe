//! The bodies of members: addresses, statuses, merge fields, language and tags.

use std::borrow::Cow;

use crate::{
    call::Link,
    clock::{Tick, ValueHash, Writer},
    json::{push_member, push_name, push_string},
    mapping::{Direction, Field, ValueKind},
    outcome::{MemberStatus, Verdict},
    value::{ValueError, elements, field_to_remote},
    verdicts::unmappable,
};

use super::{EMAIL_ADDRESS, LANGUAGE, LIST_ID, STATUS, TAGS, plan::Plan};

/// A row's mapped columns as text.
pub(super) type Row = [Option<String>];

/// Which fields go into a body.
#[derive(Clone, Copy)]
pub(super) enum Fields<'a> {
    /// All that hold something.
    Filled,
    /// All that differ from what was last agreed on.
    Changed(&'a Link),
}

/// A body under construction, and what the member holds once it is accepted.
pub(super) struct Body {
    pub(super) json: String,
    pub(super) ticks: Vec<Tick>,
}

/// Whether tags are sent along; PATCH does not take them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tags {
    Along,
    Not,
}

impl Plan<'_> {
    /// Opens a member with its address and, where one is named, a status.
    pub(super) fn open(
        &self,
        row: &Row,
        email: &str,
        status: Option<(&str, MemberStatus)>,
    ) -> Body {
        let mut json = String::with_capacity(96 + 32 * self.map.fields.len());
        json.push('{');
        push_member(&mut json, EMAIL_ADDRESS, email);
        if let Some((name, status)) = status {
            push_member(&mut json, name, status_text(status));
        }
        let mut ticks = Vec::with_capacity(self.map.fields.len());
        if let Some((field, _)) = self
            .columns(row)
            .find(|(field, _)| field.remote == EMAIL_ADDRESS)
        {
            ticks.push(self.tick(field, ValueHash::of(Some(email))));
        }
        Body { json, ticks }
    }

    /// Adds merge fields, language and tags.
    pub(super) fn fields(
        &self,
        body: &mut Body,
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
            let pseudo = matches!(field.remote.as_str(), EMAIL_ADDRESS | STATUS | LIST_ID);
            if pseudo || field.direction == Direction::Pull {
                continue;
            }
            let value = self.value(field, text)?;
            let hash = ValueHash::of(value.as_deref());
            if !which.includes(field, hash) {
                continue;
            }
            match (field.remote.as_str(), tags) {
                (LANGUAGE, _) | (TAGS, Tags::Along) => aside.push((field, text, value)),
                (TAGS, Tags::Not) => continue,
                _ => {
                    push_name(&mut body.json, &field.remote);
                    self.push_value(&mut body.json, field, value.as_deref())?;
                }
            }
            body.ticks.push(self.tick(field, hash));
        }
        if body.json.len() == opened {
            // An empty object would be refused or worse; it is left out.
            body.json.truncate(start);
        } else {
            body.json.push('}');
        }
        for (field, text, value) in aside {
            self.push_aside(&mut body.json, field, text, value.as_deref())?;
        }
        Ok(())
    }

    /// Language and tags stand beside the merge fields. Neither can be emptied in this way: tags
    /// are only ever added, for others may have set some, too.
    fn push_aside(
        &self,
        json: &mut String,
        field: &Field,
        text: Option<&str>,
        value: Option<&str>,
    ) -> Result<(), Verdict> {
        let Some(value) = value else { return Ok(()) };
        if field.remote == LANGUAGE {
            push_member(json, LANGUAGE, value);
            return Ok(());
        }
        let tags = match field.kind {
            ValueKind::TextArray => elements(text.unwrap_or("{}"))
                .map_err(|error| unmappable(self.map, field, "field", text, &error))?,
            _ => vec![Cow::Borrowed(value)],
        };
        push_name(json, TAGS);
        json.push('[');
        for (position, tag) in tags.iter().enumerate() {
            if position > 0 {
                json.push(',');
            }
            push_string(json, tag.trim());
        }
        json.push(']');
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
        match field.kind {
            ValueKind::Integer | ValueKind::Decimal | ValueKind::Float => json.push_str(value),
            ValueKind::Json if value.starts_with('{') => {
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
        field_to_remote(self.map, field, text)
            .map_err(|error| unmappable(self.map, field, "field", text, &error))
    }

    fn tick(&self, field: &Field, hash: ValueHash) -> Tick {
        Tick {
            field: field.id,
            hash,
            at: self.work.changed_at,
            by: Writer::Crm,
        }
    }
}

impl Fields<'_> {
    fn includes(self, field: &Field, hash: ValueHash) -> bool {
        let empty = ValueHash::of(None);
        match self {
            Fields::Filled => hash != empty,
            Fields::Changed(link) => {
                hash != link.clock.get(field.id).map_or(empty, |tick| tick.hash)
            }
        }
    }
}

impl Body {
    pub(super) const fn new() -> Body {
        Body {
            json: String::new(),
            ticks: Vec::new(),
        }
    }

    pub(super) fn close(mut self) -> Body {
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
