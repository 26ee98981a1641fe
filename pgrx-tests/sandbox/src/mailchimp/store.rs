//! Audiences and their members.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use md5::{Digest, Md5};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use super::groups::Category;
use super::status::{Actor, Status};
use super::webhooks::Hook;
use crate::clock::{self, Millis, Now};

/// A definition of a merge field.
#[derive(Debug, Clone)]
pub(crate) struct MergeField {
    pub id: u64,
    pub tag: String,
    pub name: String,
    pub kind: String,
    pub required: bool,
    pub options: Value,
}

/// A contact of one audience.
/// When a member opted in: told by whoever subscribed them, or else when that was.
pub(crate) const TIMESTAMP_OPT: &str = "timestamp_opt";

#[derive(Debug)]
pub(crate) struct Member {
    pub email: Box<str>,
    /// MD5 of the lower-cased address, in hex.
    pub hash: [u8; 32],
    pub web_id: u64,
    pub status: Status,
    /// Who set the status last.
    pub status_by: Actor,
    pub unsubscribe_reason: &'static str,
    pub last_changed: Millis,
    pub created: Millis,
    /// When they last became subscribed.
    pub opted_in: Option<Millis>,
    /// By position of the field's definition; only fields that have a value.
    pub merge: Vec<(usize, Value)>,
    pub tags: Vec<Box<str>>,
    pub email_type: Box<str>,
    pub language: Box<str>,
    pub vip: bool,
    /// Ids of the groups that the member is in, and of the permissions they have given.
    pub interests: BTreeSet<String>,
    pub permissions: BTreeSet<String>,
    /// Location, times and the like: kept as sent.
    pub other: Map<String, Value>,
    /// Permanently deleted: only the address is remembered, in [`Audience::forgotten`].
    pub gone: bool,
    pub busy_until: Instant,
}

#[derive(Debug)]
pub(crate) struct Audience {
    pub id: String,
    pub fields: Vec<MergeField>,
    pub members: Vec<Member>,
    pub by_hash: FxHashMap<[u8; 32], usize>,
    pub forgotten: FxHashSet<[u8; 32]>,
    pub hooks: Vec<Hook>,
    pub double_optin: bool,
    pub categories: Vec<Category>,
    /// Marketing permissions: ids and texts.
    pub permissions: Vec<(String, String)>,
    /// Where the numbers of its members begin: a contact is one of one audience.
    pub first_web_id: u64,
}

impl Audience {
    pub(crate) fn new(id: &str, double_optin: bool) -> Self {
        let mut audience = Self {
            id: id.to_owned(),
            fields: Vec::new(),
            members: Vec::new(),
            by_hash: FxHashMap::default(),
            forgotten: FxHashSet::default(),
            hooks: Vec::new(),
            double_optin,
            categories: Vec::new(),
            permissions: Vec::new(),
            first_web_id: 404_947_000,
        };
        for (tag, name, kind) in [
            ("FNAME", "First Name", "text"),
            ("LNAME", "Last Name", "text"),
            ("ADDRESS", "Address", "address"),
            ("PHONE", "Phone Number", "phone"),
        ] {
            audience.add_field(tag, name, kind, false, json!({}));
        }
        audience
    }

    pub(crate) fn add_field(
        &mut self,
        tag: &str,
        name: &str,
        kind: &str,
        required: bool,
        options: Value,
    ) -> usize {
        let id = self.fields.last().map_or(1, |field| field.id + 1);
        self.fields.push(MergeField {
            id,
            tag: tag.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            required,
            options,
        });
        self.fields.len() - 1
    }

    pub(crate) fn field(&self, tag: &str) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| field.tag == tag && !field.tag.is_empty())
    }

    /// The member that a path names: by hash, address or contact id.
    pub(crate) fn locate(&self, text: &str) -> Option<usize> {
        if let Ok(hash) = <[u8; 32]>::try_from(text.as_bytes())
            && let Some(&at) = self.by_hash.get(&hash)
        {
            return Some(at);
        }
        if text.contains('@') {
            return self.by_hash.get(&hash_of(&lower(text))).copied();
        }
        self.members
            .iter()
            .position(|member| !member.gone && contact_id(member) == text)
    }

    /// Nobody is left there, and nothing about them.
    pub(crate) fn remove(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.gone = true;
        self.by_hash.remove(&member.hash);
        member.merge.clear();
        member.tags.clear();
        member.email = "".into();
    }

    pub(crate) fn add(&mut self, email: &str, hash: [u8; 32], now: Now) -> usize {
        let at = self.members.len();
        self.members.push(Member {
            email: email.into(),
            hash,
            web_id: self.first_web_id + at as u64,
            status: Status::Transactional,
            status_by: Actor::Api,
            unsubscribe_reason: "",
            last_changed: now.wall,
            created: now.wall,
            opted_in: None,
            merge: Vec::new(),
            tags: Vec::new(),
            email_type: "html".into(),
            language: "".into(),
            vip: false,
            interests: BTreeSet::new(),
            permissions: BTreeSet::new(),
            other: Map::new(),
            gone: false,
            busy_until: now.mono,
        });
        self.by_hash.insert(hash, at);
        at
    }
}

impl Member {
    pub(crate) fn hash_text(&self) -> &str {
        std::str::from_utf8(&self.hash).unwrap_or_default()
    }

