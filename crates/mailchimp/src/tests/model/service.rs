//! A small Mailchimp that keeps members by audience and address, and the truth about people.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::*;
use integration_engine::{value::time, wire::Method};

type At = (String, String);

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub status: &'static str,
    /// The present status is the person's own doing.
    own: bool,
    contact: String,
    /// Addresses the contact had before.
    former: Vec<At>,
    /// When they last became subscribed, however that was.
    opted_in_at: i64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    members: BTreeMap<At, Member>,
    created: u32,
    /// Who left, where, and has not come back by themselves; and when they did.
    gone: BTreeMap<At, i64>,
    /// Addresses that their owners have left for others, and that nobody has entered since.
    left: BTreeSet<At>,
    /// When they last came by themselves.
    came: BTreeMap<At, i64>,
    pub now: i64,
}

/// What the row says on whose behalf a call is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct On {
    pub opted_in: bool,
    pub refuses: bool,
}

fn known_status(text: &str) -> &'static str {
    ["subscribed", "pending", "unsubscribed", "transactional"]
        .into_iter()
        .find(|known| *known == text)
        .unwrap()
}

impl Service {
    // What people do.

    pub(super) fn signs_up(&mut self, list: &str, address: &str, now: i64) {
        let at = (list.to_owned(), address.to_owned());
        self.came.insert(at.clone(), now);
        self.gone.remove(&at);
        self.left.remove(&at);
        self.created += 1;
        let contact = format!("contact{}", self.created);
        let member = self.members.entry(at).or_insert(Member {
            status: "subscribed",
            own: true,
            contact,
            former: Vec::new(),
            opted_in_at: now,
        });
        member.former.iter().for_each(|at| {
            self.gone.remove(at);
        });
        (member.status, member.own, member.opted_in_at) = ("subscribed", true, now);
    }

    /// Whoever was asked says yes.
    pub(super) fn confirm(&mut self, now: i64) -> Vec<At> {
        let pending = |(_, member): &(&At, &Member)| member.status == "pending";
        let asked: Vec<At> = self
            .members
            .iter()
            .filter(pending)
            .map(|(at, _)| at.clone())
            .collect();
        asked
            .iter()
            .for_each(|(list, address)| self.signs_up(list, address, now));
        asked
    }

    /// Whoever is subscribed becomes this; returns who that is.
    pub(super) fn become_all(&mut self, status: &'static str) -> Vec<At> {
        let all = self.subscribed();
        for at in &all {
            if let Some(member) = self.members.get_mut(at) {
                (member.status, member.own) = (status, true);
            }
            if status != "archived" {
                self.gone.insert(at.clone(), self.now);
            }
        }
        all
    }

    /// Whoever has mail sent to them in an audience changes their address; returns whose it was.
    pub(super) fn moves(&mut self, to: &str) -> Option<At> {
        let free = |at: &&At| !self.members.contains_key(&(at.0.clone(), to.to_owned()));
        let subscribed = self.subscribed();
        let old = subscribed.iter().find(free)?.clone();
        let mut member = self.members.remove(&old)?;
        member.former.push(old.clone());
        let new = (old.0.clone(), to.to_owned());
        self.left.remove(&new);
        self.members.insert(new, member);
        Some(old)
    }

    /// A member that we know has left this address.
    pub(super) fn has_left_address(&mut self, at: At) {
        self.left.insert(at);
    }

    /// The member is removed, as if they had never been there.
    pub(super) fn removes(&mut self, at: At) {
        self.members.remove(&at);
        self.gone.insert(at, self.now);
    }

    /// Whether this is the contact that is subscribed there.
    pub(super) fn is_contact(&self, at: &At, id: &str) -> bool {
        let member = self.members.get(at);
        member.is_some_and(|member| member.contact == id && member.status == "subscribed")
    }

    /// The CRM says that this is somebody's address.
    pub(super) fn entered(&mut self, address: &str) {
        self.left.retain(|(_, left)| left != address);
    }

