//! Associations between HubSpot records: the columns that define them, and the state of each.

use std::collections::BTreeSet;

use integration_engine::record::{RecordKey, RecordRef, RemoteId, SourceId};
use integration_hubspot::associations::{AssociationUpdate, Owed, Pair, WantedPair};
use pgrx::spi::SpiResult;

use super::{column, execute, queue::dead_letters, returned, scalar, select, sources::Source};
use crate::services;

/// A column with the key of the row that its record belongs to.
pub struct Association {
    pub id: i32,
    pub source: SourceId,
    pub column: String,
    /// The column's number in the table.
    number: i16,
    pub to_source: SourceId,
}

const LOAD: &str = "\
    SELECT m.id, s.id, m.column_name::text, p.id, m.attnum \
    FROM integration.association_map m \
    JOIN integration.tracked_table s ON s.source = m.source JOIN integration.tracked_table p ON p.source = m.to_source \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = m.source AND a.attnum = m.attnum AND NOT a.attisdropped \
    JOIN pg_catalog.pg_attribute k ON k.attrelid = p.source AND k.attnum = p.key_attnums[1] AND integration._value_kind(k.atttypid) = integration._value_kind(a.atttypid) \
    WHERE 'hubspot' = ANY (s.targets) AND 'hubspot' = ANY (p.targets) ORDER BY m.id";

/// Returns the associations whose tables are both tracked for HubSpot.
pub fn load() -> SpiResult<Vec<Association>> {
    select(LOAD, &[], |row| {
        Ok(Association {
            id: row.get(1)?.unwrap_or(0),
            source: SourceId(row.get(2)?.unwrap_or(0)),
            column: row.get(3)?.unwrap_or_default(),
            number: row.get(5)?.unwrap_or(0),
            to_source: SourceId(row.get(4)?.unwrap_or(0)),
        })
    })
}

/// The HubSpot ids of both records, one index look-up each.
macro_rules! linked {
    ($name:literal, $source:literal, $key:literal) => {
        concat!(
            "LEFT JOIN LATERAL (SELECT l.remote_id FROM integration._link l WHERE l.source = ",
            $source,
            " AND l.target = 1 AND l.record_key = ",
            $key,
            " OFFSET 0) AS ",
            $name,
            " ON true "
        )
    };
}

const NOTE: &str = concat!(
    "INSERT INTO integration._association AS a (association, record_key, to_key, state, not_before) \
     SELECT $1, n.key, n.to_key, 'pending', pg_catalog.clock_timestamp() FROM unnest($4::text[], $5::text[]) AS n(key, to_key) \
     LEFT JOIN LATERAL (SELECT y.* FROM integration._association y WHERE y.association = $1 AND y.record_key = n.key OFFSET 0) AS x ON true ",
    linked!("f", "$2", "n.key"),
    linked!("p", "$3", "n.to_key"),
    "WHERE CASE WHEN x.record_key IS NULL THEN n.to_key IS NOT NULL \
                WHEN x.to_key IS DISTINCT FROM n.to_key THEN true \
                WHEN x.state = 'agreed' THEN (x.from_id, x.to_id) IS DISTINCT FROM (f.remote_id, p.remote_id) \
                WHEN x.state = 'waiting' THEN f.remote_id IS NOT NULL AND p.remote_id IS NOT NULL \
                ELSE x.state = 'failed' END \
     ON CONFLICT (association, record_key) DO UPDATE \
     SET to_key = excluded.to_key, state = 'pending', attempts = 0, not_before = excluded.not_before, why = NULL"
);

const DROP: &str = "\
    DELETE FROM integration._association a WHERE a.association = $1 AND a.record_key = ANY ($2)";

