//! What contacts and people in the web app do, and a look at the members for tests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Mailchimp;
use super::errors::Problem;
use super::status::{Actor, Status};
use super::store::{Audience, Member, contact_id, hash_of, lower};
use super::write::Moment;
use crate::clock::{self, Now};
use crate::query::Query;
use crate::reply::Reply;

/// A member as tests look at it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListMember {
    pub id: String,
    pub contact_id: String,
    pub email: String,
    pub status: Status,
    /// Who set the status last.
    pub status_by: Actor,
    pub merge_fields: BTreeMap<String, Value>,
    pub tags: Vec<String>,
    pub language: String,
    pub email_type: String,
    pub vip: bool,
    /// Milliseconds since 1970.
    pub last_changed: i64,
}

/// Something that happens to a member in Mailchimp itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action", deny_unknown_fields)]
pub enum MemberAction {
    /// The person unsubscribes: from then on the member is in a compliance state.
    Unsubscribe {
        #[serde(default)]
        abuse: bool,
    },
    /// Somebody in the web app unsubscribes the member.
    AdminUnsubscribe,
    /// Hard bounce: `cleaned`.
    Clean,
    /// The person signs up with a hosted form; works for forgotten addresses too.
    Subscribe {
        #[serde(default)]
        merge_fields: BTreeMap<String, Value>,
    },
    /// The person changes merge fields.
    Profile {
        merge_fields: BTreeMap<String, Value>,
    },
    /// The person changes the address.
    ChangeEmail { new_email: String },
    /// Somebody in the web app archives the member.
    Archive,
    /// Somebody in the web app deletes the person for good.
    DeletePermanently,
    /// Opens, clicks and bounces, for campaign reports: `open`, `click`, `bounce`.
    Engage {
        campaign: String,
        kind: String,
        #[serde(default)]
        url: Option<String>,
    },
}

/// One line of a campaign's report.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    campaign: String,
    email: String,
    value: Value,
    at: clock::Millis,
}

impl Mailchimp {
    pub(crate) fn act(
        &mut self,
        list_id: &str,
        email: &str,
        action: MemberAction,
    ) -> Result<(), String> {
        let list = self
            .audiences
            .iter()
            .position(|audience| audience.id == list_id)
            .ok_or("no such audience")?;
        let now = Now::read();
        let by = match action {
            MemberAction::AdminUnsubscribe
            | MemberAction::Archive
            | MemberAction::DeletePermanently => Actor::Admin,
            _ => Actor::User,
        };
        let moment = Moment {
            now,
            arrived: now.mono,
            answered: now.mono,
            by,
        };
        if let MemberAction::Subscribe { merge_fields } = action {
            self.sign_up(list, email, &merge_fields, &moment);
            return Ok(());
        }
        let at = self.audiences[list]
            .locate(email)
            .ok_or_else(|| format!("no member {email}"))?;
        match action {
            MemberAction::Unsubscribe { abuse } => {
                self.set_status(
                    list,
                    at,
                    Status::Unsubscribed,
                    if abuse { "abuse" } else { "" },
                    &moment,
                );
            }
            MemberAction::AdminUnsubscribe => {
                self.set_status(list, at, Status::Unsubscribed, "", &moment)
            }
            MemberAction::Clean => self.set_status(list, at, Status::Cleaned, "", &moment),
            MemberAction::Archive => self.set_status(list, at, Status::Archived, "", &moment),
            MemberAction::Profile { merge_fields } => {
                self.fill(list, at, &merge_fields, now);
                self.tell(list, at, "profile", &moment);
            }
            MemberAction::ChangeEmail { new_email } => {
                let hash = hash_of(&lower(&new_email));
                if self.audiences[list].by_hash.contains_key(&hash) {
                    return Err(format!("{new_email} is a member already"));
                }
                self.rename(list, at, &new_email, hash, &moment);
            }
            MemberAction::DeletePermanently => self.forget(list, at, &moment),
            MemberAction::Engage {
                campaign,
                kind,
                url,
            } => {
                self.engage(list, at, campaign, json!({"action": kind, "timestamp": clock::mailchimp_iso(now.wall), "url": url, "ip": "203.0.113.10"}), now);
            }
            // Handled above: a subscriber need not be a member yet.
            MemberAction::Subscribe { .. } => {}
        }
        Ok(())
    }

    fn sign_up(
        &mut self,
        list: usize,
        email: &str,
        merge_fields: &BTreeMap<String, Value>,
        moment: &Moment,
    ) {
        let audience = &mut self.audiences[list];
        let hash = hash_of(&lower(email));
        // Signing up is the one way back for a forgotten address.
        audience.forgotten.remove(&hash);
        let at = audience
            .by_hash
            .get(&hash)
            .copied()
            .unwrap_or_else(|| audience.add(email, hash, moment.now));
        self.fill(list, at, merge_fields, moment.now);
        self.set_status(list, at, Status::Subscribed, "", moment);
    }

