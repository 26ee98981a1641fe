//! Every request that reaches the sandbox, compared with what its service documents; where that is
//! not at hand, nothing is.

use std::sync::{Arc, Mutex, PoisonError};

use integration_contracts::{Request, Verdict, hubspot, mailchimp};
use integration_sandbox::{Sandbox, Seen, Service};

/// So many of them tell enough.
const ENOUGH: usize = 10;

/// What was wrong with requests.
#[derive(Default, Clone)]
pub(crate) struct Contract(Arc<Mutex<Vec<String>>>);

impl Contract {
    pub(crate) fn watch(&self, sandbox: &Sandbox) {
        let broken = self.0.clone();
        sandbox.watch(move |seen| {
            if let Err(why) = check(seen) {
                let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                if broken.len() < ENOUGH {
                    broken.push(why);
                }
            }
        });
    }

    pub(crate) fn take_broken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn check(seen: Seen<'_>) -> Verdict {
    let request = Request {
        method: seen.method,
        path: match seen.service {
            Service::HubSpot => seen.path,
            // Mailchimp: paths are relative to `/3.0`.
            Service::Mailchimp => seen.path.strip_prefix("/3.0").unwrap_or(seen.path),
        },
        body: seen.body,
    };
    match seen.service {
        Service::HubSpot => hubspot().map_or(Ok(()), |known| known.check(request)),
        Service::Mailchimp => mailchimp().map_or(Ok(()), |known| known.check(request)),
    }
}
