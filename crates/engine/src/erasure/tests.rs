use proptest::prelude::*;

use super::*;
use crate::record::kind::sample::{COMPANY, CONTACT};
use crate::{consent::membership::Membership, crypto::subscriber_hash};

const ADA: &str = "ada@example.org";

fn known(entity: Entity) -> ErasureFacts {
    ErasureFacts {
        entity,
        external_id: "17".into(),
        targets: Target::ALL.into(),
        hubspot: None,
        mailchimp: None,
        former_ids: Vec::new(),
        addresses: BTreeSet::new(),
        hashes: BTreeSet::new(),
        taken: BTreeSet::new(),
        taken_members: BTreeSet::new(),
        default_list: "a6b5da1054".into(),
        audiences: vec!["a6b5da1054".into(), "other".into()],
    }
}

fn linked(id: &str, email: Option<&str>) -> Option<Link> {
    Some(Link {
        remote_id: Some(RemoteId::from(id)),
        remote_key: email.map(str::to_owned),
        ..Link::default()
    })
}

fn addresses(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|address| (*address).to_owned()).collect()
}

fn member(list: &str, email: &str) -> ErasureStep {
    ErasureStep::EraseMember {
        list: list.into(),
        hash: subscriber_hash(email),
    }
}

#[test]
fn a_linked_contact_goes_by_its_id_and_leaves_every_audience_it_was_in() {
    let mut known = known(CONTACT);
    known.hubspot = linked("512", Some(ADA));
    known.mailchimp = linked("c0ffee", Some(ADA));
    if let Some(link) = &mut known.mailchimp {
        link.membership = Membership {
            list: Some("present".into()),
            former: vec!["former".into()],
            ..Membership::default()
        };
    }
    known.addresses = addresses(&[ADA]);
    let expected = [
        ErasureStep::Erase("512".into()),
        member("a6b5da1054", ADA),
        member("former", ADA),
        member("present", ADA),
    ];
    assert_eq!(steps(&known), expected);
}

#[test]
fn who_is_not_linked_is_looked_for_by_key_address_and_in_every_audience() {
    let mut known = known(CONTACT);
    known.addresses = addresses(&[ADA]);
    let expected = [
        ErasureStep::Look("17".into()),
        ErasureStep::EraseAddress(ADA.into()),
        member("a6b5da1054", ADA),
        member("other", ADA),
    ];
    assert_eq!(steps(&known), expected);
}

#[test]
fn an_address_that_hubspot_has_not_been_told_goes_as_well() {
    let mut known = known(CONTACT);
    known.hubspot = linked("512", Some(ADA));
    known.addresses = addresses(&[ADA, "new@example.org"]);
    known.targets = BTreeSet::from([Target::HubSpot]);
    let expected = [
        ErasureStep::Erase("512".into()),
        ErasureStep::EraseAddress("new@example.org".into()),
    ];
    assert_eq!(steps(&known), expected);
}

#[test]
fn a_row_that_is_long_gone_is_known_by_hash_and_former_id() {
    let mut known = known(CONTACT);
    known.former_ids = vec!["512".into()];
    known.hashes = BTreeSet::from([subscriber_hash(ADA)]);
    let expected = [
        ErasureStep::Erase("512".into()),
        ErasureStep::Look("17".into()),
        member("a6b5da1054", ADA),
        member("other", ADA),
    ];
    assert_eq!(steps(&known), expected);
}

#[test]
fn what_is_another_rows_stays() {
    let mut known = known(CONTACT);
    known.addresses = addresses(&[ADA]);
    known.taken = addresses(&[ADA]);
    let hash = subscriber_hash(ADA);
    known.taken_members = BTreeSet::from([("other".into(), hash)]);
    let expected = [ErasureStep::Look("17".into()), member("a6b5da1054", ADA)];
    assert_eq!(steps(&known), expected);
    assert!(known.shares());
    assert!(known.own_addresses().is_empty() && known.own_hashes().is_empty());
}

#[test]
fn other_records_are_archived_and_mailchimp_knows_nothing_of_them() {
    let mut known = known(COMPANY);
    known.hubspot = linked("77", None);
    assert_eq!(steps(&known), [ErasureStep::Archive("77".into())]);
    known.hubspot = None;
    assert_eq!(steps(&known), [ErasureStep::Look("17".into())]);
    assert_eq!(
        ErasureStep::remove(COMPANY, "77".into()),
        ErasureStep::Archive("77".into())
    );
}

