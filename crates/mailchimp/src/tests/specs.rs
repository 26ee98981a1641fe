//! For tests: requests, compared with what the service documents of them.

use integration_contracts::Request as Wire;
use integration_engine::wire::Request;

/// Panics if the service would not know the request; does nothing where there is nothing to
/// compare it with.
#[track_caller]
pub(crate) fn check(request: &Request) {
    let wire = Wire {
        method: request.method.name(),
        path: &request.path,
        body: request.body.as_deref().unwrap_or_default(),
    };
    let known = integration_contracts::mailchimp();
    if let Some(Err(why)) = known.map(|known| known.check(wire)) {
        panic!("{why}");
    }
}
