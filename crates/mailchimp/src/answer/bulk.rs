//! The answer to a bulk call: members it took, and errors about others.

use std::collections::HashMap;

use serde::Deserialize;

use super::{MemberAnswer, lower_case, returned};
use crate::answer::fault::{MemberRefusal, is_opt_out};
use crate::{Call, member::UNMAILED};
use integration_engine::{
    crypto::subscriber_hash,
    delivery::{
        call::Item,
        outcome::{Relink, Verdict},
        verdicts::no_verdict,
    },
    value::json::Text,
};

#[derive(Deserialize)]
pub(super) struct BulkReply<'a> {
    #[serde(borrow, default)]
    new_members: Option<Vec<MemberAnswer<'a>>>,
    #[serde(borrow, default)]
    updated_members: Option<Vec<MemberAnswer<'a>>>,
    #[serde(borrow, default)]
    errors: Option<Vec<MemberError<'a>>>,
}

#[derive(Deserialize)]
struct MemberError<'a> {
    #[serde(borrow, default)]
    email_address: Text<'a>,
    #[serde(borrow, default)]
    error: Text<'a>,
    #[serde(borrow, default)]
    field: Text<'a>,
    #[serde(borrow, default)]
    field_message: Text<'a>,
}

pub(super) fn bulk(call: &Call, status: u16, body: &BulkReply<'_>) -> Vec<Verdict> {
    let items = &call.items;
    let positions: HashMap<&str, usize> = items
        .iter()
        .enumerate()
        .map(|(at, item)| (item.name.as_str(), at))
        .collect();
    let position = |address: &Text<'_>| positions.get(&*lower_case(address.as_str())).copied();
    // Should it write an address in another way than we do, its hash is the same.
    let by_hash = |id: &str| {
        let same = |item: &Item| subscriber_hash(&item.name) == id;
        items.iter().position(same).filter(|_| !id.is_empty())
    };
    let mut found: Vec<Option<Verdict>> = vec![None; items.len()];
    for (members, created) in [(&body.new_members, true), (&body.updated_members, false)] {
        for member in members.iter().flatten() {
            let at = position(&member.email_address).or_else(|| by_hash(member.id.as_str()));
            if let Some(at) = at {
                let item = &items[at];
                found[at] = Some(match is_displaced(item, member, created) {
                    true => displaced(),
                    false => returned(item, member, status),
                });
            }
        }
    }
    for error in body.errors.iter().flatten() {
        let Some(at) = position(&error.email_address).filter(|at| found[*at].is_none()) else {
            continue;
        };
        let fault = MemberRefusal::of_member(
            error.error.as_str(),
            error.field.as_str(),
            error.field_message.as_str(),
        );
        found[at] = Some(fault.verdict(&items[at], status, items.len() == 1));
    }
    found
        .into_iter()
        .map(|verdict| verdict.unwrap_or_else(|| no_verdict("Mailchimp", items.len(), status)))
        .collect()
}

/// Whether a call meant for a known member created another one: nobody had the address any more. If
/// the answer that said so was lost, it is seen from who is there now.
fn is_displaced(item: &Item, member: &MemberAnswer<'_>, created: bool) -> bool {
    let meant_for_known = item.member_status.is_none() || is_opt_out(item);
    let id = member.contact_id.as_str();
    let another = item
        .expected
        .as_ref()
        .is_some_and(|known| known.as_str() != id);
    let ours = another && !id.is_empty() && member.status.as_str() == UNMAILED;
    meant_for_known && (created || ours)
}

fn displaced() -> Verdict {
    Verdict::Again {
        relink: Some(Relink::Displaced),
        batch_cap: None,
        why: "nobody had this address at Mailchimp any more; the person is looked for by their id"
            .to_owned(),
    }
}
