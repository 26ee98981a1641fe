//! What distinguishes this database from its copies.

use pgrx::spi::SpiResult;

use crate::store::{execute, scalar, select};

/// The kind of the alert that asks for `integration.environment`.
pub const ENVIRONMENT_ALERT: &str = "environment";

/// Notes in which data directory the database is, for standbys that are promoted.
pub fn note_server() -> SpiResult<()> {
    select("SELECT integration._note_server()", &[], |_| Ok(())).map(|_| ())
}

/// Returns why this database may not send, for people; `None`: it may.
pub fn why_fenced() -> SpiResult<Option<String>> {
    scalar::<String>("SELECT integration._why_fenced()", &[])
}

const ASK: &str = "\
    INSERT INTO integration.alert (kind, target, message) \
    SELECT $1, x.target, $2 FROM (SELECT DISTINCT pg_catalog.unnest(t.targets) AS target FROM integration.tracked_table t) x \
    WHERE NOT EXISTS (SELECT FROM integration.alert a WHERE a.kind = $1 AND a.target = x.target AND a.cleared_at IS NULL)";

const ASK_NO_MORE: &str = "\
    UPDATE integration.alert a SET cleared_at = pg_catalog.clock_timestamp() WHERE a.kind = $1 AND a.cleared_at IS NULL";

const WHY: &str = "integration.environment is not set. A copy of this server's disk that is started under the same path elsewhere \
    would take itself for this one. Set it, best as env:NAME from outside of the data directory, and then SELECT integration.adopt();";

/// Asks for a name of this installation, until there is one.
pub fn ask_for_environment(missing: bool) -> SpiResult<()> {
    match missing {
        true => execute(ASK, &[ENVIRONMENT_ALERT.into(), WHY.into()]),
        false => execute(ASK_NO_MORE, &[ENVIRONMENT_ALERT.into()]),
    }
    .map(|_| ())
}
