//! What Mailchimp stands: few connections, no headers that tell, and calls that take too long.

use std::time::Duration;

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, LATER, SOON},
    remote::{Config, Fault, FaultKind, Service, Status, When, unlimited},
    wait::wait_until,
};

/// Contacts go to Mailchimp only, all of them opted in.
fn mailing(config: Config) -> Crm {
    let mut crm = Crm::untracked(Cluster::shared(), config);
    crm.run("SELECT integration.track('crm.contacts', 'contact', targets => '{mailchimp}')");
    crm
}

fn add(crm: &mut Crm, from: u32, to: u32) {
    crm.run(&format!(
        "INSERT INTO crm.contacts (email, first_name, marketing_opt_in)
         SELECT 'person' || n || '@example.org', 'First ' || n, true FROM generate_series({from}, {to}) n"
    ));
}

/// How many members the calls carried, oldest first.
fn sizes(crm: &Crm) -> Vec<usize> {
    let calls = crm.remote.requests_to(Service::Mailchimp);
    let bulk = calls.iter().filter(|call| call.method == "POST");
    bulk.map(|call| call.inputs).collect()
}

fn state(crm: &mut Crm) -> String {
    crm.rows("SELECT state, reason FROM integration.status WHERE target = 'mailchimp'")
        .remove(0)
}

fn few_connections(with_403: bool) {
    let mut config = unlimited();
    config.mailchimp.max_connections = Some(3);
    config.mailchimp.throttle_with_403 = with_403;
    config.delay_ms = 200;
    let mut crm = mailing(config);
    crm.remote.keep_bodies(false);
    add(&mut crm, 1, 15_000);
    let held_back = wait_until("the reason to be told", LATER, || {
        let state = state(&mut crm);
        state.contains("at most").then_some(state)
    });
    assert!(held_back.starts_with("running|at most"), "{held_back}");
    crm.settle_within(LATER);
    let stats = crm.remote.stats();
    assert_eq!(crm.remote.members().len(), 15_000);
    assert_eq!(stats.overlaps, 0);
    // Eight leave at once, and five of them are refused; then it is careful.
    assert!(stats.throttled <= 16, "{} refused", stats.throttled);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
}

#[test]
fn too_many_connections_are_met_with_fewer() {
    few_connections(false);
}

#[test]
fn refusals_without_a_body_are_too_many_connections() {
    few_connections(true);
}

#[test]
fn lasting_refusals_are_told_and_asked_less_and_less() {
    let mut crm = mailing(unlimited());
    add(&mut crm, 1, 10);
    crm.settle();
    crm.remote
        .configure(|config| config.mailchimp.max_connections = Some(0));
    crm.remote.reset_log();
    add(&mut crm, 11, 20);
    let alerted = "SELECT EXISTS (SELECT FROM integration.alert WHERE kind = 'throttled' AND target = 'mailchimp' AND cleared_at IS NULL AND message LIKE '%too many requests%')";
    wait_until("an alert", SOON, || crm.ask::<bool>(alerted).then_some(()));
    assert!(
        state(&mut crm).starts_with("throttled"),
        "{}",
        state(&mut crm)
    );
    // Seven seconds: 2 and 4 of pause after the first and the second refusal.
    wait_until("three refusals", SOON, || {
        (crm.remote.stats().throttled >= 3).then_some(())
    });
    let at: Vec<i64> = crm
        .remote
        .requests_to(Service::Mailchimp)
        .iter()
        .map(|call| call.at)
        .collect();
    let pauses: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] >= 1_900 && pauses[1] >= 3_900, "{pauses:?}");
    crm.remote
        .configure(|config| config.mailchimp.max_connections = Some(10));
    crm.settle();
    assert_eq!(crm.remote.members().len(), 20);
    let cleared =
        "SELECT count(*) FROM integration.alert WHERE kind = 'throttled' AND cleared_at IS NULL";
    assert_eq!(crm.ask::<i64>(cleared), 0);
}

