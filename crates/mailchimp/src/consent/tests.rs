use super::*;
use crate::settings::OnDelete;
use integration_engine::consent::Party;

fn settings(resubscribe: Resubscribe, double_opt_in: bool) -> MailchimpSettings {
    MailchimpSettings {
        list: "a1".into(),
        several: false,
        resubscribe,
        double_opt_in,
        on_delete: OnDelete::Archive,
    }
}

fn link(remote_id: Option<&str>, member_status: Option<MemberStatus>) -> Option<Link> {
    Some(Link {
        remote_id: remote_id.map(Into::into),
        remote_key: Some("ada@example.com".into()),
        member_status,
        ..Link::default()
    })
}

fn person<'a>(link: &'a Option<Link>, standing: Option<&'a Standing>) -> Person<'a> {
    Person {
        link: link.as_ref(),
        standing,
        readdressed: false,
    }
}

#[test]
fn every_state_has_its_answer() {
    use {Consent::*, ConsentAction::*, MemberStatus::*};
    let never = settings(Resubscribe::Never, false);
    let cases = [
        (OptedIn, None, Subscribe(Subscribed)),
        (OptedOut, None, NoConsent),
        (Unknown, None, NoConsent),
        (OptedIn, link(None, None), Subscribe(Subscribed)),
        (
            OptedOut,
            link(None, None),
            UnsubscribeIfThere(UnsubscribedByCrm),
        ),
        (
            Unknown,
            link(None, None),
            UnsubscribeIfThere(UnsubscribedByCrm),
        ),
        (OptedIn, link(Some("c"), None), SetStatus(Pending)),
        (
            OptedOut,
            link(Some("c"), None),
            UnsubscribeIfThere(UnsubscribedByMember),
        ),
        (OptedIn, link(Some("c"), Some(Subscribed)), Update),
        (
            OptedOut,
            link(Some("c"), Some(Subscribed)),
            Unsubscribe(UnsubscribedByCrm),
        ),
        (
            Unknown,
            link(Some("c"), Some(Subscribed)),
            Unsubscribe(UnsubscribedByCrm),
        ),
        (OptedIn, link(Some("c"), Some(Pending)), Update),
        (
            OptedOut,
            link(Some("c"), Some(Pending)),
            Unsubscribe(UnsubscribedByMember),
        ),
        (
            OptedIn,
            link(Some("c"), Some(UnsubscribedByCrm)),
            SetStatus(Subscribed),
        ),
        (
            OptedOut,
            link(Some("c"), Some(UnsubscribedByCrm)),
            NoConsent,
        ),
        (
            OptedIn,
            link(Some("c"), Some(UnsubscribedByMember)),
            Suppressed(UnsubscribedByMember),
        ),
        (
            OptedOut,
            link(Some("c"), Some(UnsubscribedByMember)),
            NoConsent,
        ),
        (OptedIn, link(Some("c"), Some(Cleaned)), Suppressed(Cleaned)),
        (
            OptedIn,
            link(Some("c"), Some(Forgotten)),
            Suppressed(Forgotten),
        ),
        (OptedIn, link(Some("c"), Some(Archived)), SetStatus(Pending)),
        (Unknown, link(Some("c"), Some(Archived)), NoConsent),
    ];
    for (consent, link, expected) in cases {
        assert_eq!(
            decide(consent, person(&link, None), &never),
            expected,
            "{consent:?} {link:?}"
        );
    }
    let asking = settings(Resubscribe::Pending, true);
    let member = link(Some("c"), Some(UnsubscribedByMember));
    assert_eq!(
        decide(OptedIn, person(&member, None), &asking),
        SetStatus(Pending)
    );
    let own = link(Some("c"), Some(UnsubscribedByCrm));
    assert_eq!(
        decide(OptedIn, person(&own, None), &asking),
        SetStatus(Pending)
    );
    assert_eq!(
        decide(OptedIn, Person::default(), &asking),
        Subscribe(Pending)
    );
    let cleaned = link(Some("c"), Some(Cleaned));
    assert_eq!(
        decide(OptedIn, person(&cleaned, None), &asking),
        Suppressed(Cleaned)
    );
}

