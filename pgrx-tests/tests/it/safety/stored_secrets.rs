//! Secrets in the sealed store: they count at once, show nowhere, and stay with the server.

use super::secrets::{KEY, TOKEN, shows_nothing};
use crate::safety::copies::restored_copy;
use integration_tests::{
    cluster::{Cluster, secret_file},
    crm::Crm,
    process::{as_server_user, bin},
    remote::unlimited,
    sql::{refused, refused_with_hint},
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, sync::Arc};

/// A server that takes secrets as users have to give them.
pub fn strict() -> Arc<Cluster> {
    let settings = [
        ("integration.allow_literal_secrets", "off"),
        (
            "shared_preload_libraries",
            "integration, pg_stat_statements",
        ),
        ("log_min_duration_statement", "0"),
        ("log_parameter_max_length", "0"),
    ];
    Arc::new(Cluster::start(&settings, &[]))
}

/// A CRM whose credentials are not set, with what the sandbox lets in with.
pub fn without_credentials(cluster: Arc<Cluster>) -> Crm {
    let mut config = unlimited();
    config.hubspot.token = Some(TOKEN.to_owned());
    config.mailchimp.api_key = KEY.to_owned();
    let mut crm = Crm::untracked(cluster, config);
    crm.set("hubspot_access_token", "");
    crm.set("mailchimp_api_key", "");
    crm
}

fn key_file(cluster: &Cluster) -> PathBuf {
    cluster.socket_dir().join("data/integration.key")
}

fn store(crm: &mut Crm) {
    crm.run(&format!(
        "SELECT integration.set_secret('hubspot_access_token', '{TOKEN}')"
    ));
    crm.client
        .execute(
            "SELECT integration.set_secret($1, $2)",
            &[&"integration.mailchimp_api_key", &KEY],
        )
        .unwrap();
}

#[test]
fn stored_secret_counts_at_once_and_until_it_is_taken_back() {
    let mut crm = without_credentials(strict());
    store(&mut crm);
    crm.track();
    crm.add_contacts(1, 6);
    crm.converges();
    let key = fs::metadata(key_file(&crm.cluster)).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert_eq!(key.len(), 65);
    // The service gives another token; the one that is stored is refused.
    crm.remote
        .configure(|config| config.hubspot.token = Some("pat-another".to_owned()));
    crm.run("UPDATE crm.contacts SET first_name = 'Held'");
    crate::operate::access::until_state(&mut crm, "hubspot", "unauthorized");
    crm.run(
        "BEGIN; SELECT integration.set_secret('hubspot_access_token', 'pat-another'); ROLLBACK",
    );
    crate::operate::access::until_state(&mut crm, "hubspot", "unauthorized");
    crm.run("SELECT integration.set_secret('hubspot_access_token', 'pat-another')");
    crm.converges();
    // It goes before the setting, which counts again without it.
    let file = secret_file(&crm.cluster, "setting", "pat-of-the-setting");
    crm.set("hubspot_access_token", &format!("file:{}", file.display()));
    crm.run("SELECT integration.reload()");
    crm.add_contacts(7, 9);
    crm.converges();
    crm.remote
        .configure(|config| config.hubspot.token = Some("pat-of-the-setting".to_owned()));
    crm.run("SELECT integration.set_secret('hubspot_access_token', NULL)");
    crm.add_contacts(10, 12);
    crm.converges();
}

#[test]
fn webhooks_are_checked_with_stored_secrets() {
    let mut crm = without_credentials(strict());
    crm.set("mailchimp_webhook_secret", "");
    crm.run("SELECT integration.set_secret('mailchimp_webhook_secret', 'of the path')");
    crm.run("SELECT * FROM integration.import_mailchimp_webhook('type=unsubscribe&fired_at=2026-01-01+00:00:00&data[email]=a@example.com&data[list_id]=x', '{}', 'of the path')");
    let error = refused(
        &mut crm.client,
        "SELECT * FROM integration.import_mailchimp_webhook('type=unsubscribe', '{}', 'another')",
    );
    assert_eq!(error.code().code(), "28000", "{error:?}");
}

#[test]
fn what_is_no_secret_is_refused_without_repeating_it() {
    let mut crm = without_credentials(strict());
    for (sql, code) in [
        // The arguments changed places.
        (
            format!("SELECT integration.set_secret('{TOKEN}', 'hubspot_access_token')"),
            "42704",
        ),
        (
            format!("SELECT integration.set_secret('encryption_key', '{TOKEN}')"),
            "42704",
        ),
        (
            "SELECT integration.set_secret('hubspot_access_token', ' ')".to_owned(),
            "22023",
        ),
        (
            "SELECT integration.set_secret('hubspot_access_token', 'file:/run/secrets/x')"
                .to_owned(),
            "22023",
        ),
    ] {
        let error = refused_with_hint(&mut crm.client, &sql, code);
        shows_nothing("an error", &format!("{error:?}"));
    }
    shows_nothing("the log", &crm.cluster.log());
}

