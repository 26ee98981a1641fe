//! For tests: requests, compared with what the service documents of them.

use integration_contracts::Request as Wire;
use integration_engine::wire::Request;

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
    let known = integration_contracts::hubspot();
    if let Some(Err(why)) = known.map(|known| known.check(wire)) {
        panic!("{why}");
    }
}
