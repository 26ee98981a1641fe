//! An opt-out overtakes everything: whatever is busy, throttled, failing or full.

use integration_tests::{
    crm::{Crm, LATER, SOON},
    remote::{Actor, Fault, FaultBody, FaultKind, Service, Status, When},
    wait::{holds_for, wait_until},
};
use std::time::Duration;

const LEAVING: &str = "leaving@example.org";

fn start() -> Crm {
    let mut crm = Crm::start();
    crm.add_contact(LEAVING, true);
    crm.converges();
    crm
}

fn opt_out(crm: &mut Crm) {
    crm.run(&format!(
        "UPDATE crm.contacts SET marketing_opt_in = false WHERE email = '{LEAVING}'"
    ));
}

#[track_caller]
fn arrives(crm: &mut Crm, when: &str) {
    wait_until(&format!("the opt-out arrives {when}"), SOON, || {
        (crm.remote.status_of(LEAVING) == Some(Status::Unsubscribed)).then_some(())
    });
}

/// The next write is answered like this.
fn fault(code: u16, retry_after: Option<u32>) -> Fault {
    let kind = FaultKind::Status {
        code,
        body: FaultBody::Empty,
        retry_after,
    };
    Fault::new(kind, When::NextN(1))
        .service(Service::Mailchimp)
        .method("POST")
}

fn state(crm: &mut Crm) -> String {
    crm.ask("SELECT state FROM integration.status WHERE target = 'mailchimp'")
}

#[test]
fn opt_out_is_sent_while_mailchimp_is_throttled() {
    let mut crm = start();
    crm.remote.add_fault(fault(429, Some(600)));
    crm.add_contacts(1, 4);
    wait_until("Mailchimp is throttled", SOON, || {
        (state(&mut crm) == "throttled").then_some(())
    });
    opt_out(&mut crm);
    arrives(&mut crm, "in spite of it");
    assert_eq!(state(&mut crm), "throttled", "everything else waits");
    assert_eq!(crm.remote.status_of("person2@example.org"), None);
}

#[test]
fn opt_out_is_sent_during_an_outage_as_soon_as_it_can_be() {
    let mut crm = start();
    crm.set("retry_base", "60s");
    crm.set("retry_max", "60s");
    crm.add_contacts(9, 10);
    crm.converges();
    let down = FaultKind::Status {
        code: 503,
        body: FaultBody::Html,
        retry_after: None,
    };
    let down = Fault::new(down, When::UntilCleared).service(Service::Mailchimp);
    let down = crm.remote.add_fault(down);
    for from in [1, 3, 5, 7] {
        crm.add_contacts(from, from + 1);
        let before = crm.remote.stats().mailchimp_requests;
        wait_until("it has been tried", SOON, || {
            let tried = crm.remote.stats().mailchimp_requests > before;
            (tried || state(&mut crm) == "outage").then_some(())
        });
    }
    wait_until("there is an outage", SOON, || {
        (state(&mut crm) == "outage").then_some(())
    });
    opt_out(&mut crm);
    holds_for("nothing arrives", Duration::from_millis(700), || {
        crm.remote.status_of(LEAVING) == Some(Status::Subscribed)
    });
    // The next look at whether it is over is up to a minute away.
    crm.remote.remove_fault(down);
    arrives(&mut crm, "before that");
}

/// Mailchimp is being asked whether it answers again, and takes its time.
#[test]
fn opt_out_does_not_wait_for_the_look_whether_an_outage_is_over() {
    let mut crm = start();
    crm.set("retry_base", "1s");
    crm.set("retry_max", "1s");
    crm.add_contacts(9, 10);
    crm.converges();
    let down = FaultKind::Status {
        code: 500,
        body: FaultBody::Json,
        retry_after: None,
    };
    let down = Fault::new(down, When::UntilCleared).service(Service::Mailchimp);
    let down = crm.remote.add_fault(down);
    crm.add_contacts(1, 2);
    wait_until("there is an outage", SOON, || {
        (state(&mut crm) == "outage").then_some(())
    });
    let slow = Fault::new(FaultKind::Delay { ms: 4_500 }, When::UntilCleared)
        .service(Service::Mailchimp)
        .method("GET");
    let slow = crm.remote.add_fault(slow);
    crm.remote.remove_fault(down);
    wait_until("it is asked", SOON, || {
        let faults = crm.remote.faults();
        let asked = faults.iter().any(|known| known.id == slow && known.hit > 0);
        asked.then_some(())
    });
    opt_out(&mut crm);
    wait_until("the opt-out arrives", Duration::from_secs(3), || {
        (crm.remote.status_of(LEAVING) == Some(Status::Unsubscribed)).then_some(())
    });
    // And its answer is as good a sign as that of the look, which is still under way.
    wait_until("the outage is over", Duration::from_secs(1), || {
        (state(&mut crm) == "running").then_some(())
    });
    crm.remote.clear_faults();
    crm.converges();
}

