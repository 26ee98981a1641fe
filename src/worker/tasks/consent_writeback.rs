//! What a service said about a person's consent goes into the CRM's own column at once, and if that
//! cannot be, as soon as it can.
//!
//! Nothing is lost with the worker: the dead letter that was written with the verdict stays open
//! until the CRM says the same, so the next worker finds from the letters what it has to tell.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use integration_engine::consent::standing;
use integration_engine::delivery::settlement::ConsentWriteback;
use integration_engine::limits::retry::backoff;
use integration_engine::record::Target;
use integration_engine::record::consent::MemberStatus;
use integration_engine::refusal::RefusalCause;
use pgrx::spi::SpiResult;

use crate::pg::clock::Stopwatch;
use crate::pg::{self, SqlError};
use crate::store::crm::apply::{self, Applied};
use crate::store::{self, holds, links, queue::changes, queue::dead_letters};
use crate::worker::Context;
use crate::worker::target::TargetWorker;
use crate::worker::task::{Task, Turn};

/// Between attempts at rows that somebody holds: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Telling goes on for so long before others have their turn.
const SLICE: Duration = Duration::from_millis(100);

/// What the CRM has not been told yet.
#[derive(Default)]
pub struct ConsentWritebacks {
    /// Those whose turn has not come yet.
    untold: Vec<ConsentWriteback>,
    /// Those whose rows or tables are in somebody's hands.
    waiting: Vec<ConsentWriteback>,
    again_at: Option<Instant>,
    failures: u32,
    recalled: bool,
}

impl ConsentWritebacks {
    /// How long until it is tried again.
    fn due_in(&self, now: Instant) -> Option<Duration> {
        if !self.untold.is_empty() {
            return Some(Duration::ZERO);
        }
        let at = self.again_at.filter(|_| !self.waiting.is_empty())?;
        Some(at.saturating_duration_since(now))
    }

    fn wait(&mut self, news: Vec<ConsentWriteback>, now: Instant) {
        if news.is_empty() {
            if self.waiting.is_empty() {
                self.failures = 0;
            }
            return;
        }
        let wait = backoff(self.failures, FIRST_WAIT, LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.again_at = Some(now + wait);
        self.waiting.extend(news);
    }
}

/// What came of telling.
enum WritebackResult {
    /// There is nothing more to tell.
    Settled,
    /// Somebody holds the row, or the table is held.
    Later,
}

impl Task for ConsentWritebacks {
    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let fresh = std::mem::take(&mut turn.context.consent_writebacks);
        self.tell(turn, fresh)?;
        self.tell_again(turn)
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        match turn.context.consent_writebacks.is_empty() {
            true => self.due_in(turn.now()),
            false => Some(Duration::ZERO),
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.due_in(now).is_none()
    }
}

impl ConsentWritebacks {
    /// Records refusals in the CRM, so that nobody tries again and people can see why.
    fn tell(&mut self, turn: &Turn, news: Vec<ConsentWriteback>) -> SpiResult<()> {
        let (mut news, mut held) = (news.into_iter(), Vec::new());
        let slice = Stopwatch::start();
        while slice.elapsed() < SLICE
            && let Some(each) = news.next()
        {
            match store::transaction(|| tell_or_wait(turn.context, &each))? {
                WritebackResult::Settled => {}
                WritebackResult::Later => held.push(each),
            }
        }
        self.untold.extend(news);
        self.wait(held, turn.now());
        Ok(())
    }

