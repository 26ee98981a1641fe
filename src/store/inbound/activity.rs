//! What people did with the mail that was sent to them.

use std::collections::HashSet;

use integration_engine::record::{RecordRef, Timestamp};
use integration_engine::sync::clock::ValueHash;
use integration_mailchimp::engagement::{Engagement, Human, RecipientOpens};
use integration_mailchimp::mandrill::Activity;
use pgrx::JsonB;
use pgrx::spi::SpiResult;

use crate::store::inbound::inbox::PendingEvent;
use crate::store::{column, execute, returned, select};

const PUT: &str = "\
    INSERT INTO integration.activity (source, record_key, origin, kind, occurred_at, url, detail, event_hash) \
    SELECT t.source, $2, $3, $4, pg_catalog.to_timestamp($5 / 1000.0), $6, $7, $8 FROM integration.tracked_table t WHERE t.id = $1 \
    ON CONFLICT ON CONSTRAINT activity_event_once DO NOTHING";

/// Stores what an event says a person did, once, however often it is reported.
pub fn put(record: &RecordRef, event: &PendingEvent, activity: Activity) -> SpiResult<()> {
    let hash = ValueHash::of(Some(&format!("{} {}", event.origin, event.event_key)));
    let args = [
        record.source.0.into(),
        record.key.as_str().into(),
        event.origin.as_str().into(),
        activity.kind.into(),
        event.occurred_at.0.into(),
        activity.url.into(),
        JsonB(activity.detail).into(),
        // The same 64 bits, as PostgreSQL's signed type.
        hash.0.cast_signed().into(),
    ];
    execute(PUT, &args).map(|_| ())
}

/// Something a person did with a campaign, and the person's row, if it is known.
pub struct NewActivity<'e> {
    pub event: &'e Engagement,
    pub record: Option<&'e RecordRef>,
}

// An event may be known in two ways: by the person's row, which may have had another address then,
// or by the address, which may have belonged to another row or to none.
const PUT_DONE: &str = "\
    INSERT INTO integration.activity (source, record_key, origin, kind, occurred_at, campaign_id, url, detail, subscriber_hash, event_hash) \
    SELECT t.source, CASE WHEN t.id IS NOT NULL THEN n.key END, 'mailchimp', n.kind, pg_catalog.to_timestamp(n.at / 1000.0), $1, n.url, n.detail::jsonb, n.member, n.hash \
    FROM unnest($2::int4[], $3::text[], $4::text[], $5::int8[], $6::text[], $7::text[], $8::text[], $9::int8[]) \
         AS n(source, key, kind, at, url, detail, member, hash) \
    LEFT JOIN integration.tracked_table t ON t.id = n.source \
    ON CONFLICT DO NOTHING RETURNING subscriber_hash, event_hash";

/// Stores what people did with a campaign, each event once. Returns the new ones, by member and
/// key.
pub fn put_done(campaign: &str, done: &[NewActivity]) -> SpiResult<HashSet<(String, ValueHash)>> {
    if done.is_empty() {
        return Ok(HashSet::new());
    }
    let args = [
        campaign.into(),
        column(done, |done| done.record.map(|record| record.source.0)),
        column(done, |done| done.record.map(|record| record.key.as_str())),
        column(done, |done| done.event.kind.as_str()),
        column(done, |done| done.event.at.0),
        column(done, |done| done.event.url.as_deref()),
        column(done, |done| done.event.detail.to_string()),
        column(done, |done| done.event.member.as_str()),
        column(done, |done| done.event.key.0.cast_signed()),
    ];
    let rows = returned(PUT_DONE, &args, |row| {
        let hash = row.get::<i64>(2)?.unwrap_or(0).cast_unsigned();
        Ok((row.get::<String>(1)?.unwrap_or_default(), ValueHash(hash)))
    })?;
    Ok(rows.into_iter().collect())
}

// Waits for nobody: a row that somebody is changing is linked the next time. Where the row has the
// same event under another address, or is about to have it, this one stays as it is.
const LINK: &str = "\
    UPDATE integration.activity a SET source = u.source, record_key = u.key FROM (\
    SELECT DISTINCT ON (t.source, n.key, k.occurred_at, k.event_hash) k.id, t.source, n.key \
    FROM unnest($1::text[], $2::int4[], $3::text[]) AS n(member, source, key) JOIN integration.tracked_table t ON t.id = n.source \
    CROSS JOIN LATERAL (SELECT x.id, x.occurred_at, x.event_hash FROM integration.activity x WHERE x.subscriber_hash = n.member AND x.source IS NULL \
                        AND NOT EXISTS (SELECT FROM integration.activity y WHERE y.source = t.source AND y.record_key = n.key \
                                        AND y.occurred_at = x.occurred_at AND y.event_hash = x.event_hash) FOR UPDATE SKIP LOCKED) AS k \
    ORDER BY t.source, n.key, k.occurred_at, k.event_hash, k.id) AS u WHERE a.id = u.id";

