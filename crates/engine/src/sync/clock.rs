//! Per mapped field: what both sides last agreed on (as a hash), when that was, and who wrote it.

use xxhash_rust::xxh3::xxh3_64;

use crate::record::{Timestamp, mapping::FieldId};

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
    /// Of a value that may or may not have been written: equal to none, not even to no value.
    pub const UNCERTAIN: ValueHash = ValueHash(u64::MAX - 2);

    pub fn of(canonical: Option<&str>) -> ValueHash {
        match canonical {
            // An unset field and an empty one are the same thing to both services.
            None | Some("") => ValueHash(0),
            Some(text) => ValueHash(xxh3_64(text.as_bytes()).clamp(1, u64::MAX - 3)),
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

/// What both sides agreed on for one field, where they may hold it differently: a column may hold
/// less than the service's field does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Its hash is of the CRM's value.
    pub tick: Tick,
    /// Hash of the service's value, which the CRM's stands for.
    pub held: ValueHash,
}

impl Agreed {
    /// Whether the CRM's value is the one that stands for this value of the service's.
    pub fn is_between(&self, crm: ValueHash, remote: ValueHash) -> bool {
        self.tick.hash == crm && self.held == remote
    }
}

impl From<Tick> for Agreed {
    /// Both sides hold the same.
    fn from(tick: Tick) -> Agreed {
        Agreed {
            tick,
            held: tick.hash,
        }
    }
}

/// The agreements of one record, in order of field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldClock {
    ticks: Vec<Tick>,
    /// What the service holds of fields whose columns hold something else, in order of field.
    held: Vec<(FieldId, ValueHash)>,
}

/// What begins a run of packed ticks: how many, time 6 bytes, flags.
const RUN_BYTES: usize = 8;

/// What follows for each of them: field 2, hash 8; all little endian.
const TICK_BYTES: usize = 10;

/// And of what the service holds, where it holds something else.
const HELD_BYTES: usize = 8;

/// Bits of the flags.
const BY_REMOTE: u8 = 1;
const HELD_FOLLOWS: u8 = 2;

/// What the packed ticks of a run have in common: fields are mostly agreed on together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Run {
    at: Timestamp,
    flags: u8,
}

impl FieldClock {
    pub fn get(&self, field: FieldId) -> Option<&Tick> {
        self.ticks
            .binary_search_by_key(&field, |tick| tick.field)
            .ok()
            .map(|index| &self.ticks[index])
    }

    /// What was agreed on, as each side holds it.
    pub fn agreed(&self, field: FieldId) -> Option<Agreed> {
        let tick = *self.get(field)?;
        let held = self.held(field).unwrap_or(tick.hash);
        Some(Agreed { tick, held })
    }

    /// What the service holds, where the CRM's value is another one that stands for it.
    fn held(&self, field: FieldId) -> Option<ValueHash> {
        let found = self.held.binary_search_by_key(&field, |(known, _)| *known);
        found.ok().map(|index| self.held[index].1)
    }

    /// Whether the CRM's value stands for another one that the service holds: it must not be sent in
    /// that one's place.
    pub fn is_stand_in(&self, field: FieldId, crm: ValueHash) -> bool {
        self.held(field).is_some() && self.get(field).is_some_and(|tick| tick.hash == crm)
    }

    /// Whether the field's column holds less than the service does.
    pub fn is_lossy(&self, field: FieldId) -> bool {
        self.held(field).is_some()
    }

    /// Both sides hold the same.
    pub fn set(&mut self, tick: Tick) {
        self.held.retain(|(field, _)| *field != tick.field);
        match self
            .ticks
            .binary_search_by_key(&tick.field, |known| known.field)
        {
            Ok(index) => self.ticks[index] = tick,
            Err(index) => self.ticks.insert(index, tick),
        }
    }

    /// The CRM's value stands for another one that the service holds.
    pub fn agree(&mut self, agreed: Agreed) {
        let Agreed { tick, held } = agreed;
        self.set(tick);
        if held != tick.hash {
            let place = self.held.partition_point(|(field, _)| *field < tick.field);
            self.held.insert(place, (tick.field, held));
        }
    }

    /// These fields were sent, and nobody knows what became of it. `false`: that is nothing new.
    pub fn doubt(&mut self, sent: &[Tick]) -> bool {
        let mut news = false;
        for tick in sent {
            let known = self.get(tick.field).map(|known| known.hash);
            if known != Some(ValueHash::UNCERTAIN) {
                news = true;
                self.set(Tick {
                    hash: ValueHash::UNCERTAIN,
                    ..*tick
                });
            }
        }
        news
    }

    /// Whether nobody knows what the service holds.
    pub fn is_doubtful(&self, field: FieldId) -> bool {
        self.get(field)
            .is_some_and(|tick| tick.hash == ValueHash::UNCERTAIN)
    }

    /// What nobody knows of it, and no more.
    #[must_use]
    pub fn uncertain(&self) -> FieldClock {
        let ticks = self.ticks.iter();
        FieldClock {
            ticks: ticks
                .filter(|tick| tick.hash == ValueHash::UNCERTAIN)
                .copied()
                .collect(),
            held: Vec::new(),
        }
    }

    pub fn ticks(&self) -> &[Tick] {
        &self.ticks
    }

