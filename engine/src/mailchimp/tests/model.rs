//! A small Mailchimp that keeps members by address, and a caller that loses requests and answers.
//! However a record's consent and address change, nobody gets mail without an opt-in.
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
    members: BTreeMap<String, Member>,
    created: u32,
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
            CallKind::MailchimpBulk { .. } => {
                let members = body["members"].as_array().unwrap();
                let mut done = Vec::new();
                for member in members {
                    let address = member["email_address"].as_str().unwrap().to_owned();
                    self.write(&address, member, opted_in);
                    done.push(self.shown(&address));
                }
                reply(
                    200,
                    &json!({ "updated_members": done, "errors": [] }).to_string(),
                )
            }
            CallKind::MailchimpPut { hash, .. } | CallKind::MailchimpPatch { hash, .. } => {
                self.single(call.request.method, hash, &body, opted_in)
            }
            CallKind::MailchimpArchive { hash, .. } => {
                let found = self
                    .members
                    .iter_mut()
                    .find(|(address, _)| subscriber_hash(address) == *hash);
                match found {
                    Some((_, member)) => member.status = "archived",
                    None => return reply(404, "{}"),
                }
                reply(204, "")
            }
            other => panic!("{other:?}"),
        }
    }

    fn single(&mut self, method: Method, hash: &str, body: &Value, opted_in: bool) -> Reply {
        let found = self
            .members
            .keys()
            .find(|address| subscriber_hash(address) == *hash)
            .or_else(|| {
                self.members
                    .iter()
                    .find(|(_, member)| member.contact == *hash)
                    .map(|(address, _)| address)
            })
            .cloned();
        let wanted = body["email_address"].as_str().map(str::to_owned);
        let address = match (found, wanted) {
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
        let refused = self.members.get(&address).is_some_and(|member| {
            member.left && member.status == "unsubscribed" && body["status"] == "subscribed"
        });
        if refused {
            return reply(400, r#"{"title":"Member In Compliance State"}"#);
        }
        self.write(&address, body, opted_in);
        reply(200, &self.shown(&address).to_string())
    }

    fn write(&mut self, address: &str, body: &Value, opted_in: bool) {
        let explicit = body["status"].as_str().map(known_status);
        let before = self.members.get(address).cloned();
        let status = match (&before, explicit) {
            (_, Some(status)) => status,
            (Some(member), None) => member.status,
            (None, None) => known_status(body["status_if_new"].as_str().unwrap()),
        };
        if status == "subscribed" && before.as_ref().is_none_or(|member| member.status != status) {
            assert!(opted_in, "{address} subscribed without an opt-in");
            let left = before.as_ref().is_some_and(|member| member.left);
            assert!(!left, "{address} subscribed after leaving");
        }
        self.created += 1;
        let fresh = Member {
            status,
            left: false,
            contact: format!("contact{}", self.created),
        };
        let member = before.unwrap_or(fresh);
        self.members
            .insert(address.to_owned(), Member { status, ..member });
    }

    fn shown(&self, address: &str) -> Value {
        let member = &self.members[address];
        json!({ "email_address": address, "status": member.status, "contact_id": member.contact })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Consent(bool),
    Address(u8),
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
        let row = row([Some(&address), Some(consent), None, None, None]);
        Work {
            batch_cap: self.batch_cap,
            ..work(row, self.link.clone())
        }
    }

    /// One plan and its call. Whether there is more to do at once.
    fn sync(&mut self, request_lost: bool, answer_lost: bool) -> bool {
        let verdict = match decide(&self.work(), 0, &map(), &settings()) {
            Decision::Settled(verdict) => verdict,
            Decision::Send(kind, item) => {
                self.note_intent(&item);
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

    fn note_intent(&mut self, item: &Item) {
        match &mut self.link {
            none @ None if item.intent => {
                *none = Some(Link {
                    remote_key: item.remote_key.clone(),
                    ..Link::default()
                });
            }
            Some(link) if item.intent => link.member_status = None,
            _ => {}
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
                self.link = Some(Link {
                    remote_id,
                    remote_key,
                    member_status,
                    ..Link::default()
                });
            }
            Verdict::Again {
                relink: Some(Relink::Forget),
                ..
            } => {
                self.link = None;
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
            Step::Consent(opted_in) => self.opted_in = *opted_in,
            Step::Address(_) if self.uncertain => {}
            Step::Address(address) => self.address = *address,
            Step::Sync {
                request_lost,
                answer_lost,
            } => {
                let mut rounds = 0;
                let mut more = self.sync(*request_lost, *answer_lost);
                while more && rounds < 6 {
                    more = self.sync(false, false);
                    rounds += 1;
                }
            }
            Step::Leaves => {
                for member in self.service.members.values_mut() {
                    if member.status == "subscribed" {
                        (member.status, member.left) = ("unsubscribed", true);
                    }
                }
            }
            Step::Confirms => {
                for member in self.service.members.values_mut() {
                    if member.status == "pending" {
                        (member.status, member.left) = ("subscribed", false);
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
        5 => any::<(bool, bool)>()
            .prop_map(|(request_lost, answer_lost)| Step::Sync { request_lost, answer_lost }),
        1 => Just(Step::Leaves),
        1 => Just(Step::Confirms),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn nobody_gets_mail_without_an_opt_in(steps in prop::collection::vec(step(), 1..25)) {
        let mut crm =
            Crm { opted_in: false, address: 0, link: None, service: Service::default(), batch_cap: 500, uncertain: false };
        for step in &steps {
            crm.apply(step);
        }
        crm.opted_in = false;
        for _ in 0..6 {
            crm.sync(false, false);
        }
        let mailed: Vec<_> = crm.service.members.iter()
            .filter(|(_, member)| member.status == "subscribed").collect();
        prop_assert!(mailed.is_empty(), "{mailed:?} {:?}", crm.link);
    }
}
