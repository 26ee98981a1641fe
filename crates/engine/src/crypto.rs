//! Signatures and encryption.

pub mod seal;
pub mod signature;

use md5::{Digest, Md5};

/// The MD5 of an address in lower case, in hex: the name by which mailing services know it.
pub fn subscriber_hash(email_key: &str) -> String {
    let mut hex = String::with_capacity(32);
    for byte in Md5::digest(email_key.as_bytes()) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
        hex.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    hex
}