#[test]
fn calls_that_are_not_answered_in_time_get_smaller_and_grow_back() {
    let mut crm = mailing(unlimited());
    crm.set("mailchimp_request_timeout", "500ms");
    let slow = Fault::new(FaultKind::Delay { ms: 1_500 }, When::NextN(1))
        .service(Service::Mailchimp)
        .method("POST");
    crm.remote.add_fault(slow);
    add(&mut crm, 1, 500);
    crm.settle();
    assert_eq!(sizes(&crm), [500, 250, 250]);
    let state = state(&mut crm);
    assert!(state.contains("of 500 records in a call"), "{state}");
    crm.remote.reset_log();
    add(&mut crm, 501, 6_500);
    crm.settle_within(LATER);
    let sizes = sizes(&crm);
    assert_eq!(sizes.iter().sum::<usize>(), 6_000);
    assert!(sizes.contains(&500), "full calls again: {sizes:?}");
    assert!(!self::state(&mut crm).contains("records in a call"));
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
    assert_eq!(crm.remote.members().len(), 6_500);
}

#[test]
fn record_that_is_never_answered_is_found_and_its_mates_arrive() {
    let mut crm = mailing(unlimited());
    crm.set("mailchimp_request_timeout", "200ms");
    crm.set("max_attempts", "2");
    let stuck = Fault::new(FaultKind::Delay { ms: 600 }, When::UntilCleared)
        .service(Service::Mailchimp)
        .body("person7@example.org");
    crm.remote.add_fault(stuck);
    crm.set("retry_max", "100ms");
    add(&mut crm, 1, 40);
    crm.settle_within(LATER);
    let letters = crm.rows("SELECT record_key, category FROM integration.dlq");
    assert_eq!(letters, ["7|exhausted"]);
    let others =
        crm.ask::<i64>("SELECT count(*) FROM integration.link WHERE remote_id IS NOT NULL");
    assert_eq!(others, 39);
}

#[test]
fn calls_that_were_carried_out_but_answered_by_a_gateway_are_repeated_without_harm() {
    let mut crm = mailing(unlimited());
    let gateway = Fault::new(
        FaultKind::Gateway { code: 502 },
        When::Probability { p: 0.3, seed: 5 },
    )
    .service(Service::Mailchimp);
    crm.remote.add_fault(gateway);
    add(&mut crm, 1, 1_200);
    crm.settle_within(LATER);
    crm.run("UPDATE crm.contacts SET first_name = 'Later', marketing_opt_in = id % 10 <> 0");
    crm.settle_within(LATER);
    let members = crm.remote.members();
    assert_eq!(members.len(), 1_200);
    let out =
        |member: &&integration_tests::remote::ListMember| member.status == Status::Unsubscribed;
    assert_eq!(members.iter().filter(out).count(), 120);
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration.dlq"), 0);
}

#[test]
fn backfill_fills_mailchimps_calls() {
    let mut crm = Crm::untracked(Cluster::shared(), unlimited());
    crm.set("max_in_flight_records", "10000");
    add(&mut crm, 1, 4_000);
    // Those who are not opted in need no call, and leave no gaps.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = id % 4 <> 0");
    crm.run("SELECT integration.track('crm.contacts', 'contact', targets => '{mailchimp}')");
    crm.remote.configure(|config| config.delay_ms = 50);
    let job: i64 = crm.ask("SELECT integration.backfill('crm.contacts', 'mailchimp')");
    let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
    wait_until("the backfill", LATER, || {
        crm.ask::<bool>(&done).then_some(())
    });
    assert_eq!(crm.remote.members().len(), 3_000);
    let sizes = sizes(&crm);
    assert!(sizes.len() <= 8, "{sizes:?}");
    assert!(
        crm.remote.stats().mailchimp_requests <= 9,
        "and one to ask who we are"
    );
}

#[test]
fn waiting_for_an_answer_holds_up_no_shutdown() {
    let mut crm = mailing(unlimited());
    crm.set("mailchimp_request_timeout", "130s");
    crm.remote.configure(|config| config.delay_ms = 60_000);
    add(&mut crm, 1, 10);
    wait_until("a call to be under way", SOON, || {
        (crm.remote.stats().in_flight > 0).then_some(())
    });
    let began = std::time::Instant::now();
    let before = crm.worker_pid();
    crm.run("SELECT integration.reload()");
    wait_until("another worker", SOON, || {
        (crm.cluster.worker_pid(&crm.database) != Some(before)).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(10));
    crm.remote.configure(|config| config.delay_ms = 0);
    crm.settle();
}
