//! Audiences themselves: settings, merge fields, webhooks.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Mailchimp;
use super::errors::Problem;
use super::parse;
use super::status::Status;
use super::store::{Audience, MergeField};
use super::webhooks::{EVENTS, Hook};
use crate::query::Query;
use crate::reply::Reply;

#[derive(Deserialize)]
struct NewField {
    tag: Option<String>,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    options: Value,
}

#[derive(Deserialize)]
struct FieldChange {
    name: Option<String>,
    required: Option<bool>,
    options: Option<Value>,
}

#[derive(Deserialize)]
struct NewHook {
    url: Option<String>,
    #[serde(default)]
    events: BTreeMap<String, bool>,
    #[serde(default)]
    sources: BTreeMap<String, bool>,
}

const TYPES: [&str; 11] = [
    "text", "number", "address", "phone", "date", "url", "imageurl", "radio", "dropdown",
    "birthday", "zip",
];

impl Audience {
    fn add_hook(&mut self, number: u64, body: &[u8]) -> Result<Reply, Problem> {
        let new: NewHook = parse(body)?;
        let url = new
            .url
            .filter(|url| url.starts_with("http"))
            .ok_or_else(|| Problem::field("url", "Please enter a valid URL."))?;
        let path = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
        // A second hook that differs in its query only is refused.
        if self.hooks.iter().any(|hook| path(&hook.url) == path(&url)) {
            return Err(Problem::field(
                "url",
                "Sorry, you can't set up multiple WebHooks for one URL",
            ));
        }
        verify(&url)?;
        check_names(&new.events, &EVENTS, "events")?;
        check_names(&new.sources, &["user", "admin", "api"], "sources")?;
        let hook = Hook {
            id: format!("{:010x}", number >> 24),
            url,
            events: new.events,
            sources: new.sources,
            secret: Some(format!("whsec-{number:016x}")),
        };
        let answer = hook.to_json(&self.id, true);
        self.hooks.push(hook);
        Ok(Reply::value(200, &answer))
    }
}

impl Mailchimp {
    pub(crate) fn list_json(&self, list: usize) -> Value {
        let audience = &self.audiences[list];
        let count = |status: Status| {
            audience
                .members
                .iter()
                .filter(|member| !member.gone && member.status == status)
                .count()
        };
        json!({
            "id": audience.id, "web_id": 1000 + list, "name": "Sandbox", "double_optin": audience.double_optin,
            "marketing_permissions": !audience.permissions.is_empty(), "has_welcome": false, "visibility": "prv", "email_type_option": false,
            "stats": {
                "member_count": count(Status::Subscribed), "unsubscribe_count": count(Status::Unsubscribed),
                "cleaned_count": count(Status::Cleaned), "merge_field_count": audience.fields.iter().filter(|f| !f.tag.is_empty()).count(),
            },
        })
    }

    /// Everything below `/lists/{id}/merge-fields`.
    pub(crate) fn merge_fields(
        &mut self,
        list: usize,
        method: &str,
        rest: &[&str],
        query: &Query,
        body: &[u8],
    ) -> Result<Reply, Problem> {
        let limit = self.config.merge_field_limit;
        let audience = &mut self.audiences[list];
        match (method, rest) {
            ("GET", []) => {
                let all: Vec<_> = audience
                    .fields
                    .iter()
                    .filter(|field| !field.tag.is_empty())
                    .map(|field| field_json(field, &audience.id))
                    .collect();
                let page = query.number("count").unwrap_or(10).min(1_000);
                let shown: Vec<_> = all
                    .iter()
                    .skip(query.number("offset").unwrap_or(0))
                    .take(page)
                    .collect();
                let body = json!({"merge_fields": shown, "list_id": audience.id, "total_items": all.len()});
                Ok(match query.get("fields") {
                    Some(fields) => {
                        let text = body.to_string();
                        Reply::value(200, &super::members::only(text.as_bytes(), fields))
                    }
                    None => Reply::value(200, &body),
                })
            }
            ("POST", []) => add_field(audience, parse(body)?, limit),
            ("GET" | "PATCH" | "DELETE", [id]) => {
                let wanted =
                    |field: &&mut MergeField| field.id.to_string() == *id && !field.tag.is_empty();
                let list_id = audience.id.clone();
                let field = audience
                    .fields
                    .iter_mut()
                    .find(wanted)
                    .ok_or_else(Problem::not_found)?;
                if method == "DELETE" {
                    // Positions are kept: members refer to fields by them.
                    field.tag.clear();
                    return Ok(Reply::empty(204));
                }
                if method == "PATCH" {
                    let change: FieldChange = parse(body)?;
                    field.name = change.name.unwrap_or_else(|| field.name.clone());
                    field.required = change.required.unwrap_or(field.required);
                    field.options = change.options.unwrap_or_else(|| field.options.clone());
                }
                Ok(Reply::value(200, &field_json(field, &list_id)))
            }
            _ => Err(Problem::not_found()),
        }
    }

