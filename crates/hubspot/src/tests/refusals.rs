//! What HubSpot's refusals mean.

use std::time::Duration;

use super::*;
use integration_engine::{
    limits::concurrency::Strain,
    service::failure::{Class, classify, strain},
    wire::{Reply, TransportError},
};

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    Reply {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        body: body.into(),
    }
}

/// A class without its wording.
fn shape(class: &Class) -> (&'static str, Option<u64>, bool) {
    match class {
        Class::Answered => ("answered", None, false),
        Class::Rejected => ("rejected", None, false),
        Class::NotFound => ("not found", None, false),
        Class::Failing { wait, counted, .. } => {
            ("failing", wait.map(|wait| wait.as_secs()), *counted)
        }
        Class::Throttled { wait, .. } => ("throttled", Some(wait.as_secs()), false),
        Class::DailyLimit { wait, .. } => ("daily", Some(wait.as_secs()), false),
        Class::Crowded { wait, counted, .. } => ("crowded", Some(wait.as_secs()), *counted),
        Class::Unauthorized { .. } => ("unauthorized", None, false),
        Class::Forbidden { .. } => ("forbidden", None, false),
    }
}

#[test]
fn every_status_has_its_class() {
    let rolling = r#"{"status":"error","message":"You have reached your ten_secondly_rolling limit.","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}"#;
    let secondly = r#"{"policyName":"SECONDLY"}"#;
    let daily = r#"{"policyName":"DAILY"}"#;
    let daily_text = r#"{"message":"You have reached your daily limit."}"#;
    let after = |value: &'static str| vec![("retry-after", value)];
    let date = vec![
        ("retry-after", "Mon, 23 Nov 2026 10:01:30 GMT"),
        ("date", "Mon, 23 Nov 2026 10:00:00 GMT"),
    ];
    let cases = [
        (
            403,
            vec![],
            r#"{"category":"MISSING_SCOPES"}"#,
            ("forbidden", None, false),
        ),
        (403, vec![], "<html>", ("throttled", Some(30), false)),
        (429, vec![], rolling, ("throttled", Some(10), false)),
        (429, vec![], secondly, ("throttled", Some(1), false)),
        (429, vec![], "", ("throttled", Some(10), false)),
        (429, after("3"), rolling, ("throttled", Some(3), false)),
        (429, date, rolling, ("throttled", Some(90), false)),
        (429, vec![], daily, ("daily", Some(600), false)),
        (429, vec![], daily_text, ("daily", Some(600), false)),
        (429, after("60"), daily, ("daily", Some(60), false)),
    ];
    for (status, headers, body, expected) in cases {
        let class = classify::<HubSpot>(Ok(&reply(status, &headers, body)));
        assert_eq!(shape(&class), expected, "{status} {headers:?} {body}");
    }
}

#[test]
fn missing_scopes_are_named() {
    let body = r#"{"status":"error","message":"This app hasn't been granted all required scopes","category":"MISSING_SCOPES",
        "errors":[{"message":"x","context":{"requiredGranularScopes":["crm.objects.deals.write","crm.objects.deals.read"]}}]}"#;
    let class = classify::<HubSpot>(Ok(&reply(403, &[], body)));
    let Class::Forbidden { why } = class else {
        panic!("{class:?}")
    };
    assert!(
        why.contains("crm.objects.deals.read, crm.objects.deals.write"),
        "{why}"
    );
}

#[test]
fn a_daily_limit_says_until_when_if_it_can() {
    let headers = [
        ("retry-after", "3600"),
        ("date", "Thu, 01 Jan 1970 00:00:10 GMT"),
    ];
    let class = classify::<HubSpot>(Ok(&reply(429, &headers, r#"{"policyName":"DAILY"}"#)));
    let Class::DailyLimit { until, .. } = class else {
        panic!("{class:?}")
    };
    assert_eq!(until, Some(Timestamp(3_610_000)));
}

#[test]
fn it_takes_no_longer_over_many_requests() {
    for (status, expected) in [(423, Some(Strain::Crowded)), (429, None), (502, None)] {
        assert_eq!(
            strain::<HubSpot>(Ok(&reply(status, &[], ""))),
            expected,
            "{status}"
        );
    }
    let timeout = TransportError::Timeout(Duration::from_secs(130));
    assert_eq!(strain::<HubSpot>(Err(&timeout)), None);
}
