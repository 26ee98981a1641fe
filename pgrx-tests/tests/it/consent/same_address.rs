//! An opt-out on any row of an address is an opt-out, in whatever table the row is.

use integration_tests::{
    crm::{Crm, SOON},
    remote::{MemberAction, Service, Status, path_secret},
    sql::quote_literal,
    wait::wait_until,
};

const ADA: &str = "ada@example.org";

/// Ada is subscribed as row 1; a second table of people is tracked as well.
fn start() -> Crm {
    let mut crm = Crm::start();
    crm.run(
        "CREATE TABLE crm.leads (id int PRIMARY KEY, email text, marketing_opt_in boolean);
         SELECT integration.track('crm.leads', 'contact', targets => '{mailchimp}')",
    );
    crm.add_contact(ADA, true);
    crm.add_contacts(1, 4);
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Subscribed));
    crm
}

#[track_caller]
fn becomes(crm: &mut Crm, status: Status, when: &str) {
    wait_until(&format!("{status:?} {when}"), SOON, || {
        (crm.remote.status_of(ADA) == Some(status)).then_some(())
    });
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(status), "{when}");
}

/// Sent again, whatever for, it changes nothing.
#[track_caller]
fn stays_out(crm: &mut Crm, when: &str) {
    let before = crm.remote.subscribed().len();
    crm.run("UPDATE crm.contacts SET first_name = first_name || '.' WHERE id = 1");
    crm.run("SELECT integration.backfill('crm.contacts', 'mailchimp')");
    crm.run("SELECT integration.backfill('crm.leads', 'mailchimp')");
    let done = "SELECT NOT EXISTS (SELECT FROM integration.job WHERE state NOT IN ('done', 'failed', 'cancelled'))";
    wait_until("all is sent again", SOON, || {
        crm.ask::<bool>(done).then_some(())
    });
    crm.settle();
    assert_eq!(
        crm.remote.status_of(ADA),
        Some(Status::Unsubscribed),
        "{when}"
    );
    assert_eq!(crm.remote.subscribed().len(), before, "{when}");
}

fn second(crm: &mut Crm, table: &str, opted_in: &str) {
    crm.run(&match table {
        "crm.leads" => format!("INSERT INTO crm.leads VALUES (77, 'Ada@example.org', {opted_in})"),
        _ => format!(
            "INSERT INTO crm.contacts (id, email, marketing_opt_in) OVERRIDING SYSTEM VALUE VALUES (77, 'Ada@example.org', {opted_in})"
        ),
    });
    crm.settle();
}

#[test]
fn opt_out_of_the_second_row_reaches_the_member_and_stays() {
    for table in ["crm.contacts", "crm.leads"] {
        let mut crm = start();
        second(&mut crm, table, "true");
        let letters = format!(
            "SELECT category, coalesce(resolution, 'open') FROM integration.dlq WHERE target = 'mailchimp' AND source = '{table}'::regclass AND record_key = '77' ORDER BY id"
        );
        assert_eq!(crm.rows(&letters), ["conflict|open"], "{table}");
        crm.run(&format!(
            "UPDATE {table} SET marketing_opt_in = false WHERE id = 77"
        ));
        becomes(&mut crm, Status::Unsubscribed, "the second row opts out");
        assert_eq!(crm.rows(&letters), ["conflict|superseded"], "{table}");
        stays_out(&mut crm, "as long as the second row is opted out");
        let why: String = crm.ask(
            "SELECT error FROM integration.dlq WHERE target = 'mailchimp' AND source = 'crm.contacts'::regclass AND record_key = '1' AND resolution IS NULL ORDER BY id DESC LIMIT 1",
        );
        assert!(why.contains("77") && why.contains("is opted out"), "{why}");
        assert_eq!(
            crm.rows("SELECT changed_by, to_status FROM integration.consent_log WHERE source = 'crm.contacts'::regclass AND record_key = '1' ORDER BY id DESC LIMIT 1"),
            ["crm|unsubscribed_by_crm"]
        );
        assert_eq!(
            crm.rows("SELECT marketing_opt_in FROM crm.contacts WHERE id = 1"),
            ["t"],
            "each row says what it says"
        );
        // After a crash as well.
        crm.run("SELECT integration.reload()");
        stays_out(&mut crm, "with another worker");
        // A new opt-in of the row that had opted out.
        crm.run(&format!(
            "UPDATE {table} SET marketing_opt_in = true WHERE id = 77"
        ));
        becomes(&mut crm, Status::Subscribed, "both rows are opted in");
    }
}

