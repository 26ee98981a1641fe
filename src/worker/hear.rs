//! Answers that came in, into the tables: one transaction for all of them.

use integration_engine::delivery::settlement::Outcome;
use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use crate::store::queue::dead_letters;
use crate::store::server::accounts;
use crate::store::{self, state};
use crate::worker::hubspot::missing_scopes;
use crate::worker::lane::{answer, settle};
use crate::worker::target::account;
use crate::worker::{Worker, auth, preflight, properties, requests};

impl Worker {
    /// Takes in answers, and stores what they say.
    pub(super) fn hear_answers(&mut self) -> SpiResult<()> {
        let mut heard = self.requests.hear(&mut self.targets, &self.context);
        if heard.is_empty() {
            return Ok(());
        }
        let outcomes = self.read_answers(&mut heard);
        // The connections that have become free are used before what was learnt is written down:
        // until then its records are under way as before.
        let mut targets = self.targets.iter();
        let news_of_audiences = targets.any(|worker| worker.audiences.has_news());
        if heard.is_about_records() && !news_of_audiences {
            for index in (0..outcomes.len()).filter(|index| !outcomes[*index].is_empty()) {
                self.serve(index)?;
            }
        }
        let granted = heard.granted.take();
        let mut answers = Vec::new();
        for (task, answered, mut entry) in heard.tasks.drain(..) {
            self.tasks.describe(task, &answered, &mut entry);
            heard.log.push(entry);
            answers.push((task, answered));
        }
        let news = store::transaction(|| {
            dead_letters::log_requests(&heard.log)?;
            self.settle_access(&heard, granted.as_ref())?;
            properties::settle(
                &mut self.targets,
                &self.context,
                &mut self.requests,
                &heard.properties,
            )?;
            self.requests.settle_provision(&self.context)?;
            if heard.definitions {
                preflight::renew(&mut self.targets, &mut self.context)?;
            }
            if let Some(worker) = self
                .targets
                .iter_mut()
                .find(|worker| worker.target == Target::HubSpot)
            {
                missing_scopes::settle(worker, &self.context)?;
            }
            let mut news = Vec::new();
            for (worker, outcomes) in self.targets.iter_mut().zip(outcomes) {
                if !outcomes.is_empty() {
                    news.extend(settle::settle(worker, &self.context, outcomes, Vec::new())?);
                }
            }
            Ok::<_, pgrx::spi::Error>(news)
        })?;
        if let Some(granted) = granted {
            self.requests
                .install(granted, &mut self.targets, &self.context);
        }
        self.look_at_clock();
        self.context.consent_writebacks.extend(news);
        self.with_tasks(|tasks, turn| {
            let mut answers = answers.into_iter();
            answers.try_for_each(|(task, answered)| tasks.on_answer(task, answered, turn))
        })
    }

    /// Reads the answers to calls that carried records. Returns outcomes by target.
    fn read_answers(&mut self, heard: &mut requests::Heard) -> Vec<Vec<Outcome>> {
        let mut outcomes: Vec<Vec<Outcome>> = self.targets.iter().map(|_| Vec::new()).collect();
        for (index, answered) in std::mem::take(&mut heard.records) {
            let worker = &mut self.targets[index];
            let read = answer::read(worker, &self.context, answered, &mut heard.log);
            outcomes[index].extend(read);
        }
        outcomes
    }

    /// Stores what answers say about tokens, accounts, and what is going away.
    fn settle_access(
        &mut self,
        heard: &requests::Heard,
        granted: Option<&auth::Granted>,
    ) -> SpiResult<()> {
        if let Some(granted) = granted {
            self.requests.keep(granted)?;
        }
        for (target, notice) in &heard.notices {
            state::remark(notice.kind.name(), *target, &notice.about, &notice.text)?;
        }
        for worker in &mut self.targets {
            worker.audiences.tell()?;
        }
        for (target, seen) in &heard.accounts {
            for worker in self.targets.iter_mut().filter(|w| w.target == *target) {
                account::settle(worker, seen)?;
            }
        }
        Ok(())
    }

    pub(super) fn store_tests(&mut self) -> SpiResult<()> {
        let tested = self.requests.tested(&mut self.targets, &self.context);
        if tested.is_empty() {
            return Ok(());
        }
        store::transaction(|| tested.iter().try_for_each(accounts::put_tested))
    }
}
