//! The one place that reads time and randomness. Everything else is told what time it is.
//!
//! The worker reads the clock once a phase of its turn and passes [`Now`] down; SQL functions and
//! the HTTP threads read it where their work begins.
#![allow(clippy::disallowed_methods, reason = "this is where the clock is read")]

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use integration_engine::limits::breaker::micros;
use integration_engine::now::Now;
use integration_engine::record::Timestamp;

/// When this process first read the clock: microseconds count from there.
static BEGAN: OnceLock<Instant> = OnceLock::new();

/// Returns the present moment.
pub fn now() -> Now {
    let instant = Instant::now();
    let began = BEGAN.get_or_init(|| instant);
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        instant,
        clock: micros(instant.saturating_duration_since(*began)),
        timestamp: Timestamp(epoch.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })),
        seed: fastrand::u64(..),
    }
}

/// Returns random bytes that need not be secret.
pub fn random_bytes() -> [u8; 16] {
    fastrand::u128(..).to_ne_bytes()
}

/// Measures how long something takes.
pub struct Stopwatch {
    began: Instant,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch {
            began: Instant::now(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
