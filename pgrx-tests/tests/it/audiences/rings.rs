//! Rows that want each other's e-mail addresses, of which Mailchimp takes each but once and lets
//! nobody be without one: each takes over the member with its address, and nobody is harmed.

use std::sync::Arc;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Config, LoggedRequest, MemberAction, Service, Status, unlimited},
    wait::try_until,
};

use crate::audiences::addresses::{first_name, mailing, mailing_on};

/// Everybody opted in, with addresses `person1@example.org` and so on, and first names that say whose.
fn members(crm: &mut Crm, number: u32) {
    crm.run(&format!(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in)
         SELECT 'person' || n || '@example.org', 'Row ' || n, true FROM generate_series(1, {number}) n"
    ));
    crm.settle();
}

/// Rotates the addresses of the contacts `from..=to` by one, in one statement.
fn rotate(from: u32, to: u32) -> String {
    format!(
        "UPDATE crm.contacts SET email = format('person%s@example.org', CASE WHEN id = {to} THEN {from} ELSE id + 1 END) WHERE id BETWEEN {from} AND {to}"
    )
}

/// Nothing was given up, nobody changed status, and no call was made that changes an address, or
/// lets anybody leave or arrive: every row has the member with its address.
fn members_were_passed_on(crm: &mut Crm, number: u32) {
    assert_eq!(
        crm.rows("SELECT record_key, error FROM integration.dlq WHERE resolution IS NULL"),
        [""; 0]
    );
    crm.settle();
    for id in 1..=number {
        let email: String = crm.ask(&format!("SELECT email FROM crm.contacts WHERE id = {id}"));
        assert_eq!(first_name(crm, &email), format!("Row {id}"));
    }
    let requests = crm.remote.requests_to(Service::Mailchimp);
    let moved = |request: &&LoggedRequest| request.method == "DELETE" || request.method == "PUT";
    assert_eq!(requests.iter().filter(moved).count(), 0);
    assert_eq!(crm.remote.members().len(), number as usize);
}

#[test]
fn rings_of_rows_that_swap_their_addresses_pass_their_members_on() {
    let mut crm = mailing(unlimited());
    members(&mut crm, 130);
    crm.run(&format!(
        "BEGIN; {}; {}; {}; COMMIT",
        rotate(1, 3),
        rotate(4, 8),
        rotate(10, 130)
    ));
    members_were_passed_on(&mut crm, 130);
    let attempts: i64 = crm.ask("SELECT count(*) FROM integration.request_log WHERE attempt > 1");
    assert_eq!(attempts, 0);
}

#[test]
fn addresses_that_rows_swap_one_after_the_other_end_well() {
    let mut crm = mailing(unlimited());
    members(&mut crm, 4);
    // Each of them is refused until the last one has closed the ring.
    for (id, other) in [(1, 2), (2, 3), (3, 1)] {
        crm.run(&format!(
            "UPDATE crm.contacts SET email = 'person{other}@example.org' WHERE id = {id}"
        ));
        crm.settle();
    }
    members_were_passed_on(&mut crm, 4);
}

#[test]
fn who_opted_out_stays_so_in_a_ring() {
    let mut crm = mailing(unlimited());
    members(&mut crm, 4);
    crm.remote.person_unsubscribes("person1@example.org");
    crm.remote
        .member_does("person2@example.org", MemberAction::Clean)
        .unwrap();
    crm.run(&format!(
        "BEGIN; {}; UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 2; COMMIT",
        rotate(1, 4)
    ));
    crm.settle();
    // Row 4 has the address of who unsubscribed, row 1 that of who was cleaned, row 2 opted out.
    let statuses: Vec<_> = (1..=4)
        .map(|n| crm.remote.status_of(&format!("person{n}@example.org")))
        .collect();
    assert_eq!(
        statuses,
        [
            Status::Unsubscribed,
            Status::Cleaned,
            Status::Unsubscribed,
            Status::Subscribed
        ]
        .map(Some)
    );
    let again = crm.remote.subscribed();
    assert_eq!(
        again.len(),
        4,
        "nobody was subscribed a second time: {again:?}"
    );
    assert_eq!(
        crm.rows("SELECT DISTINCT record_key, category FROM integration.dlq ORDER BY 1"),
        ["1|consent", "4|consent"]
    );
}

#[test]
fn ring_survives_crashes() {
    let config = Config {
        delay_ms: 30,
        ..unlimited()
    };
    let mut crm = mailing_on(Arc::new(Cluster::start(&[], &[])), config);
    members(&mut crm, 40);
    for round in 0..4 {
        crm.run(&rotate(1, 40));
        let calls = crm.remote.stats().mailchimp_requests;
        let _ = try_until(SOON, || {
            (crm.remote.stats().mailchimp_requests > calls + round % 3 || crm.queue_is_empty())
                .then_some(())
        });
        crm.kill_worker();
    }
    members_were_passed_on(&mut crm, 40);
}
