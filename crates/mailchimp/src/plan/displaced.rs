//! A member that has left its address without our knowing: a bulk call, which goes by addresses,
//! creates another one there, who gets no mail ([`UNMAILED`]).
//!
//! Ours is looked for by its id, which outlasts every address; the CRM is told of the address it has
//! now; and what was created is archived. Whoever is found by no id was removed.
//!
//! [`UNMAILED`]: crate::member::UNMAILED

use serde_json::json;

use crate::{Decision, Leaving, MailchimpCall, consent::ConsentAction, webhook::MailchimpSubject};
use integration_engine::{
    crypto::subscriber_hash,
    delivery::{
        call::Link,
        outcome::{Relink, Verdict},
    },
    record::{Timestamp, consent::MemberStatus},
    sync::clock::Tick,
    value::time,
    webhook::Event,
};

use crate::{member::MemberBody, plan::MemberPlan, webhook};

impl MemberPlan<'_> {
    /// The next step towards a member that has left its address; `None`: it has not.
    ///
    /// What was created is archived only once the link has left the address: news of that would be
    /// taken for news of the person.
    pub(crate) fn displaced(&self, link: &Link) -> Option<Decision> {
        let stray = link.membership.stray.as_deref()?;
        let followed = link.remote_key.as_deref() != Some(stray);
        let known = self.known(link, None);
        let gone = matches!(
            link.member_status,
            Some(
                MemberStatus::UnsubscribedByMember
                    | MemberStatus::Cleaned
                    | MemberStatus::Forgotten
                    | MemberStatus::Archived
            )
        );
        let list = self.list();
        let (kind, name) = match known.contact {
            _ if followed || gone => {
                let hash = subscriber_hash(stray);
                (MailchimpCall::Discard { list, hash }, stray)
            }
            Some(contact) => {
                let hash = contact.as_str().to_owned();
                let look = MailchimpCall::Look {
                    list,
                    hash,
                    leaving: Leaving::Displaced,
                    opted_out: None,
                };
                (look, stray)
            }
            None => return Some(Decision::Settled(gone_by_any_name())),
        };
        let item = self.item(name, Some(name), link.member_status, MemberBody::new());
        Some(Decision::Send(kind, item))
    }

    /// As above, unless the person is to be opted out, which goes first. Whoever has no id cannot
    /// be.
    pub(crate) fn displaced_unless_leaving(
        &self,
        link: &Link,
        action: ConsentAction,
    ) -> Option<Decision> {
        let leaves = matches!(
            action,
            ConsentAction::Unsubscribe(_) | ConsentAction::UnsubscribeIfThere(_)
        );
        let first = leaves && self.known(link, None).contact.is_some();
        match first {
            true => None,
            false => self.displaced(link),
        }
    }
}

/// Nobody is known by the member's id, nor by another name of it.
pub(crate) fn gone_by_any_name() -> Verdict {
    Verdict::Again {
        relink: Some(Relink::Gone),
        batch_cap: None,
        why: "Mailchimp no longer has this member".to_owned(),
    }
}

/// The member was met under an address that nobody knew of.
pub(crate) fn found(address: &str, status: MemberStatus, ticks: Vec<Tick>) -> Verdict {
    Verdict::Again {
        relink: Some(Relink::Found {
            address: address.to_owned(),
            status,
            ticks,
        }),
        batch_cap: Some(1),
        why: "the person has another address at Mailchimp, which the CRM is told first".to_owned(),
    }
}

/// What Mailchimp's `upemail` event would have told. `change`: when what led to it was changed, so
/// that it is one event however often it is found out.
pub fn address_change(
    list: &str,
    old: &str,
    new: &str,
    change: Timestamp,
    found_at: Timestamp,
) -> Event<MailchimpSubject> {
    let fired_at = time::iso(found_at.0).unwrap_or_default();
    let payload = json!({
        "type": "upemail",
        "fired_at": fired_at,
        "seen_in": "member",
        "data": {"list_id": list, "old_email": old, "new_email": new},
    });
    Event {
        event_key: format!("found:upemail:{list}:{old}:{new}:{}", change.0),
        kind: "upemail".to_owned(),
        occurred_at: found_at,
        subject: webhook::replay(&payload),
        payload,
        flaw: None,
    }
}

/// What a look says. `known`: as the member was known to be.
pub(crate) fn status_held(held: &str, known: Option<MemberStatus>) -> MemberStatus {
    match (held, known) {
        ("subscribed", _) => MemberStatus::Subscribed,
        ("pending", _) => MemberStatus::Pending,
        ("unsubscribed", Some(MemberStatus::UnsubscribedByCrm)) => MemberStatus::UnsubscribedByCrm,
        ("unsubscribed", _) => MemberStatus::UnsubscribedByMember,
        ("cleaned", _) => MemberStatus::Cleaned,
        _ => MemberStatus::Archived,
    }
}
