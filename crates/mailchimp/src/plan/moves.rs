//! From one audience to another: the member is looked at, archived where it is, and then added
//! where its row says.
//!
//! What a person decided in the audience they leave counts: who unsubscribed there stays where they
//! are, unsubscribed, and is added nowhere else.

use crate::{
    Decision, Leaving, MailchimpCall, MailchimpSettings, OnDelete, Resubscribe,
    consent::ConsentAction,
};
use integration_engine::{
    crypto::subscriber_hash,
    delivery::{
        call::{Item, Link},
        outcome::{Category, Relink, Verdict},
    },
    record::consent::MemberStatus,
    sync::clock::{ValueHash, Writer},
};

use crate::plan::displaced;
use crate::plan::opt_out::{leaves, suppression};
use crate::{
    STATUS,
    audience::audience_of,
    member::{MemberBody, Row, status_text},
    plan::MemberPlan,
};

impl MemberPlan<'_> {
    /// The next step of a move; `None`: the member is where it belongs, or in no audience.
    pub(crate) fn relocate(
        &self,
        row: &Row,
        link: &Link,
        action: ConsentAction,
    ) -> Result<Option<Decision>, Verdict> {
        let bounced = action == ConsentAction::Suppressed(MemberStatus::Cleaned)
            && link.member_status == Some(MemberStatus::Cleaned);
        if link.is_nowhere() || (leaves(action) && !bounced) {
            return Ok(None);
        }
        let wanted = audience_of(self.map, row, self.settings)?;
        let list = self.list();
        let email = self.email(row)?;
        let known = self.known(link, Some(&email));
        let readdressed = known.address != email;
        // A create under the old address may have happened.
        let unborn = matches!(action, ConsentAction::Subscribe(_));
        let replaced = readdressed && (bounced || unborn || asks_anew(action, link));
        let stays = bounced || wanted == list;
        if stays && !replaced && !link.membership.leaving {
            return Ok(None);
        }
        self.refuse_rival(&email)?;
        let hash = known.path();
        let kind = if link.membership.leaving {
            match readdressed && wanted == list {
                true => MailchimpCall::Archive { list, hash },
                false => MailchimpCall::Leave { list, hash },
            }
        } else if !stays && !self.work.audience_met {
            MailchimpCall::Meet { list: wanted }
        } else {
            let leaving = match link.is_returning() {
                _ if bounced => Leaving::Bounced,
                true => Leaving::ElsewhereAgain,
                false => Leaving::Elsewhere,
            };
            self.look(link, hash, leaving)
        };
        // Who is looked for under the present address as well, if not found under the old one.
        let other = match replaced {
            true => known.address,
            false => &email,
        };
        let mut item = self.item(
            known.address,
            Some(other),
            link.member_status,
            MemberBody::new(),
        );
        item.expected.clone_from(&link.remote_id);
        if matches!(kind, MailchimpCall::Archive { .. }) {
            // The record goes on under the new address.
            item.member_status = Some(MemberStatus::Archived);
        }
        // That it was seen there has to be safe before it is archived: afterwards nobody can tell
        // who archived it.
        item.intent = link.membership.leaving;
        Ok(Some(Decision::Send(kind, item)))
    }

    fn look(&self, link: &Link, hash: String, leaving: Leaving) -> MailchimpCall {
        let status = self.map.field_named(STATUS);
        let tick = status.and_then(|(_, field)| link.clock.get(field.id));
        let out = ValueHash::of(Some(status_text(MemberStatus::UnsubscribedByCrm)));
        let opted_out = tick.filter(|tick| tick.by == Writer::Crm && tick.hash == out);
        MailchimpCall::Look {
            list: self.list(),
            hash,
            leaving,
            opted_out: opted_out.map(|tick| tick.at),
        }
    }

    /// Who is archived because their row is gone is looked at first: Mailchimp forgets with that
    /// whether they had left. `None`: that is known, or has been done.
    pub(crate) fn look_before_archiving(&self, link: &Link) -> Option<Decision> {
        let uncertain = matches!(
            link.member_status,
            None | Some(MemberStatus::Subscribed | MemberStatus::Pending)
        );
        let looked = link.membership.leaving || link.is_nowhere();
        if self.settings.on_delete != OnDelete::Archive || !uncertain || looked {
            return None;
        }
        let address = link.remote_key.as_deref()?;
        let kind = self.look(link, self.known(link, None).path(), Leaving::ForGood);
        let mut item = self.item(
            address,
            Some(address),
            link.member_status,
            MemberBody::new(),
        );
        item.expected.clone_from(&link.remote_id);
        Some(Decision::Send(kind, item))
    }

    /// A row that is gone is erased wherever it ever was, if it is to be erased at all.
    pub(crate) fn erase_former(&self, link: &Link) -> Option<Decision> {
        if self.settings.on_delete != OnDelete::Permanent {
            return None;
        }
        let present = link.membership.list.as_ref();
        let mut former = link.membership.former.iter();
        let list = former.find(|list| Some(*list) != present)?.clone();
        let address = link.remote_key.as_deref()?;
        let hash = subscriber_hash(address);
        let kind = MailchimpCall::Erase { list, hash };
        let item = self.item(address, Some(address), None, MemberBody::new());
        Some(Decision::Send(kind, item))
    }
}

