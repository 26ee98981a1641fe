//! `make bench`: what tracking a table costs, and how fast changes leave, as one table of ratios.
//!
//! Everything is measured in one run on one throw-away server, ours beside an untracked table and
//! a plain PL/pgSQL outbox. Nothing passes or fails by its speed; a run fails only when something
//! could not be measured, for instance because not every change arrived.

mod cpu;
mod error;
mod memory;
mod options;
mod remote;
mod report;
mod sections;
mod server;
mod site;
mod stats;
mod tables;

use std::{process::ExitCode, time::Instant};

use crate::{
    error::Result,
    options::{Command, Options, Section},
    report::Report,
    sections::{
        audience, backfill, bulk, drain, idle, latency, objects, optout, pgq, snapshot, tps,
    },
    server::Server,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match options::read()? {
        Command::Help => {
            print!("{}", options::HELP);
            Ok(())
        }
        Command::Sandbox => remote::serve(),
        Command::Measure(options) => measure(&options),
    }
}

fn measure(options: &Options) -> Result<()> {
    let started = Instant::now();
    let server = Server::start()?;
    let mut report = Report::new(server.description(options)?);
    for section in options.sections() {
        say(&format!("--- {}", section.name()));
        let began = Instant::now();
        match section {
            Section::Tps => tps::measure(&server, options, &mut report)?,
            Section::Bulk => bulk::measure(&server, options, &mut report)?,
            Section::Drain => drain::measure(&server, options, &mut report)?,
            Section::PgQ => pgq::measure(&server, options, &mut report)?,
            Section::Backfill => backfill::measure(&server, options, &mut report)?,
            Section::Objects => objects::measure(&server, options, &mut report)?,
            Section::Audience => audience::measure(&server, options, &mut report)?,
            Section::OptOut => optout::measure(&server, options, &mut report)?,
            Section::Snapshot => snapshot::measure(&server, options, &mut report)?,
            Section::Latency => latency::measure(&server, options, &mut report)?,
            Section::Idle => idle::measure(options, &mut report)?,
        }
        say(&format!("    took {:.0} s", began.elapsed().as_secs_f64()));
    }
    drop(server);
    report.took(started.elapsed());
    print!("{report}");
    Ok(())
}

/// Progress, beside the table.
fn say(line: &str) {
    eprintln!("{line}");
}
