//! What is remembered of an address at Mailchimp, beyond the life of CRM rows and their links.
//!
//! A row can be deleted and come back, under another key or from an old file; Mailchimp forgets who
//! left when a member is archived, and tells nobody about those it has no row for. So who left, how
//! and when is kept by the address itself (as a hash) and asked before anybody is added.

use crate::{
    consent::{Party, decided_by},
    crypto::subscriber_hash,
    delivery::{
        call::Link,
        outcome::{Relink, Verdict},
    },
    record::{RemoteId, Timestamp, consent::MemberStatus},
};

/// What is remembered of an address in one audience, or in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How they left: unsubscribed by themselves, cleaned or forgotten. `Subscribed`: they did not,
    /// or have come back by themselves since.
    pub status: MemberStatus,
    pub by: Party,
    /// When that was decided; `None`: of no known time, older than anything.
    pub at: Option<Timestamp>,
    /// They have been asked whether they want to come back; nobody is asked twice.
    pub asked: bool,
    /// They were subscribed when we archived them because their row was deleted.
    pub archived: bool,
}

/// The audience of what concerns all of them.
pub const EVERYWHERE: &str = "";

/// Something to be remembered of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// They left in this way.
    Left {
        status: MemberStatus,
        by: Party,
        at: Timestamp,
        /// They had been asked, and were opted out before they answered.
        asked: bool,
    },
    /// They came by themselves: a form, or the answer to our question.
    SignedUp { at: Timestamp },
    /// We archived them when they were subscribed.
    Archived,
    /// They are about to be asked whether they want to come back.
    Asked,
    /// They are a member again.
    Back,
}

/// News of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// [`EVERYWHERE`]: of all audiences.
    pub list: String,
    /// Lower case.
    pub address: String,
    pub news: News,
}

/// Ways of having left that a new row must not undo. An opt-out of the CRM's own is not among them:
/// the CRM may take it back.
pub const fn left(status: MemberStatus) -> bool {
    matches!(
        status,
        MemberStatus::UnsubscribedByMember | MemberStatus::Cleaned | MemberStatus::Forgotten
    )
}

impl Standing {
    pub const fn has_left(&self) -> bool {
        left(self.status)
    }

    /// What is remembered once there is this news; `None`: nothing. Of two decisions the later one
    /// counts, of two in the same moment the one to leave.
    #[must_use]
    pub fn after(known: Option<Standing>, news: News) -> Option<Standing> {
        let subscribed = |at, archived| Standing {
            status: MemberStatus::Subscribed,
            by: Party::Mailchimp,
            at,
            asked: false,
            archived,
        };
        match (news, known) {
            (News::Left { at, .. }, Some(known)) if known.at > Some(at) => Some(known),
            (
                News::Left {
                    status,
                    by,
                    at,
                    asked,
                },
                known,
            ) => Some(Standing {
                status,
                by,
                at: Some(at),
                // As long as they have not come back, it is the same departure, told once more.
                asked: asked || known.is_some_and(|known| known.has_left() && known.asked),
                archived: false,
            }),
            (News::SignedUp { at }, Some(known)) if known.at >= Some(at) => Some(known),
            (News::SignedUp { at }, _) => Some(subscribed(Some(at), false)),
            (News::Archived, Some(known)) => Some(Standing {
                archived: !known.has_left(),
                ..known
            }),
            (News::Archived, None) => Some(subscribed(None, true)),
            (News::Asked, known) => known.map(|known| Standing {
                asked: known.has_left(),
                ..known
            }),
            (News::Back, known) => {
                let known = known.map(|known| Standing {
                    archived: false,
                    ..known
                });
                known.filter(|known| known.has_left() || known.at.is_some())
            }
        }
    }
}

