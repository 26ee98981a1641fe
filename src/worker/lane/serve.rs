//! Serving one target: read, plan, settle what needs no call, send.

use integration_engine::record::{SourceId, Target};
use pgrx::spi::SpiResult;

use crate::pg::watch;
use crate::services::dispatch;
use crate::store::queue::changes;
use crate::store::{self};
use crate::worker::hubspot::missing_scopes;
use crate::worker::lane::Road;
use crate::worker::lane::{intents, plan, read_queue, settle};
use crate::worker::target::TargetWorker;
use crate::worker::{Worker, preflight, requests};

/// See [`Road::LEAVES_AT_ONCE`].
const fn leaves_at_once(target: Target) -> bool {
    dispatch!(target, S => S::LEAVES_AT_ONCE)
}

impl TargetWorker {
    /// Consent is read again when a call leaves: what was planned before, and had to wait, is
    /// planned anew. (In an outage it only shows that there is something to ask for.)
    fn plan_anew(&mut self) {
        if leaves_at_once(self.target) && self.breaker.is_closed() {
            self.keep_planned(0);
        }
    }

    /// Plans of more calls than can leave at once are taken back, before anything is noted of them.
    fn keep_planned(&mut self, most: usize) {
        let most = self.planned.len().min(most);
        for planned in self.planned.split_off(most) {
            self.give_back(planned);
        }
    }

    /// Whether what is planned leaves in this turn.
    fn leaves_now(&self) -> bool {
        !leaves_at_once(self.target) || self.breaker.is_closed()
    }
}

impl Worker {
    /// Reads, plans and sends for one target, as far as it may.
    pub fn serve(&mut self, index: usize) -> SpiResult<()> {
        self.look_at_clock();
        let (context, worker) = (&self.context, &mut self.targets[index]);
        if worker.holds_changed() {
            store::transaction(|| worker.note_holds(context))?;
        }
        if worker.may_identify(&self.context.settings, self.context.now.instant) {
            worker.blocked_until = None;
            self.requests.identify(worker, &self.context);
        }
        if worker.all_held().is_some()
            && worker.may_identify(&self.context.settings, self.context.now.instant)
        {
            // What holds its tables may be what HubSpot said of their objects.
            self.requests.ask_for_definitions(worker, &self.context);
        }
        if !worker.may_send(&self.context.settings, self.context.now.instant) {
            while let Some(planned) = worker.planned.pop_front() {
                worker.give_back(planned);
            }
            return self.serve_opt_outs(index);
        }
        if worker.account.known() {
            worker.missing_scopes.confirm();
        }
        let now = self.context.now;
        if worker
            .missing_scopes
            .next()
            .is_some_and(|at| at <= now.clock)
        {
            store::transaction(|| missing_scopes::retry(worker, now))?;
        }
        worker.plan_anew();
        self.requests.ask_for_properties(worker, &self.context);
        self.requests.create_merge_fields(worker, &self.context);
        loop {
            self.look_at_clock();
            let worker = &mut self.targets[index];
            // What has just been planned may have cast doubt on some.
            self.requests.ask_for_definitions(worker, &self.context);
            self.requests.dispatch(worker, &self.context);
            let batches = self.requests.wanted_batches(worker, &self.context);
            if batches == 0 {
                self.read_ahead(index)?;
                return self.serve_opt_outs(index);
            }
            if !self.refill(index, batches)? {
                return self.serve_opt_outs(index);
            }
        }
    }

    /// Nothing can be sent just now, but what is new is read: an opt-out takes its place in front.
    fn read_ahead(&mut self, index: usize) -> SpiResult<()> {
        let (context, worker) = (&self.context, &mut self.targets[index]);
        let room = worker.in_memory() < context.settings.max_records;
        if !(room && worker.unread()) {
            return Ok(());
        }
        let leftover = store::transaction(|| read_queue::read_queue(worker, context))?;
        if !leftover.empty.is_empty() {
            store::transaction(|| settle::settle(worker, context, Vec::new(), leftover.empty))?;
        }
        self.learn(&leftover.unknown).map(|_| ())
    }