#[test]
fn what_is_not_there_under_its_id_is_asked_for_by_its_addresses() {
    let own = addresses(&[ADA, "b@example.org"]);
    let next = |step: &ErasureStep, answer| step.next(CONTACT, answer, &own);
    let by_address = [
        ErasureStep::EraseAddress(ADA.into()),
        ErasureStep::EraseAddress("b@example.org".into()),
    ];
    assert_eq!(
        next(&ErasureStep::Erase("512".into()), ErasureAnswer::Absent),
        by_address
    );
    assert_eq!(
        next(&ErasureStep::Erase("512".into()), ErasureAnswer::Done),
        []
    );
    assert_eq!(next(&by_address[0], ErasureAnswer::Absent), []);
    assert_eq!(next(&member("list", ADA), ErasureAnswer::Absent), []);
    let found = next(
        &ErasureStep::Look("17".into()),
        ErasureAnswer::Found("7".into()),
    );
    assert_eq!(found, [ErasureStep::Erase("7".into())]);
    assert_eq!(
        next(&ErasureStep::Look("17".into()), ErasureAnswer::Absent),
        []
    );
}

fn any_step() -> impl Strategy<Value = ErasureStep> {
    let text = "[ -~]{0,12}";
    prop_oneof![
        text.prop_map(|key| ErasureStep::Look(key.as_str().into())),
        text.prop_map(|id| ErasureStep::Erase(id.as_str().into())),
        text.prop_map(ErasureStep::EraseAddress),
        text.prop_map(|id| ErasureStep::Archive(id.as_str().into())),
        (text, text).prop_map(|(list, hash)| ErasureStep::EraseMember { list, hash }),
    ]
}

proptest! {
    #[test]
    fn a_stored_step_is_the_same_step(step in any_step()) {
        let (action, name, list) = step.stored();
        prop_assert_eq!(ErasureStep::from_stored(action, name, list), Some(step));
    }

    #[test]
    fn no_step_is_about_what_is_another_rows(
        all in proptest::collection::btree_set("[a-d]@x\\.org", 0..4),
        taken in proptest::collection::btree_set("[a-d]@x\\.org", 0..4),
        lists in proptest::collection::vec("[p-s]", 0..3),
        linked in any::<bool>(),
    ) {
        let mut known = known(CONTACT);
        known.hubspot = linked.then(|| self::linked("512", all.first().map(String::as_str))).flatten();
        known.audiences.clone_from(&lists);
        known.taken_members = lists
            .iter()
            .flat_map(|list| taken.iter().map(|email| (list.clone(), subscriber_hash(email))))
            .collect();
        (known.addresses, known.taken) = (all.clone(), taken.clone());
        let steps = steps(&known);
        for step in &steps {
            match step {
                ErasureStep::EraseAddress(email) => prop_assert!(all.contains(email) && !taken.contains(email)),
                ErasureStep::EraseMember { list, hash } => {
                    prop_assert!(!known.taken_members.contains(&(list.clone(), hash.clone())));
                }
                ErasureStep::Look(_) => prop_assert!(!linked),
                ErasureStep::Erase(_) => prop_assert!(linked),
                ErasureStep::Archive(_) => prop_assert!(false, "a contact is erased"),
            }
        }
        // Nobody is asked for twice.
        let mut once = steps.clone();
        once.dedup();
        prop_assert_eq!(once, steps);
    }
}

#[test]
fn log_does_not_tell_who_was_erased() {
    let logged = |step: &ErasureStep, path: &str| {
        step.logged_path(&Request::get(step.target(), path.into()))
    };
    let step = member("a6b5da1054", ADA);
    let hash = subscriber_hash(ADA);
    let path = format!("/lists/a6b5da1054/members/{hash}/actions/delete-permanent");
    assert!(!logged(&step, &path).contains(&hash));
    assert_eq!(
        logged(&ErasureStep::Erase("512".into()), "/gdpr-delete"),
        "/gdpr-delete"
    );
}
