//! One target in the worker: its queue, its budget, whether it may send, and what it says of itself.

pub mod account;
pub mod allowance;
mod concurrency;
mod daily;
mod guard;
mod held;
pub mod hubspot;
pub mod mailchimp;
pub mod opt_outs;
pub mod preflight;
mod retries;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use integration_engine::delivery::call::Allowance;
use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::delivery::settlement::InFlight;
use integration_engine::delivery::target_state::TargetState;
use integration_engine::limits::BudgetReport;
use integration_engine::limits::breaker::Breaker;
use integration_engine::limits::concurrency::Concurrency;
use integration_engine::limits::missing_scopes::MissingScopes;
use integration_engine::limits::rate::{Budget, Rate};
use integration_engine::now::Now;
use integration_engine::queue::scan::{Position, Scan, Snapshot};
use integration_engine::queue::{Parked, Queue};
use integration_engine::record::{Entity, Lane, RecordRef, Target, Timestamp};
use integration_hubspot::scopes::Scope;
use integration_mailchimp::provision::Provision;

use crate::config::Settings;
use crate::services::Call;
use account::TargetAccount;
use daily::Daily;
use preflight::{DefinitionAlerts, Preflight};

/// Failing calls in a row before the target counts as down.
const BREAKER_THRESHOLD: u32 = 3;

/// The lanes of the queue table.
pub const LANES: [Lane; 5] = [
    Lane::OptOut,
    Lane::Live,
    Lane::Retry,
    Lane::Backfill,
    Lane::Reconcile,
];

/// A queue row's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedRow {
    pub lane: Lane,
    pub position: Position,
}

/// Words in consent columns that people have been told of: by table, column and word.
pub type ToldWords = BTreeSet<(String, String, String)>;

/// What one lane of the queue table has to be read for.
#[derive(Default)]
pub struct LaneScan {
    /// The walk under way.
    pub scan: Option<Scan>,
    /// What the last finished walk saw.
    pub seen: Option<Snapshot>,
    /// New rows may be there.
    pub stale: bool,
    /// Keys that the rows read last held on average.
    pub keys_a_row: Option<usize>,
}

/// A call with the records it carries, in the order of its items.
pub struct PlannedCall {
    pub call: Call,
    pub flights: Vec<InFlight>,
    /// Its deletions have been counted by the guard.
    pub guarded: bool,
    /// Opt-outs, sent although nothing else may leave.
    pub urgent: bool,
}

/// What a target says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    pub state: TargetState,
    pub reason: Option<String>,
}

impl TargetStatus {
    pub fn because(state: TargetState, reason: impl Into<String>) -> TargetStatus {
        TargetStatus {
            state,
            reason: Some(reason.into()),
        }
    }
}

/// Whether HubSpot has our unique property on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueProperty {
    Unknown,
    Asked,
    Ready,
    Missing,
    /// The credential may not see it.
    Refused,
    /// Missing, and somebody wants it created.
    Wanted,
    Creating,
}

