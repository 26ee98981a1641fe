//! Mailchimp's webhooks that were created here, and their secrets.

use integration_mailchimp::hooks::WantedWebhook;
use pgrx::spi::SpiResult;

use crate::sealing;
use crate::secret::Secret;
use crate::store::{execute, select};

/// A webhook with its sealed secret.
pub struct StoredWebhook {
    pub list: String,
    pub url: String,
    pub hook: String,
    pub sealed: Option<Vec<u8>>,
}

impl StoredWebhook {
    /// The signing secret.
    pub fn secret(&self) -> Result<Secret, String> {
        let sealed = self.sealed.as_deref().ok_or("it has none")?;
        let context = context(&self.list, &self.url);
        sealing::open(&sealing::keys(), &context, sealed)
    }
}

/// Seals a webhook's signing secret for that webhook: nobody can use it for another.
pub fn seal(list: &str, url: &str, secret: &str) -> Result<Vec<u8>, String> {
    sealing::seal(&context(list, url), secret)
}

fn context(list: &str, url: &str) -> String {
    format!("mailchimp webhook {list} {url}")
}

pub fn all() -> SpiResult<Vec<StoredWebhook>> {
    select(
        "SELECT w.list_id, w.url, w.hook_id, w.sealed FROM integration._webhook w ORDER BY w.list_id, w.url",
        &[],
        |row| {
            let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
            Ok(StoredWebhook {
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

pub fn keep(kept: &StoredWebhook) -> SpiResult<()> {
    let args = [
        kept.list.as_str().into(),
        kept.url.as_str().into(),
        kept.hook.as_str().into(),
        kept.sealed.clone().into(),
    ];
    execute(KEEP, &args).map(|_| ())
}

const WANTED: &str = "\
    SELECT w.url, w.list_id, w.replace FROM integration._webhook_wanted w JOIN integration.job j ON j.id = w.job \
    WHERE w.job = $1 AND j.state IN ('waiting', 'running')";

/// Returns what a job was asked for; `None`: it was cancelled.
pub fn wanted(job: i64) -> SpiResult<Option<WantedWebhook>> {
    let rows = select(WANTED, &[job.into()], |row| {
        Ok(WantedWebhook {
            url: row.get(1)?.unwrap_or_default(),
            list: row.get(2)?.unwrap_or_default(),
            replace: row.get(3)?.unwrap_or_default(),
        })
    })?;
    Ok(rows.into_iter().next())
}

const REPLACE: &str = "UPDATE integration._webhook_wanted w SET replace = true WHERE w.job = $1";

/// Notes that a webhook with the job's URL may be one that the job created.
pub fn may_have_made(job: i64) -> SpiResult<()> {
    execute(REPLACE, &[job.into()]).map(|_| ())
}
