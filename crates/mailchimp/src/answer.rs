//! What Mailchimp's answer means for each record of a call.

pub(crate) mod fault;
pub(crate) mod missing;

mod bulk;

use std::borrow::Cow;

use serde::Deserialize;

use crate::{Call, Leaving, Mailchimp, MailchimpCall, MailchimpSettings};
use integration_engine::{
    delivery::{
        call::{Item, Leaver, Reading},
        outcome::{Category, Relink, TargetSignal, Verdict},
        verdicts::{bisect, failing, for_all, no_verdict, summary},
    },
    erasure::is_confirmed,
    limits::BudgetReport,
    record::{RemoteId, consent::MemberStatus},
    service::failure::{Class, classify},
    value::{json::Text, time},
    wire::{Reply, TransportError},
};

use super::audience;
use crate::answer::fault::{MemberRefusal, is_opt_out};
use crate::answer::missing::{no_such_member, other_name};
use crate::plan::displaced;
use crate::plan::moves;
use crate::plan::opt_out::suppression;

const ASKED: &str = "Mailchimp has this person, not subscribed; they are asked";

/// Reads an answer. A bulk call answers 200 even if it took nobody: only the members it returns
/// count, with the status it returns for them.
pub(crate) fn read(
    call: &Call,
    reply: Result<&Reply, &TransportError>,
    settings: &MailchimpSettings,
) -> Reading {
    let status = reply.ok().map(|reply| reply.status);
    let class = classify::<Mailchimp>(reply);
    let by_record = match (&class, reply) {
        (Class::Answered, Ok(reply)) => answered(call, reply, settings),
        (Class::Rejected, Ok(reply)) => Ok(rejected(call, reply)),
        (Class::NotFound, Ok(reply)) => not_found(call, reply, settings),
        _ => Err(class),
    };
    let correlation_id = reply
        .ok()
        .and_then(|reply| reply.header("x-request-id"))
        .map(str::to_owned);
    let (verdicts, signal, error) = match by_record {
        Ok(verdicts) => {
            let error = summary(&verdicts);
            (verdicts, TargetSignal::Healthy, error)
        }
        Err(class) => match for_all(&class, status, call.items.len()) {
            // Mailchimp: a call that takes longer than 120 s is ended; fewer members take less.
            Some((_, signal, why)) if too_slow(call, reply) => {
                (bisect(call.items.len(), &why), signal, Some(why))
            }
            Some((verdicts, signal, why)) => (verdicts, signal, Some(why)),
            // No class that concerns the whole call is left without verdicts.
            None => {
                let verdict = no_verdict("Mailchimp", call.items.len(), 0);
                (vec![verdict; call.items.len()], TargetSignal::Healthy, None)
            }
        },
    };
    Reading {
        verdicts,
        signal,
        budget: BudgetReport::default(),
        correlation_id,
        error,
    }
}

/// Whether a call of many went without an answer for so long that it was given up, and is to be
/// repeated in smaller ones.
fn too_slow(call: &Call, reply: Result<&Reply, &TransportError>) -> bool {
    call.items.len() > 1 && matches!(reply, Err(TransportError::Timeout(_)))
}

#[derive(Deserialize)]
struct MemberAnswer<'a> {
    #[serde(borrow, default)]
    email_address: Text<'a>,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(borrow, default)]
    contact_id: Text<'a>,
    #[serde(borrow, default)]
    id: Text<'a>,
    /// When they last opted in, ISO 8601; empty: never.
    #[serde(borrow, default)]
    timestamp_opt: Text<'a>,
}

