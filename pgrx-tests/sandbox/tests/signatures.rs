//! Signatures against published vectors and ones made with the official clients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use integration_sandbox::{mailchimp_signature, signature_v1, signature_v3};
use serde_json::Value;

#[test]
fn hubspot_vectors() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("data/hubspot_signatures.json")).unwrap();
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().unwrap_or_default();
        let signature = match text("version") {
            "v1" => signature_v1(text("secret"), text("body")),
            _ => signature_v3(
                text("secret"),
                text("method"),
                text("received_uri"),
                text("body"),
                text("timestamp"),
            ),
        };
        assert_eq!(signature, text("signature"), "{}", text("id"));
    }
    assert!(vectors.len() > 5);
}

#[test]
fn mailchimp_vector() {
    let body = "type=unsubscribe&fired_at=2026-11-23+10%3A15%3A00&data%5Breason%5D=manual&data%5Bemail%5D=ada%40example.com";
    let expected = "5c7ed5d53f458721914d396d17c055c91d979967038a8d18615f312970fd89ad";
    assert_eq!(
        mailchimp_signature("whsec-example", 1_795_428_900, body),
        expected
    );
}
