//! Which records are associated with which: what is to be sent, and what came of it.
//!
//! A pair is noted as held before the call that makes it, and until the call that ends it is
//! confirmed. So whatever answer gets lost, a pair that HubSpot may hold is never forgotten, and
//! both calls can be repeated without harm.

mod answer;
mod standing;

use std::collections::HashSet;

pub use {
    answer::{AssociationReading, PairVerdict, read},
    standing::{Standing, State, after, before},
};

use crate::{
    call::{HubSpotSettings, Method, Request},
    json::{push_name, push_string},
    record::{Entity, RemoteId, Target},
};

use super::{object_type, versioned};

/// HubSpot: at most 2,000 pairs in a batch create.
const PAIRS_MAX: usize = 2_000;
/// HubSpot: at most 100 records whose associations are removed in one call.
const FROMS_MAX: usize = 100;

/// HubSpot's numbers for the kinds of association a record of `from` has with its parent `to`, the
/// primary one first; empty: they cannot be associated by a column.
pub const fn types(from: Entity, to: Entity) -> &'static [u16] {
    match (from, to) {
        (Entity::Contact, Entity::Company) => &[1, 279],
        (Entity::Deal, Entity::Contact) => &[3],
        (Entity::Deal, Entity::Company) => &[5, 341],
        (Entity::Note, Entity::Contact) => &[202],
        (Entity::Note, Entity::Company) => &[190],
        (Entity::Note, Entity::Deal) => &[214],
        (Entity::Call, Entity::Contact) => &[194],
        (Entity::Call, Entity::Company) => &[182],
        (Entity::Call, Entity::Deal) => &[206],
        (Entity::Email, Entity::Contact) => &[198],
        (Entity::Email, Entity::Company) => &[186],
        (Entity::Email, Entity::Deal) => &[210],
        (Entity::Meeting, Entity::Contact) => &[200],
        (Entity::Meeting, Entity::Company) => &[188],
        (Entity::Meeting, Entity::Deal) => &[212],
        (Entity::Task, Entity::Contact) => &[204],
        (Entity::Task, Entity::Company) => &[192],
        (Entity::Task, Entity::Deal) => &[216],
        _ => &[],
    }
}

/// Two HubSpot records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    pub from: RemoteId,
    pub to: RemoteId,
}

/// What the CRM's column asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
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
    pub wanted: Wanted,
    /// The pair that HubSpot holds, or may hold.
    pub held: Option<Pair>,
    /// Another column of the record stands for the held pair as well.
    pub shared: bool,
    /// Failed attempts so far.
    pub attempts: u32,
}

/// What is to be done next about an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
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
pub fn next_step(owed: &Owed) -> Step {
    match (&owed.held, &owed.wanted) {
        // Whether it arrived is not known; to say it again does no harm.
        (Some(held), Wanted::Pair(pair)) if held == pair => {
            Step::Send(Action::Create, pair.clone())
        }
        (Some(_), _) if owed.shared => Step::LetGo,
        (Some(held), _) => Step::Send(Action::Archive, held.clone()),
        (None, Wanted::Nothing) => Step::Forget,
        (None, Wanted::Unknown) => Step::Wait,
        (None, Wanted::Pair(pair)) => Step::Send(Action::Create, pair.clone()),
    }
}

/// A pair to be sent. `work` is the caller's number for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    pub work: usize,
    pub from: Entity,
    pub to: Entity,
    pub action: Action,
    pub pair: Pair,
}

/// A call ready to go.
#[derive(Clone, Debug, PartialEq)]
pub struct AssociationCall {
    pub action: Action,
    pub from: Entity,
    pub to: Entity,
    pub request: Request,
    /// The callers' numbers, with what is sent for each.
    pub pairs: Vec<(usize, Pair)>,
}

