//! Campaigns that were sent, and their reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Mailchimp;
use super::errors::Problem;
use super::members::{moment_of, only};
use super::status::Status;
use super::write::Moment;
use crate::clock::{self, Millis, Now};
use crate::query::Query;
use crate::reply::Reply;

/// Mailchimp: at most so many opens, and as many clicks, of a member are told.
const MOST_EVENTS: usize = 1_000;

/// Something a person does with a campaign.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Engagement {
    /// `open`, `click`, `bounce`, `unsubscribe` or `complaint`.
    pub kind: String,
    pub url: Option<String>,
    /// Milliseconds since 1970; now if it is not there. Reports show whole seconds.
    pub at: Option<Millis>,
    /// `hard` or `soft`.
    pub bounce: Option<String>,
    /// An open by a proxy, such as Apple's.
    pub proxy: bool,
    /// Made by a machine, such as a scanner that follows links.
    pub bot: bool,
    /// Why the person unsubscribes.
    pub reason: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Campaign {
    id: String,
    list: String,
    sent_at: Millis,
    /// Addresses by hash.
    recipients: BTreeMap<String, String>,
    /// By the recipient's hash.
    events: Vec<(String, Millis, Engagement)>,
}

impl Mailchimp {
    pub(crate) fn send_campaign(
        &mut self,
        list_id: &str,
        id: &str,
        sent_at: Option<Millis>,
    ) -> Result<(), String> {
        let list = self.audiences.iter().position(|known| known.id == list_id);
        let list = list.ok_or("no such audience")?;
        if self.campaigns.iter().any(|known| known.id == id) {
            return Err(format!("campaign {id} has been sent"));
        }
        let audience = &self.audiences[list];
        let now = Now::read().wall;
        let to = audience
            .members
            .iter()
            .filter(|member| !member.gone && member.status == Status::Subscribed);
        let recipients = to
            .map(|member| (member.hash_text().to_owned(), member.email.to_string()))
            .collect();
        self.campaigns.push(Campaign {
            id: id.to_owned(),
            list: list_id.to_owned(),
            sent_at: sent_at.unwrap_or(now),
            recipients,
            events: Vec::new(),
        });
        self.outgoing.campaign(audience, id, now);
        Ok(())
    }

    pub(crate) fn engage(
        &mut self,
        list: usize,
        member: usize,
        campaign: &str,
        engagement: Engagement,
        moment: &Moment,
    ) -> Result<(), String> {
        let status = match (&*engagement.kind, engagement.bounce.as_deref()) {
            ("open" | "click", None) | ("bounce", Some("soft")) => None,
            ("bounce", Some("hard")) => Some((Status::Cleaned, "")),
            ("unsubscribe", None) => Some((Status::Unsubscribed, "")),
            ("complaint", None) => Some((Status::Unsubscribed, "abuse")),
            (kind, _) => return Err(format!("no engagement: {kind}")),
        };
        let at = engagement.at.unwrap_or(moment.now.wall);
        let audience = &self.audiences[list];
        let email = audience.members[member].email.to_string();
        let hash = audience.members[member].hash_text().to_owned();
        if !self.campaigns.iter().any(|known| known.id == campaign) {
            self.outgoing.campaign(audience, campaign, moment.now.wall);
            self.campaigns.push(Campaign {
                id: campaign.to_owned(),
                list: audience.id.clone(),
                sent_at: at,
                recipients: BTreeMap::new(),
                events: Vec::new(),
            });
        }
        if let Some(known) = self.campaigns.iter_mut().find(|known| known.id == campaign) {
            known.recipients.insert(hash.clone(), email);
            known.events.push((hash, at, engagement));
        }
        if let Some((status, reason)) = status {
            self.set_status(list, member, status, reason, moment);
        }
        Ok(())
    }

    /// `GET /campaigns`
    pub(crate) fn campaigns(&self, query: &Query) -> Result<Reply, Problem> {
        let since = moment_of(query, "since_send_time")?;
        let before = moment_of(query, "before_send_time")?;
        let mut found: Vec<&Campaign> = self
            .campaigns
            .iter()
            .filter(|_| query.get("status").is_none_or(|status| status == "sent"))
            .filter(|known| query.get("list_id").is_none_or(|list| list == known.list))
            .filter(|known| since.is_none_or(|since| known.sent_at >= since))
            .filter(|known| before.is_none_or(|before| known.sent_at < before))
            .collect();
        match query.get("sort_field") {
            None | Some("create_time") => {}
            Some("send_time") => found.sort_by_key(|known| known.sent_at),
            Some(_) => return Err(Problem::field("sort_field", "is not one of the known ones")),
        }
        if query.get("sort_dir") == Some("DESC") {
            found.reverse();
        }
        let shown = page(query, &found).map(|known| {
            json!({
                "id": known.id, "type": "regular", "status": "sent", "send_time": clock::mailchimp_iso(known.sent_at),
                "emails_sent": known.recipients.len(), "recipients": {"list_id": known.list},
                "settings": {"subject_line": "News", "title": "News"},
            })
        });
        let shown: Vec<Value> = shown.collect();
        reply(
            query,
            &json!({"campaigns": shown, "total_items": found.len()}),
        )
    }

