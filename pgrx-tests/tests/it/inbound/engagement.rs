//! What people do with Mailchimp's campaigns: each event once, and consent as if a webhook had told.

use crate::jobs::backfill::wait_for;
use crate::jobs::reconcile::{few, in_step};
use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Engagement, Fault, FaultKind, MemberAction, Status, When, unlimited},
    wait::wait_until,
};
use std::time::{SystemTime, UNIX_EPOCH};

pub const HOUR: i64 = 3_600_000;

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

pub fn address(number: u32) -> String {
    format!("person{number}@example.org")
}

pub fn at(kind: &str, at: i64) -> Engagement {
    Engagement {
        kind: kind.to_owned(),
        at: Some(at),
        ..Engagement::default()
    }
}

pub fn does(crm: &Crm, email: &str, campaign: &str, engagement: Engagement) {
    let campaign = campaign.to_owned();
    let action = MemberAction::Engage {
        campaign,
        engagement,
    };
    crm.remote.member_does(email, action).unwrap();
}

pub fn begin(crm: &mut Crm) -> i64 {
    crm.ask("SELECT integration.poll()")
}

#[track_caller]
pub fn poll(crm: &mut Crm) {
    let id = begin(crm);
    wait_for(crm, id, "state = 'done'");
    crm.settle();
}

/// Row, kind, link, what else there is, and how often.
pub fn activity(crm: &mut Crm) -> Vec<String> {
    crm.rows(
        "SELECT source::text, record_key, campaign_id, kind, url, detail - 'ip', count(*) FROM integration.activity
         GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY record_key::bigint, 3, 4, 5, 6",
    )
}

#[test]
fn each_event_is_fetched_once_however_often_it_is_read() {
    for exclusive in [false, true] {
        let mut config = unlimited();
        config.mailchimp.reports_since_exclusive = exclusive;
        let mut crm = in_step(Cluster::shared(), config, 12);
        let begun = now() - 2 * HOUR;
        crm.remote.send_campaign("c1", Some(begun)).unwrap();
        let click = |url: &str, bot: bool| Engagement {
            url: Some(url.to_owned()),
            bot,
            ..at("click", begun)
        };
        let proxy = Engagement {
            proxy: true,
            ..at("open", begun)
        };
        // Nothing tells the first two from each other.
        for engagement in [
            at("open", begun),
            at("open", begun),
            click("https://example.org/a", false),
            click("https://example.org/b", true),
        ] {
            does(&crm, &address(2), "c1", engagement);
        }
        does(&crm, &address(4), "c1", proxy);
        let soft = Engagement {
            bounce: Some("soft".to_owned()),
            ..at("bounce", begun)
        };
        does(&crm, &address(6), "c1", soft);
        let first = [
            "crm.contacts|2|c1|click|https://example.org/a|{\"automated\": false}|1",
            "crm.contacts|2|c1|click|https://example.org/b|{\"automated\": true}|1",
            "crm.contacts|2|c1|open|NULL|{\"proxy\": false, \"automated\": false}|2",
            "crm.contacts|4|c1|open|NULL|{\"proxy\": true, \"automated\": true}|1",
            "crm.contacts|6|c1|bounce|NULL|{\"bounce\": \"soft\"}|1",
        ];
        for _ in 0..3 {
            poll(&mut crm);
            assert_eq!(activity(&mut crm), first);
        }
        let times = crm.rows(&format!(
            "SELECT DISTINCT occurred_at = to_timestamp({begun} / 1000), origin, detail->>'ip' FROM integration.activity"
        ));
        assert_eq!(times, ["t|mailchimp|203.0.113.10"]);
        // A third one in the same second, one that comes late, and a new one.
        for time in [begun, begun - HOUR, begun + HOUR] {
            does(&crm, &address(2), "c1", at("open", time));
        }
        does(&crm, &address(8), "c2", at("open", begun + HOUR));
        for _ in 0..2 {
            poll(&mut crm);
            let mut expected = first.map(str::to_owned).to_vec();
            expected[2] =
                "crm.contacts|2|c1|open|NULL|{\"proxy\": false, \"automated\": false}|5".to_owned();
            expected.push(
                "crm.contacts|8|c2|open|NULL|{\"proxy\": false, \"automated\": false}|1".to_owned(),
            );
            assert_eq!(activity(&mut crm), expected);
        }
        assert!(crm.queue_is_empty());
        assert_eq!(crm.rows("SELECT count(*) FROM integration._poll"), ["0"]);
    }
}

#[test]
fn members_nobody_knows_are_linked_once_somebody_does() {
    let mut crm = few();
    let sign_up = MemberAction::Subscribe {
        merge_fields: Default::default(),
    };
    crm.remote
        .member_does("Stranger@example.org", sign_up)
        .unwrap();
    does(&crm, "stranger@example.org", "c1", at("open", now() - HOUR));
    for _ in 0..2 {
        poll(&mut crm);
        assert_eq!(
            crm.rows("SELECT source, record_key, kind, subscriber_hash = md5('stranger@example.org') FROM integration.activity"),
            ["NULL|NULL|open|t"]
        );
    }
    let key = crm.add_contact("stranger@example.org", true);
    crm.converges();
    does(&crm, "stranger@example.org", "c1", at("click", now()));
    for _ in 0..2 {
        poll(&mut crm);
        assert_eq!(
            crm.rows(
                "SELECT source, record_key, kind FROM integration.activity ORDER BY occurred_at"
            ),
            [
                format!("crm.contacts|{key}|open"),
                format!("crm.contacts|{key}|click")
            ]
        );
    }
    // The row goes, the events stay those of it.
    crm.run(&format!("DELETE FROM crm.contacts WHERE id = {key}"));
    crm.settle();
    poll(&mut crm);
    assert_eq!(
        crm.rows("SELECT count(*), count(source) FROM integration.activity"),
        ["2|2"]
    );
}

