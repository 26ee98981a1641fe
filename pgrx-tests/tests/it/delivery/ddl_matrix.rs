//! Whatever is done to the definition of a tracked table while its changes are being sent, the
//! worker lives on, the other table goes on, and what no longer fits is named.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Config, unlimited},
    wait::{try_until, wait_until},
};

/// Rows that are waiting to be sent when the definition changes.
const BACKLOG: u32 = 1_500;

/// Databases at the same time.
const LANES: usize = 4;

/// What the tracked table is made of.
#[derive(Clone, Copy)]
enum Shape {
    Table,
    /// Read through a view `crm.shown`.
    View,
    /// In two partitions, `crm.first` and `crm.rest`.
    Partitions,
}

/// What must hold once the definition has changed.
#[derive(Clone, Copy)]
enum Then {
    /// Everything of the table arrives.
    Arrives,
    /// Everything arrives but one thing, which the reason of HubSpot's state names.
    LeftOut(&'static str),
    /// The table is held for Mailchimp, for this reason, and everything arrives in HubSpot.
    HeldForMailchimp(&'static str),
    /// The table is held, for this reason, and nothing of it is deleted.
    Held(&'static str),
    /// Nothing waits any more, whatever arrived.
    Forgotten,
}

struct Case {
    name: &'static str,
    shape: Shape,
    /// Each a transaction of its own. `{role}` is a role that has no rights.
    change: &'static [&'static str],
    then: Then,
    /// Makes the table what it was, after which everything arrives; nothing if that cannot be done.
    repair: Option<&'static [&'static str]>,
}

const fn case(
    name: &'static str,
    change: &'static [&'static str],
    then: Then,
    repair: Option<&'static [&'static str]>,
) -> Case {
    let shape = Shape::Table;
    Case {
        name,
        shape,
        change,
        then,
        repair,
    }
}

const fn view(
    name: &'static str,
    change: &'static [&'static str],
    then: Then,
    repair: Option<&'static [&'static str]>,
) -> Case {
    let shape = Shape::View;
    Case {
        shape,
        ..case(name, change, then, repair)
    }
}

const fn partitions(
    name: &'static str,
    change: &'static [&'static str],
    then: Then,
    repair: Option<&'static [&'static str]>,
) -> Case {
    let shape = Shape::Partitions;
    Case {
        shape,
        ..case(name, change, then, repair)
    }
}

