//! Events that wait to be applied, and their application: one after the other, each on its own.
//!
//! What an event wrote to the CRM is committed before the next one is looked at, so nobody waits for
//! the worker longer than for one write. The worker itself waits for nobody: an event whose row or
//! table somebody holds is put off, with those of the same record behind it, and the others go on.

mod gauges;
mod outcome;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use integration_engine::event_order::{Affected, EventOrder, Place};
use integration_engine::refusal::RefusalCause;
use integration_engine::webhook::EventSubject;
use pgrx::spi::SpiResult;

use super::{ApplyContext, Fate, Refused, erased, event, foreign};
use crate::pg::clock::{self, Stopwatch};
use crate::pg::shmem::{Slot, Wake};
use crate::store::inbound::inbox::{self, EventState, PendingEvent, WAITS_ALERT, Which};
use crate::store::{self, state};
use crate::worker::Context;
use crate::worker::target::TargetWorker;
use outcome::{attempt, settle, settle_after};

/// Events read at a time.
const PAGE: i64 = 100;

/// Events that write nothing share a transaction for so long.
const BLOCK: Duration = Duration::from_millis(10);

/// Applying goes on for so long before others have their turn.
const SLICE: Duration = Duration::from_millis(100);

/// How long an event waits whose record is in a request under way.
const FLYING: Duration = Duration::from_millis(20);

/// Events held in memory because their records are in requests under way.
const MOST_LATER: usize = 1_000;

/// So many refusals in a row of events that were refused before, and the others rest for a moment:
/// whatever is in the way is probably in theirs as well.
const MOST_REFUSALS: u32 = 20;
const REST: Duration = Duration::from_secs(1);

/// Who has waited for so long is named in an alert.
const LONG: Duration = Duration::from_secs(15 * 60);

/// See the module's documentation.
#[derive(Default)]
pub struct Backlog {
    /// There may be new ones.
    pub stale: bool,
    /// Origins whose events have to wait.
    held: Vec<&'static str>,
    /// Those that were put off have been read.
    recalled: bool,
    /// Those that wait, and what they hold up.
    order: EventOrder,
    /// Those of them whose records are in requests under way, and those behind them.
    later: Vec<i64>,
    /// When the next one is due that was put off.
    due_at: Option<Instant>,
    /// How many of those were refused in a row.
    refusals: u32,
    counted_at: Option<Instant>,
    /// An alert about some that have waited for long is open.
    alarmed: bool,
    /// Associations that are to be looked at again because of what was applied.
    pub owed: usize,
    /// Records are withheld because of it.
    pub withholds: bool,
}

impl Backlog {
    /// When to look again without being woken.
    pub fn retry_in(&self, now: Instant) -> Option<Duration> {
        if self.stale {
            return Some(Duration::ZERO);
        }
        let due = self.due_at.map(|at| at.saturating_duration_since(now));
        let later = (!self.later.is_empty()).then_some(FLYING);
        due.into_iter().chain(later).min()
    }