/// See the module's documentation.
pub struct TargetWorker {
    pub target: Target,
    pub queue: Queue<QueuedRow>,
    /// Queue rows of held tables.
    pub parked: Parked,
    pub noted_holds: held::Noted,
    /// Changes made by then may have been sent by an earlier worker.
    pub inherited_until: Timestamp,
    pub lanes: BTreeMap<Lane, LaneScan>,
    /// Calls ready to go that wait for the budget.
    pub planned: VecDeque<PlannedCall>,
    pub calls_in_flight: usize,
    pub budget: Option<Budget>,
    /// Of calls that have limits of their own.
    pub budgets: BTreeMap<Allowance, Budget>,
    rate: Option<Rate>,
    pub breaker: Breaker,
    /// Nothing is sent before.
    pub not_before: Option<(Instant, TargetStatus)>,
    pub paused: Option<TargetStatus>,
    pub fenced: bool,
    /// Why, for people.
    pub fenced_why: Option<String>,
    pub held: Option<TargetStatus>,
    pub last_failure: String,
    /// How much it is asked for at once, within the settings.
    pub concurrency: Concurrency,
    /// Budget or breaker said no until then.
    pub blocked_until: Option<Instant>,
    /// When the oldest record that is ready and does not fill a batch became so.
    pub ready_since: Option<Instant>,
    pub next_retry: Option<Instant>,
    pub retrying: i64,
    /// Some of them are opt-outs.
    pub retrying_opt_outs: bool,
    pub urgent: opt_outs::Urgent,
    /// Records a call carried on average, when some were planned last.
    pub records_a_call: usize,
    /// Words in consent columns that an alert names.
    pub words: ToldWords,
    /// Queue rows of backfills that are not settled.
    pub chunks: usize,
    /// Requests that erasures still have to make.
    pub erasures: i64,
    pub told: Option<TargetStatus>,
    pub properties: BTreeMap<Entity, UniqueProperty>,
    pub others: hubspot::Others,
    /// HubSpot: tables whose records are somebody else's.
    pub collisions: hubspot::Collisions,
    /// What is known of the fields that are mapped.
    pub preflight: Preflight,
    /// Merge fields being created.
    pub provision: Provision,
    pub preflight_told: DefinitionAlerts,
    /// Deletions lately, for the guard.
    pub deletions: VecDeque<(Instant, usize)>,
    /// Records whose deletion has been counted, and is not settled: it is planned more than once.
    pub counted: HashSet<RecordRef>,
    pub guard_off_until: Option<Instant>,
    pub account: TargetAccount,
    pub daily: Daily,
    pub associations: hubspot::AssociationsOwed,
    /// What the credential may not do.
    pub missing_scopes: MissingScopes<Scope>,
    pub missing_scopes_told: hubspot::ScopeAlerts,
    /// Mailchimp's.
    pub audiences: mailchimp::Audiences,
}

impl TargetWorker {
    pub fn new(target: Target, settings: &Settings, now: Now) -> TargetWorker {
        let fresh = || LaneScan {
            stale: true,
            ..LaneScan::default()
        };
        TargetWorker {
            target,
            queue: Queue::default(),
            parked: Parked::default(),
            noted_holds: held::Noted::default(),
            inherited_until: Timestamp::default(),
            lanes: LANES.into_iter().map(|lane| (lane, fresh())).collect(),
            planned: VecDeque::new(),
            calls_in_flight: 0,
            budget: None,
            budgets: BTreeMap::new(),
            rate: None,
            breaker: Breaker::new(
                BREAKER_THRESHOLD,
                settings.retry.base,
                settings.retry.max.min(Duration::from_secs(60)),
            ),
            not_before: None,
            paused: None,
            fenced: false,
            fenced_why: None,
            held: None,
            last_failure: String::new(),
            concurrency: Concurrency::default(),
            blocked_until: None,
            ready_since: None,
            next_retry: Some(now.instant),
            retrying: 0,
            retrying_opt_outs: false,
            urgent: opt_outs::Urgent::default(),
            records_a_call: usize::MAX,
            words: Default::default(),
            chunks: 0,
            erasures: 0,
            told: None,
            properties: BTreeMap::new(),
            others: Default::default(),
            collisions: Default::default(),
            preflight: Preflight::default(),
            provision: Provision::default(),
            preflight_told: DefinitionAlerts::default(),
            deletions: VecDeque::new(),
            counted: HashSet::new(),
            guard_off_until: None,
            account: TargetAccount::default(),
            daily: Daily::default(),
            associations: hubspot::AssociationsOwed::new(now.instant),
            missing_scopes: MissingScopes::default(),
            missing_scopes_told: hubspot::ScopeAlerts::default(),
            audiences: mailchimp::Audiences::default(),
        }
    }

    /// New settings: the budget starts anew if its rate changed, a rejected credential gets another chance.
    pub fn configure(&mut self, settings: &Settings, credential_changed: bool) {
        let rate = settings
            .endpoint(self.target)
            .ok()
            .and_then(|endpoint| endpoint.rate);
        if rate != self.rate {
            self.budget = rate
                .as_ref()
                .map(|rate| Budget::new(rate.limit, rate.interval));
            self.rate = rate;
        }
        self.daily.configure(
            settings
                .endpoint(self.target)
                .ok()
                .and_then(|endpoint| endpoint.daily_limit),
        );
        if credential_changed {
            self.account.doubt();
            self.not_before = None;
            self.properties.clear();
            self.others = Default::default();
            self.forget_missing_scopes();
            self.preflight.forget();
            self.breaker = Breaker::new(
                BREAKER_THRESHOLD,
                settings.retry.base,
                settings.retry.max.min(Duration::from_secs(60)),
            );
        }
    }