/// Runs a dumping program and hands over what it writes.
fn dumped(crm: &Crm, program: &str, arguments: &[&str]) -> String {
    let mut command: Command = as_server_user(bin(program));
    let output = command
        .args(["--username=postgres", "--host"])
        .arg(crm.cluster.socket_dir())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn stored_secrets_show_nowhere() {
    let mut crm = without_credentials(strict());
    crm.run("CREATE EXTENSION pg_stat_statements");
    store(&mut crm);
    crm.run(&format!(
        "SELECT integration.set_secret('hubspot_refresh_token', E'{}')",
        TOKEN.replace('-', "\\x2d")
    ));
    crm.run("SELECT integration.set_secret('hubspot_refresh_token', NULL)");
    // A transaction that fails after it.
    refused(
        &mut crm.client,
        &format!(
            "DO $$ BEGIN PERFORM integration.set_secret('mandrill_webhook_key', '{TOKEN}'); PERFORM 1 / 0; END $$"
        ),
    );
    crm.track();
    crm.add_contacts(1, 6);
    crm.run("INSERT INTO crm.contacts (email, marketing_opt_in) VALUES ('not an address', true)");
    crm.converges();
    crm.remote.configure(|config| {
        config.hubspot.token = Some("another".to_owned());
        config.mailchimp.api_key = "another-us1".to_owned();
    });
    crm.run("UPDATE crm.contacts SET first_name = 'x'");
    crate::operate::access::until_state(&mut crm, "hubspot", "unauthorized");
    crate::operate::access::until_state(&mut crm, "mailchimp", "unauthorized");
    let database = crm.database.clone();
    for arguments in [
        vec!["--dbname", &database],
        vec!["--create", "--dbname", &database],
    ] {
        let dump = dumped(&crm, "pg_dump", &arguments);
        assert!(dump.contains("COPY integration._secret"));
        shows_nothing("a dump", &dump);
    }
    shows_nothing("a dump of all", &dumped(&crm, "pg_dumpall", &[]));
    shows_nothing("the log", &crm.cluster.log());
    // Everything anybody can look at, whoever they are.
    crm.run("CREATE ROLE nobody_special; CREATE ROLE watcher; GRANT pg_monitor TO watcher; GRANT USAGE ON SCHEMA integration TO nobody_special, watcher; \
             SELECT integration.grant_role('reader', 'watcher')");
    for database in crm.rows("SELECT datname FROM pg_database WHERE datallowconn") {
        for role in ["postgres", "watcher", "nobody_special"] {
            let mut client = crm.cluster.connect(&database);
            let relations = client
                .query(
                    "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE c.relkind IN ('r', 'v', 'm') AND n.nspname IN ('pg_catalog', 'integration', 'public')",
                    &[],
                )
                .unwrap();
            client.batch_execute(&format!("SET ROLE {role}")).unwrap();
            for relation in relations {
                let relation: String = relation.get(0);
                // Patterns that do not match themselves, for this statement can be seen, too.
                for secret in ["TOKEN[-]value", "KEY[v]alue"] {
                    let look =
                        format!("SELECT count(*) FROM {relation} x WHERE x::text ~ '{secret}'");
                    // What may not be read does not show.
                    if let Ok(found) = client.query_one(look.as_str(), &[]) {
                        assert_eq!(
                            found.get::<_, i64>(0),
                            0,
                            "{secret} in {relation} of {database} as {role}"
                        );
                    }
                }
            }
        }
    }
    for role in ["watcher", "nobody_special"] {
        crm.run(&format!("SET ROLE {role}"));
        for sql in [
            "SELECT * FROM integration._secret",
            "SELECT integration.set_secret('hubspot_access_token', NULL)",
        ] {
            assert_eq!(refused(&mut crm.client, sql).code().code(), "42501");
        }
        crm.run("RESET ROLE");
    }
}

#[test]
fn key_stays_with_the_server() {
    let mut crm = without_credentials(strict());
    store(&mut crm);
    crm.track();
    crm.add_contacts(1, 3);
    crm.converges();
    // The same server, restarted; and another copy of the database on it.
    crm.cluster.stop(integration_tests::cluster::Stop::Fast);
    crm.cluster.launch();
    crm.client = crm.connect();
    crm.add_contacts(4, 6);
    crm.converges();
    let mut copy = restored_copy(&mut crm);
    copy.run("SELECT integration.adopt()");
    crate::operate::access::until_state(&mut copy, "hubspot", "running");
    // A server that has the rows and not the key.
    fs::rename(
        key_file(&crm.cluster),
        crm.cluster.socket_dir().join("kept.key"),
    )
    .unwrap();
    crm.run("SELECT integration.reload()");
    let why = crate::operate::access::until_state(&mut crm, "hubspot", "unconfigured");
    assert!(
        why.contains("cannot be opened") && why.contains("set_secret"),
        "{why}"
    );
    fs::rename(
        crm.cluster.socket_dir().join("kept.key"),
        key_file(&crm.cluster),
    )
    .unwrap();
    crm.run("SELECT integration.reload()");
    crate::operate::access::until_state(&mut crm, "hubspot", "running");
    // A configured key seals from now on, and what was sealed with the file stays readable.
    let file = secret_file(&crm.cluster, "key", "a passphrase of some length");
    crm.set("encryption_key", &format!("file:{}", file.display()));
    let mut client = crm.connect();
    client
        .execute(
            "SELECT integration.set_secret('mailchimp_api_key', $1)",
            &[&KEY],
        )
        .unwrap();
    fs::remove_file(key_file(&crm.cluster)).unwrap();
    crm.run("SELECT integration.reload()");
    crate::operate::access::until_state(&mut crm, "hubspot", "unconfigured");
    crate::operate::access::until_state(&mut crm, "mailchimp", "running");
}

#[test]
fn standby_made_after_the_key_goes_on_with_it() {
    let mut crm = without_credentials(strict());
    store(&mut crm);
    crm.track();
    crm.add_contacts(1, 3);
    crm.converges();
    let standby = Arc::new(crm.cluster.standby());
    assert_eq!(
        fs::read(key_file(&standby)).unwrap(),
        fs::read(key_file(&crm.cluster)).unwrap()
    );
}
