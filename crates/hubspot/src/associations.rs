//! Which records are associated with which: what is to be sent, and what came of it.
//!
//! A pair is noted as held before the call that makes it, and until the call that ends it is
//! confirmed. So whatever answer gets lost, a pair that HubSpot may hold is never forgotten, and
//! both calls can be repeated without harm.
//!
//! People give pairs labels of their own. The call that names types replaces them all, so it is
//! made only where there is a primary type to be set, after a look at what the pair has.

mod answer;
mod request;
mod settlement;
mod standing;

pub use {
    answer::{AssociationReading, PairVerdict, read},
    settlement::{AssociationSettlement, AssociationTerms, SettledPair, settle},
    standing::{AssociationState, AssociationUpdate, after, before},
};

use crate::HubSpotSettings;
use integration_engine::{
    record::{Entity, RemoteId},
    wire::Request,
};

use request::call;

use super::objects;

/// HubSpot: at most 2,000 pairs in a batch create.
const PAIRS_MAX: usize = 2_000;
/// HubSpot: at most 1,000 records whose associations are read in one call.
const LOOKS_MAX: usize = 1_000;
/// HubSpot: at most 100 records whose associations are removed in one call.
const FROMS_MAX: usize = 100;

/// Two HubSpot records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    pub from: RemoteId,
    pub to: RemoteId,
}

/// What the CRM's column asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedPair {
    /// The column is empty.
    Nothing,
    /// One of the two records is not at HubSpot (yet).
    Unknown,
    Pair(Pair),
}

/// An association that may differ from what its column asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    pub from: Entity,
    pub to: Entity,
    pub wanted: WantedPair,
    /// The pair that HubSpot holds, or may hold.
    pub held: Option<Pair>,
    /// Another column of the record stands for the held pair as well.
    pub shared: bool,
    /// Failed attempts so far.
    pub attempts: u32,
}

/// What is to be done next about an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssociationStep {
    /// Nothing is held and nothing wanted: it can be forgotten.
    Forget,
    /// Nothing can be done before both records are known.
    Wait,
    /// The held pair is another column's affair.
    LetGo,
    Send(Action, Pair),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Before creates: a pair that one column gives up may be what another one asks for.
    Archive,
    Create,
}

/// One step at a time: what is no longer wanted goes first, then comes what is.
pub fn next_step(owed: &Owed) -> AssociationStep {
    match (&owed.held, &owed.wanted) {
        // Whether it arrived is not known; to say it again does no harm.
        (Some(held), WantedPair::Pair(pair)) if held == pair => {
            AssociationStep::Send(Action::Create, pair.clone())
        }
        (Some(_), _) if owed.shared => AssociationStep::LetGo,
        (Some(held), _) => AssociationStep::Send(Action::Archive, held.clone()),
        (None, WantedPair::Nothing) => AssociationStep::Forget,
        (None, WantedPair::Unknown) => AssociationStep::Wait,
        (None, WantedPair::Pair(pair)) => AssociationStep::Send(Action::Create, pair.clone()),
    }
}

/// One kind of association that a pair has. HubSpot's numbers are unique within a category only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    pub category: String,
    pub id: i64,
}

impl Label {
    /// HubSpot's own, by its number.
    fn defined(id: u16) -> Label {
        Label {
            category: "HUBSPOT_DEFINED".to_owned(),
            id: id.into(),
        }
    }
}

/// What is known of the labels that a pair has already.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Labels {
    Unknown,
    /// They are on a page that begins here.
    After(String),
    Known(Vec<Label>),
}

/// A pair to be sent. `work` is the caller's number for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    pub work: usize,
    pub from: Entity,
    pub to: Entity,
    pub action: Action,
    pub pair: Pair,
    pub labels: Labels,
}

/// What a call does with its pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Archive,
    /// Reads which labels they have.
    Look,
    /// Sets all the labels they shall have.
    Create,
    /// Associates them, whatever labels they have.
    CreateDefault,
}

impl Sending {
    fn verb(&self) -> Verb {
        match (
            self.action,
            objects::associations(self.from, self.to),
            &self.labels,
        ) {
            (Action::Archive, ..) => Verb::Archive,
            (Action::Create, None | Some([] | [_]), _) => Verb::CreateDefault,
            (Action::Create, _, Labels::Known(_)) => Verb::Create,
            (Action::Create, ..) => Verb::Look,
        }
    }

    fn group(&self) -> (Verb, Entity, Entity) {
        (self.verb(), self.from, self.to)
    }
}

/// A call ready to go.
#[derive(Clone, Debug, PartialEq)]
pub struct AssociationCall {
    pub verb: Verb,
    pub request: Request,
    pub pairs: Vec<Sending>,
}

impl AssociationCall {
    /// As two calls of half the size each.
    pub fn halves(self, settings: &HubSpotSettings) -> Vec<AssociationCall> {
        let half = self.pairs.len().div_ceil(2).max(1);
        self.pairs
            .chunks(half)
            .flat_map(|pairs| call(pairs.to_vec(), settings))
            .collect()
    }
}

/// Puts pairs together into as few calls as HubSpot allows, archives first.
pub fn assemble(mut sendings: Vec<Sending>, settings: &HubSpotSettings) -> Vec<AssociationCall> {
    sendings.sort_by(|a, b| {
        (a.group(), &a.pair, &a.labels, a.work).cmp(&(b.group(), &b.pair, &b.labels, b.work))
    });
    sendings
        .chunk_by(|a, b| a.group() == b.group())
        .flat_map(chunks)
        .filter_map(|pairs| call(pairs, settings))
        .collect()
}

/// Pairs that go the same way, in calls that are not too large.
fn chunks(alike: &[Sending]) -> Vec<Vec<Sending>> {
    let mut chunks: Vec<Vec<Sending>> = Vec::new();
    let mut inputs = 0;
    for sending in alike {
        let verb = sending.verb();
        let last = chunks.last().and_then(|chunk| chunk.last());
        // Where a record's pairs stand together, its input is one.
        let same_input = match verb {
            Verb::Archive => last.is_some_and(|last| last.pair.from == sending.pair.from),
            Verb::Look => last.is_some_and(|last| {
                (&last.pair.from, &last.labels) == (&sending.pair.from, &sending.labels)
            }),
            Verb::Create | Verb::CreateDefault => false,
        };
        let most = match verb {
            Verb::Archive => FROMS_MAX,
            Verb::Look => LOOKS_MAX,
            Verb::Create | Verb::CreateDefault => PAIRS_MAX,
        };
        match chunks.last_mut() {
            Some(chunk) if same_input => chunk.push(sending.clone()),
            Some(chunk) if inputs < most => {
                inputs += 1;
                chunk.push(sending.clone());
            }
            _ => {
                inputs = 1;
                chunks.push(vec![sending.clone()]);
            }
        }
    }
    chunks
}
