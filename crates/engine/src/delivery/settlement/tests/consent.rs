//! What is logged, remembered, and told the CRM of people's consent.

use MemberStatus::{
    Archived, Cleaned, Forgotten, Pending, Subscribed, UnsubscribedByCrm, UnsubscribedByMember,
};

use super::*;
use crate::consent::{
    Party,
    membership::Membership,
    standing::{News, Standing},
};

const ADDRESS: &str = "a@example.com";

fn standing(status: MemberStatus, by: Party) -> Standing {
    Standing {
        status,
        by,
        at: Some(Timestamp(1)),
        asked: false,
        archived: false,
    }
}

/// A member, and what is remembered of the address.
fn person(status: Option<Option<MemberStatus>>, standing: Option<Standing>) -> InFlight {
    let link = status.map(|member_status| Link {
        remote_key: Some(ADDRESS.to_owned()),
        member_status,
        membership: Membership::of("a1"),
        ..linked("c1")
    });
    InFlight {
        identity: Some(Identity {
            list: "a1".to_owned(),
            address: Some(ADDRESS.to_owned()),
            standing,
            renamed: false,
        }),
        ..flight(link)
    }
}

fn taken(status: MemberStatus) -> Verdict {
    Verdict::Delivered {
        remote_id: Some(RemoteId::from("c1")),
        remote_key: Some(ADDRESS.to_owned()),
        member_status: Some(status),
        ticks: Vec::new(),
        met: false,
    }
}

fn logged(effects: &Effects) -> Option<(Party, Option<MemberStatus>, MemberStatus)> {
    assert!(effects.consent.len() <= 1);
    let change = effects.consent.first()?;
    Some((change.by, change.before, change.after))
}

#[test]
fn accepted_statuses_are_logged_with_who_decided() {
    let remembered = |status| Some(standing(status, Party::Mandrill));
    let cases = [
        (None, None, Subscribed, Some((Party::Crm, None, Subscribed))),
        (Some(Some(Subscribed)), None, Subscribed, None),
        (
            Some(Some(Subscribed)),
            None,
            UnsubscribedByCrm,
            Some((Party::Crm, Some(Subscribed), UnsubscribedByCrm)),
        ),
        (
            Some(Some(Pending)),
            None,
            Subscribed,
            Some((Party::Mailchimp, Some(Pending), Subscribed)),
        ),
        (
            Some(Some(Subscribed)),
            None,
            Cleaned,
            Some((Party::Mailchimp, Some(Subscribed), Cleaned)),
        ),
        // It was known before, of whoever told.
        (
            Some(Some(Subscribed)),
            remembered(UnsubscribedByMember),
            UnsubscribedByMember,
            Some((Party::Mandrill, Some(Subscribed), UnsubscribedByMember)),
        ),
        // What is remembered is something else, or no departure.
        (
            Some(Some(Subscribed)),
            remembered(Cleaned),
            UnsubscribedByCrm,
            Some((Party::Crm, Some(Subscribed), UnsubscribedByCrm)),
        ),
        (
            None,
            remembered(Subscribed),
            Subscribed,
            Some((Party::Crm, None, Subscribed)),
        ),
    ];
    for (before, standing, after, expected) in cases {
        let effects = settled(person(before, standing), taken(after));
        let case = format!("{before:?} {standing:?} {after:?}");
        assert_eq!(logged(&effects), expected, "{case}");
        let written = &effects.pushed[0].link;
        assert_eq!(written.member_status, Some(after), "{case}");
        assert_eq!(effects.writebacks, [], "{case}");
    }
}

