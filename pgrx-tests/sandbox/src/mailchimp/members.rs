//! Calls on single members.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Mailchimp;
use super::body::{Body, status};
use super::errors::Problem;
use super::parse;
use super::status::{Actor, Status, Way};
use super::store::{render, tag_id};
use super::write::{Moment, Target};
use crate::clock;
use crate::query::Query;
use crate::reply::Reply;

#[derive(Deserialize)]
struct TagChanges {
    tags: Vec<TagChange>,
}

#[derive(Deserialize)]
struct TagChange {
    name: String,
    status: String,
}

impl Mailchimp {
    /// Everything below `/lists/{id}/members`.
    pub(crate) fn members(
        &mut self,
        list: usize,
        method: &str,
        rest: &[&str],
        query: &Query,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        match (method, rest) {
            ("GET", []) => self.list_members(list, query),
            ("POST", []) => self.create_member(list, query, body, moment),
            ("GET", [who]) => {
                let audience = &self.audiences[list];
                let mut out = Vec::new();
                render(
                    &mut out,
                    audience,
                    &audience.members[self.known(list, who)?],
                );
                Ok(match query.get("fields") {
                    Some(fields) => Reply::value(200, &only(&out, fields)),
                    None => Reply::json(200, out),
                })
            }
            ("PUT", [who]) => self.put_member(list, who, query, body, moment),
            ("PATCH", [who]) => self.patch_member(list, who, query, body, moment),
            ("DELETE", [who]) => self.archive_member(list, who, moment),
            ("POST", [who, "actions", "delete-permanent"]) => {
                let at = self.known(list, who)?;
                self.mark_busy(list, at, false, moment);
                self.forget(list, at, moment);
                Ok(Reply::empty(204))
            }
            ("GET", [who, "tags"]) => {
                let at = self.known(list, who)?;
                let member = &self.audiences[list].members[at];
                let tags: Vec<_> = member
                    .tags
                    .iter()
                    .map(|tag| json!({"id": tag_id(tag), "name": tag, "date_added": clock::mailchimp_iso(member.last_changed)}))
                    .collect();
                Ok(Reply::value(
                    200,
                    &json!({"tags": tags, "total_items": tags.len()}),
                ))
            }
            ("POST", [who, "tags"]) => self.change_tags(list, who, body, moment),
            _ => Err(Problem::not_found()),
        }
    }

    pub(crate) fn known(&self, list: usize, who: &str) -> Result<usize, Problem> {
        self.found(list, who).ok_or_else(Problem::not_found)
    }

    fn found(&self, list: usize, who: &str) -> Option<usize> {
        let audience = &self.audiences[list];
        let at = audience.locate(who)?;
        let member = &audience.members[at];
        let hidden = self.config.other_hashes && !member.email.is_ascii();
        (!hidden || who != member.hash_text()).then_some(at)
    }

    fn shown(&self, list: usize, at: usize, status: u16) -> Reply {
        let audience = &self.audiences[list];
        let mut out = Vec::new();
        render(&mut out, audience, &audience.members[at]);
        Reply::json(status, out)
    }

    fn create_member(
        &mut self,
        list: usize,
        query: &Query,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let mut body: Body<'_> = parse(body)?;
        let address = required_address(&body)?;
        if status("status", body.status.as_deref())?.is_none() {
            return Err(Problem::field("status", "This value should not be blank."));
        }
        super::validate::check_address(&self.config, &address)?;
        // Archived members exist as well.
        if let target @ Target::New(_) = self.target(list, &address)? {
            body.status_if_new = None;
            let checked = self.check(
                list,
                target,
                &mut body,
                Way::Single,
                query.flag("skip_merge_validation"),
            )?;
            let at = self.apply(list, checked, &body, false, moment);
            return Ok(self.shown(list, at, 200));
        }
        Err(Problem::new(
            400,
            "Member Exists",
            format!(
                "{address} is already a list member. Use PUT to insert or update list members."
            ),
        ))
    }

    fn put_member(
        &mut self,
        list: usize,
        who: &str,
        query: &Query,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let mut body: Body<'_> = parse(body)?;
        let address = required_address(&body)?;
        super::validate::check_address(&self.config, &address)?;
        // The path names a member, or else the address of the body must be new.
        let target = match self.found(list, who) {
            Some(at) => Target::Known(at),
            None => match self.target(list, &address)? {
                Target::Known(_) => {
                    let detail = format!(
                        "{address} is already a list member. Use PUT to insert or update list members."
                    );
                    return Err(Problem::new(400, "Member Exists", detail));
                }
                new @ Target::New(_) => new,
            },
        };
        let checked = self.check(
            list,
            target,
            &mut body,
            Way::Single,
            query.flag("skip_merge_validation"),
        )?;
        let at = self.apply(list, checked, &body, false, moment);
        Ok(self.shown(list, at, 200))
    }

    fn patch_member(
        &mut self,
        list: usize,
        who: &str,
        query: &Query,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let mut body: Body<'_> = parse(body)?;
        let at = self.known(list, who)?;
        // Mailchimp: PATCH knows neither of these.
        (body.tags, body.status_if_new) = (None, None);
        let checked = self.check(
            list,
            Target::Known(at),
            &mut body,
            Way::Single,
            query.flag("skip_merge_validation"),
        )?;
        let at = self.apply(list, checked, &body, false, moment);
        Ok(self.shown(list, at, 200))
    }

    /// Archives; 405 when it is archived already, as seen in the field.
    fn archive_member(
        &mut self,
        list: usize,
        who: &str,
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let at = self.known(list, who)?;
        if self.audiences[list].members[at].status == Status::Archived {
            return Err(Problem::new(
                405,
                "Method Not Allowed",
                "This list member cannot be removed. Please contact support.",
            ));
        }
        self.mark_busy(list, at, false, moment);
        self.set_status(list, at, Status::Archived, "", moment);
        Ok(Reply::empty(204))
    }

