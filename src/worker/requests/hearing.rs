//! Answers that came in, each to whom it concerns.

use integration_engine::delivery::notice::Notice;
use integration_engine::limits::BudgetReport;
use integration_engine::record::Target;

use super::{Requests, Underway, setup};
use crate::http::Answer;
use crate::services;
use crate::store::queue::dead_letters::LogEntry;
use crate::worker::auth::Granted;
use crate::worker::hubspot::sharing;
use crate::worker::target::account::SeenAccount;
use crate::worker::target::{PlannedCall, TargetWorker, UniqueProperty};
use crate::worker::task::{self, TaskId, Token};
use crate::worker::{Context, answers, preflight, properties, provision};

/// A call that carried records, and its answer.
pub struct AnsweredCall {
    pub planned: PlannedCall,
    pub answer: Answer,
    /// It was sent with the credential we have now.
    pub current: bool,
}

/// What came in at one go.
#[derive(Default)]
pub struct Heard {
    pub log: Vec<LogEntry>,
    /// Calls that carried records, with the place of their target.
    pub records: Vec<(usize, AnsweredCall)>,
    pub properties: Vec<properties::PropertyAnswer>,
    pub accounts: Vec<(Target, SeenAccount)>,
    /// A token, to be used once what belongs to it is stored.
    pub granted: Option<Granted>,
    pub notices: Vec<(Target, Notice)>,
    /// Definitions have been read, and the maps have to be refined.
    pub definitions: bool,
    /// With what the log will say of them.
    pub tasks: Vec<(TaskId, task::Answered, LogEntry)>,
}

impl Heard {
    pub fn is_empty(&self) -> bool {
        self.log.is_empty() && self.records.is_empty() && self.tasks.is_empty()
    }

    /// Nothing that sending depends on is among it.
    pub fn is_about_records(&self) -> bool {
        let access = self.accounts.is_empty() && self.granted.is_none();
        let known = self.properties.is_empty() && !self.definitions;
        access && known && self.tasks.is_empty()
    }
}

impl Requests {
    /// Takes in all answers that have come.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm a kind of request; what runs beside records leaves it as it becomes a Task"
    )]
    pub fn hear(&mut self, targets: &mut [TargetWorker], context: &Context) -> Heard {
        self.engine.drain_wakeups();
        let mut heard = Heard::default();
        while let Some(answer) = self.engine.answer() {
            let Some(sent) = self.underway.remove(&answer.id) else {
                continue;
            };
            let Some(index) = targets
                .iter()
                .position(|worker| worker.target == sent.target)
            else {
                continue;
            };
            let again = self.outdated(&sent, &answer);
            let current = sent.generation == self.generation && !again;
            let worker = &mut targets[index];
            worker.daily.settle();
            self.answers += 1;
            if let Some(records) = sent.underway.records() {
                worker.keep_pace(&context.settings, &answer, records, context.now);
            }
            if sent.underway.is_about_set_up() {
                worker.correct_budget(&answer, context.now);
            }
            match sent.underway {
                Underway::Records(planned) => {
                    self.note_remarks(planned.call.request(), &answer, &mut heard);
                    if !planned.urgent {
                        worker.calls_in_flight = worker.calls_in_flight.saturating_sub(1);
                    }
                    let answered = AnsweredCall {
                        planned,
                        answer,
                        current,
                    };
                    heard.records.push((index, answered));
                }
                Underway::Property { entity, creating } => {
                    let request = setup::property_request(worker, context, entity, creating);
                    heard
                        .log
                        .push(answers::plain_entry(sent.target, &request, &answer));
                    self.note_remarks(&request, &answer, &mut heard);
                    if again {
                        let state = if creating {
                            UniqueProperty::Wanted
                        } else {
                            UniqueProperty::Unknown
                        };
                        worker.properties.insert(entity, state);
                        continue;
                    }
                    heard.properties.push(properties::hear(
                        worker,
                        context,
                        entity,
                        creating,
                        &answer.result,
                    ));
                }
                Underway::Others => {
                    let request = sharing::request(context);
                    let entry = answers::plain_entry(sent.target, &request, &answer);
                    heard.log.push(entry);
                    match current {
                        true => sharing::hear(worker, context, &answer.result),
                        false => worker.others.forget_question(),
                    }
                }
                Underway::Definitions { subject, request } => {
                    heard
                        .log
                        .push(answers::plain_entry(sent.target, &request, &answer));
                    worker.calls_in_flight = worker.calls_in_flight.saturating_sub(1);
                    heard.definitions |=
                        preflight::hear(worker, &subject, &answer.result, context.now);
                }
                Underway::MergeField(request) => {
                    heard
                        .log
                        .push(answers::plain_entry(sent.target, &request, &answer));
                    worker.calls_in_flight = worker.calls_in_flight.saturating_sub(1);
                    provision::hear(worker, &answer.result, context.now);
                }
                Underway::Task { task, question } => {
                    let task::Question {
                        mut request,
                        kind,
                        logged_path,
                    } = question;
                    request.path = logged_path.unwrap_or(request.path);
                    let entry = answers::plain_entry(sent.target, &request, &answer);
                    kind.note(worker, &answer, current, context.now);
                    let answered = task::Answered {
                        token: Token(answer.id),
                        current,
                        result: answer.result,
                        duration: answer.duration,
                    };
                    heard.tasks.push((task, answered, entry));
                }
                Underway::Probe => {
                    let request = answers::probe(sent.target, context);
                    heard
                        .log
                        .push(answers::plain_entry(sent.target, &request, &answer));
                    let signal = services::signal(sent.target, &answer.result);
                    if again {
                        worker.breaker.success();
                    } else {
                        worker.hear(&signal, &BudgetReport::default(), context.now);
                    }
                    worker.blocked_until = None;
                }
                Underway::Token { session } => {
                    self.hear_token(worker, session, &answer, context.now, &mut heard);
                }
                Underway::Account => {
                    self.hear_account(worker, context, &answer, !current, &mut heard);
                }
                Underway::Test(question) => {
                    self.hear_test(worker, context, question, &answer, again, &mut heard);
                }
            }
        }
        heard
    }
}
