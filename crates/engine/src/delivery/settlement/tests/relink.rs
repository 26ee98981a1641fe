//! Steps on the way, for each link that makes a difference.

use super::*;
use crate::{
    consent::{
        membership::Membership,
        standing::{News, Remembered},
    },
    crypto::subscriber_hash,
    delivery::outcome::Relink,
};

const NEW: &str = "new@example.com";
const OLD: &str = "old@example.com";

fn member(status: Option<MemberStatus>) -> Link {
    Link {
        remote_key: Some(OLD.to_owned()),
        member_status: status,
        membership: Membership::of("a1"),
        ..linked("c1")
    }
}

/// In no audience any more.
fn between() -> Link {
    member(Some(MemberStatus::Subscribed)).left("a1", true)
}

pub(super) fn any_link() -> impl Strategy<Value = Option<Link>> {
    prop_oneof![
        Just(None),
        Just(Some(linked("r1"))),
        Just(Some(member(None))),
        Just(Some(member(Some(MemberStatus::Subscribed)))),
        Just(Some(member(Some(MemberStatus::Pending)))),
        Just(Some(member(Some(MemberStatus::UnsubscribedByMember)))),
        Just(Some(between())),
    ]
}

pub(super) fn any_relink() -> impl Strategy<Value = Relink> {
    prop_oneof![
        Just(Relink::Adopt(RemoteId::from("r2"))),
        Just(Relink::Forget),
        Just(Relink::Vacant),
        Just(Relink::Unaddressed(vec![tick(1, 1, Writer::Crm)])),
        any::<bool>().prop_map(|ask| Relink::Leave { ask }),
        any::<bool>().prop_map(|ask| Relink::Left {
            list: "a1".to_owned(),
            ask,
            how: None,
        }),
        Just(unsubscribed()),
        Just(Relink::ErasedIn("a1".to_owned())),
        Just(Relink::Displaced),
        Just(found()),
        Just(Relink::Gone),
        Just(Relink::Discarded),
    ]
}

fn unsubscribed() -> Relink {
    Relink::Unsubscribed {
        how: MemberStatus::UnsubscribedByMember,
        ticks: vec![tick(2, 9_000, Writer::Crm)],
    }
}

fn found() -> Relink {
    Relink::Found {
        address: NEW.to_owned(),
        status: MemberStatus::Subscribed,
        ticks: Vec::new(),
    }
}

fn effects(link: Option<Link>, relink: Relink) -> Effects {
    settled(flight(link), again(Some(relink)))
}

/// The link as it is stored.
fn noted(link: Option<Link>, relink: Relink) -> Link {
    let effects = effects(link, relink);
    assert_eq!(effects.queue, [QueueStep::Again(handle(), Some(3))]);
    assert_eq!(names(&effects), "n");
    effects.noted[0].link.clone()
}

#[test]
fn adopted_records_are_known_by_their_id_and_nothing_else() {
    let mut agreed = member(None);
    agreed.clock.set(tick(1, 5, Writer::Crm));
    let cases = [
        (None, Link::default(), false),
        (Some(agreed.clone()), member(None), true),
        (
            Some(Link {
                remote_id: None,
                ..agreed.clone()
            }),
            member(None),
            false,
        ),
        (
            Some(Link {
                remote_id: Some(RemoteId::from("r2")),
                ..agreed
            }),
            member(None),
            false,
        ),
    ];
    for (known, kept, readopted) in cases {
        let relink = Relink::Adopt(RemoteId::from("r2"));
        let expected = Link {
            remote_id: Some(RemoteId::from("r2")),
            ..kept
        };
        assert_eq!(noted(known.clone(), relink.clone()), expected);
        assert_eq!(!effects(known, relink).readopted.is_empty(), readopted);
    }
}

#[test]
fn vacant_is_safe_before_the_record_is_created() {
    for known in [None, Some(member(None))] {
        let effects = effects(known, Relink::Vacant);
        assert!(effects.durable);
        assert_eq!(effects.noted[0].link, Link::default());
    }
    assert!(!effects(None, Relink::Forget).durable);
}

#[test]
fn forgotten_ids_leave_only_where_somebody_has_been() {
    for known in [None, Some(linked("r1")), Some(member(None))] {
        let effects = effects(known, Relink::Forget);
        assert_eq!(names(&effects), "u");
        assert_eq!(effects.queue, [QueueStep::Again(handle(), Some(3))]);
    }
    let kept = noted(Some(between()), Relink::Forget);
    assert!(kept.is_nowhere() && kept.membership.was_in("a1"));
}

#[test]
fn given_up_addresses_are_dated_after_their_echo() {
    let link = noted(
        Some(member(None)),
        Relink::Unaddressed(vec![tick(1, 1, Writer::Crm)]),
    );
    assert_eq!(link.remote_key, None);
    let held = link.clock.get(FieldId(1)).copied();
    assert_eq!(held, Some(tick(1, 55_000, Writer::Crm)));
}

#[test]
fn moves_between_audiences_are_noted_step_by_step() {
    let subscribed = || Some(member(Some(MemberStatus::Subscribed)));
    for ask in [false, true] {
        let leaving = noted(subscribed(), Relink::Leave { ask });
        assert!(leaving.membership.leaving);
        assert_eq!(leaving.membership.ask, ask);
        let left = Relink::Left {
            list: "a1".to_owned(),
            ask,
            how: None,
        };
        let left = noted(Some(leaving), left);
        assert_eq!(left.is_nowhere(), left.membership.has_past());
        assert!(left.membership.was_in("a1") && left.remote_id.is_none());
        let erased = noted(Some(left), Relink::ErasedIn("a1".to_owned()));
        assert!(!erased.membership.was_in("a1"));
    }
    let displaced = noted(subscribed(), Relink::Displaced);
    assert_eq!(displaced.membership.stray.as_deref(), Some(OLD));
    let discarded = noted(Some(displaced), Relink::Discarded);
    assert_eq!(discarded.membership.stray, None);
}

