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
    let held = Some(held.clone());
    match (verdict, action) {
        (PairVerdict::Done, Action::Create) => {
            AssociationUpdate::new(held, AssociationState::Agreed)
        }
        (PairVerdict::Done, Action::Archive) => {
            AssociationUpdate::new(None, AssociationState::Pending)
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
            AssociationUpdate {
                attempts: attempts + 1,
                why: Some(why.clone()),
                ..AssociationUpdate::new(held, state)
            }
        }
        (PairVerdict::Split | PairVerdict::Looked(_), _) => {
            AssociationUpdate::new(held, AssociationState::Pending)
        }
        (PairVerdict::DeadId { why, .. }, _) => {
            let next = retry::after_failure(attempts, true, None, policy, jitter);
            failed(held, attempts, next, why, Category::NotFound)
        }
        (PairVerdict::Retry { why, wait, counted }, _) => {
            let next = retry::after_failure(attempts, *counted, *wait, policy, jitter);
            failed(held, attempts, next, why, Category::Exhausted)
        }
    }
}

/// `category`: why it is given up on, if it is.
fn failed(
    held: Option<Pair>,
    attempts: u32,
    next: AfterFailure,
    why: &str,
    category: Category,
) -> AssociationUpdate {
    match next {
        AfterFailure::RetryIn(wait, attempts) => AssociationUpdate {
            attempts,
            wait,
            why: Some(why.to_owned()),
            ..AssociationUpdate::new(held, AssociationState::Pending)
        },
        AfterFailure::Exhausted => {
            let attempts = attempts + 1;
            let state = AssociationState::Failed {
                category,
                status: None,
            };
            AssociationUpdate {
                attempts,
                why: Some(format!(
                    "given up after {attempts} attempts; the last one: {why}"
                )),
                ..AssociationUpdate::new(held, state)
            }
        }
    }
}
