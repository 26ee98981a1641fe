//! A comparison that is interrupted, cancelled or refused, and one that goes on beside live changes.

use super::reconcile::{begin, compared, few, found, id_of, in_step};
use crate::jobs::backfill::{slow, wait_for};
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Config, Fault, FaultKind, Service, When, unlimited},
    sql::refused_with_hint,
    wait::wait_until,
};
use std::sync::Arc;

#[test]
fn live_changes_are_no_drift() {
    let mut crm = in_step(Cluster::shared(), slow(), 600);
    let id = begin(&mut crm, "hubspot", false);
    let mut rounds = 0;
    wait_until("the comparison is done", SOON, || {
        rounds += 1;
        crm.run(&format!(
            "UPDATE crm.contacts SET phone = 'round {rounds}' WHERE id % 5 = {rounds} % 5;
             INSERT INTO crm.contacts (email) VALUES ('new{rounds}@example.org');
             DELETE FROM crm.contacts WHERE id = 3 + {rounds}"
        ));
        if rounds % 4 == 0 {
            crm.settle();
        }
        (rounds > 12
            && crm.ask::<bool>(&format!(
                "SELECT state = 'done' FROM integration.job WHERE id = {id}"
            )))
        .then_some(())
    });
    assert_eq!(found(&mut crm, "hubspot"), [""; 0]);
    crm.converges();
}

#[test]
fn killed_worker_goes_on_at_its_mark() {
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let slower = Config {
        delay_ms: 100,
        ..unlimited()
    };
    let mut crm = in_step(cluster, slower, 1_500);
    let id_of_drift = id_of(&crm, 50);
    crm.remote.person_sets(id_of_drift, "phone", "theirs");
    let id = begin(&mut crm, "hubspot", false);
    wait_until("it is under way", SOON, || {
        let far = "SELECT coalesce(max(done), 0) BETWEEN 1800 AND 2400 FROM integration._reconcile";
        crm.ask::<bool>(far).then_some(())
    });
    let asked = |crm: &Crm| {
        let pages = crm.remote.requests_to(Service::HubSpot).into_iter();
        pages
            .filter(|request| {
                ["/contacts/batch/read", "/contacts?limit="]
                    .iter()
                    .any(|part| request.path.contains(part))
            })
            .count()
    };
    let before = asked(&crm);
    crm.kill_worker();
    wait_for(
        &mut crm,
        id,
        "state = 'done' AND done = 3000 AND total = 3000",
    );
    // 30 in all. What was committed just before the kill may not have been on disk yet.
    let after = asked(&crm) - before;
    assert!((5..25).contains(&after), "{after} requests");
    assert_eq!(
        found(&mut crm, "hubspot"),
        ["field|50|phone|+49 30 100050|theirs|NULL|f"]
    );
}

#[test]
fn cancelled_and_refused() {
    let mut crm = in_step(Cluster::shared(), unlimited(), 250);
    crm.run("SELECT integration.pause('hubspot', 'a while')");
    let id = begin(&mut crm, "hubspot", false);
    wait_for(
        &mut crm,
        id,
        "state = 'paused' AND error LIKE '%hubspot is paused: a while'",
    );
    assert_eq!(begin(&mut crm, "hubspot", false), id);
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.reconcile('crm.contacts', 'hubspot', true)",
        "55006",
    );
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.reconcile('crm.companies', 'mailchimp')",
        "42704",
    );
    assert!(crm.ask::<bool>(&format!("SELECT integration.cancel_job({id})")));
    wait_until("nothing of it is left", SOON, || {
        crm.ask::<bool>("SELECT NOT EXISTS (SELECT FROM integration._reconcile)")
            .then_some(())
    });
    let again = begin(&mut crm, "hubspot", true);
    assert_ne!(again, id);
    crm.run("SELECT integration.resume('hubspot')");
    wait_for(&mut crm, again, "state = 'done'");
}

#[test]
fn goes_on_after_an_outage() {
    let mut crm = few();
    let fault = Fault::new(
        FaultKind::Status {
            code: 503,
            body: integration_tests::remote::FaultBody::Empty,
            retry_after: None,
        },
        When::NextN(5),
    );
    crm.remote
        .add_fault(fault.service(Service::HubSpot).path("/batch/read"));
    let id = id_of(&crm, 1);
    crm.remote.person_sets(id, "firstname", "Theirs");
    assert_eq!(
        compared(&mut crm, false),
        ["field|1|firstname|First 1|Theirs|NULL|f"]
    );
}
