//! Changes of the running statement, packed, until they become queue rows.

use integration_engine::record::{Lane, Target, keys};

/// A queue row is full at so many packed bytes: two fit in a page of 8 kB, and none is TOASTed.
const FULL_BYTES: usize = 3_600;

/// A queue row is full at so many keys: the view `outbox` numbers up to 1,024.
const FULL_RECORDS: u32 = 1_000;

/// What happened to a row, as stored in `_change.op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Upsert,
    Delete,
    Truncate,
}

impl ChangeKind {
    pub const fn letter(self) -> u8 {
        match self {
            ChangeKind::Upsert => b'u',
            ChangeKind::Delete => b'd',
            ChangeKind::Truncate => b't',
        }
    }
}

/// What changes that may share a queue row have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub source: i32,
    pub targets: Targets,
    pub lane: Lane,
    pub kind: ChangeKind,
    /// The columns that changed; `None`: all of them.
    pub changed: Option<ColumnSet>,
}

/// A set of targets, stored as the bits of `_change.targets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets(i16);

impl Targets {
    pub fn add(&mut self, target: Target) {
        self.0 |= crate::store::queue::changes::bit(target);
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
            .filter(move |target| self.0 & crate::store::queue::changes::bit(*target) != 0)
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

/// A queue row under construction.
#[derive(Debug)]
pub struct Chunk {
    pub shape: Shape,
    pub keys: Vec<u8>,
    pub records: u32,
    /// The subtransaction of its keys: they are written in it, and a rollback of it takes them
    /// along.
    pub subtransaction: u32,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.keys.len() >= FULL_BYTES || self.records >= FULL_RECORDS
    }

    /// Returns whether another chunk of the same shape still fits.
    fn has_room_for(&self, other: &Chunk) -> bool {
        self.keys.len() + other.keys.len() <= FULL_BYTES
            && self.records + other.records <= FULL_RECORDS
    }
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

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns whether there are keys of this shape.
    pub fn has(&self, shape: &Shape, subtransaction: u32) -> bool {
        self.like(subtransaction, shape).is_some()
    }

    /// Adds a key, and returns the chunk if it is full now.
    pub fn add(&mut self, shape: &Shape, subtransaction: u32, key: &str) -> Option<Chunk> {
        // The last one nearly always has the right shape.
        let at = self.like(subtransaction, shape).unwrap_or_else(|| {
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
        chunk.is_full().then(|| self.chunks.remove(at))
    }

    /// Takes what a subtransaction has collected; the chunks of the enclosing ones stay.
    pub fn take(&mut self, subtransaction: u32) -> Vec<Chunk> {
        self.chunks
            .extract_if(.., |chunk| chunk.subtransaction == subtransaction)
            .collect()
    }

    /// Forgets everything: the transaction is rolled back.
    pub fn clear(&mut self) {
        self.chunks.clear();
    }

    /// Takes the chunks of a subtransaction that do not fit into those of its parent. Without them,
    /// the parent's never grow beyond a queue row, however many subtransactions there are.
    pub fn take_surplus(&mut self, subtransaction: u32, parent: u32) -> Vec<Chunk> {
        let (mine, others): (Vec<Chunk>, Vec<Chunk>) = std::mem::take(&mut self.chunks)
            .into_iter()
            .partition(|chunk| chunk.subtransaction == subtransaction);
        self.chunks = others;
        let (kept, surplus): (Vec<Chunk>, Vec<Chunk>) = mine.into_iter().partition(|chunk| {
            self.like(parent, &chunk.shape)
                .is_none_or(|at| self.chunks[at].has_room_for(chunk))
        });
        self.chunks.extend(kept);
        surplus
    }

    /// Moves the keys of a subtransaction that ended well to its parent: they live or die with it
    /// from here on.
    pub fn release(&mut self, subtransaction: u32, parent: u32) {
        for mut chunk in self.take(subtransaction) {
            match self.like(parent, &chunk.shape) {
                Some(at) if self.chunks[at].has_room_for(&chunk) => {
                    let into = &mut self.chunks[at];
                    into.keys.append(&mut chunk.keys);
                    into.records += chunk.records;
                }
                _ => {
                    chunk.subtransaction = parent;
                    self.chunks.push(chunk);
                }
            }
        }
    }

    /// Forgets the keys of a subtransaction that is rolled back, and of those begun after it.
    pub fn roll_back(&mut self, subtransaction: u32) {
        self.chunks
            .retain(|chunk| chunk.subtransaction < subtransaction);
    }

    fn like(&self, subtransaction: u32, shape: &Shape) -> Option<usize> {
        self.chunks
            .iter()
            .rposition(|chunk| chunk.subtransaction == subtransaction && chunk.shape == *shape)
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
            kind: ChangeKind::Upsert,
            changed: None,
        }
    }

    #[test]
    fn keys_of_one_shape_share_a_chunk_until_it_is_full() {
        let mut buffer = Buffer::new();
        let full = (0..2_000)
            .filter_map(|n| buffer.add(&shape(Lane::Live), 1, &n.to_string()))
            .collect::<Vec<_>>();
        let rest = buffer.take(1);
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
        assert_eq!(buffer.take(1).len(), 1);
        assert!(buffer.take(3).is_empty() && buffer.take(4).is_empty());
    }

    #[test]
    fn a_subtransaction_takes_only_what_it_collected() {
        let mut buffer = Buffer::new();
        buffer.add(&shape(Lane::Live), 1, "outer");
        buffer.add(&shape(Lane::Live), 2, "inner");
        assert_eq!(keys_of(buffer.take(2)), ["inner"]);
        assert_eq!(keys_of(buffer.take(1)), ["outer"]);
    }

    #[test]
    fn keys_of_a_released_subtransaction_live_or_die_with_its_parent() {
        let mut buffer = Buffer::new();
        buffer.add(&shape(Lane::Live), 1, "outermost");
        buffer.add(&shape(Lane::Live), 2, "parent");
        buffer.add(&shape(Lane::Live), 3, "child");
        buffer.add(&shape(Lane::OptOut), 3, "leaver");
        buffer.release(3, 2);
        assert!(buffer.take(3).is_empty());
        buffer.roll_back(2);
        assert_eq!(keys_of(buffer.take(1)), ["outermost"]);
    }

    #[test]
    fn many_released_subtransactions_leave_no_more_than_a_queue_row() {
        let mut buffer = Buffer::new();
        let mut written = 0;
        for n in 2..5_000 {
            buffer.add(&shape(Lane::Live), n, &n.to_string());
            written += buffer.take_surplus(n, 1).len();
            buffer.release(n, 1);
        }
        let left = buffer.take(1);
        assert_eq!(left.len(), 1);
        assert!(left[0].records <= FULL_RECORDS && left[0].keys.len() <= FULL_BYTES);
        assert_eq!(left[0].records as usize + written, 4_998);
    }

    fn keys_of(chunks: Vec<Chunk>) -> Vec<String> {
        let unpacked = chunks.iter().map(|chunk| keys::unpack(&chunk.keys));
        unpacked
            .flat_map(|keys| keys.expect("keys"))
            .map(|key| key.as_str().to_owned())
            .collect()
    }
}
