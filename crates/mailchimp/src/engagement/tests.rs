use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

use integration_engine::{crypto::subscriber_hash, sync::clock::ValueHash, wire::Reply};
use serde_json::Value;

const ADA: &str = "62eeb292278cc15f5817cb78f7790b08";

fn reply(body: &Value) -> Reply {
    Reply {
        status: 200,
        headers: vec![],
        body: body.to_string().into_bytes(),
    }
}

fn did(report: Report, since: Option<Timestamp>, body: &Value) -> Vec<Engagement> {
    match read_report("c1", report, since, &reply(body)).unwrap().rows {
        ReportContent::Did(did) => did,
        other => panic!("{other:?}"),
    }
}

fn emails(activity: Value) -> Value {
    json!({"emails": [{"email_id": ADA, "email_address": "Urist.McVankab@freddiesjokes.com", "activity": activity}], "total_items": 1})
}

const NOON: &str = "2026-11-24T12:00:00+00:00";
const NOON_MS: i64 = 1_795_521_600_000;

#[test]
fn events_are_read_and_told_apart() {
    let click = json!({"action": "click", "timestamp": NOON, "url": "https://a.example/", "ip": "192.0.2.1"});
    let body = emails(json!([
        {"action": "open", "timestamp": NOON, "ip": "192.0.2.1"},
        click,
        click,
        {"action": "bounce", "type": "hard", "timestamp": NOON},
        {"action": "bounce", "type": "soft", "timestamp": NOON},
        {"action": "something new", "timestamp": NOON},
        {"action": "open", "timestamp": "soon"},
        {"action": "open", "timestamp": "99999999999999999"},
        {"timestamp": NOON},
        "what",
    ]));
    let events = did(Report::Activity, None, &body);
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.kind.as_str(), event.url.as_deref(), event.opt_out))
        .collect();
    let link = Some("https://a.example/");
    assert_eq!(
        seen,
        [
            ("open", None, None),
            ("click", link, None),
            ("click", link, None),
            ("bounce", None, Some(OptOut::Bounced)),
            ("bounce", None, None),
            ("something new", None, None),
        ]
    );
    assert_eq!(events[0].detail, json!({"ip": "192.0.2.1"}));
    assert_eq!(events[3].detail, json!({"bounce": "hard"}));
    for event in &events {
        assert_eq!((event.member.as_str(), event.at.0), (ADA, NOON_MS));
        assert_eq!(
            event.email.as_deref(),
            Some("urist.mcvankab@freddiesjokes.com")
        );
    }
    let keys: BTreeSet<u64> = events.iter().map(|event| event.key.0).collect();
    assert_eq!(keys.len(), events.len());
    assert_eq!(did(Report::Activity, None, &body), events, "the same again");
}

#[test]
fn rows_that_name_nobody_are_counted_and_left_out() {
    let body = json!({"emails": [
        {"email_address": "no address", "activity": [{"action": "open", "timestamp": NOON}]},
        {"email_id": "../x", "email_address": "a@b.co", "activity": [{"action": "op\u{0}en", "timestamp": NOON}]},
        {"email_id": ADA, "activity": [{"action": "open", "timestamp": NOON}]},
        {"email_id": ADA, "email_address": "a@b.co"},
        7,
    ], "total_items": 9});
    let page = read_report("c1", Report::Activity, None, &reply(&body)).unwrap();
    assert_eq!((page.got, page.total), (5, 9));
    let ReportContent::Did(events) = page.rows else {
        panic!("not what was done")
    };
    let who: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event.member.clone(),
                event.email.clone(),
                event.kind.as_str(),
            )
        })
        .collect();
    assert_eq!(
        who,
        [
            (subscriber_hash("a@b.co"), Some("a@b.co".to_owned()), "open"),
            (ADA.to_owned(), None, "open"),
        ]
    );
    for report in Report::ALL {
        assert!(read_report("c1", report, None, &reply(&json!({"total_items": 0}))).is_err());
    }
}

