//! The identity map.
//!
//! Look-ups of many keys are fenced (OFFSET 0), so that each is one index look-up whatever the
//! planner believes about the table: plans are kept while it grows.

pub mod intents;

use std::collections::HashMap;

use integration_engine::consent::membership::Membership;
use integration_engine::delivery::call::Link;
use integration_engine::delivery::given::Given;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::consent::MemberStatus;
use integration_engine::record::once::Once;
use integration_engine::record::{KeyMap, RecordKey, RecordRef, RemoteId, SourceId, Target};
use integration_engine::sync::clock::FieldClock;
use pgrx::itemptr::{item_pointer_to_u64, u64_to_item_pointer};
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

use super::{column, execute, record, select};

/// Returns the stored name of a member's status.
pub const fn status_name(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Subscribed => "subscribed",
        MemberStatus::Pending => "pending",
        MemberStatus::UnsubscribedByCrm => "unsubscribed_by_crm",
        MemberStatus::UnsubscribedByMember => "unsubscribed_by_member",
        MemberStatus::Cleaned => "cleaned",
        MemberStatus::Forgotten => "forgotten",
        MemberStatus::Archived => "archived",
    }
}

/// Returns the status with a stored name.
pub fn status_from(name: &str) -> Option<MemberStatus> {
    [
        MemberStatus::Subscribed,
        MemberStatus::Pending,
        MemberStatus::UnsubscribedByCrm,
        MemberStatus::UnsubscribedByMember,
        MemberStatus::Cleaned,
        MemberStatus::Forgotten,
        MemberStatus::Archived,
    ]
    .into_iter()
    .find(|status| status_name(*status) == name)
}

fn link(row: &SpiHeapTupleData, first: usize) -> SpiResult<Link> {
    let text = |column: usize| row.get::<String>(column);
    Ok(Link {
        remote_id: text(first)?.map(|id| RemoteId(id.into_boxed_str())),
        remote_key: text(first + 1)?,
        member_status: text(first + 2)?.and_then(|name| status_from(&name)),
        clock: FieldClock::unpack(row.get::<&[u8]>(first + 3)?.unwrap_or_default()),
        membership: Membership {
            list: text(first + 4)?,
            leaving: row.get(first + 5)?.unwrap_or(false),
            former: row.get(first + 6)?.unwrap_or_default(),
            ask: row.get(first + 7)?.unwrap_or(false),
            given: Given::unpack(text(first + 8)?.as_deref()),
            stray: text(first + 9)?,
        },
        version: row
            .get::<pg_sys::ItemPointerData>(first + 10)?
            .map(item_pointer_to_u64),
    })
}

/// What [`link`] reads, of `_link x`. Taking an array apart is left out where there is nothing in it.
macro_rules! columns {
    () => {
        "x.remote_id, x.remote_key, x.member_status, x.clock, x.list_id, x.leaving, \
         CASE WHEN pg_catalog.cardinality(x.former_lists) > 0 THEN x.former_lists END, x.ask, x.given::text, x.stray, x.ctid"
    };
}

const READ: &str = concat!(
    "SELECT l.* FROM unnest($3::text[]) AS k(key) CROSS JOIN LATERAL (SELECT x.record_key, ",
    columns!(),
    " FROM integration._link x WHERE x.source = $1 AND x.target = $2 AND x.record_key = k.key OFFSET 0) AS l"
);

/// Returns the links of some records of a source.
pub fn read(source: SourceId, target: Target, keys: &[&str]) -> SpiResult<KeyMap<Link>> {
    let rows = select(
        READ,
        &[
            source.0.into(),
            target.number().into(),
            keys.to_vec().into(),
        ],
        |row| {
            Ok((
                RecordKey::from(row.get::<&str>(1)?.unwrap_or_default()),
                link(row, 2)?,
            ))
        },
    )?;
    let noted = intents::read(source, target, keys);
    Ok(rows.into_iter().chain(noted).collect())
}

const BY_REMOTE_ID: &str = concat!(
    "SELECT x.source, x.record_key, ",
    columns!(),
    " FROM integration._link x WHERE x.target = $1 AND x.remote_id = $2"
);
const BY_REMOTE_KEY: &str = concat!(
    "SELECT x.source, x.record_key, ",
    columns!(),
    " FROM integration._link x WHERE x.target = $1 AND x.remote_key = $2"
);

fn found(row: &SpiHeapTupleData) -> SpiResult<(RecordRef, Link)> {
    let record = record(row, 1)?;
    Ok((record, link(row, 3)?))
}

/// Returns the records linked to this remote one. Ids are unique within an object type only.
pub fn by_remote_id(target: Target, id: &str) -> SpiResult<Vec<(RecordRef, Link)>> {
    select(BY_REMOTE_ID, &[target.number().into(), id.into()], found)
}

