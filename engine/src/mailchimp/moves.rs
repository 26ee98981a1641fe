//! From one audience to another: the member is looked at, archived where it is, and then added
//! where its row says.
//!
//! What a person decided in the audience they leave counts: who unsubscribed there stays where they
//! are, unsubscribed, and is added nowhere else.

use crate::{
    call::{CallKind, Decision, Item, Leaving, Link, MailchimpSettings, OnDelete, Resubscribe},
    outcome::{Category, MemberStatus, Relink, Verdict},
};

use super::{
    audience::audience_of,
    member::{Body, Row},
    plan::{Plan, suppression},
    subscriber_hash,
};

impl Plan<'_> {
    /// The next step of a move; `None`: the member is where it belongs, or in no audience.
    pub(super) fn relocate(&self, row: &Row, link: &Link) -> Result<Option<Decision>, Verdict> {
        let wanted = audience_of(self.map, row, self.settings)?;
        let list = self.list();
        if link.is_nowhere() || (wanted == list && !link.membership.leaving) {
            return Ok(None);
        }
        let email = self.email(row)?;
        self.refuse_rival(&email)?;
        let known = self.known(link, Some(&email));
        let hash = known.path();
        let kind = if link.membership.leaving {
            CallKind::MailchimpLeave { list, hash }
        } else if !self.work.audience_met {
            CallKind::MailchimpMeet { list: wanted }
        } else {
            CallKind::MailchimpLook {
                list,
                hash,
                leaving: match link.is_returning() {
                    true => Leaving::ElsewhereAgain,
                    false => Leaving::Elsewhere,
                },
            }
        };
        let mut item = self.item(known.address, Some(&email), link.member_status, Body::new());
        item.expected.clone_from(&link.remote_id);
        // That it was seen there has to be safe before it is archived: afterwards nobody can tell
        // who archived it.
        item.intent = link.membership.leaving;
        Ok(Some(Decision::Send(kind, item)))
    }

    /// Who is archived because their row is gone is looked at first: Mailchimp forgets with that
    /// whether they had left. `None`: that is known, or has been done.
    pub(super) fn look_before_archiving(&self, link: &Link) -> Option<Decision> {
        let uncertain = matches!(
            link.member_status,
            None | Some(MemberStatus::Subscribed | MemberStatus::Pending)
        );
        let looked = link.membership.leaving || link.is_nowhere();
        if self.settings.on_delete != OnDelete::Archive || !uncertain || looked {
            return None;
        }
        let address = link.remote_key.as_deref()?;
        let kind = CallKind::MailchimpLook {
            list: self.list(),
            hash: self.known(link, None).path(),
            leaving: Leaving::ForGood,
        };
        let mut item = self.item(address, Some(address), link.member_status, Body::new());
        item.expected.clone_from(&link.remote_id);
        Some(Decision::Send(kind, item))
    }

    /// A row that is gone is erased wherever it ever was, if it is to be erased at all.
    pub(super) fn erase_former(&self, link: &Link) -> Option<Decision> {
        if self.settings.on_delete != OnDelete::Permanent {
            return None;
        }
        let present = link.membership.list.as_ref();
        let mut former = link.membership.former.iter();
        let list = former.find(|list| Some(*list) != present)?.clone();
        let address = link.remote_key.as_deref()?;
        let hash = subscriber_hash(address);
        let kind = CallKind::MailchimpErase { list, hash };
        let item = self.item(address, Some(address), None, Body::new());
        Some(Decision::Send(kind, item))
    }
}

/// A step that was taken; also if Mailchimp says that there was nothing to be done.
pub(super) fn done(kind: &CallKind) -> Verdict {
    let (relink, why) = match kind {
        CallKind::MailchimpLeave { list, .. } => (
            Some(Relink::Left {
                list: list.clone(),
                ask: false,
                how: None,
            }),
            format!("archived in the audience {list}; to be added to another one"),
        ),
        CallKind::MailchimpErase { list, .. } => (
            Some(Relink::ErasedIn(list.clone())),
            format!("erased in the audience {list}"),
        ),
        _ => (None, "the audience is there".to_owned()),
    };
    Verdict::Again {
        relink,
        batch_cap: None,
        why,
    }
}

/// What follows for the move from how the member is. `held`: its status; `None`: there is no such
/// member.
///
/// Who is unsubscribed or cleaned is not archived: that would have Mailchimp forget it, and they get
/// no mail as it is.
pub(super) fn seen(
    item: &Item,
    held: Option<&str>,
    look: &Look<'_>,
    status: u16,
    settings: &MailchimpSettings,
) -> Verdict {
    let suppressed = |known| Verdict::Dead {
        category: Category::Consent,
        status: Some(status),
        why: suppression(known).to_owned(),
        member_status: Some(known),
    };
    let again = |relink, why: &str| Verdict::Again {
        relink: Some(relink),
        batch_cap: None,
        why: why.to_owned(),
    };
    let leave = |ask| {
        let why = "looked at; to be archived in its audience";
        again(Relink::Leave { ask }, why)
    };
    let left = |ask, how| {
        let list = look.list.to_owned();
        let relink = Relink::Left { list, ask, how };
        again(relink, "gets no mail from its audience")
    };
    if look.leaving == Leaving::ForGood {
        return match held {
            Some("unsubscribed") => again(
                Relink::Unsubscribed(MemberStatus::UnsubscribedByMember),
                "unsubscribed before the row was deleted",
            ),
            Some("cleaned") => again(
                Relink::Unsubscribed(MemberStatus::Cleaned),
                "cleaned before the row was deleted",
            ),
            Some("archived") | None => Verdict::Removed,
            Some(held) => leave(held != "subscribed"),
        };
    }
    let member = Some(MemberStatus::UnsubscribedByMember);
    match held {
        Some("subscribed") => leave(false),
        Some("archived") if look.leaving == Leaving::ElsewhereAgain => leave(false),
        Some("unsubscribed") => match (item.member_status, settings.resubscribe) {
            // It was the CRM that opted them out, and opts them in anew.
            (Some(MemberStatus::UnsubscribedByCrm), _) => left(false, None),
            (_, Resubscribe::Pending) => left(true, member),
            (_, Resubscribe::Never) => suppressed(MemberStatus::UnsubscribedByMember),
        },
        Some("cleaned") => match item.remote_key.as_deref() == Some(item.name.as_str()) {
            true => suppressed(MemberStatus::Cleaned),
            // An address that bounced says nothing about the next one.
            false => left(false, Some(MemberStatus::Cleaned)),
        },
        // It may never have been created. Who was a member and is not found any more may have been
        // erased, or never confirmed.
        None => leave(item.expected.is_some() || item.member_status.is_some()),
        // Asked and not answered, archived by somebody else, never subscribed.
        Some(_) => leave(true),
    }
}

/// A look at a member.
pub(super) struct Look<'a> {
    pub(super) list: &'a str,
    pub(super) leaving: Leaving,
}
