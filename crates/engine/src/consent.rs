//! What of consent concerns more than one service: who decided on it, what is remembered of an
//! address, in which audience a member is, and what was reported.

pub mod membership;
pub mod place;
mod reported;
pub mod shared;
pub mod standing;

pub use reported::ReportedConsent;

use crate::record::consent::MemberStatus;

/// Who decided on a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    Crm,
    /// HubSpot, through the CRM's column.
    HubSpot,
    Mailchimp,
    Mandrill,
}

impl Party {
    pub fn from_name(name: &str) -> Option<Party> {
        let all = [
            Party::Crm,
            Party::HubSpot,
            Party::Mailchimp,
            Party::Mandrill,
        ];
        all.into_iter().find(|party| party.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Party::Crm => "crm",
            Party::HubSpot => "hubspot",
            Party::Mailchimp => "mailchimp",
            Party::Mandrill => "mandrill",
        }
    }
}

/// Who decided on the status that a member has after a write of ours. We ask for an opt-in or an
/// opt-out; that an address is dead, that a person was removed, or that somebody who had been asked
/// said yes is news of Mailchimp's.
pub fn decided_by(before: Option<MemberStatus>, after: MemberStatus) -> Party {
    match (before, after) {
        (_, MemberStatus::Cleaned | MemberStatus::Archived | MemberStatus::Forgotten)
        | (Some(MemberStatus::Pending), MemberStatus::Subscribed) => Party::Mailchimp,
        _ => Party::Crm,
    }
}

#[cfg(test)]
mod tests;
