//! Registering webhooks at Mailchimp: one job, one question at a time.

use std::time::{Duration, Instant};

use integration_engine::record::Target;
use integration_engine::service::failure::Class;
use integration_engine::wire::{Reply, TransportError};
use integration_mailchimp::hooks::{self, CreatedWebhook, ExistingWebhook, WantedWebhook};
use pgrx::spi::SpiResult;

use crate::services;
use crate::store::{self, inbound::webhooks, state};
use crate::worker::jobs::A_MOMENT;
use crate::worker::requests;
use crate::worker::task::{Answered, Question, Task, Token, Turn};

/// What is asked next.
enum RegistrationStep {
    List,
    Delete(String),
    Create,
}

struct Registration {
    job: i64,
    wanted: WantedWebhook,
    step: RegistrationStep,
    /// The question under way.
    asked: Option<Token>,
}

/// See the module's documentation.
#[derive(Default)]
pub struct WebhookRegistration {
    running: Option<Registration>,
    not_before: Option<Instant>,
}

/// What becomes of the job.
enum RegistrationNext {
    Ask(RegistrationStep),
    Later,
    /// There is one with this URL already.
    Known {
        id: String,
        signing: bool,
    },
    /// It has been made, and is to be remembered.
    Keep(CreatedWebhook),
    Done,
    Failed(String),
}

fn may_ask(turn: &Turn) -> bool {
    turn.worker(Target::Mailchimp).is_some_and(|worker| {
        worker.may_send(&turn.context.settings, turn.now())
            && !requests::unidentified(worker, turn.context)
    })
}

