//! Consent: what the CRM's column says about it, and what may therefore be done at Mailchimp.
//!
//! Two rules outrank everything else: nobody is subscribed without an opt-in in the CRM, and nobody
//! who left at Mailchimp is subscribed again; at most they are asked (`pending`).

pub(crate) mod identity;

use integration_engine::{
    consent::standing::Standing,
    delivery::call::Link,
    record::consent::{Consent, MemberStatus},
};

use crate::settings::{MailchimpSettings, Resubscribe};

/// What is known of the person that the CRM's column speaks of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Person<'a> {
    pub link: Option<&'a Link>,
    pub standing: Option<&'a Standing>,
    /// The CRM has another address for them than Mailchimp.
    pub readdressed: bool,
}

impl Person<'_> {
    /// What is known of the member once it is unsubscribed for what is remembered of the CRM's
    /// address: that mail to that one bounced says nothing about the one the member has.
    pub(crate) const fn says_of_member(&self, status: MemberStatus) -> MemberStatus {
        match status {
            MemberStatus::Cleaned | MemberStatus::Forgotten if self.readdressed => {
                MemberStatus::UnsubscribedByCrm
            }
            status => status,
        }
    }
}

/// What is to be done about a record that has a row and an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConsentAction {
    /// Not known to be a member: upsert with this as `status_if_new`, so that a member who is
    /// there after all keeps their own status.
    Subscribe(MemberStatus),
    /// Known to be subscribed or asked: send changed fields.
    Update,
    /// Set this status on the member explicitly.
    SetStatus(MemberStatus),
    /// Known to be subscribed or asked, and no longer opted in, or opted in although they left. This
    /// is what is known afterwards.
    Unsubscribe(MemberStatus),
    /// May or may not be a member: unsubscribe, and if there is no such member, all is well. This
    /// is what is known afterwards.
    UnsubscribeIfThere(MemberStatus),
    /// Send nothing.
    NoConsent,
    /// Opted in according to the CRM, but left at Mailchimp in this way: only the person can
    /// change that.
    Suppressed(MemberStatus),
}

/// The state machine. Every triple of consent, link and what is remembered of the address has its
/// one answer.
pub(crate) fn decide(
    consent: Consent,
    person: Person<'_>,
    settings: &MailchimpSettings,
) -> ConsentAction {
    match consent {
        Consent::OptedIn => opted_in(person, settings),
        Consent::OptedOut | Consent::Unknown => not_opted_in(person, settings),
    }
}

fn opted_in(person: Person<'_>, settings: &MailchimpSettings) -> ConsentAction {
    let Person { link, standing, .. } = person;
    if let Some(status) = who_left(person) {
        let asked = standing.is_some_and(|standing| standing.has_left() && standing.asked);
        return left(status, asked, person, settings);
    }
    let ask = settings.double_opt_in || link.is_some_and(|link| link.membership.ask);
    let wanted = match ask {
        true => MemberStatus::Pending,
        false => MemberStatus::Subscribed,
    };
    let Some(link) = link else {
        return ConsentAction::Subscribe(wanted);
    };
    let archived = link.is_returning() || standing.is_some_and(|standing| standing.archived);
    match link.member_status {
        // A create may have happened; repeating it changes no status.
        None if link.remote_id.is_none() => ConsentAction::Subscribe(wanted),
        // Archived by us, when they were subscribed: the record moved to another audience, or the
        // row was deleted.
        None if archived => ConsentAction::SetStatus(wanted),
        Some(MemberStatus::Subscribed | MemberStatus::Pending) => ConsentAction::Update,
        Some(MemberStatus::UnsubscribedByCrm) => ConsentAction::SetStatus(wanted),
        // A member who is neither subscribed nor opted out (archived, transactional), or whose
        // state is uncertain: asking is right whatever it was. Who left was dealt with above.
        None
        | Some(
            MemberStatus::Archived
            | MemberStatus::UnsubscribedByMember
            | MemberStatus::Cleaned
            | MemberStatus::Forgotten,
        ) => ConsentAction::SetStatus(MemberStatus::Pending),
    }
}

/// How the person left, as far as the link knows, or as it is remembered of the address. Who has
/// been asked and not answered yet gets no mail, and may answer; at the address where they were asked.
fn who_left(person: Person<'_>) -> Option<MemberStatus> {
    let remembered = || {
        let standing = person.standing.filter(|standing| standing.has_left());
        standing.map(|standing| standing.status)
    };
    match person.link.and_then(|link| link.member_status) {
        Some(
            status @ (MemberStatus::UnsubscribedByMember
            | MemberStatus::Cleaned
            | MemberStatus::Forgotten),
        ) => Some(status),
        Some(MemberStatus::Pending) if !person.readdressed => None,
        _ => remembered(),
    }
}

/// Opted in by the CRM, though the person left: asked once, if that is allowed.
fn left(
    status: MemberStatus,
    asked: bool,
    person: Person<'_>,
    settings: &MailchimpSettings,
) -> ConsentAction {
    let link = person.link;
    let may_be_asked = !asked || link.is_some_and(Link::is_being_asked);
    if status == MemberStatus::UnsubscribedByMember
        && settings.resubscribe == Resubscribe::Pending
        && may_be_asked
    {
        return ConsentAction::SetStatus(MemberStatus::Pending);
    }
    match link {
        Some(Link {
            member_status: Some(MemberStatus::Subscribed | MemberStatus::Pending),
            ..
        }) => ConsentAction::Unsubscribe(person.says_of_member(status)),
        Some(link) if link.member_status.is_none() && !link.is_nowhere() => {
            ConsentAction::UnsubscribeIfThere(person.says_of_member(status))
        }
        _ => ConsentAction::Suppressed(status),
    }
}

fn not_opted_in(person: Person<'_>, settings: &MailchimpSettings) -> ConsentAction {
    let Some(link) = person.link else {
        return ConsentAction::NoConsent;
    };
    let remembered = person.standing.filter(|standing| standing.has_left());
    let remembered = remembered.map(|standing| person.says_of_member(standing.status));
    let own = remembered.unwrap_or(MemberStatus::UnsubscribedByCrm);
    // Without double opt-in only those are asked who had left before. They have not confirmed, so
    // an opt-in in the CRM must not bring them back unasked.
    let asked = match settings.double_opt_in {
        true => own,
        false => remembered.unwrap_or(MemberStatus::UnsubscribedByMember),
    };
    match link.member_status {
        None if link.is_nowhere() => ConsentAction::NoConsent,
        None if link.remote_id.is_none() => ConsentAction::UnsubscribeIfThere(own),
        None => ConsentAction::UnsubscribeIfThere(asked),
        Some(MemberStatus::Subscribed) => ConsentAction::Unsubscribe(own),
        Some(MemberStatus::Pending) => ConsentAction::Unsubscribe(asked),
        Some(
            MemberStatus::UnsubscribedByCrm
            | MemberStatus::UnsubscribedByMember
            | MemberStatus::Cleaned
            | MemberStatus::Forgotten
            | MemberStatus::Archived,
        ) => ConsentAction::NoConsent,
    }
}

#[cfg(test)]
mod tests;
