//! Comparisons of both sides: the CRM's rows with the records they are linked to, and then the
//! service's records with the rows.
//!
//! They ask when no other lane has anything to send, one request at a time. An answer is judged in
//! the transaction that stores what it comes to, by one snapshot of rows, links and queue; whatever
//! was on its way since the question is left out. Only what is in memory is lost at a crash: from the
//! mark on it is asked again.

mod judge;
mod members;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use integration_engine::call::{Reply, Request, TransportError};
use integration_engine::hubspot::{self, census, census::Wanted};
use integration_engine::mailchimp;
use integration_engine::outcome::TargetSignal;
use integration_engine::progress::Pace;
use integration_engine::record::{RecordKey, RemoteId, Target, Timestamp};
use pgrx::PgSqlErrorCode;
use pgrx::spi::SpiResult;

use super::target::{LANES, Property, TargetWorker};
use super::{Worker, World, answers, backfill, intake, now_ms, properties, requests, settle};
use crate::store;
use crate::store::backfills::{self, End};
use crate::store::drift::{self, Course, Stage};

/// Answers that make no sense, or rows that cannot be read, before a job fails.
const MOST_FAILURES: u32 = 3;

/// How long until then, and how often at most progress is shown.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Something to be asked.
#[derive(Clone, Debug)]
enum Ask {
    /// The records that rows are linked to.
    Linked(Vec<(RecordKey, RemoteId)>, Wanted),
    /// One that was not among them.
    Lost(RecordKey, RemoteId),
    /// The next records of all.
    Page,
    /// The same members once more: are these still there?
    PageAgain(HashSet<String>),
    /// Those of them that are linked to no row: are they still there?
    Strangers(Vec<RemoteId>),
}

/// A question under way.
#[derive(Clone, Debug)]
struct Asked {
    ask: Ask,
    /// The fields that were asked for.
    names: Vec<String>,
    at: Timestamp,
}

/// Where the walk is once all that was to be asked has been.
#[derive(Clone, Debug)]
struct Advance {
    stage: Stage,
    mark: Option<Vec<String>>,
    after: Option<String>,
    looked_at: u64,
}

struct Running {
    course: Course,
    pace: Pace,
    shown_at: Option<Instant>,
    failures: u32,
    todo: VecDeque<Ask>,
    asked: Option<Asked>,
    advance: Option<Advance>,
}

impl Running {
    fn new(course: Course) -> Running {
        Running {
            course,
            pace: Pace::default(),
            shown_at: None,
            failures: 0,
            todo: VecDeque::new(),
            asked: None,
            advance: None,
        }
    }

