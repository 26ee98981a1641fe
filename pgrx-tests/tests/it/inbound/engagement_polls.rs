//! When reports of campaigns are read: page by page, after everything else, from the mark on.

use super::engagement::{HOUR, address, at, begin, does, now, poll};
use crate::jobs::backfill::{filled, slow, wait_for};
use crate::jobs::reconcile::{few, in_step};
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Engagement, Service, unlimited},
    sql::refused_with_hint,
    wait::wait_until,
};
use std::sync::Arc;

#[test]
fn long_reports_are_read_page_by_page() {
    let mut crm = in_step(Cluster::shared(), unlimited(), 4_400);
    crm.remote.send_campaign("c1", None).unwrap();
    let people: Vec<u32> = (2..=4_400).step_by(2).collect();
    for number in people.iter().filter(|number| **number % 10 == 0) {
        does(&crm, &address(*number), "c1", at("open", now()));
    }
    poll(&mut crm);
    assert_eq!(
        crm.rows("SELECT count(*), count(DISTINCT record_key), bool_and(record_key::int % 10 = 0) FROM integration.activity"),
        ["440|440|t"]
    );
    let asked = |part: &str| {
        let requests = crm.remote.requests();
        let paths = requests.iter().filter(|each| each.path.contains(part));
        paths.count()
    };
    let pages = ["&offset=0", "&offset=1000", "&offset=2000", "&offset=3000"];
    let counts = pages.map(|page| asked(&format!("email-activity?fields=total_items,emails.email_id,emails.email_address,emails.activity&count=1000{page}")));
    // Once with what machines did, once without.
    assert_eq!(counts, [2, 2, 2, 0]);
}

#[test]
fn reports_that_are_too_large_are_read_in_smaller_pages() {
    let mut crm = in_step(Cluster::shared(), unlimited(), 200);
    // An answer of many megabytes takes its time on a busy machine.
    crm.set("mailchimp_request_timeout", "60s");
    // Together they are more than an answer may hold.
    let url = format!("https://example.org/{}", "x".repeat(200_000));
    for number in (2..=200).step_by(2) {
        let click = Engagement {
            url: Some(url.clone()),
            ..at("click", now())
        };
        does(&crm, &address(number), "c1", click);
    }
    poll(&mut crm);
    assert_eq!(
        crm.rows("SELECT count(*), count(DISTINCT record_key), min(length(url)) FROM integration.activity"),
        ["100|100|200020"]
    );
}

#[test]
fn reports_come_after_everything_else() {
    let mut crm = filled(Cluster::shared(), slow(), 6_000);
    crm.remote.send_campaign("c1", None).unwrap();
    let sent = crm.ask::<i64>("SELECT integration.backfill('crm.contacts', 'mailchimp')");
    let compared = crm.ask::<i64>("SELECT integration.reconcile('crm.contacts', 'mailchimp')");
    let polled = begin(&mut crm);
    for id in [sent, compared, polled] {
        wait_for(&mut crm, id, "state = 'done'");
    }
    let requests = crm.remote.requests_to(Service::Mailchimp);
    let lane = |path: &str| match path {
        path if path.contains("/campaigns") || path.contains("/reports") => 2,
        path if path.contains("/members?") => 1,
        _ => 0,
    };
    let lanes: Vec<i32> = requests.iter().map(|each| lane(&each.path)).collect();
    assert!(lanes.is_sorted(), "{lanes:?}");
    assert!(
        [0, 1, 2].iter().all(|lane| lanes.contains(lane)),
        "{lanes:?}"
    );
}

#[test]
fn killed_worker_goes_on_where_it_was() {
    let mut crm = in_step(Arc::new(Cluster::start(&[], &[])), slow(), 40);
    let begun = now();
    for campaign in 0..40 {
        for number in (2..=40).step_by(2) {
            for _ in 0..2 {
                let id = format!("c{campaign}");
                does(&crm, &address(number), &id, at("open", begun - HOUR));
            }
        }
    }
    let id = begin(&mut crm);
    for least in [12, 24] {
        wait_until("it is under way", SOON, || {
            crm.ask::<bool>(&format!(
                "SELECT coalesce(max(done), 0) >= {least} FROM integration._poll"
            ))
            .then_some(())
        });
        crm.kill_worker();
    }
    wait_for(&mut crm, id, "state = 'done' AND done = 40 AND total = 40");
    let counts = "SELECT count(*), count(DISTINCT (campaign_id, record_key)), count(*) FILTER (WHERE detail->>'proxy' = 'false') FROM integration.activity";
    assert_eq!(crm.rows(counts), ["1600|800|1600"]);
    let first = |crm: &Crm| {
        let requests = crm.remote.requests();
        let first = requests
            .iter()
            .filter(|each| each.path.contains("/reports/c0/open-details"));
        first.count()
    };
    assert_eq!(first(&crm), 1, "it did not begin anew");
    poll(&mut crm);
    assert_eq!(crm.rows(counts), ["1600|800|1600"]);
    assert_eq!(first(&crm), 2);
}

#[test]
fn polls_wait_for_their_target_and_can_be_cancelled() {
    let mut crm = few();
    does(&crm, &address(2), "c1", at("open", now()));
    crm.run("SELECT integration.pause('mailchimp', 'a test')");
    let id = begin(&mut crm);
    wait_for(&mut crm, id, "state = 'paused' AND error LIKE '%a test%'");
    assert_eq!(begin(&mut crm), id, "there is one already");
    assert!(!crm.ask::<bool>("SELECT integration.wait_idle('10ms')"));
    assert!(crm.ask::<bool>(&format!("SELECT integration.cancel_job({id})")));
    wait_until("what it left is gone", SOON, || {
        crm.ask::<bool>("SELECT NOT EXISTS (SELECT FROM integration._poll)")
            .then_some(())
    });
    let id = begin(&mut crm);
    crm.run("SELECT integration.resume('mailchimp')");
    wait_for(&mut crm, id, "state = 'done'");
    assert_eq!(crm.rows("SELECT kind FROM integration.activity"), ["open"]);
    refused_with_hint(
        &mut crm.client,
        "SELECT integration.poll('hubspot')",
        "0A000",
    );
    refused_with_hint(&mut crm.client, "SELECT integration.poll('brevo')", "42704");
}

#[test]
fn polls_by_the_clock_are_off_until_wanted() {
    let mut crm = few();
    does(&crm, &address(2), "c1", at("open", now()));
    assert_eq!(crm.rows("SHOW integration.mailchimp_poll_interval"), ["0"]);
    assert_eq!(
        crm.rows("SELECT count(*) FROM integration.job WHERE kind = 'poll'"),
        ["0"]
    );
    crm.set("mailchimp_poll_interval", "1s");
    for count in 1..=3 {
        wait_until("it has been fetched", SOON, || {
            let there: i64 = crm.ask("SELECT count(*) FROM integration.activity");
            (there == count).then_some(())
        });
        does(&crm, &address(2), "c1", at("open", now()));
    }
    crm.set("mailchimp_poll_interval", "0");
    crm.run("SELECT integration.wait_idle()");
    let kept: i64 = crm.ask("SELECT count(*) FROM integration.job WHERE kind = 'poll'");
    assert!(kept <= 2, "{kept} jobs are kept");
}
