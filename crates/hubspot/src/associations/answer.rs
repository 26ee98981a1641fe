//! What HubSpot's answer to a call means for each of its pairs.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use super::{AssociationCall, Label, Labels, Pair, Sending, Verb};
use crate::{HubSpot, answer as batch, objects, wire::Paging};
use integration_engine::{
    delivery::{
        outcome::{Category, TargetSignal, Verdict},
        verdicts::for_all,
    },
    limits::BudgetReport,
    service::failure::{Class, classify},
    value::json::{Text, shortened},
    wire::{Reply, TransportError},
};

/// Messages are quoted up to so many characters.
const QUOTED: usize = 500;

/// What became of one pair.
#[derive(Clone, Debug, PartialEq)]
pub enum PairVerdict {
    /// HubSpot holds it, or no longer does, as asked.
    Done,
    /// It has been looked at, and is to be sent on with what is known of its labels now.
    Looked(Labels),
    /// HubSpot has no record with one of these ids (any more).
    DeadId { ids: Vec<String>, why: String },
    /// It will not be accepted.
    Refused {
        why: String,
        category: Category,
        status: Option<u16>,
    },
    Retry {
        why: String,
        wait: Option<Duration>,
        counted: bool,
    },
    /// The whole call was refused, and nobody says for which pair: send it in two halves.
    Split,
}

/// What one answer means: a verdict for every pair of the call, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct AssociationReading {
    pub verdicts: Vec<PairVerdict>,
    pub signal: TargetSignal,
    pub budget: BudgetReport,
    pub correlation_id: Option<String>,
    /// One line for the request log; `None` when all went well.
    pub error: Option<String>,
}

/// Reads an answer.
pub fn read(call: &AssociationCall, reply: Result<&Reply, &TransportError>) -> AssociationReading {
    let class = classify::<HubSpot>(reply);
    let status = reply.ok().map(|reply| reply.status);
    let verdicts = match (&class, reply) {
        (Class::Answered, Ok(reply)) => answered(call, reply),
        (Class::Rejected | Class::NotFound, Ok(reply)) => rejected(call, reply),
        _ => Vec::new(),
    };
    let (verdicts, signal, error) = match for_all(&class, status, 1) {
        Some((whole, signal, why)) if verdicts.is_empty() => {
            let verdict = whole.into_iter().next().map_or(unknown(), of_all);
            (vec![verdict; call.pairs.len()], signal, Some(why))
        }
        _ => {
            let error = verdicts.iter().find_map(complaint);
            (verdicts, TargetSignal::Healthy, error)
        }
    };
    AssociationReading {
        verdicts,
        signal,
        budget: reply.map(batch::budget).unwrap_or_default(),
        correlation_id: reply.ok().and_then(batch::correlation_id),
        error,
    }
}

fn unknown() -> PairVerdict {
    PairVerdict::Retry {
        why: "HubSpot's answer does not say what became of the association".to_owned(),
        wait: None,
        counted: true,
    }
}

fn of_all(verdict: Verdict) -> PairVerdict {
    match verdict {
        Verdict::Retry {
            why, wait, counted, ..
        } => PairVerdict::Retry { why, wait, counted },
        Verdict::Dead {
            why,
            category,
            status,
            ..
        } => PairVerdict::Refused {
            why,
            category,
            status,
        },
        _ => unknown(),
    }
}

fn complaint(verdict: &PairVerdict) -> Option<String> {
    match verdict {
        PairVerdict::Done | PairVerdict::Looked(_) => None,
        PairVerdict::Split => Some("HubSpot refused the call; it is sent in halves".to_owned()),
        PairVerdict::DeadId { why, .. }
        | PairVerdict::Refused { why, .. }
        | PairVerdict::Retry { why, .. } => Some(why.clone()),
    }
}

#[derive(Default, Deserialize)]
struct PairsBody<'a> {
    #[serde(borrow, default)]
    results: Vec<Made<'a>>,
    #[serde(default)]
    errors: Vec<Value>,
}

