//! Several Mailchimp audiences: in which one a record's member is, and how it gets to another.
//!
//! A move is three calls, each of which can be repeated: the member is looked at where it is, then
//! archived there, then added elsewhere. What was learnt before is stored before the next call
//! leaves, so that it is the same move after a crash.

use crate::{
    crypto::subscriber_hash,
    delivery::{
        call::{Leaver, Link},
        given::Given,
    },
    record::{RemoteId, consent::MemberStatus},
    sync::clock::Tick,
};

/// Where a record's member is among the account's audiences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The audience it was last written to; from before the first call to it.
    pub list: Option<String>,
    /// It has been looked at there, for the record moves, and may be archived already.
    pub leaving: bool,
    /// Audiences it has left because the record moved: it was archived there, or unsubscribed before. The present one among them: it is
    /// coming back there.
    pub former: Vec<String>,
    /// Whether the person has to be asked wherever it arrives: it was not certain, when it moved,
    /// that they wanted mail.
    pub ask: bool,
    /// What we gave it there besides fields.
    pub given: Given,
    /// An address that it had left by itself when a call of ours created another member there, who
    /// gets no mail. Archived as soon as the CRM has been told of the present address.
    pub stray: Option<String>,
}

impl Membership {
    pub fn of(list: &str) -> Membership {
        Membership {
            list: Some(list.to_owned()),
            ..Membership::default()
        }
    }

    /// Whether it has left this audience because the record moved.
    pub fn was_in(&self, list: &str) -> bool {
        self.former.iter().any(|known| known == list)
    }

    /// Something that a new link would not know.
    pub fn has_past(&self) -> bool {
        self.ask || !self.former.is_empty()
    }

    /// It is in no audience any more.
    #[must_use]
    pub fn nowhere(self) -> Membership {
        Membership {
            list: None,
            leaving: false,
            given: Given::default(),
            stray: None,
            ..self
        }
    }
}

impl Link {
    /// Of somebody who became a member of an audience without us. `past`: the record's link so far.
    pub fn joined(past: Option<Link>, list: &str, email: &str) -> Link {
        let past = past.map(|link| link.membership).unwrap_or_default();
        Link {
            remote_id: Some(RemoteId::from(subscriber_hash(email).as_str())),
            remote_key: Some(email.to_owned()),
            membership: Membership {
                list: Some(list.to_owned()),
                ..past
            },
            ..Link::default()
        }
    }

    /// Of a record that never was at the service, and that a call about to leave may create there.
    pub fn to_be(written_under: Option<String>, list: Option<String>) -> Link {
        Link {
            remote_key: written_under,
            membership: Membership {
                list,
                ..Membership::default()
            },
            ..Link::default()
        }
    }

    /// Whether that is all it says.
    pub fn is_to_be(&self) -> bool {
        *self == Link::to_be(self.remote_key.clone(), self.membership.list.clone())
    }

    /// Between two audiences: archived in one, and not yet added to another.
    pub fn is_nowhere(&self) -> bool {
        self.membership.list.is_none() && self.remote_id.is_none() && self.membership.has_past()
    }

    /// Whether it is coming back to where it was: if it is archived there, that was us.
    pub fn is_returning(&self) -> bool {
        let list = self.membership.list.as_deref();
        !self.membership.leaving && list.is_some_and(|list| self.membership.was_in(list))
    }

    /// It has been looked at, and is about to be archived where it is.
    #[must_use]
    pub fn leave(mut self, ask: bool) -> Link {
        self.membership.leaving = true;
        self.membership.ask |= ask;
        self
    }

    /// It has been archived where it was, or gets no mail from there anyway.
    #[must_use]
    pub fn left(mut self, list: &str, ask: bool) -> Link {
        self.membership.ask |= ask;
        if !self.membership.was_in(list) {
            self.membership.former.push(list.to_owned());
        }
        Link {
            remote_id: None,
            member_status: None,
            membership: self.membership.nowhere(),
            ..self
        }
    }