    /// Mandrill told of what happened then.
    pub(super) fn gone_everywhere(&mut self, address: &str, then: i64) {
        let at = |list: &str| (list.to_owned(), address.to_owned());
        let lists = ["a1", "b2"];
        // Who has come by themselves since wants mail, wherever their row goes.
        let came = |list: &&str| self.came.get(&at(list)).is_some_and(|came| *came > then);
        if !lists.iter().any(came) {
            self.gone.extend(lists.map(|list| (at(list), self.now)));
        }
    }

    pub(super) fn subscribed(&self) -> Vec<At> {
        let all = self.members.iter();
        all.filter(|(_, member)| member.status == "subscribed")
            .map(|(at, _)| at.clone())
            .collect()
    }

    /// Unsubscribed, and not by themselves. (Who signs up while an opt-out of the CRM's is on its
    /// way is unsubscribed after all; the next answer tells.)
    pub(super) fn was_dropped(&self, at: &At) -> bool {
        let member = self.members.get(at);
        member.is_some_and(|member| member.status == "unsubscribed" && !member.own)
            && !self.came.contains_key(at)
    }

    /// Subscribed by a form, or by an answer to a question.
    pub(super) fn came_alone(&self, list: &str, address: &str) -> bool {
        let member = self.members.get(&(list.to_owned(), address.to_owned()));
        member.is_some_and(|member| member.status == "subscribed" && member.own)
    }

    /// Whether the contact gets mail, and did not see to that by itself.
    pub(super) fn mails(&self, list: &str, contact: &str) -> bool {
        let at = self.locate(list, contact);
        let member = at.and_then(|at| self.members.get(&at));
        member.is_some_and(|member| member.status == "subscribed" && !member.own)
    }

    // What we do.

    pub(super) fn answer(&mut self, call: &Call, on: On) -> Reply {
        let body: Value = match call.request.body.as_deref() {
            Some(body) => serde_json::from_slice(body).unwrap(),
            None => Value::Null,
        };
        match &call.kind {
            MailchimpCall::Bulk { list } => {
                let members = body["members"].as_array().unwrap();
                let (mut new, mut updated) = (Vec::new(), Vec::new());
                for member in members {
                    let address = member["email_address"].as_str().unwrap().to_owned();
                    let at = (list.clone(), address);
                    let known = self.members.contains_key(&at);
                    self.write(&at, member, on);
                    let done = if known { &mut updated } else { &mut new };
                    done.push(self.shown(&at));
                }
                let body = json!({ "new_members": new, "updated_members": updated, "errors": [] });
                reply(200, &body.to_string())
            }
            MailchimpCall::Put { list, hash } | MailchimpCall::Patch { list, hash } => {
                self.single(call.request.method, list, hash, &body, on)
            }
            MailchimpCall::Archive { list, hash }
            | MailchimpCall::Discard { list, hash }
            | MailchimpCall::Leave { list, hash } => {
                match self.locate(list, hash) {
                    Some(at) => match self.members.get_mut(&at) {
                        Some(member) if member.status != "archived" => {
                            (member.status, member.own) = ("archived", false);
                        }
                        _ => return reply(405, "{}"),
                    },
                    None => return reply(404, "{}"),
                }
                reply(204, "")
            }
            MailchimpCall::Look { list, hash, .. } => match self.locate(list, hash) {
                Some(at) => reply(200, &self.shown(&at).to_string()),
                None => reply(404, "{}"),
            },
            MailchimpCall::Meet { .. } => reply(200, "{}"),
            other => panic!("{other:?}"),
        }
    }

    /// By the hash of the address, or by the contact's id.
    fn locate(&self, list: &str, name: &str) -> Option<At> {
        let mut members = self.members.iter().filter(|((known, _), _)| known == list);
        members
            .find(|((_, address), member)| {
                subscriber_hash(address) == name || member.contact == name
            })
            .map(|(at, _)| at.clone())
    }

