//! Reading members as they are: what a comparison of both sides asks.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::{EMAIL_ADDRESS, INTERESTS, LANGUAGE, STATUS, TAGS};
use crate::fields::merge;
use crate::fields::values;
use integration_engine::{
    delivery::call::Link,
    record::{RemoteId, Target, Timestamp, consent::MemberStatus, mapping::Field},
    sync::drift::{Page, Record},
    value::time,
    wire::{Reply, Request},
};

/// Mailchimp: at most 1,000 members in a page.
pub const PAGE_MAX: usize = 1_000;

/// Of all that Mailchimp says about a member.
const FIELDS: &str = "total_items,members.id,members.contact_id,members.email_address,members.status,\
                      members.merge_fields,members.language,members.last_changed,members.tags.name,\
                      members.tags_count,members.interests";

/// Where a walk through the members of all audiences is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersCursor {
    pub list: String,
    pub offset: u64,
}

impl MembersCursor {
    /// From its stored form; `None`: at the beginning. `lists` holds at least one.
    pub fn read(stored: Option<&str>, lists: &[String]) -> MembersCursor {
        let (list, offset) = stored
            .and_then(|text| text.split_once(' '))
            .unwrap_or_else(|| (lists.first().map_or("", String::as_str), "0"));
        MembersCursor {
            list: list.to_owned(),
            offset: offset.parse().unwrap_or(0),
        }
    }

    /// Where it goes on after a page, in stored form; `None`: that was all. `after`: the page's.
    pub fn next(&self, after: Option<&str>, lists: &[String]) -> Option<String> {
        if let Some(offset) = after {
            return Some(format!("{} {offset}", self.list));
        }
        let at = lists.iter().position(|list| *list == self.list)?;
        lists.get(at + 1).map(|list| format!("{list} 0"))
    }
}

/// Some members from a place of the list on. Mailchimp: archived ones are listed only if that
/// status is asked for.
pub fn page_request(list: &str, offset: u64, archived: bool) -> Request {
    let status = if archived { "&status=archived" } else { "" };
    Request::get(
        Target::Mailchimp,
        format!("/lists/{list}/members?count={PAGE_MAX}&offset={offset}&fields={FIELDS}{status}"),
    )
}

/// One member, by id or by the hash of the address.
pub fn member_request(list: &str, id: &RemoteId) -> Request {
    Request::get(
        Target::Mailchimp,
        format!("/lists/{list}/members/{}", id.as_str()),
    )
}

#[derive(Deserialize)]
struct MembersBody {
    members: Vec<ListedMember>,
    #[serde(default)]
    total_items: u64,
}

