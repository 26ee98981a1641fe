//! What is uncertain of a record once its call has ended: fields that the service may hold otherwise
//! than its link says, for an answer got lost, now or before an earlier worker ended.

use super::{InFlight, Outcome};
use crate::{
    delivery::{
        call::{Beside, Item},
        outcome::Verdict,
    },
    queue::traces::but_for,
    record::{Op, Target},
    sync::clock::Tick,
};

impl Outcome {
    /// Of a record that no call was made for.
    pub fn uncalled(mut flight: InFlight, verdict: Verdict) -> Outcome {
        Outcome {
            doubtful: left(&mut flight, &verdict, Vec::new()),
            flight,
            verdict,
            request: None,
            resting: false,
            beside: Beside::default(),
        }
    }

    /// Of a record that a call to `target` carried. `resting`: the target as a whole is failing or
    /// resting.
    pub fn called(
        target: Target,
        mut flight: InFlight,
        mut item: Item,
        verdict: Verdict,
        resting: bool,
    ) -> Outcome {
        let sent = sent(target, &flight, &mut item);
        let shown = matches!(
            verdict,
            Verdict::Dead { .. } | Verdict::Retry { .. } | Verdict::Overruled { .. }
        );
        Outcome {
            doubtful: left(&mut flight, &verdict, sent),
            flight,
            verdict,
            request: shown.then_some(item.fragment),
            resting,
            beside: item.beside,
        }
    }
}

/// What a call may have changed of a record. A deletion is no write, but if it may have happened at
/// HubSpot, nothing of the record is certain. (What is known of Mailchimp's members is noted before.)
fn sent(target: Target, flight: &InFlight, item: &mut Item) -> Vec<Tick> {
    match (target, flight.op) {
        (Target::HubSpot, Op::Delete) => flight
            .link
            .as_ref()
            .map_or_else(Vec::new, |link| link.clock.ticks().to_vec()),
        _ => std::mem::take(&mut item.ticks),
    }
}

/// What is to be noted as uncertain besides what the verdict stores. `sent`: what the call carried.
fn left(flight: &mut InFlight, verdict: &Verdict, sent: Vec<Tick>) -> Vec<Tick> {
    let mut doubts = std::mem::take(&mut flight.doubts);
    match verdict {
        // The link is stored with these verdicts, and its doubts with it.
        Verdict::Delivered { ticks, .. } | Verdict::Overruled { ticks, .. } => {
            let doubts = but_for(doubts, ticks);
            flight.link.as_mut().map(|link| link.clock.doubt(&doubts));
            Vec::new()
        }
        Verdict::Again { .. }
        | Verdict::Dead {
            member_status: Some(_),
            ..
        } => {
            flight.link.as_mut().map(|link| link.clock.doubt(&doubts));
            Vec::new()
        }
        // Nothing is known of it any more, or is to be.
        Verdict::Removed | Verdict::Withheld => Vec::new(),
        Verdict::Retry { .. } if verdict.is_uncertain() => {
            doubts = but_for(doubts, &sent);
            doubts.extend(sent);
            doubts
        }
        Verdict::Retry { .. }
        | Verdict::Unchanged
        | Verdict::NoConsent
        | Verdict::Dead {
            member_status: None,
            ..
        } => doubts,
    }
}
