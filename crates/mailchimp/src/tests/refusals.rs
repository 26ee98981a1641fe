//! What Mailchimp's refusals mean.

use super::*;
use integration_engine::{
    limits::concurrency::Strain,
    service::failure::{Class, classify, strain},
    wire::Reply,
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
    let cases = [
        (401, [("x", ""); 0], "", ("unauthorized", None, false)),
        (
            403,
            [("x", ""); 0],
            r#"{"title":"Forbidden"}"#,
            ("unauthorized", None, false),
        ),
        (403, [("x", ""); 0], "", ("crowded", Some(2), false)),
        (403, [("x", ""); 0], "<html>", ("crowded", Some(2), false)),
        (503, [("x", ""); 0], "<html>", ("failing", Some(30), false)),
        (
            503,
            [("x", ""); 0],
            r#"{"title":"x"}"#,
            ("failing", None, true),
        ),
        (429, [("x", ""); 0], "", ("crowded", Some(2), false)),
    ];
    for (status, headers, body, expected) in cases {
        let class = classify::<Mailchimp>(Ok(&reply(status, &headers, body)));
        assert_eq!(shape(&class), expected, "{status} {headers:?} {body}");
    }
}

#[test]
fn what_is_too_much_is_told_from_other_trouble() {
    let cases = [
        (429, "", Some(Strain::Crowded)),
        (403, "<html>", Some(Strain::Crowded)),
        (403, r#"{"title":"Forbidden"}"#, None),
        (503, "<html>", None),
        (502, "<html>", Some(Strain::Slow)),
    ];
    for (status, body, expected) in cases {
        let reply = reply(status, &[], body);
        assert_eq!(strain::<Mailchimp>(Ok(&reply)), expected, "{status}");
    }
}
