use std::convert::Infallible;

use super::*;
use crate::record::kind::sample::{COMPANY, CONTACT};
use crate::{
    consent::membership::Membership,
    delivery::call::{Beside, Item, Leaver, Link},
    record::{RecordKey, SourceId},
};

fn record(key: &str) -> RecordRef {
    RecordRef {
        source: SourceId(1),
        key: RecordKey::from(key),
    }
}

/// Two rows that want each other's addresses.
fn swap(first: &str, second: &str) -> Chain<RecordRef> {
    Chain::Circle(vec![record(first), record(second)])
}

fn ruled(target: Target, holding: Holding, contest: Contest) -> Ruling {
    let Ok(ruling) = rule::<Infallible>(target, holding, || Ok(contest));
    ruling
}

#[test]
fn rows_that_keep_an_address_and_rows_that_are_gone_are_told_apart() {
    let cases = [
        (Holding::Keeps, Step::Refuse, false),
        (Holding::Gone, Step::Inherit, true),
        (Holding::Unread, Step::Wait, false),
    ];
    for target in Target::ALL {
        for (holding, step, counted) in cases.clone() {
            // Who waits for whom is of no interest then, and costs a look at the tables.
            let asked = || Err("asked for nothing");
            let ruling = rule(target, holding, asked);
            assert_eq!(ruling, Ok(Ruling { step, counted }), "{target} {holding:?}");
        }
    }
}

#[test]
fn who_has_moved_is_waited_for_until_nothing_is_to_be_expected() {
    use Target::{HubSpot, Mailchimp};
    let ring = || vec![record("1"), record("2")];
    // Chain, whether the other row's change is on its way, attempts: step, whether it counts.
    let cases = [
        (HubSpot, Chain::Open, true, 9, Step::Wait, false),
        (HubSpot, Chain::Open, false, 9, Step::Wait, true),
        (HubSpot, Chain::Endless, true, 0, Step::Wait, true),
        (HubSpot, Chain::Endless, true, 3, Step::GiveWay, true),
        // One of a circle gives way, and the others if that one does not.
        (HubSpot, swap("1", "2"), true, 0, Step::GiveWay, true),
        (HubSpot, swap("2", "1"), true, 0, Step::Wait, true),
        (HubSpot, swap("2", "1"), true, 3, Step::GiveWay, true),
        (
            Mailchimp,
            swap("1", "2"),
            true,
            0,
            Step::PassOn(ring()),
            true,
        ),
        (
            Mailchimp,
            swap("1", "2"),
            false,
            9,
            Step::PassOn(ring()),
            true,
        ),
        (Mailchimp, Chain::Open, true, 9, Step::Wait, false),
        (Mailchimp, Chain::Open, false, 1, Step::Wait, true),
        (Mailchimp, Chain::Open, false, 2, Step::Inherit, true),
        (Mailchimp, Chain::Endless, true, 9, Step::Wait, true),
        (Mailchimp, Chain::Endless, false, 2, Step::Inherit, true),
    ];
    for (target, chain, on_its_way, attempts, step, counted) in cases {
        let case = format!("{target} {chain:?} {on_its_way} {attempts}");
        let contest = Contest {
            chain,
            on_its_way,
            attempts,
        };
        let ruling = ruled(target, Holding::Moved, contest);
        assert_eq!(ruling, Ruling { step, counted }, "{case}");
    }
}

#[test]
fn two_rows_are_never_linked_to_one_remote_record() {
    use Adoption::{Create, Forget, Refuse, Stands, Wait};
    use Op::{Delete, Upsert};
    let cases = [
        (Owner::Nobody, Upsert, CONTACT, false, Stands),
        (Owner::Nobody, Delete, CONTACT, true, Stands),
        (Owner::Kept, Upsert, CONTACT, false, Refuse),
        (Owner::Kept, Upsert, CONTACT, true, Refuse),
        (Owner::Leaving, Upsert, CONTACT, false, Wait),
        (Owner::Leaving, Upsert, CONTACT, true, Wait),
        (Owner::Kept, Delete, CONTACT, false, Forget),
        (Owner::Leaving, Delete, COMPANY, true, Forget),
        (Owner::Kept, Upsert, COMPANY, false, Create),
        (Owner::Leaving, Upsert, COMPANY, false, Create),
        (Owner::Kept, Upsert, COMPANY, true, Refuse),
        (Owner::Leaving, Upsert, COMPANY, true, Wait),
    ];
    for (owner, op, entity, written, expected) in cases {
        let found = adoption(owner, op, entity, written);
        assert_eq!(found, expected, "{owner:?} {op:?} {entity:?} {written}");
    }
}

fn member(list: Option<&str>) -> Link {
    Link {
        remote_key: Some("a@example.com".to_owned()),
        membership: Membership {
            list: list.map(str::to_owned),
            ..Membership::default()
        },
        ..Link::default()
    }
}

fn place(audience: Option<&str>) -> Place {
    Place {
        address: "a@example.com".to_owned(),
        audience: audience.map(str::to_owned),
    }
}

#[test]
fn an_address_is_one_in_each_audience() {
    // What the row names, where the member is; the default is a1.
    let cases = [
        (None, None, true),
        (None, Some("b2"), true),
        (Some("a1"), None, true),
        (Some("a1"), Some("a1"), true),
        (Some("a1"), Some("b2"), false),
        (Some("b2"), None, false),
        (Some("b2"), Some("b2"), true),
    ];
    for (named, list, expected) in cases {
        let place = place(named);
        assert_eq!(place.is_in(list, "a1"), expected, "{named:?} {list:?}");
        let link = member(list);
        assert_eq!(place.is_known(Some(&link), "a1"), expected);
        assert!(!place.is_known(None, "a1"));
        let other = Place {
            address: "b@example.com".to_owned(),
            ..place
        };
        assert!(!other.is_known(Some(&link), "a1"));
    }
    assert_eq!(Place::of_link(&member(None), "a1"), Some(place(Some("a1"))));
    let nowhere = member(Some("a1")).left("a1", true);
    assert_eq!(Place::of_link(&nowhere, "a1"), None);
}

#[test]
fn records_planned_together_meet_under_one_address() {
    let item = Item {
        work: 0,
        name: "a@example.com".to_owned(),
        ticks: Vec::new(),
        remote_key: Some("a@example.com".to_owned()),
        member_status: None,
        expected: None,
        intent: false,
        leaver: Leaver::No,
        batch_cap: 500,
        fragment: "{}".to_owned(),
        beside: Beside::default(),
        own: None,
    };
    let mut claims = Claims::default();
    for (list, key) in [("a1", "1"), ("b2", "2"), ("a1", "3")] {
        claims.note(Some(list), &item, &record(key));
    }
    let cases = [
        ("a1", Some("1"), vec!["2"]),
        ("b2", Some("2"), vec!["1"]),
        ("c3", None, vec!["1", "2"]),
    ];
    for (audience, first, others) in cases {
        let place = place(Some(audience));
        assert_eq!(
            claims.first(&place),
            first.map(record).as_ref(),
            "{audience}"
        );
        let mut elsewhere: Vec<&str> = claims
            .elsewhere(&place)
            .map(|record| record.key.as_str())
            .collect();
        elsewhere.sort_unstable();
        assert_eq!(elsewhere, others, "{audience}");
    }
    let other = Place {
        address: "b@example.com".to_owned(),
        audience: Some("a1".to_owned()),
    };
    assert_eq!(claims.first(&other), None);
}