#[test]
fn row_that_comes_opted_out_opts_out() {
    let mut crm = start();
    second(&mut crm, "crm.leads", "false");
    becomes(
        &mut crm,
        Status::Unsubscribed,
        "the second row is opted out",
    );
    stays_out(&mut crm, "as long as it is");
    // That it goes is no opt-in.
    crm.run("DELETE FROM crm.leads");
    crm.settle();
    stays_out(&mut crm, "though it is gone");
    // Out and in again is one.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 1");
    crm.settle();
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true WHERE id = 1");
    becomes(&mut crm, Status::Subscribed, "opted in anew");
}

#[test]
fn row_that_says_nothing_opts_nobody_out_unless_it_said_yes_before() {
    let mut crm = start();
    second(&mut crm, "crm.leads", "NULL");
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Subscribed));
    crm.run("UPDATE crm.leads SET marketing_opt_in = true");
    crm.settle();
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Subscribed));
    crm.run("UPDATE crm.leads SET marketing_opt_in = NULL");
    becomes(&mut crm, Status::Unsubscribed, "it was taken back");
    stays_out(&mut crm, "and not given again");
}

/// The opted-out row was there first, and nobody had a reason to note it; or both come together.
#[test]
fn row_that_was_opted_out_before_keeps_others_from_being_opted_in() {
    for table in ["crm.contacts", "crm.leads"] {
        for together in [false, true] {
            let mut crm = Crm::start();
            crm.run(
                "CREATE TABLE crm.leads (id int PRIMARY KEY, email text, marketing_opt_in boolean);
                 CREATE INDEX ON crm.leads (lower(email));
                 CREATE INDEX ON crm.contacts (lower(email));
                 SELECT integration.track('crm.leads', 'contact', targets => '{mailchimp}')",
            );
            if together {
                crm.run("SELECT integration.pause('mailchimp', 'so that they come together')");
                crm.add_contact(ADA, true);
                crm.run("INSERT INTO crm.leads VALUES (5, 'eda@example.org', true)");
                let insert = match table {
                    "crm.leads" => "INSERT INTO crm.leads VALUES (77, 'Ada@example.org', false)",
                    _ => {
                        "INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('Ada@example.org', false)"
                    }
                };
                crm.run(insert);
                crm.run("SELECT integration.resume('mailchimp')");
                crm.settle();
            } else {
                second(&mut crm, table, "false");
                crm.add_contact(ADA, true);
                crm.settle();
            }
            assert_eq!(crm.remote.status_of(ADA), None, "{table} {together}");
            let why: Vec<String> = crm.rows("SELECT error FROM integration.dlq WHERE target = 'mailchimp' AND category = 'conflict' AND resolution IS NULL");
            assert!(why.len() == 1 && why[0].contains("is opted out"), "{why:?}");
            crm.run(&format!(
                "UPDATE {table} SET marketing_opt_in = true WHERE NOT marketing_opt_in"
            ));
            crm.settle();
            crm.run("UPDATE crm.contacts SET first_name = 'Augusta'");
            becomes(&mut crm, Status::Subscribed, "all are opted in");
        }
    }
}