    /// Calls that may be under way at once, at present.
    pub fn most_calls(&self, settings: &Settings) -> usize {
        let configured = concurrency::connections(self.target, settings);
        if self.breaker.is_closed() {
            self.concurrency.requests(configured)
        } else {
            1
        }
    }

    /// Takes note of what an answer says about the target.
    pub fn hear(&mut self, signal: &TargetSignal, report: &BudgetReport, now: Now) {
        if let Some(budget) = &mut self.budget {
            budget.report(now.clock, report);
        }
        self.daily.hear(report, now.instant);
        match signal {
            TargetSignal::Healthy => {
                self.breaker.success();
                if daily::used_up(report) {
                    let why = format!("{}: the day's requests are used up", self.target);
                    daily::rest(self, None, &why, now);
                }
            }
            TargetSignal::Failing { why } => {
                self.breaker.failure(
                    now.clock,
                    now.jitter(u64::from(self.target.number().unsigned_abs())),
                );
                self.last_failure.clone_from(why);
            }
            TargetSignal::Throttled { wait, why } => {
                self.breaker.success();
                if let Some(budget) = &mut self.budget {
                    budget.throttle(now.clock, *wait);
                }
                self.rest(
                    now.instant,
                    *wait,
                    TargetStatus::because(TargetState::Throttled, why),
                );
            }
            TargetSignal::DailyLimit { until, why } => daily::rest(self, *until, why, now),
            TargetSignal::Crowded { wait, why } => {
                let wait = self.concurrency.wait(*wait);
                self.rest(
                    now.instant,
                    wait,
                    TargetStatus::because(TargetState::Throttled, why),
                );
            }
            TargetSignal::Unauthorized { why } | TargetSignal::Forbidden { why } => {
                let state = TargetStatus::because(TargetState::Unauthorized, why);
                let wait = self.account.refuse(state.clone(), now.instant);
                self.rest(now.instant, wait, state);
            }
        }
    }

    /// Records in a planned call that is not made.
    pub fn give_back(&mut self, planned: PlannedCall) {
        for flight in planned.flights {
            self.queue.put_back(flight.handle);
        }
    }

    /// Records in memory; what is left of held tables there is no reason to let the others wait.
    pub fn in_memory(&self) -> usize {
        self.queue.len() - self.queue.parked()
    }

    /// Nothing is sent before `wait` has passed, for this reason.
    pub fn rest(&mut self, now: Instant, wait: Duration, state: TargetStatus) {
        let until = now + wait;
        if self
            .not_before
            .as_ref()
            .is_none_or(|(known, _)| *known < until)
        {
            self.not_before = Some((until, state));
        }
    }

    /// New rows may be in a lane of the queue table.
    pub fn look_at(&mut self, lane: Lane) {
        if let Some(scan) = self.lanes.get_mut(&lane) {
            scan.stale = true;
        }
    }

    /// Whether some of the queue table is unread.
    pub fn unread(&self) -> bool {
        let new = |lane: &LaneScan| lane.stale || lane.scan.is_some();
        self.lanes.values().any(new) || self.parked.has_released()
    }

    /// Whether opt-outs may be in the tables that have not been read.
    pub fn unread_opt_outs(&self, now: Instant) -> bool {
        let lane = self.lanes.get(&Lane::OptOut);
        lane.is_some_and(|lane| lane.stale || lane.scan.is_some())
            || self.parked.has_released()
            || (self.retrying_opt_outs && self.retries_due(now))
    }

    pub fn pause(&mut self, reason: Option<String>) {
        let mut reason = reason
            .unwrap_or_else(|| format!("SELECT integration.resume('{}'); goes on", self.target));
        if self.target == Target::Mailchimp {
            reason.push_str(" (opt-outs wait, too)");
        }
        self.paused = Some(TargetStatus::because(TargetState::Paused, reason));
    }
}