    /// Erases the person; the address can't be imported again.
    pub(crate) fn forget(&mut self, list: usize, at: usize, moment: &Moment) {
        if moment.by != Actor::Api || self.audiences[list].members[at].status != Status::Archived {
            let audience = &self.audiences[list];
            self.outgoing
                .deleted(audience, &audience.members[at], moment.by, moment.now.wall);
        }
        let audience = &mut self.audiences[list];
        audience.forgotten.insert(audience.members[at].hash);
        audience.remove(at);
    }

    fn change_tags(
        &mut self,
        list: usize,
        who: &str,
        body: &[u8],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let changes: TagChanges = parse(body)?;
        let at = self.known(list, who)?;
        if changes
            .tags
            .iter()
            .any(|tag| !matches!(&*tag.status, "active" | "inactive"))
        {
            return Err(Problem::field(
                "tags",
                "Value must be one of: active, inactive",
            ));
        }
        self.mark_busy(list, at, false, moment);
        let member = &mut self.audiences[list].members[at];
        for tag in &changes.tags {
            if member.tag(tag.name.trim(), tag.status == "active") {
                member.last_changed = moment.now.wall;
            }
        }
        Ok(Reply::empty(204))
    }

    fn list_members(&self, list: usize, query: &Query) -> Result<Reply, Problem> {
        let audience = &self.audiences[list];
        let since = moment_of(query, "since_last_changed")?;
        let before = moment_of(query, "before_last_changed")?;
        let wanted = query.get("status");
        let mut found: Vec<_> = audience
            .members
            .iter()
            .filter(|member| {
                !member.gone
                    && wanted.map_or(member.status != Status::Archived, |status| {
                        status == member.status.name()
                    })
            })
            // Seconds count, and "since" is strictly later.
            .filter(|member| since.is_none_or(|since| member.last_changed / 1_000 > since / 1_000))
            .filter(|member| {
                before.is_none_or(|before| member.last_changed / 1_000 < before / 1_000)
            })
            .filter(|member| {
                query
                    .get("unique_email_id")
                    .is_none_or(|id| super::store::unique_email_id(member) == id)
            })
            .filter(|member| {
                query
                    .get("email_type")
                    .is_none_or(|kind| *member.email_type == *kind)
            })
            .filter(|member| !query.flag("vip_only") || member.vip)
            .collect();
        match query.get("sort_field") {
            Some("last_changed") => found.sort_by_key(|member| member.last_changed),
            Some("timestamp_opt" | "timestamp_signup") => {
                found.sort_by_key(|member| member.created)
            }
            _ => {}
        }
        if query.get("sort_dir") == Some("DESC") {
            found.reverse();
        }
        // Mailchimp: 10 by default, larger counts are capped at 1,000.
        let count = query.number("count").unwrap_or(10).min(1_000);
        let mut out = b"{\"members\":[".to_vec();
        for member in found
            .iter()
            .skip(query.number("offset").unwrap_or(0))
            .take(count)
        {
            crate::json::comma(&mut out);
            render(&mut out, audience, member);
        }
        out.extend_from_slice(b"],\"list_id\":");
        crate::json::push_str(&mut out, &audience.id);
        out.extend_from_slice(b",\"total_items\":");
        crate::json::push_u64(&mut out, found.len() as u64);
        out.push(b'}');
        match query.get("fields") {
            Some(fields) => Ok(Reply::value(200, &only(&out, fields))),
            None => Ok(Reply::json(200, out)),
        }
    }
}

/// Mailchimp: `fields` names what is wanted of an answer, with dots between names.
pub(crate) fn only(body: &[u8], fields: &str) -> Value {
    let paths: Vec<Vec<&str>> = fields
        .split(',')
        .map(|path| path.split('.').collect())
        .collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    chosen(serde_json::from_slice(body).unwrap_or_default(), &paths)
}

fn chosen(value: Value, paths: &[&[&str]]) -> Value {
    // A path that ends here wants all of it.
    if paths.iter().any(|path| path.is_empty()) {
        return value;
    }
    match value {
        Value::Array(items) => items.into_iter().map(|item| chosen(item, paths)).collect(),
        Value::Object(object) => {
            let wanted = |(name, value): (String, Value)| {
                let below: Vec<&[&str]> = paths
                    .iter()
                    .filter(|path| path.first() == Some(&name.as_str()))
                    .map(|path| &path[1..])
                    .collect();
                (!below.is_empty()).then(|| (name, chosen(value, &below)))
            };
            object.into_iter().filter_map(wanted).collect()
        }
        other => other,
    }
}

pub(crate) fn moment_of(query: &Query, name: &str) -> Result<Option<clock::Millis>, Problem> {
    query
        .get(name)
        .map(|text| {
            clock::parse_mailchimp(text)
                .ok_or_else(|| Problem::field(name, "This value is not a valid datetime."))
        })
        .transpose()
}

fn required_address(body: &Body<'_>) -> Result<String, Problem> {
    let address = body.email_address.as_deref().unwrap_or_default().trim();
    if address.is_empty() {
        return Err(Problem::field(
            "email_address",
            "This value should not be blank.",
        ));
    }
    Ok(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_chosen() {
        let body = br#"{"members":[{"id":"1","merge_fields":{"A":1},"x":2}],"total_items":1,"list_id":"l"}"#;
        let asked = only(body, "total_items,members.id,members.merge_fields");
        let expected = json!({"members":[{"id":"1","merge_fields":{"A":1}}],"total_items":1});
        assert_eq!(asked, expected);
    }
}