#[test]
fn who_leaves_is_opted_out_as_if_a_webhook_had_told() {
    let mut crm = few();
    let hard = Engagement {
        bounce: Some("hard".to_owned()),
        ..at("bounce", now())
    };
    let reason = Engagement {
        reason: Some("too often".to_owned()),
        ..at("unsubscribe", now())
    };
    does(&crm, &address(2), "c1", reason);
    does(&crm, &address(4), "c1", hard);
    does(&crm, &address(6), "c1", at("complaint", now()));
    // Left long ago, and came back since.
    does(
        &crm,
        &address(8),
        "c1",
        at("unsubscribe", now() - 24 * HOUR),
    );
    let again = MemberAction::Subscribe {
        merge_fields: Default::default(),
    };
    crm.remote.member_does(&address(8), again).unwrap();
    // Nobody ever hears of the webhooks.
    crm.remote.clear_webhooks();
    for _ in 0..2 {
        poll(&mut crm);
        assert_eq!(
            crm.rows("SELECT id, marketing_opt_in FROM crm.contacts WHERE id IN (2, 4, 6, 8, 10) ORDER BY id"),
            ["2|f", "4|f", "6|f", "8|t", "10|t"]
        );
        assert_eq!(
            crm.rows("SELECT record_key, from_status, to_status, changed_by, origin ~ '^inbox', reason FROM integration.consent_log WHERE to_status <> 'subscribed' ORDER BY record_key"),
            [
                "2|subscribed|unsubscribed_by_member|mailchimp|t|too often",
                "4|subscribed|cleaned|mailchimp|t|hard",
                "6|subscribed|unsubscribed_by_member|mailchimp|t|abuse",
            ]
        );
        assert_eq!(
            crm.rows("SELECT record_key, kind, detail->>'reason' FROM integration.activity ORDER BY record_key"),
            ["2|unsub|too often", "4|bounce|NULL", "6|spam|NULL", "8|unsub|None given"]
        );
    }
    // The CRM cannot bring them back by itself.
    crm.run("UPDATE crm.contacts SET marketing_opt_in = true WHERE id IN (2, 4, 6)");
    crm.settle();
    for number in [2, 4, 6] {
        let status = crm.remote.status_of(&address(number));
        assert!(
            matches!(status, Some(Status::Unsubscribed | Status::Cleaned)),
            "{status:?}"
        );
    }
}

#[test]
fn campaigns_that_cannot_be_read_hold_up_no_other() {
    let mut crm = few();
    for campaign in ["c1", "c2", "c3", "c4"] {
        does(&crm, &address(2), campaign, at("open", now()));
    }
    let fault = |path: &str, code: u16| {
        let kind = FaultKind::Status {
            code,
            body: Default::default(),
            retry_after: None,
        };
        Fault::new(kind, When::UntilCleared).path(path)
    };
    crm.remote.add_fault(fault("/reports/c1/", 404));
    crm.remote.add_fault(fault("/reports/c2/open-details", 400));
    crm.remote
        .add_fault(fault("/reports/c3/email-activity", 400));
    does(&crm, &address(4), "c3", at("unsubscribe", now()));
    let id = begin(&mut crm);
    wait_for(
        &mut crm,
        id,
        "state = 'failed' AND done = 4 AND error LIKE 'campaign c3, email-activity: %'",
    );
    crm.settle();
    let read = "SELECT campaign_id, kind, detail ? 'proxy' FROM integration.activity ORDER BY 1, 2";
    assert_eq!(crm.rows(read), ["c2|open|f", "c3|unsub|f", "c4|open|t"]);
    assert!(!crm.ask::<bool>("SELECT marketing_opt_in FROM crm.contacts WHERE id = 4"));
    crm.remote.clear_faults();
    poll(&mut crm);
    assert_eq!(
        crm.rows(read),
        [
            "c1|open|t",
            "c2|open|t",
            "c3|open|t",
            "c3|unsub|f",
            "c4|open|t"
        ]
    );
}

#[test]
fn what_is_too_old_is_deleted_and_not_fetched_again() {
    let mut crm = few();
    does(&crm, &address(2), "c1", at("open", now() - 48 * HOUR));
    does(&crm, &address(2), "c1", at("open", now()));
    does(&crm, &address(4), "c1", at("unsubscribe", now()));
    poll(&mut crm);
    assert_eq!(crm.rows("SELECT count(*) FROM integration.activity"), ["3"]);
    crm.run("UPDATE integration.consent_log SET recorded_at = recorded_at - interval '2 days'");
    crm.set("consent_log_retention", "1d");
    crm.set("activity_retention", "1d");
    let kept = "SELECT (SELECT count(*) FROM integration.activity), (SELECT count(*) FROM integration.consent_log), (SELECT count(DISTINCT record_key) FROM integration.consent_log)";
    wait_until("old rows are gone", SOON, || {
        let id = begin(&mut crm);
        wait_for(&mut crm, id, "state = 'done'");
        (crm.rows(kept) == ["2|6|6"]).then_some(())
    });
    assert_eq!(
        crm.rows("SELECT to_status FROM integration.consent_log WHERE record_key = '4'"),
        ["unsubscribed_by_member"]
    );
    poll(&mut crm);
    assert_eq!(crm.rows(kept), ["2|6|6"]);
}
