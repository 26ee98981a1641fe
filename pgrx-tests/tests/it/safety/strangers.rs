//! What anybody may do in the database holds up nobody; and of two who want the same, one waits.

use std::thread;

use integration_tests::{
    crm::{Crm, SOON},
    remote::MemberAction,
    wait::wait_until,
};
use postgres::Client;

/// What once kept two callers apart, and any role can take.
const LOCKS: &str = "SELECT pg_advisory_lock(hashtext('integration.poll'), 0),
    pg_advisory_lock(hashtext('integration.erase'), hashtext(t || ' 1')) FROM generate_series(1, 10) t";

#[test]
fn locks_that_anybody_can_take_block_nobody() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 4);
    crm.converges();
    let role = format!("{}_stranger", crm.database);
    crm.run(&format!("CREATE ROLE {role}"));
    let mut stranger = crm.connect();
    stranger
        .batch_execute(&format!("SET ROLE {role}; {LOCKS}"))
        .unwrap();
    crm.run("SET lock_timeout = '2s'");
    for call in [
        "SELECT integration.poll()",
        "SELECT integration.erase('crm.contacts', '1')",
    ] {
        let job: i64 = crm.ask(call);
        let state = format!("SELECT state FROM integration.job WHERE id = {job}");
        wait_until("it is done", SOON, || {
            (crm.ask::<String>(&state) == "done").then_some(())
        });
    }
    assert!(crm.ask::<bool>("SELECT integration.allow_again('crm.contacts', '1')"));
    drop(stranger);
    crm.run(&format!("DROP ROLE {role}"));
}

/// Calls in another session, which waits for the open transaction of `first`; `end` ends that.
fn meanwhile(crm: &mut Crm, first: &mut Client, call: &'static str, end: &str) -> i64 {
    let mut second = crm.connect();
    let pid: i32 = second
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    let second = thread::spawn(move || second.query_one(call, &[]).unwrap().get::<_, i64>(0));
    let waits = format!("SELECT cardinality(pg_blocking_pids({pid})) > 0");
    wait_until("the second caller waits", SOON, || {
        crm.ask::<bool>(&waits).then_some(())
    });
    first.batch_execute(end).unwrap();
    second.join().unwrap()
}

#[test]
fn two_callers_at_once_have_one_job() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 4);
    crm.converges();
    let leaves = MemberAction::Unsubscribe { abuse: false };
    crm.remote
        .member_does("person2@example.org", leaves)
        .unwrap();
    for call in [
        "SELECT integration.poll()",
        "SELECT integration.erase('crm.contacts', '2')",
    ] {
        for (end, same) in [("ROLLBACK", false), ("COMMIT", true)] {
            let mut first = crm.connect();
            first.batch_execute("BEGIN").unwrap();
            let job: i64 = first.query_one(call, &[]).unwrap().get(0);
            // Nothing is done for it before both have called.
            crm.run("SELECT integration.pause('hubspot'), integration.pause('mailchimp')");
            let other = meanwhile(&mut crm, &mut first, call, end);
            assert_eq!(job == other, same, "{call}: {end}");
            crm.run("SELECT integration.resume('hubspot'), integration.resume('mailchimp')");
            let state = format!("SELECT state FROM integration.job WHERE id = {other}");
            wait_until("it is done", SOON, || {
                (crm.ask::<String>(&state) == "done").then_some(())
            });
        }
    }
}