fn answered(
    call: &Call,
    reply: &Reply,
    settings: &MailchimpSettings,
) -> Result<Vec<Verdict>, Class> {
    match &call.kind {
        MailchimpCall::Meet { .. }
        | MailchimpCall::Leave { .. }
        | MailchimpCall::Discard { .. }
        | MailchimpCall::Erase { .. } => {
            confirmed(reply)?;
            Ok(call.items.iter().map(|_| moves::done(&call.kind)).collect())
        }
        MailchimpCall::Look {
            list,
            leaving,
            opted_out,
            ..
        } => {
            let member: MemberAnswer<'_> = parse(reply)?;
            let held = Some(member.status.as_str());
            let came = time::moment(member.timestamp_opt.as_str()).ok();
            let address = lower_case(member.email_address.as_str());
            let look = moves::MemberLook {
                list,
                address: Some(&*address).filter(|address| !address.is_empty()),
                leaving: *leaving,
                opted_out: opted_out.is_some(),
                came_since: opted_out.is_some_and(|out| came.is_some_and(|came| came > out)),
            };
            let seen = |item| moves::seen(item, held, &look, reply.status, settings);
            Ok(call.items.iter().map(seen).collect())
        }
        MailchimpCall::Archive { .. } => {
            confirmed(reply)?;
            Ok(call.items.iter().map(archived).collect())
        }
        MailchimpCall::Tags { .. } => {
            confirmed(reply)?;
            Ok(call.items.iter().map(retagged).collect())
        }
        MailchimpCall::Bulk { .. } => {
            let body: bulk::BulkReply<'_> = parse(reply)?;
            Ok(bulk::bulk(call, reply.status, &body))
        }
        _ => {
            let member: MemberAnswer<'_> = parse(reply)?;
            Ok(call
                .items
                .iter()
                .map(|item| elsewhere(item, &member, returned(item, &member, reply.status)))
                .collect())
        }
    }
}

/// What has no body to be read has to be Mailchimp's own answer all the same.
fn confirmed(reply: &Reply) -> Result<(), Class> {
    match is_confirmed(reply) {
        true => Ok(()),
        false => Err(failing(
            format!(
                "something before Mailchimp answered HTTP {} in its place",
                reply.status
            ),
            true,
        )),
    }
}

fn parse<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, Class> {
    serde_json::from_slice(&reply.body).map_err(|error| {
        let status = reply.status;
        failing(
            format!("Mailchimp answered HTTP {status} with a body that cannot be read: {error}"),
            true,
        )
    })
}

fn lower_case(address: &str) -> Cow<'_, str> {
    match address.chars().any(char::is_uppercase) {
        true => Cow::Owned(address.to_lowercase()),
        false => Cow::Borrowed(address),
    }
}

/// A member that was written to by its id, and has another address than the one known, and than the
/// one it was given.
fn elsewhere(item: &Item, member: &MemberAnswer<'_>, verdict: Verdict) -> Verdict {
    let address = lower_case(member.email_address.as_str());
    let known = address == item.name || Some(&*address) == item.remote_key.as_deref();
    if known || address.is_empty() {
        return verdict;
    }
    match verdict {
        Verdict::Delivered {
            member_status: Some(status),
            ticks,
            ..
        }
        | Verdict::Again {
            relink:
                Some(Relink::Unsubscribed {
                    how: status @ MemberStatus::Archived,
                    ticks,
                }),
            ..
        } => displaced::found(&address, status, ticks),
        verdict => verdict,
    }
}