    /// As above, of what had to wait, or what an earlier worker did not come to.
    fn tell_again(&mut self, turn: &Turn) -> SpiResult<()> {
        let (now, enabled) = (turn.now(), turn.context.settings.enabled);
        if !enabled || turn.targets.iter().any(|worker| worker.fenced) {
            return Ok(());
        }
        if !std::mem::replace(&mut self.recalled, true) {
            let known = store::transaction(recall)?;
            self.wait(known, now);
        }
        let is_time = self.due_in(now) == Some(Duration::ZERO);
        let Some(worker) = turn.worker(Target::Mailchimp).filter(|_| is_time) else {
            return Ok(());
        };
        // What the CRM has decided since is in the queue, and is for Mailchimp to answer.
        let mut waiting = std::mem::take(&mut self.waiting);
        if worker.unread() {
            waiting.append(&mut self.untold);
            self.wait(waiting, now);
            return Ok(());
        }
        waiting.splice(..0, std::mem::take(&mut self.untold));
        let waiting = store::transaction(|| without_decided(worker, waiting))?;
        self.tell(turn, waiting)
    }
}

/// What open dead letters say that the CRM may not have been told.
fn recall() -> SpiResult<Vec<ConsentWriteback>> {
    let mut news = Vec::new();
    for record in dead_letters::refusals()? {
        let key = record.key.as_str();
        let link = links::read(record.source, Target::Mailchimp, &[key])?.remove(&record.key);
        let known = link.and_then(|link| link.member_status);
        let left = known.filter(|status| standing::left(*status));
        news.push(ConsentWriteback {
            // It was refused for what is remembered of the address.
            status: left.unwrap_or(MemberStatus::UnsubscribedByMember),
            record,
        });
    }
    Ok(news)
}

/// Leaves out records that the CRM has changed since.
fn without_decided(
    worker: &TargetWorker,
    news: Vec<ConsentWriteback>,
) -> SpiResult<Vec<ConsentWriteback>> {
    let mut left = Vec::new();
    for news in news {
        let queued = worker.queue.changed_at(&news.record).is_some();
        if !queued && !changes::is_retried(worker.target, &news.record)? {
            left.push(news);
        }
    }
    Ok(left)
}

/// Tells it, unless the row or the table is in somebody's hands, or cannot be read at present.
fn tell_or_wait(context: &Context, news: &ConsentWriteback) -> SpiResult<WritebackResult> {
    store::wait_for_nobody()?;
    let told = pg::guarded(AssertUnwindSafe(|| tell(context, news)));
    let why = match told {
        Ok(told) => match told? {
            Ok(told) => return Ok(told),
            Err(why) => why,
        },
        Err(why) => why,
    };
    if RefusalCause::of(&why.sqlstate()) != RefusalCause::Value {
        return Ok(WritebackResult::Later);
    }
    let source = context.sources.get(&news.record.source);
    pgrx::warning!(
        "integration: cannot record consent of {} {}: {}",
        source.map_or("a table", |source| &source.name),
        news.record.key.as_str(),
        why.message
    );
    Ok(WritebackResult::Settled)
}

fn tell(
    context: &Context,
    news: &ConsentWriteback,
) -> SpiResult<Result<WritebackResult, SqlError>> {
    let ConsentWriteback { record, status } = news;
    let source = context.sources.get(&record.source);
    let Some((source, map)) =
        source.and_then(|source| Some((source, source.maps.get(&Target::Mailchimp)?)))
    else {
        return Ok(Ok(WritebackResult::Settled));
    };
    let Some((index, field)) = map.field_named("status") else {
        return Ok(Ok(WritebackResult::Settled));
    };
    if holds::is_held_for(source.id, Target::Mailchimp) {
        return Ok(Ok(WritebackResult::Later));
    }
    let rows = source.read(map, &[&record.key])?;
    let Some(present) = rows.get(&record.key) else {
        return Ok(Ok(WritebackResult::Settled));
    };
    let present = present.get(index).cloned().flatten();
    let value = field.consent_word(*status);
    let says = |text: Option<&str>| field.consent(text);
    if present.is_some() && says(present.as_deref()) == says(Some(value)) {
        return Ok(Ok(WritebackResult::Settled));
    }
    let written = apply::set_column(
        source,
        &record.key,
        &field.column,
        present.as_deref(),
        Some(value),
    )?;
    Ok(match written {
        Applied::Written | Applied::Moved => Ok(WritebackResult::Settled),
        Applied::Refused(why) => Err(why),
    })
}

#[cfg(test)]
mod tests {
    use integration_engine::record::{RecordKey, RecordRef, SourceId};

    use super::*;

    fn now() -> Instant {
        crate::pg::clock::now().instant
    }

    fn somebody() -> Vec<ConsentWriteback> {
        vec![ConsentWriteback {
            record: RecordRef {
                source: SourceId(1),
                key: RecordKey::from("7"),
            },
            status: MemberStatus::UnsubscribedByMember,
        }]
    }

    #[test]
    fn nothing_to_tell_needs_no_turn() {
        assert_eq!(ConsentWritebacks::default().due_in(now()), None);
    }

    #[test]
    fn whose_turn_did_not_come_is_told_at_once() {
        let task = ConsentWritebacks {
            untold: somebody(),
            ..ConsentWritebacks::default()
        };
        assert_eq!(task.due_in(now()), Some(Duration::ZERO));
        assert!(!task.is_idle(now()));
    }

    #[test]
    fn rows_in_somebodys_hands_are_tried_less_and_less_often() {
        let (mut task, now) = (ConsentWritebacks::default(), now());
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let waiting = match task.waiting.is_empty() {
                true => somebody(),
                false => std::mem::take(&mut task.waiting),
            };
            task.wait(waiting, now);
            assert_eq!(task.due_in(now), Some(Duration::from_secs(wait)));
        }
        assert_eq!(task.due_in(now + LONGEST_WAIT), Some(Duration::ZERO));
    }

    #[test]
    fn patience_begins_anew_once_all_are_told() {
        let (mut task, now) = (ConsentWritebacks::default(), now());
        task.wait(somebody(), now);
        let waiting = std::mem::take(&mut task.waiting);
        task.wait(waiting, now);
        task.waiting.clear();
        task.wait(Vec::new(), now);
        task.wait(somebody(), now);
        assert_eq!(task.due_in(now), Some(FIRST_WAIT));
    }
}
