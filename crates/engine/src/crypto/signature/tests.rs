use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vector {
    id: String,
    version: String,
    secret: String,
    method: String,
    received_uri: Option<String>,
    body: String,
    timestamp: Option<String>,
    signature: String,
}

impl Vector {
    fn all() -> Vec<Vector> {
        serde_json::from_str(include_str!("hubspot_vectors.json")).unwrap()
    }

    /// Checks it as received `seconds` after it was sent.
    fn check(&self, seconds: i64) -> Result<(), SignatureError> {
        if self.version == "v1" {
            return hubspot_v1(&self.secret, self.body.as_bytes(), &self.signature);
        }
        let timestamp = self.timestamp.as_deref().unwrap();
        let now = Timestamp(timestamp.trim().parse::<i64>().unwrap_or(0) + seconds * 1_000);
        let uri = self.received_uri.as_deref().unwrap();
        let body = self.body.as_bytes();
        hubspot_v3(
            &self.secret,
            &self.method,
            uri,
            body,
            timestamp,
            &self.signature,
            now,
        )
    }
}

#[test]
fn hubspot_signatures_are_accepted() {
    let vectors = Vector::all();
    assert!(vectors.len() >= 10);
    for vector in vectors {
        assert_eq!(vector.check(3), Ok(()), "{}", vector.id);
    }
}

#[test]
fn every_part_of_it_counts() {
    for mut vector in Vector::all() {
        let id = vector.id.clone();
        vector.body.push(' ');
        assert_eq!(vector.check(0), Err(SignatureError::Mismatch), "{id}: body");
        vector.body.pop();
        vector.secret.push('x');
        assert_eq!(
            vector.check(0),
            Err(SignatureError::Mismatch),
            "{id}: secret"
        );
        vector.secret.clear();
        assert_eq!(
            vector.check(0),
            Err(SignatureError::NoSecret),
            "{id}: no secret"
        );
        let Some(mut vector) = Vector::all()
            .into_iter()
            .find(|known| known.id == id && known.version == "v3")
        else {
            continue;
        };
        vector.method = "PUT".into();
        assert_eq!(
            vector.check(0),
            Err(SignatureError::Mismatch),
            "{id}: method"
        );
        let mut vector = Vector::all()
            .into_iter()
            .find(|known| known.id == id)
            .unwrap();
        vector.received_uri.as_mut().unwrap().push('x');
        assert_eq!(
            vector.check(0),
            Err(SignatureError::Mismatch),
            "{id}: address"
        );
    }
}

#[test]
fn signatures_age() {
    let vectors = Vector::all();
    let vector = vectors
        .iter()
        .find(|vector| vector.version == "v3")
        .unwrap();
    assert_eq!(vector.check(300), Ok(()));
    assert_eq!(
        vector.check(301),
        Err(SignatureError::Stale { seconds: 301 })
    );
    assert_eq!(vector.check(-300), Ok(()));
    assert_eq!(
        vector.check(-301),
        Err(SignatureError::FromFuture { seconds: 301 })
    );
    for timestamp in ["", "NaN", "-1", "1e3", "99999999999999999999"] {
        let result = hubspot_v3("s", "POST", "u", b"", timestamp, "", Timestamp(0));
        assert!(
            matches!(result, Err(SignatureError::Malformed(_))),
            "{timestamp}"
        );
    }
    assert!(matches!(
        hubspot_v3("s", "POST", "u", b"", "0", "not base64!", Timestamp(0)),
        Err(SignatureError::Malformed(_))
    ));
    for hex in ["", "zz", "abc", "é"] {
        assert!(hubspot_v1("s", b"", hex).is_err(), "{hex}");
    }
}

const MAILCHIMP_BODY: &[u8] = b"type=unsubscribe&fired_at=2026-11-23+10%3A15%3A00&data%5Breason%5D=manual&data%5Bemail%5D=ada%40example.com";
const MAILCHIMP_HEX: &str = "5c7ed5d53f458721914d396d17c055c91d979967038a8d18615f312970fd89ad";

#[test]
fn mailchimp_signatures() {
    let check = |header: &str, now: i64| {
        mailchimp(
            "whsec-example",
            MAILCHIMP_BODY,
            header,
            Timestamp(now * 1_000),
        )
    };
    let sent = 1_795_428_900;
    let header = format!("t={sent},v1={MAILCHIMP_HEX}");
    assert_eq!(check(&header, sent), Ok(()));
    assert_eq!(check(&header, sent + 300), Ok(()));
    assert_eq!(
        check(&header, sent + 301),
        Err(SignatureError::Stale { seconds: 301 })
    );
    assert_eq!(
        check(&header, sent - 301),
        Err(SignatureError::FromFuture { seconds: 301 })
    );
    let rotated = format!("t={sent}, v1={}, v1={MAILCHIMP_HEX}", "0".repeat(64));
    assert_eq!(check(&rotated, sent), Ok(()));
    let moved = format!("t={},v1={MAILCHIMP_HEX}", sent + 1);
    assert_eq!(check(&moved, sent), Err(SignatureError::Mismatch));
    for header in [
        "",
        "t=1795428900",
        "v1=00",
        "t=x,v1=00",
        "t=-1,v1=00",
        "t=1795428900,v1=0",
    ] {
        let result = check(header, sent);
        assert_eq!(
            result,
            Err(SignatureError::Malformed("X-Mailchimp-Signature")),
            "{header}"
        );
    }
    assert_eq!(
        mailchimp("", MAILCHIMP_BODY, &header, Timestamp(sent * 1_000)),
        Err(SignatureError::NoSecret)
    );
}

#[test]
fn mandrill_signatures() {
    let url = "https://hooks.example.com/mandrill?tenant=7";
    let signature = "xAPFWTQc+gc7UGtQ6dcOSooJ9Og=";
    let params = vec![("mandrill_events".to_owned(), "[]".to_owned())];
    assert_eq!(
        mandrill("mandrill-key-example", url, &params, signature),
        Ok(())
    );
    let twisted = mandrill(
        "mandrill-key-example",
        "https://hooks.example.com",
        &params,
        signature,
    );
    assert_eq!(twisted, Err(SignatureError::Mismatch));
    assert_eq!(
        mandrill("", url, &params, signature),
        Err(SignatureError::NoSecret)
    );
}

#[test]
fn secrets_in_paths() {
    assert!(same_secret("abc", "abc"));
    assert!(!same_secret("abd", "abc"));
    assert!(!same_secret("abcd", "abc"));
    assert!(!same_secret("", ""), "an empty secret protects nothing");
}

proptest! {
    #[test]
    fn nothing_panics(secret in ".*", uri in ".*", body in ".*", time in ".*", signature in ".*") {
        let _ = hubspot_v3(&secret, "POST", &uri, body.as_bytes(), &time, &signature, Timestamp(0));
        let _ = hubspot_v1(&secret, body.as_bytes(), &signature);
        let _ = mailchimp(&secret, body.as_bytes(), &signature, Timestamp(0));
        let _ = mandrill(&secret, &uri, &[], &signature);
    }
}
