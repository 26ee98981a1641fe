//! Large statements: one UPDATE of all contacts, one COPY.

use crate::{
    error::Result,
    options::Options,
    remote::Remote,
    report::{Goal, Report, Row, Unit, thousands},
    server::Server,
    site::Site,
    stats::median,
    tables::{Tracking, rows},
};

/// At most this many times as long as untracked.
const GOAL: f64 = 1.5;

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let remote = Remote::start()?;
    let mut site = Site::create(server, remote.address())?;
    for tracking in Tracking::ALL {
        site.add(tracking, options.contacts)?;
    }
    site.pause()?;
    site.run("CHECKPOINT")?;
    update(&mut site, options, report)?;
    let file = server.cluster.socket_dir().join("contacts.copy");
    let file = file.to_string_lossy();
    site.run(&format!("COPY ({}) TO '{file}'", rows(options.copied)))?;
    copy(&mut site, &file, options, report)
}

fn update(site: &mut Site<'_>, options: &Options, report: &mut Report) -> Result<()> {
    let mut rounds = Vec::new();
    for round in 0..=options.bulk_rounds {
        rounds.push(round_of(site, round, |site, tracking| {
            let table = tracking.table();
            site.vacuum(&table)?;
            site.run(tracking.empty_queue())?;
            site.time(&format!(
                "UPDATE {table} SET phone = '+49 50 ' || id + {round}, updated_at = now()"
            ))
        })?);
    }
    let what = format!("one UPDATE of {} rows", thousands(options.contacts.into()));
    report.add(row(&what, &rounds[1..]));
    Ok(())
}

fn copy(site: &mut Site<'_>, file: &str, options: &Options, report: &mut Report) -> Result<()> {
    let mut rounds = Vec::new();
    for round in 0..=options.bulk_rounds {
        rounds.push(round_of(site, round, |site, tracking| {
            let table = tracking.table();
            site.run(&format!("TRUNCATE {table}"))?;
            site.run(tracking.empty_queue())?;
            site.time(&format!("COPY {table} FROM '{file}'"))
        })?);
    }
    let what = format!("COPY of {} rows", thousands(options.copied.into()));
    report.add(row(&what, &rounds[1..]));
    Ok(())
}

/// Seconds of each kind of table, in the order of [`Tracking::ALL`]; who begins changes from round
/// to round. The first round warms up and isn't counted.
fn round_of(
    site: &mut Site<'_>,
    round: usize,
    mut time: impl FnMut(&mut Site<'_>, Tracking) -> Result<f64>,
) -> Result<[f64; 3]> {
    let mut seconds = [0.0; 3];
    for turn in 0..seconds.len() {
        let place = (turn + round) % seconds.len();
        seconds[place] = time(site, Tracking::ALL[place])?;
    }
    Ok(seconds)
}

fn row(what: &str, rounds: &[[f64; 3]]) -> Row {
    let ratio = |place: usize| {
        let ratios: Vec<f64> = rounds.iter().map(|round| round[place] / round[0]).collect();
        median(&ratios)
    };
    let seconds = |place: usize| {
        let seconds: Vec<f64> = rounds.iter().map(|round| round[place]).collect();
        median(&seconds)
    };
    Row::new(
        format!("{what}: time"),
        Unit::Times,
        ratio(1),
        Goal::AtMost(GOAL),
    )
    .peer(ratio(2))
    .note(format!(
        "{:.3} s of {:.3} s; PL/pgSQL {:.3} s",
        seconds(1),
        seconds(0),
        seconds(2)
    ))
}