/// Compares settled records with what was last agreed, and returns how many associations are owed
/// now. Associations of deleted rows are forgotten: HubSpot drops them with the record. `None`: the
/// rows cannot be read at present.
pub fn note(
    association: &Association,
    source: &Source,
    keys: &[&RecordKey],
) -> SpiResult<Option<usize>> {
    // A record that is named twice would be written twice.
    let keys: BTreeSet<&RecordKey> = keys.iter().copied().collect();
    let asked: Vec<&RecordKey> = keys.iter().copied().collect();
    let Ok(reading) = source.read_columns_apart(&[association.number], &asked) else {
        return Ok(None);
    };
    let rows = reading.rows;
    let mut present: (Vec<String>, Vec<Option<String>>) = Default::default();
    let mut gone: Vec<String> = Vec::new();
    for key in keys {
        match rows.get(key) {
            Some(values) => {
                present.0.push(key.as_str().to_owned());
                present.1.push(values.first().cloned().flatten());
            }
            None if reading.unreadable.contains_key(key) => {}
            None => gone.push(key.as_str().to_owned()),
        }
    }
    if !gone.is_empty() {
        let keys: Vec<&str> = gone.iter().map(String::as_str).collect();
        dead_letters::supersede_associations(association.id, &keys)?;
        execute(DROP, &[association.id.into(), gone.into()])?;
    }
    let args = [
        association.id.into(),
        association.source.0.into(),
        association.to_source.0.into(),
        present.0.into(),
        present.1.into(),
    ];
    execute(NOTE, &args).map(Some)
}

/// One index look-up a parent.
macro_rules! children {
    ($condition:literal) => {
        concat!(
            "WHERE a.ctid = ANY (ARRAY(SELECT f.ctid FROM unnest($2::text[]) AS d(key) CROSS JOIN LATERAL \
             (SELECT x.ctid FROM integration._association x WHERE x.association = $1 AND x.to_key = d.key",
            $condition,
            " OFFSET 0) AS f))"
        )
    };
}

const PENDING: &str = "\
    UPDATE integration._association a SET state = 'pending', attempts = 0, not_before = pg_catalog.clock_timestamp(), why = NULL ";

/// Marks what waited for these parents as owed: HubSpot has them now.
pub fn parents_linked(association: &Association, keys: &[&str]) -> SpiResult<usize> {
    const SQL: &str = children!(" AND x.state = 'waiting'");
    execute(
        &format!("{PENDING}{SQL}"),
        &[association.id.into(), keys.to_vec().into()],
    )
}

/// Looks again at all associations of these parents, which are other records at HubSpot now.
pub fn parents_changed(association: &Association, keys: &[&str]) -> SpiResult<usize> {
    const SQL: &str = children!("");
    execute(
        &format!("{PENDING}{SQL}"),
        &[association.id.into(), keys.to_vec().into()],
    )
}

const UNHOLD_CHILDREN: &str = "\
    UPDATE integration._association a SET from_id = NULL, to_id = NULL, state = 'pending', not_before = pg_catalog.clock_timestamp() \
    WHERE a.association = $1 AND a.record_key = ANY ($2)";
const UNHOLD_PARENTS: &str = concat!(
    "UPDATE integration._association a SET from_id = NULL, to_id = NULL, state = 'pending', not_before = pg_catalog.clock_timestamp() ",
    children!("")
);

/// Forgets the associations of records that HubSpot no longer has: they went with the record.
pub fn unhold(associations: &[Association], records: &[RecordRef]) -> SpiResult<usize> {
    let mut owed = 0;
    for association in associations {
        for (sql, source) in [
            (UNHOLD_CHILDREN, association.source),
            (UNHOLD_PARENTS, association.to_source),
        ] {
            let keys = keys_of(records, source);
            if !keys.is_empty() {
                owed += execute(sql, &[association.id.into(), keys.into()])?;
            }
        }
    }
    Ok(owed)
}

/// Returns the keys of those records that belong to one source.
pub fn keys_of(records: &[RecordRef], source: SourceId) -> Vec<&str> {
    records
        .iter()
        .filter(|record| record.source == source)
        .map(|record| record.key.as_str())
        .collect()
}

