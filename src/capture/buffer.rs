//! Changes of the statement under way, packed, until they become queue rows.

use integration_engine::{
    keys,
    record::{Lane, Target},
};

/// Packed bytes after which a queue row is full: two fit in a page of 8 kB and none is TOASTed.
const FULL_BYTES: usize = 3_600;

/// A row's keys have consecutive ids in the view `outbox`, and 1,024 of them at most.
const FULL_RECORDS: u32 = 1_000;

/// What a row did, as stored in `_change.op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Upsert,
    Delete,
    Truncate,
}

impl Kind {
    pub const fn letter(self) -> u8 {
        match self {
            Kind::Upsert => b'u',
            Kind::Delete => b'd',
            Kind::Truncate => b't',
        }
    }
}

/// Changes that may share a queue row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub source: i32,
    pub targets: Targets,
    pub lane: Lane,
    pub kind: Kind,
    /// Columns that changed; `None`: all.
    pub changed: Option<ColumnSet>,
}

/// A set of targets, as the bits of `_change.targets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets(i16);

impl Targets {
    pub fn add(&mut self, target: Target) {
        self.0 |= crate::store::changes::bit(target);
    }

    pub const fn bits(self) -> i16 {
        self.0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Target> {
        Target::ALL
            .into_iter()
            .filter(move |target| self.0 & crate::store::changes::bit(*target) != 0)
    }
}

impl From<Target> for Targets {
    fn from(target: Target) -> Targets {
        let mut targets = Targets::default();
        targets.add(target);
        targets
    }
}

/// A set of column numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnSet(Vec<u8>);

impl ColumnSet {
    pub fn add(&mut self, number: i16) {
        let number = usize::from(number.unsigned_abs());
        if self.0.len() <= number / 8 {
            self.0.resize(number / 8 + 1, 0);
        }
        self.0[number / 8] |= 1 << (number % 8);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A queue row in the making.
#[derive(Debug)]
pub struct Chunk {
    pub shape: Shape,
    pub keys: Vec<u8>,
    pub records: u32,
    /// Subtransaction its keys come from; one that is rolled back takes them along.
    pub subtransaction: u32,
}

/// All chunks of this session.
#[derive(Debug, Default)]
pub struct Buffer {
    chunks: Vec<Chunk>,
}

impl Buffer {
    pub const fn new() -> Buffer {
        Buffer { chunks: Vec::new() }
    }

    /// Adds a key; returns the chunk when that has filled it.
    pub fn add(&mut self, shape: &Shape, subtransaction: u32, key: &str) -> Option<Chunk> {
        // The last one is nearly always the right one.
        let at = self
            .chunks
            .iter()
            .rposition(|chunk| chunk.subtransaction == subtransaction && chunk.shape == *shape)
            .unwrap_or_else(|| {
                self.chunks.push(Chunk {
                    shape: shape.clone(),
                    keys: Vec::new(),
                    records: 0,
                    subtransaction,
                });
                self.chunks.len() - 1
            });
        let chunk = &mut self.chunks[at];
        keys::push(&mut chunk.keys, key);
        chunk.records += 1;
        (chunk.keys.len() >= FULL_BYTES || chunk.records >= FULL_RECORDS)
            .then(|| self.chunks.remove(at))
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn take(&mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.chunks)
    }

    /// The subtransaction, and with it those begun after it, is rolled back.
    pub fn roll_back(&mut self, subtransaction: u32) {
        self.chunks
            .retain(|chunk| chunk.subtransaction < subtransaction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(lane: Lane) -> Shape {
        Shape {
            source: 1,
            targets: Target::HubSpot.into(),
            lane,
            kind: Kind::Upsert,
            changed: None,
        }
    }

    #[test]
    fn keys_of_one_shape_share_a_chunk_until_it_is_full() {
        let mut buffer = Buffer::new();
        let full = (0..2_000)
            .filter_map(|n| buffer.add(&shape(Lane::Live), 1, &n.to_string()))
            .collect::<Vec<_>>();
        let rest = buffer.take();
        assert!(
            full.iter()
                .chain(&rest)
                .all(|chunk| chunk.records <= FULL_RECORDS)
        );
        assert_eq!(
            full.iter()
                .chain(&rest)
                .map(|chunk| chunk.records)
                .sum::<u32>(),
            2_000
        );
    }

    #[test]
    fn a_rolled_back_subtransaction_takes_its_keys_along() {
        let mut buffer = Buffer::new();
        buffer.add(&shape(Lane::Live), 1, "a");
        buffer.add(&shape(Lane::Live), 3, "b");
        buffer.add(&shape(Lane::OptOut), 4, "c");
        buffer.roll_back(3);
        let left = buffer.take();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].subtransaction, 1);
    }
}
