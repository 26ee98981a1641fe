//! Whose an e-mail address or a remote record is, where several records of ours want it. The caller
//! finds out what the rows are like; here it is decided who has it, who inherits it, and who waits.

pub mod chain;
mod place;
#[cfg(test)]
mod tests;

use crate::record::{Entity, Op, RecordRef, Target};

use chain::Chain;
pub use place::{Claims, Place};

/// What the row of the record that has an address at the service is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// It still has the address.
    Keeps,
    /// It has another one, which the service has not been told yet, or none.
    Moved,
    Gone,
    /// Nobody knows: it cannot be read at present.
    Unread,
}

/// A record that wants an address, which the service knows as another record's, whose row has
/// another one by now.
#[derive(Clone, Debug)]
pub struct Contest {
    /// Who waits for whom, from this record on.
    pub chain: Chain<RecordRef>,
    /// The service will hear of the other row's change by itself.
    pub on_its_way: bool,
    pub attempts: u32,
}

/// How a contest goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub step: Step,
    /// Whether waiting counts as an attempt, if it comes to that: nothing is known to be on its way
    /// that would end it.
    pub counted: bool,
}

/// What is to be done; where it cannot be done now, the record waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The address is the other record's.
    Refuse,
    /// It takes the other record's link over.
    Inherit,
    /// It gives up its own address first, for others wait for it.
    GiveWay,
    /// Each of these takes over the link of the next one.
    PassOn(Vec<RecordRef>),
    Wait,
}

/// Attempts after which a change of the other row that is not in the queue will not come any more.
const PATIENCE: u32 = 2;

/// Returns how a contest goes on. `contest` is asked for only where the other row has moved.
pub fn rule<E>(
    target: Target,
    holding: Holding,
    contest: impl FnOnce() -> Result<Contest, E>,
) -> Result<Ruling, E> {
    let ruling = |step, counted| Ruling { step, counted };
    Ok(match holding {
        Holding::Keeps => ruling(Step::Refuse, false),
        Holding::Gone => ruling(Step::Inherit, true),
        Holding::Unread => ruling(Step::Wait, false),
        Holding::Moved => {
            let contest = contest()?;
            let counted = contest.chain != Chain::Open || !contest.on_its_way;
            ruling(moved(target, contest), counted)
        }
    })
}

fn moved(target: Target, contest: Contest) -> Step {
    match (target, contest.chain) {
        (Target::HubSpot, chain) if chain.gives_way(contest.attempts) => Step::GiveWay,
        (Target::HubSpot, _) => Step::Wait,
        (Target::Mailchimp, Chain::Circle(ring)) => Step::PassOn(ring),
        // Nothing is sent for whoever is opted out, nor for a row that was given up on: the member
        // stays at its former address, and is that address's.
        (Target::Mailchimp, _) if !contest.on_its_way && contest.attempts >= PATIENCE => {
            Step::Inherit
        }
        (Target::Mailchimp, _) => Step::Wait,
    }
}

/// Whose a remote record is that was found, or met under an address or a former id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    /// A row that is there.
    Kept,
    /// A row that is gone, which the service has not been told yet, or that cannot be read.
    Leaving,
}

/// What becomes of the verdict that would link a record to a remote one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// The verdict stands.
    Stands,
    /// The record is none of the service's, so that nothing of it has to be deleted there.
    Forget,
    /// It is created beside the other one.
    Create,
    /// The two rows are one and the same record: a person has to decide.
    Refuse,
    Wait,
}

/// Decides whether a record may be linked to a remote one. `written`: the remote one has been
/// written to already.
pub fn adoption(owner: Owner, op: Op, entity: Entity, written: bool) -> Adoption {
    match owner {
        Owner::Nobody => Adoption::Stands,
        _ if op == Op::Delete => Adoption::Forget,
        // HubSpot takes several companies with one domain; what people merged is one.
        _ if entity.is_shared() && !written => Adoption::Create,
        Owner::Kept => Adoption::Refuse,
        Owner::Leaving => Adoption::Wait,
    }
}
