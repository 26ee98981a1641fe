//! Webhooks on their way to the receiver.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit};
use serde::Serialize;
use sha2::Sha256;

use crate::config::Service;

/// A signed request, ready to be sent or handed to whatever imports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    pub service: Service,
    pub method: String,
    /// The receiver's public URL.
    pub uri: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA256 keyed with a secret's bytes.
pub(crate) fn keyed(secret: &str) -> Hmac<Sha256> {
    match <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()) {
        Ok(mac) => mac,
        // HMAC takes keys of any length.
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}