#[test]
fn who_leaves_is_told_as_a_webhook_would() {
    let unsubscribed = json!({"unsubscribes": [{"email_id": ADA, "email_address": "A@b.co", "timestamp": NOON, "reason": "too often"}], "total_items": 1});
    let complained = json!({"abuse_reports": [{"id": 7, "email_id": ADA, "email_address": "a@b.co", "date": NOON}]});
    let bounced = json!({"emails": [{"email_id": ADA, "email_address": "a@b.co", "activity": [{"action": "bounce", "type": "hard", "timestamp": NOON}]}]});
    use integration_engine::record::consent::MemberStatus::{Cleaned, UnsubscribedByMember};
    let cases = [
        (
            Report::Unsubscribes,
            unsubscribed,
            "unsub",
            "too often",
            UnsubscribedByMember,
        ),
        (
            Report::Complaints,
            complained,
            "spam",
            "abuse",
            UnsubscribedByMember,
        ),
        (Report::Activity, bounced, "bounce", "hard", Cleaned),
    ];
    for (report, body, kind, reason, status) in cases {
        let event = did(report, None, &body).remove(0);
        assert_eq!(event.kind, kind);
        let told = as_webhook("l1", "c1", &event).unwrap();
        let subject = &told.subject;
        assert_eq!(subject.member_status(), Some(status), "{kind}");
        assert_eq!(subject.list(), Some("l1"));
        assert_eq!(told.payload["data"]["reason"], reason);
        assert_eq!(told.payload["data"]["email"], "a@b.co");
        assert_eq!(told.payload["fired_at"], "2026-11-24 12:00:00");
        assert_eq!(told.occurred_at.0, NOON_MS);
        let late = Some(Timestamp(NOON_MS + 1_000));
        assert_eq!(did(report, late, &body), [], "{kind}");
        assert_eq!(did(report, Some(Timestamp(NOON_MS + 999)), &body).len(), 1);
    }
    let open = did(
        Report::Activity,
        None,
        &emails(json!([{"action": "open", "timestamp": NOON}])),
    );
    assert_eq!(as_webhook("l1", "c1", &open[0]), None);
}

#[test]
fn opens_by_proxies_are_counted_by_the_second() {
    let open = |at: &str, proxy: Value| json!({"timestamp": at, "is_proxy_open": proxy});
    let later = "2026-11-24T12:00:01Z";
    let body = json!({"members": [{"email_id": ADA, "opens": [
        open(NOON, json!(true)), open(NOON, json!(false)), open(later, json!(false)), open(NOON, json!(true)), open(later, Value::Null), {},
    ]}], "total_items": 1});
    let page = read_report("c1", Report::Opens, None, &reply(&body)).unwrap();
    let opened = |at, by_proxy| RecipientOpens {
        member: ADA.to_owned(),
        at: Timestamp(at),
        by_proxy,
    };
    assert_eq!(
        page.rows,
        ReportContent::Opened(vec![opened(NOON_MS, 2), opened(NOON_MS + 1_000, 0)])
    );
}

#[test]
fn what_machines_did_is_what_people_did_not() {
    let open = json!({"action": "open", "timestamp": NOON});
    let click = json!({"action": "click", "timestamp": NOON, "url": "https://a.example/"});
    let keys = |body: &Value| {
        let page = read_report("c1", Report::Human, None, &reply(body)).unwrap();
        let ReportContent::Humans(mut humans) = page.rows else {
            panic!("not what people did")
        };
        assert_eq!((humans.len(), humans[0].member.as_str()), (1, ADA));
        humans.remove(0).keys
    };
    let all = did(Report::Activity, None, &emails(json!([open, open, click])));
    let all: Vec<ValueHash> = all.iter().map(|event| event.key).collect();
    assert_eq!(keys(&emails(json!([open, open, click]))), all);
    assert_eq!(keys(&emails(json!([open, click]))), [all[0], all[2]]);
    assert_eq!(keys(&emails(json!([]))), []);
    for (since, from) in [(None, 0), (Some(1_000), 2_000), (Some(1_999), 2_000)] {
        assert_eq!(judged_from(since.map(Timestamp)), Timestamp(from));
    }
}

#[test]
fn campaigns_are_read() {
    let campaign = |id: &str, list: Value, at: &str| json!({"id": id, "send_time": at, "recipients": {"list_id": list}});
    let body = json!({"campaigns": [
        campaign("c1", json!("l1"), NOON),
        campaign("../lists", json!("l1"), NOON),
        campaign("", json!("l1"), NOON),
        campaign("c2", Value::Null, NOON),
        campaign("c3", json!("l1"), ""),
        7,
    ], "total_items": 6});
    let page = read_campaigns(&reply(&body)).unwrap();
    let sent = SentCampaign {
        id: "c1".to_owned(),
        list: "l1".to_owned(),
        sent_at: Timestamp(NOON_MS),
    };
    assert_eq!((page.rows, page.got, page.total), (vec![sent], 6, 6));
    assert!(read_campaigns(&reply(&json!({}))).is_err());
}

#[test]
fn requests_name_seconds_and_pages() {
    let at = Some(Timestamp(NOON_MS + 999));
    let cases = [
        (
            Report::Activity,
            "count=7&offset=3&since=2026-11-24T12:00:00Z",
        ),
        (Report::Opens, "count=7&offset=3&since=2026-11-24T12:00:00Z"),
        (
            Report::Human,
            "count=7&offset=3&filter_bots=true&since=2026-11-24T12:00:00Z",
        ),
        (Report::Unsubscribes, "unsubscribes.reason&count=7&offset=3"),
        (Report::Complaints, "abuse_reports.date"),
    ];
    for (report, end) in cases {
        let path = report_request("c1", report, at, 3, 7).path;
        let name = report.name().replace("human", "email");
        assert!(path.starts_with(&format!("/reports/c1/{name}?")));
        assert!(path.ends_with(end), "{path}");
        assert_eq!(Report::from_name(report.name()), Some(report));
    }
    let path = campaigns_request(Timestamp(NOON_MS), 1_000).path;
    assert!(
        path.contains("since_send_time=2026-11-24T12:00:00Z&"),
        "{path}"
    );
    assert!(path.contains("&offset=1000&"), "{path}");
}

