//! Per mapped field: what both sides last agreed on (as a hash), when that was, and who wrote it.

use xxhash_rust::xxh3::xxh3_64;

use crate::{mapping::FieldId, record::Timestamp};

/// Who last changed a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Writer {
    Crm,
    Remote,
}

/// Hash of a field's value in the service's canonical form. `None` (a cleared field) has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueHash(pub u64);

impl ValueHash {
    /// The service may hold what was sent, or what it held before: no value has this hash.
    pub const UNKNOWN: ValueHash = ValueHash(u64::MAX);

    pub fn of(canonical: Option<&str>) -> ValueHash {
        match canonical {
            // An unset field and an empty one are the same thing to both services.
            None | Some("") => ValueHash(0),
            Some(text) => ValueHash(xxh3_64(text.as_bytes()).clamp(1, u64::MAX - 1)),
        }
    }
}

/// One field's agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    pub field: FieldId,
    pub hash: ValueHash,
    pub at: Timestamp,
    pub by: Writer,
}

/// The agreements of one record, in order of field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldClock(Vec<Tick>);

/// Bytes of one packed [`Tick`]: field 2, hash 8, time 6, writer 1, little endian.
const TICK_BYTES: usize = 17;

impl FieldClock {
    pub fn get(&self, field: FieldId) -> Option<&Tick> {
        self.0
            .binary_search_by_key(&field, |tick| tick.field)
            .ok()
            .map(|index| &self.0[index])
    }

    pub fn set(&mut self, tick: Tick) {
        match self
            .0
            .binary_search_by_key(&tick.field, |known| known.field)
        {
            Ok(index) => self.0[index] = tick,
            Err(index) => self.0.insert(index, tick),
        }
    }

    /// These fields were sent, and nobody knows what became of it. `false`: that is nothing new.
    pub fn doubt(&mut self, sent: &[Tick]) -> bool {
        let mut news = false;
        for tick in sent {
            let known = self.get(tick.field).map(|known| known.hash);
            if known != Some(ValueHash::UNKNOWN) {
                news = true;
                self.set(Tick {
                    hash: ValueHash::UNKNOWN,
                    ..*tick
                });
            }
        }
        news
    }

    /// Whether nobody knows what the service holds.
    pub fn is_doubtful(&self, field: FieldId) -> bool {
        self.get(field)
            .is_some_and(|tick| tick.hash == ValueHash::UNKNOWN)
    }

    pub fn ticks(&self) -> &[Tick] {
        &self.0
    }

    /// The stored form, [`TICK_BYTES`] a field.
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * TICK_BYTES);
        for tick in &self.0 {
            bytes.extend_from_slice(&tick.field.0.to_le_bytes());
            bytes.extend_from_slice(&tick.hash.0.to_le_bytes());
            bytes.extend_from_slice(&tick.at.0.to_le_bytes()[..6]);
            bytes.push(match tick.by {
                Writer::Crm => 0,
                Writer::Remote => 1,
            });
        }
        bytes
    }

    /// Reads the stored form. Bytes that are not one are read as «nothing agreed yet», which costs
    /// a repeated write at most.
    pub fn unpack(bytes: &[u8]) -> FieldClock {
        let mut ticks: Vec<Tick> = bytes
            .chunks_exact(TICK_BYTES)
            .map(|tick| {
                let mut hash = [0; 8];
                hash.copy_from_slice(&tick[2..10]);
                let mut at = [0; 8];
                at[..6].copy_from_slice(&tick[10..16]);
                Tick {
                    field: FieldId(i16::from_le_bytes([tick[0], tick[1]])),
                    hash: ValueHash(u64::from_le_bytes(hash)),
                    at: Timestamp(i64::from_le_bytes(at)),
                    by: if tick[16] == 1 {
                        Writer::Remote
                    } else {
                        Writer::Crm
                    },
                }
            })
            .collect();
        ticks.sort_by_key(|tick| tick.field);
        ticks.dedup_by_key(|tick| tick.field);
        FieldClock(ticks)
    }
}
