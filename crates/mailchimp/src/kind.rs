//! The calls that carry records to Mailchimp.

use integration_engine::{
    delivery::call::{Allowance, CallKind},
    record::Timestamp,
};

use crate::BULK_MAX;

/// How records of one kind travel together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MailchimpCall {
    /// `POST /lists/{id}`, at most 500.
    Bulk { list: String },
    /// `PUT /lists/{id}/members/{hash}`: the hash in the path is the old address's.
    Put { list: String, hash: String },
    /// `PATCH /lists/{id}/members/{hash}`.
    Patch { list: String, hash: String },
    /// `POST /lists/{id}/members/{hash}/tags`: gives tags and takes them back.
    Tags { list: String, hash: String },
    /// `DELETE /lists/{id}/members/{hash}`: archive.
    Archive { list: String, hash: String },
    /// `GET /lists/{id}`: is there such an audience? Asked before anybody is moved there.
    Meet { list: String },
    /// `GET /lists/{id}/members/{hash}`: how is the member, who is about to leave this audience?
    Look {
        list: String,
        hash: String,
        leaving: Leaving,
        /// When the CRM opted them out, if that was our last word.
        opted_out: Option<Timestamp>,
    },
    /// `DELETE /lists/{id}/members/{hash}`: archive, because the record moves to another audience.
    Leave { list: String, hash: String },
    /// `DELETE /lists/{id}/members/{hash}`: archive what a call of ours created under an address that
    /// the member had left.
    Discard { list: String, hash: String },
    /// `POST …/actions/delete-permanent` in an audience that the member was archived in.
    Erase { list: String, hash: String },
}

/// Why a member leaves an audience, or an address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaving {
    /// Its row names another one.
    Elsewhere,
    /// As before, but it was coming back here: if it is archived, that was us.
    ElsewhereAgain,
    /// Mail to its address bounced, and its row has another one.
    Bounced,
    /// Its row is gone.
    ForGood,
    /// It has left the address by itself, or is gone: a call of ours created another one there.
    Displaced,
}

impl CallKind for MailchimpCall {
    fn list(&self) -> Option<&str> {
        match self {
            MailchimpCall::Bulk { list }
            | MailchimpCall::Put { list, .. }
            | MailchimpCall::Patch { list, .. }
            | MailchimpCall::Tags { list, .. }
            | MailchimpCall::Archive { list, .. }
            | MailchimpCall::Meet { list }
            | MailchimpCall::Look { list, .. }
            | MailchimpCall::Leave { list, .. }
            | MailchimpCall::Discard { list, .. }
            | MailchimpCall::Erase { list, .. } => Some(list),
        }
    }

    fn allowance(&self) -> Allowance {
        Allowance::General
    }

    fn most(&self) -> usize {
        match self {
            MailchimpCall::Bulk { .. } | MailchimpCall::Meet { .. } => BULK_MAX,
            _ => 1,
        }
    }
}
