//! What jobs that walk a table have in common: what they wait for, when they are looked at again,
//! and what people were last told about them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use integration_engine::delivery::target_state::TargetState;
use integration_engine::record::{SourceId, Target};
use pgrx::spi::SpiResult;

use super::target::{TargetWorker, UniqueProperty};
use crate::store::holds;
use crate::store::jobs::backfills;
use crate::worker::{Context, properties, requests};

/// How long until a job is tried again, and how often at most its progress is shown.
pub const A_MOMENT: Duration = Duration::from_secs(1);

/// A job, and what it waits for, if anything.
pub type News = (i64, Option<String>);

/// See the module's documentation.
#[derive(Default)]
pub struct Jobs {
    told: HashMap<i64, Option<String>>,
    /// Something has to be tried again, or looked up anew; not before then.
    retry_at: Option<Instant>,
    outdated: bool,
}

impl Jobs {
    /// They have been read.
    pub fn loaded(&mut self) {
        (self.outdated, self.retry_at) = (false, None);
    }

    pub fn try_again(&mut self, now: Instant) {
        self.outdated = true;
        self.retry_at = Some(now + A_MOMENT);
    }

    /// There is no more reason to wait.
    pub fn go_on(&mut self) {
        self.retry_at = None;
    }

    /// Whether the configuration has to be read again first.
    pub fn outdated(&self, now: Instant) -> bool {
        self.outdated && !self.rests(now)
    }

    /// Whether it is too early to try again.
    pub fn rests(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| now < at)
    }

    /// How long until that is over.
    pub fn retry_in(&self, now: Instant) -> Option<Duration> {
        self.retry_at.map(|at| at.saturating_duration_since(now))
    }

    /// A job is over.
    pub fn forget(&mut self, job: i64) {
        self.told.remove(&job);
    }

    /// What is to be written: the jobs that wait for something now, or no longer. `walks` are what
    /// is left to do of each, with its target.
    pub fn news(
        &self,
        walks: impl Iterator<Item = (i64, Target, SourceId)>,
        targets: &[TargetWorker],
        context: &Context,
    ) -> Vec<News> {
        let mut waits: BTreeMap<i64, Vec<Option<String>>> = BTreeMap::new();
        for (job, target, source) in walks {
            if let Some(worker) = targets.iter().find(|worker| worker.target == target) {
                let why = waits_for(worker, context, source);
                waits.entry(job).or_default().push(why);
            }
        }
        // As long as one of its targets is served, it is being done.
        let reasons = waits.into_iter().map(|(job, reasons)| {
            let reasons: Option<Vec<String>> = reasons.into_iter().collect();
            (job, reasons.map(|reasons| reasons.join("; ")))
        });
        self.changed(reasons)
    }

    /// Of what jobs wait for, that which people have not been told.
    pub fn changed(&self, reasons: impl Iterator<Item = News>) -> Vec<News> {
        reasons
            .filter(|(job, waits_for)| self.told.get(job) != Some(waits_for))
            .collect()
    }

    /// Writes it.
    pub fn tell(&mut self, news: Vec<News>, now: Instant) -> SpiResult<()> {
        for (job, waits_for) in news {
            if backfills::tell(job, waits_for.as_deref())? {
                self.told.insert(job, waits_for);
            } else if !self.outdated {
                self.try_again(now);
            }
        }
        Ok(())
    }
}

/// Without HubSpot's unique property nothing can be sent; for Mailchimp there is none.
pub fn property(worker: &TargetWorker, context: &Context, source: SourceId) -> UniqueProperty {
    let entity = context.sources.get(&source).map(|source| source.entity);
    match (worker.target, entity) {
        (Target::HubSpot, Some(entity)) => {
            let known = worker.properties.get(&entity).copied();
            known.unwrap_or(UniqueProperty::Unknown)
        }
        _ => UniqueProperty::Ready,
    }
}

/// What keeps a walk from going on, for people.
pub fn waits_for(worker: &TargetWorker, context: &Context, source: SourceId) -> Option<String> {
    let target = worker.target;
    if let Some(told) = worker
        .told
        .as_ref()
        .filter(|told| told.state != TargetState::Running)
    {
        let reason = told.reason.as_deref().unwrap_or_default();
        return Some(format!(
            "waits, as {target} is {}: {reason}",
            told.state.name()
        ));
    }
    if let Some(why) = holds::wrong(source, target).held.first() {
        return Some(format!("waits, as the table is held: {why}"));
    }
    matches!(property(worker, context, source), UniqueProperty::Missing).then(|| {
        format!(
            "waits, as HubSpot lacks the property {}; SELECT integration.provision('{target}'); creates it",
            context.settings.hubspot_api.external_id_property
        )
    })
}

/// Whether records leave something of a target's budget: none of them waits to be sent.
pub fn idle(worker: &TargetWorker, context: &Context, now: Instant) -> bool {
    // A target that fails has to be asked something now and then, to see whether it is well again.
    worker.may_send(&context.settings, now)
        && !requests::unidentified(worker, context)
        && properties::known(worker, context)
        && worker.preflight.is_known()
        && worker.in_memory() == 0
        && worker.planned.is_empty()
        && worker.chunks == 0
        && !worker.unread()
        && !worker.retries_due(now)
        && worker.calls_in_flight < worker.most_calls(&context.settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        crate::pg::clock::now().instant
    }

    #[test]
    fn what_is_tried_again_rests_for_a_moment() {
        let (mut jobs, now) = (Jobs::default(), now());
        assert!(!jobs.rests(now) && jobs.retry_in(now).is_none());
        jobs.try_again(now);
        assert!(jobs.rests(now) && !jobs.outdated(now));
        assert_eq!(jobs.retry_in(now), Some(A_MOMENT));
        let then = now + A_MOMENT;
        assert!(!jobs.rests(then) && jobs.outdated(then));
        assert_eq!(jobs.retry_in(then), Some(Duration::ZERO));
    }

    #[test]
    fn configuration_is_read_again_once() {
        let (mut jobs, now) = (Jobs::default(), now());
        jobs.try_again(now);
        jobs.loaded();
        assert!(!jobs.outdated(now + A_MOMENT) && jobs.retry_in(now).is_none());
    }

    #[test]
    fn people_are_told_what_has_changed() {
        let mut jobs = Jobs::default();
        jobs.told.insert(1, None);
        jobs.told.insert(2, Some("locked".to_owned()));
        let reasons = [(1, None), (2, None), (3, Some("held".to_owned()))];
        let news = jobs.changed(reasons.into_iter());
        assert_eq!(news, [(2, None), (3, Some("held".to_owned()))]);
        jobs.forget(1);
        assert_eq!(jobs.changed([(1, None)].into_iter()), [(1, None)]);
    }
}
