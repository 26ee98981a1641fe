//! HubSpot by OAuth: tokens come and go, records don't notice, and nobody sees them.

use std::{fs, sync::Arc, time::Duration};

use integration_tests::{
    cluster::{Cluster, secret_file},
    crm::{Crm, SOON},
    remote::{Config, Service, unlimited},
    wait::{holds_for, wait_until},
};

use crate::operate::access::{alerts, nothing_died, tested, until_state};

const SECRET: &str = "oauth-client-SECRET-value";
const REFRESH: &str = "na1-REFRESH-token-value";

/// A HubSpot app with OAuth instead of a static token.
pub fn app() -> Config {
    let mut config = unlimited();
    config.hubspot.token = None;
    config.hubspot.client_secret = SECRET.to_owned();
    config.hubspot.refresh_token = REFRESH.to_owned();
    config
}

/// A CRM that reaches it; `key`: what a rotated token is kept under.
fn with_oauth(config: Config, key: Option<&str>) -> Crm {
    with_oauth_on(Cluster::shared(), config, key)
}

pub fn with_oauth_on(cluster: Arc<Cluster>, config: Config, key: Option<&str>) -> Crm {
    let mut crm = untracked_with_oauth(cluster, config, key);
    crm.track();
    crm
}

pub fn untracked_with_oauth(cluster: Arc<Cluster>, config: Config, key: Option<&str>) -> Crm {
    let client_id = config.hubspot.client_id.clone();
    let mut crm = Crm::untracked(cluster, config);
    crm.run(&format!(
        "ALTER DATABASE {0} RESET integration.hubspot_access_token;
         ALTER DATABASE {0} SET integration.hubspot_client_id = '{client_id}';
         ALTER DATABASE {0} SET integration.hubspot_client_secret = '{SECRET}'",
        crm.database
    ));
    if let Some(key) = key {
        crm.set("encryption_key", key);
    }
    let name = format!("{}-refresh", crm.database);
    let file = secret_file(&crm.cluster, &name, REFRESH);
    crm.set("hubspot_refresh_token", &format!("file:{}", file.display()));
    crm
}

fn token_calls(crm: &Crm) -> usize {
    let requests = crm.remote.requests_to(Service::HubSpot);
    let token = |path: &str| path.starts_with("/oauth/") && path.ends_with("/token");
    requests
        .iter()
        .filter(|request| token(&request.path))
        .count()
}

#[test]
fn tokens_that_run_out_in_the_middle_cost_no_record() {
    let mut config = app();
    config.delay_ms = 5;
    let mut crm = with_oauth(config, None);
    crm.add_contacts(1, 3_000);
    for _ in 0..3 {
        let before = crm.remote.stats().contacts;
        wait_until("some more have arrived", SOON, || {
            (crm.remote.stats().contacts >= before + 400).then_some(())
        });
        crm.remote.expire_tokens();
    }
    crm.converges();
    assert_eq!(crm.remote.contacts().len(), 3_000);
    nothing_died(&mut crm);
    let renewals = token_calls(&crm);
    assert!(
        (2..=4).contains(&renewals),
        "one at the start, one each time they ran out: {renewals}"
    );
    assert_eq!(
        crm.ask::<i64>("SELECT count(*) FROM integration.alert WHERE kind = 'unauthorized'"),
        0
    );
    let attempts: i64 = crm.ask("SELECT count(*) FROM integration.request_log WHERE attempt > 1");
    assert_eq!(
        attempts, 0,
        "being refused for a token counts for no record"
    );
}

#[test]
fn short_lived_tokens_are_renewed_when_needed_and_not_when_idle() {
    let mut config = app();
    config.hubspot.expires_in = 2;
    let mut crm = with_oauth(config, None);
    crm.add_contacts(1, 10);
    crm.converges();
    let renewals = token_calls(&crm);
    holds_for(
        "an idle worker fetches none",
        Duration::from_secs(4),
        || token_calls(&crm) == renewals,
    );
    crm.run("UPDATE crm.contacts SET first_name = 'Later'");
    crm.converges();
    assert_eq!(token_calls(&crm), renewals + 1);
    let refused: i64 = crm.ask(
        "SELECT count(*) FROM integration.request_log WHERE target = 'hubspot' AND status = 401",
    );
    assert_eq!(refused, 0, "none was sent with a token that had run out");
}