/// Their own word counts more than what any row says.
#[test]
fn who_signs_up_by_themselves_opts_in_all_rows() {
    let mut crm = start();
    second(&mut crm, "crm.leads", "false");
    becomes(
        &mut crm,
        Status::Unsubscribed,
        "the second row is opted out",
    );
    let second = "SELECT extract(epoch FROM date_trunc('second', clock_timestamp()))::int8";
    let out_in: i64 = crm.ask(second);
    wait_until("the next second has come", SOON, || {
        (crm.ask::<i64>(second) > out_in).then_some(())
    });
    crm.remote.clear_webhooks();
    let merge_fields = Default::default();
    crm.remote
        .member_does(ADA, MemberAction::Subscribe { merge_fields })
        .unwrap();
    for delivery in crm.remote.webhooks_of(Service::Mailchimp) {
        let secret = path_secret(&delivery).to_owned();
        crm.run(&format!(
            "SELECT integration.import_mailchimp_webhook({}, '{{}}', {})",
            quote_literal(&delivery.body),
            quote_literal(&secret)
        ));
    }
    crm.settle();
    assert_eq!(crm.rows("SELECT marketing_opt_in FROM crm.leads"), ["t"]);
    crm.run("UPDATE crm.contacts SET first_name = 'Augusta' WHERE id = 1");
    crm.run("UPDATE crm.leads SET email = lower(email)");
    becomes(&mut crm, Status::Subscribed, "they want it");
}

#[test]
fn opt_out_of_a_row_that_can_no_longer_be_read_stands() {
    let mut crm = start();
    second(&mut crm, "crm.leads", "false");
    becomes(&mut crm, Status::Unsubscribed, "the lead is opted out");
    let pid = crm.worker_pid();
    crm.run(
        "CREATE FUNCTION crm.broken(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero; END $$;
         CREATE VIEW crm.leads_read AS SELECT id, crm.broken(email) AS email, marketing_opt_in FROM crm.leads;
         SELECT integration.track('crm.leads', 'contact', payload => 'crm.leads_read', targets => '{mailchimp}');
         UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 1;
         UPDATE crm.contacts SET marketing_opt_in = true WHERE id = 1",
    );
    wait_until("the opt-in is refused", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration.dlq WHERE target = 'mailchimp' AND source = 'crm.contacts'::regclass AND record_key = '1' AND resolution IS NULL)")
            .then_some(())
    });
    assert_eq!(crm.remote.status_of(ADA), Some(Status::Unsubscribed));
    assert_eq!(crm.worker_pid(), pid, "the worker goes on");
}

/// Each row in turn takes its opt-in along to another address, while the other one is opted out.
#[test]
fn nobody_is_opted_in_by_taking_another_address() {
    for (leaver, stays) in [(1, 77), (77, 1)] {
        let mut crm = start();
        second(&mut crm, "crm.contacts", "true");
        crm.run(&format!(
            "UPDATE crm.contacts SET marketing_opt_in = false WHERE id = {stays}"
        ));
        becomes(
            &mut crm,
            Status::Unsubscribed,
            "one of the rows is opted out",
        );
        let moved = format!("moved{leaver}@example.org");
        crm.run(&format!(
            "UPDATE crm.contacts SET email = '{moved}' WHERE id = {leaver}"
        ));
        crm.settle();
        let letters = format!(
            "SELECT error FROM integration.dlq WHERE target = 'mailchimp' AND source = 'crm.contacts'::regclass AND record_key = '{leaver}' AND resolution IS NULL"
        );
        let refused = |crm: &mut Crm, when: &str| {
            crm.settle();
            assert_ne!(
                crm.remote.status_of(&moved),
                Some(Status::Subscribed),
                "{leaver} {when}"
            );
            let why = crm.rows(&letters);
            assert!(
                why.len() == 1 && why[0].contains(&format!("record {stays}")),
                "{leaver} {when}: {why:?}"
            );
        };
        refused(&mut crm, "as long as the other one is opted out");
        crm.run("SELECT integration.reload()");
        crm.run(&format!(
            "UPDATE crm.contacts SET first_name = 'Augusta' WHERE id = {leaver}"
        ));
        refused(&mut crm, "with another worker");
        crm.run(&format!(
            "UPDATE crm.contacts SET email = 'again@example.org' WHERE id = {stays}"
        ));
        crm.settle();
        crm.run(&format!(
            "UPDATE crm.contacts SET first_name = 'Ada' WHERE id = {leaver}"
        ));
        refused(&mut crm, "though the other one moved, too");
        for opted_in in [false, true] {
            crm.run(&format!(
                "UPDATE crm.contacts SET marketing_opt_in = {opted_in} WHERE id = {leaver}"
            ));
            crm.settle();
        }
        wait_until("opted in anew", SOON, || {
            (crm.remote.status_of(&moved) == Some(Status::Subscribed)).then_some(())
        });
    }
}
