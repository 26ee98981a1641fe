//! Who we are at the services: the account, connection tests, what is used up or going away.

use std::{sync::Arc, time::Duration};

use integration_tests::{
    cluster::Cluster,
    crm::{Crm, SOON},
    remote::{Service, unlimited},
    sql::refused,
    wait::{holds_for, wait_until},
};

#[track_caller]
pub fn until_state(crm: &mut Crm, target: &str, state: &str) -> String {
    let line = format!("SELECT state, reason FROM integration.status WHERE target = '{target}'");
    wait_until(&format!("{target} is {state}"), SOON, || {
        let line = crm.rows(&line).remove(0);
        line.starts_with(&format!("{state}|")).then_some(line)
    })
}

#[track_caller]
pub fn nothing_died(crm: &mut Crm) {
    let letters = crm.rows("SELECT target, category, error FROM integration.dlq");
    assert!(letters.is_empty(), "{letters:?}");
}

pub fn alerts(crm: &mut Crm, kind: &str) -> Vec<String> {
    crm.rows(&format!(
        "SELECT message FROM integration.alert WHERE kind = '{kind}' AND cleared_at IS NULL"
    ))
}

pub fn tested(crm: &mut Crm, target: &str) -> String {
    let sql = format!("SELECT ok, account, detail FROM integration.test_connection('{target}')");
    crm.rows(&sql).remove(0)
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
    assert!(crm.ask::<bool>("SELECT bool_and(ok) FROM integration.test_connection()"));
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
fn mailchimp_token_without_a_data_centre_is_good() {
    let mut config = unlimited();
    config.mailchimp.api_key = "an-oauth-access-token".to_owned();
    let mut crm = Crm::start_on(Cluster::shared(), config);
    let told = tested(&mut crm, "mailchimp");
    assert!(told.starts_with("t|") && told.contains("owner"), "{told}");
    assert!(!told.contains("data centre"), "{told}");
    crm.add_contacts(1, 4);
    crm.converges();
}
