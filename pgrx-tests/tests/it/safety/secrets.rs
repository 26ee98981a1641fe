//! Secrets never show.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, sync::Arc};

use integration_tests::{
    cluster::{Cluster, secret_file},
    crm::{Crm, SOON},
    process::{as_server_user, bin},
    remote::unlimited,
    sql::{refused, refused_with_hint},
    wait::wait_until,
};

use crate::safety::copies::restored_copy;

const TOKEN: &str = "pat-na1-secret-TOKEN-value";
const KEY: &str = "secretKEYvalue0123456789abcdef00-us1";

/// A CRM whose credentials are literals, the easiest to leak; and all the trouble that could make
/// the extension talk about them.
fn talkative() -> Crm {
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

/// A server that takes secrets as users have to give them.
fn strict() -> Arc<Cluster> {
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
fn without_credentials(cluster: Arc<Cluster>) -> Crm {
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

#[track_caller]
fn shows_nothing(what: &str, text: &str) {
    for secret in ["TOKEN-value", "KEYvalue", "c2VjcmV0S0VZdmFsdWU"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{what} shows {secret}");
    }
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
