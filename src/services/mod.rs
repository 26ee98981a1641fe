//! The registry: the list of services, and what each of them says where only the target is known.

use integration_engine::delivery::call::{Allowance, CallKind};
use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::erasure::{ErasureAnswer, ErasureStep};
use integration_engine::event_order::Affected;
use integration_engine::limits::concurrency::Strain;
use integration_engine::queue::traces::Watched;
use integration_engine::record::kind::Convention;
use integration_engine::record::mapping::{Field, SourceMap};
use integration_engine::record::{Entity, Target};
use integration_engine::service::Service;
use integration_engine::service::failure::{self, Class};
use integration_engine::value::{Value, ValueError};
use integration_engine::webhook::{self, EventSubject};
use integration_engine::wire::{Reply, Request, TransportError};
use integration_hubspot as hubspot;
use integration_hubspot::webhook::HubSpotSubject;
use integration_hubspot::{HubSpot, HubSpotSettings};
use integration_mailchimp as mailchimp;
use integration_mailchimp::Mailchimp;
use integration_mailchimp::webhook::{MailchimpSubject, MandrillSubject};

/// Evaluates an expression in which a target's service is a type.
macro_rules! dispatch {
    ($target:expr, $service:ident => $body:expr) => {
        match $target {
            integration_engine::record::Target::HubSpot => {
                type $service = integration_hubspot::HubSpot;
                $body
            }
            integration_engine::record::Target::Mailchimp => {
                type $service = integration_mailchimp::Mailchimp;
                $body
            }
        }
    };
}
pub(crate) use dispatch;

/// Evaluates an expression for a [`Call`], be it to which service it may.
macro_rules! with_call {
    ($any:expr, $call:ident => $body:expr) => {
        match $any {
            $crate::services::Call::HubSpot($call) => $body,
            $crate::services::Call::Mailchimp($call) => $body,
        }
    };
}
pub(crate) use with_call;

/// A call that carries records to one of the services.
#[derive(Clone, Debug)]
pub enum Call {
    HubSpot(hubspot::Call),
    Mailchimp(mailchimp::Call),
}

impl Call {
    pub fn request(&self) -> &Request {
        with_call!(self, call => &call.request)
    }

    pub fn allowance(&self) -> Allowance {
        with_call!(self, call => call.kind.allowance())
    }
}

/// Calls a function of [`Service`] for a target.
macro_rules! of {
    ($target:expr, $function:ident($($argument:expr),*)) => {
        match $target {
            Target::HubSpot => HubSpot::$function($($argument),*),
            Target::Mailchimp => Mailchimp::$function($($argument),*),
        }
    };
}

/// See [`failure::classify`].
pub fn classify(target: Target, reply: Result<&Reply, &TransportError>) -> Class {
    match target {
        Target::HubSpot => failure::classify::<HubSpot>(reply),
        Target::Mailchimp => failure::classify::<Mailchimp>(reply),
    }
}

/// What an answer that is not about records says about its target.
pub fn signal(target: Target, result: &Result<Reply, TransportError>) -> TargetSignal {
    classify(target, result.as_ref()).into()
}

/// See [`failure::strain`].
pub fn strain(target: Target, reply: Result<&Reply, &TransportError>) -> Option<Strain> {
    match target {
        Target::HubSpot => failure::strain::<HubSpot>(reply),
        Target::Mailchimp => failure::strain::<Mailchimp>(reply),
    }
}

/// See [`Service::watched`].
pub fn watched(target: Target, field: &Field, number: Option<i16>) -> Option<Watched> {
    of!(target, watched(field, number))
}

/// See [`Service::to_remote`].
pub fn to_remote<'r>(map: &SourceMap, row: &'r [Option<String>], index: usize) -> Value<'r> {
    of!(map.target, to_remote(map, row, index))
}

/// See [`Service::canonical`].
pub fn canonical<'t>(map: &SourceMap, field: &Field, remote: Option<&'t str>) -> Value<'t> {
    of!(map.target, canonical(map, field, remote))
}

/// See [`Service::to_column`].
pub fn to_column(
    target: Target,
    field: &Field,
    remote: Option<&str>,
    present: Option<&str>,
) -> Result<Option<String>, ValueError> {
    of!(target, to_column(field, remote, present))
}

/// See [`Service::same`].
pub fn same(target: Target, field: &Field, crm: Option<&str>, remote: Option<&str>) -> bool {
    of!(target, same(field, crm, remote))
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq)]
pub enum AnySubject {
    HubSpot(HubSpotSubject),
    Mailchimp(MailchimpSubject),
    Mandrill(MandrillSubject),
}

/// Something that happened at one of the services.
pub type Event = webhook::Event<AnySubject>;

/// What an entry of a webhook's body is: an event, or why it is none.
pub type Entry = webhook::Entry<AnySubject>;

/// Entries of one service's as those of any.
pub fn entries<T>(entries: Vec<webhook::Entry<T>>, subject: fn(T) -> AnySubject) -> Vec<Entry> {
    let entries = entries.into_iter();
    entries
        .map(|entry| entry.map(|event| event.map(subject)))
        .collect()
}

impl AnySubject {
    fn any(&self) -> &dyn EventSubject {
        match self {
            AnySubject::HubSpot(subject) => subject,
            AnySubject::Mailchimp(subject) => subject,
            AnySubject::Mandrill(subject) => subject,
        }
    }
}

impl EventSubject for AnySubject {
    fn in_whole_seconds(&self) -> bool {
        self.any().in_whole_seconds()
    }

    fn ends_mail(&self) -> bool {
        self.any().ends_mail()
    }

    fn claim(&self) -> Affected {
        self.any().claim()
    }
}

/// A kind of object, by the name that SQL users see.
pub fn entity(name: &str) -> Option<Entity> {
    hubspot::objects::from_name(name)
}

/// The fields that `track()` maps by itself.
pub fn conventions(target: Target, entity: Entity) -> &'static [Convention] {
    match target {
        Target::HubSpot => hubspot::objects::of(entity).conventions,
        Target::Mailchimp => &mailchimp::CONVENTIONS,
    }
}

/// The request that a step of an erasure takes.
pub fn erasure_request(step: &ErasureStep, entity: Entity, settings: &HubSpotSettings) -> Request {
    match step {
        ErasureStep::Look(id) => hubspot::erasure::look_request(settings, entity, id),
        ErasureStep::Erase(id) => hubspot::erasure::erase_request(settings, entity, id),
        ErasureStep::EraseAddress(email) => {
            hubspot::erasure::erase_address_request(settings, entity, email)
        }
        ErasureStep::Archive(id) => hubspot::erasure::archive_request(settings, entity, id),
        ErasureStep::EraseMember { list, hash } => mailchimp::erasure::erase_request(list, hash),
    }
}

/// What an answer to a step of an erasure means.
pub fn erasure_answer(
    step: &ErasureStep,
    reply: Result<&Reply, &TransportError>,
    settings: &HubSpotSettings,
) -> ErasureAnswer {
    match step.target() {
        Target::HubSpot => hubspot::erasure::read(step, reply, settings),
        Target::Mailchimp => mailchimp::erasure::read(reply),
    }
}