/// A pair that was made: HubSpot names it in one of two ways, with ids as numbers or as text.
#[derive(Deserialize)]
struct Made<'a> {
    #[serde(borrow, default, rename = "fromObjectId")]
    from_object: Text<'a>,
    #[serde(borrow, default, rename = "toObjectId")]
    to_object: Text<'a>,
    #[serde(borrow, default)]
    from: Option<PairEnd<'a>>,
    #[serde(borrow, default)]
    to: Option<PairEnd<'a>>,
}

#[derive(Deserialize)]
struct PairEnd<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
}

impl Made<'_> {
    fn ends(&self) -> (&str, &str) {
        let from = self.from.as_ref().map_or("", |end| end.id.as_str());
        let to = self.to.as_ref().map_or("", |end| end.id.as_str());
        match (self.from_object.as_str(), self.to_object.as_str()) {
            ("", "") => (from, to),
            named => named,
        }
    }
}

/// An error of one pair, or of a whole call.
struct PairError {
    ids: Vec<String>,
    dead_id: bool,
    passing: bool,
    category: Category,
    why: String,
}

impl PairError {
    fn of(error: &Value) -> PairError {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let context = error.get("context").and_then(Value::as_object);
        let message = match text("message") {
            "" => "no reason given",
            message => message,
        };
        let category = text("category");
        PairError {
            // Which of the names HubSpot uses for an id differs between its errors.
            ids: context
                .into_iter()
                .flat_map(|context| context.values())
                .flat_map(|value| match value {
                    Value::Array(list) => list.clone(),
                    other => vec![other.clone()],
                })
                .map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned))
                .collect(),
            dead_id: text("subCategory").ends_with("INVALID_IDENTIFIER")
                || category == "OBJECT_NOT_FOUND",
            passing: category.starts_with("RATE_LIMIT") || category.is_empty(),
            // HubSpot: "Missing 'Edit Associations' permission." is a 400.
            category: match category == "MISSING_SCOPES" || message.contains("permission") {
                true => Category::Permission,
                false => Category::Validation,
            },
            why: format!(
                "HubSpot refused the association: {}",
                shortened(message, QUOTED)
            ),
        }
    }

    fn names(&self, pair: &Pair) -> bool {
        self.ids
            .iter()
            .any(|id| id == pair.from.as_str() || id == pair.to.as_str())
    }

    fn verdict(&self, verb: Verb, status: u16) -> PairVerdict {
        let why = self.why.clone();
        match verb {
            // What does not exist has no associations.
            Verb::Archive if self.dead_id => PairVerdict::Done,
            // Reading harms nobody: the call that follows says what is wrong.
            Verb::Look => PairVerdict::Looked(Labels::Known(Vec::new())),
            _ if self.dead_id => PairVerdict::DeadId {
                ids: self.ids.clone(),
                why,
            },
            _ if self.passing => PairVerdict::Retry {
                why,
                wait: None,
                counted: true,
            },
            _ => PairVerdict::Refused {
                why,
                category: self.category,
                status: Some(status),
            },
        }
    }
}

/// HubSpot: what a record is associated with, by pages.
#[derive(Deserialize)]
struct SeenPairs<'a> {
    #[serde(borrow)]
    from: PairEnd<'a>,
    #[serde(borrow, default)]
    to: Vec<SeenEnd<'a>>,
    #[serde(borrow, default)]
    paging: Option<Paging<'a>>,
}

#[derive(Deserialize)]
struct SeenEnd<'a> {
    #[serde(borrow, default, rename = "toObjectId")]
    id: Text<'a>,
    #[serde(borrow, default, rename = "associationTypes")]
    types: Vec<SeenType<'a>>,
}

#[derive(Deserialize)]
struct SeenType<'a> {
    #[serde(borrow, default)]
    category: Text<'a>,
    #[serde(default, rename = "typeId")]
    id: i64,
}

