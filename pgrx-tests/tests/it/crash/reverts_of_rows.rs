//! A call was under way when the worker was killed, and its row is deleted, entered again, named
//! otherwise or given another parent before the next worker looks.

use super::reverts::{Death, ada_on, both_have, interrupted, own_server};
use crate::hubspot::associations::{self, agree};
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Fault, FaultKind, Service, Status, When, unlimited},
    wait::wait_until,
};

#[test]
fn row_that_was_deleted_and_entered_again_is_there_again() {
    let mut crm = ada_on(own_server());
    let again = "INSERT INTO crm.contacts (id, email, first_name, phone, marketing_opt_in) OVERRIDING SYSTEM VALUE
         VALUES (1, 'ada@example.org', 'Ada', '1', true)";
    let gone = |crm: &Crm| crm.remote.contacts().is_empty();
    let archived = |crm: &Crm| crm.remote.status_of("ada@example.org") == Some(Status::Archived);
    interrupted(
        &mut crm,
        "DELETE FROM crm.contacts",
        gone,
        Death::Worker,
        again,
    );
    crm.converges();
    interrupted(
        &mut crm,
        "DELETE FROM crm.contacts",
        archived,
        Death::Server,
        again,
    );
    crm.converges();
    assert_eq!(crm.remote.contacts().len(), 1);
}

/// The change under way was of the row as it was before it was entered again.
#[test]
fn value_of_a_row_that_was_entered_again_is_sent_again() {
    let mut crm = ada_on(own_server());
    interrupted(
        &mut crm,
        "UPDATE crm.contacts SET phone = '2'",
        |crm| both_have(crm, "2"),
        Death::Server,
        "DELETE FROM crm.contacts;
         INSERT INTO crm.contacts (id, email, first_name, phone, marketing_opt_in) OVERRIDING SYSTEM VALUE
         VALUES (1, 'ada@example.org', 'Ada', '1', true)",
    );
    crm.converges();
}

#[test]
fn value_of_a_row_that_got_another_key_is_sent_again() {
    let mut crm = ada_on(own_server());
    crm.run("ALTER TABLE crm.contacts ALTER id DROP IDENTITY");
    interrupted(
        &mut crm,
        "UPDATE crm.contacts SET phone = '2'",
        |crm| both_have(crm, "2"),
        Death::Worker,
        "UPDATE crm.contacts SET phone = '1', id = 7",
    );
    crm.converges();
    assert!(both_have(&crm, "1"));
}

#[test]
fn address_that_was_taken_back_leaves_nobody_behind() {
    let mut crm = ada_on(own_server());
    let new = "countess@example.org";
    interrupted(
        &mut crm,
        &format!("UPDATE crm.contacts SET email = '{new}'"),
        |crm| crm.remote.contact(new).is_some() && crm.remote.member(new).is_some(),
        Death::Worker,
        "UPDATE crm.contacts SET email = 'ada@example.org'",
    );
    crm.converges();
    assert_eq!(crm.remote.contacts().len(), 1);
    let subscribed = crm.remote.members().into_iter();
    let subscribed: Vec<String> = subscribed
        .filter(|member| member.status == Status::Subscribed)
        .map(|member| member.email)
        .collect();
    assert_eq!(subscribed, ["ada@example.org"]);
}

#[test]
fn reference_that_was_taken_back_is_the_only_one() {
    let mut crm = associations::start_on(own_server(), unlimited());
    associations::companies(&mut crm, 2);
    crm.run(
        "INSERT INTO crm.contacts (email, company_id, marketing_opt_in) VALUES ('ada@example.org', 1, false);
         INSERT INTO crm.deals VALUES (1, 'Deal', 1, 1)",
    );
    assert_eq!(agree(&mut crm).len(), 3);
    let company = |crm: &Crm| -> Vec<u64> {
        let associations = crm.remote.associations();
        let of_contact = associations
            .iter()
            .filter(|known| (known.from_type, known.to_type) == ("contacts", "companies"));
        of_contact.map(|known| known.to).collect()
    };
    let before = company(&crm);
    for death in [Death::Worker, Death::Server] {
        // First the old one is ended, then the new one made: caught in either.
        interrupted(
            &mut crm,
            "UPDATE crm.contacts SET company_id = 2; UPDATE crm.deals SET company_id = 2",
            |crm| company(crm) != before,
            death,
            "UPDATE crm.contacts SET company_id = 1; UPDATE crm.deals SET company_id = 1",
        );
        assert_eq!(agree(&mut crm).len(), 3);
        assert_eq!(company(&crm), before);
    }
}

/// As before, of a deletion: nobody knows whether the record still is there.
#[test]
fn row_that_is_entered_again_after_a_lost_deletion_is_there_again() {
    let mut crm = ada_on(Cluster::shared());
    crm.set("retry_base", "1s");
    crm.set("retry_max", "1s");
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta'");
    crm.converges();
    let lost = Fault::new(FaultKind::AnswerLost, When::NextN(1)).service(Service::HubSpot);
    crm.remote.add_fault(lost.path("/batch/archive"));
    crm.run("DELETE FROM crm.contacts");
    wait_until("it waits for its retry", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration._retry WHERE target = 1)")
            .then_some(())
    });
    crm.run(
        "INSERT INTO crm.contacts (id, email, first_name, phone, marketing_opt_in) OVERRIDING SYSTEM VALUE
         VALUES (1, 'ada@example.org', 'Augusta', '1', true)",
    );
    crm.converges();
    assert_eq!(crm.remote.contacts().len(), 1);
}