#[test]
fn refusals_are_logged_noted_and_told_the_crm() {
    let remembered = |status| Some(standing(status, Party::Mandrill));
    let cases = [
        (
            None,
            None,
            UnsubscribedByMember,
            Some((Party::Mailchimp, "refused")),
        ),
        (None, None, Forgotten, Some((Party::Mailchimp, "refused"))),
        (
            Some(Some(Archived)),
            remembered(UnsubscribedByMember),
            UnsubscribedByMember,
            Some((Party::Mandrill, "remembered of the address")),
        ),
        (
            Some(None),
            None,
            UnsubscribedByCrm,
            Some((Party::Crm, "another row with the address")),
        ),
        // The link says so: it is no news.
        (
            Some(Some(UnsubscribedByMember)),
            None,
            UnsubscribedByMember,
            None,
        ),
    ];
    for (before, standing, status, expected) in cases {
        let effects = settled(person(before, standing), dead(Some(status)));
        let case = format!("{before:?} {standing:?} {status:?}");
        let change = effects.consent.first();
        let reason = |change: &ConsentChange| change.reason.clone().unwrap_or_default();
        let found = change.map(|change| (change.by, reason(change)));
        let expected = expected.map(|(by, reason)| (by, reason.to_owned()));
        assert_eq!(found, expected, "{case}");
        assert_eq!(effects.noted[0].link.member_status, Some(status), "{case}");
        assert_eq!(
            effects.noted[0].link.remote_key.as_deref(),
            Some(ADDRESS),
            "{case}"
        );
        let told = ConsentWriteback {
            record: record(),
            status,
        };
        assert_eq!(effects.writebacks, [told], "{case}");
        assert_eq!(names(&effects), "ndD", "{case}");
    }
}

#[test]
fn refusals_for_a_bounce_at_the_new_address_spare_the_member() {
    let readdressed = |standing| {
        let mut flight = person(Some(Some(Subscribed)), standing);
        if let Some(identity) = &mut flight.identity {
            identity.address = Some("new@example.com".to_owned());
        }
        flight
    };
    let cases = [
        (Some(standing(Cleaned, Party::Mailchimp)), Cleaned, true),
        (Some(standing(Forgotten, Party::Mailchimp)), Forgotten, true),
        (None, Cleaned, false),
        (
            Some(standing(UnsubscribedByMember, Party::Mailchimp)),
            UnsubscribedByMember,
            false,
        ),
    ];
    for (standing, status, spared) in cases {
        let effects = settled(readdressed(standing), dead(Some(status)));
        assert_eq!(effects.noted.is_empty(), spared, "{status:?}");
        assert_eq!(effects.consent.is_empty(), spared, "{status:?}");
        // The CRM hears of it all the same.
        assert_eq!(effects.writebacks.len(), 1, "{status:?}");
    }
}

#[test]
fn people_without_a_link_are_noted_where_they_would_have_been() {
    let effects = settled(person(None, None), dead(Some(UnsubscribedByMember)));
    let expected = Link {
        remote_key: Some(ADDRESS.to_owned()),
        membership: Membership::of("a1"),
        ..Link::default()
    };
    assert_eq!(
        effects.noted[0].link,
        expected.unsubscribed(UnsubscribedByMember)
    );
}

#[test]
fn departures_are_remembered_by_address() {
    let left = |effects: &Effects| -> Vec<(String, MemberStatus)> {
        let remembered = effects.remembered.iter();
        remembered
            .filter_map(|of| match of.news {
                News::Left { status, at, .. } if at == RULES.now => {
                    Some((of.address.clone(), status))
                }
                _ => None,
            })
            .collect()
    };
    let cases = [
        (dead(Some(UnsubscribedByMember)), Some(UnsubscribedByMember)),
        (dead(Some(Forgotten)), Some(Forgotten)),
        (taken(Cleaned), Some(Cleaned)),
        (taken(Subscribed), None),
        (dead(None), None),
        (dead(Some(UnsubscribedByCrm)), None),
    ];
    for (verdict, expected) in cases {
        let effects = settled(person(Some(Some(Subscribed)), None), verdict.clone());
        let expected: Vec<_> = expected
            .map(|status| (ADDRESS.to_owned(), status))
            .into_iter()
            .collect();
        assert_eq!(left(&effects), expected, "{verdict:?}");
    }
    // HubSpot's records are nobody's there.
    let effects = settled(flight(None), dead(Some(UnsubscribedByMember)));
    assert!(effects.remembered.is_empty());
}
