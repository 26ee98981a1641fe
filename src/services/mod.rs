//! The registry: the list of services, and what each of them says where only the target is known.

use integration_engine::delivery::failure::{self, Class};
use integration_engine::hubspot::HubSpot;
use integration_engine::limits::pace::Strain;
use integration_engine::mailchimp::Mailchimp;
use integration_engine::queue::traces::Watched;
use integration_engine::record::Target;
use integration_engine::record::mapping::{Field, SourceMap};
use integration_engine::service::Service;
use integration_engine::value::{Value, ValueError};
use integration_engine::wire::{Reply, TransportError};

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
