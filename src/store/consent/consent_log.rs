//! How people's consent changed, and who decided.

use integration_engine::crypto::subscriber_hash;
use integration_engine::delivery::settlement::ConsentChange;
use integration_engine::record::consent::MemberStatus;
use integration_engine::record::{RecordRef, Timestamp};
use pgrx::spi::SpiResult;

use crate::store::links::status_name;
use crate::store::{column, execute, select};

// Where the status before is unknown (an answer was lost, the link is new), the log has it.
const PUT: &str = "\
    INSERT INTO integration.consent_log (source, record_key, subscriber_hash, changed_by, from_status, to_status, occurred_at, origin, reason) \
    SELECT t.source, n.key, n.hash, n.party, coalesce(n.before, l.to_status), n.after, pg_catalog.to_timestamp(n.at / 1000.0), n.origin, n.reason \
    FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int8[], $8::text[], $9::text[]) \
         AS n(source, key, hash, party, before, after, at, origin, reason) \
    JOIN integration.tracked_table t ON t.id = n.source \
    LEFT JOIN LATERAL (SELECT c.to_status FROM integration.consent_log c \
                       WHERE n.before IS NULL AND c.source = t.source AND c.record_key = n.key ORDER BY c.id DESC LIMIT 1) l ON true \
    WHERE n.after IS DISTINCT FROM coalesce(n.before, l.to_status)";

/// Notes changes, and skips those that change nothing.
pub fn write(changes: &[ConsentChange]) -> SpiResult<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let args = [
        column(changes, |change| change.record.source.0),
        column(changes, |change| change.record.key.as_str()),
        column(changes, |change| {
            change.address.as_deref().map(subscriber_hash)
        }),
        column(changes, |change| change.by.name()),
        column(changes, |change| change.before.map(status_name)),
        column(changes, |change| status_name(change.after)),
        column(changes, |change| change.at.0),
        column(changes, |change| match change.event {
            Some(id) => format!("inbox {id}"),
            None => "outbox".to_owned(),
        }),
        column(changes, |change| change.reason.as_deref()),
    ];
    execute(PUT, &args).map(|_| ())
}

/// How far apart clocks may be.
const SKEW_MS: i64 = 5 * 60_000;

const LAST: &str = "\
    SELECT c.to_status, (1000 * extract(epoch FROM c.occurred_at))::int8 FROM integration.consent_log c \
    JOIN integration.tracked_table t ON t.source = c.source WHERE t.id = $1 AND c.record_key = $2 ORDER BY c.id DESC LIMIT 1";

/// Returns whether the person is known to have opted in after this moment, with Mailchimp's
/// agreement.
pub fn opted_in_since(record: &RecordRef, at: Timestamp) -> SpiResult<bool> {
    let args = [record.source.0.into(), record.key.as_str().into()];
    let last = select(LAST, &args, |row| {
        Ok(row.get::<String>(1)?.zip(row.get::<i64>(2)?))
    })?;
    let opted_in = |(status, changed): (String, i64)| {
        status == status_name(MemberStatus::Subscribed) && changed > at.0 + SKEW_MS
    };
    Ok(last.into_iter().flatten().next().is_some_and(opted_in))
}
