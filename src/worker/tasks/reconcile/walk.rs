//! The walk of a comparison: what is asked next, and where it goes on after an answer.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use integration_engine::now::Now;
use integration_engine::record::{RemoteId, Target};
use integration_engine::wire::{Reply, Request, TransportError};
use integration_hubspot::listing::{self, ListingKind};
use integration_mailchimp as mailchimp;
use integration_mailchimp::listing::MembersCursor;
use pgrx::PgSqlErrorCode;
use pgrx::spi::SpiResult;

use super::judge::{self, Judge, Manner};
use super::{Advance, Ask, Asked, Reconciles};
use crate::pg::{self, SqlError, fence::Refusal};
use crate::store;
use crate::store::jobs::backfills::{self, JobEnd};
use crate::store::jobs::drift::{self, Course, ReconcileStage};
use crate::worker::lane::{read_queue, settle};
use crate::worker::target::{LANES, TargetWorker};
use crate::worker::task::{Answered, Question, Turn};
use crate::worker::{Context, associations};

/// What became of judging.
pub(super) enum Judged {
    Done,
    /// There is so much new in the queue that nobody can tell what is on its way.
    Unclear,
    Failed(SqlError),
}

impl Reconciles {
    /// Asks what is to be asked next, as far as that may be.
    pub(super) fn ask(&mut self, turn: &mut Turn) -> SpiResult<()> {
        for index in 0..turn.targets.len() {
            self.repair_records(index, turn)?;
            let worker = &turn.targets[index];
            if !self.due(worker, turn.context, turn.now()) {
                continue;
            }
            let target = worker.target;
            let next = self
                .courses
                .iter()
                .find(|running| running.course.target == target && self.unfinished(running))
                .map(|running| (running.course.job, running.course.stage));
            let Some((job, stage)) = next else { continue };
            self.jobs.go_on();
            match stage {
                ReconcileStage::Finished => self.end_comparison(job, turn.now())?,
                ReconcileStage::Rows | ReconcileStage::Remote | ReconcileStage::Archived => {
                    self.ask_next(index, job, turn)?
                }
            }
        }
        Ok(())
    }

    fn end_comparison(&mut self, job: i64, now: Instant) -> SpiResult<()> {
        store::transaction(|| {
            if backfills::end(job, &JobEnd::Done)? {
                drift::remove(job)?;
                self.courses.retain(|running| running.course.job != job);
                self.jobs.forget(job);
            } else {
                // Somebody is changing it, perhaps cancelling.
                self.jobs.try_again(now);
            }
            Ok(())
        })
    }

    fn ask_next(&mut self, index: usize, job: i64, turn: &mut Turn) -> SpiResult<()> {
        let target = turn.targets[index].target;
        let Some(running) = self.find(job, target) else {
            return Ok(());
        };
        if running.todo.is_empty() {
            match running.course.stage {
                ReconcileStage::Remote | ReconcileStage::Archived => {
                    running.todo.push_back(Ask::Page)
                }
                ReconcileStage::Rows | ReconcileStage::Finished => {
                    store::transaction(|| self.begin_rows(index, job, turn))?;
                }
            }
        }
        let (context, worker) = (&*turn.context, &turn.targets[index]);
        let Some(running) = self.find(job, target) else {
            return Ok(());
        };
        let Some(ask) = running.todo.front() else {
            return Ok(());
        };
        let names = names(context, &running.course);
        let Some(request) = request(worker, context, &running.course, ask, &names) else {
            return Ok(());
        };
        let at = context.now.timestamp;
        if let Some(token) = turn.ask(target, Question::reading(request)) {
            let ask = running.todo.pop_front();
            running.asked = ask.map(|ask| (token, Asked { ask, names, at }));
        }
        Ok(())
    }

