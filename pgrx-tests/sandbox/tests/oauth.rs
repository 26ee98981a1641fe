//! The sandbox's OAuth server: renewal, rotation, revocation, introspection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Answer, send};
use integration_sandbox::{Config, Sandbox};

const DETAILS: &str = "/account-info/2026-09/details";

fn call(sandbox: &Sandbox, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    send(
        sandbox.hubspot_url().as_ref(),
        &authorization,
        method,
        path,
        body,
    )
    .unwrap()
}

fn form(config: &Config, more: &str) -> String {
    format!(
        "client_id={}&client_secret={}&{more}",
        config.hubspot.client_id, config.hubspot.client_secret
    )
}

fn renew(sandbox: &Sandbox, config: &Config, refresh_token: &str) -> Answer {
    let body = form(
        config,
        &format!("grant_type=refresh_token&refresh_token={refresh_token}"),
    );
    call(sandbox, "", "POST", "/oauth/2026-09/token", &body)
}

#[test]
fn a_rotated_refresh_token_is_good_once() {
    let mut config = Config::default();
    config.hubspot.rotate_refresh_tokens = true;
    let sandbox = Sandbox::start(config.clone());
    let first = renew(&sandbox, &config, &config.hubspot.refresh_token).json();
    let second = first["refresh_token"].as_str().unwrap();
    assert_ne!(second, config.hubspot.refresh_token);
    let refused = renew(&sandbox, &config, &config.hubspot.refresh_token);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["status"], "BAD_REFRESH_TOKEN");
    assert_eq!(renew(&sandbox, &config, second).status, 200);
}

#[test]
fn tokens_are_introspected_expire_and_are_revoked() {
    let config = Config::default();
    let sandbox = Sandbox::start(config.clone());
    let token = renew(&sandbox, &config, &config.hubspot.refresh_token).json();
    let token = token["access_token"].as_str().unwrap();
    let ask = || {
        let body = form(
            &config,
            &format!("token_type_hint=access_token&token={token}"),
        );
        call(
            &sandbox,
            "",
            "POST",
            "/oauth/2026-09/token/introspect",
            &body,
        )
        .json()
    };
    assert_eq!(ask()["active"], true);
    assert_eq!(ask()["hub_id"], config.hubspot.portal_id);
    assert_eq!(call(&sandbox, token, "GET", DETAILS, "").status, 200);
    sandbox.expire_tokens();
    assert_eq!(ask()["active"], false);
    let refused = call(&sandbox, token, "GET", DETAILS, "");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["category"], "EXPIRED_AUTHENTICATION");
    sandbox.configure(|config| config.hubspot.revoked = true);
    assert_eq!(
        renew(&sandbox, &config, &config.hubspot.refresh_token).status,
        400
    );
    let wrong = call(
        &sandbox,
        "",
        "POST",
        "/oauth/2026-09/token",
        "client_id=nobody",
    );
    assert_eq!(wrong.json()["status"], "BAD_CLIENT_ID");
}

#[test]
fn deprecation_can_be_announced() {
    let config = Config::default();
    let sandbox = Sandbox::start(config.clone());
    let token = config.hubspot.token.unwrap();
    assert_eq!(
        call(&sandbox, &token, "GET", DETAILS, "").header("deprecation"),
        None
    );
    sandbox.configure(|config| config.hubspot.deprecation = Some("@1".to_owned()));
    let answer = call(&sandbox, &token, "GET", DETAILS, "");
    assert_eq!(answer.header("deprecation"), Some("@1"));
    assert_eq!(answer.json()["timeZone"], config.hubspot.time_zone.as_str());
}