/// Returns the records written under this e-mail address.
pub fn by_remote_key(target: Target, key: &str) -> SpiResult<Vec<(RecordRef, Link)>> {
    let mut records = select(BY_REMOTE_KEY, &[target.number().into(), key.into()], found)?;
    records.extend(intents::by_remote_key(target, key));
    Ok(records)
}

const RIVALS: &str = "\
    SELECT l.* FROM unnest($2::text[]) AS k(key) CROSS JOIN LATERAL \
    (SELECT x.remote_key, x.source, x.record_key, x.list_id FROM integration._link x \
     WHERE x.target = $1 AND x.remote_key = k.key AND (x.list_id IS NOT NULL OR x.former_lists = '{}') OFFSET 0) AS l";

/// A record that the target knows under an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub record: RecordRef,
    /// Mailchimp: the member's audience.
    pub list: Option<String>,
}

/// Returns the records that the target knows under these e-mail addresses.
pub fn holders(target: Target, keys: &[String]) -> SpiResult<HashMap<String, Vec<Holder>>> {
    let mut holders: HashMap<String, Vec<Holder>> = HashMap::new();
    if keys.is_empty() {
        return Ok(holders);
    }
    let rows = select(
        RIVALS,
        &[target.number().into(), keys.to_vec().into()],
        |row| {
            let record = record(row, 2)?;
            let list = row.get(4)?;
            let holder = Holder { record, list };
            Ok((row.get::<String>(1)?.unwrap_or_default(), holder))
        },
    )?;
    for (key, holder) in rows.into_iter().chain(intents::holders(target, keys)) {
        holders.entry(key).or_default().push(holder);
    }
    Ok(holders)
}

const WRITTEN_UNDER: &str = "\
    SELECT l.* FROM unnest($2::text[]) AS k(key) CROSS JOIN LATERAL \
    (SELECT x.remote_key, x.source, x.record_key FROM integration._link x \
     WHERE x.target = $1 AND x.remote_key = k.key OFFSET 0) AS l";

/// Returns the records last written under these e-mail addresses, including those that are between
/// two audiences.
pub fn written_under(target: Target, keys: &[String]) -> SpiResult<Vec<(String, RecordRef)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let args = [target.number().into(), keys.to_vec().into()];
    let mut found = select(WRITTEN_UNDER, &args, |row| {
        Ok((row.get::<String>(1)?.unwrap_or_default(), record(row, 2)?))
    })?;
    let noted = intents::holders(target, keys).into_iter();
    found.extend(noted.map(|(key, holder)| (key, holder.record)));
    Ok(found)
}

/// What caused a link to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkCause {
    /// The service confirmed a write.
    Pushed,
    /// A change that came from the service was applied.
    Pulled,
    /// A request is about to be sent, or its answer named the record.
    Noted,
}

// What an array lacks of the others' length is NULL.
macro_rules! given {
    () => {
        "unnest($2::int4[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $9::text[], $10::bool[], $11::text[], $12::bool[], $13::text[], $14::text[], $15::tid[]) \
         AS n(source, key, remote_id, remote_key, status, clock, list, leaving, former, ask, given, stray, version)"
    };
}

macro_rules! insert {
    () => {
        concat!(
            "INSERT INTO integration._link AS l (target, source, record_key, remote_id, remote_key, member_status, clock, pushed_at, pulled_at, \
                                                 list_id, leaving, former_lists, ask, given, stray) \
             SELECT $1, n.source, n.key, n.remote_id, n.remote_key, n.status, n.clock, \
                    CASE WHEN $8 = 'pushed' THEN pg_catalog.clock_timestamp() END, CASE WHEN $8 = 'pulled' THEN pg_catalog.clock_timestamp() END, \
                    n.list, coalesce(n.leaving, false), coalesce(pg_catalog.string_to_array(n.former, ' '), '{}'), coalesce(n.ask, false), \
                    n.given::jsonb, n.stray \
             FROM ",
            given!()
        )
    };
}