impl Task for WebhookRegistration {
    /// Asks what is to be asked next for a webhook that somebody wants.
    fn step(&mut self, turn: &mut Turn) -> SpiResult<()> {
        if self.running.is_none() {
            self.begin(turn)?;
        }
        let now = turn.now();
        let Some(running) = self.running.as_mut().filter(|known| known.asked.is_none()) else {
            return Ok(());
        };
        if self.not_before.is_some_and(|until| until > now) || !may_ask(turn) {
            return Ok(());
        }
        let request = match &running.step {
            RegistrationStep::List => hooks::list_request(&running.wanted),
            RegistrationStep::Delete(id) => hooks::delete_request(&running.wanted, id),
            RegistrationStep::Create => {
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
        running.asked = turn.ask(Target::Mailchimp, Question::reading(request));
        if running.asked.is_none() {
            self.not_before = Some(now + A_MOMENT);
        }
        Ok(())
    }

    fn on_answer(&mut self, answered: Answered, turn: &mut Turn) -> SpiResult<()> {
        let Answered { token, result, .. } = answered;
        let asked = |running: &mut Registration| running.asked == Some(token);
        let Some(mut running) = self.running.take_if(asked) else {
            return Ok(());
        };
        running.asked = None;
        let job = running.job;
        let next = store::transaction(|| {
            let next = match understand(&running, &result) {
                RegistrationNext::Known { id, signing } => known(&running.wanted, id, signing)?,
                RegistrationNext::Keep(created) => keep(&running.wanted, created)?,
                next => next,
            };
            match &next {
                RegistrationNext::Done => state::end_job(job, None)?,
                RegistrationNext::Failed(why) => {
                    state::end_job(job, Some(&running.wanted.conceal(why)))?
                }
                _ => {}
            }
            Ok::<_, pgrx::spi::Error>(next)
        })?;
        match next {
            RegistrationNext::Ask(step) => running.step = step,
            RegistrationNext::Later => {
                // Whether it was carried out is not known.
                running.step = RegistrationStep::List;
                self.not_before = Some(turn.now() + A_MOMENT);
            }
            RegistrationNext::Done
            | RegistrationNext::Failed(_)
            | RegistrationNext::Known { .. }
            | RegistrationNext::Keep(_) => {
                turn.requests.jobs.retain(|known| known.id != job);
                return Ok(());
            }
        }
        self.running = Some(running);
        Ok(())
    }

    fn next_wait(&self, turn: &Turn) -> Option<Duration> {
        let waits = |running: &Registration| running.asked.is_none();
        let waits = self.running.as_ref().is_some_and(waits) && may_ask(turn);
        waits.then(|| {
            let at = self.not_before;
            at.map_or(Duration::ZERO, |at| {
                at.saturating_duration_since(turn.now())
            })
        })
    }
}

impl WebhookRegistration {
    fn begin(&mut self, turn: &mut Turn) -> SpiResult<()> {
        let jobs = &mut turn.requests.jobs;
        let next = jobs.iter().find(|job| job.kind == "webhook");
        let Some(job) = next.map(|job| job.id) else {
            return Ok(());
        };
        match store::transaction(|| webhooks::wanted(job))? {
            Some(wanted) => {
                self.running = Some(Registration {
                    job,
                    wanted,
                    step: RegistrationStep::List,
                    asked: None,
                });
            }
            // Cancelled.
            None => jobs.retain(|known| known.id != job),
        }
        Ok(())
    }
}

fn understand(running: &Registration, result: &Result<Reply, TransportError>) -> RegistrationNext {
    let class = services::classify(Target::Mailchimp, result.as_ref());
    let (Class::Answered | Class::Rejected | Class::NotFound, Ok(reply)) = (class, result) else {
        return RegistrationNext::Later;
    };
    match &running.step {
        RegistrationStep::List => match hooks::read_list(&running.wanted, reply) {
            Ok(ExistingWebhook::None) => RegistrationNext::Ask(RegistrationStep::Create),
            Ok(ExistingWebhook::Same { id, signing }) => RegistrationNext::Known { id, signing },
            Err(why) => RegistrationNext::Failed(why),
        },
        RegistrationStep::Delete(_) => match hooks::read_deleted(reply) {
            Ok(()) => RegistrationNext::Ask(RegistrationStep::Create),
            Err(why) => RegistrationNext::Failed(why),
        },
        RegistrationStep::Create => match hooks::read_created(reply) {
            Ok(created) => RegistrationNext::Keep(created),
            Err(why) => RegistrationNext::Failed(why),
        },
    }
}

/// There is one with this URL already.
fn known(wanted: &WantedWebhook, id: String, signing: bool) -> SpiResult<RegistrationNext> {
    let kept = webhooks::all()?;
    let ours = kept
        .iter()
        .find(|kept| kept.list == wanted.list && kept.url == wanted.url && kept.hook == id);
    Ok(match ours {
        // Its secret has to be readable, or it is worth nothing.
        Some(kept) if kept.sealed.is_none() || kept.secret().is_ok() => RegistrationNext::Done,
        _ if wanted.replace => RegistrationNext::Ask(RegistrationStep::Delete(id)),
        _ => RegistrationNext::Failed(format!(
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

fn keep(wanted: &WantedWebhook, created: CreatedWebhook) -> SpiResult<RegistrationNext> {
    let sealed = created
        .secret
        .map(|secret| webhooks::seal(&wanted.list, &wanted.url, &secret));
    let sealed = match sealed.transpose() {
        Ok(sealed) => sealed,
        Err(why) => {
            return Ok(RegistrationNext::Failed(format!(
                "the webhook was made, and its secret could not be kept: {why}; correct that, and \
                 call mailchimp_register_webhook() again with replace => true"
            )));
        }
    };
    webhooks::keep(&webhooks::StoredWebhook {
        list: wanted.list.clone(),
        url: wanted.url.clone(),
        hook: created.id,
        sealed,
    })?;
    store::commit_durably()?;
    Ok(RegistrationNext::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(step: RegistrationStep) -> Registration {
        Registration {
            job: 1,
            wanted: WantedWebhook {
                url: "https://crm.example.org/hook".to_owned(),
                list: "abc".to_owned(),
                replace: false,
            },
            step,
            asked: None,
        }
    }

    fn reply(status: u16, body: &str) -> Result<Reply, TransportError> {
        Ok(Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
        })
    }

    #[test]
    fn webhook_is_made_where_there_is_none() {
        let next = understand(
            &running(RegistrationStep::List),
            &reply(200, r#"{"webhooks": []}"#),
        );
        assert!(matches!(
            next,
            RegistrationNext::Ask(RegistrationStep::Create)
        ));
    }

    #[test]
    fn webhook_with_the_same_url_is_looked_at() {
        let listed = r#"{"webhooks": [{"id": "h1", "url": "https://crm.example.org/hook"}]}"#;
        let next = understand(&running(RegistrationStep::List), &reply(200, listed));
        assert!(matches!(next, RegistrationNext::Known { id, .. } if id == "h1"));
    }

    #[test]
    fn what_was_deleted_is_made_again() {
        let next = understand(
            &running(RegistrationStep::Delete("h1".to_owned())),
            &reply(204, ""),
        );
        assert!(matches!(
            next,
            RegistrationNext::Ask(RegistrationStep::Create)
        ));
    }

    #[test]
    fn failing_service_is_asked_again_later() {
        for step in [
            RegistrationStep::List,
            RegistrationStep::Delete("h1".to_owned()),
            RegistrationStep::Create,
        ] {
            let next = understand(&running(step), &reply(503, ""));
            assert!(matches!(next, RegistrationNext::Later));
        }
    }
}