    /// `GET /reports/{id}/…`
    pub(crate) fn report(&self, id: &str, name: &str, query: &Query) -> Result<Reply, Problem> {
        let campaign = self.campaigns.iter().find(|known| known.id == id);
        let campaign = campaign.ok_or_else(Problem::not_found)?;
        let since = match name {
            "email-activity" | "open-details" => moment_of(query, "since")?,
            _ => None,
        };
        let from = since.map_or(i64::MIN, |since| {
            since.div_euclid(1_000) + i64::from(self.config.reports_since_exclusive)
        });
        let body = match name {
            "email-activity" => campaign.activity(query, from),
            "open-details" => campaign.opens(query, from),
            "unsubscribed" => campaign.unsubscribed(query),
            "abuse-reports" => campaign.complaints(),
            _ => return Err(Problem::not_found()),
        };
        reply(query, &body)
    }
}

impl Campaign {
    fn of<'c>(
        &'c self,
        hash: &'c str,
        kind: &'c str,
    ) -> impl Iterator<Item = (Millis, &'c Engagement)> {
        self.events
            .iter()
            .filter(move |(who, _, event)| who == hash && event.kind == kind)
            .map(|(_, at, event)| (*at, event))
    }

    /// All recipients, those who did nothing as well. Of bounces only the first one is told.
    fn activity(&self, query: &Query, from: i64) -> Value {
        let human = |event: &Engagement| !(query.flag("filter_bots") && (event.proxy || event.bot));
        let recipients: Vec<_> = self.recipients.iter().collect();
        let shown = page(query, &recipients).map(|(hash, email)| {
            let bounces = self.of(hash, "bounce").take(1);
            let did = ["open", "click"]
                .into_iter()
                .flat_map(|kind| self.of(hash, kind).take(MOST_EVENTS))
                .chain(bounces)
                .filter(|(at, event)| at.div_euclid(1_000) >= from && human(event));
            let lines: Vec<Value> = did.map(|(at, event)| line(at, event)).collect();
            json!({
                "campaign_id": self.id, "list_id": self.list, "list_is_active": true,
                "email_id": hash, "email_address": email, "activity": lines,
            })
        });
        let shown: Vec<Value> = shown.collect();
        json!({"emails": shown, "campaign_id": self.id, "total_items": recipients.len()})
    }

    fn opens(&self, query: &Query, from: i64) -> Value {
        let opened = self.recipients.iter().filter_map(|(hash, email)| {
            let opens: Vec<Value> = self
                .of(hash, "open")
                .filter(|(at, _)| at.div_euclid(1_000) >= from)
                .map(|(at, event)| json!({"timestamp": clock::mailchimp_iso(at), "is_proxy_open": event.proxy}))
                .collect();
            (!opens.is_empty()).then(|| {
                json!({
                    "campaign_id": self.id, "list_id": self.list, "email_id": hash, "email_address": email,
                    "opens_count": opens.len(), "opens": opens,
                })
            })
        });
        let opened: Vec<Value> = opened.collect();
        let shown: Vec<&Value> = page(query, &opened).collect();
        json!({"members": shown, "campaign_id": self.id, "total_items": opened.len()})
    }

    fn unsubscribed(&self, query: &Query) -> Value {
        let left: Vec<_> = self.events_of("unsubscribe");
        let shown = page(query, &left).map(|(hash, email, at, event)| {
            json!({
                "campaign_id": self.id, "list_id": self.list, "email_id": hash, "email_address": email,
                "timestamp": clock::mailchimp_iso(*at), "reason": event.reason.as_deref().unwrap_or("None given"),
            })
        });
        let shown: Vec<Value> = shown.collect();
        json!({"unsubscribes": shown, "campaign_id": self.id, "total_items": left.len()})
    }

    /// Mailchimp: not paged.
    fn complaints(&self) -> Value {
        let all = self.events_of("complaint").into_iter().enumerate();
        let shown = all.map(|(at, (hash, email, date, _))| {
            json!({
                "id": at + 1, "campaign_id": self.id, "list_id": self.list, "email_id": hash, "email_address": email,
                "date": clock::mailchimp_iso(date),
            })
        });
        let shown: Vec<Value> = shown.collect();
        json!({"abuse_reports": shown, "campaign_id": self.id, "total_items": shown.len()})
    }

    fn events_of(&self, kind: &str) -> Vec<(&str, &str, Millis, &Engagement)> {
        self.events
            .iter()
            .filter(|(_, _, event)| event.kind == kind)
            .filter_map(|(hash, at, event)| {
                let email = self.recipients.get(hash)?;
                Some((hash.as_str(), email.as_str(), *at, event))
            })
            .collect()
    }
}

fn line(at: Millis, event: &Engagement) -> Value {
    let mut line =
        json!({"action": event.kind, "timestamp": clock::mailchimp_iso(at), "ip": "203.0.113.10"});
    if let Some(url) = &event.url {
        line["url"] = json!(url);
    }
    if let Some(bounce) = &event.bounce {
        line["type"] = json!(bounce);
    }
    line
}

/// Mailchimp: 10 by default, larger counts are capped at 1,000.
fn page<'r, T>(query: &Query, rows: &'r [T]) -> impl Iterator<Item = &'r T> + use<'r, T> {
    rows.iter()
        .skip(query.number("offset").unwrap_or(0))
        .take(query.number("count").unwrap_or(10).min(1_000))
}

fn reply(query: &Query, body: &Value) -> Result<Reply, Problem> {
    Ok(match query.get("fields") {
        Some(fields) => Reply::value(200, &only(body.to_string().as_bytes(), fields)),
        None => Reply::value(200, body),
    })
}
