//! The moment that decisions go by: time and randomness as a plain value, read elsewhere.

use std::time::Instant;

use crate::record::Timestamp;

/// One moment. Whoever holds a copy sees neither time pass nor dice rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub instant: Instant,
    /// Monotonic microseconds, as budgets, breakers and tokens count them.
    pub clock: u64,
    pub timestamp: Timestamp,
    /// What jitter is made of.
    pub seed: u64,
}

impl Now {
    /// Returns a number from 0 up to, but not including, 1. It is the same for the same `salt`, and
    /// unrelated for another one: things that fail together are tried again apart.
    pub fn jitter(&self, salt: u64) -> f64 {
        // SplitMix64's finalizer: each bit of its input changes half of the bits it returns.
        let mut bits = self
            .seed
            .wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // As many bits as a float's mantissa holds.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seed: u64) -> Now {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let instant = Instant::now();
        Now {
            instant,
            clock: 0,
            timestamp: Timestamp(0),
            seed,
        }
    }

    #[test]
    fn jitter_stays_below_one() {
        for seed in [0, 1, u64::MAX] {
            for salt in [0, 1, 77, u64::MAX] {
                let jitter = at(seed).jitter(salt);
                assert!((0.0..1.0).contains(&jitter), "{jitter}");
            }
        }
    }

    #[test]
    fn jitter_is_spread_evenly_over_neighbouring_salts() {
        let now = at(7);
        let mut tenths = [0; 10];
        for salt in 0..10_000 {
            tenths[(now.jitter(salt) * 10.0) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|count| (900..1_100).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn jitter_depends_on_seed_and_salt_alone() {
        assert_eq!(at(3).jitter(5), at(3).jitter(5));
        assert_ne!(at(3).jitter(5), at(4).jitter(5));
        assert_ne!(at(3).jitter(5), at(3).jitter(6));
    }
}