#[test]
fn who_gets_no_mail_any_more_is_noted_and_logged_once() {
    use MemberStatus::{Archived, Pending, Subscribed, UnsubscribedByMember};
    let cases = [
        (Some(Subscribed), Relink::Gone, UnsubscribedByMember, true),
        (Some(Pending), Relink::Gone, Archived, true),
        (
            Some(UnsubscribedByMember),
            Relink::Gone,
            UnsubscribedByMember,
            false,
        ),
        (Some(Subscribed), unsubscribed(), UnsubscribedByMember, true),
        (
            Some(UnsubscribedByMember),
            unsubscribed(),
            UnsubscribedByMember,
            false,
        ),
    ];
    for (before, relink, after, logged) in cases {
        let effects = effects(Some(member(before)), relink.clone());
        assert_eq!(effects.noted[0].link.member_status, Some(after));
        let log: Vec<_> = effects
            .consent
            .iter()
            .map(|change| (change.before, change.after, change.at))
            .collect();
        let expected = logged.then_some((before, after, RULES.now));
        assert_eq!(log, Vec::from_iter(expected), "{before:?} {relink:?}");
        assert!(effects.writebacks.is_empty());
    }
    let known = noted(Some(member(Some(Subscribed))), unsubscribed());
    assert!(known.clock.get(FieldId(2)).is_some());
}

/// Whether the CRM still has the address the member was known by.
fn found_by(present: Option<&str>) -> Effects {
    let flight = InFlight {
        identity: Some(Identity {
            list: "a1".to_owned(),
            address: present.map(str::to_owned),
            standing: None,
            renamed: false,
        }),
        ..flight(Some(member(Some(MemberStatus::Subscribed))))
    };
    settled(flight, again(Some(found())))
}

#[test]
fn who_is_found_elsewhere_waits_until_the_crm_has_been_told() {
    let told = found_by(Some(OLD));
    assert_eq!(
        told.address_changes,
        [AddressChange {
            list: "a1".to_owned(),
            old: OLD.to_owned(),
            new: NEW.to_owned(),
            changed_at: Timestamp(10_000),
        }]
    );
    // The event has the link follow.
    assert_eq!(told.noted[0].link.remote_key.as_deref(), Some(OLD));
    assert_eq!(told.queue, [QueueStep::Leave(handle())]);
    let wait = told.retries[0].wait_ms;
    assert!((100..=110).contains(&wait), "{wait}");
    for present in [None, Some(NEW), Some("other@example.com")] {
        let known = found_by(present);
        assert_eq!(known.address_changes, []);
        assert_eq!(known.noted[0].link.remote_key.as_deref(), Some(NEW));
        assert_eq!(known.queue, [QueueStep::Again(handle(), Some(3))]);
    }
}

/// Mailchimp has nobody under the address the member was known by. `sought`: under which address it is
/// looked for next; `renamed`: a change of it may have been carried out.
fn not_found(by_hash: bool, sought: &str, renamed: bool) -> Effects {
    let mut link = member(Some(MemberStatus::Subscribed));
    if by_hash {
        link.remote_id = Some(RemoteId::from(subscriber_hash(OLD).as_str()));
    }
    link.clock.doubt(&[tick(9, 1, Writer::Crm)]);
    let flight = InFlight {
        identity: Some(Identity {
            list: "a1".to_owned(),
            address: Some(NEW.to_owned()),
            standing: None,
            renamed,
        }),
        ..flight(Some(link))
    };
    let id = RemoteId::from(subscriber_hash(sought).as_str());
    settled(flight, again(Some(Relink::Adopt(id))))
}

#[test]
fn who_is_removed_while_the_row_gets_another_address_is_remembered_under_the_former_one() {
    let effects = not_found(false, NEW, false);
    assert_eq!(effects.remembered.len(), 1);
    let Remembered {
        list,
        address,
        news,
    } = &effects.remembered[0];
    assert_eq!((list.as_str(), address.as_str()), ("a1", OLD));
    let status = MemberStatus::UnsubscribedByMember;
    assert!(
        matches!(news, News::Left { status: left, .. } if *left == status),
        "{news:?}"
    );
    // Whoever is a member under the present address did not leave.
    assert_eq!(effects.noted[0].link.remote_key.as_deref(), Some(NEW));
    for (sought, renamed) in [(NEW, true), (OLD, false)] {
        let effects = not_found(false, sought, renamed);
        assert_eq!(effects.remembered, []);
        assert_eq!(effects.noted[0].link.remote_key.as_deref(), Some(OLD));
    }
}

#[test]
fn what_is_uncertain_of_a_member_is_so_under_all_its_names() {
    for by_hash in [true, false] {
        let effects = not_found(by_hash, NEW, true);
        let clock = &effects.noted[0].link.clock;
        assert_eq!(clock.is_doubtful(FieldId(9)), by_hash);
        assert_eq!(
            clock.ticks().len(),
            usize::from(by_hash),
            "agreed on nothing"
        );
    }
}
