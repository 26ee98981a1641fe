//! What the catalogue says about the tracked tables: the names of their columns, and their faults.

use integration_engine::record::{SourceId, Target};
use pgrx::pg_sys;
use pgrx::spi::SpiResult;

use super::Source;
use crate::store::holds::{Finding, HoldCause};
use crate::store::{execute, scalar, select};

/// Updates the names of mapped columns in our tables; after a restore, their numbers. Writes
/// nothing if they are right.
pub fn follow() -> SpiResult<()> {
    execute("SELECT integration._follow_columns()", &[]).map(|_| ())
}

const FINDINGS: &str = "\
    SELECT f.source, f.target, f.cause, f.subject, f.reason FROM integration._finding f WHERE f.reason IS NOT NULL";

/// Returns the faults of tracked tables that the catalogue shows.
pub fn findings() -> SpiResult<Vec<Finding>> {
    let rows = select(FINDINGS, &[], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let named = Target::from_name(&text(2)?).zip(HoldCause::from_name(&text(3)?));
        let source = SourceId(row.get(1)?.unwrap_or(0));
        let (subject, reason) = (text(4)?, text(5)?);
        Ok(named.map(|(target, cause)| Finding {
            source,
            target,
            cause,
            subject,
            reason,
        }))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Returns the relations of which some sources consist.
pub fn relations<'a>(
    sources: impl Iterator<Item = &'a Source>,
) -> impl Iterator<Item = pg_sys::Oid> {
    sources.flat_map(|source| [Some(source.oid), source.payload].into_iter().flatten())
}

const SHAPE: &str = "\
    SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', t.id, c.oid, n.nspname, c.relname, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity, \
        (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attisdropped, y.typname, y.typnamespace), ',' ORDER BY a.attnum) \
         FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_type y ON y.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0), \
        (SELECT pg_catalog.string_agg(pg_catalog.concat(g.tgname, g.tgenabled), ',' ORDER BY g.tgname) FROM pg_catalog.pg_trigger g \
         WHERE g.tgrelid = c.oid AND g.tgname LIKE 'integration\\_%')), ';' ORDER BY t.id, r.payload)) \
    FROM integration.tracked_table t CROSS JOIN LATERAL (VALUES (t.source::oid, false), (t.payload::oid, true)) AS r(relation, payload) \
    LEFT JOIN pg_catalog.pg_class c ON c.oid = r.relation LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

/// Returns a digest of everything in the catalogue that we rely on.
pub fn shape() -> SpiResult<String> {
    Ok(scalar::<String>(SHAPE, &[])?.unwrap_or_default())
}
