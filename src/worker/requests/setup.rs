//! What is asked before records are sent: our unique property, and what the services' definitions
//! say; and what is created there.

use super::*;
use crate::worker::hubspot::sharing;
use crate::worker::provision;
use crate::worker::target::UniqueProperty;

impl Requests {
    /// Asks HubSpot for our unique property on objects it is not known of, or creates it if that
    /// was asked for; and who else uses it.
    pub fn ask_for_properties(&mut self, worker: &mut TargetWorker, context: &Context) {
        if unidentified(worker, context) {
            return;
        }
        for entity in properties::present(worker, context) {
            let creating = match worker
                .properties
                .get(&entity)
                .copied()
                .unwrap_or(UniqueProperty::Unknown)
            {
                UniqueProperty::Unknown => false,
                UniqueProperty::Wanted => true,
                UniqueProperty::Asked
                | UniqueProperty::Creating
                | UniqueProperty::Ready
                | UniqueProperty::Missing
                | UniqueProperty::Refused => {
                    continue;
                }
            };
            if !self.permitted(worker, context.now) {
                return;
            }
            let request = property_request(worker, context, entity, creating);
            let state = if creating {
                UniqueProperty::Creating
            } else {
                UniqueProperty::Asked
            };
            worker.properties.insert(entity, state);
            self.send(
                worker,
                context,
                request,
                Underway::Property { entity, creating },
            );
        }
        if sharing::is_due(worker, context, context.now.instant)
            && self.has_token(worker, context.now)
        {
            match worker.permit(hubspot::SEARCH, context.now) {
                Ok(()) => {
                    let request = sharing::ask(worker, context);
                    self.send(worker, context, request, Underway::Others);
                }
                Err(wait) => sharing::postpone(worker, wait, context.now),
            }
        }
    }

    /// Asks for definitions that are needed and not known.
    pub fn ask_for_definitions(&mut self, worker: &mut TargetWorker, context: &Context) {
        while let Some(subject) = worker.preflight.due(context.now.clock) {
            if self.is_crowded(worker, context) || !self.permitted(worker, context.now) {
                return;
            }
            let request = worker.preflight.ask(&subject, context);
            worker.calls_in_flight += 1;
            let underway = Underway::Definitions {
                subject,
                request: request.clone(),
            };
            self.send(worker, context, request, underway);
        }
    }

    /// Has a merge field created, if that was asked for.
    pub fn create_merge_fields(&mut self, worker: &mut TargetWorker, context: &Context) {
        let idle = worker.target != Target::Mailchimp || worker.provision.is_idle();
        if idle
            || unidentified(worker, context)
            || self.is_crowded(worker, context)
            || !self.permitted(worker, context.now)
        {
            return;
        }
        let preflight = &worker.preflight.mailchimp;
        if let Some(request) = worker.provision.next(preflight, provision::maps(context)) {
            worker.calls_in_flight += 1;
            let underway = Underway::MergeField(request.clone());
            self.send(worker, context, request, underway);
        }
    }

    /// Whether as many calls are under way as may be.
    fn is_crowded(&self, worker: &TargetWorker, context: &Context) -> bool {
        worker.calls_in_flight >= worker.most_calls(&context.settings)
    }
}

pub(super) fn property_request(
    worker: &TargetWorker,
    context: &Context,
    entity: Entity,
    creating: bool,
) -> Request {
    let settings = &context.settings.hubspot_api;
    if creating {
        let group = worker.preflight.hubspot.catalog.group(entity);
        hubspot::property::create_property_request(settings, entity, group)
    } else {
        hubspot::property::property_request(settings, entity)
    }
}
