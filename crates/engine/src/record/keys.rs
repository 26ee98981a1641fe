//! The packed form of record keys in a queue row: many keys of one statement in few bytes.
//!
//! Each key is its length as a LEB128 number followed by its UTF-8 bytes.

use crate::record::RecordKey;

/// Appends a key to packed ones.
pub fn push(packed: &mut Vec<u8>, key: &str) {
    let mut length = key.len();
    while length >= 0x80 {
        packed.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packed.push(length as u8);
    packed.extend_from_slice(key.as_bytes());
}

/// The bytes are not packed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue row's keys are damaged at byte {0}")]
pub struct Damaged(pub usize);

/// Reads packed keys one by one; ends after the first damage.
pub fn iter(packed: &[u8]) -> impl Iterator<Item = Result<&str, Damaged>> {
    let mut at = 0;
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || at >= packed.len() {
            return None;
        }
        let start = at;
        let next = read(packed, &mut at);
        broken = next.is_none();
        Some(next.ok_or(Damaged(start)))
    })
}

fn read<'a>(packed: &'a [u8], at: &mut usize) -> Option<&'a str> {
    let mut length = 0usize;
    let mut shift = 0;
    loop {
        let byte = *packed.get(*at)?;
        *at += 1;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let bytes = packed.get(*at..at.checked_add(length)?)?;
    *at += length;
    std::str::from_utf8(bytes).ok()
}

/// All keys of a queue row.
pub fn unpack(packed: &[u8]) -> Result<Vec<RecordKey>, Damaged> {
    iter(packed).map(|key| key.map(RecordKey::from)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(keys in prop::collection::vec(".{0,300}", 0..50)) {
            let mut packed = Vec::new();
            for key in &keys {
                push(&mut packed, key);
            }
            let unpacked = unpack(&packed).expect("packed by us");
            prop_assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(),
                unpacked.iter().map(RecordKey::as_str).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = iter(&bytes).count();
            prop_assert!(read <= bytes.len());
        }
    }
}
