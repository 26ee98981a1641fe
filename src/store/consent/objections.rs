//! Rows that were found to share an address with another row, and which of them are opted out.

use std::collections::{BTreeMap, BTreeSet};

use integration_engine::record::{RecordKey, RecordRef, SourceId};
use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiResult;

use crate::store::{column, execute, record, scalar, select};

/// A row that shares an address with another one, and the MD5 of the address it had then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objection {
    pub hash: String,
    pub record: RecordRef,
    /// Whether it is, or was, opted out under this address.
    pub opted_out: bool,
}

/// Returns whether there are any.
pub fn any() -> SpiResult<bool> {
    Ok(scalar::<bool>("SELECT EXISTS (SELECT FROM integration._objection)", &[])?.unwrap_or(false))
}

const OF: &str = "\
    SELECT o.* FROM unnest($1::text[]) AS k(hash) CROSS JOIN LATERAL \
    (SELECT x.subscriber_hash, x.source, x.record_key, x.opted_out FROM integration._objection x WHERE x.subscriber_hash = k.hash OFFSET 0) AS o";

/// Returns those about some addresses, with one look-up for all.
pub fn of(hashes: &BTreeSet<String>) -> SpiResult<Vec<Objection>> {
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    select(OF, &[column(hashes, String::as_str)], |row| {
        Ok(Objection {
            hash: row.get::<String>(1)?.unwrap_or_default(),
            record: record(row, 2)?,
            opted_out: row.get(4)?.unwrap_or(true),
        })
    })
}

const ABOUT: &str = "\
    SELECT o.* FROM unnest($2::text[]) AS k(key) CROSS JOIN LATERAL \
    (SELECT x.record_key, x.subscriber_hash FROM integration._objection x WHERE x.source = $1 AND x.record_key = k.key OFFSET 0) AS o";

/// Returns the addresses (hashed) under which some rows of a table are noted.
pub fn about(source: SourceId, keys: &[&str]) -> SpiResult<BTreeMap<RecordKey, BTreeSet<String>>> {
    let mut about: BTreeMap<RecordKey, BTreeSet<String>> = BTreeMap::new();
    let found = select(ABOUT, &[source.0.into(), keys.to_vec().into()], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        Ok((RecordKey::from(text(1)?), text(2)?))
    })?;
    for (key, hash) in found {
        about.entry(key).or_default().insert(hash);
    }
    Ok(about)
}

// An opt-out of the row is not forgotten when it is noted again.
const NOTE: &str = "\
    INSERT INTO integration._objection AS o (subscriber_hash, source, record_key, opted_out) SELECT $1, $2, $3, $4 \
    ON CONFLICT (subscriber_hash, source, record_key) DO UPDATE SET opted_out = true WHERE excluded.opted_out AND NOT o.opted_out";
const DROP: &str = "\
    DELETE FROM integration._objection o WHERE o.subscriber_hash = $1 AND o.source = $2 AND o.record_key = $3";

/// Notes one.
pub fn note(objection: &Objection) -> SpiResult<()> {
    let [hash, source, key] = args(objection);
    execute(NOTE, &[hash, source, key, objection.opted_out.into()]).map(|_| ())
}

/// Removes one.
pub fn drop(objection: &Objection) -> SpiResult<()> {
    execute(DROP, &args(objection)).map(|_| ())
}

fn args(objection: &Objection) -> [DatumWithOid<'_>; 3] {
    [
        objection.hash.as_str().into(),
        objection.record.source.0.into(),
        objection.record.key.as_str().into(),
    ]
}
