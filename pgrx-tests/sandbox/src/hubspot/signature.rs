//! Signatures of HubSpot's webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;
use sha2::{Digest, Sha256};

use crate::delivery::{hex, keyed};

/// HubSpot v1: hex of SHA-256 over secret and body.
pub fn signature_v1(secret: &str, body: &str) -> String {
    hex(&Sha256::new()
        .chain_update(secret)
        .chain_update(body)
        .finalize())
}

/// HubSpot v3: base64 of HMAC-SHA256 over method, URI with twelve escapes decoded, body and
/// timestamp.
pub fn signature_v3(secret: &str, method: &str, uri: &str, body: &str, timestamp: &str) -> String {
    let mut mac = keyed(secret);
    Mac::update(&mut mac, method.as_bytes());
    Mac::update(&mut mac, decode_uri(uri).as_bytes());
    Mac::update(&mut mac, body.as_bytes());
    Mac::update(&mut mac, timestamp.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// HubSpot decodes exactly these before signing; all other escapes stay.
fn decode_uri(uri: &str) -> String {
    const DECODED: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    let mut out = String::with_capacity(uri.len());
    let mut rest = uri;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        match DECODED.iter().find(|(escape, _)| after.starts_with(escape)) {
            Some((escape, plain)) => {
                out.push_str(plain);
                rest = &after[escape.len()..];
            }
            None => {
                out.push('%');
                rest = &after[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
