//! Mailchimp's audiences that records are, or were, written to.

use integration_engine::record::Target;
use pgrx::spi::SpiResult;

use crate::store::{execute, select, state};

/// The kind of alert about audiences that Mailchimp does not have.
pub const MISSING: &str = "audience";

pub fn known() -> SpiResult<Vec<String>> {
    select(
        "SELECT a.list_id FROM integration.audience a WHERE a.missing_since IS NULL",
        &[],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )
}

const MEET: &str = "\
    INSERT INTO integration.audience (list_id) VALUES ($1) \
    ON CONFLICT (list_id) DO UPDATE SET missing_since = NULL";

/// Notes that Mailchimp has this audience.
pub fn meet(list: &str) -> SpiResult<()> {
    execute(MEET, &[list.into()])?;
    let missing = select(
        "SELECT true FROM integration.audience a WHERE a.missing_since IS NOT NULL LIMIT 1",
        &[],
        |_| Ok(()),
    )?;
    match missing.is_empty() {
        true => state::clear_alert(Target::Mailchimp, MISSING, ""),
        false => Ok(()),
    }
}

const MISS: &str = "\
    INSERT INTO integration.audience (list_id, missing_since) VALUES ($1, pg_catalog.clock_timestamp()) \
    ON CONFLICT (list_id) DO UPDATE SET missing_since = coalesce(audience.missing_since, excluded.missing_since)";

/// Notes that Mailchimp does not have this audience.
pub fn miss(list: &str) -> SpiResult<()> {
    execute(MISS, &[list.into()])?;
    let text = "Mailchimp does not know this audience; what was to be written to it is in \
                integration.dlq, the others go on";
    state::remark(
        MISSING,
        Target::Mailchimp,
        &format!("audience {list}"),
        text,
    )
}
