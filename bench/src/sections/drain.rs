//! How fast queued changes leave, what memory and how many calls that takes.

use std::time::{Duration, Instant};

use crate::{
    cpu::CpuTime,
    error::Result,
    memory::MemoryWatch,
    options::Options,
    remote::Remote,
    report::{Goal, Report, Row, Unit, thousands},
    server::Server,
    site::Site,
    stats::median,
    tables::{Tracking, rows},
};

/// A contacts table in step with a sandbox, and what is changed and sent again and again.
pub struct Drains<'a> {
    pub site: Site<'a>,
    remote: Remote,
    records: u32,
    round: u32,
    /// Requests of all rounds of changes.
    requests: u64,
    rounds: u64,
    worker: i32,
    /// The worker's CPU time a record in each round, first load included.
    cpu: Vec<CpuTime>,
}

/// How the changes of a round are made.
#[derive(Clone, Copy, Debug)]
pub enum Changes {
    OneStatement,
    /// As many users make them: each in a transaction of its own, in no order.
    OneByOne,
}

impl<'a> Drains<'a> {
    /// Nothing is in the table yet.
    pub fn new(server: &'a Server, records: u32) -> Result<Drains<'a>> {
        let remote = Remote::start()?;
        let mut site = Site::create(server, remote.address())?;
        site.add(Tracking::Ours, 0)?;
        site.provision()?;
        site.run(&format!(
            "CREATE PROCEDURE change_one_by_one(round int) LANGUAGE plpgsql AS $$
             BEGIN
                 FOR n IN 1..{records} LOOP
                     UPDATE ours.contacts SET phone = '+49 60 ' || id || '-' || round WHERE id = 1 + (7919::bigint * n) % {records};
                     COMMIT;
                 END LOOP;
             END
             $$"
        ))?;
        let worker = site.worker();
        Ok(Drains {
            site,
            worker,
            cpu: Vec::new(),
            remote,
            records,
            round: 0,
            requests: 0,
            rounds: 0,
        })
    }

    /// Contacts that the other side has never heard of; gives records a second.
    pub fn first_load(&mut self) -> Result<f64> {
        self.site.pause()?;
        let insert = format!("INSERT INTO ours.contacts {}", rows(self.records));
        self.site.run(&insert)?;
        let rate = self.send()?;
        let there = self.remote.counted()?.contacts;
        if there != u64::from(self.records) {
            return Err(format!("{there} contacts arrived instead of {}", self.records).into());
        }
        (self.requests, self.rounds) = (0, 0);
        Ok(rate)
    }

    /// Changes every contact while the target is paused, and has it sent; gives records a second.
    pub fn round(&mut self, changes: Changes) -> Result<f64> {
        self.site.pause()?;
        self.round += 1;
        let round = self.round;
        match changes {
            Changes::OneStatement => self.site.run(&format!(
                "UPDATE ours.contacts SET phone = '+49 60 ' || id || '-{round}'"
            ))?,
            Changes::OneByOne => {
                self.site.run("SET synchronous_commit = off")?;
                self.site.run(&format!("CALL change_one_by_one({round})"))?;
                self.site.run("SET synchronous_commit = on")?;
            }
        }
        let rate = self.send()?;
        let arrived = self.remote.property("person7@example.org", "phone")?;
        let wanted = format!("+49 60 7-{round}");
        if arrived.as_ref() != Some(&wanted) {
            return Err(format!("{wanted} did not arrive, there is {arrived:?}").into());
        }
        Ok(rate)
    }

    /// Rounds that do not have to mind what the previous one left behind.
    pub fn repeat(&mut self, changes: Changes, rounds: usize) -> Result<Vec<f64>> {
        let mut rates = Vec::new();
        for _ in 0..rounds {
            self.site.vacuum("ours.contacts")?;
            rates.push(self.round(changes)?);
        }
        Ok(rates)
    }

    fn send(&mut self) -> Result<f64> {
        let before = self.remote.counted()?;
        let cpu = CpuTime::of(self.worker)?;
        let begun = Instant::now();
        self.site.resume()?;
        self.site.drained()?;
        let seconds = begun.elapsed().as_secs_f64();
        let used = CpuTime::of(self.worker)?;
        self.cpu.push(used.each(cpu, self.records));
        let after = self.remote.counted()?;
        let (written, failed) = (after.records - before.records, after.failed - before.failed);
        if written < u64::from(self.records) || failed > 0 {
            return Err(format!(
                "{written} records arrived instead of {}, {failed} requests failed",
                self.records
            )
            .into());
        }
        self.requests += after.requests - before.requests;
        self.rounds += 1;
        Ok(f64::from(self.records) / seconds)
    }

    /// What the worker took for a record in a median round of those since this was last asked.
    pub fn take_cpu(&mut self) -> CpuTime {
        let rounds = std::mem::take(&mut self.cpu);
        let of = |part: fn(&CpuTime) -> f64| median(&rounds.iter().map(part).collect::<Vec<_>>());
        CpuTime {
            main: of(|round| round.main),
            others: of(|round| round.others),
        }
    }

    /// Requests for each changed record, in all rounds so far.
    fn calls_per_record(&self) -> f64 {
        self.requests as f64 / (self.rounds * u64::from(self.records)) as f64
    }
}

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let mut drains = Drains::new(server, options.contacts)?;
    let memory = MemoryWatch::of(drains.worker);

