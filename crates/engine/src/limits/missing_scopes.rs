//! What a credential that works may not do: refused with 403 for lack of a scope, it is given up on
//! for one kind of call, while all others go on; and found out in time when it is granted.
//!
//! Times are monotonic microseconds.

use std::{collections::BTreeMap, time::Duration};

use crate::limits::breaker::micros;
use crate::limits::retry::backoff;

/// However often it was refused, it is tried again after so long.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What is barred, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScopeStage {
    /// Refused once: is the credential good for anything?
    Suspected,
    /// It is, as was found out since. One more refusal is final.
    Confirmed,
    Barred {
        until: u64,
    },
    /// Tried again.
    Trying,
}

#[derive(Clone, Debug)]
struct Bar {
    why: String,
    stage: ScopeStage,
    refusals: u32,
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeRefusal {
    /// Nothing yet: the credential has to be asked about first, then the call is made again.
    Doubt,
    /// This kind of call is refused, and nothing else.
    Final,
}

/// See the module's documentation. `K` is a kind of call.
#[derive(Clone, Debug)]
pub struct MissingScopes<K>(BTreeMap<K, Bar>);

impl<K> Default for MissingScopes<K> {
    fn default() -> Self {
        MissingScopes(BTreeMap::new())
    }
}

impl<K: Copy + Ord> MissingScopes<K> {
    /// A call was refused. `wait`: it is tried again after that, and after twice as long each time.
    pub fn refused(&mut self, kind: K, why: &str, wait: Duration, now: u64) -> ScopeRefusal {
        let bar = self.0.entry(kind).or_insert_with(|| Bar {
            why: why.to_owned(),
            stage: ScopeStage::Suspected,
            refusals: 0,
        });
        why.clone_into(&mut bar.why);
        if bar.stage == ScopeStage::Suspected {
            return ScopeRefusal::Doubt;
        }
        // Calls that were under way together are refused together: that counts once.
        if !matches!(bar.stage, ScopeStage::Barred { until } if until > now) {
            let wait = backoff(bar.refusals, wait, LONGEST.max(wait));
            bar.refusals += 1;
            bar.stage = ScopeStage::Barred {
                until: now.saturating_add(micros(wait)),
            };
        }
        ScopeRefusal::Final
    }

    /// A call was refused by a service that is known to accept the credential.
    pub fn refused_for_sure(&mut self, kind: K, why: &str, wait: Duration, now: u64) {
        self.refused(kind, why, wait, now);
        self.confirm();
        self.refused(kind, why, wait, now);
    }

    /// The credential works.
    pub fn confirm(&mut self) {
        for bar in self.0.values_mut() {
            if bar.stage == ScopeStage::Suspected {
                bar.stage = ScopeStage::Confirmed;
            }
        }
    }

    /// A call went through; `true` when that is news.
    pub fn passed(&mut self, kind: K) -> bool {
        self.0
            .remove(&kind)
            .is_some_and(|bar| bar.stage != ScopeStage::Suspected)
    }

    /// Why calls of this kind are not to be made now.
    pub fn lacks(&self, kind: K) -> Option<&str> {
        let bar = self.0.get(&kind)?;
        matches!(bar.stage, ScopeStage::Barred { .. }).then_some(bar.why.as_str())
    }

    /// What is to be tried again from now on.
    pub fn due(&mut self, now: u64) -> Vec<K> {
        self.try_where(|until| until <= now)
    }

    /// Somebody may have granted it: all is to be tried again.
    pub fn recheck(&mut self) -> Vec<K> {
        self.try_where(|_| true)
    }

    fn try_where(&mut self, due: impl Fn(u64) -> bool) -> Vec<K> {
        let mut tried = Vec::new();
        for (kind, bar) in &mut self.0 {
            if matches!(bar.stage, ScopeStage::Barred { until } if due(until)) {
                bar.stage = ScopeStage::Trying;
                tried.push(*kind);
            }
        }
        tried
    }

