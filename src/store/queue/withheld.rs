//! Records that are not sent to a target until somebody allows it again, and the names by which the
//! services may still refer to them.

use std::collections::HashSet;

use integration_engine::record::{RecordKey, RecordRef, SourceId, Target};
use pgrx::spi::SpiResult;

use crate::store::{execute, record, scalar, select};

/// Why a record is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `integration.erase()`.
    Erased,
    /// People deleted it in HubSpot.
    Deleted,
    /// Somebody deleted it in HubSpot for good (GDPR).
    Privacy,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Reason::Erased => "erased",
            Reason::Deleted => "deleted",
            Reason::Privacy => "privacy",
        }
    }

    fn from_name(name: &str) -> Option<Reason> {
        [Reason::Erased, Reason::Deleted, Reason::Privacy]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// Returns whether any record is withheld.
pub fn any() -> SpiResult<bool> {
    Ok(scalar::<bool>("SELECT EXISTS (SELECT FROM integration._withheld)", &[])?.unwrap_or(false))
}

const AMONG: &str = "\
    SELECT w.record_key FROM unnest($3::text[]) AS k(key) CROSS JOIN LATERAL \
    (SELECT x.record_key FROM integration._withheld x WHERE x.source = $1 AND x.target = $2 AND x.record_key = k.key LIMIT 1 OFFSET 0) AS w";

/// Returns those of a source's records that are withheld from a target.
pub fn among(source: SourceId, target: Target, keys: &[&str]) -> SpiResult<HashSet<RecordKey>> {
    let args = [
        source.0.into(),
        target.number().into(),
        keys.to_vec().into(),
    ];
    let keys = select(AMONG, &args, |row| row.get::<String>(1))?;
    Ok(keys.into_iter().flatten().map(RecordKey::from).collect())
}

const NAMED: &str = "\
    SELECT w.source, w.record_key, w.reason, w.name FROM unnest($2::text[]) AS n(name) CROSS JOIN LATERAL \
    (SELECT x.source, x.record_key, x.reason, x.name FROM integration._withheld x \
     WHERE x.target = $1 AND x.name = n.name AND x.name <> '' OFFSET 0) AS w";

/// A withheld record, and a name that the service has for it.
pub struct WithheldName {
    pub record: RecordRef,
    pub reason: Reason,
    pub name: String,
}

/// Returns the withheld records that a service knows by these names.
pub fn named(target: Target, names: &[&str]) -> SpiResult<Vec<WithheldName>> {
    let rows = select(
        NAMED,
        &[target.number().into(), names.to_vec().into()],
        |row| {
            let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
            let record = record(row, 1)?;
            let name = text(4)?;
            let reason = Reason::from_name(&text(3)?);
            Ok(reason.map(|reason| WithheldName {
                record,
                reason,
                name,
            }))
        },
    )?;
    Ok(rows.into_iter().flatten().collect())
}

const PUT: &str = "\
    INSERT INTO integration._withheld AS w (source, target, record_key, name, reason) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT ON CONSTRAINT _withheld_pkey DO UPDATE SET reason = excluded.reason WHERE w.reason = 'deleted'";

/// Withholds a record from now on. One that is withheld for a stronger reason keeps that reason.
pub fn put(record: &RecordRef, target: Target, name: &str, reason: Reason) -> SpiResult<()> {
    let args = [
        record.source.0.into(),
        target.number().into(),
        record.key.as_str().into(),
        name.into(),
        reason.name().into(),
    ];
    execute(PUT, &args).map(|_| ())
}

const LIFT: &str = "\
    DELETE FROM integration._withheld w WHERE w.source = $1 AND w.target = $2 AND w.record_key = $3";

/// Allows a record to be sent there again.
pub fn lift(record: &RecordRef, target: Target) -> SpiResult<()> {
    let args = [
        record.source.0.into(),
        target.number().into(),
        record.key.as_str().into(),
    ];
    execute(LIFT, &args).map(|_| ())
}
