//! The throw-away PostgreSQL that everything is measured on.

use std::fs;

use integration_tests::{
    cluster::Cluster,
    process::{as_server_user, bin},
};

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
        let processors = std::thread::available_parallelism()?;
        let settings: Vec<String> = SETTINGS
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let mut lines = vec![
            format!(
                "{version} with integration, {processors} processors, client, server and sandbox on this machine, one run"
            ),
            settings.join(", "),
            "contacts: 10 columns, 2 indexes, one target (HubSpot); the PL/pgSQL outbox writes one row a change (target, table, key, op, changed columns)".to_owned(),
            "tps and time are tracked / untracked, medians of interleaved repetitions".to_owned(),
        ];
        if has_debug_sections()? {
            lines.push("NOTE: the installed extension is a debug build: do not trust these figures (scripts/install.sh --release)".to_owned());
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
}

/// A release build has none.
fn has_debug_sections() -> Result<bool> {
    let output = as_server_user(bin("pg_config"))
        .arg("--pkglibdir")
        .output()?;
    let library = format!(
        "{}/integration.so",
        String::from_utf8(output.stdout)?.trim()
    );
    let library = fs::read(&library).map_err(|why| format!("{library}: {why}"))?;
    Ok(library
        .windows(b".debug_line\0".len())
        .any(|bytes| bytes == b".debug_line\0"))
}

/// The load average, if the machine was not ours alone.
fn busy(processors: usize) -> Option<f64> {
    let averages = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = averages.split_whitespace().next()?.parse().ok()?;
    (load > processors as f64 / 2.0).then_some(load)
}
