//! How an association stands before and after a call: what the caller stores.

use std::time::Duration;

use super::{Action, AssociationStep, Owed, Pair, PairVerdict};
use integration_engine::{
    delivery::outcome::Category,
    limits::retry::{self, AfterFailure, Policy},
};

/// How an association stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssociationState {
    /// Something is to be done.
    Pending,
    /// One of its records is not at HubSpot.
    Waiting,
    /// HubSpot holds what the column asks for.
    Agreed,
    /// Given up on, until the record changes: a dead letter.
    Failed {
        category: Category,
        status: Option<u16>,
    },
    /// Nothing is held, nothing wanted.
    Gone,
}

impl AssociationState {
    /// The name SQL users see.
    pub const fn name(self) -> &'static str {
        match self {
            AssociationState::Pending => "pending",
            AssociationState::Waiting => "waiting",
            AssociationState::Agreed => "agreed",
            AssociationState::Failed { .. } => "failed",
            AssociationState::Gone => "gone",
        }
    }
}

/// What is to be stored of an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationUpdate {
    pub held: Option<Pair>,
    pub state: AssociationState,
    pub attempts: u32,
    pub wait: Duration,
    pub why: Option<String>,
}

impl AssociationUpdate {
    fn new(held: Option<Pair>, state: AssociationState) -> AssociationUpdate {
        AssociationUpdate {
            held,
            state,
            attempts: 0,
            wait: Duration::ZERO,
            why: None,
        }
    }
}

/// What is to be stored before a step is taken; `None`: nothing new.
pub fn before(owed: &Owed, step: &AssociationStep) -> Option<AssociationUpdate> {
    match step {
        AssociationStep::Forget => Some(AssociationUpdate::new(None, AssociationState::Gone)),
        AssociationStep::Wait => Some(AssociationUpdate::new(None, AssociationState::Waiting)),
        AssociationStep::LetGo => Some(AssociationUpdate::new(None, AssociationState::Pending)),
        AssociationStep::Send(Action::Create, pair) if owed.held.as_ref() != Some(pair) => {
            Some(AssociationUpdate {
                attempts: owed.attempts,
                ..AssociationUpdate::new(Some(pair.clone()), AssociationState::Pending)
            })
        }
        AssociationStep::Send(..) => None,
    }
}

/// What is to be stored once a call's answer is in. `held` is the pair that was sent.
pub fn after(
    action: Action,
    held: &Pair,
    attempts: u32,
    verdict: &PairVerdict,
    policy: &Policy,
    jitter: f64,
) -> AssociationUpdate {
    let (why, wait, counted) = match (verdict, action) {
        (PairVerdict::Done, Action::Create) => {
            return AssociationUpdate::new(Some(held.clone()), AssociationState::Agreed);
        }
        (PairVerdict::Done, Action::Archive) => {
            return AssociationUpdate::new(None, AssociationState::Pending);
        }
        (
            PairVerdict::Refused {
                why,
                category,
                status,
            },
            _,
        ) => {
            let state = AssociationState::Failed {
                category: *category,
                status: *status,
            };
            return AssociationUpdate {
                attempts: attempts + 1,
                why: Some(why.clone()),
                ..AssociationUpdate::new(Some(held.clone()), state)
            };
        }
        (PairVerdict::Split | PairVerdict::Looked(_), _) => {
            return AssociationUpdate::new(Some(held.clone()), AssociationState::Pending);
        }
        (PairVerdict::DeadId { why, .. }, _) => (why, None, true),
        (PairVerdict::Retry { why, wait, counted }, _) => (why, *wait, *counted),
    };
    match retry::after_failure(attempts, counted, wait, policy, jitter) {
        AfterFailure::RetryIn(wait, attempts) => AssociationUpdate {
            attempts,
            wait,
            why: Some(why.clone()),
            ..AssociationUpdate::new(Some(held.clone()), AssociationState::Pending)
        },
        AfterFailure::Exhausted => AssociationUpdate {
            attempts: attempts + 1,
            why: Some(format!(
                "given up after {} attempts; the last one: {why}",
                attempts + 1
            )),
            ..AssociationUpdate::new(
                Some(held.clone()),
                AssociationState::Failed {
                    category: match verdict {
                        PairVerdict::DeadId { .. } => Category::NotFound,
                        _ => Category::Exhausted,
                    },
                    status: None,
                },
            )
        },
    }
}