// This costs a third of `WRITE`.
const INSERT: &str = insert!();
// This costs half of `WRITE`: nothing is looked up. Another record may stand at the same place by
// now; CASE keeps the planner from looking for the right one by its key.
const UPDATE: &str = concat!(
    "UPDATE integration._link AS l \
     SET remote_id = n.remote_id, remote_key = n.remote_key, member_status = n.status, clock = n.clock, \
         pushed_at = CASE WHEN $8 = 'pushed' THEN pg_catalog.clock_timestamp() ELSE l.pushed_at END, \
         pulled_at = CASE WHEN $8 = 'pulled' THEN pg_catalog.clock_timestamp() ELSE l.pulled_at END, \
         list_id = n.list, leaving = coalesce(n.leaving, false), former_lists = coalesce(pg_catalog.string_to_array(n.former, ' '), '{}'), \
         ask = coalesce(n.ask, false), given = n.given::jsonb, stray = n.stray \
     FROM ",
    given!(),
    " WHERE l.ctid = n.version AND CASE WHEN l.record_key = n.key THEN l.source = n.source AND l.target = $1 END"
);
const WRITE: &str = concat!(
    insert!(),
    " ON CONFLICT (source, target, record_key) DO UPDATE \
     SET remote_id = excluded.remote_id, remote_key = excluded.remote_key, member_status = excluded.member_status, clock = excluded.clock, \
         pushed_at = coalesce(excluded.pushed_at, l.pushed_at), pulled_at = coalesce(excluded.pulled_at, l.pulled_at), \
         list_id = excluded.list_id, leaving = excluded.leaving, former_lists = excluded.former_lists, ask = excluded.ask, given = excluded.given, stray = excluded.stray"
);

/// Stores whole links.
pub fn write(target: Target, cause: LinkCause, entries: &Once<LinkEntry>) -> SpiResult<()> {
    let (new, known): (Vec<&LinkEntry>, Vec<&LinkEntry>) = entries
        .iter()
        .partition(|entry| intents::is_open(target, &entry.record));
    insert(target, cause, &new)?;
    if put(UPDATE, target, cause, &known)? < known.len() {
        // Some have no link yet, or it has been written since it was read.
        put(WRITE, target, cause, &known)?;
    }
    for entry in new {
        intents::supersede(target, &entry.record);
    }
    Ok(())
}

/// Stores links of records that have none yet.
fn insert(target: Target, cause: LinkCause, entries: &[&LinkEntry]) -> SpiResult<()> {
    put(INSERT, target, cause, entries).map(|_| ())
}

/// Returns the number of links that were written.
fn put(sql: &str, target: Target, cause: LinkCause, entries: &[&LinkEntry]) -> SpiResult<usize> {
    if entries.is_empty() {
        return Ok(0);
    }
    let cause = match cause {
        LinkCause::Pushed => "pushed",
        LinkCause::Pulled => "pulled",
        LinkCause::Noted => "noted",
    };
    // Most records know of no audiences.
    let nobody = Membership::default();
    let placed = entries.iter().any(|entry| entry.link.membership != nobody);
    let members = if placed { entries } else { &[] };
    let args = [
        target.number().into(),
        column(entries, |entry| entry.record.source.0),
        column(entries, |entry| entry.record.key.as_str()),
        column(entries, |entry| {
            entry.link.remote_id.as_ref().map(RemoteId::as_str)
        }),
        column(entries, |entry| entry.link.remote_key.as_deref()),
        column(entries, |entry| entry.link.member_status.map(status_name)),
        column(entries, |entry| entry.link.clock.pack()),
        cause.into(),
        column(members, |entry| entry.link.membership.list.as_deref()),
        column(members, |entry| entry.link.membership.leaving),
        column(members, |entry| entry.link.membership.former.join(" ")),
        column(members, |entry| entry.link.membership.ask),
        column(members, |entry| entry.link.membership.given.pack()),
        column(members, |entry| entry.link.membership.stray.as_deref()),
        column(entries, |entry| entry.link.version.map(item_pointer)),
    ];
    execute(sql, &args)
}

fn item_pointer(version: u64) -> pg_sys::ItemPointerData {
    let mut pointer = pg_sys::ItemPointerData::default();
    u64_to_item_pointer(version, &mut pointer);
    pointer
}

const REMOVE: &str = "\
    DELETE FROM integration._link l WHERE l.ctid = ANY (ARRAY( \
        SELECT f.ctid FROM unnest($2::int4[], $3::text[]) AS d(source, key) CROSS JOIN LATERAL \
        (SELECT x.ctid FROM integration._link x WHERE x.target = $1 AND x.source = d.source AND x.record_key = d.key OFFSET 0) AS f))";

/// Removes links.
pub fn remove(target: Target, records: &[RecordRef]) -> SpiResult<()> {
    if records.is_empty() {
        return Ok(());
    }
    execute(
        REMOVE,
        &[
            target.number().into(),
            column(records, |record| record.source.0),
            column(records, |record| record.key.as_str()),
        ],
    )?;
    for record in records {
        intents::supersede(target, record);
    }
    Ok(())
}

const KEYS: &str =
    "SELECT l.record_key FROM integration._link l WHERE l.source = $1 AND l.target = $2";

/// Returns all linked records of a source; for a TRUNCATE.
pub fn keys(source: SourceId, target: Target) -> SpiResult<Vec<RecordKey>> {
    let mut keys = select(KEYS, &[source.0.into(), target.number().into()], |row| {
        Ok(RecordKey::from(row.get::<String>(1)?.unwrap_or_default()))
    })?;
    keys.extend(intents::keys(source, target));
    Ok(keys)
}