    /// Sets or clears a merge field; whether that changed anything.
    pub(crate) fn set_merge(&mut self, field: usize, value: Value) -> bool {
        let empty = value.as_str().is_some_and(str::is_empty);
        match self.merge.iter().position(|(known, _)| *known == field) {
            Some(at) if empty => {
                self.merge.swap_remove(at);
                true
            }
            Some(at) if self.merge[at].1 == value => false,
            Some(at) => {
                self.merge[at].1 = value;
                true
            }
            None if empty => false,
            None => {
                self.merge.push((field, value));
                true
            }
        }
    }

    pub(crate) fn merge_value(&self, field: usize) -> Option<&Value> {
        self.merge
            .iter()
            .find(|(known, _)| *known == field)
            .map(|(_, value)| value)
    }

    /// Mailchimp may change a tag's case: tags are the same whatever their case.
    pub(crate) fn tag(&mut self, name: &str, active: bool) -> bool {
        let at = self
            .tags
            .iter()
            .position(|tag| tag.eq_ignore_ascii_case(name));
        match (at, active) {
            (None, true) => {
                self.tags.push(name.into());
                true
            }
            (Some(at), false) => {
                self.tags.remove(at);
                true
            }
            _ => false,
        }
    }
}

/// Mailchimp: MD5 of the lower-cased address, lower-case hex.
pub(crate) fn hash_of(lower_email: &str) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 32];
    for (pair, byte) in out.chunks_exact_mut(2).zip(Md5::digest(lower_email)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
    {
        Cow::Owned(text.to_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Identifies the contact whatever its address.
pub(crate) fn contact_id(member: &Member) -> String {
    format!(
        "{:032x}",
        u128::from(member.web_id).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
    )
}

/// Identifies the address across all audiences: ten hex digits.
pub(crate) fn unique_email_id(member: &Member) -> &str {
    &member.hash_text()[22..]
}

/// Appends a member as answers show it.
pub(crate) fn render(out: &mut Vec<u8>, audience: &Audience, member: &Member) {
    use crate::json::{push_str, push_u64};
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(&member.hash);
    out.extend_from_slice(b"\",\"email_address\":");
    push_str(out, &member.email);
    out.extend_from_slice(b",\"unique_email_id\":\"");
    out.extend_from_slice(unique_email_id(member).as_bytes());
    out.extend_from_slice(b"\",\"contact_id\":\"");
    out.extend_from_slice(contact_id(member).as_bytes());
    out.extend_from_slice(b"\",\"web_id\":");
    push_u64(out, member.web_id);
    out.extend_from_slice(b",\"email_type\":");
    push_str(out, &member.email_type);
    out.extend_from_slice(b",\"status\":\"");
    out.extend_from_slice(member.status.name().as_bytes());
    out.extend_from_slice(b"\",\"merge_fields\":{");
    render_merge_fields(out, audience, member);
    out.extend_from_slice(b"},\"last_changed\":\"");
    let start = out.len();
    clock::push_iso(out, member.last_changed);
    // Mailchimp shows seconds and an offset.
    out.truncate(start + 19);
    out.extend_from_slice(b"+00:00\",\"list_id\":");
    push_str(out, &audience.id);
    out.extend_from_slice(b",\"language\":");
    push_str(out, &member.language);
    out.extend_from_slice(if member.vip {
        b",\"vip\":true"
    } else {
        b",\"vip\":false"
    });
    render_what_some_have(out, audience, member);
}

fn render_merge_fields(out: &mut Vec<u8>, audience: &Audience, member: &Member) {
    use crate::json::{comma, push, push_str};
    for (at, field) in audience
        .fields
        .iter()
        .enumerate()
        .filter(|(_, field)| !field.tag.is_empty())
    {
        comma(out);
        push_str(out, &field.tag);
        out.push(b':');
        match member.merge_value(at) {
            Some(value) => push(out, value),
            None => out.extend_from_slice(b"\"\""),
        }
    }
}

fn render_what_some_have(out: &mut Vec<u8>, audience: &Audience, member: &Member) {
    use crate::json::{comma, push, push_str, push_u64};
    if member.status == Status::Unsubscribed {
        out.extend_from_slice(b",\"unsubscribe_reason\":");
        push_str(out, member.unsubscribe_reason);
    }
    if !audience.categories.is_empty() {
        out.extend_from_slice(b",\"interests\":");
        push(out, &audience.interests_of(member));
    }
    if !audience.permissions.is_empty() {
        out.extend_from_slice(b",\"marketing_permissions\":");
        push(out, &audience.permissions_of(member));
    }
    if let Some(opted_in) = member.opted_in
        && !member.other.contains_key(TIMESTAMP_OPT)
    {
        out.extend_from_slice(b",\"timestamp_opt\":");
        push_str(out, &clock::mailchimp_iso(opted_in));
    }
    for (name, value) in &member.other {
        out.push(b',');
        push_str(out, name);
        out.push(b':');
        push(out, value);
    }
    out.extend_from_slice(b",\"tags_count\":");
    push_u64(out, member.tags.len() as u64);
    out.extend_from_slice(b",\"tags\":[");
    // Mailchimp: at most 50 tags are returned.
    for tag in member.tags.iter().take(50) {
        comma(out);
        push(out, &json!({"id": tag_id(tag), "name": tag}));
    }
    out.extend_from_slice(b"]}");
}

/// The same number for the same tag, whatever its case.
pub(crate) fn tag_id(name: &str) -> u64 {
    let hash = hash_of(&name.to_lowercase());
    hash[..6]
        .iter()
        .fold(1, |id, digit| id * 16 + u64::from(digit % 16))
}

/// The members of a JSON object, in order and without a map.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Pairs<'a>(pub Vec<(Cow<'a, str>, Value)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some((key, value)) = map.next_entry::<Key<'de>, Value>()? {
                    pairs.push((key.0, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
