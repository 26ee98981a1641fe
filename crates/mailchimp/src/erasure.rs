//! Erasing at Mailchimp: the request it takes, and what its answer means.

use super::Mailchimp;
use crate::answer::fault::MemberRefusal;
use integration_engine::{
    erasure::{ErasureAnswer, answered, is_confirmed},
    record::Target,
    service::failure::Class,
    wire::{Method, Reply, Request, TransportError},
};

/// Erases a member of an audience. Mailchimp: the address can never be added again by us.
pub fn erase_request(list: &str, hash: &str) -> Request {
    Request {
        target: Target::Mailchimp,
        method: Method::Post,
        path: erase_path(list, hash),
        body: None,
    }
}

pub(super) fn erase_path(list: &str, hash: &str) -> String {
    format!("/lists/{list}/members/{hash}/actions/delete-permanent")
}

/// What an answer to a step means.
pub fn read(reply: Result<&Reply, &TransportError>) -> ErasureAnswer {
    match answered::<Mailchimp>(reply) {
        Err(not) => not,
        Ok((class, reply)) => removed(&class, reply),
    }
}

/// What the answer means. No such member or audience (404), or none that can be erased any more
/// (405), is what was wanted; in Mailchimp's own words, for the path may be wrong.
fn removed(class: &Class, reply: &Reply) -> ErasureAnswer {
    let fault = MemberRefusal::of_body(&reply.body);
    match class {
        Class::Answered if is_confirmed(reply) => ErasureAnswer::Done,
        Class::NotFound if fault.is_readable() => ErasureAnswer::Absent,
        _ if fault.is_forgotten() => ErasureAnswer::Absent,
        _ => ErasureAnswer::Not(format!(
            "Mailchimp refused: {} (HTTP {})",
            fault.quoted(),
            reply.status
        )),
    }
}
