//! Prepared transactions: `COMMIT PREPARED` runs in any session, or after a restart, and tells
//! nobody. While there are some, the worker looks whether one has ended.

use std::time::{Duration, Instant};

use pgrx::spi::SpiResult;

use crate::pg::shmem::Wake;
use crate::store::{self, server::session};

/// How often prepared transactions are looked at while there are any.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of this database's prepared transactions.
#[derive(Default)]
pub struct Prepared {
    known: Vec<String>,
    /// What they may have changed.
    owed: Wake,
    look_at: Option<Instant>,
}

impl Prepared {
    /// Returns what there is to look at because a prepared transaction has ended. To be called
    /// before anything else of the turn is read: what has ended by now is seen by all of it.
    pub fn ended(&mut self, wake: Wake, now: Instant) -> SpiResult<Wake> {
        let told = wake.has(Wake::PREPARED);
        if told {
            self.owed = self.owed.union(wake);
        }
        if !told && self.look_at.is_none_or(|at| at > now) {
            return Ok(Wake::NONE);
        }
        let present = store::transaction(session::prepared_transactions)?;
        let ended = self.known.iter().any(|one| !present.contains(one));
        let news = if ended { self.owed } else { Wake::NONE };
        self.known = present;
        self.look_at = (!self.known.is_empty()).then(|| now + LOOK);
        if self.known.is_empty() {
            self.owed = Wake::NONE;
        }
        Ok(news)
    }

    /// How long until they are looked at again. `None`: there are none.
    pub fn next_look(&self, now: Instant) -> Option<Duration> {
        self.look_at.map(|at| at.saturating_duration_since(now))
    }
}
