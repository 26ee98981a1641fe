//! Calls under way: sending them as budget and breaker allow, and reading their answers.

mod access;
mod setup;
mod timing;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use integration_engine::call::{Allowance, Request};
use integration_engine::hubspot;
use integration_engine::hubspot::associations::AssociationCall;
use integration_engine::hubspot::preflight::Subject;
use integration_engine::notice::Notice;
use integration_engine::outcome::{BudgetReport, TargetSignal};
use integration_engine::record::{Entity, Target};
use pgrx::spi::SpiResult;

pub use timing::better_to_wait;

use super::allowance::{next_permitted, since};
use super::auth::{Granted, Session};
use super::connection::{Question, Test};
use super::target::{Planned, Property, TargetWorker};
use super::trust::Seen;
use super::{Outcome, World, answers, associations, preflight, properties, reconcile};
use crate::config::{Endpoint, Settings};
use crate::http::{Answer, Engine, Network};
use crate::latch;
use crate::secret::Secret;
use crate::store::account::Tested;
use crate::store::letters::LogEntry;
use crate::store::state::{self, Job};

/// What a request under way is about.
enum Underway {
    Records(Planned),
    Associations(AssociationCall),
    Property {
        entity: Entity,
        creating: bool,
    },
    Definitions {
        subject: Subject,
        request: Request,
    },
    /// Part of a comparison of both sides.
    Census {
        job: i64,
        request: Request,
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
    Test(Question),
}

struct Sent {
    target: Target,
    underway: Underway,
    /// Which of the credentials we have had it was sent with.
    generation: u32,
    /// What it was sent with.
    token: Option<Secret>,
}

/// What came in at one go.
#[derive(Default)]
pub struct Heard {
    pub log: Vec<LogEntry>,
    /// By target, in the order of the worker's targets.
    pub outcomes: Vec<Vec<Outcome>>,
    pub properties: Vec<properties::Answered>,
    pub accounts: Vec<(Target, Seen)>,
    /// A token, to be used once what belongs to it is stored.
    pub granted: Option<Granted>,
    pub notices: Vec<(Target, Notice)>,
    /// Definitions have been read, and the maps have to be refined.
    pub definitions: bool,
    pub associations: Vec<associations::Answered>,
    pub census: Vec<reconcile::Answered>,
}

impl Heard {
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }
}

/// See the module's documentation.
pub struct Requests {
    engine: Engine,
    network: Network,
    underway: HashMap<u64, Sent>,
    next_id: u64,
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
}

impl Requests {
    pub fn new(engine: Engine, network: Network) -> Requests {
        Requests {
            engine,
            network,
            underway: HashMap::new(),
            next_id: 0,
            generation: 0,
            endpoints: HashMap::new(),
            jobs: Vec::new(),
            session: None,
            timeout: Duration::from_secs(30),
            tests: BTreeMap::new(),
            test_again: BTreeSet::new(),
            tested: Vec::new(),
            remarks: HashSet::new(),
        }
    }

    pub fn socket(&self) -> i32 {
        self.engine.socket()
    }