    /// The next rows, and which of them are linked. Those that are not are missing there.
    fn begin_rows(&mut self, index: usize, job: i64, turn: &mut Turn) -> SpiResult<()> {
        let target = turn.targets[index].target;
        let Some(running) = self.find(job, target) else {
            return Ok(());
        };
        let course = running.course.clone();
        let Some(source) = turn.context.sources.get(&course.source) else {
            return Ok(());
        };
        let (most, after_all) = match target {
            Target::HubSpot => (listing::PAGE_MAX, ReconcileStage::Remote),
            Target::Mailchimp => (mailchimp::listing::PAGE_MAX, ReconcileStage::Finished),
        };
        let keys = match backfills::next_keys(source, course.mark.as_deref(), None, most) {
            Ok(keys) => keys,
            Err(Refusal::Busy) => {
                self.jobs.try_again(turn.context.now.instant);
                return Ok(());
            }
            Err(why) => {
                return self.refuse(
                    job,
                    target,
                    &why.into_error().to_string(),
                    turn.context.now.instant,
                );
            }
        };
        let advance = Advance {
            stage: match keys.looked_at < most {
                true => after_all,
                false => ReconcileStage::Rows,
            },
            mark: keys.last.or(course.mark),
            after: None,
            looked_at: keys.looked_at as u64,
        };
        let judged = self.judge_many(index, job, turn, |judge, todo| match target {
            Target::HubSpot => judge.rows(&keys.wanted, todo),
            Target::Mailchimp => judge.unmet(&keys.wanted, todo),
        })?;
        if !judged {
            return Ok(());
        }
        if let Some(running) = self.find(job, target) {
            running.advance.get_or_insert(advance);
        }
        self.show(job, target, turn.context.now)
    }

    /// Takes in an answer.
    pub(super) fn hear(&mut self, answered: &Answered, turn: &mut Turn) -> SpiResult<()> {
        let token = answered.token;
        let asked = self.courses.iter_mut().find_map(|running| {
            let (_, asked) = running.asked.take_if(|(known, _)| *known == token)?;
            Some((running.course.job, running.course.target, asked))
        });
        let Some((job, target, asked)) = asked else {
            return Ok(());
        };
        let mut targets = turn.targets.iter();
        let Some(index) = targets.position(|worker| worker.target == target) else {
            return Ok(());
        };
        store::transaction(|| self.hear_census(index, job, asked, &answered.result, turn))
    }

    fn hear_census(
        &mut self,
        index: usize,
        job: i64,
        asked: Asked,
        result: &Result<Reply, TransportError>,
        turn: &mut Turn,
    ) -> SpiResult<()> {
        let target = turn.targets[index].target;
        let again = asked.ask.clone();
        let running = self.find(job, target);
        let after = running.and_then(|running| running.course.after.clone());
        let lists = audiences(&turn.targets[index], turn.context);
        let place = MembersCursor::read(after.as_deref(), &lists);
        let default = &turn.context.settings.mailchimp_api.list;
        match judge::understand(target, &place, default, asked, result) {
            judge::Understood::Answer(asked, page) => {
                let mut advance = None;
                let judged = self.judge_many(index, job, turn, |judge, todo| {
                    advance = judge.answer(asked, page, todo)?;
                    Ok(())
                })?;
                let Some(running) = self.find(job, target) else {
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
                self.show(job, target, turn.context.now)
            }
            judge::Understood::Smaller(parts) => {
                if let Some(running) = self.find(job, target) {
                    parts
                        .into_iter()
                        .rev()
                        .for_each(|part| running.todo.push_front(part));
                }
                Ok(())
            }
            judge::Understood::Later => {
                if let Some(running) = self.find(job, target) {
                    running.todo.push_front(again);
                }
                Ok(())
            }
            judge::Understood::Refused(why) => {
                if let Some(running) = self.find(job, target) {
                    running.todo.push_front(again);
                }
                self.refuse(job, target, &why, turn.context.now.instant)
            }
        }
    }

    /// Has many records judged. `false`: that has to be done again.
    fn judge_many(
        &mut self,
        index: usize,
        job: i64,
        turn: &mut Turn,
        what: impl FnOnce(&mut Judge, &mut VecDeque<Ask>) -> SpiResult<()>,
    ) -> SpiResult<bool> {
        let target = turn.targets[index].target;
        match self.judge(index, job, Manner::Together, turn, what)? {
            Judged::Done => return Ok(true),
            Judged::Unclear => {}
            Judged::Failed(why) if why.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                self.jobs.try_again(turn.context.now.instant);
            }
            Judged::Failed(why) => {
                let now = turn.context.now.instant;
                self.refuse(job, target, &why.to_string(), now)?;
            }
        }
        Ok(false)
    }

