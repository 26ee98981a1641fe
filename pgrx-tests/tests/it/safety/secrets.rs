//! Secrets never show.

use super::stored_secrets::{strict, without_credentials};
use integration_tests::{
    cluster::{Cluster, secret_file},
    crm::{Crm, SOON},
    process::{as_server_user, bin},
    remote::unlimited,
    sql::{refused, refused_with_hint},
    wait::wait_until,
};
use std::{fs, sync::Arc};

pub const TOKEN: &str = "pat-na1-secret-TOKEN-value";
pub const KEY: &str = "secretKEYvalue0123456789abcdef00-us1";

/// A CRM whose credentials are literals, the easiest to leak; and all the trouble that could make
/// the extension talk about them.
pub fn talkative() -> Crm {
    let mut config = unlimited();
    config.hubspot.token = Some(TOKEN.to_owned());
    config.mailchimp.api_key = KEY.to_owned();
    let cluster = Arc::new(Cluster::start(&[("log_min_messages", "debug1")], &[]));
    let mut crm = Crm::untracked(cluster, config);
    // What the administrator types may be logged by the server; this is about what we log.
    crm.run("SET log_statement = 'none'; SET log_min_error_statement = 'panic'");
    crm.set("hubspot_access_token", TOKEN);
    crm.set("mailchimp_api_key", KEY);
    crm.track();
    crm
}

#[test]
fn nothing_that_we_write_holds_a_secret() {
    let mut crm = talkative();
    crm.add_contacts(1, 20);
    crm.run("INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('not an address', true)");
    crm.converges();
    crm.remote.configure(|config| {
        config.hubspot.token = Some("another".to_owned());
        config.mailchimp.api_key = "another-us1".to_owned();
    });
    crm.run("UPDATE crm.contacts SET first_name = 'x'");
    wait_until("both refuse us", SOON, || {
        (crm.rows("SELECT DISTINCT state FROM integration.status") == ["unauthorized"])
            .then_some(())
    });
    let log = crm.cluster.log();
    let ours = |line: &&str| !line.contains("STATEMENT:") && !line.contains("ALTER DATABASE");
    let base64_key = "c2VjcmV0S0VZdmFsdWU";
    for line in log.lines().filter(ours) {
        assert!(
            !line.contains("TOKEN-value")
                && !line.contains("KEYvalue")
                && !line.contains(base64_key),
            "{line}"
        );
    }
    // Everything in our tables, as text.
    for table in crm.rows("SELECT format('%I', relname) FROM pg_class WHERE relnamespace = 'integration'::regnamespace AND relkind IN ('r', 'v')") {
        let found: i64 = crm.ask(&format!(
            "SELECT count(*) FROM integration.{table} x WHERE x::text LIKE '%TOKEN-value%' OR x::text LIKE '%KEYvalue%' OR x::text LIKE '%{base64_key}%'"
        ));
        assert_eq!(found, 0, "in {table}");
    }
    let preview: String = crm
        .ask("SELECT string_agg(request::text, ' ') FROM integration.preview('crm.contacts', '1')");
    assert!(!preview.contains("TOKEN") && !preview.contains("KEYvalue"));
}

#[test]
fn only_superusers_see_the_settings() {
    let mut crm = talkative();
    crm.run("CREATE ROLE curious; GRANT USAGE ON SCHEMA integration TO curious; SET ROLE curious");
    let shown = crm.rows("SELECT name, setting FROM pg_settings WHERE setting LIKE '%secret%' OR setting LIKE '%TOKEN%' OR setting LIKE '%KEYvalue%'");
    assert!(shown.is_empty(), "{shown:?}");
    for name in [
        "encryption_key",
        "hubspot_access_token",
        "hubspot_client_id",
        "hubspot_client_secret",
        "hubspot_refresh_token",
        "hubspot_webhook_secret",
        "mailchimp_api_key",
        "mailchimp_webhook_secret",
        "mailchimp_webhook_signing_secret",
        "mandrill_webhook_key",
    ] {
        for sql in [
            format!("SHOW integration.{name}"),
            format!("SELECT current_setting('integration.{name}')"),
            format!("SET integration.{name} = 'x'"),
        ] {
            assert_eq!(
                refused(&mut crm.client, &sql).code().code(),
                "42501",
                "{sql}"
            );
        }
    }
}

#[test]
fn dump_holds_no_secret() {
    let mut crm = talkative();
    crm.add_contacts(1, 3);
    crm.converges();
    let dump = as_server_user(bin("pg_dump"))
        .args(["--username=postgres", "--host"])
        .arg(crm.cluster.socket_dir())
        .arg(&crm.database)
        .output()
        .unwrap();
    assert!(dump.status.success());
    let text = String::from_utf8(dump.stdout).unwrap();
    assert!(
        text.contains("tracked_table")
            && !text.contains("TOKEN-value")
            && !text.contains("KEYvalue")
    );
}

