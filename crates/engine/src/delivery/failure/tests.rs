use super::*;

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
    use Target::{HubSpot, Mailchimp};
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
        (HubSpot, 200, vec![], "", ("answered", None, false)),
        (HubSpot, 207, vec![], "", ("answered", None, false)),
        (HubSpot, 204, vec![], "", ("answered", None, false)),
        (HubSpot, 400, vec![], "", ("rejected", None, false)),
        (HubSpot, 409, vec![], "", ("rejected", None, false)),
        (HubSpot, 413, vec![], "", ("rejected", None, false)),
        (HubSpot, 414, vec![], "", ("rejected", None, false)),
        (HubSpot, 422, vec![], "", ("rejected", None, false)),
        (HubSpot, 404, vec![], "", ("not found", None, false)),
        (Mailchimp, 405, vec![], "", ("not found", None, false)),
        (HubSpot, 401, vec![], "", ("unauthorized", None, false)),
        (Mailchimp, 401, vec![], "", ("unauthorized", None, false)),
        (
            HubSpot,
            403,
            vec![],
            r#"{"category":"MISSING_SCOPES"}"#,
            ("forbidden", None, false),
        ),
        (
            HubSpot,
            403,
            vec![],
            "<html>",
            ("throttled", Some(30), false),
        ),
        (
            Mailchimp,
            403,
            vec![],
            r#"{"title":"Forbidden"}"#,
            ("unauthorized", None, false),
        ),
        (Mailchimp, 403, vec![], "", ("crowded", Some(2), false)),
        (
            Mailchimp,
            403,
            vec![],
            "<html>",
            ("crowded", Some(2), false),
        ),
        (
            Mailchimp,
            503,
            vec![],
            "<html>",
            ("failing", Some(30), false),
        ),
        (
            Mailchimp,
            503,
            vec![],
            r#"{"title":"x"}"#,
            ("failing", None, true),
        ),
        (HubSpot, 408, vec![], "", ("failing", None, true)),
        (HubSpot, 423, vec![], "", ("crowded", Some(2), true)),
        (HubSpot, 423, after("1"), "", ("crowded", Some(2), true)),
        (HubSpot, 423, after("7"), "", ("crowded", Some(7), true)),
        (
            HubSpot,
            429,
            vec![],
            rolling,
            ("throttled", Some(10), false),
        ),
        (
            HubSpot,
            429,
            vec![],
            secondly,
            ("throttled", Some(1), false),
        ),
        (HubSpot, 429, vec![], "", ("throttled", Some(10), false)),
        (
            HubSpot,
            429,
            after("3"),
            rolling,
            ("throttled", Some(3), false),
        ),
        (HubSpot, 429, date, rolling, ("throttled", Some(90), false)),
        (HubSpot, 429, vec![], daily, ("daily", Some(600), false)),
        (
            HubSpot,
            429,
            vec![],
            daily_text,
            ("daily", Some(600), false),
        ),
        (HubSpot, 429, after("60"), daily, ("daily", Some(60), false)),
        (Mailchimp, 429, vec![], "", ("crowded", Some(2), false)),
        (HubSpot, 477, vec![], "", ("failing", Some(60), false)),
        (
            HubSpot,
            477,
            after("3600"),
            "",
            ("failing", Some(3600), false),
        ),
        (HubSpot, 500, vec![], "", ("failing", None, true)),
        (Mailchimp, 502, vec![], "<html>", ("failing", None, true)),
        (HubSpot, 503, after("5"), "", ("failing", Some(5), true)),
        (HubSpot, 504, vec![], "", ("failing", None, true)),
        (HubSpot, 524, vec![], "", ("failing", None, true)),
        (HubSpot, 526, vec![], "", ("failing", None, true)),
        (HubSpot, 301, vec![], "", ("failing", None, false)),
        (HubSpot, 415, vec![], "", ("failing", None, false)),
        (Mailchimp, 426, vec![], "", ("failing", None, false)),
    ];
    for (target, status, headers, body, expected) in cases {
        let class = classify(target, Ok(&reply(status, &headers, body)));
        assert_eq!(
            shape(&class),
            expected,
            "{target} {status} {headers:?} {body}"
        );
    }
}

#[test]
fn no_answer_is_a_failure_of_the_target() {
    let cases = [
        (TransportError::Timeout(Duration::from_secs(30)), true),
        (TransportError::Lost("reset".into()), true),
        (TransportError::TooLarge(1), true),
        (TransportError::Connect("refused".into()), false),
    ];
    for (error, counted) in cases {
        assert_eq!(
            shape(&classify(Target::HubSpot, Err(&error))),
            ("failing", None, counted)
        );
    }
}

#[test]
fn missing_scopes_are_named() {
    let body = r#"{"status":"error","message":"This app hasn't been granted all required scopes","category":"MISSING_SCOPES",
        "errors":[{"message":"x","context":{"requiredGranularScopes":["crm.objects.deals.write","crm.objects.deals.read"]}}]}"#;
    let class = classify(Target::HubSpot, Ok(&reply(403, &[], body)));
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
    let class = classify(
        Target::HubSpot,
        Ok(&reply(429, &headers, r#"{"policyName":"DAILY"}"#)),
    );
    let Class::DailyLimit { until, .. } = class else {
        panic!("{class:?}")
    };
    assert_eq!(until, Some(Timestamp(3_610_000)));
}

#[test]
fn unreadable_waits_are_ignored() {
    for value in ["", "soon", "-5", "99999999999999999999", "1e300", "NaN"] {
        let class = classify(
            Target::HubSpot,
            Ok(&reply(503, &[("retry-after", value)], "")),
        );
        let (name, wait, _) = shape(&class);
        assert_eq!(name, "failing", "{value}");
        assert!(wait.is_none_or(|wait| wait < 1 << 40), "{value}");
    }
}

#[test]
fn what_is_too_much_is_told_from_other_trouble() {
    use Target::{HubSpot, Mailchimp};
    let cases = [
        (Mailchimp, 200, "", Some(Strain::None)),
        (Mailchimp, 400, "{}", Some(Strain::None)),
        (Mailchimp, 404, "{}", Some(Strain::None)),
        (Mailchimp, 429, "", Some(Strain::Crowded)),
        (Mailchimp, 403, "<html>", Some(Strain::Crowded)),
        (Mailchimp, 403, r#"{"title":"Forbidden"}"#, None),
        (Mailchimp, 401, "{}", None),
        (Mailchimp, 500, "{}", None),
        (Mailchimp, 503, "<html>", None),
        (Mailchimp, 502, "<html>", Some(Strain::Slow)),
        (Mailchimp, 504, "", Some(Strain::Slow)),
        (HubSpot, 423, "", Some(Strain::Crowded)),
        (HubSpot, 429, "", None),
        (HubSpot, 502, "", None),
    ];
    for (target, status, body, expected) in cases {
        let reply = reply(status, &[], body);
        assert_eq!(strain(target, Ok(&reply)), expected, "{target} {status}");
    }
    let timeout = TransportError::Timeout(Duration::from_secs(130));
    assert_eq!(strain(Mailchimp, Err(&timeout)), Some(Strain::Slow));
    assert_eq!(strain(HubSpot, Err(&timeout)), None);
    let lost = TransportError::Lost("reset".into());
    assert_eq!(strain(Mailchimp, Err(&lost)), None);
}