const MOVE_AWAY: &str =
    "DELETE FROM integration._association a WHERE a.association = $1 AND a.record_key = $2";
const MOVE: &str = "UPDATE integration._association a SET record_key = $3 WHERE a.association = $1 AND a.record_key = $2";

/// Moves associations to the row's new key; to HubSpot it is the same record.
pub fn move_record(association: &Association, from: &RecordKey, to: &RecordKey) -> SpiResult<()> {
    execute(MOVE_AWAY, &[association.id.into(), to.as_str().into()])?;
    let args = [
        association.id.into(),
        from.as_str().into(),
        to.as_str().into(),
    ];
    execute(MOVE, &args).map(|_| ())
}

const WAKE: &str = "\
    UPDATE integration._association a SET state = 'pending', not_before = pg_catalog.clock_timestamp() \
     WHERE a.association = $1 AND a.state = 'waiting' AND EXISTS (SELECT FROM integration._link f, integration._link p \
        WHERE f.source = $2 AND f.target = 1 AND f.record_key = a.record_key AND f.remote_id IS NOT NULL \
          AND p.source = $3 AND p.target = 1 AND p.record_key = a.to_key AND p.remote_id IS NOT NULL)";

/// Marks as owed what waits without a reason, after a change of configuration.
pub fn wake(association: &Association) -> SpiResult<usize> {
    let args = [
        association.id.into(),
        association.source.0.into(),
        association.to_source.0.into(),
    ];
    execute(WAKE, &args)
}

/// An association that is owed, with the keys it is named by.
pub struct OwedAssociation {
    pub association: i32,
    pub key: String,
    /// The parent's key, as it was when this was read.
    pub to_key: Option<String>,
    pub owed: Owed,
}

const DUE: &str = concat!(
    "SELECT a.association, a.record_key, a.to_key, a.from_id, a.to_id, f.remote_id, p.remote_id, a.attempts, s.entity, t.entity, \
            a.from_id IS NOT NULL AND EXISTS (SELECT FROM integration.association_map om JOIN integration.tracked_table ot ON ot.source = om.to_source \
                JOIN integration._association o ON o.association = om.id AND o.record_key = a.record_key \
                WHERE om.source = m.source AND om.id <> m.id AND ot.entity = t.entity AND o.from_id = a.from_id AND o.to_id = a.to_id) \
     FROM (SELECT x.* FROM integration._association x WHERE x.state = 'pending' AND x.not_before <= pg_catalog.clock_timestamp() \
           AND x.association = ANY ($1) ORDER BY x.not_before LIMIT $2) AS a \
     JOIN integration.association_map m ON m.id = a.association \
     JOIN integration.tracked_table s ON s.source = m.source JOIN integration.tracked_table t ON t.source = m.to_source ",
    linked!("f", "s.id", "a.record_key"),
    linked!("p", "t.id", "a.to_key")
);

/// Returns the associations that are owed by now.
pub fn due(associations: &[Association], most: i64) -> SpiResult<Vec<OwedAssociation>> {
    let rows = select(
        DUE,
        &[column(associations, |known| known.id), most.into()],
        |row| {
            let text = |column: usize| row.get::<String>(column);
            let pair = |from: Option<String>, to: Option<String>| {
                let (from, to) = from.zip(to)?;
                Some(Pair {
                    from: RemoteId::from(from.as_str()),
                    to: RemoteId::from(to.as_str()),
                })
            };
            let entity = |name: Option<String>| name.and_then(|name| services::entity(&name));
            let to_key = text(3)?;
            let wanted = match (&to_key, pair(text(6)?, text(7)?)) {
                (None, _) => WantedPair::Nothing,
                (Some(_), None) => WantedPair::Unknown,
                (Some(_), Some(pair)) => WantedPair::Pair(pair),
            };
            let Some((from, to)) = entity(text(9)?).zip(entity(text(10)?)) else {
                return Ok(None);
            };
            Ok(Some(OwedAssociation {
                association: row.get(1)?.unwrap_or(0),
                key: text(2)?.unwrap_or_default(),
                to_key,
                owed: Owed {
                    from,
                    to,
                    wanted,
                    held: pair(text(4)?, text(5)?),
                    shared: row.get(11)?.unwrap_or(false),
                    attempts: row.get::<i32>(8)?.unwrap_or(0).unsigned_abs(),
                },
            }))
        },
    )?;
    Ok(rows.into_iter().flatten().collect())
}