    let new = vec![drains.first_load()?];
    let mut peaks = vec![("new", memory.take_peak_mb())];
    let mut cpu = vec![("new", drains.take_cpu())];
    let at_once = drains.repeat(Changes::OneStatement, options.drain_rounds)?;
    peaks.push(("0 ms", memory.take_peak_mb()));
    cpu.push(("0 ms", drains.take_cpu()));
    let one_by_one = drains.repeat(Changes::OneByOne, 2)?;
    peaks.push(("a transaction each", memory.take_peak_mb()));
    cpu.push(("a transaction each", drains.take_cpu()));
    drains.remote.delay(Duration::from_millis(100))?;
    let slowly = drains.repeat(Changes::OneStatement, options.drain_rounds)?;
    peaks.push(("100 ms", memory.take_peak_mb()));
    cpu.push(("100 ms", drains.take_cpu()));

    let records = thousands(options.contacts.into());
    for (what, rates, goal) in [
        ("changed, answers in 0 ms", at_once, Goal::AtLeast(60_000.0)),
        (
            "changed, answers in 100 ms, 50 connections",
            slowly,
            Goal::AtLeast(37_000.0),
        ),
        (
            "changed in a transaction each, answers in 0 ms",
            one_by_one,
            Goal::None,
        ),
        ("new, answers in 0 ms", new, Goal::None),
    ] {
        let figure = format!("drain of {records} contacts {what}: records");
        report.add(Row::new(figure, Unit::Rate, median(&rates), goal).note(range(&rates)));
    }
    for (drain, cpu) in cpu {
        let goal = match drain {
            "0 ms" => Goal::AtMost(20.0),
            _ => Goal::None,
        };
        let figure = format!("worker's CPU a record, {drain}");
        let note = format!("main thread {:.1}, HTTP {:.1}", cpu.main, cpu.others);
        report.add(Row::new(figure, Unit::Microseconds, cpu.total(), goal).note(note));
    }
    let peak = peaks.iter().map(|(_, peak)| *peak).fold(0.0, f64::max);
    let peaks: Vec<String> = peaks
        .iter()
        .map(|(drain, peak)| format!("{drain} {peak:.1}"))
        .collect();
    report.add(
        Row::new(
            "worker's own memory in those drains, peak",
            Unit::Megabytes,
            peak,
            Goal::AtMost(40.0),
        )
        .note(format!("sampled RssAnon: {}", peaks.join(", "))),
    );
    report.add(
        Row::new(
            "API calls per changed record in those drains",
            Unit::Fraction,
            drains.calls_per_record(),
            Goal::AtMost(0.012),
        )
        .note(format!("{} calls", thousands(drains.requests as f64))),
    );
    Ok(())
}

/// From the slowest to the fastest round.
fn range(rates: &[f64]) -> String {
    if let [_] = rates {
        return "once".to_owned();
    }
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    format!("{} to {}", thousands(least), thousands(most))
}