/// Compares the status a member has with what was asked for.
fn returned(item: &Item, member: &MemberAnswer<'_>, status: u16) -> Verdict {
    let id = member.remote_id();
    let stranger = item
        .expected
        .as_ref()
        .is_some_and(|known| known.as_str() != id);
    if stranger && !member.contact_id.as_str().is_empty() {
        return Verdict::Again {
            relink: None,
            batch_cap: Some(1),
            why: "Mailchimp has another contact under this address; the known one is written to \
                  by its id"
                .to_owned(),
        };
    }
    if is_opt_out(item) {
        return opted_out(item, member, status);
    }
    let suppressed = |known| Verdict::Dead {
        category: Category::Consent,
        status: Some(status),
        why: suppression(known).to_owned(),
        member_status: Some(known),
    };
    match member.status.as_str() {
        "unsubscribed" => suppressed(MemberStatus::UnsubscribedByMember),
        "cleaned" => suppressed(MemberStatus::Cleaned),
        "pending" => member.delivered(item, Some(MemberStatus::Pending)),
        "archived" | "transactional" => match item.member_status {
            // A new record met a member who is neither subscribed nor opted out.
            Some(_) if !id.is_empty() => Verdict::Again {
                relink: Some(Relink::Adopt(RemoteId::from(id))),
                batch_cap: None,
                why: ASKED.to_owned(),
            },
            // The fields arrived at a member who gets no mail: somebody archived them untold, or a
            // later state of this database, which was restored to an earlier one.
            None => Verdict::Again {
                relink: Some(Relink::Unsubscribed {
                    how: MemberStatus::Archived,
                    ticks: item.ticks.clone(),
                }),
                batch_cap: None,
                why: ASKED.to_owned(),
            },
            Some(_) => member.delivered(item, Some(MemberStatus::Archived)),
        },
        // Without a status in the answer, it is what was asked for.
        "" => member.delivered(item, item.member_status.or(Some(MemberStatus::Subscribed))),
        _ => member.delivered(item, Some(MemberStatus::Subscribed)),
    }
}

fn opted_out(item: &Item, member: &MemberAnswer<'_>, status: u16) -> Verdict {
    match member.status.as_str() {
        "cleaned" if item.leaver == Leaver::Unheeded => unheeded(item, MemberStatus::Cleaned),
        "unsubscribed" | "archived" | "transactional" if item.leaver == Leaver::Unheeded => {
            unheeded(
                item,
                item.member_status
                    .unwrap_or(MemberStatus::UnsubscribedByMember),
            )
        }
        "unsubscribed" => member.delivered(item, item.member_status),
        "cleaned" => member.delivered(item, Some(MemberStatus::Cleaned)),
        "archived" | "transactional" => member.delivered(item, Some(MemberStatus::Archived)),
        other => Verdict::Retry {
            why: format!("Mailchimp did not carry out the opt-out: the member is still {other}"),
            status: Some(status),
            wait: None,
            counted: true,
        },
    }
}

/// Gets no mail any more; that the CRM opts the person in is to be answered yet.
pub(super) fn unheeded(item: &Item, how: MemberStatus) -> Verdict {
    let ticks = item.ticks.clone();
    Verdict::Again {
        relink: Some(Relink::Unsubscribed { how, ticks }),
        batch_cap: None,
        why: "unsubscribed at Mailchimp, for the person left".to_owned(),
    }
}

impl MemberAnswer<'_> {
    /// The contact's id stays when the address changes; the member's own does not.
    fn remote_id(&self) -> &str {
        match self.contact_id.as_str() {
            "" => self.id.as_str(),
            id => id,
        }
    }

    fn delivered(&self, item: &Item, member_status: Option<MemberStatus>) -> Verdict {
        let id = self.remote_id();
        let remote_key = match self.email_address.as_str() {
            "" => item.remote_key.clone(),
            address => Some(lower_case(address).into_owned()),
        };
        Verdict::Delivered {
            remote_id: (!id.is_empty()).then(|| RemoteId::from(id)),
            remote_key,
            member_status,
            ticks: item.ticks.clone(),
            met: false,
        }
    }
}

/// The whole call was refused.
fn rejected(call: &Call, reply: &Reply) -> Vec<Verdict> {
    let status = reply.status;
    let items = call.items.len();
    let fault = MemberRefusal::of_body(&reply.body);
    match call.items.as_slice() {
        [_] if matches!(status, 413 | 414) => vec![Verdict::Dead {
            category: Category::TooLarge,
            status: Some(status),
            why: "the request is larger than Mailchimp accepts".to_owned(),
            member_status: None,
        }],
        [item] => vec![fault.verdict(item, status, true)],
        _ => bisect(
            items,
            &format!("Mailchimp refused the call: {}", fault.quoted()),
        ),
    }
}

