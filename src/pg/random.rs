//! Random numbers that nobody can guess.
#![allow(unsafe_code)]

use pgrx::pg_sys;

use super::clock;

/// 128 random bits, in hex.
pub fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    // SAFETY: the buffer is as long as it is said to be. Where the system has no randomness, an
    // ereport says so; nothing depends on these bits being secret.
    let good = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    if !good {
        bytes = clock::random_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
