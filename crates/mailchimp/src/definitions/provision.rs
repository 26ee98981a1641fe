//! Creating the merge fields that are mapped and that audiences lack, one at a time.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Value, json};

use crate::Mailchimp;
use integration_engine::{
    record::{
        Target,
        mapping::{Field, SourceMap, ValueKind},
    },
    service::failure::{Class, classify},
    wire::{Method, Reply, Request, TransportError},
};

use crate::answer::fault::MemberRefusal;
use crate::definitions::is_merge_field;
use crate::definitions::preflight::Preflight;

/// A merge field to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedField {
    pub list: String,
    pub tag: String,
    name: String,
    kind: &'static str,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ProvisionStage {
    #[default]
    Idle,
    /// The audiences' fields are being read anew.
    Reading,
    Creating,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Provision {
    stage: ProvisionStage,
    todo: VecDeque<WantedField>,
    asked: bool,
    all: usize,
    failures: Vec<String>,
}

/// What there is to tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionProgress {
    pub ready: usize,
    pub all: usize,
    pub failure: Option<String>,
}

/// What the answer to a creation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreationAnswer {
    Yes,
    No,
    /// The target as a whole does not answer as it should.
    Later,
}

impl Provision {
    /// Somebody asks for it; what is under way goes on.
    pub fn begin(&mut self, preflight: &mut Preflight) {
        if self.stage == ProvisionStage::Idle {
            outdate(preflight);
            *self = Provision {
                stage: ProvisionStage::Reading,
                ..Provision::default()
            };
        }
    }

    pub fn is_idle(&self) -> bool {
        self.stage == ProvisionStage::Idle
    }

    /// The next one to be created; it counts as asked for.
    pub fn next<'m>(
        &mut self,
        preflight: &Preflight,
        maps: impl Iterator<Item = &'m SourceMap> + Clone,
    ) -> Option<Request> {
        if self.stage == ProvisionStage::Reading && preflight.is_known() {
            self.stage = ProvisionStage::Creating;
            let read = |list: &&String| {
                let audience = preflight.catalog.0.get(*list);
                audience.is_some_and(|audience| audience.fields.is_some())
            };
            let (read, unread): (Vec<_>, Vec<_>) = preflight.lists().partition(read);
            let unread = unread.into_iter().map(|list| {
                format!(
                    "the merge fields of audience {list} cannot be read, so none was created there"
                )
            });
            self.failures.extend(unread);
            let mut known = BTreeSet::new();
            for list in read {
                for map in maps.clone() {
                    self.add(preflight, map, list, &mut known);
                }
            }
            self.all = known.len();
        }
        if self.asked {
            return None;
        }
        let request = self.todo.front().map(request)?;
        self.asked = true;
        Some(request)
    }

    fn add<'m>(
        &mut self,
        preflight: &Preflight,
        map: &'m SourceMap,
        list: &'m str,
        known: &mut BTreeSet<(String, String)>,
    ) {
        let audience = preflight.catalog.0.get(list);
        for field in map.fields.iter().filter(|field| is_merge_field(field)) {
            let new = known.insert((list.to_owned(), field.remote.clone()));
            let there = audience
                .and_then(|audience| audience.fields.as_ref())
                .is_some_and(|fields| fields.contains_key(&field.remote));
            if new && !there {
                self.todo.push_back(WantedField {
                    list: list.to_owned(),
                    tag: field.remote.clone(),
                    name: name(field),
                    kind: kind(field.kind),
                });
            }
        }
    }

    /// Takes in the answer to a creation.
    pub fn hear(&mut self, reply: Result<&Reply, &TransportError>) -> CreationAnswer {
        self.asked = false;
        let Some(wanted) = self.todo.front().cloned() else {
            return CreationAnswer::No;
        };
        match (classify::<Mailchimp>(reply), reply) {
            (Class::Answered, Ok(reply)) => {
                self.todo.pop_front();
                if let Some(limit) = full(&reply.body) {
                    self.give_up(
                        &wanted.list,
                        &format!("the plan allows {limit} in an audience"),
                    );
                }
                CreationAnswer::Yes
            }
            (Class::Rejected | Class::NotFound, Ok(reply)) => {
                let fault = MemberRefusal::of_body(&reply.body);
                if fault.says("already exists") {
                    self.todo.pop_front();
                    return CreationAnswer::Yes;
                }
                if fault.says("maximum") || fault.says("limit") {
                    self.give_up(&wanted.list, &fault.quoted());
                } else {
                    self.todo.pop_front();
                    let why = fault.quoted();
                    let WantedField { list, tag, .. } = wanted;
                    self.failures.push(format!(
                        "{tag} could not be created in audience {list}: {why}"
                    ));
                }
                CreationAnswer::No
            }
            _ => CreationAnswer::Later,
        }
    }

    /// Nothing more can be created in an audience.
    fn give_up(&mut self, list: &str, why: &str) {
        let here: Vec<&str> = self
            .todo
            .iter()
            .filter(|wanted| wanted.list == list)
            .map(|wanted| wanted.tag.as_str())
            .collect();
        if here.is_empty() {
            return;
        }
        self.failures.push(format!(
            "audience {list} takes no more merge fields ({why}); not created: {}. Delete fields \
             there, or map fewer columns",
            here.join(", ")
        ));
        self.todo.retain(|wanted| wanted.list != list);
    }

    /// How it stands; once all is done, it is idle again, and the fields are read anew. `None`: it
    /// has not come that far.
    pub fn progress(&mut self, preflight: &mut Preflight) -> Option<ProvisionProgress> {
        if self.stage != ProvisionStage::Creating {
            return None;
        }
        let done = self.todo.is_empty();
        let failure = (done && !self.failures.is_empty()).then(|| self.failures.join("; "));
        let all = self.all;
        let ready = match failure {
            None => all - self.todo.len(),
            // Never all of them.
            Some(_) => all.saturating_sub(self.failures.len()),
        };
        if done {
            outdate(preflight);
            *self = Provision::default();
        }
        Some(ProvisionProgress {
            ready,
            all,
            failure,
        })
    }
}

fn outdate(preflight: &mut Preflight) {
    let lists: Vec<String> = preflight.lists().cloned().collect();
    lists.iter().for_each(|list| preflight.outdate(list));
}

/// `first_name` becomes «First name».
fn name(field: &Field) -> String {
    let words = field.column.replace('_', " ");
    let mut characters = words.trim().chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => field.remote.clone(),
    }
}

const fn kind(column: ValueKind) -> &'static str {
    match column {
        ValueKind::Integer | ValueKind::Decimal | ValueKind::Float => "number",
        ValueKind::Date | ValueKind::Timestamp | ValueKind::TimestampTz => "date",
        ValueKind::Json => "address",
        // Mailchimp has no booleans.
        ValueKind::Text | ValueKind::Bool | ValueKind::TextArray => "text",
    }
}

fn request(wanted: &WantedField) -> Request {
    let WantedField {
        list,
        tag,
        name,
        kind,
    } = wanted;
    let body = json!({"tag": tag, "name": name, "type": kind, "public": false});
    Request {
        target: Target::Mailchimp,
        method: Method::Post,
        path: format!("/lists/{list}/merge-fields"),
        body: Some(body.to_string().into_bytes()),
    }
}

/// Mailchimp tells the plan's limit and how many there are; the limit, if it is reached.
fn full(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let number = |name: &str| body.get(name)?.as_u64();
    number("merge_field_limit").filter(|limit| number("total_items").is_some_and(|n| n >= *limit))
}
