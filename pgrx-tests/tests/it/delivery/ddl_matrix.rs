//! Whatever is done to the definition of a tracked table while its changes are being sent, the
//! worker lives on, the other table goes on, and what no longer fits is named.

mod cases;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Config, unlimited},
    wait::{try_until, wait_until},
};
use std::{
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use cases::{CASES, Case, Shape, Then};

/// Rows that are waiting to be sent when the definition changes.
const BACKLOG: u32 = 1_500;

/// Databases at the same time.
const LANES: usize = 4;

/// Contacts of this shape and companies, with nothing sent yet.
fn start(shape: Shape) -> Crm {
    let mut crm = Crm::untracked(
        Cluster::shared(),
        Config {
            delay_ms: 40,
            ..unlimited()
        },
    );
    match shape {
        Shape::Table => {}
        Shape::View => crm.run(
            "CREATE VIEW crm.shown AS SELECT id, email, first_name, last_name, phone, company, job_title, marketing_opt_in FROM crm.contacts;
             SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown')",
        ),
        Shape::Partitions => crm.run(
            "ALTER TABLE crm.contacts RENAME TO model;
             CREATE TABLE crm.contacts (LIKE crm.model INCLUDING DEFAULTS) PARTITION BY RANGE (id);
             CREATE SEQUENCE crm.numbers;
             ALTER TABLE crm.contacts ADD PRIMARY KEY (id), ALTER id SET DEFAULT nextval('crm.numbers');
             CREATE TABLE crm.first PARTITION OF crm.contacts FOR VALUES FROM (1) TO (700);
             CREATE TABLE crm.rest PARTITION OF crm.contacts FOR VALUES FROM (700) TO (9000)",
        ),
    }
    crm.track();
    crm.run("INSERT INTO crm.companies (name) VALUES ('First')");
    crm.settle();
    crm
}

fn backlog_under_way(crm: &mut Crm) {
    crm.add_contacts(1, BACKLOG);
    wait_until("the backlog is under way", SOON, || {
        (crm.remote.stats().contacts > 0).then_some(())
    });
    assert!(
        crm.remote.stats().contacts < BACKLOG as usize,
        "the backlog is sent already"
    );
}

/// Each a transaction of its own.
fn run_each(crm: &mut Crm, statements: &[&str]) {
    let role = format!("{}_owner", crm.database);
    for sql in statements {
        crm.run(&sql.replace("{role}", &role));
    }
}

fn companies_go_on(crm: &mut Crm) {
    crm.run(
        "INSERT INTO crm.companies (name) SELECT 'Company ' || i FROM generate_series(1, 20) i;
         UPDATE crm.companies SET name = 'Renamed' WHERE name = 'First'",
    );
    let arrived = |crm: &Crm| {
        let companies = crm.remote.companies();
        companies.len() == 21
            && companies
                .iter()
                .any(|(_, fields)| fields["name"] == "Renamed")
    };
    if try_until(SOON, || arrived(crm).then_some(())).is_none() {
        panic!("companies do not go on\n{}", crm.report());
    }
}

/// Waits until `sql` says yes.
#[track_caller]
fn comes_to(crm: &mut Crm, what: &str, sql: &str) {
    if try_until(SOON, || crm.ask::<bool>(sql).then_some(())).is_none() {
        let said = crm.rows("SELECT source, target, state, reason FROM integration.table_status");
        panic!("{what}: {said:?}\n{}", crm.report());
    }
}

/// Waits until the tables of contacts have that many states `held` for that reason.
#[track_caller]
fn held(crm: &mut Crm, targets: &str, reason: &str) {
    comes_to(
        crm,
        "the table is held",
        &format!(
            "SELECT coalesce(string_agg(target, ',' ORDER BY target) = '{targets}' AND bool_and(reason LIKE '%{reason}%'), false)
             FROM integration.table_status WHERE state = 'held'"
        ),
    );
}

const NONE_HELD: &str =
    "SELECT NOT EXISTS (SELECT FROM integration.table_status WHERE state = 'held')";

fn holds(crm: &mut Crm, then: Then) {
    let hubspot_has_all = |crm: &mut Crm| {
        let empty = "SELECT NOT EXISTS (SELECT FROM integration.outbox WHERE target = 'hubspot')";
        comes_to(crm, "HubSpot's queue is empty", empty);
        assert_eq!(crm.remote.stats().contacts, BACKLOG as usize);
    };
    match then {
        Then::Arrives => {
            crm.settle();
            comes_to(crm, "no table is held", NONE_HELD);
        }
        Then::LeftOut(reason) => {
            let sql = format!(
                "SELECT coalesce(reason, '') LIKE '%{reason}%' FROM integration.status WHERE target = 'hubspot'"
            );
            comes_to(crm, "HubSpot's state names it", &sql);
            comes_to(crm, "no table is held", NONE_HELD);
            crm.settle();
            hubspot_has_all(crm);
        }
        Then::HeldForMailchimp(reason) => {
            held(crm, "mailchimp", reason);
            hubspot_has_all(crm);
        }
        Then::Held(reason) => held(crm, "hubspot,mailchimp", reason),
        Then::Forgotten => crm.settle(),
    }
}

fn run(case: &Case) {
    let mut crm = start(case.shape);
    let worker = crm.worker_pid();
    backlog_under_way(&mut crm);
    run_each(&mut crm, case.change);
    let sent = crm.remote.stats().contacts;
    companies_go_on(&mut crm);
    holds(&mut crm, case.then);
    if matches!(case.then, Then::Held(_)) {
        assert!(crm.remote.stats().contacts >= sent, "nobody is deleted");
    }
    if let Some(repair) = case.repair {
        run_each(&mut crm, repair);
        // A change makes the worker look.
        crm.run("UPDATE crm.contacts SET company = 'Repaired' WHERE id % 70 = 0");
        comes_to(&mut crm, "no table is held any more", NONE_HELD);
        crm.converges();
    }
    assert_eq!(crm.worker_pid(), worker, "it is the same worker");
    let role = format!("{}_owner", crm.database);
    crm.run(&format!(
        "DO $$ BEGIN
             IF to_regrole('{role}') IS NOT NULL THEN
                 REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role};
             END IF;
         END $$"
    ));
}

