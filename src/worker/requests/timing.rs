//! When a target has to be looked at again, and whether a batch had better wait for company.

use super::*;

impl Requests {
    /// How long until a target has something to do by itself.
    pub fn next_look(&self, worker: &TargetWorker, context: &Context) -> Option<Duration> {
        let now = context.now.instant;
        let resting = worker
            .not_before
            .as_ref()
            .map(|(until, _)| *until)
            .filter(|until| *until > now);
        // While calls wait to leave, or as many as may be are under way, nothing else can be done.
        let can_plan = worker.may_send(&context.settings, now)
            && worker.blocked_until.is_none()
            && worker.planned.is_empty()
            && worker.calls_in_flight < worker.most_calls(&context.settings);
        let window = worker
            .ready_since
            .map(|since| since + context.settings.batch_window);
        let retry = worker.next_retry;
        [resting, worker.daily.used_up(now), worker.blocked_until]
            .into_iter()
            .chain([window, retry].into_iter().filter(|_| can_plan))
            .flatten()
            .map(|at| {
                at.saturating_duration_since(now)
                    .max(Duration::from_millis(1))
            })
            .min()
    }
}

/// A batch that is not full waits for company while requests are under way, but for no longer than
/// the window. On an idle target the first change leaves at once.
pub fn better_to_wait(worker: &mut TargetWorker, context: &Context, now: Instant) -> bool {
    let busy = worker.calls_in_flight > 0;
    if !busy || worker.queue.ready() >= worker.batch() || worker.queue.ready() == 0 {
        worker.ready_since = None;
        return false;
    }
    let since = *worker.ready_since.get_or_insert(now);
    let wait = now.duration_since(since) < context.settings.batch_window;
    if !wait {
        worker.ready_since = None;
    }
    wait
}
