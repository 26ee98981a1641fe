//! For tests: requests, compared with what the services document of them.

use integration_contracts::Request as Wire;

use crate::{record::Target, wire::Request};

/// Panics if the service would not know the request; does nothing where there is nothing to
/// compare it with.
#[track_caller]
pub(crate) fn check(request: &Request) {
    check_with(request, request.body.as_deref().unwrap_or_default());
}

/// The same with a body that the request gets later.
#[track_caller]
pub(crate) fn check_with(request: &Request, body: &[u8]) {
    let wire = Wire {
        method: request.method.name(),
        path: &request.path,
        body,
    };
    let checked = match request.target {
        Target::HubSpot => integration_contracts::hubspot().map(|known| known.check(wire)),
        Target::Mailchimp => integration_contracts::mailchimp().map(|known| known.check(wire)),
    };
    if let Some(Err(why)) = checked {
        panic!("{why}");
    }
}