    /// A table that began to be tracked in the very transaction that queued changes of it: looks
    /// it up; `true` when the configuration was read again.
    pub(super) fn learn(&mut self, unknown: &[SourceId]) -> SpiResult<bool> {
        if unknown.is_empty() {
            return Ok(false);
        }
        store::transaction(|| self.load())?;
        let gone = unknown
            .iter()
            .filter(|id| !self.context.sources.contains_key(id))
            .copied();
        self.context.gone.extend(gone.collect::<Vec<_>>());
        Ok(true)
    }

    /// One round of reading and planning; `false` when nothing came of it.
    fn refill(&mut self, index: usize, batches: usize) -> SpiResult<bool> {
        let (context, worker) = (&self.context, &mut self.targets[index]);
        let (now, before) = (context.now.instant, worker.planned.len());
        let read = store::transaction(|| {
            // What has just been heard of comes first: nothing is planned by what was.
            if watch::changed() {
                return Ok(None);
            }
            let leftover = read_queue::read_queue(worker, context)?;
            let wait = requests::better_to_wait(worker, context, now);
            let draft = if wait {
                plan::Planning::default()
            } else {
                dispatch!(worker.target, S => plan::plan::<S>(worker, context, batches))?
            };
            Ok::<_, pgrx::spi::Error>(Some((draft, leftover)))
        })?;
        let Some((draft, leftover)) = read else {
            self.follow_catalog()?;
            return Ok(true);
        };
        let plan::Planning {
            mut outcomes,
            moves,
            audiences,
            heirs,
            objections,
            ..
        } = draft;
        self.context.objections |= objections.has_found();
        let worker = &mut self.targets[index];
        for list in &audiences {
            worker.preflight.mailchimp.use_audience(list);
        }
        preflight::second_chance(worker, &self.context, &mut outcomes);
        if leaves_at_once(self.targets[index].target) {
            self.targets[index].keep_planned(batches);
        }
        let held = self.guard(index);
        let reloaded = self.learn(&leftover.unknown)?;
        let (context, worker) = (&self.context, &mut self.targets[index]);
        let progress = !held && (reloaded || !outcomes.is_empty() || worker.planned.len() > before);
        let to_note = worker.planned.iter().any(intents::is_to_note);
        let settled = !outcomes.is_empty() || !leftover.empty.is_empty();
        if settled || to_note || !moves.is_empty() || !objections.is_empty() {
            let news = store::transaction(|| {
                intents::move_links(worker.target, context, moves)?;
                objections.store()?;
                if !heirs.is_empty() {
                    changes::put_retries(worker.target, &heirs)?;
                    worker.look_up_retries(context.now)?;
                }
                if worker.leaves_now() && intents::note_intents(worker.target, &mut worker.planned)?
                {
                    // A request must not leave before the note that it may have been made is safe.
                    store::commit_durably()?;
                }
                settle::settle(worker, context, outcomes, leftover.empty)
            })?;
            self.context.consent_writebacks.extend(news);
        }
        Ok(progress)
    }

    /// Holds the target if what is planned deletes too much.
    fn guard(&mut self, index: usize) -> bool {
        let guard = self.context.settings.guard_deletes;
        let worker = &mut self.targets[index];
        let mut count = 0;
        for planned in worker.planned.iter_mut().filter(|planned| !planned.guarded) {
            planned.guarded = true;
            for flight in planned
                .flights
                .iter()
                .filter(|flight| settle::deletes(flight))
            {
                count += usize::from(worker.counted.insert(flight.record.clone()));
            }
        }
        if !worker.too_many_deletions(count, guard.as_ref(), self.context.now.instant) {
            return false;
        }
        while let Some(planned) = worker.planned.pop_front() {
            worker.give_back(planned);
        }
        true
    }
}
