//! From the commit of an opt-out to its request on the wire, behind many waiting changes and with
//! every connection in use.

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
    sections::audience::{CALL, OPT_IN},
    server::Server,
    site::Site,
    stats::percentile,
    tables::{Tracking, rows},
};

/// As it is set by default.
const CONNECTIONS: u32 = 8;

/// An opt-out that takes longer than this has been lost.
const LONG: Duration = Duration::from_secs(60);

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    // In this process: it shares our clock.
    let sandbox = Sandbox::try_start(unlimited())?;
    let mut site = Site::mailing(server, &Address::new(sandbox.hubspot_url()), CONNECTIONS)?;
    site.add(Tracking::Ours, 0)?;
    site.run(&format!(
        "INSERT INTO ours.contacts {}",
        rows(options.contacts)
    ))?;
    site.run(OPT_IN)?;
    site.drained()?;
    sandbox.keep_bodies(true);
    let delay = u64::try_from(CALL.as_millis())?;
    sandbox.configure(|config| config.delay_ms = delay);

    let mut seconds = Vec::new();
    for round in 0..options.opt_outs {
        seconds.push(sample(&mut site, &sandbox, round, options.contacts)?);
    }
    let most = percentile(&seconds, 100.0);
    let what = format!(
        "opt-out behind {} changes, {CONNECTIONS} connections in use, COMMIT returned → request on the wire",
        thousands(options.contacts.into())
    );
    report.add(
        Row::new(
            format!("{what}: longest"),
            Unit::Milliseconds,
            1_000.0 * most,
            Goal::AtMost(1_000.0),
        )
        .note(format!(
            "of {}; median {:.0} ms",
            seconds.len(),
            1_000.0 * percentile(&seconds, 50.0)
        )),
    );
    report.add(Row::new(
        format!("{what}: longest, of a call's duration"),
        Unit::Times,
        most / CALL.as_secs_f64(),
        Goal::None,
    ));
    Ok(())
}

/// Seconds until the opt-out arrived.
fn sample(site: &mut Site<'_>, sandbox: &Sandbox, round: usize, contacts: u32) -> Result<f64> {
    site.vacuum("ours.contacts")?;
    site.pause()?;
    site.run(&format!(
        "UPDATE ours.contacts SET phone = '+49 60 ' || id || '-{round}'"
    ))?;
    sandbox.reset_log();
    site.resume()?;
    wait_for("all connections to be in use", || {
        sandbox.stats().in_flight >= CONNECTIONS as usize
    })?;
    // The last in the queue, so that its own change does not come first.
    let id = contacts as usize - round;
    site.run(&format!(
        "BEGIN; UPDATE ours.contacts SET marketing_opt_in = false WHERE id = {id}"
    ))?;
    site.run("COMMIT")?;
    let committed = Instant::now();
    let address = format!("\"person{id}@example.org\"");
    let mut arrived = None;
    wait_for("the opt-out", || {
        arrived = arrival(sandbox, &address);
        arrived.is_some()
    })?;
    let waiting: i64 =
        site.ask("SELECT pending FROM integration.status WHERE target = 'mailchimp'")?;
    if waiting < i64::from(contacts) / 10 {
        return Err(format!("only {waiting} changes waited when the opt-out arrived").into());
    }
    sandbox.configure(|config| config.delay_ms = 0);
    site.drained()?;
    let delay = u64::try_from(CALL.as_millis())?;
    sandbox.configure(|config| config.delay_ms = delay);
    Ok(arrived
        .map_or(LONG, |at| at.saturating_duration_since(committed))
        .as_secs_f64())
}

/// When the request that takes this person off the list came in.
fn arrival(sandbox: &Sandbox, address: &str) -> Option<Instant> {
    let requests = sandbox.requests();
    let opts_out = |body: &String| body.contains(address) && body.contains("\"unsubscribed\"");
    let found = requests
        .iter()
        .find(|request| request.body.as_ref().is_some_and(opts_out));
    found.map(|request| request.arrived)
}

fn wait_for(what: &str, mut come: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + LONG;
    while !come() {
        if Instant::now() > deadline {
            return Err(format!("waited {LONG:?} for {what}").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
