//! Forms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError { #[error("x")] TooLarge }
pub fn pairs(_body: &[u8]) -> Result<Vec<(String, String)>, FormError> { unimplemented!() }
pub fn tree(_pairs: &[(String, String)]) -> Result<serde_json::Value, FormError> { unimplemented!() }