    fn single(&mut self, method: Method, list: &str, hash: &str, body: &Value, on: On) -> Reply {
        let found = self.locate(list, hash);
        let wanted = body["email_address"].as_str();
        let wanted = wanted.map(|address| (list.to_owned(), address.to_owned()));
        let renamed = found
            .clone()
            .zip(wanted.clone())
            .filter(|(old, new)| old != new);
        if renamed
            .as_ref()
            .is_some_and(|(_, new)| self.members.contains_key(new))
        {
            return reply(400, r#"{"title":"Member Exists"}"#);
        }
        let at = match (found, wanted) {
            (None, _) if method == Method::Patch => return reply(404, "{}"),
            (None, wanted) => wanted.unwrap(),
            (Some(old), _) => old,
        };
        let refused = self.members.get(&at).is_some_and(|member| {
            let left = member.own && matches!(member.status, "unsubscribed");
            (left && body["status"] == "subscribed")
                || (member.status == "cleaned"
                    && body["status"] != "unsubscribed"
                    && !body["status"].is_null())
        });
        if refused {
            let bounced = self.members[&at].status == "cleaned";
            let why = if bounced {
                "due to bounce"
            } else {
                "compliance state"
            };
            return reply(
                400,
                &format!(r#"{{"title":"Member In Compliance State","detail":"{why}"}}"#),
            );
        }
        let at = match renamed {
            Some((old, new)) => {
                let mut member = self.members.remove(&old).unwrap();
                member.former.push(old);
                let gets_mail = member.status == "subscribed" && body["status"].is_null();
                // Who came by themselves since takes along that they want mail.
                let left = self.gone.get(&new).copied();
                let left = left.filter(|then| !member.own || member.opted_in_at <= *then);
                assert!(
                    !gets_mail || left.is_none(),
                    "{new:?} gets mail, and had left"
                );
                self.members.insert(new.clone(), member);
                new
            }
            None => at,
        };
        self.write(&at, body, on);
        reply(200, &self.shown(&at).to_string())
    }

    fn write(&mut self, at: &At, body: &Value, on: On) {
        let explicit = body["status"].as_str().map(known_status);
        let before = self.members.get(at).cloned();
        let status = match (&before, explicit) {
            // Gets no mail as it is.
            (Some(member), Some("unsubscribed")) if member.status == "cleaned" => "cleaned",
            (Some(_), Some(status)) => status,
            (Some(member), None) => member.status,
            (None, explicit) => {
                let if_new = body["status_if_new"].as_str().map(known_status);
                if_new.or(explicit).unwrap()
            }
        };
        let changed = before.as_ref().is_none_or(|member| member.status != status);
        if status == "subscribed" && changed {
            assert!(on.opted_in, "{at:?} subscribed without an opt-in");
            assert!(
                !self.gone.contains_key(at),
                "{at:?} subscribed after leaving"
            );
            assert!(!self.left.contains(at), "{at:?} subscribed, and has moved");
            assert!(!on.refuses, "{at:?} subscribed after leaving elsewhere");
        }
        self.created += 1;
        let fresh = Member {
            status,
            own: false,
            contact: format!("contact{}", self.created),
            former: Vec::new(),
            opted_in_at: 0,
        };
        let member = before.unwrap_or(fresh);
        let own = member.own && !changed;
        let opts_in = changed && status == "subscribed";
        self.members.insert(
            at.clone(),
            Member {
                status,
                own,
                opted_in_at: if opts_in {
                    self.now
                } else {
                    member.opted_in_at
                },
                ..member
            },
        );
    }

    fn shown(&self, at: &At) -> Value {
        let member = &self.members[at];
        let opted_in = time::iso(member.opted_in_at).unwrap();
        json!({
            "email_address": at.1,
            "status": member.status,
            "contact_id": member.contact,
            "timestamp_opt": opted_in,
        })
    }
}
