//! Polls: what people did with Mailchimp's campaigns, read from the reports, one request at a time,
//! while there is nothing else to ask or send.
//!
//! What a page says and the mark behind it are one transaction. Only the question under way is lost
//! at a crash, and is asked again.

mod take;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use integration_engine::record::{SourceId, Target, Timestamp};
use integration_engine::service::failure::Class;
use integration_engine::wire::{Reply, Request};
use integration_mailchimp::engagement as reports;
use integration_mailchimp::engagement::{PAGE_MAX, ReportContent, ReportPage, SentCampaign};
use pgrx::spi::SpiResult;

use crate::pg;
use crate::pg::shmem::Wake;
use crate::services;
use crate::store;
use crate::store::inbound::engagement::{self, Campaign, Poll};
use crate::store::jobs::backfills::{self, JobEnd};
use crate::worker::Context;
use crate::worker::jobs::{Jobs, News, idle};
use crate::worker::target::TargetWorker;
use crate::worker::task::{Answered, Question, Task, Token, Turn};

/// Answers that make no sense before a campaign is left alone.
const MOST_FAILURES: u32 = 3;

/// Rows of a report asked for at once after answers that did not come.
const FEWEST: usize = 50;

/// A question under way.
struct Asked {
    token: Token,
    /// From when on events were asked for.
    since: Option<Timestamp>,
}

struct Running {
    poll: Poll,
    campaign: Option<Campaign>,
    asked: Option<Asked>,
    /// Rows asked for at once: fewer if so many made an answer too large.
    count: usize,
    failures: u32,
}

