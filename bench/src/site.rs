//! A database with the extension, set up to send to a sandbox.

use std::{
    thread,
    time::{Duration, Instant},
};

use integration_tests::{cluster::Cluster, sql::quote_literal};
use postgres::{Client, types::FromSql};

use crate::{error::Result, remote::Address, server::Server, tables::Tracking};

/// Requests the worker may have under way at once.
pub const CONNECTIONS: u32 = 50;

/// How often the queue is looked at while it drains.
const LOOK: Duration = Duration::from_millis(5);

/// Nothing we wait for takes longer.
const LONG: Duration = Duration::from_secs(180);

const QUEUE_IS_EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM integration.outbox)";

/// Whom a site sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    HubSpot,
    Mailchimp,
}

impl Target {
    pub const fn name(self) -> &'static str {
        match self {
            Target::HubSpot => "hubspot",
            Target::Mailchimp => "mailchimp",
        }
    }
}

pub struct Site<'a> {
    cluster: &'a Cluster,
    target: Target,
    database: String,
    client: Client,
}

impl<'a> Site<'a> {
    /// One that sends to HubSpot.
    pub fn create(server: &'a Server, remote: &Address) -> Result<Site<'a>> {
        let settings = [
            ("hubspot_base_url", remote.url.as_str()),
            ("hubspot_access_token", &remote.token),
            ("hubspot_rate_limit", "off"),
            ("hubspot_max_connections", &CONNECTIONS.to_string()),
        ];
        Site::with(server, Target::HubSpot, &settings)
    }

    /// One that sends to Mailchimp.
    pub fn mailing(server: &'a Server, remote: &Address, connections: u32) -> Result<Site<'a>> {
        let settings = [
            ("mailchimp_base_url", remote.url.as_str()),
            ("mailchimp_api_key", &remote.key),
            ("mailchimp_list_id", &remote.list),
            ("mailchimp_max_connections", &connections.to_string()),
        ];
        Site::with(server, Target::Mailchimp, &settings)
    }

    fn with(server: &'a Server, target: Target, settings: &[(&str, &str)]) -> Result<Site<'a>> {
        let cluster = &server.cluster;
        let database = cluster.create_database();
        let mut client = cluster.connect(&database);
        for (name, value) in settings.iter().chain(&[("guard_deletes", "off")]) {
            let value = quote_literal(value);
            client.batch_execute(&format!(
                "ALTER DATABASE {database} SET integration.{name} = {value}"
            ))?;
        }
        // A session sees the database's settings from its start.
        client = cluster.connect(&database);
        client.batch_execute("CREATE EXTENSION integration")?;
        cluster.wait_for_worker(&database);
        Ok(Site {
            cluster,
            target,
            database,
            client,
        })
    }

    pub fn name(&self) -> &str {
        &self.database
    }

    pub fn session(&self) -> Client {
        self.cluster.connect(&self.database)
    }

    pub fn worker(&self) -> i32 {
        self.cluster.wait_for_worker(&self.database)
    }

    pub fn run(&mut self, sql: &str) -> Result<()> {
        Ok(self
            .client
            .batch_execute(sql)
            .map_err(|why| format!("{sql}: {why:?}"))?)
    }

    /// A single value. The expression says which type.
    pub fn ask<T: for<'b> FromSql<'b>>(&mut self, sql: &str) -> Result<T> {
        let row = self
            .client
            .query_one(sql, &[])
            .map_err(|why| format!("{sql}: {why:?}"))?;
        Ok(row.try_get(0)?)
    }

    /// How long a statement takes, its commit included.
    pub fn time(&mut self, sql: &str) -> Result<f64> {
        let begun = Instant::now();
        self.run(sql)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// A contacts table, filled before it is tracked: nothing is queued.
    pub fn add(&mut self, tracking: Tracking, contacts: u32) -> Result<()> {
        self.run(&tracking.create(contacts))?;
        self.run(&tracking.track(self.target))
    }

    /// Has HubSpot told of the property for the CRM's key.
    pub fn provision(&mut self) -> Result<()> {
        let job: i64 = self.ask("SELECT integration.provision('hubspot')")?;
        let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
        self.wait_for("the property for the key to be there", &done)
    }

    pub fn pause(&mut self) -> Result<()> {
        let target = self.target.name();
        self.run(&format!(
            "SELECT integration.pause('{target}', 'measuring')"
        ))?;
        self.wait_for(
            "the pause",
            &format!("SELECT state = 'paused' FROM integration.status WHERE target = '{target}'"),
        )
    }

    pub fn resume(&mut self) -> Result<()> {
        let target = self.target.name();
        self.run(&format!("SELECT integration.resume('{target}')"))
    }

    /// Waits until everything queued has been delivered.
    pub fn drained(&mut self) -> Result<()> {
        self.wait_for("an empty queue", QUEUE_IS_EMPTY)?;
        match self.ask::<i64>("SELECT count(*) FROM integration.dlq WHERE resolution IS NULL")? {
            0 => Ok(()),
            dead => Err(format!("{dead} changes were not delivered\n{}", self.state()?).into()),
        }
    }

    /// Waits until every association that is owed has been made.
    pub fn associated(&mut self) -> Result<()> {
        self.wait_for(
            "the associations",
            "SELECT NOT EXISTS (SELECT FROM integration.association WHERE state = 'pending')",
        )
    }

    /// Waits until a job has done everything.
    pub fn done(&mut self, job: i64) -> Result<()> {
        let done = format!("SELECT state = 'done' FROM integration.job WHERE id = {job}");
        self.wait_for("the job", &done)
    }

    pub fn vacuum(&mut self, tables: &str) -> Result<()> {
        self.run(&format!("VACUUM {tables}"))
    }

    fn wait_for(&mut self, what: &str, sql: &str) -> Result<()> {
        let statement = self.client.prepare(sql)?;
        let deadline = Instant::now() + LONG;
        while !self.client.query_one(&statement, &[])?.get::<_, bool>(0) {
            if Instant::now() > deadline {
                let state = self.state()?;
                return Err(format!("waited {LONG:?} for {what}\n{state}").into());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// For a person who wonders why it doesn't go on.
    fn state(&mut self) -> Result<String> {
        self.ask(
            "SELECT concat_ws(E'\\n',
                 (SELECT string_agg(s::text, E'\\n') FROM integration.status s),
                 (SELECT string_agg(d::text, E'\\n') FROM (SELECT * FROM integration.dlq WHERE resolution IS NULL LIMIT 3) d),
                 (SELECT string_agg(r::text, E'\\n') FROM (SELECT * FROM integration.request_log WHERE error IS NOT NULL ORDER BY id DESC LIMIT 3) r))",
        )
    }
}

impl Drop for Site<'_> {
    /// The next part shall not share the machine with this one's worker.
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database);
        if let Ok(mut client) = self.cluster.try_connect("postgres")
            && let Err(why) = client.batch_execute(&drop)
        {
            crate::say(&format!("{drop}: {why}"));
        }
    }
}
