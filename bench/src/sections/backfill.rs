//! Sending the rows a table has already: how fast, and whether the end is as fast as the beginning.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    memory::MemoryWatch,
    options::Options,
    remote::Remote,
    report::{Goal, Report, Row, Unit, thousands},
    server::Server,
    site::Site,
    tables::Tracking,
};

/// How often it is asked how far the job is.
const LOOK: Duration = Duration::from_millis(20);

/// Slower than this is stuck, rows a second.
const SLOWEST: u32 = 500;

const TENTHS: usize = 10;

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let rows = options.backfilled;
    let remote = Remote::start()?;
    let mut site = Site::create(server, remote.address())?;
    site.add(Tracking::Ours, rows)?;
    site.vacuum("ANALYZE ours.contacts")?;
    site.provision()?;
    let memory = MemoryWatch::of(site.worker());
    let tenths = send(&mut site, rows)?;
    let peak = memory.take_peak_mb();
    let there = remote.counted()?.contacts;
    if there != u64::from(rows) {
        return Err(format!("{there} contacts arrived instead of {rows}").into());
    }
    let what = format!("backfill of {} contacts", thousands(rows.into()));
    let seconds: f64 = tenths.iter().sum();
    let (first, last) = (tenths[0], tenths[TENTHS - 1]);
    report.add(
        Row::new(
            format!("{what}, answers in 0 ms: records"),
            Unit::Rate,
            f64::from(rows) / seconds,
            Goal::None,
        )
        .note("once"),
    );
    let tenth = f64::from(rows) / TENTHS as f64;
    report.add(
        Row::new(
            format!("{what}: rate of the last tenth, of that of the first"),
            Unit::Ratio,
            first / last,
            Goal::AtLeast(0.9),
        )
        .note(format!(
            "{}/s of {}/s",
            thousands(tenth / last),
            thousands(tenth / first)
        )),
    );
    report.add(
        Row::new(
            format!("{what}: worker's own memory, peak"),
            Unit::Megabytes,
            peak,
            Goal::AtMost(40.0),
        )
        .note("sampled RssAnon"),
    );
    Ok(())
}

/// Seconds that each tenth of the rows took.
fn send(site: &mut Site<'_>, rows: u32) -> Result<Vec<f64>> {
    let mut begun = Instant::now();
    let job: i64 = site.ask("SELECT integration.backfill('ours.contacts', 'hubspot')")?;
    let done = format!(
        "SELECT CASE WHEN j.state IN ('failed', 'cancelled') THEN -1 ELSE coalesce((SELECT b.done FROM integration._backfill b WHERE b.job = j.id), j.done) END
         FROM integration.job j WHERE j.id = {job}"
    );
    let deadline = begun + Duration::from_secs((rows / SLOWEST).max(60).into());
    let mut tenths = Vec::new();
    while tenths.len() < TENTHS {
        let done: i64 = site.ask(&done)?;
        let reached = usize::try_from(done)? * TENTHS / rows as usize;
        if reached > tenths.len() {
            // Should more than one have been passed since the last look, they share the time.
            let passed = reached - tenths.len();
            let each = begun.elapsed().as_secs_f64() / passed as f64;
            tenths.extend(std::iter::repeat_n(each, passed));
            begun = Instant::now();
        } else if Instant::now() > deadline {
            return Err(format!("{done} of {rows} rows were sent when the time was over").into());
        }
        thread::sleep(LOOK);
    }
    Ok(tenths)
}
