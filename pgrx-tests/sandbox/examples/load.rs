//! How many records a second the sandbox takes: batches of 100 upserts over a few connections
//! (`cargo run --release --example load -- [connections] [seconds]`). The client prepares its requests
//! beforehand and reads answers without parsing them, so that the figure is the server's.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use integration_sandbox::{Config, Sandbox, Subscriptions};

const BATCH: usize = 100;
const BATCHES: usize = 200;

fn main() -> std::io::Result<()> {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse::<usize>().ok());
    let connections = numbers.next().unwrap_or(4);
    let seconds = numbers.next().unwrap_or(3);
    let mut config = Config::default();
    config.hubspot.rate = None;
    config.hubspot.daily_limit = None;
    config.hubspot.subscriptions = Subscriptions::None;
    let sandbox = Sandbox::try_start(config)?;
    let address = sandbox
        .hubspot_url()
        .trim_start_matches("http://")
        .to_owned();
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds as u64);
    let clients: Vec<_> = (0..connections)
        .map(|client| {
            let address = address.clone();
            std::thread::spawn(move || drive(&address, client, until))
        })
        .collect();
    let mut records = 0;
    for client in clients {
        records += client
            .join()
            .map_err(|_| std::io::Error::other("a client failed"))??;
    }
    let elapsed = started.elapsed().as_secs_f64();
    println!(
        "{connections} connections: {:.0} records/s ({records} in {elapsed:.1} s)",
        records as f64 / elapsed
    );
    println!("{:?}", sandbox.stats());
    Ok(())
}

/// Sends prepared batches round and round; returns how many records were answered.
fn drive(address: &str, client: usize, until: Instant) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::with_capacity(1 << 17, stream.try_clone()?);
    let requests: Vec<Vec<u8>> = (0..BATCHES).map(|batch| request(client, batch)).collect();
    let (mut records, mut body) = (0, Vec::new());
    for request in requests.iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        stream.write_all(request)?;
        let (mut length, mut line, mut first) = (0, String::new(), true);
        loop {
            line.clear();
            answers.read_line(&mut line)?;
            if std::mem::take(&mut first) && !line.starts_with("HTTP/1.1 200") {
                return Err(std::io::Error::other(line));
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        body.resize(length, 0);
        answers.read_exact(&mut body)?;
        records += BATCH;
    }
    Ok(records)
}

fn request(client: usize, batch: usize) -> Vec<u8> {
    let mut body = "{\"inputs\":[".to_owned();
    for record in 0..BATCH {
        let email = format!("person{client}.{batch}.{record}@example.com");
        let comma = if record == 0 { "" } else { "," };
        // Writing to a String does not fail.
        let _ = write!(
            body,
            "{comma}{{\"id\":\"{email}\",\"idProperty\":\"email\",\"objectWriteTraceId\":\"{record}\",\"properties\":{{\"email\":\"{email}\",\
             \"firstname\":\"Person\",\"lastname\":\"Number {record}\",\"phone\":\"+49 30 {batch}{record}\",\"city\":\"Berlin\",\
             \"jobtitle\":\"Engineer\",\"lifecyclestage\":\"lead\"}}}}"
        );
    }
    body.push_str("]}");
    format!(
        "POST /crm/objects/2026-09/contacts/batch/upsert HTTP/1.1\r\nhost: sandbox\r\ncontent-type: application/json\r\n\
         authorization: Bearer pat-na1-00000000-0000-0000-0000-000000000000\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
