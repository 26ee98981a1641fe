//! Decisions that were reported: what they do to a link, and what is to be remembered of them.

use crate::{
    call::Link,
    clock::{Tick, Writer},
    consent::Party,
    outcome::MemberStatus,
    record::Timestamp,
    standing::{EVERYWHERE, News, Standing, left},
};

/// Mailchimp: `fired_at` has whole seconds.
const SECOND: i64 = 1_000;

/// A decision that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedConsent {
    pub status: MemberStatus,
    pub by: Party,
    pub at: Timestamp,
    /// In an audience of Mailchimp's that the record has left: it counts for the CRM, but the
    /// member in the present one is as it was.
    pub elsewhere: bool,
}

impl ReportedConsent {
    /// Whether the member that the record is linked to has this status now. What Mandrill reports,
    /// Mailchimp has yet to be told.
    pub fn is_of_member(&self) -> bool {
        self.by != Party::Mandrill && !self.elsewhere
    }

    pub fn opts_in(&self) -> bool {
        self.status == MemberStatus::Subscribed
    }

    /// Events come in any order. Of two at the same second, the one that opts out counts. `last`:
    /// the last change of the consent field that both sides know of.
    pub fn is_older(&self, link: &Link, last: Option<&Tick>, standing: Option<&Standing>) -> bool {
        let gone_since = standing.is_some_and(|standing| {
            standing.has_left() && standing.at.is_some_and(|gone| gone >= self.at)
        });
        if self.opts_in() && gone_since {
            return true;
        }
        // An archived member may have been written to since, and how they were then is known.
        let mut ticks = link.clock.ticks().iter();
        if self.status == MemberStatus::Archived
            && ticks.any(|tick| tick.by == Writer::Crm && tick.at.0 >= self.at.0 + SECOND)
        {
            return true;
        }
        match last.filter(|tick| tick.by == Writer::Remote) {
            Some(last) => last.at > self.at || (self.opts_in() && last.at == self.at),
            // Without a time, an opt-out that is known stays; one that is remembered has a time.
            None => {
                self.opts_in()
                    && !standing.is_some_and(Standing::has_left)
                    && link.member_status.is_some_and(|status| {
                        status != MemberStatus::Pending && status != MemberStatus::Subscribed
                    })
            }
        }
    }

    /// Whether it is to be remembered although it is older than what the link knows: it is not a
    /// later sign-up that it gives way to, but another opt-out.
    pub fn counts_though_older(&self, link: &Link) -> bool {
        let gets_mail = matches!(
            link.member_status,
            Some(MemberStatus::Subscribed | MemberStatus::Pending)
        );
        left(self.status) && !gets_mail
    }

    /// News of an opt-out that we sent ourselves: it stays the CRM's, which may take it back.
    fn is_ours(&self, link: Option<&Link>) -> bool {
        let status = link.and_then(|link| link.member_status);
        self.status == MemberStatus::UnsubscribedByMember
            && self.is_of_member()
            && status == Some(MemberStatus::UnsubscribedByCrm)
    }

    /// What the link says afterwards.
    #[must_use]
    pub fn note(&self, link: Link) -> Link {
        if !self.is_of_member() {
            return link;
        }
        let ours = self.is_ours(Some(&link));
        let mut link = link.settled(self.opts_in());
        if !ours {
            link.member_status = Some(self.status);
        }
        link
    }

    /// What is to be remembered of the address, and of which audience (`list`: where it happened).
    /// `link`: as it was before, where there is one.
    pub fn remembered<'l>(&self, list: &'l str, link: Option<&Link>) -> Option<(&'l str, News)> {
        if self.is_ours(link) {
            return None;
        }
        if self.opts_in() {
            return Some((list, News::SignedUp { at: self.at }));
        }
        let list = match self.by {
            Party::Mandrill => EVERYWHERE,
            _ => list,
        };
        let news = News::Left {
            status: self.status,
            by: self.by,
            at: self.at,
            asked: false,
        };
        left(self.status).then_some((list, news))
    }
}
