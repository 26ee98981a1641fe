//! Erasing: the request, and what its answer means.

use crate::erasure::{erase_request, read};
use integration_engine::{
    erasure::ErasureAnswer,
    wire::{Method, Reply},
};

#[test]
fn request_is_as_documented() {
    let request = erase_request("a6b5da1054", "hash");
    assert_eq!(
        (request.method, request.path.as_str(), &request.body),
        (
            Method::Post,
            "/lists/a6b5da1054/members/hash/actions/delete-permanent",
            &None
        )
    );
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
    let gone = r#"{"type":"https://x","title":"Resource Not Found","status":404,"detail":"The requested resource could not be found."}"#;
    let unremovable = r#"{"title":"Method Not Allowed","status":405,"detail":"This list member cannot be removed. Please contact support."}"#;
    let forgotten = r#"{"title":"Forgotten Email Not Subscribed","status":400,"detail":"ada@example.org was permanently deleted and cannot be re-imported."}"#;
    let cases = [
        (200, "<html>", false),
        (204, "", true),
        (404, gone, true),
        (405, unremovable, true),
        (400, forgotten, true),
        (404, "<html>", false),
        (400, r#"{"title":"Bad Request"}"#, false),
        (429, "", false),
        (503, "", false),
    ];
    for (status, body, done) in cases {
        let answer = read(Ok(&reply(status, body)));
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
}