#[test]
fn secrets_come_from_the_environment_and_from_files() {
    let config = unlimited();
    let (token, key) = (
        config.hubspot.token.clone().unwrap(),
        config.mailchimp.api_key.clone(),
    );
    let cluster = Arc::new(Cluster::start(&[], &[("CRM_HUBSPOT_TOKEN", &token)]));
    // A newline at the end, as editors and `echo` leave it.
    let file = secret_file(&cluster, "mailchimp-key", &format!("{key}\n"));
    let mut crm = Crm::untracked(cluster, config);
    crm.set("hubspot_access_token", "env:CRM_HUBSPOT_TOKEN");
    crm.set("mailchimp_api_key", &format!("file:{}", file.display()));
    crm.track();
    crm.add_contacts(1, 6);
    crm.converges();
    // The file is replaced, as secret stores do.
    let new = "22222222222222222222222222222222-us1";
    crm.remote
        .configure(|config| config.mailchimp.api_key = new.to_owned());
    fs::write(&file, new).unwrap();
    crm.cluster.set("integration.max_attempts", "11");
    crm.add_contacts(7, 12);
    crm.converges();
}

#[test]
fn secret_that_is_not_there_is_named_but_not_guessed() {
    let mut crm = Crm::start();
    crm.set("hubspot_access_token", "env:NO_SUCH_VARIABLE");
    crm.set("mailchimp_api_key", "file:/no/such/file");
    wait_until("it shows", SOON, || {
        let lines = crm.rows("SELECT state, reason FROM integration.status ORDER BY target");
        (lines[0].starts_with("unconfigured|")
            && lines[0].contains("NO_SUCH_VARIABLE")
            && lines[1].starts_with("unconfigured|")
            && lines[1].contains("/no/such/file"))
        .then_some(())
    });
}

#[track_caller]
pub fn shows_nothing(what: &str, text: &str) {
    for secret in ["TOKEN-value", "KEYvalue", "c2VjcmV0S0VZdmFsdWU"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{what} shows {secret}");
    }
}

#[test]
fn settings_that_hold_a_secret_are_refused_without_repeating_it() {
    let mut crm = without_credentials(strict());
    let database = crm.database.clone();
    crm.run("CREATE ROLE somebody");
    for setting in [
        "encryption_key",
        "hubspot_access_token",
        "hubspot_client_secret",
        "hubspot_refresh_token",
        "hubspot_webhook_secret",
        "mailchimp_api_key",
        "mailchimp_webhook_secret",
        "mailchimp_webhook_signing_secret",
        "mandrill_webhook_key",
    ] {
        for sql in [
            format!("ALTER SYSTEM SET integration.{setting} = '{TOKEN}'"),
            format!("ALTER DATABASE {database} SET integration.{setting} = '{TOKEN}'"),
            format!("ALTER ROLE somebody SET integration.{setting} = '{TOKEN}'"),
            format!("SET integration.{setting} = '{TOKEN}'"),
            format!("SELECT set_config('integration.{setting}', '{TOKEN}', false)"),
            // Written otherwise.
            format!(
                "ALTER SYSTEM SET integration.{setting} = E'{}'",
                TOKEN.replace("TOKEN-value", "TOKEN\\u002Dvalue")
            ),
        ] {
            let error = refused_with_hint(&mut crm.client, &sql, "22023");
            shows_nothing("an error", &format!("{error:?}"));
            let shown: String = crm
                .cluster
                .connect("postgres")
                .query_one("SELECT string_agg(query, ' ') FROM pg_stat_activity", &[])
                .unwrap()
                .get(0);
            shows_nothing("pg_stat_activity", &shown);
        }
    }
    let error = refused_with_hint(
        &mut crm.client,
        "ALTER SYSTEM SET integration.http_proxy = 'http://me:TOKEN-value@proxy:3128'",
        "22023",
    );
    shows_nothing("an error", &format!("{error:?}"));
    crm.cluster
        .set("integration.hubspot_client_id", "an id is no secret");
    // By hand.
    let data = crm.cluster.socket_dir().join("data");
    let conf = data.join("postgresql.conf");
    let written = fs::read_to_string(&conf).unwrap()
        + &format!("integration.hubspot_access_token = '{TOKEN}'\n");
    fs::write(&conf, written).unwrap();
    crm.run("SELECT pg_reload_conf()");
    wait_until("the log says so", SOON, || {
        crm.cluster
            .log()
            .contains("hubspot_access_token is to say where the secret is")
            .then_some(())
    });
    assert_eq!(
        crm.rows("SELECT setting FROM pg_settings WHERE name = 'integration.hubspot_access_token'"),
        [""]
    );
    shows_nothing(
        "postgresql.auto.conf",
        &fs::read_to_string(data.join("postgresql.auto.conf")).unwrap(),
    );
    shows_nothing("the log", &crm.cluster.log());
}

#[test]
fn literals_count_only_while_they_are_allowed() {
    let mut crm = without_credentials(strict());
    crm.cluster.set("integration.allow_literal_secrets", "on");
    let mut client = crm.connect();
    wait_until("literals are allowed", SOON, || {
        client
            .batch_execute(&format!(
                "ALTER SYSTEM SET integration.hubspot_access_token = '{TOKEN}'"
            ))
            .ok()
    });
    crm.run("SELECT pg_reload_conf()");
    crm.run(&format!(
        "ALTER DATABASE {} RESET integration.hubspot_access_token",
        crm.database
    ));
    // A worker that runs already keeps what the database set.
    crm.run("SELECT integration.reload()");
    crm.run(&format!(
        "SELECT integration.set_secret('mailchimp_api_key', '{KEY}')"
    ));
    crm.track();
    crm.add_contacts(1, 3);
    crm.converges();
    crm.cluster.set("integration.allow_literal_secrets", "off");
    let why = crate::operate::access::until_state(&mut crm, "hubspot", "unconfigured");
    assert!(
        why.contains("set_secret") && !why.contains("TOKEN-value"),
        "{why}"
    );
}
