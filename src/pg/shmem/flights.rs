//! Which records are in a request under way, for sessions that ask.

use std::sync::atomic::{AtomicU32, Ordering};

/// Hashes of the records of a target that are in requests under way, each in the slot that its last
/// bits name. A record whose slot another one took is missing.
pub struct Flights([AtomicU32; FLIGHTS]);

/// More than are usually under way.
const FLIGHTS: usize = 2_048;

impl Default for Flights {
    fn default() -> Self {
        Flights(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Flights {
    fn place(&self, hash: u64) -> (&AtomicU32, u32) {
        let mark = ((hash >> 32) as u32).max(1);
        (&self.0[hash as usize % FLIGHTS], mark)
    }

    pub fn begin(&self, hash: u64) {
        let (place, mark) = self.place(hash);
        place.store(mark, Ordering::Relaxed);
    }

    pub fn end(&self, hash: u64) {
        let (place, mark) = self.place(hash);
        // Another's mark stays; nobody else writes.
        if place.load(Ordering::Relaxed) == mark {
            place.store(0, Ordering::Relaxed);
        }
    }

    pub fn holds(&self, hash: u64) -> bool {
        let (place, mark) = self.place(hash);
        place.load(Ordering::Relaxed) == mark
    }

    pub fn clear(&self) {
        self.0
            .iter()
            .for_each(|place| place.store(0, Ordering::Relaxed));
    }
}
