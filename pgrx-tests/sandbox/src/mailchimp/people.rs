//! What contacts and people in the web app do, and a look at the members for tests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Mailchimp;
use super::reports::Engagement;
use super::status::{Actor, Status};
use super::store::{Audience, Member, contact_id, hash_of, lower};
use super::write::Moment;
use crate::clock::Now;

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
    /// `Category: Name` of the groups they are in.
    pub interests: Vec<String>,
    /// Texts of the marketing permissions they have given.
    pub permissions: Vec<String>,
    /// Milliseconds since 1970.
    pub last_changed: i64,
    /// When they last became subscribed, in milliseconds since 1970.
    pub opted_in: Option<i64>,
}

/// An address that mail goes to from then on, however that came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subscribed {
    pub list_id: String,
    /// As it was then.
    pub email: String,
    /// Who did it: the person by a form or by confirming, or the API.
    pub by: Actor,
    /// How the member was before; `None`: subscribed, under another address.
    pub from: Option<Status>,
    /// Milliseconds since 1970.
    pub at: i64,
    /// When the request that did it came in, likewise.
    pub arrived: i64,
}

/// Something that happens to a member in Mailchimp itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
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
    /// The person joins groups and leaves others, by name.
    Groups { groups: BTreeMap<String, bool> },
    /// The person changes the address.
    ChangeEmail { new_email: String },
    /// Somebody in the web app archives the member.
    Archive,
    /// Somebody in the web app deletes the person for good.
    DeletePermanently,
    /// The member is gone without a trace, as whoever did not confirm is after a while; the address
    /// may be added again.
    Vanish,
    /// What the person does with a campaign, for its reports; a campaign that is not known is sent
    /// to them alone.
    Engage {
        campaign: String,
        #[serde(flatten)]
        engagement: Engagement,
    },
}

impl Audience {
    fn join_groups(
        &mut self,
        at: usize,
        groups: impl IntoIterator<Item = (String, bool)>,
    ) -> Result<(), String> {
        for (name, joins) in groups {
            let mut all = self.categories.iter().flat_map(|each| &each.interests);
            let found = all.find(|(_, known)| *known == name);
            let (id, _) = found.ok_or_else(|| format!("no group {name}"))?.clone();
            let sent = serde_json::Map::from_iter([(id, Value::from(joins))]);
            self.members[at].set_groups(&sent);
        }
        Ok(())
    }
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
            | MemberAction::DeletePermanently
            | MemberAction::Vanish => Actor::Admin,
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
            MemberAction::Groups { groups } => {
                self.audiences[list].join_groups(at, groups)?;
                self.audiences[list].members[at].last_changed = now.wall;
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
            MemberAction::Vanish => self.audiences[list].remove(at),
            MemberAction::Engage {
                campaign,
                engagement,
            } => self.engage(list, at, &campaign, engagement, &moment)?,
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
        interests: audience.groups_of(member),
        permissions: audience
            .permissions
            .iter()
            .filter(|(id, _)| member.permissions.contains(id))
            .map(|(_, text)| text.clone())
            .collect(),
        last_changed: member.last_changed,
        opted_in: member.opted_in,
    }
}
