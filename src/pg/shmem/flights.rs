//! Which records are in a request under way, for sessions that ask.

use std::sync::atomic::{AtomicU32, Ordering};

/// Which records of a target are in requests under way: a hash of each, where its last bits say.
/// One that another took the place of is missing.
pub struct Flights([AtomicU32; FLIGHTS]);

/// More than are under way at most times.
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