#[test]
fn opt_out_overtakes_its_own_retry_and_all_others() {
    let mut crm = start();
    crm.set("retry_base", "600s");
    crm.set("retry_max", "600s");
    let fault = crm.remote.add_fault(fault(500, Some(600)));
    crm.run(&format!(
        "UPDATE crm.contacts SET first_name = 'Later' WHERE email = '{LEAVING}'"
    ));
    wait_until("it waits for its retry", SOON, || {
        crm.ask::<bool>("SELECT EXISTS (SELECT FROM integration._retry WHERE target = 2)")
            .then_some(())
    });
    crm.remote.remove_fault(fault);
    opt_out(&mut crm);
    arrives(&mut crm, "at once");
    crm.settle();
}

#[test]
fn opt_out_that_failed_keeps_its_place() {
    let mut crm = start();
    let fault = crm.remote.add_fault(fault(500, None));
    opt_out(&mut crm);
    wait_until("it failed", SOON, || {
        let hit = crm
            .remote
            .faults()
            .iter()
            .any(|known| known.id == fault && known.hit > 0);
        hit.then_some(())
    });
    arrives(&mut crm, "in the end");
    crm.converges();
}

#[test]
fn opt_out_needs_no_room_and_no_free_connection() {
    let mut crm = start();
    crm.set("max_in_flight_records", "1000");
    crm.set("mailchimp_max_connections", "1");
    // Slow, but for what names the leaving one.
    let slow = Fault::new(FaultKind::Delay { ms: 4_000 }, When::NextN(1))
        .service(Service::Mailchimp)
        .method("POST");
    let slow = crm.remote.add_fault(slow);
    crm.add_contacts(1, 6_000);
    wait_until("the only connection is taken", SOON, || {
        let taken = crm
            .remote
            .faults()
            .iter()
            .any(|known| known.id == slow && known.hit > 0);
        taken.then_some(())
    });
    opt_out(&mut crm);
    wait_until("the opt-out arrives", Duration::from_secs(3), || {
        (crm.remote.status_of(LEAVING) == Some(Status::Unsubscribed)).then_some(())
    });
    crm.converges_within(LATER);
}

#[test]
fn opt_out_is_sent_while_a_backfill_waits() {
    let mut crm = start();
    crm.remote.add_fault(fault(429, Some(600)));
    crm.run("SELECT integration.backfill('crm.contacts', 'mailchimp'); UPDATE crm.contacts SET first_name = 'X'");
    wait_until("the backfill waits", SOON, || {
        let paused = "SELECT EXISTS (SELECT FROM integration.job WHERE kind = 'backfill' AND state = 'paused')";
        (state(&mut crm) == "throttled" && crm.ask::<bool>(paused)).then_some(())
    });
    opt_out(&mut crm);
    arrives(&mut crm, "in spite of it");
}

#[test]
fn opt_out_waits_where_somebody_stopped_the_target() {
    let mut crm = start();
    crm.run("SELECT integration.pause('mailchimp', 'maintenance')");
    opt_out(&mut crm);
    wait_until("the target says so", SOON, || {
        let said = "SELECT reason LIKE '%opt-outs wait%' FROM integration.status WHERE target = 'mailchimp' AND state = 'paused'";
        crm.rows(said).contains(&"t".to_owned()).then_some(())
    });
    holds_for("nothing leaves", Duration::from_millis(500), || {
        crm.remote.status_of(LEAVING) == Some(Status::Subscribed)
    });
    crm.run("SELECT integration.resume('mailchimp')");
    arrives(&mut crm, "then");
}

/// What was planned for somebody does not leave once they have opted out.
#[test]
fn consent_is_read_again_when_a_call_leaves() {
    let mut crm = Crm::start();
    crm.set("mailchimp_max_connections", "1");
    crm.add_contacts(1, 1_200);
    crm.converges();
    crm.run("UPDATE crm.contacts SET marketing_opt_in = false WHERE id <= 60");
    crm.converges();
    // Everybody comes back by a call of their own, one after the other; others come in bulk.
    let before = crm.remote.subscribed().len();
    crm.remote.configure(|config| config.delay_ms = 100);
    crm.run(
        "UPDATE crm.contacts SET marketing_opt_in = true WHERE id <= 60;
         INSERT INTO crm.contacts (email, marketing_opt_in) SELECT format('new%s@example.org', n), true FROM generate_series(1, 1200) n",
    );
    wait_until("some are back", SOON, || {
        (crm.remote.subscribed().len() >= before + 3).then_some(())
    });
    crm.run(
        "UPDATE crm.contacts SET marketing_opt_in = false WHERE id BETWEEN 51 AND 60;
         UPDATE crm.contacts SET marketing_opt_in = false WHERE email IN ('new1190@example.org', 'new1200@example.org')",
    );
    let known = crm.remote.subscribed().len();
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.converges_within(LATER);
    let late = crm.remote.subscribed().split_off(known);
    let out = |email: &str| {
        let number = |prefix: &str| {
            let digits = email.strip_prefix(prefix)?.strip_suffix("@example.org")?;
            digits.parse::<u32>().ok()
        };
        number("person").is_some_and(|n| (51..=60).contains(&n))
            || number("new").is_some_and(|n| n == 1190 || n == 1200)
    };
    let wrong: Vec<_> = late
        .iter()
        .filter(|subscribed| subscribed.by == Actor::Api && out(&subscribed.email))
        .collect();
    // One call may have been under way.
    assert!(wrong.len() <= 1, "{wrong:?}");
}
