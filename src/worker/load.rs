//! What the worker goes by, read from the tables: at its start, and when somebody changed it.

use integration_engine::delivery::target_state::TargetState;
use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use crate::config::Settings;
use crate::pg::fence::Refusal;
use crate::pg::watch;
use crate::store::queue::dead_letters;
use crate::store::server::{accounts, copies};
use crate::store::{self, holds, sources, state};
use crate::worker::hubspot::missing_scopes;
use crate::worker::{Context, Worker, preflight, properties, provision, session};

impl Context {
    /// Reads the tracked tables.
    pub(super) fn read_sources(&mut self) -> SpiResult<()> {
        self.sources = sources::load()?
            .into_iter()
            .map(|source| (source.id, source))
            .collect();
        self.settings.mailchimp_api.several = self.names_audiences();
        Ok(())
    }

    /// Whether some table's rows say which audience they belong to.
    fn names_audiences(&self) -> bool {
        let sources = self.sources.values();
        let mut maps = sources.filter_map(|source| source.maps.get(&Target::Mailchimp));
        maps.any(|map| map.field_named("list_id").is_some())
    }

    /// Reads whether anything is remembered of records that planning has to look up.
    pub(super) fn read_memory(&mut self) -> SpiResult<()> {
        self.withheld = store::queue::withheld::any()?;
        self.objections = store::consent::objections::any()?;
        Ok(())
    }

    /// Why this database may not send, for people; `None`: it may.
    pub(super) fn why_fenced(&self) -> SpiResult<Option<String>> {
        match self.sources.values().all(|source| source.bound) {
            true => Ok(None),
            false => copies::why_fenced(),
        }
    }
}

impl Worker {
    /// Row security that hides rows from a table's owner is noticed before anything is read.
    fn hold_hidden(&self) -> SpiResult<()> {
        for source in self.context.sources.values().filter(|source| source.hidden) {
            let why = Refusal::Hidden(source.name.clone()).into_error();
            holds::hold(source.id, holds::HoldCause::RowSecurity, &why.to_string())?;
        }
        Ok(())
    }

    /// An earlier worker had to be ended, for it could not be got out of a table's code otherwise.
    fn hold_culprit(&self) -> SpiResult<()> {
        let Some(table) = self.context.slot.and_then(|slot| slot.take_culprit()) else {
            return Ok(());
        };
        let mut sources = self.context.sources.values();
        match sources.find(|source| source.oid == table) {
            Some(source) => holds::hold(
                source.id,
                holds::HoldCause::Timeout,
                &Refusal::TimedOut.into_error().to_string(),
            ),
            None => Ok(()),
        }
    }

    /// Reads configuration, pauses and counts.
    #[expect(
        clippy::too_many_lines,
        reason = "one query a part of what a worker goes by"
    )]
    pub(super) fn load(&mut self) -> SpiResult<()> {
        // Each statement sees what is committed by then: jobs are read first, so that tables and
        // rules are read as whoever asked for them left them, or later.
        let jobs = state::open_jobs()?;
        self.tasks.read_jobs()?;
        let mut settings = Settings::read(&store::server::secrets::load()?);
        if let Err(why) = session::assume_role() {
            settings.refuse(&why);
        }
        if let Err(why) = self.requests.check_network(&settings) {
            settings.refuse(&why);
        }
        self.context.settings = settings;
        copies::note_server()?;
        self.context.shape = sources::shape()?;
        sources::follow()?;
        self.context.read_sources()?;
        watch::watch(sources::relations(self.context.sources.values()));
        self.context.associations = store::associations::load()?;
        self.context.read_memory()?;
        holds::load()?;
        holds::replace(&holds::HoldCause::FOUND, sources::findings()?)?;
        self.hold_hidden()?;
        self.hold_culprit()?;
        let fenced = self.context.why_fenced()?;
        let nameless = self.context.settings.environment.is_empty();
        copies::ask_for_environment(nameless && fenced.is_none())?;
        let pauses = state::pauses()?;
        let guarded = state::guarded()?;
        let guard = self.context.settings.guard_deletes;
        self.requests
            .open_session(&self.context.settings, self.context.now)?;
        for worker in &mut self.targets {
            worker.words.clear();
            worker.account.load(accounts::known(worker.target)?);
            worker.audiences.load()?;
            worker.fenced = fenced.is_some();
            worker.fenced_why.clone_from(&fenced);
            worker.paused = None;
            if let Some(pause) = pauses.iter().find(|pause| pause.target == worker.target) {
                worker.pause(pause.reason.clone());
            }
            let still_held = guarded.contains(&worker.target);
            if worker.told.is_none() && still_held {
                worker.still_held();
            } else if worker.held.is_some()
                && !still_held
                && worker
                    .told
                    .as_ref()
                    .is_some_and(|told| told.state == TargetState::Held)
            {
                worker.release(guard.as_ref(), self.context.now.instant);
            }
            worker.configure(
                &self.context.settings,
                self.requests
                    .credential_changed(worker.target, &self.context.settings),
            );
            self.context
                .set_dead(worker.target, dead_letters::count(worker.target)?);
            worker.note_holds(&self.context)?;
            worker.look_up_retries(self.context.now)?;
            worker.preflight.recheck();
            preflight::refine(worker, &mut self.context)?;
            missing_scopes::recheck(worker);
            missing_scopes::settle(worker, &self.context)?;
        }
        self.requests.jobs = jobs;
        self.with_tasks(|tasks, turn| tasks.load(turn))?;
        for worker in &mut self.targets {
            provision::begin(worker, &self.context, &mut self.requests);
        }
        if self
            .requests
            .wants_provision(Target::HubSpot, &self.context)
        {
            properties::settle(&mut self.targets, &self.context, &mut self.requests, &[])?;
        }
        self.requests.settle_provision(&self.context)
    }
}
