//! Suppressions: what is remembered of addresses at Mailchimp beyond the life of rows and links.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use integration_engine::consent::Party;
use integration_engine::consent::standing::{News, Remembered, Standing};
use integration_engine::crypto::subscriber_hash;
use integration_engine::record::Timestamp;
use integration_engine::record::consent::MemberStatus;
use pgrx::spi::SpiResult;

use crate::store::links::{status_from, status_name};
use crate::store::{column, execute, select};

/// Everything that is remembered of some addresses: by hash, with the audience.
#[derive(Default)]
pub struct Suppressions(HashMap<String, Vec<(String, Standing)>>);

impl Suppressions {
    pub fn of(&self, hash: &str) -> impl Iterator<Item = (&str, Standing)> {
        let all = self.0.get(hash).into_iter().flatten();
        all.map(|(list, suppression)| (list.as_str(), *suppression))
    }

    fn get(&self, hash: &str, list: &str) -> Option<Standing> {
        let mut all = self.of(hash);
        all.find(|(known, _)| *known == list)
            .map(|(_, suppression)| suppression)
    }
}

const READ: &str = "\
    SELECT s.* FROM unnest($1::text[]) AS k(hash) CROSS JOIN LATERAL \
    (SELECT x.subscriber_hash, x.list_id, x.status, x.decided_by, (1000 * extract(epoch FROM x.occurred_at))::int8, \
     x.asked_at IS NOT NULL, x.archived_at IS NOT NULL FROM integration.suppression x WHERE x.subscriber_hash = k.hash OFFSET 0) AS s";

/// Returns what is remembered, with one look-up for all.
pub fn read(hashes: &BTreeSet<String>) -> SpiResult<Suppressions> {
    if hashes.is_empty() {
        return Ok(Suppressions::default());
    }
    let rows = select(READ, &[column(hashes, String::as_str)], |row| {
        let text = |column: usize| row.get::<String>(column).map(Option::unwrap_or_default);
        let suppression = Standing {
            // A status that cannot be read counts as the worst one.
            status: status_from(&text(3)?).unwrap_or(MemberStatus::Forgotten),
            by: Party::from_name(&text(4)?).unwrap_or(Party::Mailchimp),
            at: row.get::<i64>(5)?.map(Timestamp),
            asked: row.get(6)?.unwrap_or(false),
            archived: row.get(7)?.unwrap_or(false),
        };
        Ok((text(1)?, (text(2)?, suppression)))
    })?;
    let mut found = Suppressions::default();
    for (hash, row) in rows {
        found.0.entry(hash).or_default().push(row);
    }
    Ok(found)
}

/// Returns what is remembered of one address.
pub fn of_address(address: &str) -> SpiResult<Suppressions> {
    read(&BTreeSet::from([subscriber_hash(address)]))
}

/// Whose sign-ups are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignUps {
    /// Everybody's, where no link records them.
    All,
    /// Only those of people who had left before.
    OfLeavers,
}

/// Stores news, in the transaction that stores where they come from.
pub fn remember(news: &[Remembered], sign_ups: SignUps, origin: &str) -> SpiResult<()> {
    if news.is_empty() {
        return Ok(());
    }
    let hashes: Vec<String> = news
        .iter()
        .map(|news| subscriber_hash(&news.address))
        .collect();
    let known = read(&hashes.iter().cloned().collect())?;
    let mut changed: BTreeMap<(&str, &str), Option<Standing>> = BTreeMap::new();
    for (hash, Remembered { list, news, .. }) in hashes.iter().zip(news) {
        let leaver = known.0.contains_key(hash);
        if matches!(news, News::SignedUp { .. }) && !leaver && sign_ups == SignUps::OfLeavers {
            continue;
        }
        let at = (hash.as_str(), list.as_str());
        let before = changed.get(&at).copied();
        let before = before.unwrap_or_else(|| known.get(hash, list));
        changed.insert(at, Standing::after(before, *news));
    }
    changed.retain(|(hash, list), after| *after != known.get(hash, list));
    write(&changed, origin)
}

const WRITE: &str = "\
    INSERT INTO integration.suppression AS s (subscriber_hash, list_id, status, decided_by, occurred_at, origin, asked_at, archived_at) \
    SELECT n.hash, n.list, n.status, n.party, pg_catalog.to_timestamp(n.at / 1000.0), $8, \
           CASE WHEN n.asked THEN pg_catalog.clock_timestamp() END, CASE WHEN n.archived THEN pg_catalog.clock_timestamp() END \
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::bool[], $7::bool[]) \
         AS n(hash, list, status, party, at, asked, archived) \
    ON CONFLICT (subscriber_hash, list_id) DO UPDATE \
    SET status = excluded.status, decided_by = excluded.decided_by, occurred_at = excluded.occurred_at, origin = excluded.origin, \
        recorded_at = pg_catalog.clock_timestamp(), \
        asked_at = CASE WHEN excluded.asked_at IS NOT NULL THEN coalesce(s.asked_at, excluded.asked_at) END, \
        archived_at = CASE WHEN excluded.archived_at IS NOT NULL THEN coalesce(s.archived_at, excluded.archived_at) END";

const FORGET: &str = "\
    DELETE FROM integration.suppression s USING unnest($1::text[], $2::text[]) AS d(hash, list) \
    WHERE s.subscriber_hash = d.hash AND s.list_id = d.list";

fn write(changed: &BTreeMap<(&str, &str), Option<Standing>>, origin: &str) -> SpiResult<()> {
    let kept: Vec<(&str, &str, &Standing)> = changed
        .iter()
        .filter_map(|((hash, list), suppression)| Some((*hash, *list, suppression.as_ref()?)))
        .collect();
    let gone: Vec<(&str, &str)> = changed
        .iter()
        .filter(|(_, suppression)| suppression.is_none())
        .map(|(at, _)| *at)
        .collect();
    if !gone.is_empty() {
        let args = [
            column(&gone, |(hash, _)| *hash),
            column(&gone, |(_, list)| *list),
        ];
        execute(FORGET, &args)?;
    }
    if kept.is_empty() {
        return Ok(());
    }
    let args = [
        column(&kept, |(hash, ..)| *hash),
        column(&kept, |(_, list, _)| *list),
        column(&kept, |(.., suppression)| status_name(suppression.status)),
        column(&kept, |(.., suppression)| suppression.by.name()),
        column(&kept, |(.., suppression)| suppression.at.map(|at| at.0)),
        column(&kept, |(.., suppression)| suppression.asked),
        column(&kept, |(.., suppression)| suppression.archived),
        origin.into(),
    ];
    execute(WRITE, &args).map(|_| ())
}
