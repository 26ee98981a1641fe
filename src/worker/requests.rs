//! Calls under way: sending them as budget and breaker allow, and reading their answers.

mod access;
mod hearing;
mod setup;
mod timing;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use integration_engine::delivery::call::Allowance;
use integration_engine::now::Now;
use integration_engine::record::{Entity, Lane, Target};
use integration_engine::wire::Request;
use integration_hubspot as hubspot;
use integration_mailchimp::provision::ProvisionProgress;

pub use access::unidentified;
pub use hearing::{AnsweredCall, Heard};
pub use timing::better_to_wait;

use super::auth::Session;
use super::connection::{Test, TestQuestion};
use super::target::allowance::next_permitted;
use super::target::preflight::Subject;
use super::target::{PlannedCall, TargetWorker};
use super::task::{self, QuestionKind, TaskId, Token};
use super::{Context, answers, properties};
use crate::config::{Endpoint, Settings};
use crate::http::{Client, HttpClient, Network};
use crate::pg::shmem;
use crate::secret::Secret;
use crate::store::server::accounts::Tested;
use crate::store::state::Job;

/// What a request under way is about.
enum Underway {
    Records(PlannedCall),
    Property {
        entity: Entity,
        creating: bool,
    },
    /// Do others name contacts, too?
    Others,
    Definitions {
        subject: Subject,
        request: Request,
    },
    /// A merge field that is to be created.
    MergeField(Request),
    /// A task's question.
    Task {
        task: TaskId,
        question: task::Question,
    },
    /// Does the target answer at all? Asked before records are sent to one that was failing, so
    /// that a record which makes its own calls fail is not taken for an outage.
    Probe,
    /// An access token, for the session opened then.
    Token {
        session: Instant,
    },
    /// Whose account is it?
    Account,
    /// Part of a connection test.
    Test(TestQuestion),
}

impl Underway {
    /// Records in it, of those requests that are counted as under way.
    fn records(&self) -> Option<usize> {
        match self {
            Underway::Records(planned) => Some(planned.flights.len()),
            Underway::Task { question, .. } => (question.kind == QuestionKind::Read).then_some(1),
            _ => None,
        }
    }

    /// Whether nobody else looks at what the answer's headers say about the budget.
    fn is_about_set_up(&self) -> bool {
        matches!(
            self,
            Underway::Property { .. }
                | Underway::Others
                | Underway::Definitions { .. }
                | Underway::Probe
                | Underway::Account
        )
    }
}

struct SentRequest {
    target: Target,
    underway: Underway,
    /// Which of the credentials we have had it was sent with.
    generation: u32,
    /// What it was sent with.
    token: Option<Secret>,
}

/// See the module's documentation.
pub struct Requests {
    engine: HttpClient,
    network: Network,
    /// It leads nowhere: nothing may be sent.
    astray: bool,
    /// What the next engine is to send with.
    fresh: Option<Client>,
    underway: HashMap<u64, SentRequest>,
    next_id: u64,
    answers: u64,
    generation: u32,
    endpoints: HashMap<Target, Option<Endpoint>>,
    /// Jobs that SQL functions asked for.
    pub jobs: Vec<Job>,
    /// Where tokens have to be fetched.
    session: Option<Session>,
    timeout: Duration,
    tests: BTreeMap<Target, Test>,
    test_again: BTreeSet<Target>,
    tested: Vec<Tested>,
    /// Remarks of the services that have been told.
    remarks: HashSet<(Target, String)>,
    /// How far jobs of provisioning have come.
    pub provisioned: BTreeMap<Target, ProvisionProgress>,
}

/// How the settings say to reach the outside.
fn network_of(settings: &Settings) -> Network {
    Network {
        proxy: settings.http_proxy.clone(),
        ca_file: settings.ca_file.clone(),
    }
}

impl Requests {
    /// Starts the HTTP threads. Settings that lead nowhere are told by [`Requests::check_network`].
    pub fn start(settings: &Settings) -> Result<Requests, String> {
        let network = network_of(settings);
        let (client, astray) = match Client::new(&network) {
            Ok(client) => (client, false),
            Err(_) => (Client::new(&Network::default())?, true),
        };
        let engine = shmem::without_signals(|| HttpClient::start(client))?;
        Ok(Requests {
            engine,
            network,
            astray,
            fresh: None,
            underway: HashMap::new(),
            next_id: 0,
            answers: 0,
            generation: 0,
            endpoints: HashMap::new(),
            jobs: Vec::new(),
            session: None,
            timeout: Duration::from_secs(30),
            tests: BTreeMap::new(),
            test_again: BTreeSet::new(),
            tested: Vec::new(),
            remarks: HashSet::new(),
            provisioned: BTreeMap::new(),
        })
    }

    pub fn socket(&self) -> i32 {
        self.engine.socket()
    }

