//! Whether a worker is needed at all. Where there is nothing to do none is kept, so that the
//! database can be dropped, renamed and copied; whoever has news starts one.

use std::time::{Duration, Instant};

use super::Worker;
use crate::pg::shmem::Wake;

/// A worker that has just been woken stays a moment: more may come.
const LINGER: Duration = Duration::from_secs(1);

/// Of the worker: when it was last woken after its start.
#[derive(Default)]
pub struct Rest {
    begun: bool,
    woken_at: Option<Instant>,
}

/// That there is nothing to do.
pub struct Resting {
    pub why: &'static str,
    /// What ends it.
    pub until: Wake,
    /// How long to stay nevertheless.
    pub after: Duration,
}

impl Worker {
    /// Whether there is nothing to do until somebody wakes us, after a turn that was for `wake`.
    pub(super) fn rests_from(&mut self, wake: Wake, now: Instant) -> Option<Resting> {
        let first = !std::mem::replace(&mut self.rest.begun, true);
        if !first && !wake.is_empty() {
            self.rest.woken_at = Some(now);
        }
        let (why, until) = self.nothing_to_do()?;
        let after = self.rest.woken_at.map_or(Duration::ZERO, |at| {
            (at + LINGER).saturating_duration_since(now)
        });
        Some(Resting { why, until, after })
    }

    fn nothing_to_do(&self) -> Option<(&'static str, Wake)> {
        let told = self.targets.iter().all(|worker| worker.told.is_some());
        let under_way = self.busy() || !self.requests.all_answered();
        if !told || under_way || self.prepared.next_look(self.context.now.instant).is_some() {
            return None;
        }
        let asked = [Wake::CONFIG, Wake::RELOAD, Wake::TEST, Wake::PREPARED];
        let asked = asked.into_iter().fold(Wake::NONE, Wake::union);
        if self.targets.iter().any(|worker| worker.fenced) {
            return Some(("fenced", asked));
        }
        let settings = &self.context.settings;
        let why = if self.context.sources.is_empty() {
            "no table is tracked"
        } else if settings.hubspot.is_err() && settings.mailchimp.is_err() {
            "no service is configured"
        } else {
            return None;
        };
        let now = self.context.now.instant;
        let idle = self.tasks.are_idle(now);
        idle.then_some((why, asked.union(Wake::INBOX)))
    }
}
