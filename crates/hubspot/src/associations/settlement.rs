//! What an answer comes to: what is stored of its pairs, and what is sent next.

use super::{
    AssociationCall, AssociationReading, AssociationUpdate, Pair, PairVerdict, Sending, after,
    assemble,
};
use crate::HubSpotSettings;
use integration_engine::limits::retry::Policy;

/// What pairs are settled by.
pub struct AssociationTerms<'a> {
    pub settings: &'a HubSpotSettings,
    pub policy: &'a Policy,
    /// HubSpot as a whole is failing: that is not an association's fault.
    pub failing: bool,
}

/// A pair that has been settled: the caller's number for it, and what is to be stored.
pub type SettledPair = (usize, Pair, AssociationUpdate);

/// See the module's documentation.
#[derive(Debug, Default, PartialEq)]
pub struct AssociationSettlement {
    pub settled: Vec<SettledPair>,
    /// What is to be sent before anything else.
    pub next: Vec<AssociationCall>,
    /// Records that HubSpot no longer has, in order: they are to be looked for.
    pub dead_ids: Vec<String>,
}

/// Settles the pairs of a call. `attempts` tells how often one has failed, by the caller's number;
/// `None`: nobody needs it any more. `jitter` is given the same number.
pub fn settle(
    mut call: AssociationCall,
    reading: &AssociationReading,
    terms: &AssociationTerms,
    attempts: impl Fn(usize) -> Option<u32>,
    jitter: impl Fn(usize) -> f64,
) -> AssociationSettlement {
    let mut settlement = AssociationSettlement::default();
    let (mut onward, mut split) = (Vec::new(), Vec::new());
    let pairs = std::mem::take(&mut call.pairs);
    for (sending, verdict) in pairs.into_iter().zip(&reading.verdicts) {
        let Some(attempts) = attempts(sending.work) else {
            continue;
        };
        match verdict {
            PairVerdict::Split => split.push(sending),
            PairVerdict::Looked(labels) => onward.push(Sending {
                labels: labels.clone(),
                ..sending
            }),
            verdict => {
                if let PairVerdict::DeadId { ids, .. } = verdict
                    && attempts == 0
                {
                    settlement.dead_ids.extend(ids.iter().cloned());
                }
                let verdict = terms.judge(verdict);
                let jitter = jitter(sending.work);
                let (action, pair) = (sending.action, sending.pair);
                let update = after(action, &pair, attempts, &verdict, terms.policy, jitter);
                settlement.settled.push((sending.work, pair, update));
            }
        }
    }
    settlement.dead_ids.sort_unstable();
    settlement.dead_ids.dedup();
    call.pairs = split;
    settlement.next = assemble(onward, terms.settings);
    settlement.next.extend(call.halves(terms.settings));
    settlement
}

impl AssociationTerms<'_> {
    fn judge(&self, verdict: &PairVerdict) -> PairVerdict {
        match verdict {
            PairVerdict::Retry { why, wait, .. } if self.failing => PairVerdict::Retry {
                why: why.clone(),
                wait: *wait,
                counted: false,
            },
            verdict => verdict.clone(),
        }
    }
}
