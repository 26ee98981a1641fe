//! Webhooks: who hears of a change, and the signed requests.

use std::collections::BTreeMap;

use form_urlencoded::Serializer;
use hmac::Mac;
use serde_json::{Value, json};

use super::status::Actor;
use super::store::{Audience, Member, unique_email_id};
use crate::clock::{Millis, mailchimp_fired_at};
use crate::config::{MailchimpHook, Service};
use crate::delivery::{Delivery, hex, keyed};

/// A registered webhook.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub id: String,
    pub url: String,
    pub events: BTreeMap<String, bool>,
    pub sources: BTreeMap<String, bool>,
    pub secret: Option<String>,
}

pub(crate) const EVENTS: [&str; 6] = [
    "subscribe",
    "unsubscribe",
    "profile",
    "upemail",
    "cleaned",
    "campaign",
];

impl Hook {
    pub(crate) fn configured(hook: &MailchimpHook) -> Self {
        let sources = [
            ("user", hook.user),
            ("admin", hook.admin),
            ("api", hook.api),
        ];
        Self {
            id: "0000000001".to_owned(),
            url: hook.url.clone(),
            events: EVENTS
                .iter()
                .map(|event| ((*event).to_owned(), true))
                .collect(),
            sources: sources
                .map(|(name, on)| (name.to_owned(), on))
                .into_iter()
                .collect(),
            secret: hook.signing_secret.clone(),
        }
    }

    fn wants(&self, event: &str, by: Actor) -> bool {
        let source = match by {
            Actor::User => "user",
            Actor::Admin => "admin",
            Actor::Api => "api",
        };
        self.events.get(event).copied().unwrap_or(false)
            && self.sources.get(source).copied().unwrap_or(false)
    }

    /// The secret is shown once only, in the answer that creates the hook.
    pub(crate) fn to_json(&self, list_id: &str, with_secret: bool) -> Value {
        let mut value = json!({
            "id": self.id, "url": self.url, "events": self.events, "sources": self.sources, "list_id": list_id,
            "signing_enabled": self.secret.is_some(),
        });
        if with_secret && let Some(secret) = &self.secret {
            value["signing_secret"] = json!(secret);
        }
        value
    }
}

/// Requests that wait for delivery: body, URL and secret as they were when the change happened.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: Vec<(String, Option<String>, String)>,
    capacity: usize,
    pub dropped: u64,
}

