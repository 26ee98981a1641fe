//! Erasing: requests, and what their answers mean.

use std::time::Duration;

use super::*;
use crate::erasure::{archive_request, erase_address_request, erase_request, read};
use integration_engine::{
    erasure::{ErasureAnswer, ErasureStep},
    wire::{Method, Reply, TransportError},
};

#[test]
fn requests_are_as_documented() {
    let settings = settings(&[]);
    let cases = [
        (
            erase_request(&settings, CONTACT, &"512".into()),
            "/crm/objects/2026-09/contacts/gdpr-delete",
            r#"{"objectId":"512"}"#,
        ),
        (
            erase_address_request(&settings, CONTACT, "ada@example.org"),
            "/crm/objects/2026-09/contacts/gdpr-delete",
            r#"{"idProperty":"email","objectId":"ada@example.org"}"#,
        ),
        (
            archive_request(&settings, COMPANY, &"77".into()),
            "/crm/objects/2026-09/companies/batch/archive",
            r#"{"inputs":[{"id":"77"}]}"#,
        ),
    ];
    for (request, path, body) in cases {
        assert_eq!(
            (request.method, request.path.as_str()),
            (Method::Post, path)
        );
        assert_eq!(request.body.as_deref(), Some(body.as_bytes()), "{path}");
    }
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

#[test]
fn what_is_gone_already_is_done_and_what_is_unclear_is_not() {
    let erase = ErasureStep::Erase("512".into());
    let not_found = r#"{"status":"error","message":"resource not found","correlationId":"1"}"#;
    let cases = [
        (204, "", true),
        (200, "{}", true),
        (404, not_found, true),
        (
            404,
            r#"{"category":"OBJECT_NOT_FOUND","message":"Object not found"}"#,
            true,
        ),
        (
            400,
            r#"{"category":"VALIDATION_ERROR","message":"contact is already deleted"}"#,
            true,
        ),
        // A wrong path erases nobody.
        (404, "<html>", false),
        // Nor does a proxy that wants to be logged in to.
        (200, "<html>", false),
        (404, "", false),
        (
            400,
            r#"{"category":"VALIDATION_ERROR","message":"objectId is no number"}"#,
            false,
        ),
        (401, "{}", false),
        (403, r#"{"category":"MISSING_SCOPES"}"#, false),
        (429, "{}", false),
        (500, "", false),
    ];
    for (status, body, done) in cases {
        let answer = read(&erase, Ok(&reply(status, body)), &settings(&[]));
        let over = match status {
            204 => answer == ErasureAnswer::Done,
            _ => matches!(answer, ErasureAnswer::Done | ErasureAnswer::Absent),
        };
        assert_eq!(over, done, "{status} {body}: {answer:?}");
        assert!(
            done || matches!(&answer, ErasureAnswer::Not(why) if !why.is_empty()),
            "{answer:?}"
        );
    }
    let lost = TransportError::Timeout(Duration::from_secs(5));
    assert!(matches!(
        read(&erase, Err(&lost), &settings(&[])),
        ErasureAnswer::Not(_)
    ));
}

#[test]
fn a_look_finds_the_record_or_that_there_is_none() {
    let look = ErasureStep::Look("17".into());
    let lacking = r#"{"category":"VALIDATION_ERROR","message":"Property values were not valid: [{\"isValid\":false,\"message\":\"Property \\\"crm_id\\\" does not exist\",\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"crm_id\"}]"}"#;
    let cases = [
        (
            200,
            r#"{"status":"COMPLETE","results":[{"id":"512","properties":{"crm_id":"17"}}]}"#,
            ErasureAnswer::Found("512".into()),
        ),
        (
            200,
            r#"{"status":"COMPLETE","results":[]}"#,
            ErasureAnswer::Absent,
        ),
        (
            207,
            r#"{"status":"COMPLETE","results":[],"numErrors":1,"errors":[{"category":"OBJECT_NOT_FOUND","context":{"ids":["17"]}}]}"#,
            ErasureAnswer::Absent,
        ),
        (400, lacking, ErasureAnswer::Absent),
        (
            207,
            r#"{"results":[],"errors":[{"category":"RATE_LIMITS","message":"slow down"}]}"#,
            ErasureAnswer::Not("HubSpot refused the record: slow down".into()),
        ),
    ];
    for (status, body, expected) in cases {
        let answer = read(&look, Ok(&reply(status, body)), &settings(&[]));
        assert_eq!(answer, expected, "{status} {body}");
    }
    let unreadable = read(&look, Ok(&reply(200, "<html>")), &settings(&[]));
    assert!(matches!(unreadable, ErasureAnswer::Not(_)));
}
