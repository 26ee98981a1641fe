//! Decisions that were reported: what they do to a link, and what is to be remembered of them.

use crate::{
    consent::{
        Party,
        standing::{EVERYWHERE, News, Standing, left},
    },
    delivery::call::Link,
    record::{Timestamp, consent::MemberStatus},
    sync::clock::{Tick, Writer},
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
    /// What it is where the member it is about is not the record's, which has another address than the
    /// CRM has for the person; with the link as it is to be used. `None`: it is remembered of the
    /// address, and no more. `last`: as below.
    pub fn of_present_address(
        self,
        link: Link,
        last: Option<&Tick>,
        (list, email): (&str, &str),
    ) -> Option<(ReportedConsent, Link)> {
        if left(self.status) {
            // That they want no more mail, or can get none, counts wherever it was said.
            let elsewhere = true;
            return Some((ReportedConsent { elsewhere, ..self }, link));
        }
        let said_since = last.is_some_and(|last| last.by == Writer::Crm && last.at >= self.at);
        // Who gets mail at the former address has to be told first that it was replaced.
        let joins = self.opts_in() && is_out(&link) && !said_since;
        joins.then(|| (self, Link::joined(Some(link), list, email)))
    }

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
        let gets_mail = gets_mail(link);
        match last {
            Some(last) if last.by == Writer::Remote => {
                last.at > self.at || (self.opts_in() && last.at == self.at)
            }
            // Who confirms in the second in which they were asked does so after that.
            Some(last) if gets_mail => self.opts_in() && last.at.0 >= self.at.0 + SECOND,
            Some(last) => self.opts_in() && last.at >= self.at,
            // Without a time, an opt-out that is known stays; one that is remembered has a time.
            None => {
                self.opts_in()
                    && !standing.is_some_and(Standing::has_left)
                    && link.member_status.is_some()
                    && !gets_mail
            }
        }
    }

    /// Whether it is to be remembered although it is older than what the link knows: it is not a
    /// later sign-up that it gives way to, but another opt-out.
    pub fn counts_though_older(&self, link: &Link) -> bool {
        left(self.status) && !gets_mail(link)
    }

    /// What the link says once a sign-up turns out not to count: it subscribed the member at
    /// Mailchimp all the same, who has to be opted out there. `None`: that has been done since, or is
    /// not called for. `last` and `standing` as above.
    pub fn undone(
        &self,
        link: &Link,
        last: Option<&Tick>,
        standing: Option<&Standing>,
    ) -> Option<Link> {
        if !self.opts_in() || !self.is_of_member() || gets_mail(link) {
            return None;
        }
        let done_since = last.is_some_and(|last| match last.by {
            Writer::Crm => last.at.0 >= self.at.0 + SECOND,
            // Mailchimp does not know what Mandrill reports.
            Writer::Remote => {
                let mandrill = standing.is_some_and(|standing| standing.by == Party::Mandrill);
                last.at > self.at && !mandrill
            }
        });
        if done_since {
            return None;
        }
        let mut link = Link {
            member_status: Some(MemberStatus::Subscribed),
            ..link.clone().settled(false)
        };
        // An opt-out in the same second may have come after it.
        link.clock.doubt(last.map_or(&[], std::slice::from_ref));
        Some(link)
    }

    /// News of an opt-out that we sent ourselves: it stays the CRM's, which may take it back.
    fn is_ours(&self, link: Option<&Link>) -> bool {
        let status = link.and_then(|link| link.member_status);
        self.status == MemberStatus::UnsubscribedByMember
            && self.is_of_member()
            && status == Some(MemberStatus::UnsubscribedByCrm)
    }

    /// What the link says afterwards. `last` as above.
    #[must_use]
    pub fn note(&self, link: Link, last: Option<&Tick>) -> Link {
        if !self.is_of_member() {
            return match self.may_be_back(&link, last) {
                true => link.uncertain(None),
                false => link,
            };
        }
        if !self.opts_in() && self.is_outdated(&link, last) {
            return link.uncertain(None);
        }
        let ours = self.is_ours(Some(&link));
        let mut link = link.settled(self.opts_in());
        if !ours {
            link.member_status = Some(self.status);
        }
        link
    }

    /// Whether the member, whom the link knows to be out, may have signed up before this opt-out was
    /// reported, untold as yet: Mailchimp is told again.
    fn may_be_back(&self, link: &Link, last: Option<&Tick>) -> bool {
        let out = matches!(
            link.member_status,
            Some(
                MemberStatus::UnsubscribedByCrm
                    | MemberStatus::UnsubscribedByMember
                    | MemberStatus::Cleaned
            )
        );
        out && last.is_none_or(|last| last.at.0 < self.at.0 + SECOND)
    }

    /// Whether the member may have become something else since, by a call of ours: one that was
    /// accepted after that, or one whose answer is not known.
    fn is_outdated(&self, link: &Link, last: Option<&Tick>) -> bool {
        let written =
            last.is_some_and(|last| last.by == Writer::Crm && last.at.0 >= self.at.0 + SECOND);
        match link.member_status {
            Some(MemberStatus::Subscribed | MemberStatus::Pending) => written,
            None => link.remote_id.is_some() && !link.clock.ticks().is_empty(),
            _ => false,
        }
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

/// Gets no mail, for certain.
fn is_out(link: &Link) -> bool {
    link.member_status.is_some() && !gets_mail(link)
}

/// Subscribed, or asked, as far as we know.
fn gets_mail(link: &Link) -> bool {
    matches!(
        link.member_status,
        Some(MemberStatus::Subscribed | MemberStatus::Pending)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{RemoteId, mapping::FieldId},
        sync::clock::{FieldClock, ValueHash},
    };

    fn reported(status: MemberStatus, at: i64) -> ReportedConsent {
        ReportedConsent {
            status,
            by: Party::Mailchimp,
            at: Timestamp(at),
            elsewhere: false,
        }
    }

    fn tick(by: Writer, at: i64) -> Tick {
        Tick {
            field: FieldId(2),
            hash: ValueHash(1),
            at: Timestamp(at),
            by,
        }
    }

    fn member(member_status: Option<MemberStatus>, tick: Tick) -> Link {
        let mut clock = FieldClock::default();
        clock.set(tick);
        Link {
            remote_id: Some(RemoteId::from("c")),
            member_status,
            clock,
            ..Link::default()
        }
    }

    #[test]
    fn sign_up_counts_if_it_is_later_than_what_the_crm_said() {
        use MemberStatus::{Pending, Subscribed, UnsubscribedByCrm};
        // What we know of the member, when the CRM said so, when they signed up.
        let cases = [
            (UnsubscribedByCrm, 10_400, 9_000, true),
            (UnsubscribedByCrm, 10_400, 10_000, true),
            (UnsubscribedByCrm, 10_400, 11_000, false),
            // Times of events are whole seconds, and an answer comes after the question.
            (Pending, 10_400, 10_000, false),
            (Pending, 10_400, 9_000, true),
        ];
        for (status, said, came, older) in cases {
            let last = tick(Writer::Crm, said);
            let link = member(Some(status), last);
            let found = reported(Subscribed, came).is_older(&link, Some(&last), None);
            assert_eq!(found, older, "{status:?} {said} {came}");
        }
        // Whose opt-out has no time stays opted out.
        let link = member(Some(UnsubscribedByCrm), tick(Writer::Crm, 0));
        assert!(reported(Subscribed, 9_000).is_older(&link, None, None));
    }

    #[test]
    fn sign_up_that_does_not_count_is_undone_unless_that_was_done_since() {
        use MemberStatus::{Cleaned, Pending, Subscribed, UnsubscribedByCrm};
        let gone = |by| Standing {
            status: Cleaned,
            by,
            at: Some(Timestamp(12_000)),
            asked: false,
            archived: false,
        };
        let (mandrill, mailchimp) = (gone(Party::Mandrill), gone(Party::Mailchimp));
        let (crm, remote) = (Writer::Crm, Writer::Remote);
        // What we know of the member, who last changed it, and when; what is remembered of them.
        let cases = [
            // Opted out in the same second: nobody knows which came first.
            (Some(UnsubscribedByCrm), crm, 10_400, None, true),
            (Some(UnsubscribedByCrm), crm, 11_000, None, false),
            (Some(Cleaned), remote, 10_000, Some(mailchimp), true),
            (Some(Cleaned), remote, 12_000, Some(mailchimp), false),
            (Some(Cleaned), remote, 12_000, Some(mandrill), true),
            (None, remote, 12_000, Some(mandrill), true),
            // The CRM has changed since, and its opt-out is on its way.
            (Some(UnsubscribedByCrm), crm, 9_000, None, true),
            (Some(Subscribed), crm, 9_000, None, false),
            (Some(Pending), crm, 9_000, None, false),
        ];
        for (status, by, at, standing, expected) in cases {
            let last = tick(by, at);
            let link = member(status, last);
            let undone = reported(Subscribed, 10_000).undone(&link, Some(&last), standing.as_ref());
            assert_eq!(undone.is_some(), expected, "{status:?} {by:?} {at}");
            let Some(undone) = undone else { continue };
            assert_eq!(undone.member_status, Some(Subscribed));
            assert!(undone.clock.is_doubtful(last.field));
        }
        let fresh = reported(Subscribed, 10_000).undone(&Link::default(), None, Some(&mandrill));
        assert_eq!(fresh.and_then(|link| link.member_status), Some(Subscribed));
        let left = reported(Cleaned, 10_000);
        assert_eq!(left.undone(&Link::default(), None, None), None);
    }

    #[test]
    fn opt_out_that_mailchimp_does_not_know_of_leaves_open_whether_the_member_is_back() {
        use MemberStatus::{Cleaned, Forgotten, Subscribed, UnsubscribedByCrm};
        let noted = |status, last: Tick| {
            let report = ReportedConsent {
                by: Party::Mandrill,
                ..reported(Cleaned, 10_000)
            };
            report.note(member(Some(status), last), Some(&last))
        };
        let cases = [
            (Cleaned, tick(Writer::Remote, 9_000), None),
            (UnsubscribedByCrm, tick(Writer::Crm, 10_400), None),
            // They were opted out after that.
            (Cleaned, tick(Writer::Crm, 11_000), Some(Cleaned)),
            (Subscribed, tick(Writer::Crm, 9_000), Some(Subscribed)),
            (Forgotten, tick(Writer::Remote, 9_000), Some(Forgotten)),
        ];
        for (status, last, expected) in cases {
            assert_eq!(
                noted(status, last).member_status,
                expected,
                "{status:?} {last:?}"
            );
        }
    }

    #[test]
    fn opt_out_that_is_told_late_leaves_open_how_the_member_is_by_now() {
        use MemberStatus::{Subscribed, UnsubscribedByMember};
        let noted = |status, last: Tick| {
            let link =
                reported(UnsubscribedByMember, 10_000).note(member(status, last), Some(&last));
            link.member_status
        };
        let gone = Some(UnsubscribedByMember);
        let known = Some(Subscribed);
        assert_eq!(noted(known, tick(Writer::Crm, 9_000)), gone);
        assert_eq!(noted(known, tick(Writer::Remote, 9_000)), gone);
        // We wrote in the second in which they left: nobody knows which came first, and Mailchimp
        // refuses to subscribe who has left.
        assert_eq!(noted(known, tick(Writer::Crm, 10_400)), gone);
        // A write of ours was accepted since, or may have been.
        assert_eq!(noted(known, tick(Writer::Crm, 11_000)), None);
        assert_eq!(noted(None, tick(Writer::Remote, 9_000)), None);
    }
}