impl Outgoing {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.dropped = 0;
    }

    pub(crate) fn take(&mut self, now: Millis) -> Vec<Delivery> {
        self.queue
            .drain(..)
            .map(|(url, secret, body)| signed(url, secret.as_deref(), body, now / 1_000))
            .collect()
    }

    /// Queues `event` for every hook that wants it. `pairs` are keys below `data`.
    fn push(
        &mut self,
        audience: &Audience,
        event: &str,
        by: Actor,
        now: Millis,
        pairs: impl Fn() -> Vec<(String, String)>,
    ) {
        for hook in audience.hooks.iter().filter(|hook| hook.wants(event, by)) {
            if self.queue.len() >= self.capacity {
                self.dropped += 1;
                continue;
            }
            let mut form = Serializer::new(String::new());
            form.append_pair("type", event)
                .append_pair("fired_at", &mailchimp_fired_at(now));
            for (key, value) in pairs() {
                form.append_pair(&format!("data{key}"), &value);
            }
            self.queue
                .push((hook.url.clone(), hook.secret.clone(), form.finish()));
        }
    }

    /// `subscribe`, `unsubscribe` or `profile`.
    pub(crate) fn member(
        &mut self,
        audience: &Audience,
        member: &Member,
        event: &str,
        by: Actor,
        now: Millis,
    ) {
        self.push(audience, event, by, now, || {
            let mut pairs = Vec::new();
            if event == "unsubscribe" {
                let reason = if member.unsubscribe_reason == "abuse" {
                    "abuse"
                } else {
                    "manual"
                };
                pairs.push(("[action]".to_owned(), "unsub".to_owned()));
                pairs.push(("[reason]".to_owned(), reason.to_owned()));
            }
            pairs.extend(common(audience, member));
            pairs
        });
    }

    /// A member that is taken out of the audience: `action` is `delete`.
    pub(crate) fn deleted(&mut self, audience: &Audience, member: &Member, by: Actor, now: Millis) {
        self.push(audience, "unsubscribe", by, now, || {
            let mut pairs = vec![
                ("[action]".to_owned(), "delete".to_owned()),
                ("[reason]".to_owned(), "manual".to_owned()),
            ];
            pairs.extend(common(audience, member));
            pairs
        });
    }

    pub(crate) fn cleaned(&mut self, audience: &Audience, member: &Member, by: Actor, now: Millis) {
        self.push(audience, "cleaned", by, now, || {
            pairs_of(&[
                ("list_id", &audience.id),
                ("campaign_id", "cb398d21d2"),
                ("reason", "hard"),
                ("email", &member.email),
            ])
        });
    }

    pub(crate) fn upemail(
        &mut self,
        audience: &Audience,
        member: &Member,
        old: &str,
        by: Actor,
        now: Millis,
    ) {
        self.push(audience, "upemail", by, now, || {
            pairs_of(&[
                ("list_id", &audience.id),
                ("new_id", unique_email_id(member)),
                ("new_email", &member.email),
                ("old_email", old),
            ])
        });
    }

    pub(crate) fn campaign(&mut self, audience: &Audience, id: &str, now: Millis) {
        self.push(audience, "campaign", Actor::Admin, now, || {
            pairs_of(&[
                ("id", id),
                ("subject", "News"),
                ("status", "sent"),
                ("reason", ""),
                ("list_id", &audience.id),
            ])
        });
    }
}

fn pairs_of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| (format!("[{key}]"), (*value).to_owned()))
        .collect()
}

fn common(audience: &Audience, member: &Member) -> Vec<(String, String)> {
    let web_id = member.web_id.to_string();
    let mut pairs = pairs_of(&[
        ("id", unique_email_id(member)),
        ("list_id", &audience.id),
        ("email", &member.email),
        ("email_type", &member.email_type),
        ("ip_opt", "203.0.113.10"),
        ("web_id", &web_id),
        ("merges][EMAIL", &member.email),
    ]);
    for (at, field) in audience
        .fields
        .iter()
        .enumerate()
        .filter(|(_, field)| !field.tag.is_empty())
    {
        let key = format!("[merges][{}]", field.tag);
        match member.merge_value(at) {
            Some(Value::Object(parts)) => {
                for (part, value) in parts {
                    pairs.push((
                        format!("{key}[{part}]"),
                        value.as_str().unwrap_or_default().to_owned(),
                    ));
                }
            }
            Some(Value::String(text)) => pairs.push((key, text.clone())),
            Some(value) => pairs.push((key, value.to_string())),
            None => pairs.push((key, String::new())),
        }
    }
    pairs.extend(audience.merges_of(member));
    pairs
}

fn signed(url: String, secret: Option<&str>, body: String, seconds: i64) -> Delivery {
    let mut headers = BTreeMap::from([
        (
            "content-type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        ),
        ("user-agent".to_owned(), "MailChimp.com".to_owned()),
    ]);
    if let Some(secret) = secret {
        let signature = signature(secret, seconds, &body);
        headers.insert(
            "x-mailchimp-signature".to_owned(),
            format!("t={seconds},v1={signature}"),
        );
    }
    Delivery {
        service: Service::Mailchimp,
        method: "POST".to_owned(),
        uri: url,
        headers,
        body,
    }
}

/// Mailchimp: hex of HMAC-SHA256 over `t`, a point, and the raw body.
pub fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let mut mac = keyed(secret);
    mac.update(format!("{seconds}.{body}").as_bytes());
    hex(&mac.finalize().into_bytes())
}