const NEXT: &str = "\
    SELECT (1000 * extract(epoch FROM a.not_before - pg_catalog.clock_timestamp()))::int8 \
    FROM integration._association a WHERE a.state = 'pending' AND a.association = ANY ($1) ORDER BY a.not_before LIMIT 1";

/// Returns after how many milliseconds the next of them is due.
pub fn next_in_ms(associations: &[Association]) -> SpiResult<Option<i64>> {
    scalar::<i64>(NEXT, &[column(associations, |known| known.id)])
}

/// The new state of an association, provided that it has not changed since it was read.
pub struct AssociationChange {
    pub association: i32,
    pub key: String,
    pub to_key: Option<String>,
    pub was_held: Option<Pair>,
    pub now: AssociationUpdate,
}

const STORE: &str = "\
    UPDATE integration._association a \
    SET from_id = n.from_id, to_id = n.to_id, state = n.state, attempts = n.attempts, why = n.why, \
        not_before = pg_catalog.clock_timestamp() + n.wait * interval '1 millisecond' \
    FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int4[], $10::int8[], $11::text[]) \
         WITH ORDINALITY AS n(association, key, to_key, was_from, was_to, from_id, to_id, state, attempts, wait, why, place) \
    WHERE a.association = n.association AND a.record_key = n.key AND a.to_key IS NOT DISTINCT FROM n.to_key \
      AND a.from_id IS NOT DISTINCT FROM n.was_from AND a.to_id IS NOT DISTINCT FROM n.was_to AND a.state = 'pending' \
    RETURNING n.place";

const FORGET: &str = "DELETE FROM integration._association a WHERE a.state = 'gone' AND a.association = ANY ($1) AND a.record_key = ANY ($2)";

/// Stores changes, and returns those that took effect. A change that another one of the record has
/// overtaken is left out; it is still owed.
pub fn store<'c>(changes: &'c [AssociationChange]) -> SpiResult<Vec<&'c AssociationChange>> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let from = |pair: &'c Option<Pair>| pair.as_ref().map(|pair| pair.from.as_str());
    let to = |pair: &'c Option<Pair>| pair.as_ref().map(|pair| pair.to.as_str());
    let ids: Vec<i32> = changes.iter().map(|change| change.association).collect();
    let args = [
        ids.into(),
        column(changes, |change| change.key.as_str()),
        column(changes, |change| change.to_key.as_deref()),
        column(changes, |change| from(&change.was_held)),
        column(changes, |change| to(&change.was_held)),
        column(changes, |change| from(&change.now.held)),
        column(changes, |change| to(&change.now.held)),
        column(changes, |change| change.now.state.name()),
        column(changes, |change| change.now.attempts as i32),
        column(changes, |change| {
            i64::try_from(change.now.wait.as_millis()).unwrap_or(i64::MAX)
        }),
        column(changes, |change| change.now.why.as_deref()),
    ];
    let places = returned(STORE, &args, |row| row.get::<i64>(1))?;
    let stored = places
        .into_iter()
        .flatten()
        .filter_map(|place| changes.get(usize::try_from(place).ok()?.checked_sub(1)?))
        .collect();
    let gone: Vec<&AssociationChange> = changes
        .iter()
        .filter(|change| change.now.state.name() == "gone")
        .collect();
    if !gone.is_empty() {
        execute(
            FORGET,
            &[
                column(&gone, |change| change.association),
                column(&gone, |change| change.key.as_str()),
            ],
        )?;
    }
    Ok(stored)
}