impl AssociationCall {
    /// As two calls of half the size each.
    pub fn halves(self, settings: &HubSpotSettings) -> Vec<AssociationCall> {
        let half = self.pairs.len().div_ceil(2).max(1);
        let call = |pairs: &[(usize, Pair)]| {
            call(self.action, self.from, self.to, pairs.to_vec(), settings)
        };
        self.pairs.chunks(half).map(call).collect()
    }
}

/// Puts pairs together into as few calls as HubSpot allows, archives first.
pub fn assemble(mut sendings: Vec<Sending>, settings: &HubSpotSettings) -> Vec<AssociationCall> {
    sendings
        .sort_by(|a, b| (a.action, a.from, a.to, &a.pair).cmp(&(b.action, b.from, b.to, &b.pair)));
    sendings
        .chunk_by(|a, b| (a.action, a.from, a.to) == (b.action, b.from, b.to))
        .flat_map(|alike| {
            let first = &alike[0];
            chunks(first.action, alike)
                .into_iter()
                .map(|pairs| call(first.action, first.from, first.to, pairs, settings))
        })
        .collect()
}

fn chunks(action: Action, alike: &[Sending]) -> Vec<Vec<(usize, Pair)>> {
    let mut chunks: Vec<Vec<(usize, Pair)>> = vec![Vec::new()];
    let mut froms = HashSet::new();
    for sending in alike {
        let full = match action {
            Action::Create => chunks.last().is_some_and(|last| last.len() >= PAIRS_MAX),
            Action::Archive => froms.len() >= FROMS_MAX && !froms.contains(&sending.pair.from),
        };
        if full {
            froms.clear();
            chunks.push(Vec::new());
        }
        froms.insert(&sending.pair.from);
        if let Some(last) = chunks.last_mut() {
            last.push((sending.work, sending.pair.clone()));
        }
    }
    chunks
}

fn call(
    action: Action,
    from: Entity,
    to: Entity,
    pairs: Vec<(usize, Pair)>,
    settings: &HubSpotSettings,
) -> AssociationCall {
    // HubSpot: batches of associations came with v4; v3 knows other ones.
    let version = match settings.api_version.as_str() {
        "v3" => "v4",
        version => version,
    };
    let verb = match action {
        Action::Create => "create",
        Action::Archive => "archive",
    };
    let path = format!(
        "{}/{}/{}/batch/{verb}",
        versioned("crm/", "associations", version),
        object_type(from),
        object_type(to)
    );
    let request = Request {
        target: Target::HubSpot,
        method: Method::Post,
        path,
        body: Some(body(action, types(from, to), &pairs).into_bytes()),
    };
    AssociationCall {
        action,
        from,
        to,
        request,
        pairs,
    }
}

fn body(action: Action, types: &[u16], pairs: &[(usize, Pair)]) -> String {
    let labels: Vec<String> = types
        .iter()
        .map(|id| {
            format!("{{\"associationCategory\":\"HUBSPOT_DEFINED\",\"associationTypeId\":{id}}}")
        })
        .collect();
    let labels = labels.join(",");
    let inputs: Vec<String> = match action {
        Action::Create => pairs
            .iter()
            .map(|(_, pair)| {
                let (from, to) = (reference(&pair.from), reference(&pair.to));
                format!("{{\"from\":{from},\"to\":{to},\"types\":[{labels}]}}")
            })
            .collect(),
        Action::Archive => pairs
            .chunk_by(|(_, a), (_, b)| a.from == b.from)
            .map(|of_one| {
                let ends: Vec<String> =
                    of_one.iter().map(|(_, pair)| reference(&pair.to)).collect();
                let from = reference(&of_one[0].1.from);
                format!("{{\"from\":{from},\"to\":[{}]}}", ends.join(","))
            })
            .collect(),
    };
    let mut body = String::from("{");
    push_name(&mut body, "inputs");
    body.push('[');
    body.push_str(&inputs.join(","));
    body.push_str("]}");
    body
}

fn reference(id: &RemoteId) -> String {
    let mut out = String::from("{");
    push_name(&mut out, "id");
    push_string(&mut out, id.as_str());
    out.push('}');
    out
}
