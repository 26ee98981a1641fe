//! What is stored of a member before a call leaves whose answer may get lost.

use integration_engine::{
    delivery::call::{CallKind, Item, Link},
    record::consent::MemberStatus,
    sync::clock::{Tick, ValueHash},
};

use crate::MailchimpCall;

/// What is stored of a record before a call leaves whose answer may get lost.
fn noted(known: Option<&Link>, item: &Item, kind: &MailchimpCall) -> Link {
    let address = item.remote_key.as_deref();
    match (known, kind) {
        // Once archived, somebody who left by themselves before the CRM opted them out could be
        // subscribed by a call that Mailchimp refuses as yet.
        (Some(link), MailchimpCall::Archive { .. })
            if link.member_status == Some(MemberStatus::UnsubscribedByCrm) =>
        {
            link.clone().leave(true)
        }
        // Stored already; it only has to be safe.
        (Some(link), MailchimpCall::Leave { .. } | MailchimpCall::Archive { .. }) => link.clone(),
        (Some(link), _) if !link.is_nowhere() => link.uncertain(address).asked(item.leaver),
        (known, _) => {
            let link = Link {
                remote_key: item.remote_key.clone(),
                ..known.cloned().unwrap_or_default()
            };
            match kind.list() {
                Some(list) => link.arrive(address, list).asked(item.leaver),
                None => link,
            }
        }
    }
}

/// What has to be stored of a record before a call leaves, if anything: that it may be made, and
/// what the member may have of us from then on.
pub(crate) fn to_note(known: Option<&Link>, item: &Item, kind: &MailchimpCall) -> Option<Link> {
    let mut link = match (item.intent, item.beside.note) {
        (true, _) => noted(known, item, kind),
        (false, true) => known.cloned().unwrap_or_default(),
        (false, false) => return None,
    };
    if let Some(given) = item.beside.given.as_ref().filter(|_| item.beside.note) {
        let before = known.map(|link| link.membership.given.clone());
        link.membership.given = before.unwrap_or_default().with(given);
        for tick in &item.ticks {
            let hash = ValueHash::UNCERTAIN;
            link.clock.set(Tick { hash, ..*tick });
        }
    }
    Some(link)
}