    /// It has been erased in an audience it had been archived in.
    #[must_use]
    pub fn erased_in(mut self, list: &str) -> Link {
        self.membership.former.retain(|known| known != list);
        self
    }

    /// The audience has told how the member is, by accepting a write or by news of its own; a move
    /// that was under way begins with a look again. `subscribed`: the person wants its mail.
    #[must_use]
    pub fn settled(mut self, subscribed: bool) -> Link {
        let Membership {
            list,
            leaving,
            former,
            ask,
            ..
        } = &mut self.membership;
        *leaving = false;
        *ask &= !subscribed;
        former.retain(|known| Some(known) != list.as_ref());
        self
    }

    /// Somebody who had left is about to be asked, and may not be subscribed in any other way.
    #[must_use]
    pub fn asked(mut self, leaver: Leaver) -> Link {
        self.membership.ask |= leaver == Leaver::Asked;
        self
    }

    /// A question of ours whose answer did not come: it may be repeated.
    pub const fn is_being_asked(&self) -> bool {
        self.member_status.is_none() && (self.membership.ask || self.remote_id.is_some())
    }

    /// A call of ours created another member under the address.
    #[must_use]
    pub fn displaced(mut self) -> Link {
        self.membership.stray = self.remote_key.clone();
        self
    }

    /// What was created there has been archived.
    #[must_use]
    pub fn discarded(mut self) -> Link {
        self.membership.stray = None;
        self
    }

    /// How somebody left who is known by no name any more. Mailchimp purges those who were asked and
    /// did not answer: they may be asked again. Everybody else was removed.
    pub fn how_gone(&self) -> MemberStatus {
        match self.member_status {
            Some(MemberStatus::Pending) => MemberStatus::Archived,
            _ => MemberStatus::UnsubscribedByMember,
        }
    }

    /// Whether it goes by the hash of its address, for want of an id that outlasts that.
    pub fn is_known_by_address(&self) -> bool {
        let hash = self.remote_key.as_deref().map(subscriber_hash);
        self.remote_id.as_ref().map(RemoteId::as_str) == hash.as_deref() && hash.is_some()
    }

    /// The member goes on under another address, as an answer says.
    #[must_use]
    pub fn found(self, status: MemberStatus, ticks: &[Tick]) -> Link {
        let mut link = Link {
            member_status: Some(status),
            ..self
        };
        ticks.iter().for_each(|tick| link.clock.set(*tick));
        link
    }

    /// As above, by its new address. A member without an id of its own goes by the hash of it.
    #[must_use]
    pub fn readdressed(mut self, address: &str) -> Link {
        if self.is_known_by_address() {
            self.remote_id = Some(RemoteId::from(subscriber_hash(address).as_str()));
        }
        self.remote_key = Some(address.to_owned());
        self
    }

    /// A call to this audience is about to be made that may add it there.
    #[must_use]
    pub fn arrive(self, written_under: Option<&str>, list: &str) -> Link {
        Link {
            remote_key: written_under.map(str::to_owned).or(self.remote_key),
            membership: Membership {
                list: Some(list.to_owned()),
                ..self.membership
            },
            ..self
        }
    }

    /// There is no such member; what is left to be known. In which audiences the person has been is
    /// not forgotten.
    pub fn forgotten(self) -> Option<Link> {
        self.membership.has_past().then(|| Link {
            membership: self.membership.nowhere(),
            ..Link::default()
        })
    }

    /// What is stored before a call whose answer may get lost and that may change whether the
    /// person gets mail. `written_under` is the address the call names.
    ///
    /// Someone whose status was known is a member, even if no id came back yet: without one, the
    /// link would say «perhaps created», and what the person decided would be forgotten with it.
    #[must_use]
    pub fn uncertain(&self, written_under: Option<&str>) -> Link {
        let address = self.remote_key.as_deref().or(written_under);
        let known_by = || {
            self.member_status?;
            address.map(|address| RemoteId::from(subscriber_hash(address).as_str()))
        };
        Link {
            remote_id: self.remote_id.clone().or_else(known_by),
            member_status: None,
            ..self.clone()
        }
    }
}