/// What counts for a member of an audience, of all that is remembered of an address. `link`: the
/// record's, whose former audiences count as well, unless it is on its way from one of them: that
/// has been looked at there.
pub fn weigh<'s>(
    remembered: impl Iterator<Item = (&'s str, Standing)>,
    list: &str,
    link: Option<&Link>,
) -> Option<Standing> {
    let (mut away, mut here) = (None::<Standing>, None);
    for (of, standing) in remembered {
        let counts = of == EVERYWHERE
            || of == list
            || link.is_some_and(|link| !link.is_nowhere() && link.membership.was_in(of));
        if standing.has_left() && counts {
            let asked = standing.asked || away.is_some_and(|away| away.asked);
            away = match away {
                Some(known) if known.at > standing.at => Some(Standing { asked, ..known }),
                _ => Some(Standing { asked, ..standing }),
            };
        } else if of == list && !standing.has_left() {
            here = Some(standing);
        }
    }
    match (away, here) {
        (Some(away), Some(here)) if here.at > away.at => Some(here),
        (Some(away), _) => Some(away),
        (None, here) => here,
    }
}

/// What counts for a record: what is remembered of its present address, and if Mailchimp still knows
/// it under another one, what they decided there. That mail to that one bounced says nothing about
/// the present one.
pub fn both(present: Option<Standing>, linked: Option<Standing>) -> Option<Standing> {
    let decided = linked.filter(|linked| linked.status == MemberStatus::UnsubscribedByMember);
    match (present, decided) {
        (Some(present), Some(linked)) if present.has_left() || present.at > linked.at => {
            Some(present)
        }
        (present, None) => present,
        (_, linked) => linked,
    }
}

/// A record whose attempt has come to something.
pub struct Attempt<'a> {
    /// As it was planned with; `None`: there was no link.
    pub link: Option<&'a Link>,
    /// The audience it was about.
    pub list: &'a str,
    /// The record's present address, where it has one.
    pub address: Option<&'a str>,
    pub standing: Option<&'a Standing>,
    /// A change of its address may have been carried out in a call whose answer was lost.
    pub renamed: bool,
}

/// What a verdict says that is to be remembered.
pub fn learnt(attempt: &Attempt<'_>, verdict: &Verdict, now: Timestamp) -> Vec<Remembered> {
    let learning = Learning { attempt, now };
    match verdict {
        Verdict::Delivered {
            member_status: Some(after),
            remote_key,
            ..
        } => learning.delivered(*after, remote_key.as_deref()),
        Verdict::Dead {
            member_status: Some(after),
            status,
            ..
        } if left(*after) && !learning.is_known(*after) => learning.refused(*after, *status),
        Verdict::Again {
            relink: Some(relink),
            ..
        } => learning.moved(relink),
        Verdict::Removed => learning.removed(),
        _ => Vec::new(),
    }
}

/// What is learnt from an attempt.
struct Learning<'a> {
    attempt: &'a Attempt<'a>,
    now: Timestamp,
}

