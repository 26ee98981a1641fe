//! The services' own Node clients make every call that the sandbox offers, and check its webhooks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use integration_sandbox::{Config, Sandbox};

/// Installs the clients, once, at the versions of the lock file.
fn clients() -> &'static Path {
    static INSTALLED: Once = Once::new();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"));
    INSTALLED.call_once(|| {
        if !folder.join("node_modules/.package-lock.json").exists() {
            let installed = Command::new("npm")
                .arg("ci")
                .current_dir(folder)
                .status()
                .unwrap();
            assert!(installed.success(), "npm ci failed");
        }
    });
    folder
}

fn run(script: &str, arguments: &[&str]) {
    let output = Command::new("node")
        .arg(script)
        .args(arguments)
        .current_dir(clients())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

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
