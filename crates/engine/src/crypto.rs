//! Signatures and encryption.

pub mod seal;
pub mod signature;
