//! Rows that are opted out and are not the ones that Mailchimp's member of their address is linked
//! to.

use std::collections::BTreeSet;

use integration_engine::record::RecordRef;
use pgrx::spi::SpiResult;

use super::{column, execute, record, select};

/// A row that is, or was, opted out, and the MD5 of the address it had then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objection {
    pub hash: String,
    pub record: RecordRef,
}

/// Whether there are any.
pub fn any() -> SpiResult<bool> {
    let found = select(
        "SELECT EXISTS (SELECT FROM integration._objection)",
        &[],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.into_iter().flatten().any(|any| any))
}

const OF: &str = "\
    SELECT o.* FROM unnest($1::text[]) AS k(hash) CROSS JOIN LATERAL \
    (SELECT x.subscriber_hash, x.source, x.record_key FROM integration._objection x WHERE x.subscriber_hash = k.hash OFFSET 0) AS o";

/// Those about some addresses: one look-up for all.
pub fn of(hashes: &BTreeSet<String>) -> SpiResult<Vec<Objection>> {
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    select(OF, &[column(hashes, String::as_str)], |row| {
        Ok(Objection {
            hash: row.get::<String>(1)?.unwrap_or_default(),
            record: record(row, 2)?,
        })
    })
}

const NOTE: &str = "\
    INSERT INTO integration._objection (subscriber_hash, source, record_key) SELECT $1, $2, $3 ON CONFLICT DO NOTHING";
const DROP: &str = "\
    DELETE FROM integration._objection o WHERE o.subscriber_hash = $1 AND o.source = $2 AND o.record_key = $3";

/// Takes note of one.
pub fn note(objection: &Objection) -> SpiResult<()> {
    with(NOTE, objection)
}

/// It counts no longer.
pub fn drop(objection: &Objection) -> SpiResult<()> {
    with(DROP, objection)
}

fn with(sql: &str, objection: &Objection) -> SpiResult<()> {
    let args = [
        objection.hash.as_str().into(),
        objection.record.source.0.into(),
        objection.record.key.as_str().into(),
    ];
    execute(sql, &args).map(|_| ())
}