    /// Moves the mark if nothing is left to be asked below it. In the transaction that stores what
    /// was found there.
    fn go_on(&mut self) -> SpiResult<bool> {
        if !self.todo.is_empty() {
            return Ok(false);
        }
        let Some(advance) = self.advance.take() else {
            return Ok(false);
        };
        let course = &mut self.course;
        course.done += advance.looked_at;
        match (course.stage, advance.stage) {
            // As many records there as rows here, as far as anybody knows.
            (Stage::Rows, Stage::Remote) => course.total = course.done * 2,
            (Stage::Archived, Stage::Rows) => course.total += course.done,
            _ => {}
        }
        (course.stage, course.mark, course.after) = (advance.stage, advance.mark, advance.after);
        course.total = match course.stage {
            Stage::Finished => course.done,
            Stage::Rows | Stage::Remote | Stage::Archived => course.total.max(course.done),
        };
        drift::save(course)?;
        let now = Instant::now();
        let due = self.shown_at.is_none_or(|at| now - at >= A_MOMENT);
        if due {
            self.shown_at = Some(now);
            self.pace.note(Timestamp(now_ms()), self.course.done);
        }
        Ok(due)
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Reconciles {
    /// Oldest job first.
    courses: Vec<Running>,
    /// What was last written about each job: what it waits for, if anything.
    told: HashMap<i64, Option<String>>,
    /// Something has to be tried again, or looked up anew; not before then.
    retry_at: Option<Instant>,
    outdated: bool,
}

impl Reconciles {
    /// Reads which there are, and clears away those that are over.
    pub fn load(&mut self, world: &World) -> SpiResult<()> {
        (self.outdated, self.retry_at) = (false, None);
        let stored = drift::load()?;
        let mut over = BTreeSet::new();
        for course in &stored {
            let sent = world
                .sources
                .get(&course.source)
                .is_some_and(|source| source.maps.contains_key(&course.target));
            if !course.open {
                over.insert(course.job);
            } else if !sent && !over.contains(&course.job) {
                let why = format!("the table is no longer sent to {}", course.target);
                if backfills::end(course.job, &End::Cancelled(why))? {
                    over.insert(course.job);
                } else {
                    self.try_again();
                }
            }
        }
        over.iter().try_for_each(|job| drift::remove(*job))?;
        self.told.retain(|job, _| !over.contains(job));
        let mut before: HashMap<(i64, Target), Running> = self
            .courses
            .drain(..)
            .map(|running| ((running.course.job, running.course.target), running))
            .collect();
        self.courses = stored
            .into_iter()
            .filter(|course| !over.contains(&course.job))
            .map(|course| {
                before
                    .remove(&(course.job, course.target))
                    .unwrap_or_else(|| Running::new(course))
            })
            .collect();
        Ok(())
    }

    fn try_again(&mut self) {
        self.outdated = true;
        self.retry_at = Some(Instant::now() + A_MOMENT);
    }

    /// Whether the configuration has to be read again first.
    pub fn outdated(&self, now: Instant) -> bool {
        self.outdated && self.retry_at.is_none_or(|at| at <= now)
    }

    /// How long until there is something to do by itself.
    pub fn next_look(&self, targets: &[TargetWorker], world: &World) -> Option<Duration> {
        let now = Instant::now();
        if targets.iter().any(|worker| self.due(worker, world, now)) {
            return Some(Duration::ZERO);
        }
        self.retry_at.map(|at| at.saturating_duration_since(now))
    }

    fn due(&self, worker: &TargetWorker, world: &World, now: Instant) -> bool {
        let free = worker.blocked_until.is_none_or(|until| until <= now)
            && self.retry_at.is_none_or(|at| at <= now);
        let mine = self
            .courses
            .iter()
            .find(|running| running.course.target == worker.target && self.unfinished(running));
        free && mine.is_some_and(|running| {
            running.asked.is_none() && may_ask(worker, world, &running.course, now)
        })
    }

    /// Whether something is left to do about it; ending its job included.
    fn unfinished(&self, running: &Running) -> bool {
        running.course.stage != Stage::Finished || self.finished(running.course.job)
    }

    fn finished(&self, job: i64) -> bool {
        self.courses
            .iter()
            .filter(|running| running.course.job == job)
            .all(|running| running.course.stage == Stage::Finished)
    }

    fn find(&mut self, job: i64, target: Target) -> Option<&mut Running> {
        self.courses
            .iter_mut()
            .find(|running| running.course.job == job && running.course.target == target)
    }

    fn eta(&self, job: i64) -> Option<Timestamp> {
        let now = Timestamp(now_ms());
        let of_job = self
            .courses
            .iter()
            .filter(|running| running.course.job == job);
        let etas = of_job.map(|running| {
            let course = &running.course;
            let left = course.total.saturating_sub(course.done);
            running.pace.eta(now, left)
        });
        etas.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// It cannot go on; if that is not over soon, the job fails.
    fn refuse(&mut self, job: i64, target: Target, why: &str) -> SpiResult<()> {
        self.try_again();
        let Some(running) = self.find(job, target) else {
            return Ok(());
        };
        running.failures += 1;
        if running.failures >= MOST_FAILURES {
            backfills::end(job, &End::Failed(why.to_owned()))?;
        }
        Ok(())
    }

    /// What is to be written about jobs: those that wait for something now, or no longer.
    pub fn news(&self, targets: &[TargetWorker], world: &World) -> Vec<(i64, Option<String>)> {
        let mut waits: BTreeMap<i64, Vec<Option<String>>> = BTreeMap::new();
        for Running { course, .. } in &self.courses {
            let worker = targets.iter().find(|worker| worker.target == course.target);
            if let Some(worker) = worker.filter(|_| course.stage != Stage::Finished) {
                let why = backfill::waits_for(worker, world, course.source);
                waits.entry(course.job).or_default().push(why);
            }
        }
        waits
            .into_iter()
            .map(|(job, reasons)| {
                let reasons: Option<Vec<String>> = reasons.into_iter().collect();
                (job, reasons.map(|reasons| reasons.join("; ")))
            })
            .filter(|(job, waits_for)| self.told.get(job) != Some(waits_for))
            .collect()
    }

    /// Writes it.
    pub fn tell(&mut self, news: Vec<(i64, Option<String>)>) -> SpiResult<()> {
        for (job, waits_for) in news {
            if backfills::tell(job, waits_for.as_deref())? {
                self.told.insert(job, waits_for);
            } else if !self.outdated {
                self.try_again();
            }
        }
        Ok(())
    }
}

/// Whether all earlier lanes leave something of the budget: they have nothing to send.
fn may_ask(worker: &TargetWorker, world: &World, course: &Course, now: Instant) -> bool {
    // A target that fails has to be asked something now and then, to see whether it is well again.
    let state = worker.state(&world.settings, now).name;
    matches!(state, "running" | "outage")
        && !requests::unidentified(worker, world)
        && properties::known(worker, world)
        && worker.preflight.is_known()
        && backfill::property(worker, world, course.source) == Property::Ready
        && worker.queue.is_empty()
        && worker.planned.is_empty()
        && worker.chunks == 0
        && !worker.unread()
        && !worker.retries_due(now)
        && worker.calls_in_flight < worker.most_calls(&world.settings)
}

/// An answer that came in.
pub struct Answered {
    pub target: Target,
    pub job: i64,
    pub result: Result<Reply, TransportError>,
}

/// What an answer says about its target. `current`: it was asked with the credential we have now.
pub fn note(
    worker: &mut TargetWorker,
    result: &Result<Reply, TransportError>,
    current: bool,
    clock: u64,
) {
    worker.calls_in_flight = worker.calls_in_flight.saturating_sub(1);
    worker.blocked_until = None;
    if matches!(result, Err(TransportError::TooLarge(_))) {
        // It answers all right.
        worker.breaker.success();
        return;
    }
    let signal = answers::signal(worker.target, result);
    if !current && matches!(signal, TargetSignal::Unauthorized { .. }) {
        return;
    }
    let budget = match (worker.target, result) {
        (Target::HubSpot, Ok(reply)) => hubspot::budget(reply),
        _ => Default::default(),
    };
    if signal == TargetSignal::Healthy {
        worker.trust.proven();
    }
    worker.hear(&signal, &budget, clock, Instant::now());
}

impl Worker {
    /// Asks what is to be asked next, as far as that may be.
    pub fn compare(&mut self) -> SpiResult<()> {
        for index in 0..self.targets.len() {
            let (worker, now) = (&self.targets[index], Instant::now());
            if !self.reconciles.due(worker, &self.world, now) {
                continue;
            }
            let target = worker.target;
            let next = self
                .reconciles
                .courses
                .iter()
                .find(|running| {
                    running.course.target == target && self.reconciles.unfinished(running)
                })
                .map(|running| (running.course.job, running.course.stage));
            let Some((job, stage)) = next else { continue };
            self.reconciles.retry_at = None;
            match stage {
                Stage::Finished => self.end_comparison(job)?,
                Stage::Rows | Stage::Remote | Stage::Archived => self.ask_next(index, job)?,
            }
        }
        Ok(())
    }

    fn end_comparison(&mut self, job: i64) -> SpiResult<()> {
        store::transaction(|| {
            if backfills::end(job, &End::Done)? {
                drift::remove(job)?;
                self.reconciles
                    .courses
                    .retain(|running| running.course.job != job);
                self.reconciles.told.remove(&job);
            } else {
                // Somebody is changing it, perhaps cancelling.
                self.reconciles.try_again();
            }
            Ok(())
        })
    }

    fn ask_next(&mut self, index: usize, job: i64) -> SpiResult<()> {
        let target = self.targets[index].target;
        let Some(running) = self.reconciles.find(job, target) else {
            return Ok(());
        };
        if running.todo.is_empty() {
            match running.course.stage {
                Stage::Remote | Stage::Archived => running.todo.push_back(Ask::Page),
                Stage::Rows | Stage::Finished => {
                    store::transaction(|| self.begin_rows(index, job))?;
                }
            }
        }
        let (world, worker) = (&self.world, &mut self.targets[index]);
        let Some(running) = self.reconciles.find(job, target) else {
            return Ok(());
        };
        let Some(ask) = running.todo.front() else {
            return Ok(());
        };
        let names = names(world, &running.course);
        let Some(request) = request(world, &running.course, ask, &names) else {
            return Ok(());
        };
        let at = Timestamp(now_ms());
        if self
            .requests
            .send_census(worker, world, self.started, job, request)
        {
            running.asked = running.todo.pop_front().map(|ask| Asked { ask, names, at });
        }
        Ok(())
    }

    /// The next rows, and which of them are linked. Those that are not are missing there.
    fn begin_rows(&mut self, index: usize, job: i64) -> SpiResult<()> {
        let target = self.targets[index].target;
        let Some(running) = self.reconciles.find(job, target) else {
            return Ok(());
        };
        let course = running.course.clone();
        let Some(source) = self.world.sources.get(&course.source) else {
            return Ok(());
        };
        let (most, after_all) = match target {
            Target::HubSpot => (census::PAGE_MAX, Stage::Remote),
            Target::Mailchimp => (mailchimp::census::PAGE_MAX, Stage::Finished),
        };
        let keys = match backfills::next_keys(source, course.mark.as_deref(), None, most) {
            Ok(keys) => keys?,
            Err(why) if why.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                self.reconciles.try_again();
                return Ok(());
            }
            Err(why) => return self.reconciles.refuse(job, target, &why.message),
        };
        let advance = Advance {
            stage: match keys.looked_at < most {
                true => after_all,
                false => Stage::Rows,
            },
            mark: keys.last.or(course.mark),
            after: None,
            looked_at: keys.looked_at as u64,
        };
        let judged = self.judge(index, job, |judge, todo| match target {
            Target::HubSpot => judge.rows(&keys.wanted, todo),
            Target::Mailchimp => judge.unmet(&keys.wanted, todo),
        })?;
        if !judged {
            return Ok(());
        }
        if let Some(running) = self.reconciles.find(job, target) {
            running.advance.get_or_insert(advance);
        }
        self.show(job, target)
    }

    /// Takes in answers.
    pub(super) fn take_census(&mut self, answered: Vec<Answered>) -> SpiResult<()> {
        for Answered {
            target,
            job,
            result,
        } in answered
        {
            let index = self.targets.iter().position(|w| w.target == target);
            let asked = self
                .reconciles
                .find(job, target)
                .and_then(|running| running.asked.take());
            if let (Some(index), Some(asked)) = (index, asked) {
                store::transaction(|| self.hear_census(index, job, asked, &result))?;
            }
        }
        Ok(())
    }

    fn hear_census(
        &mut self,
        index: usize,
        job: i64,
        asked: Asked,
        result: &Result<Reply, TransportError>,
    ) -> SpiResult<()> {
        let target = self.targets[index].target;
        let again = asked.ask.clone();
        let running = self.reconciles.find(job, target);
        let offset = running.map_or(0, |running| offset(&running.course));
        match judge::understand(target, offset, asked, result) {
            judge::Understood::Answer(asked, page) => {
                let mut advance = None;
                let judged = self.judge(index, job, |judge, todo| {
                    advance = judge.answer(asked, page, todo)?;
                    Ok(())
                })?;
                let Some(running) = self.reconciles.find(job, target) else {
                    return Ok(());
                };
                if !judged {
                    running.todo.push_front(again);
                    return Ok(());
                }
                running.failures = 0;
                if advance.is_some() {
                    running.advance = advance;
                }
                self.show(job, target)
            }
            judge::Understood::Smaller(parts) => {
                if let Some(running) = self.reconciles.find(job, target) {
                    parts
                        .into_iter()
                        .rev()
                        .for_each(|part| running.todo.push_front(part));
                }
                Ok(())
            }
            judge::Understood::Later => {
                if let Some(running) = self.reconciles.find(job, target) {
                    running.todo.push_front(again);
                }
                Ok(())
            }
            judge::Understood::Refused(why) => {
                if let Some(running) = self.reconciles.find(job, target) {
                    running.todo.push_front(again);
                }
                self.reconciles.refuse(job, target, &why)
            }
        }
    }

    /// Has something judged by what the tables say at one moment. `false`: there is so much new in
    /// the queue that nobody can tell what is on its way.
    fn judge(
        &mut self,
        index: usize,
        job: i64,
        what: impl FnOnce(&mut judge::Judge, &mut VecDeque<Ask>) -> SpiResult<()>,
    ) -> SpiResult<bool> {
        let worker = &mut self.targets[index];
        let target = worker.target;
        // All that is read here is read with one snapshot: a change that the rows show is in the
        // queue, or was settled before.
        LANES.into_iter().for_each(|lane| worker.look_at(lane));
        let leftover = intake::read_queue(worker, &self.world)?;
        let known = leftover.unknown.is_empty() && !worker.unread();
        if known && let Some(running) = self.reconciles.find(job, target) {
            let mut todo = std::mem::take(&mut running.todo);
            let course = running.course.clone();
            let mut judge = judge::Judge::new(&self.world, &self.targets, course);
            what(&mut judge, &mut todo)?;
            let unlinked = judge.unlinked;
            if let Some(running) = self.reconciles.find(job, target) {
                running.todo = todo;
            }
            let settled = super::associations::Settled {
                unlinked: &unlinked,
                ..Default::default()
            };
            super::associations::note(&mut self.targets[index], &self.world, settled)?;
        }
        let worker = &mut self.targets[index];
        if !leftover.empty.is_empty() {
            settle::settle(worker, &self.world, Vec::new(), leftover.empty)?;
        }
        Ok(known)
    }

    /// Moves the mark, and shows people how far it is.
    fn show(&mut self, job: i64, target: Target) -> SpiResult<()> {
        let Some(running) = self.reconciles.find(job, target) else {
            return Ok(());
        };
        let due = running.go_on()? || running.course.stage == Stage::Finished;
        if due {
            backfills::progress(job, self.reconciles.eta(job))?;
        }
        Ok(())
    }
}

/// The fields that are compared.
fn names(world: &World, course: &Course) -> Vec<String> {
    let source = world.sources.get(&course.source);
    let fields = source
        .and_then(|source| source.maps.get(&course.target))
        .map_or(&[][..], |map| &map.fields);
    let own = &world.settings.hubspot_api.external_id_property;
    fields
        .iter()
        .map(|field| field.remote.clone())
        .filter(|name| !name.eq_ignore_ascii_case(own))
        .collect()
}

/// Where the next page of members begins.
fn offset(course: &Course) -> u64 {
    let after = course.after.as_deref();
    after.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn request(world: &World, course: &Course, ask: &Ask, names: &[String]) -> Option<Request> {
    let settings = &world.settings.hubspot_api;
    let list = &world.settings.mailchimp_api.list;
    let entity = world.sources.get(&course.source)?.entity;
    Some(match (ask, course.target) {
        (Ask::Linked(pairs, wanted), _) => {
            let ids: Vec<RemoteId> = pairs.iter().map(|(_, id)| id.clone()).collect();
            census::read_request(settings, entity, &ids, names, *wanted)
        }
        (Ask::Strangers(ids), _) => {
            let key = [settings.external_id_property.clone()];
            census::read_request(settings, entity, ids, &key, Wanted::Values)
        }
        (Ask::Lost(_, id), Target::HubSpot) => census::single_request(settings, entity, id),
        (Ask::Lost(_, id), Target::Mailchimp) => mailchimp::census::member_request(list, id),
        (Ask::Page | Ask::PageAgain(_), Target::HubSpot) => {
            census::list_request(settings, entity, course.after.as_deref())
        }
        (Ask::Page | Ask::PageAgain(_), Target::Mailchimp) => {
            let archived = course.stage == Stage::Archived;
            mailchimp::census::page_request(list, offset(course), archived)
        }
    })
}
