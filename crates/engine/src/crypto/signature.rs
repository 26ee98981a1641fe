//! Whether a received webhook is authentic. Every comparison takes the same time wherever the
//! difference is; nothing about the expected value is ever told.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::record::Timestamp;

/// HubSpot, Mailchimp: a signature is good for 5 minutes. Into the future it is good for as long,
/// for clocks differ, but no longer, or a captured request could be kept for later.
const FRESH_MILLISECONDS: i64 = 300_000;

/// Why a webhook is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the signing secret is empty; set it, or nobody can be believed")]
    NoSecret,
    #[error("the header {0} cannot be read")]
    Malformed(&'static str),
    #[error("the signature is {seconds} s old, and good for 300 s; check this server's clock")]
    Stale { seconds: i64 },
    #[error("the signature is from {seconds} s in the future; check this server's clock")]
    FromFuture { seconds: i64 },
    #[error(
        "the signature does not match; check the secret, and that the body is passed as received"
    )]
    Mismatch,
}

/// HubSpot: the characters that are decoded in a URI before it is signed (version 3).
const DECODED: [(&str, char); 12] = [
    ("%3A", ':'),
    ("%2F", '/'),
    ("%3F", '?'),
    ("%40", '@'),
    ("%21", '!'),
    ("%24", '$'),
    ("%27", '\''),
    ("%28", '('),
    ("%29", ')'),
    ("%2A", '*'),
    ("%2C", ','),
    ("%3B", ';'),
];

/// HubSpot, version 3: `X-HubSpot-Signature-v3` is the base64 of HMAC-SHA256 over method, URI, body
/// and `X-HubSpot-Request-Timestamp` (milliseconds). `uri` is the full public URL.
pub fn hubspot_v3(
    secret: &str,
    method: &str,
    uri: &str,
    body: &[u8],
    timestamp: &str,
    signature: &str,
    now: Timestamp,
) -> Result<(), SignatureError> {
    const TIMESTAMP: &str = "X-HubSpot-Request-Timestamp";
    let sent = digits(timestamp).ok_or(SignatureError::Malformed(TIMESTAMP))?;
    check_fresh(sent, now)?;
    let given = BASE64_STANDARD
        .decode(signature.trim())
        .map_err(|_| SignatureError::Malformed("X-HubSpot-Signature-v3"))?;
    let matches = |uri: &str| {
        let mut mac = mac::<Hmac<Sha256>>(secret)?;
        for part in [
            method.as_bytes(),
            uri.as_bytes(),
            body,
            timestamp.trim().as_bytes(),
        ] {
            mac.update(part);
        }
        mac.verify_slice(&given)
            .map_err(|_| SignatureError::Mismatch)
    };
    let decoded = decode_uri(uri);
    // Whether live deliveries follow the documented table is not known for certain; the address as
    // it stands proves possession of the secret as well.
    matches(&decoded).or_else(|error| {
        if decoded == uri {
            Err(error)
        } else {
            matches(uri)
        }
    })
}

/// HubSpot, version 1: `X-HubSpot-Signature` is the hex of SHA-256 over secret and body. It has no
/// time, so it can be replayed for ever.
pub fn hubspot_v1(secret: &str, body: &[u8], signature: &str) -> Result<(), SignatureError> {
    if secret.is_empty() {
        return Err(SignatureError::NoSecret);
    }
    let given = unhex(signature.trim()).ok_or(SignatureError::Malformed("X-HubSpot-Signature"))?;
    let expected = Sha256::new()
        .chain_update(secret.as_bytes())
        .chain_update(body)
        .finalize();
    match bool::from(given.ct_eq(&expected[..])) {
        true => Ok(()),
        false => Err(SignatureError::Mismatch),
    }
}

/// Mailchimp: `X-Mailchimp-Signature: t=<seconds>,v1=<hex>`, HMAC-SHA256 over `t.body`. Several
/// `v1` are possible while a secret is rotated.
pub fn mailchimp(
    secret: &str,
    body: &[u8],
    header: &str,
    now: Timestamp,
) -> Result<(), SignatureError> {
    const HEADER: SignatureError = SignatureError::Malformed("X-Mailchimp-Signature");
    let parts = || {
        header
            .split(',')
            .filter_map(|part| part.trim().split_once('='))
    };
    let time = parts()
        .find(|(name, _)| *name == "t")
        .map(|(_, time)| time)
        .ok_or(HEADER)?;
    let sent = digits(time)
        .and_then(|seconds| seconds.checked_mul(1_000))
        .ok_or(HEADER)?;
    check_fresh(sent, now)?;
    let mut given = parts()
        .filter(|(name, _)| *name == "v1")
        .map(|(_, hex)| hex)
        .peekable();
    given.peek().ok_or(HEADER)?;
    for hex in given {
        let signature = unhex(hex).ok_or(HEADER)?;
        let mut mac = mac::<Hmac<Sha256>>(secret)?;
        for part in [time.as_bytes(), b".", body] {
            mac.update(part);
        }
        if mac.verify_slice(&signature).is_ok() {
            return Ok(());
        }
    }
    Err(SignatureError::Mismatch)
}

/// Mandrill: `X-Mandrill-Signature` is the base64 of HMAC-SHA1 over the URL as registered and every
/// parameter's name and value, sorted by name. It has no time.
pub fn mandrill(
    key: &str,
    url: &str,
    params: &[(String, String)],
    signature: &str,
) -> Result<(), SignatureError> {
    let given = BASE64_STANDARD
        .decode(signature.trim())
        .map_err(|_| SignatureError::Malformed("X-Mandrill-Signature"))?;
    let mut sorted: Vec<&(String, String)> = params.iter().collect();
    sorted.sort_by_key(|(name, _)| name);
    let mut mac = mac::<Hmac<Sha1>>(key)?;
    mac.update(url.as_bytes());
    for (name, value) in sorted {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    mac.verify_slice(&given)
        .map_err(|_| SignatureError::Mismatch)
}

/// Compares two secrets, such as one in a URL's path with the one that was agreed on.
pub fn same_secret(given: &str, expected: &str) -> bool {
    // Of hashes, so that not even the length shows.
    let hash = |text: &str| Sha256::digest(text.as_bytes());
    !expected.is_empty() && bool::from(hash(given)[..].ct_eq(&hash(expected)[..]))
}

fn mac<M: KeyInit>(secret: &str) -> Result<M, SignatureError> {
    if secret.is_empty() {
        return Err(SignatureError::NoSecret);
    }
    M::new_from_slice(secret.as_bytes()).map_err(|_| SignatureError::NoSecret)
}

fn check_fresh(sent: i64, now: Timestamp) -> Result<(), SignatureError> {
    let age = now.0.saturating_sub(sent);
    if age > FRESH_MILLISECONDS {
        return Err(SignatureError::Stale {
            seconds: age / 1_000,
        });
    }
    if age < -FRESH_MILLISECONDS {
        return Err(SignatureError::FromFuture {
            seconds: age / -1_000,
        });
    }
    Ok(())
}

/// Digits and nothing else: a sign or an exponent would be read differently elsewhere.
fn digits(text: &str) -> Option<i64> {
    let text = text.trim();
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn decode_uri(uri: &str) -> String {
    let mut decoded = String::with_capacity(uri.len());
    let mut rest = uri;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = DECODED.iter().find(|(escape, _)| rest.starts_with(escape));
        let (text, length) = known.map_or(('%', 1), |(escape, plain)| (*plain, escape.len()));
        decoded.push(text);
        rest = &rest[length..];
    }
    decoded.push_str(rest);
    decoded
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?))
        .collect()
}

#[cfg(test)]
mod tests;