    fn fill(&mut self, list: usize, at: usize, merge_fields: &BTreeMap<String, Value>, now: Now) {
        let audience = &mut self.audiences[list];
        for (tag, value) in merge_fields {
            if let Some(field) = audience.field(tag) {
                audience.members[at].set_merge(field, value.clone());
            }
        }
        audience.members[at].last_changed = now.wall;
    }

    fn engage(&mut self, list: usize, at: usize, campaign: String, value: Value, now: Now) {
        if !self.activity.iter().any(|known| known.campaign == campaign) {
            self.outgoing
                .campaign(&self.audiences[list], &campaign, now.wall);
        }
        let email = self.audiences[list].members[at].email.to_string();
        self.activity.push(Activity {
            campaign,
            email,
            value,
            at: now.wall,
        });
    }

    /// Members in the order they came, archived ones included, forgotten ones not.
    pub(crate) fn look(&self, list_id: &str) -> Vec<ListMember> {
        let Some(audience) = self
            .audiences
            .iter()
            .find(|audience| audience.id == list_id)
        else {
            return Vec::new();
        };
        audience
            .members
            .iter()
            .filter(|member| !member.gone)
            .map(|member| seen(audience, member))
            .collect()
    }

    pub(crate) fn look_at(&self, list_id: &str, email: &str) -> Option<ListMember> {
        let audience = self
            .audiences
            .iter()
            .find(|audience| audience.id == list_id)?;
        Some(seen(audience, &audience.members[audience.locate(email)?]))
    }

    pub(crate) fn is_forgotten(&self, list_id: &str, email: &str) -> bool {
        let audience = self
            .audiences
            .iter()
            .find(|audience| audience.id == list_id);
        audience.is_some_and(|audience| audience.forgotten.contains(&hash_of(&lower(email))))
    }

    pub(crate) fn count(&self) -> usize {
        self.audiences
            .iter()
            .map(|audience| audience.by_hash.len())
            .sum()
    }

    /// `GET /campaigns`: those that somebody engaged with.
    pub(crate) fn campaigns(&self) -> Reply {
        let mut campaigns: Vec<Value> = Vec::new();
        for activity in &self.activity {
            if !campaigns
                .iter()
                .any(|campaign| campaign["id"] == *activity.campaign)
            {
                campaigns.push(json!({
                    "id": activity.campaign, "type": "regular", "status": "sent", "send_time": clock::mailchimp_iso(activity.at),
                    "emails_sent": 1, "recipients": {"list_id": self.config.list_id},
                    "settings": {"subject_line": "News", "title": "News"},
                }));
            }
        }
        Reply::value(
            200,
            &json!({"campaigns": campaigns, "total_items": campaigns.len()}),
        )
    }

    /// `GET /reports/{id}/email-activity?since&count&offset`
    pub(crate) fn email_activity(&self, campaign: &str, query: &Query) -> Result<Reply, Problem> {
        if !self
            .activity
            .iter()
            .any(|activity| activity.campaign == campaign)
        {
            return Err(Problem::not_found());
        }
        let since = query.get("since").and_then(clock::parse_mailchimp);
        let mut by_email: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for activity in self
            .activity
            .iter()
            .filter(|activity| activity.campaign == campaign)
        {
            let lines = by_email.entry(&activity.email).or_default();
            if since.is_none_or(|since| activity.at / 1_000 >= since / 1_000) {
                lines.push(&activity.value);
            }
        }
        let emails: Vec<Value> = by_email
            .iter()
            .skip(query.number("offset").unwrap_or(0))
            .take(query.number("count").unwrap_or(10).min(1_000))
            .map(|(email, lines)| {
                let hash = hash_of(&lower(email));
                json!({
                    "campaign_id": campaign, "list_id": self.config.list_id, "list_is_active": true,
                    "email_id": String::from_utf8_lossy(&hash), "email_address": email, "activity": lines,
                })
            })
            .collect();
        Ok(Reply::value(
            200,
            &json!({"emails": emails, "campaign_id": campaign, "total_items": by_email.len()}),
        ))
    }
}

fn seen(audience: &Audience, member: &Member) -> ListMember {
    ListMember {
        id: member.hash_text().to_owned(),
        contact_id: contact_id(member),
        email: member.email.to_string(),
        status: member.status,
        status_by: member.status_by,
        merge_fields: member
            .merge
            .iter()
            .map(|(field, value)| (audience.fields[*field].tag.clone(), value.clone()))
            .collect(),
        tags: member.tags.iter().map(|tag| tag.to_string()).collect(),
        language: member.language.to_string(),
        email_type: member.email_type.to_string(),
        vip: member.vip,
        last_changed: member.last_changed,
    }
}