    /// Applies what waits, oldest first, for as long as others can wait.
    pub fn apply(&mut self, context: &Context, targets: &[TargetWorker]) -> SpiResult<()> {
        let (slice, now) = (Stopwatch::start(), context.now.instant);
        let held = foreign::held_origins(context, targets);
        if held != self.held {
            self.stale = true;
            self.held.clone_from(&held);
        }
        let due = !self.recalled || self.due_at.is_some_and(|at| at <= now);
        if !self.stale && !due && self.later.is_empty() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.recalled, true) {
            store::transaction(|| self.recall())?;
        }
        for id in self.later.drain(..) {
            self.order.release(id);
        }
        self.stale = false;
        self.refusals = 0;
        for which in [Which::New, Which::Due] {
            if which == Which::Due && !due {
                break;
            }
            if !self.work_through(which, &held, &slice, context, targets)? {
                self.stale = true;
                break;
            }
        }
        store::transaction(|| self.look_ahead(context, &held))
    }

    /// Applies events until none is left (`true`), or it is others' turn.
    fn work_through(
        &mut self,
        which: Which,
        held: &[&str],
        slice: &Stopwatch,
        context: &Context,
        targets: &[TargetWorker],
    ) -> SpiResult<bool> {
        let (mut page, mut full, mut outdated) = (VecDeque::new(), true, false);
        loop {
            let over = store::transaction(|| {
                let block = Stopwatch::start();
                store::wait_for_nobody()?;
                if page.is_empty() && full {
                    page.extend(inbox::next(which, PAGE, &self.later, held)?);
                    full = page.len() as i64 == PAGE;
                    // What came after a change of the configuration is applied by the new one.
                    let news = |slot: &Slot| slot.is_woken_for(Wake::CONFIG);
                    outdated = context.slot.is_some_and(news);
                    if outdated {
                        return Ok(false);
                    }
                }
                while let Some(event) = page.pop_front() {
                    let wrote = self.apply_one(which, event, context, targets)?;
                    if wrote || block.elapsed() >= BLOCK {
                        break;
                    }
                }
                Ok::<bool, pgrx::spi::Error>(page.is_empty() && !full)
            })?;
            let tired = which == Which::Due && self.refusals >= MOST_REFUSALS;
            if over || tired || self.later.len() >= MOST_LATER {
                return Ok(true);
            }
            if outdated || slice.elapsed() >= SLICE {
                return Ok(false);
            }
        }
    }

    /// Applies an event, or puts it off. Returns whether it may have written to the CRM.
    fn apply_one(
        &mut self,
        which: Which,
        event: PendingEvent,
        context: &Context,
        targets: &[TargetWorker],
    ) -> SpiResult<bool> {
        let place = (event.occurred_at, event.id);
        self.order.release(event.id);
        let subject = event::subject(&event);
        let claim = subject.as_ref().ok().map(EventSubject::claim);
        if let Some(claim) = &claim
            && self.is_behind(place, claim)?
        {
            return Ok(false);
        }
        let mut apply_context = ApplyContext::new(clock::now(), context, targets);
        let fate = attempt(|| {
            if let Ok(subject) = &subject {
                apply_context.hidden = erased::hidden(context, subject)?;
            }
            let fate = event::apply(&apply_context, &event, subject.as_ref())?;
            if let Some(why) = apply_context.held(event.target()) {
                return Ok(Fate::Refused(why));
            }
            if let Fate::Settled(state, detail) = &fate {
                settle(&apply_context, &event, *state, detail)?;
            }
            Ok(fate)
        })?;
        let claim = claim.unwrap_or_default();
        match fate {
            Fate::Settled(state, _) => {
                self.refusals = 0;
                self.owed += apply_context.owed.get();
                self.withholds |= apply_context.withholds.get();
                Ok(state != EventState::Ignored)
            }
            Fate::Later => {
                self.order.park(place, claim);
                self.later.push(event.id);
                Ok(false)
            }
            Fate::Refused(why) => {
                self.refusals += u32::from(which == Which::Due);
                self.refused(&apply_context, &event, &why, claim)?;
                Ok(false)
            }
        }
    }

    /// Whether an earlier event of the same record waits; then this one waits for it.
    fn is_behind(&mut self, place: Place, claim: &Affected) -> SpiResult<bool> {
        while let Some(earlier) = self.order.before(place, claim) {
            if self.later.contains(&earlier) {
                self.later.push(place.1);
            } else if inbox::waits(earlier)? {
                match attempt(|| inbox::queue_behind(place.1, earlier).map(|()| Fate::Later))? {
                    Fate::Later => {}
                    // Somebody holds its row in the inbox.
                    _ => self.later.push(place.1),
                }
            } else {
                // Somebody has taken it out of the inbox.
                self.order.release(earlier);
                continue;
            }
            self.order.park(place, claim.clone());
            return Ok(true);
        }
        Ok(false)
    }

    /// The CRM does not take it, or not now.
    fn refused(
        &mut self,
        apply_context: &ApplyContext,
        event: &PendingEvent,
        why: &Refused,
        claim: Affected,
    ) -> SpiResult<()> {
        let refusal = RefusalCause::of(&why.sqlstate);
        let attempts = event.attempts.saturating_add(1);
        let next =
            refusal.next_attempt(attempts, apply_context.now.jitter(event.id.unsigned_abs()));
        let noted = attempt(|| {
            let Some(wait) = next else {
                let plain = ApplyContext::new(apply_context.now, apply_context.context, &[]);
                settle_after(&plain, event, EventState::Failed, &why.text, attempts)?;
                return Ok(Fate::Settled(EventState::Failed, String::new()));
            };
            let detail = format!("{}; tried again", why.text);
            inbox::postpone(event.id, &detail, attempts, wait)?;
            Ok(Fate::Later)
        })?;
        match noted {
            Fate::Settled(..) => return Ok(()),
            Fate::Later => {}
            // Somebody holds its row in the inbox.
            Fate::Refused(_) => self.later.push(event.id),
        }
        self.order.park((event.occurred_at, event.id), claim);
        let waited =
            u64::try_from(apply_context.now.timestamp.0 - event.received_at.0).unwrap_or(0);
        if !self.alarmed && Duration::from_millis(waited) >= LONG {
            self.alarmed = true;
            state::raise(
                WAITS_ALERT,
                event.target(),
                "",
                &long_wait(event, &why.text),
            )?;
        }
        Ok(())
    }

    /// Reads what an earlier worker put off.
    fn recall(&mut self) -> SpiResult<()> {
        self.order.clear();
        for event in inbox::put_off()? {
            if let Ok(subject) = event::subject(&event) {
                let place = (event.occurred_at, event.id);
                self.order.park(place, subject.claim());
            }
        }
        // So that the alert goes, should none be left.
        self.alarmed = true;
        Ok(())
    }

    /// When to go on, and what is to be told of what is left.
    fn look_ahead(&mut self, context: &Context, held: &[&str]) -> SpiResult<()> {
        self.due_at = None;
        if !self.order.is_empty() {
            let rest = match self.refusals >= MOST_REFUSALS {
                true => REST,
                false => Duration::ZERO,
            };
            let due = inbox::next_due()?;
            self.due_at = due.map(|due| context.now.instant + due.max(rest));
        } else if std::mem::take(&mut self.alarmed) {
            for target in integration_engine::record::Target::ALL {
                state::clear_alert(target, WAITS_ALERT, "")?;
            }
        }
        let some = self.stale || !self.order.is_empty() || !held.is_empty();
        self.count(context, some)
    }
}

fn long_wait(event: &PendingEvent, why: &str) -> String {
    format!(
        "event {} of {} has waited for more than {} minutes, and is still tried: {why}",
        event.id,
        event.origin,
        LONG.as_secs() / 60
    )
}