#[test]
fn what_is_remembered_of_the_address_counts() {
    use {Consent::*, ConsentAction::*, MemberStatus::*};
    let standing = |status, asked, archived| Standing {
        status,
        by: Party::Mandrill,
        at: None,
        asked,
        archived,
    };
    let left = standing(UnsubscribedByMember, false, false);
    let asked = standing(UnsubscribedByMember, true, false);
    let bounced = standing(Cleaned, false, false);
    let archived = standing(Subscribed, false, true);
    let (never, pending) = (Resubscribe::Never, Resubscribe::Pending);
    let member = |status| link(Some("c"), status);
    let by_crm = member(Some(UnsubscribedByCrm));
    let by_member = member(Some(UnsubscribedByMember));
    let cases = [
        // A row that is new.
        (OptedIn, None, left, never, Suppressed(UnsubscribedByMember)),
        (OptedIn, None, left, pending, SetStatus(Pending)),
        (
            OptedIn,
            None,
            asked,
            pending,
            Suppressed(UnsubscribedByMember),
        ),
        (OptedIn, None, bounced, pending, Suppressed(Cleaned)),
        (OptedOut, None, left, pending, NoConsent),
        (OptedIn, None, archived, never, Subscribe(Subscribed)),
        // Archived by us, when they were subscribed.
        (
            OptedIn,
            member(None),
            archived,
            never,
            SetStatus(Subscribed),
        ),
        // Reported by Mandrill: Mailchimp has to hear of it.
        (
            OptedOut,
            member(Some(Subscribed)),
            left,
            never,
            Unsubscribe(UnsubscribedByMember),
        ),
        (
            OptedOut,
            member(Some(Subscribed)),
            bounced,
            never,
            Unsubscribe(Cleaned),
        ),
        (
            OptedIn,
            member(Some(Subscribed)),
            left,
            never,
            Unsubscribe(UnsubscribedByMember),
        ),
        (
            OptedIn,
            member(Some(Subscribed)),
            left,
            pending,
            SetStatus(Pending),
        ),
        (
            OptedIn,
            by_crm,
            left,
            never,
            Suppressed(UnsubscribedByMember),
        ),
        // Asked once; while the answer is awaited, the question may be repeated.
        (
            OptedIn,
            by_member,
            asked,
            pending,
            Suppressed(UnsubscribedByMember),
        ),
        (OptedIn, member(None), asked, pending, SetStatus(Pending)),
        (
            OptedIn,
            member(None),
            asked,
            never,
            UnsubscribeIfThere(UnsubscribedByMember),
        ),
        (OptedIn, member(Some(Pending)), asked, pending, Update),
    ];
    for (consent, link, standing, resubscribe, expected) in cases {
        let settings = settings(resubscribe, false);
        let found = decide(consent, person(&link, Some(&standing)), &settings);
        assert_eq!(found, expected, "{consent:?} {link:?} {standing:?}");
    }
    // Asked at another address than that of who left.
    let pending = member(Some(Pending));
    let readdressed = Person {
        readdressed: true,
        ..person(&pending, Some(&left))
    };
    let settings = settings(never, false);
    assert_eq!(
        decide(OptedIn, readdressed, &settings),
        Unsubscribe(UnsubscribedByMember)
    );
    // That mail to the new address bounced says nothing about the member's.
    let known = member(Some(Subscribed));
    let readdressed = Person {
        readdressed: true,
        ..person(&known, Some(&bounced))
    };
    for consent in [OptedIn, OptedOut] {
        assert_eq!(
            decide(consent, readdressed, &settings),
            Unsubscribe(UnsubscribedByCrm)
        );
    }
}
