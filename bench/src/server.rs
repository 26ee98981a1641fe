//! The throw-away PostgreSQL that everything is measured on.

use std::fs;

use integration_tests::cluster::Cluster;

use crate::{error::Result, options::Options};

/// Durable, and otherwise as the figures are to be read.
const SETTINGS: [(&str, &str); 10] = [
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("checkpoint_timeout", "30min"),
    ("autovacuum", "on"),
    (
        "shared_preload_libraries",
        "integration, pg_stat_statements",
    ),
    // What the sandbox lets in with is no secret.
    ("integration.allow_literal_secrets", "on"),
    // Counts only where we measure idleness.
    ("pg_stat_statements.track", "none"),
];

pub struct Server {
    pub cluster: Cluster,
}

impl Server {
    pub fn start() -> Result<Server> {
        Server::start_with(&[])
    }

    /// With some settings otherwise.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Server> {
        let settings: Vec<(&str, &str)> = SETTINGS.iter().chain(settings).copied().collect();
        let server = Server {
            cluster: Cluster::start(&settings, &[]),
        };
        server
            .cluster
            .connect("postgres")
            .batch_execute("CREATE EXTENSION pg_stat_statements")?;
        Ok(server)
    }

    /// What the table is to be read with.
    pub fn description(&self, options: &Options) -> Result<String> {
        let version: String = self
            .cluster
            .connect("postgres")
            .query_one("SELECT split_part(version(), ' on ', 1)", &[])?
            .get(0);
        let build = self.build()?;
        let processors = std::thread::available_parallelism()?;
        let settings: Vec<String> = SETTINGS
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let mut lines = vec![
            format!(
                "{version} with integration {build}, {processors} processors, client, server and sandbox on this machine, one run"
            ),
            settings.join(", "),
            "contacts: 10 columns, 2 indexes, one target (HubSpot); the PL/pgSQL outbox writes one row a change (target, table, key, op, changed columns)".to_owned(),
            "tps and time are tracked / untracked, medians of interleaved repetitions".to_owned(),
        ];
        if build.contains("(debug") {
            lines.push("NOTE: this is a debug build: do not trust these figures (scripts/install.sh --release)".to_owned());
        }
        if let Some(load) = busy(processors.get()) {
            lines.push(format!(
                "NOTE: others used this machine when the run began (load average {load}): absolute figures are too low, ratios noisy"
            ));
        }
        if options.quick {
            lines.push("NOTE: --quick: smaller tables, shorter runs, rough figures".to_owned());
        }
        Ok(lines.join("\n"))
    }

    /// The build that is measured: version, profile and commit.
    fn build(&self) -> Result<String> {
        let database = self.cluster.create_database();
        let mut client = self.cluster.connect(&database);
        client.batch_execute("CREATE EXTENSION integration")?;
        let build = client
            .query_one("SELECT integration.version()", &[])?
            .get(0);
        drop(client);
        self.cluster
            .connect("postgres")
            .batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)"))?;
        Ok(build)
    }
}

/// The load average, if the machine was not ours alone.
fn busy(processors: usize) -> Option<f64> {
    let averages = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = averages.split_whitespace().next()?.parse().ok()?;
    (load > processors as f64 / 2.0).then_some(load)
}
