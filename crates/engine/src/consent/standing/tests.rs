use super::*;
use crate::consent::membership::Membership;

fn left(status: MemberStatus, at: i64) -> News {
    News::Left {
        status,
        by: Party::Mailchimp,
        at: Timestamp(at),
        asked: false,
    }
}

fn signed_up(at: i64) -> News {
    News::SignedUp { at: Timestamp(at) }
}

fn told(news: &[News]) -> Option<Standing> {
    let tell = |known, news: &News| Standing::after(known, *news);
    news.iter().fold(None, tell)
}

#[test]
fn later_decision_counts_whichever_is_told_first() {
    use MemberStatus::{Cleaned, Subscribed, UnsubscribedByMember};
    let cases = [
        (vec![left(UnsubscribedByMember, 5)], UnsubscribedByMember),
        (
            vec![left(UnsubscribedByMember, 5), signed_up(6)],
            Subscribed,
        ),
        (
            vec![signed_up(6), left(UnsubscribedByMember, 5)],
            Subscribed,
        ),
        // In one second the opt-out counts.
        (
            vec![signed_up(5), left(UnsubscribedByMember, 5)],
            UnsubscribedByMember,
        ),
        (
            vec![left(UnsubscribedByMember, 5), signed_up(5)],
            UnsubscribedByMember,
        ),
        (
            vec![left(UnsubscribedByMember, 5), left(Cleaned, 9)],
            Cleaned,
        ),
        // That they were subscribed when they were archived is no time of theirs.
        (
            vec![News::Archived, left(UnsubscribedByMember, 5)],
            UnsubscribedByMember,
        ),
        (
            vec![left(UnsubscribedByMember, 5), News::Archived],
            UnsubscribedByMember,
        ),
    ];
    for (news, status) in cases {
        let standing = told(&news).unwrap();
        assert_eq!(standing.status, status, "{news:?}");
        assert!(!standing.archived, "{news:?}");
    }
}

#[test]
fn one_departure_is_asked_about_once() {
    use MemberStatus::UnsubscribedByMember;
    let asked = |news: &[News]| told(news).unwrap().asked;
    let first = left(UnsubscribedByMember, 5);
    assert!(asked(&[first, News::Asked]));
    // Told again, or once more opted out before they answered.
    assert!(asked(&[first, News::Asked, left(UnsubscribedByMember, 7)]));
    // They came back, and left again.
    assert!(!asked(&[
        first,
        News::Asked,
        signed_up(6),
        left(UnsubscribedByMember, 7)
    ]));
    assert_eq!(told(&[News::Asked]), None);
}

#[test]
fn who_was_archived_while_subscribed_is_remembered_until_they_are_back() {
    let archived = told(&[News::Archived]).unwrap();
    assert!(archived.archived && !archived.has_left());
    assert_eq!(told(&[News::Archived, News::Back]), None);
    // Their own sign-up goes on to count against an older opt-out that is told late.
    let back = told(&[signed_up(6), News::Archived, News::Back]).unwrap();
    assert!(!back.archived);
    assert_eq!(back.at, Some(Timestamp(6)));
}

#[test]
fn audience_and_its_elders_are_weighed() {
    use MemberStatus::{Subscribed, UnsubscribedByMember};
    let standing = |news| told(&[news]).unwrap();
    let away = |at| standing(left(UnsubscribedByMember, at));
    let here = |at| standing(signed_up(at));
    let member = Link {
        membership: Membership {
            list: Some("a".into()),
            former: vec!["old".into()],
            ..Membership::default()
        },
        ..Link::default()
    };
    let nowhere = Link {
        membership: member.membership.clone().nowhere(),
        ..Link::default()
    };
    let weighed = |rows: &[(&str, Standing)], link| {
        let weighed = weigh(rows.iter().copied(), "a", link);
        weighed.map(|standing| standing.status)
    };
    assert_eq!(weighed(&[], None), None);
    for (list, link, counts) in [
        ("a", None, true),
        (EVERYWHERE, None, true),
        ("b", None, false),
        ("old", None, false),
        ("old", Some(&member), true),
        ("old", Some(&nowhere), false),
    ] {
        let found = weighed(&[(list, away(5))], link);
        assert_eq!(found, counts.then_some(UnsubscribedByMember), "{list}");
    }
    let rows = [(EVERYWHERE, away(5)), ("a", here(6))];
    assert_eq!(weighed(&rows, None), Some(Subscribed));
    let rows = [(EVERYWHERE, away(6)), ("a", here(6))];
    assert_eq!(weighed(&rows, None), Some(UnsubscribedByMember));
    // A sign-up elsewhere is none here.
    let rows = [("a", away(5)), ("b", here(6))];
    assert_eq!(weighed(&rows, None), Some(UnsubscribedByMember));
}

#[test]
fn decision_under_the_old_address_goes_along_and_a_bounce_does_not() {
    let of = |status| told(&[left(status, 5)]);
    let (gone, bounced) = (
        of(MemberStatus::UnsubscribedByMember),
        of(MemberStatus::Cleaned),
    );
    assert_eq!(both(None, gone), gone);
    assert_eq!(both(None, bounced), None);
    assert_eq!(both(bounced, gone), bounced);
    let since = told(&[signed_up(6)]);
    assert_eq!(both(since, gone), since);
    assert_eq!(both(told(&[News::Archived]), gone), gone);
}
