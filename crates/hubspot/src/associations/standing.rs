//! How an association stands before and after a call: what the caller stores.

use std::time::Duration;

use super::{Action, Owed, Pair, PairVerdict, Step};
use integration_engine::{
    delivery::outcome::Category,
    limits::retry::{self, Next, Policy},
};

/// How an association stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
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

impl State {
    /// The name SQL users see.
    pub const fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Waiting => "waiting",
            State::Agreed => "agreed",
            State::Failed { .. } => "failed",
            State::Gone => "gone",
        }
    }
}

/// What is to be stored of an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub held: Option<Pair>,
    pub state: State,
    pub attempts: u32,
    pub wait: Duration,
    pub why: Option<String>,
}

impl Standing {
    fn new(held: Option<Pair>, state: State) -> Standing {
        Standing {
            held,
            state,
            attempts: 0,
            wait: Duration::ZERO,
            why: None,
        }
    }
}

/// What is to be stored before a step is taken; `None`: nothing new.
pub fn before(owed: &Owed, step: &Step) -> Option<Standing> {
    match step {
        Step::Forget => Some(Standing::new(None, State::Gone)),
        Step::Wait => Some(Standing::new(None, State::Waiting)),
        Step::LetGo => Some(Standing::new(None, State::Pending)),
        Step::Send(Action::Create, pair) if owed.held.as_ref() != Some(pair) => Some(Standing {
            attempts: owed.attempts,
            ..Standing::new(Some(pair.clone()), State::Pending)
        }),
        Step::Send(..) => None,
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
) -> Standing {
    let (why, wait, counted) = match (verdict, action) {
        (PairVerdict::Done, Action::Create) => {
            return Standing::new(Some(held.clone()), State::Agreed);
        }
        (PairVerdict::Done, Action::Archive) => return Standing::new(None, State::Pending),
        (
            PairVerdict::Refused {
                why,
                category,
                status,
            },
            _,
        ) => {
            let state = State::Failed {
                category: *category,
                status: *status,
            };
            return Standing {
                attempts: attempts + 1,
                why: Some(why.clone()),
                ..Standing::new(Some(held.clone()), state)
            };
        }
        (PairVerdict::Split | PairVerdict::Looked(_), _) => {
            return Standing::new(Some(held.clone()), State::Pending);
        }
        (PairVerdict::DeadId { why, .. }, _) => (why, None, true),
        (PairVerdict::Retry { why, wait, counted }, _) => (why, *wait, *counted),
    };
    match retry::after_failure(attempts, counted, wait, policy, jitter) {
        Next::RetryIn(wait, attempts) => Standing {
            attempts,
            wait,
            why: Some(why.clone()),
            ..Standing::new(Some(held.clone()), State::Pending)
        },
        Next::Exhausted => Standing {
            attempts: attempts + 1,
            why: Some(format!(
                "given up after {} attempts; the last one: {why}",
                attempts + 1
            )),
            ..Standing::new(
                Some(held.clone()),
                State::Failed {
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
