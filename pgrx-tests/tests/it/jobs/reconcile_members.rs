//! Members compared with the people of the CRM: consent moves in the direction of less mail only.

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{MemberAction, Service, Status, unlimited},
    wait::wait_until,
};

use crate::jobs::backfill::{slow, wait_for};
use crate::jobs::reconcile::{begin, compared_with, few, found, in_step, unseen};

fn compared(crm: &mut Crm, repair: bool) -> Vec<String> {
    compared_with(crm, "mailchimp", repair)
}

fn does(crm: &Crm, number: u32, action: MemberAction) {
    let email = format!("person{number}@example.org");
    crm.remote.member_does(&email, action).unwrap();
}

fn says(crm: &mut Crm, number: u32) -> Option<bool> {
    crm.ask(&format!(
        "SELECT marketing_opt_in FROM crm.contacts WHERE id = {number}"
    ))
}

fn status(crm: &Crm, number: u32) -> Option<Status> {
    crm.remote.status_of(&format!("person{number}@example.org"))
}

#[test]
fn both_services_in_step_differ_in_nothing() {
    let mut crm = in_step(Cluster::shared(), unlimited(), 2_600);
    let writes = |crm: &Crm| {
        [Service::HubSpot, Service::Mailchimp].map(|service| crm.remote.writes_to(service))
    };
    let before = writes(&crm);
    let id: i64 = crm.ask("SELECT integration.reconcile('crm.contacts', repair => true)");
    assert!(crm.ask::<bool>("SELECT integration.wait_idle('2min')"));
    assert_eq!(
        crm.rows(&format!(
            "SELECT state, done, total FROM integration.job WHERE id = {id}"
        )),
        ["done|9100|9100"]
    );
    assert_eq!(found(&mut crm, "mailchimp"), [""; 0]);
    assert_eq!(found(&mut crm, "hubspot"), [""; 0]);
    assert_eq!(writes(&crm), before);
    assert_eq!(crm.rows("SELECT count(*) FROM integration._seen"), ["0"]);
}

#[test]
fn who_left_gets_no_mail_and_nobody_is_brought_back() {
    let mut crm = few();
    does(&crm, 2, MemberAction::Unsubscribe { abuse: false });
    does(&crm, 4, MemberAction::Clean);
    unseen(
        &mut crm,
        "UPDATE crm.contacts SET marketing_opt_in = false WHERE id = 6;
         UPDATE crm.contacts SET marketing_opt_in = NULL WHERE id = 12",
    );
    // Known to have left; opted in again in the CRM.
    does(&crm, 8, MemberAction::Unsubscribe { abuse: false });
    crm.run("UPDATE integration._link SET member_status = 'unsubscribed_by_member' WHERE target = 2 AND record_key = '8'");
    does(&crm, 10, MemberAction::Archive);
    let differences = [
        "status|2|status|true|unsubscribed",
        "status|4|status|true|cleaned",
        "status|6|status|false|subscribed",
        "status|8|status|true|unsubscribed",
        "status|10|status|true|archived",
        "status|12|status|NULL|subscribed",
    ];
    assert_eq!(
        compared(&mut crm, false),
        differences.map(|each| format!("{each}|NULL|f"))
    );
    assert_eq!(says(&mut crm, 2), Some(true), "only looked at");
    let left = "the person left at Mailchimp, and can only come back by themselves|f";
    let repairs = [
        "written to the CRM|t",
        "written to the CRM|t",
        "the opt-out is sent to mailchimp|t",
        left,
        "the opt-out is sent to mailchimp|t",
    ];
    let order = [0, 1, 2, 3, 3, 4];
    let expected: Vec<String> = differences
        .iter()
        .zip(order)
        .map(|(each, at)| format!("{each}|{}", repairs[at]))
        .collect();
    assert_eq!(compared(&mut crm, true), expected);
    crm.settle();
    assert_eq!(
        (says(&mut crm, 2), says(&mut crm, 4)),
        (Some(false), Some(false))
    );
    assert_eq!(status(&crm, 6), Some(Status::Unsubscribed));
    assert_eq!(status(&crm, 12), Some(Status::Unsubscribed));
    assert_eq!(status(&crm, 8), Some(Status::Unsubscribed));
    assert_eq!(status(&crm, 10), Some(Status::Archived));
    // What cannot be put right stays to be seen.
    assert_eq!(
        compared(&mut crm, true),
        [
            format!("{}|{left}", differences[3]),
            format!("{}|{left}", differences[4])
        ]
    );
}

