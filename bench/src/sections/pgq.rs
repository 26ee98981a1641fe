//! PgQ, the queue that Skytools left behind, drained by a small consumer in Node: what one would build
//! who has no `integration`. It keeps no links, and compares nothing with what was sent before.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use postgres::Client;

use crate::{
    cpu::CpuTime,
    error::Result,
    options::Options,
    remote::Remote,
    report::{Goal, Report, Row, Unit, thousands},
    sections::drain::{Changes, Drains},
    server::Server,
    site::CONNECTIONS,
    stats::median,
    tables::{Tracking, rows},
};

/// Where the consumer is.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

const QUEUE: &str = "changes";
const CONSUMER: &str = "hubspot";

/// A contacts table whose changes PgQ queues, and who drains it.
struct PgQ {
    client: Client,
    remote: Remote,
    consumer: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    /// The consumer's server process.
    backend: i32,
    records: u32,
    round: u32,
}

impl PgQ {
    fn start(server: &Server, records: u32) -> Result<PgQ> {
        let remote = Remote::start()?;
        let database = server.cluster.create_database();
        let mut client = server.cluster.connect(&database);
        client
            .batch_execute("CREATE EXTENSION pgq")
            .map_err(|why| {
                format!("{why}; make bench installs Debian's package postgresql-15-pgq3")
            })?;
        client.batch_execute(&Tracking::Untracked.create(0))?;
        client.batch_execute(&format!(
            "SELECT pgq.create_queue('{QUEUE}'), pgq.register_consumer('{QUEUE}', '{CONSUMER}');
             CREATE TRIGGER queue AFTER INSERT OR UPDATE ON untracked.contacts
                 FOR EACH ROW EXECUTE FUNCTION pgq.jsontriga('{QUEUE}')"
        ))?;
        let user: String = client.query_one("SELECT current_user::text", &[])?.get(0);
        let address = remote.address();
        let mut consumer = Command::new("node")
            .arg("pgq.mjs")
            .arg(server.cluster.socket_dir())
            .args([&user, &database, QUEUE, CONSUMER])
            .args([&address.url, &address.token, &CONNECTIONS.to_string()])
            .current_dir(installed()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = consumer
            .stdin
            .take()
            .ok_or("the consumer takes no orders")?;
        let reports = consumer.stdout.take().ok_or("the consumer says nothing")?;
        let mut pgq = PgQ {
            client,
            remote,
            consumer,
            orders,
            reports: BufReader::new(reports),
            backend: 0,
            records,
            round: 0,
        };
        pgq.backend = pgq.report()?.try_into()?;
        Ok(pgq)
    }

    fn first_load(&mut self) -> Result<(f64, f64)> {
        self.client.batch_execute(&format!(
            "INSERT INTO untracked.contacts {}",
            rows(self.records)
        ))?;
        self.send()
    }

    /// As [`Drains::round`]; gives microseconds of CPU a record, too.
    fn round(&mut self) -> Result<(f64, f64)> {
        self.client.batch_execute("VACUUM untracked.contacts")?;
        self.round += 1;
        let round = self.round;
        self.client.batch_execute(&format!(
            "UPDATE untracked.contacts SET phone = '+49 60 ' || id || '-{round}'"
        ))?;
        let sent = self.send()?;
        let arrived = self.remote.property("person7@example.org", "phone")?;
        match arrived == Some(format!("+49 60 7-{round}")) {
            true => Ok(sent),
            false => Err(format!("PgQ: {arrived:?} arrived in round {round}").into()),
        }
    }

    fn send(&mut self) -> Result<(f64, f64)> {
        // What a daemon does twice a second.
        self.client
            .batch_execute(&format!("SELECT pgq.force_tick('{QUEUE}')"))?;
        self.client
            .batch_execute(&format!("SELECT pgq.ticker('{QUEUE}')"))?;
        let cpu = self.cpu()?;
        let begun = Instant::now();
        writeln!(self.orders, "drain")?;
        let sent = self.report()?;
        let seconds = begun.elapsed().as_secs_f64();
        if sent != i64::from(self.records) {
            return Err(format!("PgQ sent {sent} records instead of {}", self.records).into());
        }
        let records = f64::from(self.records);
        Ok((records / seconds, (self.cpu()? - cpu) / records))
    }

    fn cpu(&self) -> Result<f64> {
        let consumer = CpuTime::of(self.consumer.id().cast_signed())?;
        Ok(consumer.total() + CpuTime::of(self.backend)?.total())
    }

    fn report(&mut self) -> Result<i64> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        Ok(line
            .trim()
            .parse()
            .map_err(|_| format!("the consumer of PgQ has ended or says «{}»", line.trim()))?)
    }
}

impl Drop for PgQ {
    fn drop(&mut self) {
        // It has ended, or cannot be ended: neither leaves anything to do.
        let _ = self.consumer.kill();
        let _ = self.consumer.wait();
    }
}

/// The consumer's folder, with what it is made of.
fn installed() -> Result<&'static Path> {
    let folder = Path::new(PEERS);
    if !folder.join("node_modules/.package-lock.json").exists() {
        let npm = Command::new("npm")
            .args(["ci", "--silent", "--no-audit", "--no-fund"])
            .current_dir(folder)
            .status()?;
        if !npm.success() {
            return Err("npm ci failed; Node.js and npm have to be installed".into());
        }
    }
    Ok(folder)
}

pub fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let mut ours = Drains::new(server, options.contacts)?;
    let mut pgq = PgQ::start(server, options.contacts)?;
    ours.first_load()?;
    pgq.first_load()?;
    ours.take_cpu();
    let (mut our_rates, mut rates, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.drain_rounds {
        our_rates.extend(ours.repeat(Changes::OneStatement, 1)?);
        let (rate, used) = pgq.round()?;
        rates.push(rate);
        cpu.push(used);
    }
    let our_cpu = ours.take_cpu().total();
    let (our_rate, rate, cpu) = (median(&our_rates), median(&rates), median(&cpu));
    let (what, records) = (
        "PgQ with a consumer in Node",
        thousands(options.contacts.into()),
    );
    report.add(
        Row::new(
            format!("drain of {records} contacts changed / {what}"),
            Unit::Ratio,
            our_rate / rate,
            Goal::AtLeast(1.3),
        )
        .note(format!("{}/s / {}/s", thousands(our_rate), thousands(rate))),
    );
    report.add(
        Row::new(
            format!("CPU a record (consumer and its server process) / {what}"),
            Unit::Ratio,
            our_cpu / cpu,
            Goal::None,
        )
        .note(format!("{our_cpu:.1} µs / {cpu:.1} µs")),
    );
    Ok(())
}