#[test]
fn rotated_refresh_token_survives_the_worker() {
    let mut config = app();
    config.hubspot.rotate_refresh_tokens = true;
    let cluster = Arc::new(Cluster::start(&[], &[]));
    let mut crm = with_oauth_on(cluster, config, Some("a passphrase for this test"));
    crm.add_contacts(1, 5);
    crm.converges();
    let sealed: Vec<u8> = crm.ask("SELECT sealed FROM integration._oauth");
    assert!(sealed.len() > 12 + 16 && !String::from_utf8_lossy(&sealed).contains("na1-"));
    for round in 0..2 {
        crm.kill_worker();
        crm.run(&format!(
            "UPDATE crm.contacts SET first_name = 'Round {round}'"
        ));
        crm.converges();
    }
    nothing_died(&mut crm);
    // The one in the settings is good no longer: it is the stored one that was used. Another one set
    // there goes before.
    let new = "na1-another-installation";
    crm.remote
        .configure(|config| config.hubspot.refresh_token = new.to_owned());
    crm.set("hubspot_refresh_token", new);
    crm.run("UPDATE crm.contacts SET first_name = 'New'");
    crm.converges();
    let stored: i64 = crm.ask("SELECT count(*) FROM integration._oauth");
    assert_eq!(stored, 1, "only the latest is kept");
}

#[test]
fn rotated_token_is_sealed_with_the_servers_key_where_none_is_set() {
    let mut config = app();
    config.hubspot.rotate_refresh_tokens = true;
    let mut crm = with_oauth_on(Arc::new(Cluster::start(&[], &[])), config, None);
    crm.add_contacts(1, 5);
    crm.converges();
    crm.kill_worker();
    crm.run("UPDATE crm.contacts SET first_name = 'Again'");
    crm.converges();
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration._oauth"), 1);
    nothing_died(&mut crm);
}

#[test]
fn rotated_token_without_a_key_is_used_and_complained_about() {
    let mut config = app();
    config.hubspot.rotate_refresh_tokens = true;
    let mut crm = with_oauth(config, Some("file:/no/such/key"));
    crm.add_contacts(1, 5);
    crm.converges();
    crm.remote.expire_tokens();
    crm.run("UPDATE crm.contacts SET first_name = 'Again'");
    crm.converges();
    let alert = alerts(&mut crm, "encryption_key").remove(0);
    assert!(
        alert.contains("integration.encryption_key") && alert.contains("/no/such/key"),
        "{alert}"
    );
    assert_eq!(crm.ask::<i64>("SELECT count(*) FROM integration._oauth"), 0);
}

#[test]
fn revoked_access_pauses_the_target_until_it_is_back() {
    let mut crm = with_oauth(app(), None);
    crm.add_contacts(1, 5);
    crm.converges();
    crm.remote.configure(|config| config.hubspot.revoked = true);
    crm.run("UPDATE crm.contacts SET first_name = 'Waiting'");
    let line = until_state(&mut crm, "hubspot", "unauthorized");
    assert!(
        line.contains("BAD_REFRESH_TOKEN") && line.contains("hubspot_refresh_token"),
        "{line}"
    );
    assert_eq!(alerts(&mut crm, "unauthorized").len(), 1);
    let told = tested(&mut crm, "hubspot");
    assert!(
        told.starts_with("f|NULL|") && told.contains("BAD_REFRESH_TOKEN"),
        "{told}"
    );
    let asked = token_calls(&crm);
    crm.run("UPDATE crm.contacts SET last_name = 'Waiting'");
    assert!(
        token_calls(&crm) <= asked + 1,
        "it is not asked for with every change"
    );
    crm.remote
        .configure(|config| config.hubspot.revoked = false);
    crm.converges();
    until_state(&mut crm, "hubspot", "running");
    nothing_died(&mut crm);
    assert!(alerts(&mut crm, "unauthorized").is_empty());
}

