//! Mailchimp's webhooks that were made here, and their secrets.

use pgrx::spi::SpiResult;

use super::{execute, select};

/// A webhook with its sealed secret.
pub struct Kept {
    pub list: String,
    pub url: String,
    pub hook: String,
    pub sealed: Option<Vec<u8>>,
}

pub fn all() -> SpiResult<Vec<Kept>> {
    select(
        "SELECT w.list_id, w.url, w.hook_id, w.sealed FROM integration._webhook w ORDER BY w.list_id, w.url",
        &[],
        |row| {
            let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
            Ok(Kept {
                list: text(1)?,
                url: text(2)?,
                hook: text(3)?,
                sealed: row.get(4)?,
            })
        },
    )
}

const KEEP: &str = "\
    INSERT INTO integration._webhook AS w (list_id, url, hook_id, sealed) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (list_id, url) DO UPDATE SET hook_id = excluded.hook_id, sealed = excluded.sealed, stored_at = now()";

pub fn keep(kept: &Kept) -> SpiResult<()> {
    let args = [
        kept.list.as_str().into(),
        kept.url.as_str().into(),
        kept.hook.as_str().into(),
        kept.sealed.clone().into(),
    ];
    execute(KEEP, &args).map(|_| ())
}

/// What a job was asked for, as JSON.
pub fn asked(job: i64) -> SpiResult<Option<String>> {
    let rows = select(
        "SELECT j.args::text FROM integration.job j WHERE j.id = $1 AND j.kind = 'webhook' AND j.state IN ('waiting', 'running')",
        &[job.into()],
        |row| row.get::<String>(1),
    )?;
    Ok(rows.into_iter().flatten().next())
}

const REPLACE: &str =
    "UPDATE integration.job j SET args = j.args || '{\"replace\": true}' WHERE j.id = $1";

/// From now on a webhook with the job's URL may be one of its own making.
pub fn may_have_made(job: i64) -> SpiResult<()> {
    execute(REPLACE, &[job.into()]).map(|_| ())
}
