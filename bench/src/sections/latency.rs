//! From a commit to the request on the wire, with nothing else going on.

use std::{
    thread,
    time::{Duration, Instant},
};

use integration_sandbox::Sandbox;

use crate::{
    error::Result,
    options::Options,
    remote::{Address, unlimited},
    report::{Goal, Report, Row, Unit, thousands},
    server::Server,
    site::Site,
    stats::percentile,
    tables::Tracking,
};

/// Contacts that are changed in turn.
const CONTACTS: u32 = 1_000;

/// After the queue is empty the worker has this long to go to sleep.
const REST: Duration = Duration::from_millis(30);

/// A request that takes longer than this has been lost.
const LONG: Duration = Duration::from_secs(10);

/// Milliseconds until the request arrived.
struct Sample {
    /// From the moment at which the client knew that its transaction was committed.
    from_committed: f64,
    /// From the moment at which it asked for that.
    from_asked: f64,
}

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    // In this process: it shares our clock, and arrival is noted by the thread that serves.
    let sandbox = Sandbox::try_start(unlimited())?;
    let mut site = Site::create(server, &Address::new(sandbox.hubspot_url()))?;
    site.add(Tracking::Ours, CONTACTS)?;
    site.provision()?;
    site.run("UPDATE ours.contacts SET phone = phone || '0'")?;
    site.drained()?;

    let mut samples = Vec::new();
    for number in 0..options.latencies {
        samples.push(sample(&mut site, &sandbox, number)?);
    }
    let committed: Vec<f64> = samples.iter().map(|sample| sample.from_committed).collect();
    let asked: Vec<f64> = samples.iter().map(|sample| sample.from_asked).collect();
    let updates = format!("{} updates, one at a time", thousands(samples.len() as f64));
    for (percent, goal) in [(50.0, 1.0), (99.0, 3.0)] {
        report.add(
            Row::new(
                format!("COMMIT returned → request on the wire, idle target, p{percent}"),
                Unit::Milliseconds,
                percentile(&committed, percent),
                Goal::AtMost(goal),
            )
            .note(format!(
                "{updates}; {:.2} ms from COMMIT sent",
                percentile(&asked, percent)
            )),
        );
    }
    Ok(())
}

fn sample(site: &mut Site<'_>, sandbox: &Sandbox, number: usize) -> Result<Sample> {
    // Prime to the number of contacts, so that each gets its turn.
    let id = 1 + number * 7 % CONTACTS as usize;
    site.run(&format!(
        "BEGIN; UPDATE ours.contacts SET phone = '+49 70 {number}' WHERE id = {id}"
    ))?;
    sandbox.reset_log();
    let asked = Instant::now();
    site.run("COMMIT")?;
    let committed = Instant::now();
    let arrived = arrival(sandbox)?;
    site.drained()?;
    thread::sleep(REST);
    let milliseconds =
        |since: Instant| 1_000.0 * arrived.saturating_duration_since(since).as_secs_f64();
    Ok(Sample {
        from_committed: milliseconds(committed),
        from_asked: milliseconds(asked),
    })
}

/// When the first request of the log came in.
fn arrival(sandbox: &Sandbox) -> Result<Instant> {
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        if let Some(request) = sandbox.requests().first() {
            return Ok(request.arrived);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(format!("no request within {LONG:?} of a commit").into())
}
