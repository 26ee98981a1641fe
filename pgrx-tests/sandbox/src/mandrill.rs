//! Mandrill (Mailchimp Transactional) webhooks, made to order: it has no state of its own here.

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::Serializer;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha1::Sha1;

/// The body that Mandrill posts for these events, and the header `X-Mandrill-Signature`.
pub fn mandrill_webhook(key: &str, url: &str, events: &Value) -> (String, String) {
    let events = events.to_string();
    let body = Serializer::new(String::new())
        .append_pair("mandrill_events", &events)
        .finish();
    (body, signature(key, url, &events))
}

/// Base64 of HMAC-SHA1 over the URL and the one parameter, name and value.
fn signature(key: &str, url: &str, events: &str) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    for part in [url, "mandrill_events", events] {
        mac.update(part.as_bytes());
    }
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_mandrills() {
        let url = "https://hooks.example.com/mandrill?tenant=7";
        let made = signature("mandrill-key-example", url, "[]");
        assert_eq!(made, "xAPFWTQc+gc7UGtQ6dcOSooJ9Og=");
    }
}
