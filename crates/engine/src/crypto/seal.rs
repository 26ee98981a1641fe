//! Sealing a secret for a table: AES-256-GCM, with a key derived from a setting by HKDF-SHA256.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use ring::{aead, hkdf};

/// Bytes of a nonce; each is used once with a key, so they are drawn at random.
pub const NONCE: usize = aead::NONCE_LEN;

/// A key has at least this many bytes; a passphrase this many characters.
const KEY_BYTES: usize = 32;
const PASSPHRASE: usize = 16;

/// Why something cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the key is too short: 32 bytes in base64 or hex, or a passphrase of 16 characters")]
    ShortKey,
    #[error("it was sealed with another key, or has been changed")]
    Wrong,
    #[error("encryption failed")]
    Failed,
}

/// A key ready for use. Does not print.
pub struct SealKey(aead::LessSafeKey);

impl SealKey {
    /// From 32 bytes or more in hex or base64, or from a passphrase.
    pub fn from_text(text: &str) -> Result<SealKey, SealError> {
        let text = text.trim();
        let bytes = hex(text)
            .or_else(|| BASE64_STANDARD.decode(text).ok())
            .or_else(|| BASE64_URL_SAFE.decode(text).ok())
            .filter(|bytes| bytes.len() >= KEY_BYTES);
        let material = match &bytes {
            Some(bytes) => bytes.as_slice(),
            None if text.chars().count() >= PASSPHRASE => text.as_bytes(),
            None => return Err(SealError::ShortKey),
        };
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"integration");
        let secret = salt.extract(material);
        let derived = secret
            .expand(&[b"refresh token"], &aead::AES_256_GCM)
            .map_err(|_| SealError::Failed)?;
        Ok(SealKey(aead::LessSafeKey::new(aead::UnboundKey::from(
            derived,
        ))))
    }

    /// Nonce, ciphertext and tag. `context` has to be the same when it is opened.
    pub fn seal(
        &self,
        nonce: [u8; NONCE],
        context: &str,
        secret: &str,
    ) -> Result<Vec<u8>, SealError> {
        let mut sealed = secret.as_bytes().to_vec();
        let unique = aead::Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(unique, aead::Aad::from(context), &mut sealed)
            .map_err(|_| SealError::Failed)?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<String, SealError> {
        let (nonce, rest) = sealed.split_at_checked(NONCE).ok_or(SealError::Wrong)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Wrong)?;
        let mut rest = rest.to_vec();
        let plain = self
            .0
            .open_in_place(nonce, aead::Aad::from(context), &mut rest)
            .map_err(|_| SealError::Wrong)?;
        String::from_utf8(plain.to_vec()).map_err(|_| SealError::Wrong)
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn keys_are_told_from_passphrases() {
        for good in [HEX, BASE64, "a passphrase of some length"] {
            assert!(SealKey::from_text(good).is_ok(), "{good}");
        }
        for short in ["", "short", "0001020304", "fifteen chars.."] {
            let refused = SealKey::from_text(short).err();
            assert_eq!(refused, Some(SealError::ShortKey), "{short}");
        }
        // The same bytes, written otherwise, are the same key.
        let sealed = SealKey::from_text(HEX).unwrap().seal([7; NONCE], "c", "x");
        let opened = SealKey::from_text(BASE64)
            .unwrap()
            .open("c", &sealed.unwrap());
        assert_eq!(opened.as_deref(), Ok("x"));
    }

    proptest! {
        #[test]
        fn opens_only_unchanged_with_key_and_context(secret in ".{1,80}", nonce: [u8; NONCE], bit: u16) {
            let key = SealKey::from_text(HEX).unwrap();
            let mut sealed = key.seal(nonce, "context", &secret).unwrap();
            prop_assert_eq!(key.open("context", &sealed), Ok(secret.clone()));
            prop_assert_eq!(key.open("another", &sealed), Err(SealError::Wrong));
            let other = SealKey::from_text("another passphrase").unwrap();
            prop_assert_eq!(other.open("context", &sealed), Err(SealError::Wrong));
            let at = usize::from(bit) % (sealed.len() * 8);
            sealed[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(key.open("context", &sealed), Err(SealError::Wrong));
            prop_assert_eq!(key.open("context", &sealed[..sealed.len() - 1]), Err(SealError::Wrong));
        }
    }
}