#[derive(Deserialize)]
struct ListedMember {
    #[serde(default)]
    id: String,
    #[serde(default)]
    contact_id: String,
    email_address: String,
    status: String,
    #[serde(default)]
    merge_fields: HashMap<String, Value>,
    #[serde(default)]
    language: String,
    #[serde(default)]
    last_changed: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    tags_count: usize,
    #[serde(default)]
    interests: BTreeMap<String, bool>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

impl From<ListedMember> for Record {
    fn from(member: ListedMember) -> Record {
        let mut properties: HashMap<String, String> = member
            .merge_fields
            .into_iter()
            .map(|(tag, value)| (tag, text(value)))
            .collect();
        properties.insert(EMAIL_ADDRESS.to_owned(), member.email_address);
        properties.insert(STATUS.to_owned(), member.status);
        properties.insert(LANGUAGE.to_owned(), member.language);
        // Mailchimp: at most 50 tags are returned; of more than that, some are not known here.
        if member.tags_count <= member.tags.len() {
            let names = member.tags.into_iter().map(|tag| tag.name);
            properties.insert(TAGS.to_owned(), Value::from_iter(names).to_string());
        }
        let joined = member.interests.into_iter().filter(|(_, joined)| *joined);
        let ids = joined.map(|(id, _)| id);
        properties.insert(INTERESTS.to_owned(), Value::from_iter(ids).to_string());
        // Mailchimp keeps one time for all that is said about a member. It is not that of the tags.
        let changed: Option<Timestamp> = time::moment(&member.last_changed).ok();
        let written = properties
            .keys()
            .filter(|name| *name != TAGS)
            .filter_map(|name| Some((name.clone(), changed?)));
        let written = written.collect();
        Record {
            id: match member.contact_id.is_empty() {
                true => member.id,
                false => member.contact_id,
            },
            properties,
            written,
        }
    }
}

/// Of a list that a member holds, what is ours to compare; `None`: it is no list.
pub fn ours(field: &Field, held: &str, text: Option<&str>, link: &Link) -> Option<String> {
    let is_list = matches!(field.remote.as_str(), TAGS | INTERESTS);
    let wanted = || values::to_remote(field, text).ok().flatten();
    let given = link.membership.given.of(&field.remote);
    is_list.then(|| merge::ours(held, wanted().as_deref(), given))
}

fn text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Reads the answer to [`page_request`].
pub fn read_page(reply: &Reply, offset: u64) -> Result<Page, String> {
    let body: MembersBody =
        serde_json::from_slice(&reply.body).map_err(|error| unreadable(reply, &error))?;
    let next = offset + body.members.len() as u64;
    let more = !body.members.is_empty() && next < body.total_items;
    Ok(Page {
        records: body.members.into_iter().map(Record::from).collect(),
        after: more.then(|| next.to_string()),
    })
}

/// Reads the answer to [`member_request`].
pub fn read_member(reply: &Reply) -> Result<Record, String> {
    let member: ListedMember =
        serde_json::from_slice(&reply.body).map_err(|error| unreadable(reply, &error))?;
    Ok(member.into())
}

/// A status by its name. `None`: one that has nothing to do with mailings (`transactional`).
pub fn status(name: &str) -> Option<MemberStatus> {
    match name {
        "subscribed" => Some(MemberStatus::Subscribed),
        "pending" => Some(MemberStatus::Pending),
        "unsubscribed" => Some(MemberStatus::UnsubscribedByMember),
        "cleaned" => Some(MemberStatus::Cleaned),
        "archived" => Some(MemberStatus::Archived),
        _ => None,
    }
}

fn unreadable(reply: &Reply, error: &serde_json::Error) -> String {
    format!(
        "Mailchimp answered HTTP {} with a body that cannot be read: {error}",
        reply.status
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_audiences_are_walked_through() {
        let lists = ["b", "a", "c"].map(str::to_owned);
        let mut seen = Vec::new();
        let mut stored = None;
        loop {
            let place = MembersCursor::read(stored.as_deref(), &lists);
            seen.push(format!("{}{}", place.list, place.offset));
            let more = (place.list == "a" && place.offset < 2_000)
                .then(|| (place.offset + 1_000).to_string());
            stored = place.next(more.as_deref(), &lists);
            if stored.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["b0", "a0", "a1000", "a2000", "c0"]);
        // One that is used no longer is the last.
        let gone = MembersCursor::read(Some("x 1000"), &lists);
        assert_eq!((gone.list.as_str(), gone.offset), ("x", 1_000));
        assert_eq!(gone.next(None, &lists), None);
    }

    #[test]
    fn members_are_read() {
        let body = r#"{"members":[{"id":"h","contact_id":"c","email_address":"A@b.co","status":"cleaned",
            "merge_fields":{"FNAME":"Ada","N":7,"X":"","A":{"city":"B"}},"language":"de",
            "last_changed":"2026-01-02T03:04:05+00:00"}],"total_items":3}"#;
        let reply = |body: &str| Reply {
            status: 200,
            headers: vec![],
            body: body.as_bytes().to_vec(),
        };
        let page = read_page(&reply(body), 1).unwrap();
        assert_eq!(page.after.as_deref(), Some("2"));
        assert_eq!(read_page(&reply(body), 2).unwrap().after, None);
        let record = &page.records[0];
        assert_eq!(record.id, "c");
        for (name, value) in [
            ("FNAME", "Ada"),
            ("N", "7"),
            ("X", ""),
            ("A", r#"{"city":"B"}"#),
            ("email_address", "A@b.co"),
            ("status", "cleaned"),
            ("language", "de"),
        ] {
            assert_eq!(record.properties[name], value);
            assert_eq!(record.written[name], Timestamp(1_767_323_045_000));
        }
        assert_eq!(status("cleaned"), Some(MemberStatus::Cleaned));
        assert_eq!(status("transactional"), None);
        assert!(read_page(&reply("{}"), 0).is_err());
        let asked = page_request("l", 7, true);
        assert!(
            asked
                .path
                .starts_with("/lists/l/members?count=1000&offset=7&fields=")
        );
        assert!(asked.path.ends_with("&status=archived"), "{}", asked.path);
    }
}