    /// When the next of them is to be tried again.
    pub fn next(&self) -> Option<u64> {
        let times = self.0.values().filter_map(|bar| match bar.stage {
            ScopeStage::Barred { until } => Some(until),
            ScopeStage::Suspected | ScopeStage::Confirmed | ScopeStage::Trying => None,
        });
        times.min()
    }

    /// The credential is another one. Returns what had been refused to the last one.
    pub fn forget(&mut self) -> Vec<K> {
        let known = std::mem::take(&mut self.0).into_iter();
        known
            .filter(|(_, bar)| bar.stage != ScopeStage::Suspected)
            .map(|(kind, _)| kind)
            .collect()
    }

    /// Everything that is refused, and why.
    pub fn reasons(&self) -> impl Iterator<Item = (K, &str)> {
        let told = |bar: &Bar| matches!(bar.stage, ScopeStage::Barred { .. } | ScopeStage::Trying);
        self.0
            .iter()
            .filter(move |(_, bar)| told(bar))
            .map(|(kind, bar)| (*kind, bar.why.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);
    const SECOND: u64 = 1_000_000;

    #[test]
    fn second_refusal_is_final_once_the_credential_is_known_to_work() {
        let mut missing_scopes = MissingScopes::default();
        assert_eq!(
            missing_scopes.refused('d', "scope", WAIT, 0),
            ScopeRefusal::Doubt
        );
        // What was under way meanwhile.
        assert_eq!(
            missing_scopes.refused('d', "scope", WAIT, 0),
            ScopeRefusal::Doubt
        );
        assert_eq!(missing_scopes.lacks('d'), None);
        missing_scopes.confirm();
        assert_eq!(
            missing_scopes.refused('d', "scope", WAIT, 0),
            ScopeRefusal::Final
        );
        assert_eq!(
            missing_scopes.refused('d', "scope", WAIT, 0),
            ScopeRefusal::Final
        );
        assert_eq!(missing_scopes.lacks('d'), Some("scope"));
        assert_eq!(missing_scopes.lacks('c'), None);
        assert_eq!(missing_scopes.next(), Some(SECOND));
    }

    #[test]
    fn it_is_tried_again_at_growing_intervals_and_lifted_by_a_call_that_passes() {
        let mut missing_scopes = MissingScopes::default();
        missing_scopes.refused_for_sure('d', "scope", WAIT, 0);
        assert_eq!(missing_scopes.due(SECOND - 1), []);
        assert_eq!(missing_scopes.due(SECOND), ['d']);
        assert_eq!(missing_scopes.lacks('d'), None);
        assert_eq!(
            missing_scopes.reasons().collect::<Vec<_>>(),
            [('d', "scope")],
            "it still holds as far as is known"
        );
        assert_eq!(
            missing_scopes.refused('d', "scope", WAIT, SECOND),
            ScopeRefusal::Final
        );
        assert_eq!(missing_scopes.next(), Some(3 * SECOND));
        assert_eq!(missing_scopes.recheck(), ['d']);
        assert!(missing_scopes.passed('d'));
        assert!(!missing_scopes.passed('d'));
        assert_eq!(missing_scopes.reasons().count(), 0);
        for _ in 0..20 {
            missing_scopes.refused_for_sure('d', "scope", WAIT, 0);
            missing_scopes.recheck();
        }
        missing_scopes.refused('d', "scope", WAIT, 0);
        assert_eq!(missing_scopes.next(), Some(900 * SECOND));
    }

    #[test]
    fn another_credential_starts_anew() {
        let mut missing_scopes = MissingScopes::default();
        missing_scopes.refused_for_sure('d', "scope", WAIT, 0);
        missing_scopes.refused('c', "scope", WAIT, 0);
        assert_eq!(missing_scopes.forget(), ['d']);
        assert_eq!(
            missing_scopes.refused('d', "scope", WAIT, 0),
            ScopeRefusal::Doubt
        );
    }
}
