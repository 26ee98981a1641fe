//! Whether a request is one that the service documents: its path and method exist, its parameters
//! are known, its body has the fields it must have, none that nobody knows, of the right types, and
//! no more items than one call may hold. For tests.
//!
//! The facts are machine-readable and not part of this repository: they are in the folder that
//! `INTEGRATION_SPECS` names, or in `shared/specs` in a folder above. Without them there is nothing
//! to check by, which is said once.

mod hubspot;
mod mailchimp;
mod operation;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;

pub use hubspot::HubSpot;
pub use mailchimp::Mailchimp;

/// A request as it is on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Below the base URL, with the query.
    pub path: &'a str,
    /// Empty: there is none.
    pub body: &'a [u8],
}

/// `Err` says what is wrong with it.
pub type Verdict = Result<(), String>;

/// What HubSpot documents; `None` where it is not at hand.
pub fn hubspot() -> Option<&'static HubSpot> {
    static LOADED: OnceLock<Option<HubSpot>> = OnceLock::new();
    let load = || {
        let folder = folder("hubspot")?;
        let [endpoints, models] = ["endpoints.json", "models.json"].map(|name| read(&folder, name));
        Some(HubSpot::new(&endpoints, models))
    };
    LOADED.get_or_init(load).as_ref()
}

/// What Mailchimp documents of its Marketing API; `None` where it is not at hand.
pub fn mailchimp() -> Option<&'static Mailchimp> {
    static LOADED: OnceLock<Option<Mailchimp>> = OnceLock::new();
    let load = || {
        let folder = folder("mailchimp")?;
        Some(Mailchimp::new(read(&folder, "marketing-subset.json")))
    };
    LOADED.get_or_init(load).as_ref()
}

fn folder(service: &str) -> Option<PathBuf> {
    let given = std::env::var_os("INTEGRATION_SPECS").map(PathBuf::from);
    let above = || {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        folders
            .map(|folder| folder.join("shared/specs"))
            .find(|folder| folder.is_dir())
    };
    let found = given.or_else(above).map(|folder| folder.join(service));
    let found = found.filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!(
            "skipped: requests are not compared with what {service} documents, for there is no folder shared/specs/{service} above this crate; set INTEGRATION_SPECS to the one that holds it"
        );
    }
    found
}

/// Panics where the facts are there but can't be read: a test should not pass for that.
fn read(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    let read = std::fs::read(&path).map_err(|error| error.to_string());
    let parsed =
        read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// At most so many, in something that is named.
fn at_most(most: usize, found: usize, what: &str) -> Verdict {
    match found > most {
        true => Err(format!("{found} {what}, at most {most} are allowed")),
        false => Ok(()),
    }
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))
}
