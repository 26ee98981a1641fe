//! Signatures.
use crate::record::Timestamp;
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError { #[error("x")] Mismatch }
pub fn hubspot_v3(_secret: &str, _method: &str, _uri: &str, _body: &[u8], _timestamp: &str, _signature: &str, _now: Timestamp) -> Result<(), SignatureError> { unimplemented!() }
pub fn hubspot_v1(_secret: &str, _body: &[u8], _signature: &str) -> Result<(), SignatureError> { unimplemented!() }
pub fn mailchimp(_secret: &str, _body: &[u8], _header: &str, _now: Timestamp) -> Result<(), SignatureError> { unimplemented!() }
pub fn mandrill(_key: &str, _url: &str, _params: &[(String, String)], _signature: &str) -> Result<(), SignatureError> { unimplemented!() }
pub fn same_secret(_given: &str, _expected: &str) -> bool { unimplemented!() }
