//! What people did with what was sent to them.

use integration_engine::clock::ValueHash;
use integration_engine::mailchimp::mandrill::Activity;
use integration_engine::queue::RecordRef;
use pgrx::JsonB;
use pgrx::spi::SpiResult;

use super::execute;
use super::inbox::Pending;

const PUT: &str = "\
    INSERT INTO integration.activity (source, record_key, origin, kind, occurred_at, url, detail, event_hash) \
    SELECT t.source, $2, $3, $4, pg_catalog.to_timestamp($5 / 1000.0), $6, $7, $8 FROM integration.tracked_table t WHERE t.id = $1 \
    ON CONFLICT ON CONSTRAINT activity_event_once DO NOTHING";

/// Stores what an event says a person did; once, however often it is told.
pub fn put(record: &RecordRef, event: &Pending, activity: Activity) -> SpiResult<()> {
    let hash = ValueHash::of(Some(&format!("{} {}", event.origin, event.event_key)));
    let args = [
        record.source.0.into(),
        record.key.as_str().into(),
        event.origin.as_str().into(),
        activity.kind.into(),
        event.occurred_at.0.into(),
        activity.url.into(),
        JsonB(activity.detail).into(),
        // The same 64 bits, as Postgres' signed type.
        hash.0.cast_signed().into(),
    ];
    execute(PUT, &args).map(|_| ())
}