    /// Requests of a target that wait for their answers.
    pub fn under_way(&self, target: Target) -> u32 {
        let sent = self.underway.values();
        let count = sent.filter(|sent| sent.target == target).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many answers have come so far.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Whether no answer is waited for, of whatever.
    pub fn all_answered(&self) -> bool {
        self.underway.is_empty()
    }

    /// Whether the settings lead to the outside; `Err` names the one that is wrong. Files are read
    /// again: one that was missing may be there now.
    pub fn check_network(&mut self, settings: &Settings) -> Result<(), String> {
        let network = network_of(settings);
        if network == self.network && !self.astray {
            return Ok(());
        }
        let client = Client::new(&network);
        (self.network, self.astray) = (network, client.is_err());
        self.fresh = None;
        self.fresh = Some(client?);
        Ok(())
    }

    /// Starts the HTTP threads anew where the way to the outside has changed, once no request is
    /// under way.
    pub fn renew_network(&mut self) -> Result<(), String> {
        if let Some(client) = self.fresh.take_if(|_| self.underway.is_empty()) {
            self.engine = shmem::without_signals(|| HttpClient::start(client))?;
        }
        Ok(())
    }

    /// Whether a target's credential or address differs from when this was last asked.
    pub fn credential_changed(&mut self, target: Target, settings: &Settings) -> bool {
        let now = settings.endpoint(target).ok().cloned();
        let before = self.endpoints.insert(target, now.clone());
        let changed = before.is_none_or(|before| before != now);
        self.generation += u32::from(changed);
        changed
    }

    /// How many batches are worth planning now.
    pub fn wanted_batches(&self, worker: &TargetWorker, context: &Context) -> usize {
        let has_work =
            worker.queue.ready() > 0 || worker.unread() || worker.retries_due(context.now.instant);
        // Who wants no more mail does not wait for definitions.
        let known = properties::known(worker, context)
            && (worker.preflight.is_known() || worker.queue.has_any(Lane::OptOut));
        if !has_work || unidentified(worker, context) || !known {
            return 0;
        }
        // Calls that wait for a limit of their own hold up nobody else.
        let general = |planned: &&PlannedCall| planned.call.allowance() == Allowance::General;
        let waiting = worker.planned.iter().filter(general).count();
        let taken = worker.calls_in_flight + waiting;
        let free = worker.most_calls(&context.settings).saturating_sub(taken);
        // With a budget, what is read should leave soon: its state is the state of now.
        if worker.budget.is_some() {
            free.min(usize::from(waiting == 0))
        } else {
            free
        }
    }

    /// Sends planned calls as far as connections, budget and breaker allow.
    pub fn dispatch(&mut self, worker: &mut TargetWorker, context: &Context) {
        while !worker.planned.is_empty()
            && !unidentified(worker, context)
            && worker.calls_in_flight < worker.most_calls(&context.settings)
        {
            if !self.has_token(worker, context.now) {
                return;
            }
            let Some(next) = next_permitted(worker, context.now) else {
                return;
            };
            if !worker.breaker.is_closed() {
                let request = answers::probe(worker.target, context);
                self.send(worker, context, request, Underway::Probe);
                worker.blocked_until = Some(context.now.instant + context.settings.request_timeout);
                return;
            }
            let Some(planned) = worker.planned.remove(next) else {
                return;
            };
            let request = planned.call.request().clone();
            worker.calls_in_flight += 1;
            self.begin(worker, context, &planned);
            self.send(worker, context, request, Underway::Records(planned));
        }
    }

    /// Records that a call is about to carry are shown as in flight.
    fn begin(&self, worker: &TargetWorker, context: &Context, planned: &PlannedCall) {
        if let Some(slot) = context.slot {
            let flights = slot.flights(worker.target);
            let records = planned.flights.iter();
            records.for_each(|flight| flights.begin(flight.record.hash()));
        }
    }

    /// Sends opt-outs out of turn, beside the calls that have their share of connections.
    pub fn send_urgent(
        &mut self,
        worker: &mut TargetWorker,
        context: &Context,
        planned: PlannedCall,
    ) {
        let request = planned.call.request().clone();
        worker.urgent.underway = true;
        self.begin(worker, context, &planned);
        let planned = PlannedCall {
            urgent: true,
            ..planned
        };
        self.send(worker, context, request, Underway::Records(planned));
    }

    pub(super) fn permitted(&mut self, worker: &mut TargetWorker, now: Now) -> bool {
        if !self.has_token(worker, now) {
            return false;
        }
        let permitted = worker.permit(Allowance::General, now);
        if let Err(wait) = permitted {
            worker.block(wait, now);
        }
        permitted.is_ok()
    }

    fn send(
        &mut self,
        worker: &mut TargetWorker,
        context: &Context,
        request: Request,
        underway: Underway,
    ) {
        let Ok(endpoint) = context.settings.endpoint(worker.target) else {
            return;
        };
        let credential = self.credential(&endpoint.credential, context.now);
        self.hand_over(worker, credential, request, None, underway);
    }

    /// Sends a task's question, if a request may leave now.
    pub fn ask_for_task(
        &mut self,
        worker: &mut TargetWorker,
        context: &Context,
        task: TaskId,
        question: task::Question,
    ) -> Option<Token> {
        let request = question.request.clone();
        if question.kind != QuestionKind::Aside {
            if !self.permitted(worker, context.now) {
                return None;
            }
            worker.calls_in_flight += 1;
        }
        let underway = Underway::Task { task, question };
        self.send(worker, context, request, underway);
        Some(Token(self.next_id))
    }
}
