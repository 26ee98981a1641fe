//! What is asked before records are sent: our unique property, and what the services' definitions
//! say; and what is created there.

use super::*;
use crate::worker::target::Property;
use crate::worker::{provision, sharing};

impl Requests {
    /// Asks HubSpot for our unique property on objects it is not known of, or creates it if that
    /// was asked for; and who else uses it.
    pub fn ask_for_properties(&mut self, worker: &mut TargetWorker, world: &World) {
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
            if !self.permitted(worker, world.now) {
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
                worker,
                world,
                request,
                Underway::Property { entity, creating },
            );
        }
        if sharing::is_due(worker, world, world.now.instant) && self.has_token(worker, world.now) {
            match worker.permit(Allowance::Search, world.now) {
                Ok(()) => {
                    let request = sharing::ask(worker, world);
                    self.send(worker, world, request, Underway::Others);
                }
                Err(wait) => sharing::postpone(worker, wait, world.now),
            }
        }
    }

    /// Asks for definitions that are needed and not known.
    pub fn ask_for_definitions(&mut self, worker: &mut TargetWorker, world: &World) {
        while let Some(subject) = worker.preflight.due(world.now.clock) {
            if self.is_crowded(worker, world) || !self.permitted(worker, world.now) {
                return;
            }
            let request = worker.preflight.ask(&subject, world);
            worker.calls_in_flight += 1;
            let underway = Underway::Definitions {
                subject,
                request: request.clone(),
            };
            self.send(worker, world, request, underway);
        }
    }

    /// Has a merge field created, if that was asked for.
    pub fn create_merge_fields(&mut self, worker: &mut TargetWorker, world: &World) {
        let idle = worker.target != Target::Mailchimp || worker.provision.is_idle();
        if idle
            || unidentified(worker, world)
            || self.is_crowded(worker, world)
            || !self.permitted(worker, world.now)
        {
            return;
        }
        let preflight = &worker.preflight.mailchimp;
        if let Some(request) = worker.provision.next(preflight, provision::maps(world)) {
            worker.calls_in_flight += 1;
            let underway = Underway::MergeField(request.clone());
            self.send(worker, world, request, underway);
        }
    }

    /// Whether as many calls are under way as may be.
    fn is_crowded(&self, worker: &TargetWorker, world: &World) -> bool {
        worker.calls_in_flight >= worker.most_calls(&world.settings)
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