#[test]
fn fields_and_members_on_one_side_only() {
    let mut crm = few();
    let profile = |tag: &str, value: &str| MemberAction::Profile {
        merge_fields: [(tag.to_owned(), value.into())].into_iter().collect(),
    };
    // Mailchimp's clock has whole seconds; what happens within one has no order.
    let pushed = "SELECT date_trunc('second', max(pushed_at)) + interval '1 second' < clock_timestamp() FROM integration.link";
    wait_until("the second is over", SOON, || {
        crm.ask::<bool>(pushed).then_some(())
    });
    does(&crm, 2, profile("FNAME", "Augusta"));
    does(
        &crm,
        4,
        MemberAction::ChangeEmail {
            new_email: "moved@example.org".to_owned(),
        },
    );
    does(&crm, 6, MemberAction::DeletePermanently);
    crm.remote
        .member_does(
            "stranger@example.org",
            MemberAction::Subscribe {
                merge_fields: Default::default(),
            },
        )
        .unwrap();
    // Opted out here, and never a member of ours.
    does(
        &crm,
        1,
        MemberAction::Subscribe {
            merge_fields: Default::default(),
        },
    );
    unseen(
        &mut crm,
        "UPDATE crm.contacts SET last_name = 'Unseen' WHERE id = 8;
         INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('unlinked@example.org', true), ('no@example.org', false)",
    );
    let report = [
        "field|2|FNAME|First 2|Augusta",
        "field|4|email_address|person4@example.org|moved@example.org",
        "field|8|LNAME|Unseen|Last 8",
        "missing_local|NULL|NULL|NULL|subscribed",
        "missing_remote|6|NULL|NULL|NULL",
        "missing_remote|13|NULL|NULL|NULL",
        "status|1|status|false|subscribed",
    ];
    assert_eq!(
        compared(&mut crm, false),
        report.map(|each| format!("{each}|NULL|f"))
    );
    compared(&mut crm, true);
    crm.settle();
    assert_eq!(
        crm.rows("SELECT first_name FROM crm.contacts WHERE id = 2 UNION ALL SELECT email FROM crm.contacts WHERE id = 4"),
        ["Augusta", "moved@example.org"]
    );
    assert_eq!(
        crm.remote
            .member("person8@example.org")
            .unwrap()
            .merge_fields["LNAME"],
        "Unseen"
    );
    assert_eq!(
        crm.remote.status_of("unlinked@example.org"),
        Some(Status::Subscribed)
    );
    assert_eq!(crm.remote.status_of("no@example.org"), None);
    assert_eq!(status(&crm, 1), Some(Status::Unsubscribed));
    // Mailchimp does not take back whom it erased.
    assert_eq!(
        crm.rows("SELECT record_key, category FROM integration.dlq WHERE target = 'mailchimp'"),
        ["6|consent"]
    );
    assert_eq!(
        compared(&mut crm, false),
        ["missing_local|NULL|NULL|NULL|subscribed|NULL|f"]
    );
}

#[test]
fn live_changes_are_no_drift() {
    let mut crm = in_step(Cluster::shared(), slow(), 2_400);
    let id = begin(&mut crm, "mailchimp", false);
    let mut rounds = 0;
    wait_until("the comparison is done", SOON, || {
        rounds += 1;
        crm.run(&format!(
            "UPDATE crm.contacts SET first_name = 'round {rounds}' WHERE id % 50 = {rounds} % 50;
             UPDATE crm.contacts SET marketing_opt_in = NOT marketing_opt_in WHERE id IN (100 + {rounds}, 900 + {rounds});
             INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('new{rounds}@example.org', true);
             DELETE FROM crm.contacts WHERE id = 300 + {rounds}"
        ));
        if rounds % 3 == 0 {
            crm.settle();
        }
        let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {id}");
        crm.ask::<bool>(&done).then_some(())
    });
    assert_eq!(found(&mut crm, "mailchimp"), [""; 0]);
}

/// What is committed while an answer is judged is in nobody's queue yet. That a row is missing, and is
/// looked for again, does not change that.
#[test]
fn changes_made_while_an_answer_is_judged_are_no_drift() {
    let mut crm = few();
    crm.run(
        "CREATE FUNCTION crm.waits(name text) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN
             WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP PERFORM pg_sleep(0.01); END LOOP;
             RETURN name;
         END $$;
         CREATE VIEW crm.shown AS SELECT id, email, crm.waits(first_name) AS first_name, last_name, phone, company, job_title, marketing_opt_in FROM crm.contacts;
         SELECT integration.track('crm.contacts', 'contact', payload => 'crm.shown')",
    );
    unseen(&mut crm, "DELETE FROM crm.contacts WHERE id = 2");
    crm.run("SELECT pg_advisory_lock(1)");
    let id = begin(&mut crm, "mailchimp", false);
    wait_until("members are being judged", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'integration worker' AND wait_event = 'PgSleep')")
            .then_some(())
    });
    crm.run(
        "UPDATE crm.contacts SET first_name = 'Augusta' WHERE id = 4; SELECT pg_advisory_unlock(1)",
    );
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(found(&mut crm, "mailchimp"), [""; 0]);
}

#[test]
fn killed_worker_goes_on_at_its_mark() {
    let mut crm = in_step(std::sync::Arc::new(Cluster::start(&[], &[])), slow(), 4_400);
    does(&crm, 50, MemberAction::Unsubscribe { abuse: false });
    let id = begin(&mut crm, "mailchimp", false);
    wait_until("it is under way", SOON, || {
        crm.ask::<bool>("SELECT coalesce(max(done), 0) > 0 FROM integration._reconcile")
            .then_some(())
    });
    crm.kill_worker();
    wait_for(&mut crm, id, "state = 'done' AND done = 6600");
    assert_eq!(
        found(&mut crm, "mailchimp"),
        ["status|50|status|true|unsubscribed|NULL|f"]
    );
}
