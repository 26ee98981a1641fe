//! Requests and answers as plain data: what crosses the boundary to the HTTP threads.

use std::time::Duration;

use crate::record::Target;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// A request before credentials and base URL are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub target: Target,
    pub method: Method,
    /// Path and query below the base URL, starting with `/`.
    pub path: String,
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// One that only reads.
    pub fn get(target: Target, path: String) -> Request {
        Request {
            target,
            method: Method::Get,
            path,
            body: None,
        }
    }
}

/// An answer. Header names are lower case; only those the engine reads need be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// No answer. Whether the request was carried out is unknown unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("connection refused or host not found: {0}")]
    Connect(String),
    #[error("connection lost: {0}")]
    Lost(String),
    #[error("answer larger than {0} bytes")]
    TooLarge(usize),
}
