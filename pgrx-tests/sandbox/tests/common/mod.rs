//! A bare HTTP client: what it sends and gets is what is on the wire.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use integration_sandbox::{Config, Sandbox};
use serde_json::Value;

pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
    /// Whether the body was as long as announced.
    pub whole: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// `None` if the connection closed without an answer.
pub fn send(
    base: &str,
    authorization: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Option<Answer> {
    let address = base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {authorization}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut bytes = Vec::new();
    // A connection that is cut may end in an error instead of an end.
    let _ = stream.read_to_end(&mut bytes);
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let headers = String::from_utf8_lossy(&bytes[..split]).to_ascii_lowercase();
    let body = bytes[split + 4..].to_vec();
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer {
        status,
        headers,
        body,
        whole: true,
    };
    if let Some(length) = answer.header("content-length") {
        answer.whole = length.parse() == Ok(answer.body.len());
    }
    Some(answer)
}

pub fn hubspot(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> Answer {
    try_hubspot(sandbox, method, path, body).unwrap()
}

pub fn try_hubspot(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> Option<Answer> {
    let token = Config::default().hubspot.token.unwrap();
    send(
        &sandbox.hubspot_url(),
        &format!("Bearer {token}"),
        method,
        path,
        body,
    )
}

pub fn mailchimp(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> Answer {
    let config = Config::default().mailchimp;
    let key = base64::engine::general_purpose::STANDARD.encode(format!("any:{}", config.api_key));
    let path = path.replace("{list}", &config.list_id);
    send(
        &sandbox.mailchimp_url(),
        &format!("Basic {key}"),
        method,
        &format!("/3.0{path}"),
        body,
    )
    .unwrap()
}
