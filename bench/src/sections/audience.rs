//! Opted-in contacts into a Mailchimp audience: calls take long, and only few may be under way, so
//! all depends on full calls and on no connection being idle.

use std::time::{Duration, Instant};

use crate::{
    error::Result,
    options::Options,
    remote::Remote,
    report::{Goal, Report, Row, Unit, thousands},
    server::Server,
    site::Site,
    stats::median,
    tables::{Tracking, opted_in},
};

/// What Mailchimp takes over a bulk call.
pub const CALL: Duration = Duration::from_millis(300);

/// Mailchimp: at most 10 connections of one user at a time.
const MOST: u32 = 10;

/// Mailchimp: at most 500 members in a call.
const BATCH: f64 = 500.0;

/// All of these contacts are opted in.
pub const OPT_IN: &str = "UPDATE ours.contacts SET marketing_opt_in = true";

/// What one way of sending came to.
struct Sent {
    /// Records a second, one for each round.
    rates: Vec<f64>,
    calls: u64,
    records: u64,
}

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let contacts = thousands(options.contacts.into());
    let delay = CALL.as_millis();
    let mut all = Sent {
        rates: Vec::new(),
        calls: 0,
        records: 0,
    };
    for connections in [MOST, 8] {
        let ceiling = f64::from(connections) * BATCH / CALL.as_secs_f64();
        let (new, changed) = send(server, options, connections)?;
        for (what, sent) in [("new", new), ("changed", changed)] {
            let rate = median(&sent.rates);
            report.add(
                Row::new(
                    format!("audience: {contacts} {what} opted-in contacts, {connections} connections, answers in {delay} ms: of the ceiling"),
                    Unit::Ratio,
                    rate / ceiling,
                    Goal::AtLeast(0.9),
                )
                .note(format!(
                    "{}/s of {}/s; nothing refused",
                    thousands(rate),
                    thousands(ceiling)
                )),
            );
            all.calls += sent.calls;
            all.records += sent.records;
        }
    }
    report.add(
        Row::new(
            "audience: API calls per changed record",
            Unit::Fraction,
            all.calls as f64 / all.records as f64,
            Goal::AtMost(0.0025),
        )
        .note(format!("{} calls", thousands(all.calls as f64))),
    );
    backfill(server, options, report)
}

/// Contacts that the audience lacks, and then changes of all of them.
fn send(server: &Server, options: &Options, connections: u32) -> Result<(Sent, Sent)> {
    let remote = Remote::start()?;
    remote.connections(MOST)?;
    let mut site = Site::mailing(server, remote.address(), connections)?;
    site.add(Tracking::Ours, 0)?;
    // Who we are has been found out before anything is measured.
    site.run(&format!("INSERT INTO ours.contacts {}", opted_in(1)))?;
    site.drained()?;
    site.pause()?;
    let rest = opted_in(options.contacts);
    site.run(&format!(
        "INSERT INTO ours.contacts {rest} ON CONFLICT DO NOTHING"
    ))?;
    remote.delay(CALL)?;
    let new = drain(&mut site, &remote, options.contacts - 1)?;
    let members = remote.counted()?.members;
    if members != u64::from(options.contacts) {
        return Err(format!("{members} members instead of {}", options.contacts).into());
    }
    let mut changed = Sent {
        rates: Vec::new(),
        calls: 0,
        records: 0,
    };
    for round in 0..options.audience_rounds {
        site.vacuum("ours.contacts")?;
        site.pause()?;
        site.run(&format!(
            "UPDATE ours.contacts SET phone = '+49 60 ' || id || '-{round}'"
        ))?;
        let sent = drain(&mut site, &remote, options.contacts)?;
        changed.rates.extend(sent.rates);
        changed.calls += sent.calls;
        changed.records += sent.records;
    }
    Ok((new, changed))
}

fn drain(site: &mut Site<'_>, remote: &Remote, records: u32) -> Result<Sent> {
    let before = remote.counted()?;
    let begun = Instant::now();
    site.resume()?;
    site.drained()?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = remote.counted()?;
    let (written, failed) = (after.records - before.records, after.failed - before.failed);
    if written < u64::from(records) || failed > 0 {
        return Err(format!(
            "{written} records arrived instead of {records}, {failed} requests failed"
        )
        .into());
    }
    Ok(Sent {
        rates: vec![f64::from(records) / seconds],
        calls: after.requests - before.requests,
        records: written,
    })
}

/// Contacts from before they were tracked.
fn backfill(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let remote = Remote::start()?;
    remote.connections(MOST)?;
    let mut site = Site::mailing(server, remote.address(), MOST)?;
    site.run(&Tracking::Ours.create(options.contacts))?;
    site.run(OPT_IN)?;
    site.vacuum("ANALYZE ours.contacts")?;
    site.run(&Tracking::Ours.track(crate::site::Target::Mailchimp))?;
    remote.delay(CALL)?;
    let before = remote.counted()?;
    let begun = Instant::now();
    let job: i64 = site.ask("SELECT integration.backfill('ours.contacts', 'mailchimp')")?;
    site.done(job)?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = remote.counted()?;
    if after.members != u64::from(options.contacts) || after.failed > before.failed {
        return Err(format!("{} members arrived", after.members).into());
    }
    let (rate, calls) = (
        f64::from(options.contacts) / seconds,
        after.requests - before.requests,
    );
    let ceiling = f64::from(MOST) * BATCH / CALL.as_secs_f64();
    report.add(
        Row::new(
            format!(
                "audience: backfill of {} contacts: API calls per record",
                thousands(options.contacts.into())
            ),
            Unit::Fraction,
            calls as f64 / f64::from(options.contacts),
            Goal::AtMost(0.0025),
        )
        .note(format!(
            "{} calls, {}/s, {:.2} of the ceiling",
            thousands(calls as f64),
            thousands(rate),
            rate / ceiling
        )),
    );
    Ok(())
}
