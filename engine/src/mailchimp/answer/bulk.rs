//! The answer to a bulk call: members it took, and errors about others.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Member, lower_case, returned};
use crate::{
    call::{Call, Item},
    json::Text,
    mailchimp::{fault::Fault, subscriber_hash},
    outcome::Verdict,
    verdicts::no_verdict,
};

#[derive(Deserialize)]
pub(super) struct BulkReply<'a> {
    #[serde(borrow, default)]
    new_members: Option<Vec<Member<'a>>>,
    #[serde(borrow, default)]
    updated_members: Option<Vec<Member<'a>>>,
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
    let members = body
        .new_members
        .iter()
        .chain(&body.updated_members)
        .flatten();
    for member in members {
        let at = position(&member.email_address).or_else(|| by_hash(member.id.as_str()));
        if let Some(at) = at {
            found[at] = Some(returned(&items[at], member, status));
        }
    }
    for error in body.errors.iter().flatten() {
        let Some(at) = position(&error.email_address).filter(|at| found[*at].is_none()) else {
            continue;
        };
        let fault = Fault::of_member(
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
