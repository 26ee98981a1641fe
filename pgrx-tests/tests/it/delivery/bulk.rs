//! Large statements: everything arrives, in few requests, in bounded memory.

use std::io::Write as _;

use integration_tests::{
    crm::{Crm, LATER},
    process::peak_memory_kb,
    remote::Service,
};

const MANY: u32 = 100_000;

#[test]
fn update_of_a_hundred_thousand_rows_arrives() {
    let mut crm = Crm::start();
    crm.add_contacts(1, MANY);
    crm.converges_within(LATER);
    let before = crm.remote.requests_to(Service::HubSpot).len();
    crm.run("UPDATE crm.contacts SET phone = '+49 40 ' || id, last_name = last_name || ' II'");
    crm.converges_within(LATER);
    let requests = crm.remote.requests_to(Service::HubSpot).len() - before;
    assert!(
        requests <= 1_200,
        "{requests} HubSpot requests for {MANY} records"
    );
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    let peak = peak_memory_kb(crm.worker_pid()).unwrap();
    assert!(
        peak < 400_000,
        "the worker used {peak} kB; shared memory and an unoptimised build included"
    );
}

#[test]
fn copy_arrives() {
    let mut crm = Crm::start();
    let mut rows = crm.client.copy_in("COPY crm.contacts (email, first_name, last_name, marketing_opt_in) FROM STDIN (FORMAT csv)").unwrap();
    for number in 0..20_000 {
        writeln!(
            rows,
            "copied{number}@example.org,Copied,\"Number, {number}\",{}",
            number % 5 == 0
        )
        .unwrap();
    }
    assert_eq!(rows.finish().unwrap(), 20_000);
    crm.converges_within(LATER);
    assert_eq!(crm.remote.members().len(), 4_000);
}

#[test]
fn many_small_transactions_of_many_sessions_arrive() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 200);
    std::thread::scope(|scope| {
        for session in 0..4 {
            let mut client = crm.connect();
            scope.spawn(move || {
                for round in 0..250 {
                    let id = (session * 50 + round) % 200 + 1;
                    let sql = format!("UPDATE crm.contacts SET phone = '{session}/{round}', first_name = 'Round {round}' WHERE id = {id}");
                    client.batch_execute(&sql).unwrap();
                }
            });
        }
    });
    crm.converges_within(LATER);
    assert_eq!(crm.remote.stats().overlaps, 0);
}

#[test]
fn statement_that_touches_everything_twice_is_sent_once() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 5_000);
    crm.converges_within(LATER);
    let before = crm.remote.requests_to(Service::HubSpot).len();
    crm.run("BEGIN; UPDATE crm.contacts SET phone = '1'; UPDATE crm.contacts SET phone = '2', company = 'Two'; COMMIT");
    crm.converges_within(LATER);
    let requests = crm.remote.requests_to(Service::HubSpot).len() - before;
    assert!(requests <= 60, "{requests} requests for 5,000 records");
}