#[derive(Deserialize)]
struct AssociatedBody<'a> {
    #[serde(borrow, default)]
    results: Vec<SeenPairs<'a>>,
}

impl SeenPairs<'_> {
    /// What this page says of a pair.
    fn verdict(&self, sending: &Sending) -> PairVerdict {
        let to = sending.pair.to.as_str();
        if let Some(end) = self.to.iter().find(|end| end.id.as_str() == to) {
            let label = |seen: &SeenType<'_>| Label {
                category: seen.category.as_str().to_owned(),
                id: seen.id,
            };
            let labels: Vec<Label> = end.types.iter().map(label).collect();
            let all = objects::associations(sending.from, sending.to).unwrap_or(&[]);
            if all.iter().all(|id| labels.contains(&Label::defined(*id))) {
                return PairVerdict::Done;
            }
            return PairVerdict::Looked(Labels::Known(labels));
        }
        PairVerdict::Looked(match self.paging.clone().and_then(Paging::after) {
            None => Labels::Known(Vec::new()),
            Some(after) => Labels::After(after),
        })
    }
}

/// What pairs have. A record that is not among the results has no associations: HubSpot says so
/// in `errors`.
fn looked(call: &AssociationCall, reply: &Reply) -> Vec<PairVerdict> {
    let Ok(look) = serde_json::from_slice::<AssociatedBody<'_>>(&reply.body) else {
        return vec![unknown(); call.pairs.len()];
    };
    let seen: HashMap<&str, &SeenPairs<'_>> = look
        .results
        .iter()
        .map(|seen| (seen.from.id.as_str(), seen))
        .collect();
    let verdict = |sending: &Sending| match seen.get(sending.pair.from.as_str()) {
        Some(seen) => seen.verdict(sending),
        None => PairVerdict::Looked(Labels::Known(Vec::new())),
    };
    call.pairs.iter().map(verdict).collect()
}

fn answered(call: &AssociationCall, reply: &Reply) -> Vec<PairVerdict> {
    if call.verb == Verb::Look {
        return looked(call, reply);
    }
    let empty = reply.body.iter().all(u8::is_ascii_whitespace);
    let parsed = serde_json::from_slice::<PairsBody<'_>>(&reply.body);
    let answer = match (parsed, call.verb) {
        (Ok(answer), _) => answer,
        // HubSpot: v4 answers 204 to a batch archive.
        (Err(_), Verb::Archive) if empty => PairsBody::default(),
        (Err(_), _) => return vec![unknown(); call.pairs.len()],
    };
    let made: HashSet<(&str, &str)> = answer.results.iter().map(Made::ends).collect();
    let complaints: Vec<PairError> = answer.errors.iter().map(PairError::of).collect();
    let unnamed = complaints.iter().find(|complaint| complaint.ids.is_empty());
    let verdict = |sending: &Sending| {
        let pair = &sending.pair;
        if made.contains(&(pair.from.as_str(), pair.to.as_str())) {
            return PairVerdict::Done;
        }
        let named = complaints.iter().find(|complaint| complaint.names(pair));
        match (named, unnamed) {
            (Some(complaint), _) => complaint.verdict(call.verb, reply.status),
            (None, Some(complaint)) if call.pairs.len() == 1 => {
                complaint.verdict(call.verb, reply.status)
            }
            (None, None) if call.verb == Verb::Archive => PairVerdict::Done,
            (None, Some(_)) => PairVerdict::Split,
            (None, None) => unknown(),
        }
    };
    call.pairs.iter().map(verdict).collect()
}

/// The whole call was refused.
fn rejected(call: &AssociationCall, reply: &Reply) -> Vec<PairVerdict> {
    let complaint = serde_json::from_slice::<Value>(&reply.body)
        .map(|body| PairError::of(&body))
        .unwrap_or_else(|_| PairError::of(&Value::Null));
    if call.pairs.len() > 1 {
        return vec![PairVerdict::Split; call.pairs.len()];
    }
    vec![complaint.verdict(call.verb, reply.status)]
}
