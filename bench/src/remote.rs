//! The sandbox as a process of its own, so that it doesn't share a lock or an allocator with what
//! is measured, and a few words of HTTP to steer it.
//!
//! It is this program once more, told to be the sandbox: one binary to build, and no path to find.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use integration_sandbox::{Config, Sandbox, Subscriptions};
use serde_json::{Value, json};

use crate::error::Result;

/// First argument of the process that is to be the sandbox.
pub const SERVE: &str = "serve-sandbox";

/// How long the sandbox may take to answer a question about itself.
const ANSWER: Duration = Duration::from_secs(30);

/// No limits, no webhooks.
pub fn unlimited() -> Config {
    let mut config = Config::default();
    config.hubspot.rate = None;
    config.hubspot.search_per_second = None;
    config.hubspot.daily_limit = None;
    config.hubspot.subscriptions = Subscriptions::None;
    config.mailchimp.max_connections = None;
    config.mailchimp.webhook = None;
    config
}

/// The sandbox's side: serves until the end of its input, which comes when the other side is gone.
pub fn serve() -> Result<()> {
    let mut config = unlimited();
    config.log_capacity = 0;
    let sandbox = Sandbox::try_start(config)?;
    println!("{}", sandbox.hubspot_url());
    std::io::stdout().flush()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// How an extension reaches a sandbox.
#[derive(Clone)]
pub struct Address {
    pub url: String,
    /// For HubSpot.
    pub token: String,
    /// For Mailchimp.
    pub key: String,
    pub list: String,
}

impl Address {
    pub fn new(url: String) -> Address {
        let config = Config::default();
        Address {
            url,
            token: config.hubspot.token.unwrap_or_default(),
            key: config.mailchimp.api_key,
            list: config.mailchimp.list_id,
        }
    }
}

/// What the sandbox has counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub requests: u64,
    pub records: u64,
    pub failed: u64,
    pub contacts: u64,
    pub members: u64,
}

/// A sandbox in another process; ends with this value.
pub struct Remote {
    process: Child,
    address: Address,
}

impl Remote {
    pub fn start() -> Result<Remote> {
        let mut process = Command::new(env::current_exe()?)
            .arg(SERVE)
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = Address::new(line.trim().to_owned());
        let remote = Remote { process, address };
        if remote.address.url.is_empty() {
            return Err("the sandbox did not start".into());
        }
        Ok(remote)
    }

    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Every answer from now on is sent this much later.
    pub fn delay(&self, delay: Duration) -> Result<()> {
        let milliseconds = u64::try_from(delay.as_millis())?;
        self.call("POST", "config", Some(&json!({"delay_ms": milliseconds})))?;
        Ok(())
    }

    /// Requests of HubSpot's that are allowed in 10 s, and those about associations.
    pub fn limit(&self, general: u32, associations: u32) -> Result<()> {
        let rate = |max: u32| json!({"max": max, "interval_ms": 10_000});
        let limits =
            json!({"hubspot": {"rate": rate(general), "association_rate": rate(associations)}});
        self.call("POST", "config", Some(&limits))?;
        Ok(())
    }

    /// Connections that Mailchimp allows at once.
    pub fn connections(&self, most: u32) -> Result<()> {
        let limit = json!({"mailchimp": {"max_connections": most}});
        self.call("POST", "config", Some(&limit))?;
        Ok(())
    }

    pub fn counted(&self) -> Result<Counted> {
        let stats = self.call("GET", "stats", None)?;
        let number = |name: &str| {
            stats[name]
                .as_u64()
                .ok_or_else(|| format!("the sandbox counts no {name}: {stats}"))
        };
        Ok(Counted {
            requests: number("requests")?,
            records: number("records_written")?,
            failed: number("failed")? + number("throttled")?,
            contacts: number("contacts")?,
            members: number("members")?,
        })
    }

    /// A property of the contact with this e-mail address.
    pub fn property(&self, email: &str, name: &str) -> Result<Option<String>> {
        let path = format!("hubspot/contacts?property=email&value={email}");
        let found = self.call("GET", &path, None)?;
        let record = found.get(0).unwrap_or(&found);
        Ok(record["properties"][name].as_str().map(str::to_owned))
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let authority = self.address.url.trim_start_matches("http://");
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(
            stream,
            "{method} /_sandbox/{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, content) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if !head.starts_with("HTTP/1.1 2") {
            return Err(format!("{method} {path}: {answer}").into());
        }
        serde_json::from_str(content).or_else(|why| match content.trim() {
            "" => Ok(Value::Null),
            _ => Err(format!("{method} {path}: {why}: {content}").into()),
        })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It has ended, or cannot be waited for: neither leaves anything to do.
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_over_http() -> Result<()> {
        // In this process: a test binary cannot be told to be the sandbox.
        let sandbox = Sandbox::try_start(unlimited())?;
        let idler = Command::new("true").spawn()?;
        let remote = Remote {
            process: idler,
            address: Address::new(sandbox.hubspot_url()),
        };
        let properties = [("email", "ada@example.org"), ("phone", "7")];
        sandbox.create_record(integration_sandbox::ObjectType::Contact, &properties)?;
        remote.delay(Duration::from_millis(3))?;
        assert_eq!(remote.counted()?.contacts, 1);
        assert_eq!(
            remote.property("ada@example.org", "phone")?.as_deref(),
            Some("7")
        );
        assert_eq!(remote.property("ada@example.org", "fax")?, None);
        assert!(remote.call("GET", "nothing", None).is_err());
        Ok(())
    }
}
