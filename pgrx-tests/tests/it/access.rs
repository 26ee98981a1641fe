//! Who we are at the services: OAuth, the account, connection tests, and what is going away.

use std::{fs, sync::Arc, time::Duration};

use integration_tests::{
    cluster::{Cluster, secret_file},
    crm::{Crm, SOON},
    process::kill9,
    remote::{Config, Service, unlimited},
    sql::refused,
    wait::{holds_for, wait_until},
};

const SECRET: &str = "oauth-client-SECRET-value";
const REFRESH: &str = "na1-REFRESH-token-value";

/// A HubSpot app with OAuth instead of a static token.
fn app() -> Config {
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

fn with_oauth_on(cluster: Arc<Cluster>, config: Config, key: Option<&str>) -> Crm {
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
    crm.track();
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

#[track_caller]
fn until_state(crm: &mut Crm, target: &str, state: &str) -> String {
    let line = format!("SELECT state, reason FROM integration.status WHERE target = '{target}'");
    wait_until(&format!("{target} is {state}"), SOON, || {
        let line = crm.rows(&line).remove(0);
        line.starts_with(&format!("{state}|")).then_some(line)
    })
}

#[track_caller]
fn nothing_died(crm: &mut Crm) {
    let letters = crm.rows("SELECT target, category, error FROM integration.dlq");
    assert!(letters.is_empty(), "{letters:?}");
}

fn alerts(crm: &mut Crm, kind: &str) -> Vec<String> {
    crm.rows(&format!(
        "SELECT message FROM integration.alert WHERE kind = '{kind}' AND cleared_at IS NULL"
    ))
}

fn tested(crm: &mut Crm, target: &str) -> String {
    let sql = format!("SELECT ok, account, detail FROM integration.test_connection('{target}')");
    crm.rows(&sql).remove(0)
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
        let killed = crm.worker_pid();
        kill9(killed);
        crm.client = wait_until("another worker is there", SOON, || {
            let another = crm.cluster.worker_pid(&crm.database)? != killed;
            crm.cluster
                .try_connect(&crm.database)
                .ok()
                .filter(|_| another)
        });
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
fn rotated_token_without_a_key_is_used_and_complained_about() {
    let mut config = app();
    config.hubspot.rotate_refresh_tokens = true;
    let mut crm = with_oauth(config, None);
    crm.add_contacts(1, 5);
    crm.converges();
    crm.remote.expire_tokens();
    crm.run("UPDATE crm.contacts SET first_name = 'Again'");
    crm.converges();
    let alert = alerts(&mut crm, "encryption_key").remove(0);
    assert!(
        alert.contains("integration.encryption_key is not set"),
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
fn another_portal_behind_the_settings_holds_the_target() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 5);
    crm.converges();
    let first = crm.remote.stats().hubspot_requests;
    crm.remote
        .configure(|config| config.hubspot.portal_id = 999);
    crm.run("SELECT integration.reload()");
    let line = until_state(&mut crm, "hubspot", "held");
    assert!(line.contains("999") && line.contains("12345678"), "{line}");
    assert!(first > 0 && alerts(&mut crm, "held")[0].contains("999"));
    crm.run("UPDATE crm.contacts SET first_name = 'Held'");
    let writes = crm.remote.writes_to(Service::HubSpot);
    // It lasts, whatever becomes of the worker.
    crm.run("SELECT integration.reload()");
    until_state(&mut crm, "hubspot", "held");
    holds_for("nothing is sent", Duration::from_secs(1), || {
        crm.remote.writes_to(Service::HubSpot) == writes
    });
    // Back to the right one: no need to accept anything.
    crm.remote
        .configure(|config| config.hubspot.portal_id = 12_345_678);
    crm.run("SELECT integration.reload()");
    crm.converges();
    // And on to the other, for good.
    crm.remote
        .configure(|config| config.hubspot.portal_id = 999);
    crm.run("SELECT integration.reload()");
    until_state(&mut crm, "hubspot", "held");
    crm.run(
        "UPDATE crm.contacts SET first_name = 'Accepted'; SELECT integration.resume('hubspot')",
    );
    crm.converges();
    assert_eq!(
        crm.rows("SELECT account, other FROM integration._account WHERE target = 'hubspot'"),
        ["999|NULL"]
    );
}

#[test]
fn another_mailchimp_account_holds_it_too() {
    let mut crm = Crm::start();
    crm.add_contacts(1, 4);
    crm.converges();
    crm.remote
        .configure(|config| config.mailchimp.account_id = "somebody-else".to_owned());
    crm.run("SELECT integration.reload()");
    let line = until_state(&mut crm, "mailchimp", "held");
    assert!(line.contains("somebody-else"), "{line}");
    crm.run("UPDATE crm.contacts SET first_name = 'x'; SELECT integration.adopt()");
    crm.converges();
}

#[test]
fn connection_test_says_who_we_are_and_what_is_missing() {
    let mut crm = Crm::start();
    let rows = crm.rows("SELECT target, ok, account, detail FROM integration.test_connection()");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(
        rows[0].starts_with("hubspot|t|12345678|")
            && rows[0].contains("app 50780459")
            && rows[0].contains("crm.objects.contacts.write"),
        "{}",
        rows[0]
    );
    for part in [
        "mailchimp|t|",
        "a6b5da1054",
        "owner",
        "double opt-in off",
        "data centre us1",
    ] {
        assert!(rows[1].contains(part), "{part}: {}", rows[1]);
    }
    // A scope that the token lacks.
    crm.remote.configure(|config| {
        config
            .hubspot
            .scopes
            .retain(|scope| !scope.ends_with("companies.write"));
    });
    let told = tested(&mut crm, "hubspot");
    assert!(
        told.starts_with("f|12345678|")
            && told.contains("lacks the scopes crm.objects.companies.write;"),
        "{told}"
    );
    // A list that is not there.
    crm.set("mailchimp_list_id", "nosuchlist");
    let told = tested(&mut crm, "mailchimp");
    assert!(
        told.starts_with("f|") && told.contains("no audience nosuchlist"),
        "{told}"
    );
    // A token that is good no longer.
    crm.remote
        .configure(|config| config.hubspot.token = Some("another".to_owned()));
    let told = tested(&mut crm, "hubspot");
    assert!(
        told.starts_with("f|NULL|") && told.contains("HTTP 401"),
        "{told}"
    );
    // A service that is down.
    crm.remote.go_down(Service::HubSpot);
    let told = tested(&mut crm, "hubspot");
    assert!(
        told.starts_with("f|NULL|") && told.contains("connection"),
        "{told}"
    );
    // None at all.
    crm.set("hubspot_access_token", "");
    let told = tested(&mut crm, "hubspot");
    assert!(
        told.contains("unconfigured") && told.contains("hubspot_access_token"),
        "{told}"
    );
}

#[test]
fn connection_test_needs_a_worker_and_a_fresh_view() {
    let mut crm = Crm::start();
    let error = refused(
        &mut crm.client,
        "SELECT * FROM integration.test_connection('salesforce')",
    );
    assert_eq!(error.code().code(), "42704");
    crm.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    let error = refused(
        &mut crm.client,
        "SELECT * FROM integration.test_connection()",
    );
    assert_eq!(error.code().code(), "25001");
    crm.run("ROLLBACK");
    // Within a transaction, and even when the target is paused.
    crm.run("BEGIN; SELECT integration.pause('hubspot')");
    assert!(tested(&mut crm, "hubspot").starts_with("t|"));
    crm.run("COMMIT");
    assert!(tested(&mut crm, "hubspot").starts_with("t|"));
    assert_eq!(
        crm.ask::<bool>("SELECT bool_and(ok) FROM integration.test_connection()"),
        true
    );
}

#[test]
fn connection_test_without_a_worker_says_so() {
    let cluster = Arc::new(Cluster::start(
        &[("integration.databases", "elsewhere")],
        &[],
    ));
    let mut crm = Crm::untracked(cluster, unlimited());
    let told = tested(&mut crm, "hubspot");
    assert!(
        told.starts_with("f|NULL|") && told.contains("integration.databases"),
        "{told}"
    );
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
fn deprecations_are_told_once() {
    let mut crm = Crm::start();
    crm.remote
        .configure(|config| config.hubspot.deprecation = Some("@1798761600".to_owned()));
    for round in 0..3 {
        crm.add_contacts(10 * round + 1, 10 * round + 5);
        crm.converges();
    }
    let told = alerts(&mut crm, "deprecation");
    assert_eq!(told.len(), 1);
    let lines: Vec<&str> = told[0].lines().collect();
    let distinct: std::collections::BTreeSet<&&str> = lines.iter().collect();
    assert_eq!(lines.len(), distinct.len(), "{told:?}");
    assert!(told[0].contains("batch/upsert: @1798761600"), "{told:?}");
    // Somebody has seen to it; the same is not told again, not even by another worker.
    crm.run("UPDATE integration.alert SET cleared_at = now() WHERE kind = 'deprecation'; SELECT integration.reload()");
    crm.run("UPDATE crm.contacts SET first_name = 'y'");
    crm.add_contacts(101, 105);
    crm.converges();
    let again = alerts(&mut crm, "deprecation");
    assert!(
        again.iter().all(|line| !line.contains("batch/upsert:")),
        "{again:?}"
    );
}

#[test]
fn used_up_day_says_until_when() {
    let mut crm = Crm::start();
    let used = crm.remote.stats().hubspot_requests;
    crm.remote
        .configure(|config| config.hubspot.daily_limit = Some(used + 2));
    for number in 1..=4 {
        crm.run(&format!(
            "INSERT INTO crm.contacts (email) VALUES ('p{number}@example.org')"
        ));
    }
    let line = wait_until("the day is used up", SOON, || {
        crm.run("UPDATE crm.contacts SET first_name = coalesce(first_name, '') || 'x'");
        let line = crm
            .rows("SELECT state, reason FROM integration.status WHERE target = 'hubspot'")
            .remove(0);
        line.starts_with("throttled|").then_some(line)
    });
    assert!(
        line.contains("next day's begin at 20") && line.contains("Europe/Berlin"),
        "{line}"
    );
    assert_eq!(alerts(&mut crm, "throttled").len(), 1);
    nothing_died(&mut crm);
    // The setting keeps some of the day for others.
    crm.remote
        .configure(|config| config.hubspot.daily_limit = Some(100_000));
    crm.set("hubspot_daily_limit", "1");
    until_state(&mut crm, "hubspot", "throttled");
    crm.set("hubspot_daily_limit", "0");
    crm.converges();
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