impl Running {
    fn new(poll: Poll) -> Running {
        Running {
            poll,
            campaign: None,
            asked: None,
            count: PAGE_MAX,
            failures: 0,
        }
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Polls {
    running: Option<Running>,
    jobs: Jobs,
    /// When the last one was begun.
    begun: Option<Timestamp>,
}

/// The next question, and from when on events are asked for.
type Next = (Request, Option<Timestamp>);

/// What an answer is.
enum Understood {
    Listed(ReportPage<Vec<SentCampaign>>),
    Reported(ReportPage<ReportContent>),
    /// The campaign is not there any more.
    Gone,
    /// It was too large: fewer rows are to be asked for.
    Smaller,
    /// The target cannot answer now.
    Later,
    Refused(String),
}

impl Polls {
    /// Reads which there are, and clears away those that are over.
    fn reload(&mut self) -> SpiResult<()> {
        self.jobs.loaded();
        self.begun = engagement::begun()?;
        let (open, over): (Vec<Poll>, Vec<Poll>) =
            engagement::load()?.into_iter().partition(|poll| poll.open);
        for poll in over {
            engagement::remove(poll.job)?;
            self.jobs.forget(poll.job);
        }
        let before = self.running.take();
        self.running = open.into_iter().next().map(|poll| match before {
            Some(before) if before.poll.job == poll.job => before,
            _ => Running::new(poll),
        });
        Ok(())
    }

    /// How long until it is time for the next one.
    fn begins_in(&self, context: &Context) -> Option<Duration> {
        let interval = context.settings.mailchimp_poll_interval?;
        let sent = |source: &store::sources::Source| source.maps.contains_key(&Target::Mailchimp);
        if !context.sources.values().any(sent) {
            return None;
        }
        Some(left(interval, self.begun, context.now.timestamp))
    }

    /// It cannot go on there; if that is not over soon, the report is left out. Without those that
    /// tell of events, the campaign is.
    fn refuse(&mut self, why: String, now: Instant) -> SpiResult<()> {
        self.jobs.try_again(now);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.failures += 1;
        if running.failures < MOST_FAILURES {
            return Ok(());
        }
        running.failures = 0;
        self.jobs.go_on();
        let Some(campaign) = &running.campaign else {
            backfills::end(running.poll.job, &JobEnd::Failed(why))?;
            self.jobs.try_again(now);
            return Ok(());
        };
        let report = campaign.report;
        let why = format!("campaign {}, {}: {why}", campaign.id, report.name());
        running.poll.failure = Some(why);
        if report.is_extra() {
            take::read_on(running)?;
        } else if let Some(campaign) = running.campaign.take() {
            running.poll.done += 1;
            engagement::give_up(&campaign)?;
        }
        engagement::save(&running.poll)
    }
}

/// What is left of the interval since the last one was begun.
fn left(interval: Duration, begun: Option<Timestamp>, now: Timestamp) -> Duration {
    let gone = begun.map_or(i64::MAX, |begun| now.0 - begun.0);
    // A clock that was put back does not keep it from ever beginning.
    let gone = Duration::from_millis(u64::try_from(gone).unwrap_or(u64::MAX));
    interval.saturating_sub(gone)
}

fn mailchimp(targets: &[TargetWorker]) -> Option<&TargetWorker> {
    targets
        .iter()
        .find(|worker| worker.target == Target::Mailchimp)
}

/// Whether records and comparisons leave something of the budget.
fn may_ask(turn: &Turn) -> bool {
    let now = turn.now();
    mailchimp(turn.targets).is_some_and(|worker| {
        worker.blocked_until.is_none_or(|until| until <= now)
            && idle(worker, turn.context, now)
            && !turn.is_claimed(worker.target)
    })
}

impl Task for Polls {
    /// Reads which there are, and clears away those that are over.
    fn load(&mut self, _turn: &mut Turn) -> SpiResult<()> {
        self.reload()
    }

    /// Asks what is to be asked next, as far as that may be.
    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let now = turn.now();
        let work = match &self.running {
            Some(running) => running.asked.is_none(),
            None => self.begins_in(turn.context) == Some(Duration::ZERO),
        };
        if !work || self.jobs.rests(now) || !may_ask(turn) {
            return Ok(());
        }
        self.jobs.go_on();
        if self.running.is_none() {
            store::transaction(|| {
                engagement::begin()?;
                self.reload()
            })?;
            if self.running.is_none() {
                self.jobs.try_again(now);
            }
        }
        let question = store::transaction(|| self.next_question(turn.context))?;
        let Some((request, since)) = question else {
            return Ok(());
        };
        let token = turn.ask(Target::Mailchimp, Question::reading(request));
        if let Some((running, token)) = self.running.as_mut().zip(token) {
            running.asked = Some(Asked { token, since });
        }
        Ok(())
    }

    fn on_answer(&mut self, answered: Answered, turn: &mut Turn) -> SpiResult<()> {
        let Answered { token, result, .. } = answered;
        let Some(running) = self.running.as_mut() else {
            return Ok(());
        };
        let Some(asked) = running.asked.take_if(|asked| asked.token == token) else {
            return Ok(());
        };
        let understood = understand(running, &asked, &result);
        store::transaction(|| self.hear_report(asked.since, understood, turn))
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        let rests = self.jobs.retry_in(turn.now());
        if rests.is_some() || !may_ask(turn) {
            return rests;
        }
        match &self.running {
            Some(running) => running.asked.is_none().then_some(Duration::ZERO),
            None => self.begins_in(turn.context),
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.jobs.retry_in(now).is_none()
    }

    fn jobs(&mut self) -> Option<&mut Jobs> {
        Some(&mut self.jobs)
    }

    fn news(&self, turn: &Turn) -> Vec<News> {
        let job = self.running.as_ref().map(|running| running.poll.job);
        // It is about no table.
        let walks = job
            .into_iter()
            .map(|job| (job, Target::Mailchimp, SourceId(0)));
        self.jobs.news(walks, turn.targets, turn.context)
    }
}

impl Polls {
    /// The next question; `None`: there is none, and the job has been ended.
    fn next_question(&mut self, context: &Context) -> SpiResult<Option<Next>> {
        let now = context.now.timestamp;
        let Some(running) = &mut self.running else {
            return Ok(None);
        };
        let job = running.poll.job;
        if !running.poll.listed {
            let request =
                reports::campaigns_request(reports::oldest(now), running.poll.walk.offset);
            return Ok(Some((request, None)));
        }
        if running.campaign.is_none() {
            running.campaign = engagement::next(job)?;
            running.count = PAGE_MAX;
        }
        let Some(campaign) = &running.campaign else {
            self.end_poll(job, context)?;
            return Ok(None);
        };
        let kept = context.settings.activity_retention;
        let kept = kept.map(|kept| Timestamp(now.0 - kept.as_millis() as i64));
        let since = reports::since(campaign.seen, kept);
        let (id, report, offset) = (&campaign.id, campaign.report, campaign.walk.offset);
        let request = reports::report_request(id, report, since, offset, running.count);
        Ok(Some((request, since)))
    }

    fn end_poll(&mut self, job: i64, context: &Context) -> SpiResult<()> {
        let running = self.running.as_ref();
        let end = match running.and_then(|running| running.poll.failure.clone()) {
            Some(why) => JobEnd::Failed(why),
            None => JobEnd::Done,
        };
        if backfills::end(job, &end)? {
            engagement::remove(job)?;
            engagement::forget(reports::oldest(context.now.timestamp))?;
            self.jobs.forget(job);
            // There may be another one.
            self.reload()
        } else {
            // Somebody is changing it, perhaps cancelling.
            self.jobs.try_again(context.now.instant);
            Ok(())
        }
    }

    fn hear_report(
        &mut self,
        since: Option<Timestamp>,
        understood: Understood,
        turn: &mut Turn,
    ) -> SpiResult<()> {
        let context = &*turn.context;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        match understood {
            Understood::Later => {
                // Whoever takes too long for much may have the time for less.
                running.count = running.count.min((running.count / 2).max(FEWEST));
                return Ok(());
            }
            Understood::Smaller => {
                running.count = (running.count / 2).max(1);
                return Ok(());
            }
            Understood::Refused(why) => return self.refuse(why, context.now.instant),
            Understood::Listed(page) => {
                let default = &context.settings.mailchimp_api.list;
                let lists = mailchimp(turn.targets).map(|worker| worker.audiences.in_use(default));
                take::listed(running, context, &lists.unwrap_or_default(), &page)?;
            }
            Understood::Reported(page) => {
                let told = pg::guarded(AssertUnwindSafe(|| {
                    take::reported(running, context, since, &page)
                }));
                match told {
                    Ok(told) => {
                        if told? {
                            turn.called = turn.called.union(Wake::INBOX);
                        }
                    }
                    // A table in which people are looked up cannot be read now: the page is asked
                    // for once more.
                    Err(_) => {
                        self.jobs.try_again(context.now.instant);
                        return Ok(());
                    }
                }
            }
            Understood::Gone => take::read_to_the_end(running)?,
        }
        running.failures = 0;
        engagement::save(&running.poll)?;
        if running.campaign.is_none() {
            backfills::progress(running.poll.job, None)?;
        }
        Ok(())
    }
}

fn understand(
    running: &Running,
    asked: &Asked,
    result: &Result<Reply, integration_engine::wire::TransportError>,
) -> Understood {
    use integration_engine::wire::TransportError::TooLarge;
    let class = services::classify(Target::Mailchimp, result.as_ref());
    match (class, result, &running.campaign) {
        (Class::Answered, Ok(reply), None) => match reports::read_campaigns(reply) {
            Ok(page) => Understood::Listed(page),
            Err(why) => Understood::Refused(why),
        },
        (Class::Answered, Ok(reply), Some(campaign)) => {
            match reports::read_report(&campaign.id, campaign.report, asked.since, reply) {
                Ok(page) => Understood::Reported(page),
                Err(why) => Understood::Refused(why),
            }
        }
        (Class::NotFound, _, Some(_)) => Understood::Gone,
        (Class::Rejected | Class::NotFound, Ok(reply), _) => {
            Understood::Refused(format!("Mailchimp refuses to tell (HTTP {})", reply.status))
        }
        (_, Err(TooLarge(_)), _) if running.count > 1 => Understood::Smaller,
        (_, Err(TooLarge(most)), _) => {
            Understood::Refused(format!("a row is larger than {most} bytes"))
        }
        _ => Understood::Later,
    }
}
