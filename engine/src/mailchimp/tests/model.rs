//! A small Mailchimp that keeps members by audience and address, and a caller that loses requests
//! and answers. However a record's consent, address and audience change, nobody gets mail without
//! an opt-in, and who left in one audience is not added to another.
//!
//! One thing is granted: an address does not change a second time before the first change, whose
//! answer was lost, has been repeated. Mailchimp cannot be asked what became of it in between.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::call::{Method, TransportError};

#[derive(Clone, Debug)]
struct Member {
    status: &'static str,
    /// Left by themselves and have not come back by themselves.
    left: bool,
    contact: String,
}

#[derive(Clone, Debug, Default)]
struct Service {
    members: BTreeMap<(String, String), Member>,
    created: u32,
    /// The person left somewhere, and neither they nor the CRM have opted in since.
    refuses: bool,
}

fn known_status(text: &str) -> &'static str {
    ["subscribed", "pending", "unsubscribed"]
        .into_iter()
        .find(|known| *known == text)
        .unwrap()
}

impl Service {
    fn answer(&mut self, call: &Call, opted_in: bool) -> Reply {
        let body: Value = match call.request.body.as_deref() {
            Some(body) => serde_json::from_slice(body).unwrap(),
            None => Value::Null,
        };
        match &call.kind {
            CallKind::MailchimpBulk { list } => {
                let members = body["members"].as_array().unwrap();
                let mut done = Vec::new();
                for member in members {
                    let address = member["email_address"].as_str().unwrap().to_owned();
                    let at = (list.clone(), address);
                    self.write(&at, member, opted_in);
                    done.push(self.shown(&at));
                }
                reply(
                    200,
                    &json!({ "updated_members": done, "errors": [] }).to_string(),
                )
            }
            CallKind::MailchimpPut { list, hash } | CallKind::MailchimpPatch { list, hash } => {
                self.single(call.request.method, list, hash, &body, opted_in)
            }
            CallKind::MailchimpArchive { list, hash } | CallKind::MailchimpLeave { list, hash } => {
                match self.locate(list, hash) {
                    Some(at) => match self.members.get_mut(&at) {
                        Some(member) if member.status != "archived" => member.status = "archived",
                        _ => return reply(405, "{}"),
                    },
                    None => return reply(404, "{}"),
                }
                reply(204, "")
            }
            CallKind::MailchimpLook { list, hash, .. } => match self.locate(list, hash) {
                Some(at) => reply(200, &self.shown(&at).to_string()),
                None => reply(404, "{}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// By the hash of the address, or by the contact's id.
    fn locate(&self, list: &str, name: &str) -> Option<(String, String)> {
        let mut members = self.members.iter().filter(|((known, _), _)| known == list);
        members
            .find(|((_, address), member)| {
                subscriber_hash(address) == name || member.contact == name
            })
            .map(|(at, _)| at.clone())
    }

    fn single(
        &mut self,
        method: Method,
        list: &str,
        hash: &str,
        body: &Value,
        opted_in: bool,
    ) -> Reply {
        let found = self.locate(list, hash);
        let wanted = body["email_address"].as_str();
        let wanted = wanted.map(|address| (list.to_owned(), address.to_owned()));
        let at = match (found, wanted) {
            (None, _) if method == Method::Patch => return reply(404, "{}"),
            (None, wanted) => wanted.unwrap(),
            (Some(old), Some(new)) if old != new => {
                if self.members.contains_key(&new) {
                    return reply(400, r#"{"title":"Member Exists"}"#);
                }
                let member = self.members.remove(&old).unwrap();
                self.members.insert(new.clone(), member);
                new
            }
            (Some(old), _) => old,
        };
        let refused = self.members.get(&at).is_some_and(|member| {
            member.left && member.status == "unsubscribed" && body["status"] == "subscribed"
        });
        if refused {
            return reply(400, r#"{"title":"Member In Compliance State"}"#);
        }
        self.write(&at, body, opted_in);
        reply(200, &self.shown(&at).to_string())
    }

    fn write(&mut self, at: &(String, String), body: &Value, opted_in: bool) {
        let explicit = body["status"].as_str().map(known_status);
        let before = self.members.get(at).cloned();
        let status = match (&before, explicit) {
            (_, Some(status)) => status,
            (Some(member), None) => member.status,
            (None, None) => known_status(body["status_if_new"].as_str().unwrap()),
        };
        if status == "subscribed" && before.as_ref().is_none_or(|member| member.status != status) {
            assert!(opted_in, "{at:?} subscribed without an opt-in");
            let left = before.as_ref().is_some_and(|member| member.left);
            assert!(!left, "{at:?} subscribed after leaving");
            assert!(!self.refuses, "{at:?} subscribed after leaving elsewhere");
        }
        self.created += 1;
        let fresh = Member {
            status,
            left: false,
            contact: format!("contact{}", self.created),
        };
        let member = before.unwrap_or(fresh);
        self.members.insert(at.clone(), Member { status, ..member });
    }

    fn shown(&self, at: &(String, String)) -> Value {
        let member = &self.members[at];
        json!({ "email_address": at.1, "status": member.status, "contact_id": member.contact })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Consent(bool),
    Address(u8),
    Audience(bool),
    Sync {
        request_lost: bool,
        answer_lost: bool,
    },
    Leaves,
    Confirms,
}

struct Crm {
    opted_in: bool,
    address: u8,
    /// In the audience its column names, not in the default one.
    elsewhere: bool,
    link: Option<Link>,
    service: Service,
    batch_cap: usize,
    /// The last answer was lost.
    uncertain: bool,
}

impl Crm {
    fn work(&self) -> Work {
        let address = format!("p{}@example.com", self.address);
        let consent = if self.opted_in { "t" } else { "f" };
        let mut row = row([Some(&address), Some(consent), None, None, None]);
        let list = self.elsewhere.then(|| "b2".to_owned());
        row.iter_mut().for_each(|row| row.push(list.clone()));
        Work {
            batch_cap: self.batch_cap,
            ..work(row, self.link.clone())
        }
    }

    /// One plan and its call. Whether there is more to do at once.
    fn sync(&mut self, request_lost: bool, answer_lost: bool) -> bool {
        let verdict = match decide(&self.work(), 0, &map_with_audience(), &settings()) {
            Decision::Settled(verdict) => verdict,
            Decision::Send(kind, item) => {
                self.note_intent(&item, &kind);
                let call = assemble(vec![(kind, item)], &settings()).remove(0);
                if request_lost {
                    self.uncertain = true;
                    return false;
                }
                self.uncertain = answer_lost;
                let answer = self.service.answer(&call, self.opted_in);
                let lost = TransportError::Lost("reset".into());
                let reply = if answer_lost { Err(&lost) } else { Ok(&answer) };
                let reading = read(&call, reply, &settings());
                reading.verdicts.into_iter().next().unwrap()
            }
        };
        self.settle(verdict)
    }

    fn note_intent(&mut self, item: &Item, kind: &CallKind) {
        if item.intent {
            self.link = Some(noted(self.link.as_ref(), item, kind));
        }
    }

    fn settle(&mut self, verdict: Verdict) -> bool {
        self.batch_cap = match verdict {
            Verdict::Again {
                batch_cap: Some(cap),
                ..
            } => cap,
            Verdict::Again { .. } => self.batch_cap,
            _ => 500,
        };
        match verdict {
            Verdict::Delivered {
                remote_id,
                remote_key,
                member_status,
                ..
            } => {
                let link = self.link.take().unwrap_or_default();
                self.link = Some(Link {
                    remote_id,
                    remote_key,
                    member_status,
                    clock: Default::default(),
                    ..link.settled(member_status == Some(MemberStatus::Subscribed))
                });
            }
            Verdict::Again {
                relink: Some(Relink::Forget),
                ..
            } => {
                self.link = self.link.take().and_then(Link::forgotten);
                return true;
            }
            Verdict::Again {
                relink: Some(Relink::Leave { ask }),
                ..
            } => {
                self.link = self.link.take().map(|link| link.leave(ask));
                return true;
            }
            Verdict::Again {
                relink: Some(Relink::Left { list, ask }),
                ..
            } => {
                self.link = self.link.take().map(|link| link.left(&list, ask));
                return true;
            }
            Verdict::Again {
                relink: Some(Relink::Adopt(id)),
                ..
            } => {
                if let Some(link) = &mut self.link {
                    link.remote_id = Some(id);
                }
                return true;
            }
            Verdict::Again { .. } => return true,
            Verdict::Dead {
                member_status: Some(status),
                ..
            } => {
                if let Some(link) = &mut self.link {
                    link.member_status = Some(status);
                }
            }
            _ => {}
        }
        false
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Consent(opted_in) => {
                // An opt-in anew.
                self.service.refuses &= self.opted_in || !*opted_in;
                self.opted_in = *opted_in;
            }
            Step::Audience(elsewhere) => self.elsewhere = *elsewhere,
            Step::Address(_) if self.uncertain => {}
            Step::Address(address) => self.address = *address,
            Step::Sync {
                request_lost,
                answer_lost,
            } => {
                let mut rounds = 0;
                let mut more = self.sync(*request_lost, *answer_lost);
                while more && rounds < 16 {
                    more = self.sync(false, false);
                    rounds += 1;
                }
            }
            Step::Leaves => {
                let mut left = false;
                for member in self.service.members.values_mut() {
                    if member.status == "subscribed" {
                        (member.status, member.left) = ("unsubscribed", true);
                        left = true;
                    }
                }
                self.service.refuses |= left;
                // Between the look and the archiving only Mailchimp's event tells of it.
                let link = self.link.as_ref();
                if left && link.is_some_and(|link| link.membership.leaving || link.is_nowhere()) {
                    self.opted_in = false;
                }
            }
            Step::Confirms => {
                for member in self.service.members.values_mut() {
                    if member.status == "pending" {
                        (member.status, member.left) = ("subscribed", false);
                        self.service.refuses = false;
                    }
                }
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Consent),
        2 => (0u8..3).prop_map(Step::Address),
        2 => any::<bool>().prop_map(Step::Audience),
        5 => any::<(bool, bool)>()
            .prop_map(|(request_lost, answer_lost)| Step::Sync { request_lost, answer_lost }),
        1 => Just(Step::Leaves),
        1 => Just(Step::Confirms),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn nobody_gets_mail_without_an_opt_in(steps in prop::collection::vec(step(), 1..25)) {
        let mut crm =
            Crm { opted_in: false, address: 0, elsewhere: false, link: None, service: Service::default(), batch_cap: 500, uncertain: false };
        for step in &steps {
            crm.apply(step);
        }
        for _ in 0..16 {
            crm.sync(false, false);
        }
        let mailed = crm.service.members.values().filter(|member| member.status == "subscribed");
        prop_assert!(mailed.count() <= 1, "{:?} {:?}", crm.service.members, crm.link);
        crm.opted_in = false;
        for _ in 0..16 {
            crm.sync(false, false);
        }
        let mailed: Vec<_> = crm.service.members.iter()
            .filter(|(_, member)| member.status == "subscribed").collect();
        prop_assert!(mailed.is_empty(), "{mailed:?} {:?}", crm.link);
    }
}

/// The test's map with a column that names the audience.
fn map_with_audience() -> SourceMap {
    let mut map = map();
    let mut field = map.fields[2].clone();
    (field.id, field.remote) = (FieldId(6), "list_id".to_owned());
    map.fields.push(field);
    map
}