    /// Has something judged by what the tables say at one moment.
    pub(super) fn judge(
        &mut self,
        index: usize,
        job: i64,
        manner: Manner,
        turn: &mut Turn,
        what: impl FnOnce(&mut Judge, &mut VecDeque<Ask>) -> SpiResult<()>,
    ) -> SpiResult<Judged> {
        let worker = &mut turn.targets[index];
        let target = worker.target;
        // All that is read here is read with one snapshot: a change that the rows show is in the
        // queue, or was settled before.
        LANES.into_iter().for_each(|lane| worker.look_at(lane));
        let leftover = read_queue::read_queue(worker, turn.context)?;
        let known = leftover.unknown.is_empty() && !worker.unread();
        if known && let Some(running) = self.find(job, target) {
            let mut todo = running.todo.clone();
            let course = running.course.clone();
            let mut judge = Judge::new(turn.context, turn.targets, course);
            judge.manner = manner;
            let judged = pg::guarded(AssertUnwindSafe(|| what(&mut judge, &mut todo)));
            let (unlinked, apart) = (judge.unlinked, judge.apart);
            match judged {
                Ok(judged) => judged?,
                Err(why) => return Ok(Judged::Failed(why)),
            }
            if let Some(running) = self.find(job, target) {
                running.todo = todo;
                running.parts.extend(apart);
            }
            let settled = associations::Settled {
                unlinked: &unlinked,
                ..Default::default()
            };
            associations::note(&mut turn.targets[index], turn.context, settled)?;
        }
        let worker = &mut turn.targets[index];
        if !leftover.empty.is_empty() {
            settle::settle(worker, turn.context, Vec::new(), leftover.empty)?;
        }
        Ok(match known {
            true => Judged::Done,
            false => Judged::Unclear,
        })
    }

    /// Moves the mark, and shows people how far it is.
    pub(super) fn show(&mut self, job: i64, target: Target, now: Now) -> SpiResult<()> {
        let Some(running) = self.find(job, target) else {
            return Ok(());
        };
        let due = running.go_on(now)? || running.course.stage == ReconcileStage::Finished;
        if due {
            backfills::progress(job, self.eta(job, now.timestamp))?;
        }
        Ok(())
    }
}

/// The fields that are compared.
fn names(context: &Context, course: &Course) -> Vec<String> {
    let source = context.sources.get(&course.source);
    let fields = source
        .and_then(|source| source.maps.get(&course.target))
        .map_or(&[][..], |map| &map.fields);
    let own = &context.settings.hubspot_api.external_id_property;
    fields
        .iter()
        .map(|field| field.remote.clone())
        .filter(|name| !name.eq_ignore_ascii_case(own))
        .collect()
}

/// The audiences that are walked through.
pub(super) fn audiences(worker: &TargetWorker, context: &Context) -> Vec<String> {
    worker
        .audiences
        .in_use(&context.settings.mailchimp_api.list)
}

fn request(
    worker: &TargetWorker,
    context: &Context,
    course: &Course,
    ask: &Ask,
    names: &[String],
) -> Option<Request> {
    let settings = &context.settings.hubspot_api;
    let entity = context.sources.get(&course.source)?.entity;
    Some(match (ask, course.target) {
        (Ask::Linked(pairs, wanted), _) => {
            let ids: Vec<RemoteId> = pairs.iter().map(|(_, id)| id.clone()).collect();
            listing::read_request(settings, entity, &ids, names, *wanted)
        }
        (Ask::Strangers(ids), _) => {
            let key = [settings.external_id_property.clone()];
            listing::read_request(settings, entity, ids, &key, ListingKind::Values)
        }
        (Ask::Lost(_, id), _) => listing::single_request(settings, entity, id),
        (Ask::LostMember(_, id, list), _) => mailchimp::listing::member_request(list, id),
        (Ask::Page | Ask::PageAgain(_), Target::HubSpot) => {
            listing::list_request(settings, entity, course.after.as_deref())
        }
        (Ask::Page | Ask::PageAgain(_), Target::Mailchimp) => {
            let archived = course.stage == ReconcileStage::Archived;
            let place = MembersCursor::read(course.after.as_deref(), &audiences(worker, context));
            mailchimp::listing::page_request(&place.list, place.offset, archived)
        }
    })
}
