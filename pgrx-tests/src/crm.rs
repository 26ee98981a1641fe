//! A small CRM in a database of its own, and the sandbox it is synchronised with.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use postgres::{Client, types::FromSql};

use crate::{
    cluster::{Cluster, secret_file},
    equal,
    process::kill9,
    remote::{Config, Remote, unlimited},
    sql::{self, quote_literal},
    wait::try_until,
};

/// How long a small number of changes may take to arrive.
pub const SOON: Duration = Duration::from_secs(30);

/// How long large amounts may take, with a build that is not optimised, on a busy machine.
pub const LATER: Duration = Duration::from_secs(240);

pub const TABLES: &str = "
    CREATE SCHEMA crm;
    CREATE TABLE crm.companies (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name       text NOT NULL,
        domain     text,
        phone      text,
        city       text,
        country    text,
        notes      text,
        updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE crm.contacts (
        id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        email            text,
        first_name       text,
        last_name        text,
        phone            text,
        company          text,
        job_title        text,
        marketing_opt_in boolean,
        notes            text,
        updated_at       timestamptz NOT NULL DEFAULT now()
    );";

/// The tables and their sandbox. Dropping it drops the database, worker and all.
pub struct Crm {
    pub cluster: Arc<Cluster>,
    pub database: String,
    pub client: Client,
    pub remote: Remote,
    pub secrets: Credentials,
}

/// What the sandbox lets us in with; the server reads them from files.
#[derive(Clone)]
pub struct Credentials {
    pub hubspot: String,
    pub mailchimp: String,
}

/// Ends the URL of the sandbox's Mailchimp webhook.
const PATH_SECRET: &str = "path-secret";

impl Crm {
    /// Contacts and companies tracked, everything set up, nothing in the tables.
    pub fn start() -> Crm {
        Crm::start_on(Cluster::shared(), unlimited())
    }

    pub fn start_on(cluster: Arc<Cluster>, config: Config) -> Crm {
        let mut crm = Crm::untracked(cluster, config);
        crm.track();
        crm
    }

    /// What a user does next: tracks the tables, and has HubSpot told of the property for the key.
    pub fn track(&mut self) {
        self.run("SELECT integration.track('crm.companies', 'company'); SELECT integration.track('crm.contacts', 'contact')");
        let job: i64 = self.ask("SELECT integration.provision('hubspot')");
        let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
        if try_until(SOON, || self.ask::<bool>(&done).then_some(())).is_none() {
            panic!("provision() is not done\n{}", self.report());
        }
    }

    /// Extension, settings and tables, but nothing tracked yet.
    pub fn untracked(cluster: Arc<Cluster>, config: Config) -> Crm {
        Crm::configured(cluster, config, &[])
    }

    /// As [`Crm::untracked`], with settings that every worker of the database has from the start.
    pub fn configured(cluster: Arc<Cluster>, config: Config, more: &[(&str, &str)]) -> Crm {
        let secrets = Credentials {
            hubspot: config.hubspot.token.clone().unwrap_or_default(),
            mailchimp: config.mailchimp.api_key.clone(),
        };
        let settings = [
            ("hubspot_app_id", config.hubspot.app_id.to_string()),
            ("hubspot_rate_limit", "off".to_owned()),
            ("mailchimp_list_id", config.mailchimp.list_id.clone()),
            ("guard_deletes", "off".to_owned()),
            ("environment", "test".to_owned()),
            ("retry_base", "20ms".to_owned()),
            ("retry_max", "500ms".to_owned()),
            ("request_timeout", "5s".to_owned()),
            ("mailchimp_request_timeout", "5s".to_owned()),
        ];
        let webhooks = config.hubspot.client_secret.clone();
        let remote = Remote::start(config);
        let database = cluster.create_database();
        let mut client = cluster.connect(&database);
        let urls = [
            ("hubspot_base_url", remote.hubspot_url()),
            ("mailchimp_base_url", remote.mailchimp_url()),
        ];
        let more = more
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        for (name, value) in settings.into_iter().chain(urls).chain(more) {
            set_for(&mut client, &database, name, &value);
        }
        for (name, secret) in [
            ("hubspot_access_token", &secrets.hubspot),
            ("hubspot_webhook_secret", &webhooks),
            ("mailchimp_api_key", &secrets.mailchimp),
            ("mailchimp_webhook_secret", &PATH_SECRET.to_owned()),
        ] {
            let file = secret_file(&cluster, &format!("{database}-{name}"), secret);
            set_for(
                &mut client,
                &database,
                name,
                &format!("file:{}", file.display()),
            );
        }
        // A session sees the database's settings from its start.
        let mut client = cluster.connect(&database);
        client
            .batch_execute("CREATE EXTENSION integration")
            .unwrap();
        client.batch_execute(TABLES).unwrap();
        Crm {
            cluster,
            database,
            client,
            remote,
            secrets,
        }
    }

    /// A second CRM on the same server that shares the sandbox, such as a restored copy.
    pub fn beside(&self, database: String, client: Client) -> Crm {
        self.on(self.cluster.clone(), database, client)
    }

    /// The same CRM on another server, which is a copy of this one.
    pub fn copied_to(&self, cluster: Cluster) -> Crm {
        let client = cluster.connect(&self.database);
        self.on(Arc::new(cluster), self.database.clone(), client)
    }

    fn on(&self, cluster: Arc<Cluster>, database: String, client: Client) -> Crm {
        Crm {
            cluster,
            database,
            client,
            remote: self.remote.clone(),
            secrets: self.secrets.clone(),
        }
    }

    /// Another CRM, in a database of its own on the same server, that writes to the same accounts.
    pub fn neighbour(&mut self) -> Crm {
        let settings = self.rows(&format!(
            "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = '{}')",
            self.database
        ));
        let database = self.cluster.create_database();
        let mut client = self.cluster.connect(&database);
        for setting in &settings {
            let (name, value) = setting.split_once('=').unwrap();
            let value = quote_literal(value);
            client
                .batch_execute(&format!("ALTER DATABASE {database} SET {name} = {value}"))
                .unwrap();
        }
        let mut client = self.cluster.connect(&database);
        client
            .batch_execute("CREATE EXTENSION integration")
            .unwrap();
        client.batch_execute(TABLES).unwrap();
        self.beside(database, client)
    }

    /// Another session.
    pub fn connect(&self) -> Client {
        self.cluster.connect(&self.database)
    }

    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        sql::run(&mut self.client, sql);
    }

    /// A single value. The expression says which type.
    #[track_caller]
    pub fn ask<T: for<'a> FromSql<'a>>(&mut self, sql: &str) -> T {
        sql::ask(&mut self.client, sql)
    }

    /// Rows as text, columns joined by a bar.
    #[track_caller]
    pub fn rows(&mut self, sql: &str) -> Vec<String> {
        let messages = self
            .client
            .simple_query(sql)
            .unwrap_or_else(|why| panic!("{sql}\n{why:?}"));
        let mut lines = Vec::new();
        for message in messages {
            if let postgres::SimpleQueryMessage::Row(row) = message {
                let fields: Vec<&str> = (0..row.len())
                    .map(|column| row.get(column).unwrap_or("NULL"))
                    .collect();
                lines.push(fields.join("|"));
            }
        }
        lines
    }

    /// What the server says beside the result, in a session of its own.
    #[track_caller]
    pub fn notices(&self, sql: &str) -> Vec<String> {
        let (sender, said) = std::sync::mpsc::channel();
        let mut client = self
            .cluster
            .connect_with_notices(&self.database, move |notice| {
                // Nobody listens any more: the session is about to end.
                let _ = sender.send(notice.message().to_owned());
            });
        sql::run(&mut client, sql);
        drop(client);
        said.iter().collect()
    }

    /// A setting of this database, and a worker that goes by it.
    pub fn set(&mut self, name: &str, value: &str) {
        set_for(&mut self.client, &self.database, name, value);
        self.client = self.connect();
        self.run("SELECT integration.reload()");
    }

    pub fn worker_pid(&self) -> i32 {
        self.cluster.wait_for_worker(&self.database)
    }

    /// Kills the worker, which ends all sessions, and comes back once another one is there. (A
    /// connection made before the server took note of the kill would be ended by it.)
    #[track_caller]
    pub fn kill_worker(&mut self) {
        let killed = self.worker_pid();
        kill9(killed);
        let client = try_until(SOON, || {
            let another = self.cluster.worker_pid(&self.database)? != killed;
            self.cluster
                .try_connect(&self.database)
                .ok()
                .filter(|_| another)
        });
        self.client =
            client.unwrap_or_else(|| panic!("no other worker came:\n{}", self.cluster.log_tail()));
    }

    /// Contacts `from..=to`, opted in if their number is even, in one statement.
    pub fn add_contacts(&mut self, from: u32, to: u32) {
        self.run(&format!(
            "INSERT INTO crm.contacts (email, first_name, last_name, phone, company, job_title, marketing_opt_in)
             SELECT format('person%s@example.org', n), 'First ' || n, 'Last ' || n, '+49 30 ' || 100000 + n, 'Company ' || n % 100, 'Clerk', n % 2 = 0
             FROM generate_series({from}, {to}) n"
        ));
    }

    pub fn add_contact(&mut self, email: &str, opted_in: bool) -> i64 {
        self.ask(&format!(
            "INSERT INTO crm.contacts (email, first_name, last_name, marketing_opt_in)
             VALUES ({}, 'Ada', 'Lovelace', {opted_in}) RETURNING id",
            quote_literal(email)
        ))
    }

    pub fn queue_is_empty(&mut self) -> bool {
        self.ask("SELECT NOT EXISTS (SELECT FROM integration.outbox) AND NOT EXISTS (SELECT FROM integration.inbox WHERE state = 'pending') AND NOT EXISTS (SELECT FROM integration.association WHERE state = 'pending')")
    }

    /// Waits until nothing is queued or to be applied.
    #[track_caller]
    pub fn settle(&mut self) {
        self.settle_within(SOON);
    }

    #[track_caller]
    pub fn settle_within(&mut self, timeout: Duration) {
        if try_until(timeout, || self.queue_is_empty().then_some(())).is_none() {
            panic!(
                "after {timeout:?} there still are changes waiting\n{}",
                self.report()
            );
        }
    }

    /// The central check: in the end both services hold what the CRM says they should.
    #[track_caller]
    pub fn converges(&mut self) {
        self.converges_within(SOON);
    }

    #[track_caller]
    pub fn converges_within(&mut self, timeout: Duration) {
        self.settle_within(timeout);
        assert_eq!(
            self.ask::<i64>("SELECT count(*) FROM integration._intent"),
            0,
            "nothing is under way, and nothing is noted to be"
        );
        // What was settled is already there: comparing once is enough.
        let differences = equal::differences(&mut self.client, &self.remote);
        assert!(
            differences.is_empty(),
            "CRM and services differ:\n{}\n{}",
            differences.join("\n"),
            self.report()
        );
    }

    /// For a person looking at a failed test.
    pub fn report(&mut self) -> String {
        let mut report = String::new();
        for sql in [
            "SELECT target, state, reason, pending, retrying, in_flight, dead FROM integration.status",
            "SELECT target, op, record_key, attempts, last_error FROM integration.outbox LIMIT 5",
            "SELECT target, record_key, category, error FROM integration.dlq LIMIT 5",
            "SELECT record_key, column_name, to_key, from_id, to_id, state, reason FROM integration.association WHERE state <> 'agreed' LIMIT 5",
            "SELECT kind, state, detail FROM integration.inbox ORDER BY id DESC LIMIT 5",
            "SELECT target, method, path, status, error FROM integration.request_log WHERE error IS NOT NULL ORDER BY id DESC LIMIT 5",
        ] {
            let rows = match self.connect().simple_query(sql) {
                Ok(_) => self.rows(sql).join("\n"),
                Err(why) => why.to_string(),
            };
            report.push_str(&format!("{sql}\n{rows}\n\n"));
        }
        report
    }
}

fn set_for(client: &mut Client, database: &str, name: &str, value: &str) {
    client
        .batch_execute(&format!(
            "ALTER DATABASE {database} SET integration.{name} = {}",
            quote_literal(value)
        ))
        .unwrap();
}

impl Drop for Crm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The report may fail as well, for instance because the server is down.
            let report =
                panic::catch_unwind(AssertUnwindSafe(|| self.report())).unwrap_or_default();
            eprintln!(
                "--- {}\n{report}--- end of the server's log\n{}\n---",
                self.database,
                self.cluster.log_tail()
            );
            return;
        }
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database);
        if let Ok(mut client) = self.cluster.try_connect("postgres") {
            client.batch_execute(&drop).unwrap();
        }
    }
}