/// A step that was taken; also if Mailchimp says that there was nothing to be done.
pub(crate) fn done(kind: &MailchimpCall) -> Verdict {
    let (relink, why) = match kind {
        MailchimpCall::Leave { list, .. } => (
            Some(Relink::Left {
                list: list.clone(),
                ask: false,
                how: None,
            }),
            format!("archived in the audience {list}; to be added to another one"),
        ),
        MailchimpCall::Erase { list, .. } => (
            Some(Relink::ErasedIn(list.clone())),
            format!("erased in the audience {list}"),
        ),
        MailchimpCall::Discard { .. } => (
            Some(Relink::Discarded),
            "what was created under the address they had left is archived".to_owned(),
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
pub(crate) fn seen(
    item: &Item,
    held: Option<&str>,
    look: &MemberLook<'_>,
    status: u16,
    settings: &MailchimpSettings,
) -> Verdict {
    if let (Some(held), Some(address)) = (held, look.address)
        && address != item.name
        && Some(address) != item.remote_key.as_deref()
    {
        let status = displaced::status_held(held, item.member_status);
        return displaced::found(address, status, Vec::new());
    }
    match (look.leaving, held) {
        // Under the address after all, or by no name.
        (Leaving::Displaced, Some(_)) => {
            again(Relink::Discarded, "the member is under the address")
        }
        (Leaving::Displaced, None) => displaced::gone_by_any_name(),
        (Leaving::ForGood, held) => seen_for_good(item, held),
        (_, held) => seen_on_the_way(item, held, look, status, settings),
    }
}

fn again(relink: Relink, why: &str) -> Verdict {
    Verdict::Again {
        relink: Some(relink),
        batch_cap: None,
        why: why.to_owned(),
    }
}

fn leave(ask: bool) -> Verdict {
    let why = "looked at; to be archived in its audience";
    again(Relink::Leave { ask }, why)
}

/// As above, where the row was deleted.
fn seen_for_good(item: &Item, held: Option<&str>) -> Verdict {
    let gone = |how, why: &str| {
        let ticks = Vec::new();
        again(Relink::Unsubscribed { how, ticks }, why)
    };
    match held {
        Some("unsubscribed") => gone(
            MemberStatus::UnsubscribedByMember,
            "unsubscribed before the row was deleted",
        ),
        Some("cleaned") => gone(MemberStatus::Cleaned, "cleaned before the row was deleted"),
        Some("archived") => Verdict::Removed,
        // Removed there before, or never created.
        None if item.expected.is_some() || item.member_status.is_some() => {
            displaced::gone_by_any_name()
        }
        None => Verdict::Removed,
        Some(held) => leave(held != "subscribed"),
    }
}

/// As above, where the record moves to another audience, or has another address.
///
/// Who is unsubscribed or cleaned is not archived: that would have Mailchimp forget it, and they get
/// no mail as it is.
fn seen_on_the_way(
    item: &Item,
    held: Option<&str>,
    look: &MemberLook<'_>,
    status: u16,
    settings: &MailchimpSettings,
) -> Verdict {
    let suppressed = |known| Verdict::Dead {
        category: Category::Consent,
        status: Some(status),
        why: suppression(known).to_owned(),
        member_status: Some(known),
    };
    let left = |ask, how| {
        let list = look.list.to_owned();
        let relink = Relink::Left { list, ask, how };
        again(relink, "gets no mail from its audience")
    };
    let member = Some(MemberStatus::UnsubscribedByMember);
    let bounced = look.leaving == Leaving::Bounced;
    let forget = || again(Relink::Forget, "the address that bounced was replaced");
    match held {
        Some("cleaned" | "archived") | None if bounced => forget(),
        Some("unsubscribed") if bounced && look.opted_out && !look.came_since => forget(),
        // Back under the address that bounced: at the new one they are asked.
        Some("subscribed") if bounced => leave(true),
        Some("subscribed") => leave(false),
        Some("archived") if look.leaving == Leaving::ElsewhereAgain => leave(false),
        Some("unsubscribed") => match (item.member_status, settings.resubscribe) {
            // It was the CRM that opted them out, and opts them in anew.
            (Some(MemberStatus::UnsubscribedByCrm), _) if !look.came_since => left(false, None),
            (_, Resubscribe::Pending) => left(true, member),
            (_, Resubscribe::Never) => suppressed(MemberStatus::UnsubscribedByMember),
        },
        Some("cleaned") => match item.remote_key.as_deref() == look.address.or(Some(&item.name)) {
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
pub(crate) struct MemberLook<'a> {
    pub(crate) list: &'a str,
    pub(crate) leaving: Leaving,
    /// The address that they have there.
    pub(crate) address: Option<&'a str>,
    /// The CRM opted them out.
    pub(crate) opted_out: bool,
    /// They came by themselves after the CRM had opted them out, so they have left by themselves.
    pub(crate) came_since: bool,
}

/// Whether the member, who may be subscribed under one address, is to be asked under another one:
/// its owner had left. An answer to that would not tell whether they leave the first one.
fn asks_anew(action: ConsentAction, link: &Link) -> bool {
    let gets_mail = matches!(
        link.member_status,
        Some(MemberStatus::Subscribed | MemberStatus::Pending)
    );
    gets_mail && action == ConsentAction::SetStatus(MemberStatus::Pending)
}
