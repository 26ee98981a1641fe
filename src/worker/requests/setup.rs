//! What is asked before records are sent: our unique property, and what HubSpot's definitions say.

use super::*;
use crate::worker::target::Property;

impl Requests {
    /// Asks HubSpot for our unique property on objects it is not known of, or creates it if that
    /// was asked for.
    pub fn ask_for_properties(
        &mut self,
        worker: &mut TargetWorker,
        world: &World,
        started: Instant,
    ) {
        if unidentified(worker, world) {
            return;
        }
        for entity in properties::entities(worker, world) {
            let creating = match worker
                .properties
                .get(&entity)
                .copied()
                .unwrap_or(Property::Unknown)
            {
                Property::Unknown => false,
                Property::Wanted => true,
                Property::Asked
                | Property::Creating
                | Property::Ready
                | Property::Missing
                | Property::Refused => {
                    continue;
                }
            };
            if !self.permitted(worker, started) {
                return;
            }
            let request = property_request(world, entity, creating);
            let state = if creating {
                Property::Creating
            } else {
                Property::Asked
            };
            worker.properties.insert(entity, state);
            self.send(
                worker.target,
                world,
                request,
                Underway::Property { entity, creating },
            );
        }
    }

    /// Asks HubSpot for definitions that are needed and not known.
    pub fn ask_for_definitions(
        &mut self,
        worker: &mut TargetWorker,
        world: &World,
        started: Instant,
    ) {
        while let Some(subject) = worker.preflight.due(since(started)) {
            if !self.permitted(worker, started) {
                return;
            }
            let request = worker.preflight.ask(subject, &world.settings.hubspot_api);
            let underway = Underway::Definitions {
                subject,
                request: request.clone(),
            };
            self.send(worker.target, world, request, underway);
        }
    }

    /// Whether somebody asked for missing properties to be created.
    pub fn wants_provision(&self) -> bool {
        self.jobs.iter().any(|job| job.kind == "provision")
    }

    /// Notes the progress of provisioning; ends its jobs when all is there, or something failed.
    pub fn end_provision(
        &mut self,
        ready: usize,
        all: usize,
        failure: Option<String>,
    ) -> SpiResult<()> {
        let (ready, all) = (ready as i64, all as i64);
        for job in self.jobs.iter().filter(|job| job.kind == "provision") {
            state::job_progress(job.id, ready, all)?;
            if ready == all || failure.is_some() {
                state::end_job(job.id, failure.as_deref())?;
            }
        }
        if ready == all || failure.is_some() {
            self.jobs.retain(|job| job.kind != "provision");
        }
        Ok(())
    }
}

pub(super) fn property_request(world: &World, entity: Entity, creating: bool) -> Request {
    let settings = &world.settings.hubspot_api;
    if creating {
        hubspot::property::create_property_request(settings, entity)
    } else {
        hubspot::property::property_request(settings, entity)
    }
}