    /// Starts the engine anew when the way to the outside has changed. Requests under way then end
    /// as lost connections do.
    pub fn check_network(&mut self, world: &World) -> Result<(), String> {
        let network = Network {
            proxy: world.settings.http_proxy.clone(),
            ca_file: world.settings.ca_file.clone(),
        };
        if network != self.network && self.underway.is_empty() {
            self.engine = latch::without_signals(|| Engine::start(&network))?;
            self.network = network;
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
    pub fn wanted_batches(&self, worker: &TargetWorker, world: &World) -> usize {
        let has_work =
            worker.queue.ready() > 0 || worker.unread() || worker.retries_due(Instant::now());
        let known = properties::known(worker, world) && worker.preflight.is_known();
        if !has_work || unidentified(worker, world) || !known {
            return 0;
        }
        // Calls that wait for a limit of their own hold up nobody else.
        let general = |planned: &&Planned| planned.call.kind.allowance() == Allowance::General;
        let waiting = worker.planned.iter().filter(general).count();
        let taken = worker.calls_in_flight + waiting;
        let free = worker.most_calls(&world.settings).saturating_sub(taken);
        // With a budget, what is read should leave soon: its state is the state of now.
        if worker.budget.is_some() {
            free.min(usize::from(waiting == 0))
        } else {
            free
        }
    }

    /// Sends planned calls as far as connections, budget and breaker allow.
    pub fn dispatch(&mut self, worker: &mut TargetWorker, world: &World, started: Instant) {
        while !worker.planned.is_empty()
            && !unidentified(worker, world)
            && worker.calls_in_flight < worker.most_calls(&world.settings)
        {
            if !self.has_token(worker) {
                return;
            }
            let Some(next) = next_permitted(worker, started) else {
                return;
            };
            if !worker.breaker.is_closed() {
                self.send(
                    worker.target,
                    world,
                    answers::probe(worker.target, world),
                    Underway::Probe,
                );
                worker.blocked_until = Some(Instant::now() + world.settings.request_timeout);
                return;
            }
            let Some(planned) = worker.planned.remove(next) else {
                return;
            };
            let request = planned.call.request.clone();
            worker.calls_in_flight += 1;
            self.send(worker.target, world, request, Underway::Records(planned));
        }
    }

    fn permitted(&mut self, worker: &mut TargetWorker, started: Instant) -> bool {
        if !self.has_token(worker) {
            return false;
        }
        let permitted = worker.permit(Allowance::General, since(started));
        if let Err(wait) = permitted {
            worker.block(wait);
        }
        permitted.is_ok()
    }

    fn send(
        &mut self,
        target: Target,
        world: &World,
        request: integration_engine::call::Request,
        underway: Underway,
    ) {
        let Ok(endpoint) = world.settings.endpoint(target) else {
            return;
        };
        let credential = self.credential(&endpoint.credential);
        self.hand_over(target, credential, request, None, underway);
    }

    /// Sends a call about associations.
    pub fn send_associations(&mut self, call: AssociationCall, world: &World) {
        let request = call.request.clone();
        self.send(
            Target::HubSpot,
            world,
            request,
            Underway::Associations(call),
        );
    }

    /// Sends a request of a comparison, if one may leave now.
    pub fn send_census(
        &mut self,
        worker: &mut TargetWorker,
        world: &World,
        started: Instant,
        job: i64,
        request: Request,
    ) -> bool {
        if !self.permitted(worker, started) {
            return false;
        }
        worker.calls_in_flight += 1;
        let underway = Underway::Census {
            job,
            request: request.clone(),
        };
        self.send(worker.target, world, request, underway);
        true
    }

    /// Takes in all answers that have come.
    pub fn hear(&mut self, targets: &mut [TargetWorker], world: &World, clock: u64) -> Heard {
        self.engine.hush();
        let mut heard = Heard {
            outcomes: targets.iter().map(|_| Vec::new()).collect(),
            ..Heard::default()
        };
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
            match sent.underway {
                Underway::Records(planned) => {
                    self.note_remarks(&planned.call.request, &answer, &mut heard);
                    let outcomes = hear_records(
                        worker,
                        world,
                        planned,
                        &answer,
                        current,
                        clock,
                        &mut heard.log,
                    );
                    heard.outcomes[index].extend(outcomes);
                }
                Underway::Associations(call) => {
                    let mut entry = answers::plain_entry(sent.target, &call.request, &answer);
                    entry.records = call.pairs.len();
                    let answered = associations::hear(worker, call, &answer.result, current, clock);
                    entry.error.clone_from(&answered.reading().error);
                    entry.correlation_id = answered.reading().correlation_id.clone();
                    heard.log.push(entry);
                    heard.associations.push(answered);
                }
                Underway::Property { entity, creating } => {
                    let request = setup::property_request(world, entity, creating);
                    heard
                        .log
                        .push(answers::plain_entry(sent.target, &request, &answer));
                    self.note_remarks(&request, &answer, &mut heard);
                    if again {
                        let state = if creating {
                            Property::Wanted
                        } else {
                            Property::Unknown
                        };
                        worker.properties.insert(entity, state);
                        continue;
                    }
                    heard.properties.push(properties::hear(
                        worker,
                        entity,
                        creating,
                        &answer.result,
                        clock,
                    ));
                }
                Underway::Definitions { subject, request } => {
                    heard
                        .log
                        .push(answers::plain_entry(sent.target, &request, &answer));
                    heard.definitions |= preflight::hear(worker, subject, &answer.result, clock);
                }
                Underway::Census { job, request } => {
                    heard
                        .log
                        .push(answers::plain_entry(sent.target, &request, &answer));
                    reconcile::note(worker, &answer.result, current, clock);
                    heard.census.push(reconcile::Answered {
                        target: sent.target,
                        job,
                        result: answer.result,
                    });
                }
                Underway::Probe => {
                    let request = answers::probe(sent.target, world);
                    heard
                        .log
                        .push(answers::plain_entry(sent.target, &request, &answer));
                    let signal = answers::signal(sent.target, &answer.result);
                    if again {
                        worker.breaker.success();
                    } else {
                        worker.hear(&signal, &BudgetReport::default(), clock, Instant::now());
                    }
                    worker.blocked_until = None;
                }
                Underway::Token { session } => {
                    self.hear_token(worker, session, &answer, clock, &mut heard);
                }
                Underway::Account => {
                    self.hear_account(worker, world, &answer, !current, clock, &mut heard);
                }
                Underway::Test(question) => {
                    self.hear_test(worker, world, question, &answer, again, &mut heard);
                }
            }
        }
        heard
    }
}

pub use access::unidentified;

/// `current`: it was sent with the credential we have now.
fn hear_records(
    worker: &mut TargetWorker,
    world: &World,
    planned: Planned,
    answer: &Answer,
    current: bool,
    clock: u64,
    log: &mut Vec<LogEntry>,
) -> Vec<Outcome> {
    worker.calls_in_flight = worker.calls_in_flight.saturating_sub(1);
    let reading = answers::read(worker.target, &planned, &answer.result, world);
    let outdated = !current && matches!(reading.signal, TargetSignal::Unauthorized { .. });
    let own = worker.hear_of(planned.call.kind.allowance(), &reading.signal, clock);
    if !outdated && !own {
        worker.hear(&reading.signal, &reading.budget, clock, Instant::now());
    }
    if reading.signal == TargetSignal::Healthy {
        worker.trust.proven();
    }
    answers::note_gauges(world, worker.target, &reading);
    log.push(answers::log_entry(
        worker.target,
        &planned,
        answer,
        &reading,
    ));
    let mut outcomes = answers::outcomes(worker, planned, reading);
    preflight::second_chance(worker, world, &mut outcomes, clock);
    outcomes
}
