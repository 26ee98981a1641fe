//! Transactions a second of single-row updates, by pgbench.

use std::{io::Write, process::Stdio, time::Instant};

use integration_tests::process::{as_server_user, bin};

use crate::{
    error::Result,
    options::Options,
    remote::Remote,
    report::{Goal, Report, Row, Unit, thousands},
    server::Server,
    site::Site,
    stats::median,
    tables::Tracking,
};

const CLIENTS: u32 = 8;

/// The goals with synchronous_commit on and off.
const GOALS: [(&str, f64); 2] = [("on", 0.92), ("off", 0.75)];

/// What is run in turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runner {
    Untracked,
    /// The target is paused.
    Capturing,
    Plpgsql,
    /// The worker sends at the same time.
    Draining,
}

impl Runner {
    const ALL: [Runner; 4] = [
        Runner::Untracked,
        Runner::Capturing,
        Runner::Plpgsql,
        Runner::Draining,
    ];

    const fn tracking(self) -> Tracking {
        match self {
            Runner::Untracked => Tracking::Untracked,
            Runner::Plpgsql => Tracking::Plpgsql,
            Runner::Capturing | Runner::Draining => Tracking::Ours,
        }
    }
}

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let remote = Remote::start()?;
    let mut bench = Bench::new(server, options, &remote)?;
    for (commit, goal) in GOALS {
        // Warms up: pages are written whole after a checkpoint, caches fill.
        bench.round(commit, 0, 1)?;
        let mut rounds = Vec::new();
        for round in 1..=options.tps_rounds {
            let tps = bench.round(commit, round, options.tps_seconds)?;
            crate::say(&format!(
                "    synchronous_commit {commit}, untracked · paused · PL/pgSQL · sending: {tps:.0?} tps"
            ));
            rounds.push(tps);
        }
        add(report, commit, goal, &rounds);
    }
    Ok(())
}

/// Two rows: with the target paused, and with the worker sending.
fn add(report: &mut Report, commit: &str, goal: f64, rounds: &[[f64; 4]]) {
    let of = |value: fn(&[f64; 4], usize) -> f64, place: usize| {
        let values: Vec<f64> = rounds.iter().map(|tps| value(tps, place)).collect();
        median(&values)
    };
    let ratio = |place| of(|tps, place| tps[place] / tps[0], place);
    let tps = |place| thousands(of(|tps, place| tps[place], place));
    let title = |what: &str| {
        format!("UPDATE of one row, 8 clients, synchronous_commit {commit}, {what}: tps")
    };
    let goal = Goal::AtLeast(goal);
    report.add(
        Row::new(title("target paused"), Unit::Ratio, ratio(1), goal)
            .peer(ratio(2))
            .note(format!("{} of {}; PL/pgSQL {}", tps(1), tps(0), tps(2))),
    );
    report.add(
        Row::new(title("worker sending"), Unit::Ratio, ratio(3), goal).note(format!(
            "{} of {}",
            tps(3),
            tps(0)
        )),
    );
}

/// All tables, in two databases: a target is paused for a database.
struct Bench<'a> {
    server: &'a Server,
    options: &'a Options,
    capturing: Site<'a>,
    draining: Site<'a>,
}

impl<'a> Bench<'a> {
    fn new(server: &'a Server, options: &'a Options, remote: &Remote) -> Result<Bench<'a>> {
        let mut capturing = Site::create(server, remote.address())?;
        for tracking in Tracking::ALL {
            capturing.add(tracking, options.contacts)?;
        }
        capturing.pause()?;
        let mut draining = Site::create(server, remote.address())?;
        draining.add(Tracking::Ours, options.contacts)?;
        draining.provision()?;
        // All of them are linked, as they would be after a while.
        draining.run("UPDATE ours.contacts SET phone = phone || '0'")?;
        draining.drained()?;
        capturing.run("CHECKPOINT")?;
        Ok(Bench {
            server,
            options,
            capturing,
            draining,
        })
    }

    /// Transactions a second, in the order of [`Runner::ALL`]; who begins changes from round to
    /// round.
    fn round(&mut self, commit: &str, round: usize, seconds: u32) -> Result<[f64; 4]> {
        let mut tps = [0.0; 4];
        for turn in 0..tps.len() {
            let place = (turn + round) % tps.len();
            tps[place] = self.turn(Runner::ALL[place], commit, round, seconds)?;
        }
        Ok(tps)
    }

    fn turn(&mut self, runner: Runner, commit: &str, seed: usize, seconds: u32) -> Result<f64> {
        let tracking = runner.tracking();
        let site = match runner {
            Runner::Draining => &mut self.draining,
            Runner::Untracked | Runner::Capturing | Runner::Plpgsql => &mut self.capturing,
        };
        site.vacuum(&tracking.table())?;
        site.run(tracking.empty_queue())?;
        let script = script(tracking, self.options.contacts);
        let tps = pgbench(self.server, site.name(), &script, commit, seconds, seed)?;
        if runner == Runner::Draining {
            let left: i64 =
                site.ask("SELECT pending FROM integration.status WHERE target = 'hubspot'")?;
            let begun = Instant::now();
            site.drained()?;
            crate::say(&format!(
                "    {left} changes were left when the clients stopped, and gone {:.1} s later",
                begun.elapsed().as_secs_f64()
            ));
        }
        Ok(tps)
    }
}

fn script(tracking: Tracking, contacts: u32) -> String {
    let table = tracking.table();
    format!(
        "\\set id random(1, {contacts})\n\\set number random(100000, 999999)\nUPDATE {table} SET phone = '+49 40 ' || :number, updated_at = now() WHERE id = :id;\n"
    )
}

/// One run; gives transactions a second.
fn pgbench(
    server: &Server,
    database: &str,
    script: &str,
    commit: &str,
    seconds: u32,
    seed: usize,
) -> Result<f64> {
    let mut child = as_server_user(bin("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--file=-"])
        .arg(format!("--client={CLIENTS}"))
        .arg(format!("--time={seconds}"))
        .arg(format!("--random-seed={}", seed + 1))
        .arg("--host")
        .arg(server.cluster.socket_dir())
        .args(["--username=postgres", database])
        .env("PGOPTIONS", format!("-c synchronous_commit={commit}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    read_tps(&said)
        .filter(|_| output.status.success())
        .ok_or_else(|| {
            format!(
                "pgbench failed: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            )
            .into()
        })
}

fn read_tps(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_pgbench_says() {
        let said = "latency average = 0.9 ms\ninitial connection time = 9.1 ms\ntps = 8715.512908 (without initial connection time)\n";
        assert_eq!(read_tps(said), Some(8715.512908));
        assert_eq!(read_tps("pgbench: error"), None);
    }
}