impl Learning<'_> {
    fn before(&self) -> Option<MemberStatus> {
        self.attempt.link?.member_status
    }

    /// The address that Mailchimp knows the record under.
    fn linked(&self) -> Option<&str> {
        self.attempt.link?.remote_key.as_deref()
    }

    fn gone(&self, status: MemberStatus, by: Party) -> News {
        News::Left {
            status,
            by,
            at: self.now,
            asked: self.before() == Some(MemberStatus::Pending),
        }
    }

    /// Whether it is remembered that they left in this way.
    fn is_known(&self, status: MemberStatus) -> bool {
        let standing = self.attempt.standing;
        standing.is_some_and(|standing| standing.has_left() && standing.status == status)
    }

    fn remember(&self, list: &str, address: Option<&str>, news: News) -> Option<Remembered> {
        Some(Remembered {
            list: list.to_owned(),
            address: address?.to_owned(),
            news,
        })
    }

    /// News of some addresses in the audience that the attempt was about.
    fn of<const N: usize>(&self, addresses: [Option<&str>; N], news: News) -> Vec<Remembered> {
        let addresses = addresses.into_iter();
        addresses
            .filter_map(|address| self.remember(self.attempt.list, address, news))
            .collect()
    }

    fn delivered(&self, after: MemberStatus, remote_key: Option<&str>) -> Vec<Remembered> {
        let address = remote_key.or(self.linked());
        let asked = self.before() == Some(MemberStatus::Pending);
        if left(after) {
            if self.is_known(after) && !asked {
                return Vec::new();
            }
            // If the call changed the address, they had left under the old one.
            let old = self.linked().filter(|old| Some(*old) != address);
            let by = decided_by(self.before(), after);
            self.of([address, old], self.gone(after, by))
        } else if asked && after == MemberStatus::Subscribed {
            self.of([address], News::SignedUp { at: self.now })
        } else {
            let back = self
                .attempt
                .standing
                .is_some_and(|standing| standing.archived);
            self.of([address.filter(|_| back)], News::Back)
        }
    }

    fn refused(&self, after: MemberStatus, status: Option<u16>) -> Vec<Remembered> {
        let present = self.attempt.address.or(self.linked());
        let old = self.linked().filter(|old| Some(*old) != present);
        // That a change of address was refused for a bounce says nothing about the new one.
        let refused = status.is_none_or(|status| status >= 300);
        let spared = refused && old.is_some() && after == MemberStatus::Cleaned;
        let news = self.gone(after, Party::Mailchimp);
        self.of([old, present.filter(|_| !spared)], news)
    }

    fn moved(&self, relink: &Relink) -> Vec<Remembered> {
        let news = |status| left(status) && !self.is_known(status);
        match relink {
            Relink::Unsubscribed { how, .. } if news(*how) => {
                self.of([self.linked()], self.gone(*how, Party::Mailchimp))
            }
            Relink::Left {
                list,
                how: Some(how),
                ..
            } => {
                let gone = self.gone(*how, Party::Mailchimp);
                Vec::from_iter(self.remember(list, self.linked(), gone))
            }
            Relink::Found {
                address, status, ..
            } if news(*status) => {
                let by = decided_by(self.before(), *status);
                self.of([Some(address), self.linked()], self.gone(*status, by))
            }
            Relink::Adopt(id) if self.attempt.is_removed(id) => self.vanished(),
            Relink::Gone => self.vanished(),
            _ => Vec::new(),
        }
    }

    /// Nobody has the address any more.
    fn vanished(&self) -> Vec<Remembered> {
        let link = self.attempt.link;
        let how = link.map_or(MemberStatus::Archived, Link::how_gone);
        let told = left(how) && !self.is_known(how);
        let address = self.linked().filter(|_| told);
        self.of([address], self.gone(how, Party::Mailchimp))
    }

    fn removed(&self) -> Vec<Remembered> {
        let away = self
            .before()
            .filter(|status| left(*status) && !self.is_known(*status));
        if let Some(status) = away {
            let gone = self.gone(status, decided_by(None, status));
            return self.of([self.linked()], gone);
        }
        let looked = self
            .attempt
            .link
            .is_some_and(|link| link.membership.leaving && !link.membership.ask);
        self.of([self.linked().filter(|_| looked)], News::Archived)
    }
}

impl Attempt<'_> {
    /// Whether the member was removed: nobody has the address it was known under, nor has it been
    /// given another one by us. `next`: the name under which the record is looked for from now on.
    pub fn is_removed(&self, next: &RemoteId) -> bool {
        let known = |link: &&Link| link.remote_id.is_some() || link.member_status.is_some();
        let old = self
            .link
            .filter(known)
            .and_then(|link| link.remote_key.as_deref());
        let present = self
            .address
            .filter(|address| old.is_some_and(|old| old != *address));
        let sought = |address: &str| *next == RemoteId::from(subscriber_hash(address).as_str());
        !self.renamed && present.is_some_and(sought)
    }

    /// Whether a refusal is about the CRM's address only, and the member, which has another one, is
    /// as it was.
    pub fn spares_member(&self, status: MemberStatus) -> bool {
        let linked = self.link.and_then(|link| link.remote_key.as_deref());
        let remembered = self
            .standing
            .is_some_and(|standing| standing.status == status);
        let bounced = matches!(status, MemberStatus::Cleaned | MemberStatus::Forgotten);
        bounced && remembered && linked.is_some() && linked != self.address
    }
}

impl Link {
    /// The member left in this way, as an answer says, and gets no mail (any more).
    #[must_use]
    pub fn unsubscribed(self, status: MemberStatus) -> Link {
        Link {
            member_status: Some(status),
            ..self.settled(false)
        }
    }
}

#[cfg(test)]
mod tests;
