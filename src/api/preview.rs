//! Shows what would be sent for a record, and sends nothing.

use integration_engine::delivery::outcome::Verdict;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::error::Error;
use crate::services::Call;
use crate::store::server::secrets;
use crate::worker::lane::preview::{self, Preview, PreviewStep};

/// Returns one row per target: what the next delivery of the record would be.
#[pg_extern]
fn _preview(
    source: pg_sys::Oid,
    key: &str,
) -> Result<TableIterator<'static, (name!(target, &'static str), name!(request, JsonB))>, ErrorReport>
{
    let settings = Settings::read(&secrets::load().map_err(Error::Spi)?);
    let previews = preview::preview(settings, source, key)?;
    let mut rows: Vec<_> = previews
        .into_iter()
        .map(|preview| (preview.target.name(), JsonB(shown(preview))))
        .collect();
    rows.sort_by_key(|(target, _)| *target);
    Ok(TableIterator::new(rows))
}

fn shown(preview: Preview) -> Value {
    let mut shown = match preview.next {
        PreviewStep::Call(call) => sent(call, &preview.unread),
        PreviewStep::Settled(verdict) => nothing(verdict),
        PreviewStep::Unread => json!({ "waits": "the table cannot be read at present" }),
    };
    if let Some(why) = preview.waits {
        shown["waits"] = json!(why);
    }
    if !preview.notes.is_empty() {
        shown["notes"] = json!(preview.notes);
    }
    shown
}

fn sent(call: Call, unread: &[String]) -> Value {
    let request = call.request();
    let body = request.body.as_deref();
    let body = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
    let mut shown = json!({ "method": request.method.name(), "path": request.path, "body": body });
    if !unread.is_empty() {
        shown["with"] = json!(format!(
            "{}, by what the audience has, which the worker alone knows",
            unread.join(", ")
        ));
    }
    shown
}

fn nothing(verdict: Verdict) -> Value {
    match verdict {
        Verdict::NoConsent => json!({ "nothing": "the person has not opted in" }),
        Verdict::Withheld => {
            json!({ "nothing": "it was erased, or deleted there; integration.allow_again() changes that" })
        }
        Verdict::Dead { category, why, .. } => {
            json!({ "dead_letter": category.name(), "why": why })
        }
        Verdict::Retry { why, .. } | Verdict::Again { why, .. } => json!({ "waits": why }),
        Verdict::Removed => json!({ "nothing": "there is no such row, and nothing to remove" }),
        _ => json!({ "nothing": "the service holds this state already" }),
    }
}
