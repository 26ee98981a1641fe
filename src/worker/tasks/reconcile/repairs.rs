//! Records that a comparison repairs in the CRM: each is judged once more, and repaired, in a
//! transaction of its own.
//!
//! So nobody waits for the worker longer than for one record, and one that is in somebody's hands, or
//! that the CRM refuses, holds up no other. The comparison goes on once all of them are done.

use std::time::{Duration, Instant};

use integration_engine::record::{RecordKey, Target};
use integration_engine::refusal::RefusalCause;
use integration_engine::sync::drift::{Page, Record};
use pgrx::prelude::*;
use pgrx::spi::SpiResult;

use super::judge::{Judge, Manner};
use super::walk::Judged;
use super::{Ask, Asked, Reconciles};
use crate::inbound::Refused;
use crate::pg::SqlError;
use crate::pg::clock::Stopwatch;
use crate::store;
use crate::store::jobs::drift::{DriftKind, Repair};
use crate::worker::task::Turn;

/// Others have their turn after so long.
const SLICE: Duration = Duration::from_millis(100);

/// How often a record is tried that the CRM does not take now.
const MOST_ATTEMPTS: u32 = 6;

/// So much may be new in the queue that nobody can tell what is on its way.
const A_MOMENT: Duration = Duration::from_millis(20);

/// What an answer says of one record that is to be repaired.
#[derive(Clone, Debug)]
pub(super) struct RepairRead {
    pub key: RecordKey,
    pub kind: DriftKind,
    pub asked: Asked,
    pub record: Record,
    attempts: u32,
    not_before: Option<Instant>,
}

impl Judge<'_> {
    /// Sets a record apart that is to be repaired, if they are judged together; `false`: it is to be
    /// repaired here and now.
    pub(super) fn set_apart(
        &mut self,
        key: &RecordKey,
        kind: DriftKind,
        ask: Ask,
        record: &Record,
    ) -> bool {
        let together = self.manner == Manner::Together && self.course.repair;
        if let (true, Some((names, at))) = (together, self.asked.clone()) {
            self.apart.push(RepairRead {
                key: key.clone(),
                kind,
                asked: Asked { ask, names, at },
                record: record.clone(),
                attempts: 0,
                not_before: None,
            });
        }
        together
    }

    /// The CRM does not take a repair now: what has been done of it is undone, and it is tried again,
    /// unless that was the last attempt.
    pub(super) fn unless_in_vain(&self, why: &Refused) {
        let passes = RefusalCause::of(&why.sqlstate) != RefusalCause::Value;
        if passes && matches!(self.manner, Manner::Alone { last: false }) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
                why.text.clone()
            );
        }
    }
}

impl Reconciles {
    /// Takes out a record of a target's that is to be repaired now.
    fn next_part(&mut self, target: Target, now: Instant) -> Option<(i64, RepairRead)> {
        let mut running = self.courses.iter_mut();
        running.find_map(|running| {
            let due = |part: &RepairRead| part.not_before.is_none_or(|at| at <= now);
            let mine = running.course.target == target;
            let place = running.parts.iter().position(due).filter(|_| mine)?;
            Some((running.course.job, running.parts.remove(place)?))
        })
    }

    /// How long until a record is to be repaired.
    pub(super) fn repair_in(&self, now: Instant) -> Option<Duration> {
        let parts = self.courses.iter().flat_map(|running| &running.parts);
        let due = parts.map(|part| part.not_before.unwrap_or(now));
        Some(due.min()?.saturating_duration_since(now))
    }
}

impl Reconciles {
    /// Repairs records of a target's, for as long as others can wait.
    pub(super) fn repair_records(&mut self, index: usize, turn: &mut Turn) -> SpiResult<()> {
        let (begun, target) = (Stopwatch::start(), turn.targets[index].target);
        while begun.elapsed() < SLICE {
            let now = turn.context.now.instant;
            let Some((job, part)) = self.next_part(target, now) else {
                break;
            };
            store::transaction(|| self.repair_record(index, job, part, turn))?;
            let over = self.find(job, target);
            if over.is_some_and(|running| running.parts.is_empty()) {
                store::transaction(|| self.show(job, target, turn.context.now))?;
            }
            turn.look_at_clock();
        }
        Ok(())
    }

    fn repair_record(
        &mut self,
        index: usize,
        job: i64,
        mut part: RepairRead,
        turn: &mut Turn,
    ) -> SpiResult<()> {
        store::wait_for_nobody()?;
        let target = turn.targets[index].target;
        part.attempts += 1;
        let last = part.attempts >= MOST_ATTEMPTS;
        let (asked, record) = (part.asked.clone(), part.record.clone());
        let page = Page {
            records: vec![record],
            after: None,
        };
        let judged = self.judge(index, job, Manner::Alone { last }, turn, |judge, todo| {
            judge.answer(asked, page, todo).map(|_| ())
        })?;
        let wait = match judged {
            Judged::Done => return Ok(()),
            Judged::Unclear => {
                part.attempts -= 1;
                A_MOMENT
            }
            Judged::Failed(why) if last => return self.give_up((job, target), &part, &why, turn),
            Judged::Failed(why) => {
                let refusal = RefusalCause::of(&why.sqlstate());
                let salt = u64::from(part.attempts);
                let wait = refusal.next_attempt(part.attempts, turn.context.now.jitter(salt));
                wait.unwrap_or(A_MOMENT)
            }
        };
        part.not_before = Some(turn.context.now.instant + wait);
        if let Some(running) = self.find(job, target) {
            running.parts.push_back(part);
        }
        Ok(())
    }

    /// Notes that a record could not be repaired.
    fn give_up(
        &mut self,
        (job, target): (i64, Target),
        part: &RepairRead,
        why: &SqlError,
        turn: &Turn,
    ) -> SpiResult<()> {
        let Some(running) = self.find(job, target) else {
            return Ok(());
        };
        let course = running.course.clone();
        let judge = Judge::new(turn.context, turn.targets, course);
        let id = Some(part.record.id.clone());
        let refused = Repair::Refused(why.to_string());
        judge.put(Some(&part.key), id, part.kind, None, refused)
    }
}
