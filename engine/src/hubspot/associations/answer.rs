//! What HubSpot's answer to a call means for each of its pairs.

use std::{collections::HashSet, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{Action, AssociationCall, Pair};
use crate::{
    call::{Reply, TransportError},
    failure::{Class, classify},
    hubspot::answer as batch,
    json::{Text, shortened},
    outcome::{BudgetReport, TargetSignal, Verdict},
    record::Target,
    verdicts::for_all,
};

/// Messages are quoted up to so many characters.
const QUOTED: usize = 500;

/// What became of one pair.
#[derive(Clone, Debug, PartialEq)]
pub enum PairVerdict {
    /// HubSpot holds it, or no longer does, as asked.
    Done,
    /// HubSpot has no record with one of these ids (any more).
    DeadId { ids: Vec<String>, why: String },
    /// It will not be accepted.
    Refused { why: String },
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
    let class = classify(Target::HubSpot, reply);
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
        Verdict::Dead { why, .. } => PairVerdict::Refused { why },
        _ => unknown(),
    }
}

fn complaint(verdict: &PairVerdict) -> Option<String> {
    match verdict {
        PairVerdict::Done => None,
        PairVerdict::Split => Some("HubSpot refused the call; it is sent in halves".to_owned()),
        PairVerdict::DeadId { why, .. }
        | PairVerdict::Refused { why }
        | PairVerdict::Retry { why, .. } => Some(why.clone()),
    }
}

#[derive(Default, Deserialize)]
struct Answer<'a> {
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
    from: Option<End<'a>>,
    #[serde(borrow, default)]
    to: Option<End<'a>>,
}

#[derive(Deserialize)]
struct End<'a> {
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
struct Complaint {
    ids: Vec<String>,
    dead_id: bool,
    passing: bool,
    why: String,
}

impl Complaint {
    fn of(error: &Value) -> Complaint {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let context = error.get("context").and_then(Value::as_object);
        let message = match text("message") {
            "" => "no reason given",
            message => message,
        };
        let category = text("category");
        Complaint {
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

    fn verdict(&self, action: Action) -> PairVerdict {
        let why = self.why.clone();
        match action {
            // What does not exist has no associations.
            Action::Archive if self.dead_id => PairVerdict::Done,
            _ if self.dead_id => PairVerdict::DeadId {
                ids: self.ids.clone(),
                why,
            },
            _ if self.passing => PairVerdict::Retry {
                why,
                wait: None,
                counted: true,
            },
            _ => PairVerdict::Refused { why },
        }
    }
}

fn answered(call: &AssociationCall, reply: &Reply) -> Vec<PairVerdict> {
    let empty = reply.body.iter().all(u8::is_ascii_whitespace);
    let parsed = serde_json::from_slice::<Answer<'_>>(&reply.body);
    let answer = match (parsed, call.action) {
        (Ok(answer), _) => answer,
        // HubSpot: v4 answers 204 to a batch archive.
        (Err(_), Action::Archive) if empty => Answer::default(),
        (Err(_), _) => return vec![unknown(); call.pairs.len()],
    };
    let made: HashSet<(&str, &str)> = answer.results.iter().map(Made::ends).collect();
    let complaints: Vec<Complaint> = answer.errors.iter().map(Complaint::of).collect();
    let unnamed = complaints.iter().find(|complaint| complaint.ids.is_empty());
    let verdict = |(_, pair): &(usize, Pair)| {
        if made.contains(&(pair.from.as_str(), pair.to.as_str())) {
            return PairVerdict::Done;
        }
        let named = complaints.iter().find(|complaint| complaint.names(pair));
        match (named, unnamed) {
            (Some(complaint), _) => complaint.verdict(call.action),
            (None, Some(complaint)) if call.pairs.len() == 1 => complaint.verdict(call.action),
            (None, None) if call.action == Action::Archive => PairVerdict::Done,
            (None, Some(_)) => PairVerdict::Split,
            (None, None) => unknown(),
        }
    };
    call.pairs.iter().map(verdict).collect()
}

/// The whole call was refused.
fn rejected(call: &AssociationCall, reply: &Reply) -> Vec<PairVerdict> {
    let complaint = serde_json::from_slice::<Value>(&reply.body)
        .map(|body| Complaint::of(&body))
        .unwrap_or_else(|_| Complaint::of(&Value::Null));
    if call.pairs.len() > 1 {
        return vec![PairVerdict::Split; call.pairs.len()];
    }
    vec![complaint.verdict(call.action)]
}
