//! The services' own Node clients make every call that the sandbox offers, and check its webhooks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use integration_sandbox::{Config, Sandbox, official::run};

fn without_search_limit() -> Config {
    let mut config = Config::default();
    config.hubspot.search_per_second = None;
    config
}

#[test]
fn hubspot() {
    let config = without_search_limit();
    let sandbox = Sandbox::start(config.clone());
    let hubspot = config.hubspot;
    run(
        "hubspot.mjs",
        &[
            &sandbox.hubspot_url(),
            &hubspot.token.unwrap(),
            &hubspot.client_id,
            &hubspot.client_secret,
            &hubspot.refresh_token,
        ],
    );
}

#[test]
fn mailchimp() {
    let config = without_search_limit();
    let sandbox = Sandbox::start(config.clone());
    run(
        "mailchimp.mjs",
        &[
            &sandbox.mailchimp_url(),
            &config.mailchimp.api_key,
            &config.mailchimp.list_id,
        ],
    );
}