    /// Everything below `/lists/{id}/webhooks`.
    pub(crate) fn hooks(
        &mut self,
        list: usize,
        method: &str,
        rest: &[&str],
        body: &[u8],
    ) -> Result<Reply, Problem> {
        let number = self.rng.u64(..);
        let audience = &mut self.audiences[list];
        let id = audience.id.clone();
        match (method, rest) {
            ("GET", []) => {
                let hooks: Vec<_> = audience
                    .hooks
                    .iter()
                    .map(|hook| hook.to_json(&id, false))
                    .collect();
                Ok(Reply::value(
                    200,
                    &json!({"webhooks": hooks, "list_id": id, "total_items": hooks.len()}),
                ))
            }
            ("POST", []) => audience.add_hook(number, body),
            ("GET" | "PATCH" | "DELETE", [hook_id]) => {
                let at = audience
                    .hooks
                    .iter()
                    .position(|hook| hook.id == *hook_id)
                    .ok_or_else(Problem::not_found)?;
                if method == "DELETE" {
                    audience.hooks.remove(at);
                    return Ok(Reply::empty(204));
                }
                let hook = &mut audience.hooks[at];
                if method == "PATCH" {
                    let change: NewHook = parse(body)?;
                    hook.url = change.url.unwrap_or_else(|| hook.url.clone());
                    hook.events.extend(change.events);
                    hook.sources.extend(change.sources);
                }
                Ok(Reply::value(200, &hook.to_json(&id, false)))
            }
            _ => Err(Problem::not_found()),
        }
    }
}

/// Mailchimp sends a GET to a new URL, which has to be answered with 200. Only loopback is asked here.
fn verify(url: &str) -> Result<(), Problem> {
    let Some((host, path)) = url
        .strip_prefix("http://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        .filter(|(host, _)| host.starts_with("127.0.0.1:"))
    else {
        return Ok(());
    };
    let code = ask(host, path).unwrap_or(0);
    match code {
        200 => Ok(()),
        _ => Err(Problem::field(
            "url",
            format!(
                "We couldn't verify the URL is working. Please double check and try again. HTTP Code: {code}"
            ),
        )),
    }
}

/// The status of a GET.
fn ask(host: &str, path: &str) -> std::io::Result<u16> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(host)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    let request = format!(
        "GET /{path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: MailChimp.com WebHook Validator\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let code = std::str::from_utf8(&head[9..]).unwrap_or_default();
    Ok(code.parse().unwrap_or(0))
}

fn add_field(audience: &mut Audience, new: NewField, limit: usize) -> Result<Reply, Problem> {
    let used = audience
        .fields
        .iter()
        .filter(|field| !field.tag.is_empty())
        .count();
    let tag = new.tag.map_or_else(
        || format!("MMERGE{}", audience.fields.len() + 1),
        |tag| tag.to_uppercase(),
    );
    if !TYPES.contains(&&*new.kind) {
        return Err(Problem::field(
            "type",
            "Value is not one of the allowed types",
        ));
    }
    // Mailchimp: at most ten of A-Z, 0-9 and underscore.
    if tag.len() > 10
        || tag == "EMAIL"
        || !tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Err(Problem::field("tag", "Please enter a valid merge tag"));
    }
    if audience.field(&tag).is_some() {
        return Err(Problem::invalid(format!(
            "A Merge Field with the tag \"{tag}\" already exists for this list."
        )));
    }
    if used >= limit {
        return Err(Problem::invalid(
            "This list has the maximum number of merge fields.",
        ));
    }
    let at = audience.add_field(&tag, &new.name, &new.kind, new.required, new.options);
    let mut answer = field_json(&audience.fields[at], &audience.id);
    answer["merge_field_limit"] = json!(limit);
    answer["total_items"] = json!(used + 1);
    Ok(Reply::value(200, &answer))
}

fn field_json(field: &MergeField, list_id: &str) -> Value {
    json!({
        "merge_id": field.id, "tag": field.tag, "name": field.name, "type": field.kind, "required": field.required,
        "default_value": "", "public": false, "display_order": field.id, "options": field.options, "help_text": "", "list_id": list_id,
    })
}

fn check_names(sent: &BTreeMap<String, bool>, known: &[&str], field: &str) -> Result<(), Problem> {
    match sent.keys().find(|name| !known.contains(&&***name)) {
        Some(name) => Err(Problem::field(field, format!("{name} is not known"))),
        None => Ok(()),
    }
}
