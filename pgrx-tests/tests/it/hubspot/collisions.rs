//! A table that names its records as somebody else names theirs is held, and told once.

use integration_tests::portal::provision;
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{ObjectType, unlimited},
    wait::{holds_for, wait_until},
};

use super::external_ids::{deals, fill, held, names, prefix};
use crate::safety::copies::restored_copy;

const LETTERS: &str = "SELECT count(*) FROM integration.dlq WHERE resolution IS NULL";
const ALERTS: &str = "SELECT kind, target, subject FROM integration.alert WHERE cleared_at IS NULL";

/// Two databases whose deals and companies have the same names. The second one's deals wait.
fn colliding() -> (Crm, Crm) {
    let mut first = Crm::untracked(Cluster::shared(), unlimited());
    let mut second = first.neighbour();
    for crm in [&mut first, &mut second] {
        deals(crm, "deals", ", external_id => 'acme:'");
        crm.run("SELECT integration.track('crm.companies', 'company')");
        provision(crm);
    }
    fill(&mut first, "deals", 250);
    first.settle();
    fill(&mut second, "deals", 250);
    fill(&mut second, "companies", 20);
    (first, second)
}

#[track_caller]
fn is_held(crm: &mut Crm) -> String {
    let reason = "SELECT reason FROM integration.table_status WHERE source = 'crm.deals'::regclass AND state = 'held'";
    wait_until("the table is held", SOON, || crm.rows(reason).pop())
}

fn next_worker(crm: &mut Crm) {
    let before = crm.worker_pid();
    crm.run("SELECT integration.reload()");
    wait_until("there is another worker", SOON, || {
        crm.cluster
            .worker_pid(&crm.database)
            .filter(|pid| *pid != before)
    });
}

#[test]
fn table_whose_names_are_taken_is_held_and_told_once() {
    let (mut first, mut second) = colliding();
    let reason = is_held(&mut second);
    for part in [
        "are somebody else's",
        "is known by acme:",
        "SELECT integration.track('crm.deals', 'deal', external_id =>",
        "SELECT integration.resume('hubspot');",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    // All other tables go on; nothing of this one is lost, refused or written.
    wait_until("companies go on", SOON, || {
        (second.remote.companies().len() == 20).then_some(())
    });
    let waiting = "SELECT count(*) FROM integration.outbox WHERE source = 'crm.deals'::regclass";
    holds_for("they wait", std::time::Duration::from_secs(1), || {
        second.ask::<i64>(waiting) == 250
    });
    assert_eq!(second.ask::<i64>(LETTERS), 0);
    assert_eq!(second.rows(ALERTS), ["held_table|hubspot|crm.deals"]);
    let line = second.rows("SELECT state, reason FROM integration.status WHERE target = 'hubspot'");
    assert!(
        line[0].starts_with("running|crm.deals is held: "),
        "{line:?}"
    );
    // So it is by the next worker.
    next_worker(&mut second);
    is_held(&mut second);
    assert_eq!(second.ask::<i64>(LETTERS), 0);
    // Under names of its own it goes on.
    second.run("SELECT integration.track('crm.deals', 'deal', external_id => 'other:')");
    second.settle_within(LATER);
    assert_eq!(second.rows(ALERTS), [""; 0]);
    assert_eq!(second.ask::<i64>(LETTERS), 0);
    let mut all = [names(&mut first, "deals"), names(&mut second, "deals")].concat();
    all.sort();
    assert_eq!(held(&first, ObjectType::Deal, "dealname"), all);
}

#[test]
fn who_knows_of_it_has_a_dead_letter_for_each_and_the_others_sent() {
    let (mut first, mut second) = colliding();
    is_held(&mut second);
    second.run("INSERT INTO crm.deals (name) VALUES ('Its own')");
    second.run("SELECT integration.resume('hubspot')");
    second.settle_within(LATER);
    assert_eq!(second.ask::<i64>(LETTERS), 250);
    assert_eq!(second.rows(ALERTS), [""; 0]);
    let mut all = names(&mut first, "deals");
    all.push("Its own".to_owned());
    all.sort();
    assert_eq!(held(&first, ObjectType::Deal, "dealname"), all);
    // That is not forgotten.
    next_worker(&mut second);
    second.run("UPDATE crm.deals SET name = name || '!'");
    second.settle_within(LATER);
    assert_eq!(second.ask::<i64>(LETTERS), 250);
    assert_eq!(second.rows(ALERTS), [""; 0]);
}

#[test]
fn restored_dump_knows_its_records_by_the_same_names() {
    let mut original = Crm::untracked(Cluster::shared(), unlimited());
    deals(&mut original, "sales", "");
    deals(&mut original, "rentals", ", external_id => 'rent:'");
    original.run("SELECT integration.track('crm.contacts', 'contact', targets => '{hubspot}')");
    provision(&mut original);
    fill(&mut original, "sales", 30);
    fill(&mut original, "rentals", 30);
    original.run("INSERT INTO crm.contacts (email, first_name) SELECT format('p%s@example.org', n), 'Ada' FROM generate_series(1, 30) n");
    original.settle();
    let ids = |crm: &Crm, object| held(crm, object, "crm_id");
    let deals_before = ids(&original, ObjectType::Deal);
    let contacts_before = ids(&original, ObjectType::Contact);
    let prefixes = [1, 2, 3].map(|id| prefix(&mut original, id));
    let mut copy = restored_copy(&mut original);
    original.run("SELECT integration.pause('hubspot')");
    // As if nothing were known of them but their names; where somebody chose those, that is not enough.
    copy.run("DELETE FROM integration._link WHERE record_key::integer % 2 = 0 AND source <> 2");
    copy.run("SELECT integration.adopt()");
    assert_eq!([1, 2, 3].map(|id| prefix(&mut copy, id)), prefixes);
    copy.run("UPDATE crm.sales SET name = 'Sold ' || id; UPDATE crm.rentals SET name = name || '!'; UPDATE crm.contacts SET first_name = 'Eva'");
    copy.settle_within(LATER);
    assert_eq!(copy.rows("SELECT error FROM integration.dlq"), [""; 0]);
    assert_eq!(ids(&copy, ObjectType::Deal), deals_before);
    assert_eq!(ids(&copy, ObjectType::Contact), contacts_before);
    let mut all = [names(&mut copy, "sales"), names(&mut copy, "rentals")].concat();
    all.sort();
    assert_eq!(held(&copy, ObjectType::Deal, "dealname"), all);
    assert_eq!(
        held(&copy, ObjectType::Contact, "firstname"),
        vec!["Eva"; 30]
    );
}
