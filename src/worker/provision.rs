//! Jobs of `integration.provision()`: what they ask of each target, and how far that has come.

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::BudgetReport;
use integration_engine::now::Now;
use integration_engine::record::Target;
use integration_engine::record::mapping::SourceMap;
use integration_engine::wire::{Reply, TransportError};
use integration_mailchimp::provision::{CreationAnswer, Provision, ProvisionProgress};
use pgrx::spi::SpiResult;

use super::Context;
use super::requests::Requests;
use super::target::TargetWorker;
use crate::services;
use crate::store::state::{self, Job};

/// Looks at the open jobs: what somebody wants created is looked for anew.
pub fn begin(worker: &mut TargetWorker, context: &Context, requests: &mut Requests) {
    if !requests.wants_provision(worker.target, context) {
        // The job may have been cancelled.
        worker.provision = Provision::default();
        return;
    }
    match worker.target {
        Target::HubSpot => super::properties::begin(worker, context),
        Target::Mailchimp if worker.provision.is_idle() => {
            requests.provisioned.remove(&Target::Mailchimp);
            worker.provision.begin(&mut worker.preflight.mailchimp);
        }
        Target::Mailchimp => {}
    }
}

/// The maps of what goes to Mailchimp.
pub fn maps(context: &Context) -> impl Iterator<Item = &SourceMap> + Clone {
    let sources = context.sources.values();
    sources.filter_map(|source| source.maps.get(&Target::Mailchimp))
}

/// Takes in the answer to the creation of a merge field.
pub fn hear(worker: &mut TargetWorker, result: &Result<Reply, TransportError>, now: Now) {
    let signal = match worker.provision.hear(result.as_ref()) {
        CreationAnswer::Yes | CreationAnswer::No => TargetSignal::Healthy,
        // Though it may seem well, it is not asked at once again.
        CreationAnswer::Later => match services::signal(worker.target, result) {
            TargetSignal::Healthy => TargetSignal::Failing {
                why: "Mailchimp does not answer as expected".to_owned(),
            },
            signal => signal,
        },
    };
    worker.hear(&signal, &BudgetReport::default(), now);
}

/// Notes how merge fields stand. Returns whether there is news of them.
pub fn look(worker: &mut TargetWorker, requests: &mut Requests) -> bool {
    if worker.target != Target::Mailchimp {
        return false;
    }
    let Some(progress) = worker.provision.progress(&mut worker.preflight.mailchimp) else {
        return false;
    };
    let known = requests
        .provisioned
        .insert(Target::Mailchimp, progress.clone());
    known != Some(progress)
}

impl Requests {
    /// Whether somebody asked for what a target lacks to be created. Without a target that is for
    /// all that are set up and used.
    pub fn wants_provision(&self, target: Target, context: &Context) -> bool {
        self.provisions()
            .any(|job| targets(job, context).contains(&target))
    }

    fn provisions(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| job.kind == "provision")
    }

    /// Notes the progress of provisioning; ends the jobs of which all is there, or something failed.
    pub fn settle_provision(&mut self, context: &Context) -> SpiResult<()> {
        let mut over = Vec::new();
        for job in self.provisions() {
            let targets = targets(job, context);
            let known: Vec<&ProvisionProgress> = targets
                .iter()
                .filter_map(|target| self.provisioned.get(target))
                .collect();
            let ready: usize = known.iter().map(|progress| progress.ready).sum();
            let all: usize = known.iter().map(|progress| progress.all).sum();
            let failure = known
                .iter()
                .find_map(|progress| progress.failure.as_deref());
            state::job_progress(job.id, ready as i64, all as i64)?;
            if failure.is_some() || (known.len() == targets.len() && ready == all) {
                state::end_job(job.id, failure)?;
                over.push(job.id);
            }
        }
        if !over.is_empty() {
            self.jobs.retain(|job| !over.contains(&job.id));
            // The next job looks for itself.
            self.provisioned.clear();
        }
        Ok(())
    }
}

fn targets(job: &Job, context: &Context) -> Vec<Target> {
    match job.target {
        Some(target) => vec![target],
        None => Target::ALL
            .into_iter()
            .filter(|target| {
                context.settings.endpoint(*target).is_ok() && is_used(context, *target)
            })
            .collect(),
    }
}

/// Whether anything tracked goes there; a target that nobody uses need not be reachable.
fn is_used(context: &Context, target: Target) -> bool {
    let mut sources = context.sources.values();
    sources.any(|source| source.maps.contains_key(&target))
}