/// Assigns to these rows what was stored about members before their rows were known.
pub fn link(members: &[(&str, &RecordRef)]) -> SpiResult<()> {
    if members.is_empty() {
        return Ok(());
    }
    let args = [
        column(members, |(hash, _)| *hash),
        column(members, |(_, record)| record.source.0),
        column(members, |(_, record)| record.key.as_str()),
    ];
    execute(LINK, &args).map(|_| ())
}

const JUDGED: &str = "\
    SELECT k.id, n.member, k.event_hash, k.automated FROM unnest($2::text[]) AS n(member) CROSS JOIN LATERAL \
    (SELECT x.id, x.event_hash, (x.detail->>'automated')::boolean AS automated FROM integration.activity x \
     WHERE x.subscriber_hash = n.member AND x.occurred_at >= pg_catalog.to_timestamp($3 / 1000.0) AND x.campaign_id = $1 \
     AND x.kind IN ('open', 'click') OFFSET 0) AS k";
const MARK: &str = "\
    UPDATE integration.activity a SET detail = pg_catalog.jsonb_set(a.detail, '{automated}', to_jsonb(n.automated)) \
    FROM unnest($1::int8[], $2::boolean[]) AS n(id, automated) CROSS JOIN LATERAL \
    (SELECT x.id FROM integration.activity x WHERE x.id = n.id FOR UPDATE SKIP LOCKED) AS k WHERE a.id = k.id";

/// Notes for opens and clicks, from a moment on, whether a machine made them.
pub fn judge(campaign: &str, from: Timestamp, humans: &[Human]) -> SpiResult<()> {
    let done: HashSet<(&str, ValueHash)> = humans
        .iter()
        .flat_map(|human| human.keys.iter().map(|key| (human.member.as_str(), *key)))
        .collect();
    let args = [
        campaign.into(),
        column(humans, |human| human.member.as_str()),
        from.0.into(),
    ];
    let rows = select(JUDGED, &args, |row| {
        let member: String = row.get(2)?.unwrap_or_default();
        let key = ValueHash(row.get::<i64>(3)?.unwrap_or(0).cast_unsigned());
        let automated = !done.contains(&(member.as_str(), key));
        let news = row.get::<bool>(4)? != Some(automated);
        Ok(news.then_some((row.get::<i64>(1)?.unwrap_or(0), automated)))
    })?;
    let (ids, automated): (Vec<i64>, Vec<bool>) = rows.into_iter().flatten().unzip();
    if ids.is_empty() {
        return Ok(());
    }
    execute(MARK, &[ids.into(), automated.into()]).map(|_| ())
}

// Mailchimp reports how many opens in a second a proxy made, not which.
const FLAG: &str = "\
    UPDATE integration.activity a SET detail = pg_catalog.jsonb_set(a.detail, '{proxy}', to_jsonb(k.place <= k.proxies)) \
    FROM unnest($2::text[], $3::int8[], $4::int8[]) AS n(member, at, proxies) CROSS JOIN LATERAL \
    (SELECT y.id, y.flag, row_number() OVER (ORDER BY y.id) AS place, n.proxies FROM \
        (SELECT x.id, x.detail->'proxy' AS flag FROM integration.activity x WHERE x.subscriber_hash = n.member \
         AND x.occurred_at = pg_catalog.to_timestamp(n.at / 1000.0) AND x.campaign_id = $1 AND x.kind = 'open' FOR UPDATE SKIP LOCKED) AS y) AS k \
    WHERE a.id = k.id AND k.flag IS DISTINCT FROM to_jsonb(k.place <= k.proxies)";

/// Notes for opens whether a proxy made them.
pub fn flag(campaign: &str, opened: &[RecipientOpens]) -> SpiResult<()> {
    if opened.is_empty() {
        return Ok(());
    }
    let args = [
        campaign.into(),
        column(opened, |open| open.member.as_str()),
        column(opened, |open| open.at.0),
        column(opened, |open| open.by_proxy),
    ];
    execute(FLAG, &args).map(|_| ())
}