#[test]
fn wrong_client_is_named_and_a_new_setting_is_taken_up() {
    let mut config = app();
    config.hubspot.client_id = "right".to_owned();
    let mut crm = Crm::untracked(Cluster::shared(), config);
    crm.run(&format!(
        "ALTER DATABASE {0} RESET integration.hubspot_access_token;
         ALTER DATABASE {0} SET integration.hubspot_client_secret = '{SECRET}';
         ALTER DATABASE {0} SET integration.hubspot_refresh_token = '{REFRESH}'",
        crm.database
    ));
    crm.set("hubspot_client_id", "wrong");
    crm.run("SELECT integration.track('crm.contacts', 'contact')");
    let line = until_state(&mut crm, "hubspot", "unauthorized");
    assert!(line.contains("BAD_CLIENT_ID"), "{line}");
    crm.set("hubspot_client_id", "right");
    until_state(&mut crm, "hubspot", "running");
}

#[test]
fn oauth_apps_can_be_tested_too() {
    let mut crm = with_oauth(app(), None);
    let told = tested(&mut crm, "hubspot");
    assert!(
        told.starts_with("t|12345678|") && told.contains("app 50780459"),
        "{told}"
    );
    crm.remote.expire_tokens();
    assert!(tested(&mut crm, "hubspot").starts_with("t|12345678|"));
}

#[test]
fn oauth_secrets_are_in_no_log_and_no_table() {
    let mut config = app();
    config.hubspot.rotate_refresh_tokens = true;
    let cluster = Arc::new(Cluster::start(&[("log_min_messages", "debug1")], &[]));
    let mut crm = Crm::untracked(cluster, config.clone());
    crm.remote.keep_bodies(true);
    crm.run("SET log_statement = 'none'; SET log_min_error_statement = 'panic'");
    crm.run(&format!(
        "ALTER DATABASE {} RESET integration.hubspot_access_token",
        crm.database
    ));
    let settings = [
        ("hubspot_client_id", config.hubspot.client_id.as_str()),
        ("hubspot_client_secret", SECRET),
        ("encryption_key", "ENCRYPTION-key-value-of-this-test"),
    ];
    for (name, value) in settings {
        let file = secret_file(&crm.cluster, &format!("{}-{name}", crm.database), value);
        crm.set(name, &format!("file:{}", file.display()));
    }
    let file = secret_file(&crm.cluster, &format!("{}-refresh", crm.database), REFRESH);
    crm.set("hubspot_refresh_token", &format!("file:{}", file.display()));
    crm.track();
    crm.add_contacts(1, 10);
    crm.converges();
    tested(&mut crm, "hubspot");
    crm.remote.expire_tokens();
    crm.remote.configure(|config| config.hubspot.revoked = true);
    crm.run("UPDATE crm.contacts SET first_name = 'x'");
    until_state(&mut crm, "hubspot", "unauthorized");
    tested(&mut crm, "hubspot");
    // Every token that was ever sent, as the sandbox saw them.
    let mut secrets = vec![
        SECRET.to_owned(),
        REFRESH.to_owned(),
        "ENCRYPTION-key-value".to_owned(),
    ];
    for request in crm.remote.requests_to(Service::HubSpot) {
        let body = request.body.unwrap_or_default();
        secrets.extend(body.split('&').filter_map(|pair| {
            let token = pair
                .strip_prefix("refresh_token=")
                .or(pair.strip_prefix("token="))?;
            Some(token.to_owned())
        }));
    }
    assert!(
        secrets.iter().any(|secret| secret.starts_with("CJ")),
        "{secrets:?}"
    );
    secrets.sort();
    secrets.dedup();
    let log = crm.cluster.log();
    for secret in &secrets {
        assert!(!log.contains(secret), "{secret} is in the log");
        for table in crm.rows("SELECT format('%I', relname) FROM pg_class WHERE relnamespace = 'integration'::regnamespace AND relkind IN ('r', 'v')") {
            let found: i64 = crm.ask(&format!(
                "SELECT count(*) FROM integration.{table} x WHERE position('{secret}' IN x::text) > 0 OR position(encode('{secret}', 'hex') IN x::text) > 0"
            ));
            assert_eq!(found, 0, "{secret} is in {table}");
        }
    }
    fs::remove_file(file).unwrap();
}