    /// The stored form: runs of ticks that have time and writer in common.
    pub fn pack(&self) -> Vec<u8> {
        let run = |tick: &Tick| {
            let by = match tick.by {
                Writer::Crm => 0,
                Writer::Remote => BY_REMOTE,
            };
            let held = !self.held.is_empty() && self.is_lossy(tick.field);
            let flags = by | if held { HELD_FOLLOWS } else { 0 };
            Run { at: tick.at, flags }
        };
        let size = RUN_BYTES + self.ticks.len() * TICK_BYTES + self.held.len() * HELD_BYTES;
        let mut bytes = Vec::with_capacity(size);
        for ticks in self.ticks.chunk_by(|one, next| run(one) == run(next)) {
            for ticks in ticks.chunks(usize::from(u8::MAX)) {
                let Run { at, flags } = run(&ticks[0]);
                bytes.push(ticks.len() as u8);
                bytes.extend_from_slice(&at.0.to_le_bytes()[..6]);
                bytes.push(flags);
                for tick in ticks {
                    bytes.extend_from_slice(&tick.field.0.to_le_bytes());
                    bytes.extend_from_slice(&tick.hash.0.to_le_bytes());
                    if flags & HELD_FOLLOWS != 0 {
                        let held = self.held(tick.field).unwrap_or(tick.hash);
                        bytes.extend_from_slice(&held.0.to_le_bytes());
                    }
                }
            }
        }
        bytes
    }

    /// Reads the stored form. Bytes that are not one are read as «nothing agreed yet», which costs
    /// a repeated write at most.
    pub fn unpack(mut bytes: &[u8]) -> FieldClock {
        let mut clock = FieldClock {
            ticks: Vec::with_capacity(bytes.len() / TICK_BYTES),
            held: Vec::new(),
        };
        while let Some((run, rest)) = bytes.split_first_chunk::<RUN_BYTES>() {
            let [ticks, at @ .., flags] = *run;
            let mut time = [0; 8];
            time[..6].copy_from_slice(&at);
            let run = Run {
                at: Timestamp(i64::from_le_bytes(time)),
                flags,
            };
            bytes = rest;
            for _ in 0..ticks {
                let Some(rest) = clock.unpack_tick(run, bytes) else {
                    break;
                };
                bytes = rest;
            }
        }
        let FieldClock { ticks, held } = &mut clock;
        ticks.sort_by_key(|tick| tick.field);
        ticks.dedup_by_key(|tick| tick.field);
        held.sort_by_key(|(field, _)| *field);
        held.dedup_by_key(|(field, _)| *field);
        clock
    }

    /// Takes in a tick of a run. Returns the bytes that follow it; `None`: there is no whole one.
    fn unpack_tick<'b>(&mut self, run: Run, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let (field, rest) = bytes.split_first_chunk()?;
        let (hash, mut rest) = rest.split_first_chunk()?;
        let field = FieldId(i16::from_le_bytes(*field));
        if run.flags & HELD_FOLLOWS != 0 {
            let (held, after) = rest.split_first_chunk()?;
            self.held
                .push((field, ValueHash(u64::from_le_bytes(*held))));
            rest = after;
        }
        self.ticks.push(Tick {
            field,
            hash: ValueHash(u64::from_le_bytes(*hash)),
            at: run.at,
            by: match run.flags & BY_REMOTE {
                0 => Writer::Crm,
                _ => Writer::Remote,
            },
        });
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tick(field: i16, hash: u64, at: i64, remote: bool) -> Tick {
        Tick {
            field: FieldId(field),
            hash: ValueHash(hash),
            at: Timestamp(at),
            by: match remote {
                true => Writer::Remote,
                false => Writer::Crm,
            },
        }
    }

    #[test]
    fn stand_in_lasts_until_the_next_agreement() {
        let mut clock = FieldClock::default();
        let agreed = Agreed {
            tick: tick(3, 10, 5, true),
            held: ValueHash(11),
        };
        clock.agree(agreed);
        assert_eq!(clock.agreed(FieldId(3)), Some(agreed));
        assert!(clock.is_stand_in(FieldId(3), ValueHash(10)));
        assert!(!clock.is_stand_in(FieldId(3), ValueHash(11)));
        assert!(!clock.is_stand_in(FieldId(4), ValueHash(10)));
        assert_eq!(FieldClock::unpack(&clock.pack()), clock);
        clock.set(tick(3, 10, 6, false));
        assert_eq!(clock.agreed(FieldId(3)), Some(tick(3, 10, 6, false).into()));
        clock.agree(agreed);
        clock.doubt(&[tick(3, 10, 7, false)]);
        assert!(clock.is_doubtful(FieldId(3)) && !clock.is_lossy(FieldId(3)));
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read_back(
            fields in prop::collection::vec(
                (1i16..400, any::<u64>(), prop_oneof![Just(7i64), 0i64..1 << 47], any::<bool>(), prop::option::of(any::<u64>())),
                0..600,
            ),
        ) {
            let mut clock = FieldClock::default();
            for (field, hash, at, remote, held) in fields {
                let tick = tick(field, hash, at, remote);
                clock.agree(Agreed { tick, held: ValueHash(held.unwrap_or(hash)) });
            }
            prop_assert_eq!(FieldClock::unpack(&clock.pack()), clock);
        }

        #[test]
        fn fields_agreed_on_together_take_little_room(fields in 0i16..600) {
            let mut clock = FieldClock::default();
            (0..fields).for_each(|field| clock.set(tick(field, 9, 5, false)));
            let fields = fields as usize;
            let runs = fields.div_ceil(usize::from(u8::MAX));
            prop_assert_eq!(clock.pack().len(), runs * RUN_BYTES + fields * TICK_BYTES);
            prop_assert_eq!(FieldClock::unpack(&clock.pack()), clock);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = FieldClock::unpack(&bytes);
        }
    }
}