#[test]
fn reports_are_read_in_order() {
    let mut order = vec![Report::ALL[0]];
    while let Some(next) = order[order.len() - 1].next() {
        order.push(next);
    }
    assert_eq!(order, Report::ALL);
}

#[test]
fn old_campaigns_are_read_less_often() {
    let hours = |hours: i64| Timestamp(hours * HOUR_MS);
    let hourly = Duration::from_secs(3_600);
    let monthly = Duration::from_secs(30 * 86_400);
    let cases = [
        (1, None, hourly, true),
        (1_000, None, hourly, true),
        (72, Some(71), hourly, true),
        (73, Some(72), hourly, false),
        (73, Some(49), hourly, true),
        (73, Some(50), hourly, false),
        (721, Some(697), hourly, false),
        (721, Some(553), hourly, true),
        (721, Some(554), hourly, false),
        (1_000, Some(281), monthly, false),
        (1_000, Some(280), monthly, true),
    ];
    for (now, read, interval, due) in cases {
        let is = is_due(hours(now), hours(0), read.map(hours), interval);
        assert_eq!(is, due, "{now} {read:?}");
    }
}

#[test]
fn reading_begins_before_what_was_seen() {
    let at = |ms| Some(Timestamp(ms));
    let day = OVERLAP_MS;
    let cases = [
        (None, None, None),
        (at(day + 5), None, at(5)),
        (None, at(9), at(9)),
        (at(day + 5), at(9), at(9)),
        (at(day + 9), at(5), at(9)),
    ];
    for (seen, kept, expected) in cases {
        assert_eq!(since(seen, kept), expected);
    }
}

/// A service that keeps `(at, member)` events and answers as of now.
fn report(events: &[(i64, u8)], since: Option<Timestamp>, inclusive: bool) -> Value {
    let mut members: BTreeMap<u8, Vec<Value>> = BTreeMap::new();
    for (at, member) in events {
        let list = members.entry(*member).or_default();
        let wanted = since.is_none_or(|since| match inclusive {
            true => *at >= since.0 / 1_000,
            false => *at > since.0 / 1_000,
        });
        if wanted {
            let at = time::iso(at * 1_000).unwrap();
            list.push(json!({"action": "open", "timestamp": at, "ip": "192.0.2.1"}));
        }
    }
    let emails: Vec<Value> = members
        .iter()
        .map(|(member, list)| json!({"email_address": format!("{member}@b.co"), "activity": list}))
        .collect();
    json!({"emails": emails, "total_items": emails.len()})
}

proptest! {
    /// However often and from wherever a growing report is read, each event is met as one, and all
    /// of them are met, as long as none comes later than the overlap.
    #[test]
    fn nothing_is_lost_or_doubled(
        batches in prop::collection::vec(prop::collection::vec((0_i64..4, 0_u8..3, any::<bool>()), 0..12), 1..6),
        inclusive: bool,
    ) {
        let (mut there, mut met) = (Vec::new(), BTreeSet::new());
        let mut seen = None;
        for (round, batch) in batches.into_iter().enumerate() {
            // Each round is half a day later than the one before; some events come a round late.
            there.extend(batch.into_iter().map(|(at, who, late)| {
                (at + 43_200 * (round as i64 - i64::from(late && round > 0)), who)
            }));
            let from = since(seen, None);
            for event in did(Report::Activity, from, &report(&there, from, inclusive)) {
                seen = seen.max(Some(event.at));
                met.insert((event.member, event.key.0));
            }
        }
        prop_assert_eq!(met.len(), there.len());
    }

    /// Rows that stay are all read, whatever comes and goes before the last round.
    #[test]
    fn a_list_that_changes_is_read_whole(
        size in 0_usize..40,
        count in 1_usize..9,
        changes in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..6),
    ) {
        let mut list: Vec<usize> = (0..size).collect();
        let stay: BTreeSet<usize> = (0..size).filter(|row| row % 2 == 0).collect();
        let (mut walk, mut met) = (Some(ReportCursor::default()), BTreeSet::new());
        let mut changes = changes.into_iter();
        let mut pages = 0;
        while let Some(at) = walk {
            pages += 1;
            let from = at.offset as usize;
            let page: Vec<usize> = list.iter().skip(from).take(count).copied().collect();
            walk = at.after(page.len(), list.len() as u64);
            met.extend(page);
            // All changes are over before the last round begins.
            if at.rounds + 2 < MOST_ROUNDS
                && let Some((grow, place)) = changes.next()
            {
                if grow {
                    list.insert(place.index(list.len() + 1), 1_000 + pages);
                } else if let Some(gone) = list.iter().position(|row| !stay.contains(row)) {
                    list.remove(gone);
                }
            }
            prop_assert!(pages < 500);
        }
        prop_assert!(stay.is_subset(&met), "{:?}", met);
    }
}
