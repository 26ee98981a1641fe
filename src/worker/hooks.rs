//! Registering webhooks at Mailchimp: one job, one question at a time.

use std::time::{Duration, Instant};

use integration_engine::delivery::failure::Class;
use integration_engine::record::Target;
use integration_engine::wire::{Reply, TransportError};
use integration_mailchimp::hooks::{self, Created, Found, Wanted};
use pgrx::spi::SpiResult;

use super::jobs::A_MOMENT;
use super::reconcile::Answered;
use super::target::TargetWorker;
use super::{Worker, World, requests};
use crate::services;
use crate::store::{self, state, webhooks};

/// What is asked next.
enum Step {
    List,
    Delete(String),
    Create,
}

struct Running {
    job: i64,
    wanted: Wanted,
    step: Step,
    underway: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Hooks {
    running: Option<Running>,
    not_before: Option<Instant>,
}

/// What becomes of the job.
enum Next {
    Ask(Step),
    Later,
    Done,
    Failed(String),
}

impl Hooks {
    /// Whether an answer is to one of its questions.
    pub fn asked(&self, answered: &Answered) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.job == answered.job)
    }

    /// How long until there is something to ask.
    pub fn next_look(&self, targets: &[TargetWorker], world: &World) -> Option<Duration> {
        let now = world.now.instant;
        let waits = self
            .running
            .as_ref()
            .is_some_and(|running| !running.underway);
        let worker = targets
            .iter()
            .find(|worker| worker.target == Target::Mailchimp)?;
        let until = self
            .not_before
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        (waits && may_ask(worker, world, now)).then_some(until)
    }
}

fn may_ask(worker: &TargetWorker, world: &World, now: Instant) -> bool {
    worker.may_send(&world.settings, now) && !requests::unidentified(worker, world)
}

impl Worker {
    /// Asks what is to be asked next for a webhook that somebody wants.
    pub(super) fn register_hooks(&mut self) -> SpiResult<()> {
        if self.hooks.running.is_none() {
            let next = self.requests.jobs.iter().find(|job| job.kind == "webhook");
            let Some(job) = next.map(|job| job.id) else {
                return Ok(());
            };
            match store::transaction(|| webhooks::wanted(job))? {
                Some(wanted) => {
                    self.hooks.running = Some(Running {
                        job,
                        wanted,
                        step: Step::List,
                        underway: false,
                    });
                }
                // Cancelled.
                None => self.requests.jobs.retain(|known| known.id != job),
            }
        }
        let now = self.world.now.instant;
        let mut targets = self.targets.iter_mut();
        let Some(worker) = targets.find(|worker| worker.target == Target::Mailchimp) else {
            return Ok(());
        };
        let rests = self.hooks.not_before.is_some_and(|until| until > now);
        let Some(running) = self
            .hooks
            .running
            .as_mut()
            .filter(|running| !running.underway)
        else {
            return Ok(());
        };
        if rests || !may_ask(worker, &self.world, now) {
            return Ok(());
        }
        let request = match &running.step {
            Step::List => hooks::list_request(&running.wanted),
            Step::Delete(id) => hooks::delete_request(&running.wanted, id),
            Step::Create => {
                // Should its answer be lost, there is one that nobody knows the secret of.
                running.wanted.replace = true;
                let job = running.job;
                store::transaction(|| {
                    webhooks::may_have_made(job)?;
                    store::commit_durably()
                })?;
                hooks::create_request(&running.wanted)
            }
        };
        let (job, world) = (running.job, &self.world);
        running.underway = self.requests.send_census(worker, world, job, request);
        if !running.underway {
            self.hooks.not_before = Some(now + A_MOMENT);
        }
        Ok(())
    }

    pub(super) fn take_hooks(&mut self, answered: Vec<Answered>) -> SpiResult<()> {
        for Answered { job, result, .. } in answered {
            let Some(mut running) = self.hooks.running.take_if(|running| running.job == job) else {
                continue;
            };
            running.underway = false;
            let next = store::transaction(|| {
                let next = understand(&running, &result)?;
                match &next {
                    Next::Done => state::end_job(job, None)?,
                    Next::Failed(why) => state::end_job(job, Some(&running.wanted.conceal(why)))?,
                    Next::Ask(_) | Next::Later => {}
                }
                Ok::<_, pgrx::spi::Error>(next)
            })?;
            match next {
                Next::Ask(step) => running.step = step,
                Next::Later => {
                    // Whether it was carried out is not known.
                    running.step = Step::List;
                    self.hooks.not_before = Some(self.world.now.instant + A_MOMENT);
                }
                Next::Done | Next::Failed(_) => {
                    self.requests.jobs.retain(|known| known.id != job);
                    continue;
                }
            }
            self.hooks.running = Some(running);
        }
        Ok(())
    }
}

fn understand(running: &Running, result: &Result<Reply, TransportError>) -> SpiResult<Next> {
    let class = services::classify(Target::Mailchimp, result.as_ref());
    let (Class::Answered | Class::Rejected | Class::NotFound, Ok(reply)) = (class, result) else {
        return Ok(Next::Later);
    };
    let wanted = &running.wanted;
    match &running.step {
        Step::List => match hooks::read_list(wanted, reply) {
            Ok(Found::None) => Ok(Next::Ask(Step::Create)),
            Ok(Found::Same { id, signing }) => found(wanted, id, signing),
            Err(why) => Ok(Next::Failed(why)),
        },
        Step::Delete(_) => Ok(match hooks::read_deleted(reply) {
            Ok(()) => Next::Ask(Step::Create),
            Err(why) => Next::Failed(why),
        }),
        Step::Create => match hooks::read_created(reply) {
            Ok(created) => keep(wanted, created),
            Err(why) => Ok(Next::Failed(why)),
        },
    }
}

/// There is one with this URL already.
fn found(wanted: &Wanted, id: String, signing: bool) -> SpiResult<Next> {
    let kept = webhooks::all()?;
    let ours = kept
        .iter()
        .find(|kept| kept.list == wanted.list && kept.url == wanted.url && kept.hook == id);
    Ok(match ours {
        // Its secret has to be readable, or it is worth nothing.
        Some(kept) if kept.sealed.is_none() || kept.secret().is_ok() => Next::Done,
        _ if wanted.replace => Next::Ask(Step::Delete(id)),
        _ => Next::Failed(format!(
            "the audience {} has a webhook with this URL already ({id}, {}), and Mailchimp showed its \
             secret only when it was made; set integration.mailchimp_webhook_signing_secret if you \
             have it, or call mailchimp_register_webhook() with replace => true, which deletes it \
             and makes another one",
            wanted.list,
            if signing {
                "which signs"
            } else {
                "which does not sign"
            }
        )),
    })
}

fn keep(wanted: &Wanted, created: Created) -> SpiResult<Next> {
    let sealed = created
        .secret
        .map(|secret| webhooks::seal(&wanted.list, &wanted.url, &secret));
    let sealed = match sealed.transpose() {
        Ok(sealed) => sealed,
        Err(why) => {
            return Ok(Next::Failed(format!(
                "the webhook was made, and its secret could not be kept: {why}; correct that, and \
                 call mailchimp_register_webhook() again with replace => true"
            )));
        }
    };
    webhooks::keep(&webhooks::Kept {
        list: wanted.list.clone(),
        url: wanted.url.clone(),
        hook: created.id,
        sealed,
    })?;
    store::commit_durably()?;
    Ok(Next::Done)
}
