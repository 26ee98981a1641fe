//! Which records are associated with which: what is to be sent, and what came of it.
//!
//! A pair is noted as held before the call that makes it, and until the call that ends it is
//! confirmed. So whatever answer gets lost, a pair that HubSpot may hold is never forgotten, and
//! both calls can be repeated without harm.

use std::{collections::HashSet, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    call::{HubSpotSettings, Method, Reply, Request, TransportError},
    failure::{Class, classify},
    json::{Text, push_name, push_string, shortened},
    outcome::{BudgetReport, TargetSignal, Verdict},
    record::{Entity, RemoteId, Target},
    retry::{self, Next, Policy},
    verdicts::for_all,
};

use super::{answer, object_type, versioned};

/// HubSpot: at most 2,000 pairs in a batch create.
const PAIRS_MAX: usize = 2_000;
/// HubSpot: at most 100 records whose associations are removed in one call.
const FROMS_MAX: usize = 100;
/// Messages are quoted up to so many characters.
const QUOTED: usize = 500;

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
        budget: reply.map(answer::budget).unwrap_or_default(),
        correlation_id: reply.ok().and_then(answer::correlation_id),
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

/// How an association stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Something is to be done.
    Pending,
    /// One of its records is not at HubSpot.
    Waiting,
    /// HubSpot holds what the column asks for.
    Agreed,
    /// Given up on, until the record changes.
    Failed,
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
            State::Failed => "failed",
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
        (PairVerdict::Refused { why }, _) => {
            return Standing {
                attempts: attempts + 1,
                why: Some(why.clone()),
                ..Standing::new(Some(held.clone()), State::Failed)
            };
        }
        (PairVerdict::Split, _) => return Standing::new(Some(held.clone()), State::Pending),
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
            ..Standing::new(Some(held.clone()), State::Failed)
        },
    }
}
