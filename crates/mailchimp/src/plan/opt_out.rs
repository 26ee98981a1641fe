//! Nobody gets mail any more: who is opted out, and who left whatever the CRM says.

use crate::{Decision, MailchimpCall, consent::ConsentAction};
use integration_engine::{
    consent::standing::{self, Standing},
    delivery::{
        call::{Leaver, Link},
        outcome::{Category, Verdict},
        verdicts::dead,
    },
    record::consent::MemberStatus,
    sync::clock::{Tick, ValueHash},
    value::json::push_member,
};

use crate::{
    EMAIL_ADDRESS, STATUS,
    member::{MemberBody, Row, STATUS_IF_NEW, UNMAILED, status_text},
    plan::MemberPlan,
};

impl MemberPlan<'_> {
    /// Whom the CRM opted out in a call whose answer nobody heard: if it opts them in again, that is
    /// as if the call had been carried out.
    pub(crate) fn perhaps_opted_out(&self, link: &Link) -> Option<Link> {
        let (_, field) = self.map.field_named(STATUS)?;
        let unsure = link.clock.is_doubtful(field.id);
        let subscribed = link.member_status == Some(MemberStatus::Subscribed);
        let standing = self.work.standing.as_ref();
        let left = standing.is_some_and(Standing::has_left);
        (unsure && subscribed && !left).then(|| Link {
            member_status: Some(MemberStatus::UnsubscribedByCrm),
            ..link.clone()
        })
    }

    /// What the call is to somebody who had left, and whom the CRM opts in.
    pub(crate) fn leaver(&self, action: ConsentAction) -> Leaver {
        let left = |status: Option<MemberStatus>| status.is_some_and(standing::left);
        let link = self.work.link.as_ref().and_then(|link| link.member_status);
        let remembered = self.work.standing.map(|standing| standing.status);
        match action {
            ConsentAction::SetStatus(MemberStatus::Pending) if left(link) || left(remembered) => {
                Leaver::Asked
            }
            action if leaves(action) => Leaver::Unheeded,
            _ => Leaver::No,
        }
    }

    pub(crate) fn opt_out(&self, row: &Row, link: &Link, status: MemberStatus) -> Decision {
        let email = self.email(row).ok();
        let known = self.known(link, email.as_deref());
        let moved = email.as_deref().is_some_and(|email| email != known.address);
        let displaced = link.membership.stray.is_some();
        let certain = link.remote_key.as_deref() == Some(known.address) && !moved && !displaced;
        if !certain || (self.is_alone() && known.contact.is_some()) {
            return self.opt_out_if_there(row, link, status);
        }
        let body = self.unsubscription(Some(known.address), status);
        let mut item = self.item(known.address, Some(known.address), Some(status), body);
        item.expected = known.contact.cloned();
        Decision::Send(self.bulk(), item)
    }

    /// Never creates a member, and tells whether there is one.
    pub(crate) fn opt_out_if_there(
        &self,
        row: &Row,
        link: &Link,
        status: MemberStatus,
    ) -> Decision {
        let email = self.email(row).ok();
        let known = self.known(link, email.as_deref());
        if known.address.is_empty() {
            // Neither side has an address: nothing was ever sent.
            return Decision::Settled(Verdict::NoConsent);
        }
        let mut body = self.unsubscription(None, status);
        body.more = link.membership.stray.is_some();
        let kind = MailchimpCall::Patch {
            list: self.list(),
            hash: known.path(),
        };
        let present = email.as_deref().unwrap_or(known.address);
        Decision::Send(
            kind,
            self.item(known.address, Some(present), Some(status), body),
        )
    }

    /// The body of an opt-out. `address`: where the path does not say whose it is.
    fn unsubscription(&self, address: Option<&str>, status: MemberStatus) -> MemberBody {
        let mut json = String::from("{");
        if let Some(address) = address {
            push_member(&mut json, EMAIL_ADDRESS, address);
        }
        push_member(&mut json, STATUS, "unsubscribed");
        if address.is_some() {
            // A bulk call creates whom it does not find.
            push_member(&mut json, STATUS_IF_NEW, UNMAILED);
        }
        let body = MemberBody {
            json,
            ticks: self.status_tick(status).into_iter().collect(),
            ..MemberBody::new()
        };
        body.close()
    }

    /// That this status was set for what the CRM says. News of Mailchimp's from before that is older.
    pub(crate) fn status_tick(&self, status: MemberStatus) -> Option<Tick> {
        let (_, field) = self.map.field_named(STATUS)?;
        Some(self.tick(field, ValueHash::of(Some(status_text(status)))))
    }

    /// As above, where nobody knows what became of the status that was sent last: an answer tells how
    /// the member is.
    pub(crate) fn settled_status(&self, link: Option<&Link>, status: MemberStatus) -> Option<Tick> {
        let (_, field) = self.map.field_named(STATUS)?;
        let doubtful = link.is_some_and(|link| link.clock.is_doubtful(field.id));
        self.status_tick(status).filter(|_| doubtful)
    }

    /// Opted in, and another row with the address is opted out.
    pub(crate) fn objected(&self) -> Verdict {
        let other = self.work.objection.as_deref().unwrap_or("another one");
        dead(
            Category::Conflict,
            format!(
                "record {other}, which has the same e-mail address as record {} of {}, or had it before, is \
                 opted out, and so nobody with this address is mailed; opt both of them in, or \
                 correct the address of one, and opt this one out and in again",
                self.work.key.as_str(),
                self.map.name
            ),
        )
    }

    pub(crate) fn suppressed(&self, status: MemberStatus) -> Result<Decision, Verdict> {
        let standing = self.work.standing.as_ref();
        let asked = standing.is_some_and(|standing| standing.has_left() && standing.asked);
        let why = match (status, asked) {
            (MemberStatus::UnsubscribedByMember, true) => ASKED,
            _ => suppression(status),
        };
        Err(Verdict::Dead {
            category: Category::Consent,
            status: None,
            why: why.to_owned(),
            member_status: Some(status),
        })
    }
}

/// Whether somebody who left gets no mail from here on.
pub(crate) const fn leaves(action: ConsentAction) -> bool {
    matches!(
        action,
        ConsentAction::Suppressed(_)
            | ConsentAction::Unsubscribe(_)
            | ConsentAction::UnsubscribeIfThere(_)
    )
}

const ASKED: &str = "this person unsubscribed, and was asked once whether they want to come back; the opt-in \
     in the CRM has no effect until they sign up by themselves";

/// Why nobody but the person can change it.
pub(crate) const fn suppression(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Cleaned => {
            "this address is no longer mailed because mail to it bounced; enter another one"
        }
        MemberStatus::Forgotten => {
            "this person was permanently deleted at Mailchimp; only a sign-up form of Mailchimp's \
             own brings them back"
        }
        _ => {
            "this person unsubscribed by themselves, so the opt-in in the CRM has no effect; they \
             can sign up again by themselves, or be asked if integration.mailchimp_resubscribe is \
             'pending'"
        }
    }
}