#[test]
fn no_change_of_a_definition_ends_the_worker_or_holds_up_another_table() {
    let next = AtomicUsize::new(0);
    let lane = || {
        let mut failed = Vec::new();
        while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
            if panic::catch_unwind(AssertUnwindSafe(|| run(case))).is_err() {
                failed.push(case.name);
            }
        }
        failed
    };
    let failed: Vec<&str> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .flat_map(|lane| lane.join().unwrap())
            .collect()
    });
    assert!(failed.is_empty(), "these do not hold: {failed:#?}");
}

/// Attaching waits for no reader: rows that were detached must not seem to be gone for a moment.
/// That moment is short: several databases, each of which tries again and again, meet it.
#[test]
fn rows_of_a_partition_that_is_attached_again_are_not_deleted() {
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(attach_again_and_again);
        }
    });
}

fn attach_again_and_again() {
    let mut crm = start(Shape::Partitions);
    crm.add_contacts(1, 1_000);
    crm.settle();
    for round in 1..=8 {
        crm.run("ALTER TABLE crm.contacts DETACH PARTITION crm.rest");
        // The worker has seen the table without it.
        crm.run(&format!(
            "UPDATE crm.contacts SET company = 'Alone {round}' WHERE id < 5"
        ));
        crm.settle();
        crm.run(&format!(
            "ALTER TABLE crm.contacts ATTACH PARTITION crm.rest FOR VALUES FROM (700) TO (9000);
             UPDATE crm.contacts SET last_name = 'Back {round}' WHERE id > 600"
        ));
        crm.settle();
        assert_eq!(crm.remote.stats().contacts, 1_000, "in round {round}");
    }
}

/// A table that is rewritten is empty to whoever began to look before: its rows are still there.
#[test]
fn rows_of_a_table_that_is_rewritten_are_not_deleted() {
    let mut crm = start(Shape::Table);
    crm.add_contacts(1, 1_000);
    crm.converges();
    for round in 1..=15 {
        crm.run(&format!(
            "UPDATE crm.contacts SET last_name = 'Before {round}' WHERE id > 600;
             ALTER TABLE crm.contacts ALTER job_title TYPE char({})",
            30 + round
        ));
        crm.run(&format!(
            "UPDATE crm.contacts SET last_name = 'Back {round}' WHERE id > 600"
        ));
        crm.settle();
        assert_eq!(crm.remote.stats().contacts, 1_000, "in round {round}");
        assert_eq!(
            crm.remote.contact("person900@example.org").unwrap().1["lastname"],
            format!("Back {round}")
        );
    }
}
