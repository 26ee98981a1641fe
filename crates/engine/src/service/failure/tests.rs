use super::*;
use crate::service::plain::Plain;

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
    let after = |value: &'static str| vec![("retry-after", value)];
    let date = vec![
        ("retry-after", "Mon, 23 Nov 2026 10:01:30 GMT"),
        ("date", "Mon, 23 Nov 2026 10:00:00 GMT"),
    ];
    let cases = [
        (200, vec![], "", ("answered", None, false)),
        (207, vec![], "", ("answered", None, false)),
        (204, vec![], "", ("answered", None, false)),
        (400, vec![], "", ("rejected", None, false)),
        (409, vec![], "", ("rejected", None, false)),
        (413, vec![], "", ("rejected", None, false)),
        (414, vec![], "", ("rejected", None, false)),
        (422, vec![], "", ("rejected", None, false)),
        (404, vec![], "", ("not found", None, false)),
        (401, vec![], "", ("unauthorized", None, false)),
        (408, vec![], "", ("failing", None, true)),
        (423, vec![], "", ("crowded", Some(2), true)),
        (423, after("1"), "", ("crowded", Some(2), true)),
        (423, after("7"), "", ("crowded", Some(7), true)),
        (477, vec![], "", ("failing", Some(60), false)),
        (477, after("3600"), "", ("failing", Some(3600), false)),
        (500, vec![], "", ("failing", None, true)),
        (503, after("5"), "", ("failing", Some(5), true)),
        (504, vec![], "", ("failing", None, true)),
        (524, vec![], "", ("failing", None, true)),
        (526, vec![], "", ("failing", None, true)),
        (301, vec![], "", ("failing", None, false)),
        (415, vec![], "", ("failing", None, false)),
        (405, vec![], "", ("not found", None, false)),
        (502, vec![], "<html>", ("failing", None, true)),
        (426, vec![], "", ("failing", None, false)),
        (
            403,
            vec![],
            r#"{"title":"Forbidden"}"#,
            ("forbidden", None, false),
        ),
        (403, vec![], "<html>", ("throttled", Some(30), false)),
        (429, vec![], "", ("throttled", Some(10), false)),
        (429, date, "", ("throttled", Some(90), false)),
    ];
    for (status, headers, body, expected) in cases {
        let class = classify::<Plain>(Ok(&reply(status, &headers, body)));
        assert_eq!(shape(&class), expected, "{status} {headers:?} {body}");
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
            shape(&classify::<Plain>(Err(&error))),
            ("failing", None, counted)
        );
    }
}

#[test]
fn unreadable_waits_are_ignored() {
    for value in ["", "soon", "-5", "99999999999999999999", "1e300", "NaN"] {
        let class = classify::<Plain>(Ok(&reply(503, &[("retry-after", value)], "")));
        let (name, wait, _) = shape(&class);
        assert_eq!(name, "failing", "{value}");
        assert!(wait.is_none_or(|wait| wait < 1 << 40), "{value}");
    }
}

#[test]
fn what_is_too_much_is_told_from_other_trouble() {
    let cases = [
        (200, "", Some(Strain::None)),
        (400, "{}", Some(Strain::None)),
        (404, "{}", Some(Strain::None)),
        (423, "", Some(Strain::Crowded)),
        (401, "{}", None),
        (500, "{}", None),
        (502, "<html>", Some(Strain::Slow)),
        (504, "", Some(Strain::Slow)),
    ];
    for (status, body, expected) in cases {
        let reply = reply(status, &[], body);
        assert_eq!(strain::<Plain>(Ok(&reply)), expected, "{status}");
    }
    let timeout = TransportError::Timeout(Duration::from_secs(130));
    assert_eq!(strain::<Plain>(Err(&timeout)), Some(Strain::Slow));
    let lost = TransportError::Lost("reset".into());
    assert_eq!(strain::<Plain>(Err(&lost)), None);
}
