//! What was asked for on the command line, and how much of everything that means.

use std::time::Duration;

use crate::error::Result;

pub const HELP: &str = "\
Measures the extension on a throw-away PostgreSQL and prints one table of ratios.

  --quick      less of everything: for development, the figures are rough
  --only NAME  one part only (may be repeated): tps bulk drain pgq backfill objects
               audience optout snapshot latency idle
  --rows N     rows of the backfill; otherwise 1000000, or 50000 if --quick
  --help       this text

By way of make: make bench ARGS='--quick --only drain'
";

pub enum Command {
    Measure(Options),
    Help,
    /// Be the sandbox of another process of this program.
    Sandbox,
}

/// A part of the run that can be had by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Tps,
    Bulk,
    Drain,
    PgQ,
    Backfill,
    Objects,
    Audience,
    OptOut,
    Snapshot,
    Latency,
    Idle,
}

impl Section {
    const ALL: [Section; 11] = [
        Section::Tps,
        Section::Bulk,
        Section::Drain,
        Section::PgQ,
        Section::Backfill,
        Section::Objects,
        Section::Audience,
        Section::OptOut,
        Section::Snapshot,
        Section::Latency,
        Section::Idle,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Section::Tps => "tps",
            Section::Bulk => "bulk",
            Section::Drain => "drain",
            Section::PgQ => "pgq",
            Section::Backfill => "backfill",
            Section::Objects => "objects",
            Section::Audience => "audience",
            Section::OptOut => "optout",
            Section::Snapshot => "snapshot",
            Section::Latency => "latency",
            Section::Idle => "idle",
        }
    }

    fn named(name: &str) -> Result<Section> {
        Section::ALL
            .into_iter()
            .find(|section| section.name() == name)
            .ok_or_else(|| format!("there is no part «{name}»; see --help").into())
    }
}

/// How much of everything.
pub struct Options {
    only: Vec<Section>,
    pub quick: bool,
    /// Rows of the contacts tables, and records of a drain.
    pub contacts: u32,
    /// Rows of a COPY.
    pub copied: u32,
    pub tps_rounds: usize,
    pub tps_seconds: u32,
    pub bulk_rounds: usize,
    pub drain_rounds: usize,
    pub audience_rounds: usize,
    pub opt_outs: usize,
    /// Rows of a backfill.
    pub backfilled: u32,
    pub snapshot_passes: usize,
    pub snapshot_rounds: usize,
    pub latencies: usize,
    pub idle: Duration,
}

impl Options {
    fn new(only: Vec<Section>, quick: bool, rows: Option<u32>) -> Options {
        let of = |full, rough| if quick { rough } else { full };
        Options {
            only,
            quick,
            contacts: of(100_000, 20_000),
            copied: of(200_000, 40_000),
            tps_rounds: of(3, 1) as usize,
            tps_seconds: of(10, 2),
            bulk_rounds: of(7, 2) as usize,
            drain_rounds: of(5, 2) as usize,
            audience_rounds: of(3, 1) as usize,
            opt_outs: of(5, 2) as usize,
            backfilled: rows.unwrap_or(of(1_000_000, 50_000)),
            snapshot_passes: of(2, 1) as usize,
            snapshot_rounds: of(4, 3) as usize,
            latencies: of(400, 60) as usize,
            idle: Duration::from_secs(of(20, 5).into()),
        }
    }

    /// In the order in which they are measured.
    pub fn sections(&self) -> impl Iterator<Item = Section> {
        Section::ALL
            .into_iter()
            .filter(|section| self.only.is_empty() || self.only.contains(section))
    }
}

pub fn read() -> Result<Command> {
    parse(lexopt::Parser::from_env())
}

fn parse(mut arguments: lexopt::Parser) -> Result<Command> {
    use lexopt::{Arg, ValueExt};
    let (mut only, mut quick, mut rows) = (Vec::new(), false, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("quick") => quick = true,
            Arg::Long("only") => only.push(Section::named(&arguments.value()?.string()?)?),
            Arg::Long("rows") => {
                let wanted: u32 = arguments.value()?.parse()?;
                rows = Some(wanted.max(1_000));
            }
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Value(value) if value == crate::remote::SERVE => return Ok(Command::Sandbox),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Measure(Options::new(only, quick, rows)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(arguments: &[&str]) -> Result<Vec<&'static str>> {
        match parse(lexopt::Parser::from_args(arguments))? {
            Command::Measure(options) => Ok(options.sections().map(Section::name).collect()),
            _ => Ok(Vec::new()),
        }
    }

    #[test]
    fn all_parts_unless_some_are_named() -> Result<()> {
        let all = Section::ALL.map(Section::name);
        assert_eq!(sections(&[])?, all);
        assert_eq!(sections(&["--quick"])?, all);
        assert_eq!(
            sections(&["--only", "idle", "--only", "drain"])?,
            ["drain", "idle"]
        );
        assert_eq!(
            sections(&["--rows", "7000", "--only", "backfill"])?,
            ["backfill"]
        );
        assert!(sections(&["--rows", "many"]).is_err());
        assert!(sections(&["--only", "speed"]).is_err());
        assert!(sections(&["--fast"]).is_err());
        Ok(())
    }
}
