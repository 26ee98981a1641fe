//! The data directory's mark, which distinguishes a physical copy from its original; see
//! [`integration_engine::server::incarnation`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::OnceLock;

use integration_engine::server::incarnation::{self, Mark, MarkCause, MarkPlace, Start};
use pgrx::prelude::*;

use crate::config;
use crate::pg::random_id;

/// Base backups omit files whose names begin like this, and the server ignores them.
const FILE: &str = "pgsql_tmp_integration";
const DRAFT: &str = "pgsql_tmp_integration.new";

/// This server's mark; processes inherit it from the postmaster.
static MARK: OnceLock<Mark> = OnceLock::new();

/// Reads the mark, and creates one where there is no valid one. Runs in the postmaster, whose
/// present directory is the data directory.
pub fn begin() {
    match read_or_make() {
        Ok(mark) => {
            // Set once: the library is preloaded once.
            let _ = MARK.set(mark);
        }
        Err(why) => pgrx::warning!(
            "integration cannot tell whether this data directory is a copy, and sends nothing: {FILE}: {why}"
        ),
    }
}

fn read_or_make() -> io::Result<Mark> {
    let path = fs::canonicalize(".")?.to_string_lossy().into_owned();
    let (found, inode) = match fs::read_to_string(FILE) {
        Ok(text) => (Mark::parse(&text), fs::metadata(FILE)?.ino()),
        Err(why) if why.kind() == io::ErrorKind::NotFound => (None, 0),
        Err(why) => return Err(why),
    };
    let start = if Path::new("standby.signal").exists() {
        Start::Standby
    } else if Path::new("recovery.signal").exists() {
        Start::Recovery
    } else {
        Start::Plain
    };
    match (
        incarnation::holds(found.as_ref(), start, inode, &path),
        found,
    ) {
        (Ok(()), Some(mark)) => Ok(mark),
        (Ok(()), None) => make(MarkCause::New, path),
        (Err(cause), _) => make(cause, path),
    }
}

/// Writes a mark; its file keeps its number when it gets its name.
fn make(cause: MarkCause, path: String) -> io::Result<Mark> {
    match fs::remove_file(DRAFT) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(DRAFT)?;
    let place = MarkPlace {
        inode: file.metadata()?.ino(),
        path,
    };
    let mark = incarnation::renewed(cause, random_id(), place);
    file.write_all(mark.text().as_bytes())?;
    file.sync_all()?;
    fs::rename(DRAFT, FILE)?;
    File::open(".")?.sync_all()?;
    Ok(mark)
}

/// Returns the name of this data directory, whether the server continues what the database says it
/// was, and why the name was given.
#[pg_extern(stable)]
fn _incarnation() -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(heir, bool),
        name!(cause, &'static str),
    ),
> {
    let row = MARK.get().map(|mark| {
        let heir = incarnation::inherits(mark, config::environment_is_external());
        (mark.id.clone(), heir, mark.cause.name())
    });
    TableIterator::new(row)
}