const AS_BEFORE: Option<&[&str]> = Some(&[]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("rename a mapped column",
        &["ALTER TABLE crm.contacts RENAME first_name TO given_name", "UPDATE crm.contacts SET given_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.contacts RENAME given_name TO first_name"])),
    case("rename the key column",
        &["ALTER TABLE crm.contacts RENAME id TO no", "UPDATE crm.contacts SET last_name = 'Then' WHERE no % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.contacts RENAME no TO id"])),
    case("rename the consent column",
        &["ALTER TABLE crm.contacts RENAME marketing_opt_in TO may_write", "UPDATE crm.contacts SET may_write = false WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.contacts RENAME may_write TO marketing_opt_in"])),
    case("rename the table",
        &["ALTER TABLE crm.contacts RENAME TO people", "UPDATE crm.people SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.people RENAME TO contacts"])),
    case("another table takes its name",
        &["ALTER TABLE crm.contacts RENAME TO people; CREATE TABLE crm.contacts (LIKE crm.people INCLUDING ALL)", "UPDATE crm.people SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["DROP TABLE crm.contacts; ALTER TABLE crm.people RENAME TO contacts"])),
    case("set schema",
        &["CREATE SCHEMA sales; ALTER TABLE crm.contacts SET SCHEMA sales", "UPDATE sales.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE sales.contacts SET SCHEMA crm"])),
    case("rename the schema",
        &["ALTER SCHEMA crm RENAME TO sales; CREATE SCHEMA crm; ALTER TABLE sales.companies SET SCHEMA crm", "UPDATE sales.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE sales.contacts SET SCHEMA crm"])),
    case("add columns",
        &["ALTER TABLE crm.contacts ADD score int DEFAULT 1, ADD seen timestamptz DEFAULT clock_timestamp()", "UPDATE crm.contacts SET score = 2, last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("drop a column that is not mapped",
        &["ALTER TABLE crm.contacts DROP notes", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("drop a mapped column",
        &["ALTER TABLE crm.contacts DROP job_title", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::LeftOut("column job_title was dropped"),
        Some(&["ALTER TABLE crm.contacts ADD job_title text; UPDATE crm.contacts SET job_title = 'Clerk'; SELECT integration.map_field('crm.contacts', 'job_title', 'hubspot', 'jobtitle'); SELECT integration.backfill('crm.contacts'); SELECT integration.wait_idle()"])),
    case("drop the consent column",
        &["ALTER TABLE crm.contacts DROP marketing_opt_in", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::HeldForMailchimp("column marketing_opt_in was dropped"),
        Some(&["ALTER TABLE crm.contacts ADD marketing_opt_in boolean; UPDATE crm.contacts SET marketing_opt_in = id % 2 = 0; SELECT integration.map_field('crm.contacts', 'marketing_opt_in', 'mailchimp', 'status')"])),
    case("drop the key column",
        &["ALTER TABLE crm.contacts DROP id"],
        Then::Held("column id was dropped"), None),
    case("retype a mapped column",
        &["ALTER TABLE crm.contacts ALTER first_name TYPE char(40), ALTER phone TYPE varchar(99)", "UPDATE crm.contacts SET phone = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, Some(&["ALTER TABLE crm.contacts ALTER first_name TYPE text"])),
    case("retype the key column",
        &["ALTER TABLE crm.contacts ALTER id TYPE integer", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("retype the key column so that keys are written otherwise",
        &["ALTER TABLE crm.contacts ALTER id DROP IDENTITY; ALTER TABLE crm.contacts ALTER id TYPE numeric(12, 2)"],
        Then::Held("type of key column id was changed"), Some(&["ALTER TABLE crm.contacts ALTER id TYPE bigint"])),
    case("retype the consent column",
        &["ALTER TABLE crm.contacts ALTER marketing_opt_in TYPE integer USING marketing_opt_in::integer"],
        Then::HeldForMailchimp("marketing_opt_in"), Some(&["ALTER TABLE crm.contacts ALTER marketing_opt_in TYPE boolean USING marketing_opt_in::boolean"])),
    case("owner",
        &["CREATE ROLE {role}; GRANT USAGE ON SCHEMA crm TO {role}; ALTER TABLE crm.contacts OWNER TO {role}", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("an owner who may not use the schema",
        &["CREATE ROLE {role}; ALTER TABLE crm.contacts OWNER TO {role}"],
        Then::Held("permission denied for schema crm"), Some(&["GRANT USAGE ON SCHEMA crm TO {role}"])),
    case("force row security",
        &["CREATE ROLE {role}; GRANT USAGE ON SCHEMA crm TO {role}; ALTER TABLE crm.contacts OWNER TO {role}; ALTER TABLE crm.contacts ENABLE ROW LEVEL SECURITY; ALTER TABLE crm.contacts FORCE ROW LEVEL SECURITY"],
        Then::Held("row security hides rows"), Some(&["ALTER TABLE crm.contacts NO FORCE ROW LEVEL SECURITY"])),
    case("drop the primary key",
        &["ALTER TABLE crm.contacts DROP CONSTRAINT contacts_pkey", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    case("disable triggers",
        &["ALTER TABLE crm.contacts DISABLE TRIGGER USER"],
        Then::LeftOut("is disabled"), Some(&["ALTER TABLE crm.contacts ENABLE TRIGGER USER"])),
    case("truncate",
        &["TRUNCATE crm.contacts", "INSERT INTO crm.contacts (email, first_name, marketing_opt_in) VALUES ('then@example.org', 'Then', true)"],
        Then::Arrives, AS_BEFORE),
    case("drop the table", &["DROP TABLE crm.contacts"], Then::Held("the table was dropped"), None),
    case("drop the table and make it again",
        &["CREATE TABLE crm.next (LIKE crm.contacts INCLUDING ALL); INSERT INTO crm.next OVERRIDING SYSTEM VALUE SELECT * FROM crm.contacts; DROP TABLE crm.contacts; ALTER TABLE crm.next RENAME TO contacts"],
        Then::Held("the table was dropped"), None),
    case("drop the table and come to one's senses", &["BEGIN; DROP TABLE crm.contacts; ROLLBACK"], Then::Arrives, AS_BEFORE),
    case("untrack", &["SELECT integration.untrack('crm.contacts')"], Then::Forgotten, None),
    case("rewrite", &["VACUUM FULL crm.contacts", "CLUSTER crm.contacts USING contacts_pkey", "ALTER TABLE crm.contacts SET UNLOGGED", "REINDEX TABLE crm.contacts"], Then::Arrives, AS_BEFORE),
    case("inherit", &["CREATE TABLE crm.special () INHERITS (crm.contacts)"], Then::Arrives, AS_BEFORE),
    view("replace the payload view",
        &["CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name || '' AS first_name, last_name, phone, company, job_title, marketing_opt_in, 1 AS more FROM crm.contacts", "UPDATE crm.contacts SET last_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    view("replace the payload view by one that fails",
        &["CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name || 1 / (id - id) AS first_name, last_name, phone, company, job_title, marketing_opt_in FROM crm.contacts"],
        Then::Held("division by zero"), Some(&["CREATE OR REPLACE VIEW crm.shown AS SELECT id, email, first_name, last_name, phone, company, job_title, marketing_opt_in FROM crm.contacts"])),
    view("rename the payload view and a column of it",
        &["ALTER VIEW crm.shown RENAME TO displayed; ALTER VIEW crm.displayed RENAME first_name TO given_name", "UPDATE crm.contacts SET first_name = 'Then' WHERE id % 50 = 0"],
        Then::Arrives, AS_BEFORE),
    view("drop the payload view",
        &["DROP VIEW crm.shown"],
        Then::Held("its payload view was dropped"),
        Some(&["CREATE VIEW crm.shown AS SELECT * FROM crm.contacts; SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown')"])),
    view("drop the payload view and make it again without a column",
        &["DROP VIEW crm.shown; CREATE VIEW crm.shown AS SELECT id, email, first_name, phone, company, job_title, marketing_opt_in FROM crm.contacts"],
        Then::Held("its payload view was dropped"), None),
    view("drop the table and its payload view", &["DROP TABLE crm.contacts CASCADE"], Then::Held("the table was dropped"), None),
    partitions("attach a partition",
        &["CREATE TABLE crm.more (gone int, LIKE crm.contacts INCLUDING ALL); ALTER TABLE crm.more DROP gone; ALTER TABLE crm.contacts ATTACH PARTITION crm.more FOR VALUES FROM (9000) TO (9999)",
          "INSERT INTO crm.contacts (id, email, first_name, marketing_opt_in) VALUES (9001, 'then@example.org', 'Then', true)"],
        Then::Arrives, AS_BEFORE),
    partitions("detach a partition",
        &["ALTER TABLE crm.contacts DETACH PARTITION crm.rest"],
        Then::Forgotten, Some(&["ALTER TABLE crm.contacts ATTACH PARTITION crm.rest FOR VALUES FROM (700) TO (9000); UPDATE crm.contacts SET last_name = 'Back'"])),
    partitions("detach a partition concurrently", &["ALTER TABLE crm.contacts DETACH PARTITION crm.rest CONCURRENTLY"], Then::Forgotten, None),
    partitions("drop a partition", &["DROP TABLE crm.rest"], Then::Forgotten, None),
    partitions("truncate a partition", &["TRUNCATE crm.rest"], Then::Forgotten, None),
];

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