/// 404 or 405: for single members an answer of its own, for the list a matter of set-up.
#[expect(
    clippy::too_many_lines,
    reason = "one arm a kind of call that Mailchimp did not find"
)]
fn not_found(
    call: &Call,
    reply: &Reply,
    settings: &MailchimpSettings,
) -> Result<Vec<Verdict>, Class> {
    match &call.kind {
        MailchimpCall::Look {
            list,
            hash,
            leaving,
            ..
        } if reply.status == 404 => {
            if *leaving == Leaving::Displaced {
                let gone = |_| displaced::gone_by_any_name();
                return Ok(call.items.iter().map(gone).collect());
            }
            let look = moves::MemberLook {
                list,
                leaving: *leaving,
                address: None,
                opted_out: false,
                came_since: false,
            };
            let nobody = |item| moves::seen(item, None, &look, reply.status, settings);
            let verdict = |item| other_name(item, hash).unwrap_or_else(|| nobody(item));
            Ok(call.items.iter().map(verdict).collect())
        }
        // As for archiving.
        MailchimpCall::Leave { .. }
        | MailchimpCall::Discard { .. }
        | MailchimpCall::Erase { .. } => {
            Ok(call.items.iter().map(|_| moves::done(&call.kind)).collect())
        }
        // Archived already (405), or never there (404): both are what was wanted.
        MailchimpCall::Archive { hash, .. } => {
            let verdict = |item| match reply.status {
                404 => other_name(item, hash).unwrap_or_else(|| archived(item)),
                _ => archived(item),
            };
            Ok(call.items.iter().map(verdict).collect())
        }
        MailchimpCall::Tags { hash, .. } if reply.status == 404 => Ok(call
            .items
            .iter()
            .map(|item| nobody_to_tag(item, hash))
            .collect()),
        MailchimpCall::Patch { hash, .. } if reply.status == 404 => Ok(call
            .items
            .iter()
            .map(|item| no_such_member(item, hash))
            .collect()),
        MailchimpCall::Bulk { list }
        | MailchimpCall::Put { list, .. }
        | MailchimpCall::Meet { list } => {
            if settings.several || *list != settings.list {
                let verdict = audience::no_such_audience(list, reply.status, settings);
                return Ok(vec![verdict; call.items.len()]);
            }
            Err(failing(
                format!(
                    "Mailchimp does not know the audience {list} (HTTP {}); check \
                     integration.mailchimp_list_id",
                    reply.status
                ),
                false,
            ))
        }
        _ => Err(failing(
            format!(
                "Mailchimp does not take {} here",
                call.request.method.name()
            ),
            true,
        )),
    }
}

/// The answer has no body.
fn retagged(item: &Item) -> Verdict {
    Verdict::Delivered {
        remote_id: None,
        remote_key: item.remote_key.clone(),
        member_status: None,
        ticks: item.ticks.clone(),
        met: false,
    }
}

/// The person may have changed their address there: a contact that is known is tried by its id.
fn nobody_to_tag(item: &Item, path: &str) -> Verdict {
    match &item.expected {
        Some(id) if id.as_str() != path => Verdict::Again {
            relink: None,
            batch_cap: Some(1),
            why: "Mailchimp has nobody with tags under the address".to_owned(),
        },
        _ => no_such_member(item, path),
    }
}

/// What was archived: the record itself, or only what it was under an address that has been replaced,
/// so that the record now starts anew.
fn archived(item: &Item) -> Verdict {
    match item.member_status {
        None => Verdict::Removed,
        Some(_) => Verdict::Again {
            relink: Some(Relink::Forget),
            batch_cap: None,
            why: "the previous address is out of the way".to_owned(),
        },
    }
}
