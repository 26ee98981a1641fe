//! Finding the CRM row that has an e-mail address.

use std::collections::BTreeSet;

use integration_engine::delivery::call::Link;
use integration_engine::record::{RecordKey, RecordRef, Target};
use integration_engine::value;
use pgrx::spi::SpiResult;

use crate::pg::Column;
use crate::pg::fence::{Access, Refusal};
use crate::store::links;
use crate::store::select;
use crate::store::sources::{Relation, Source};

/// Returns the contact with this address (lower case), and its link at Mailchimp if there is one.
///
/// It looks only where an index answers: the addresses written to Mailchimp, those written to
/// HubSpot, and the CRM's own column if it is indexed.
pub fn by_email<'a>(
    sources: impl Iterator<Item = &'a Source> + Clone,
    email: &str,
) -> SpiResult<Option<(RecordRef, Option<Link>)>> {
    let contact = |record: &RecordRef| {
        let mut sources = sources.clone();
        sources.any(|source| source.id == record.source && source.entity.is_person())
    };
    let members = links::by_remote_key(Target::Mailchimp, email)?;
    if let Some((record, link)) = members.into_iter().find(|(record, _)| contact(record)) {
        return Ok(Some((record, Some(link))));
    }
    let people = links::by_remote_key(Target::HubSpot, email)?;
    let mut found = people
        .into_iter()
        .map(|(record, _)| record)
        .find(|record| contact(record));
    // A table that cannot be read must not hide a person in another one.
    let mut unread = None;
    for source in sources.filter(|source| source.entity.is_person()) {
        if found.is_none() {
            match in_table(source, email)? {
                Ok(record) => found = record,
                Err(refusal) => unread = Some(refusal),
            }
        }
    }
    let Some(record) = found else {
        if let Some(refusal) = unread {
            refusal.raise();
        }
        return Ok(None);
    };
    let link =
        links::read(record.source, Target::Mailchimp, &[record.key.as_str()])?.remove(&record.key);
    Ok(Some((record, link)))
}

/// Returns the addresses (lower case) in a contact's row.
pub fn addresses(source: &Source, key: &RecordKey) -> SpiResult<BTreeSet<String>> {
    let mut addresses = BTreeSet::new();
    for (target, name) in ADDRESS_FIELDS {
        let map = source.maps.get(&target);
        let field = map.and_then(|map| Some((map, map.field_named(name)?)));
        let Some((map, (index, _))) = field.filter(|_| source.entity.is_person()) else {
            continue;
        };
        let rows = source.read(map, &[key])?;
        let texts = rows.values().filter_map(|row| row.get(index)?.as_deref());
        addresses.extend(texts.filter_map(|text| value::email_key(text).ok()));
    }
    Ok(addresses)
}

/// Returns the fields that hold a contact's address.
const ADDRESS_FIELDS: [(Target, &str); 2] = [
    (Target::Mailchimp, "email_address"),
    (Target::HubSpot, "email"),
];

/// Unconditional indexes on one table, by their first column.
const INDEXED: &str = "\
    SELECT pg_catalog.pg_get_indexdef(i.indexrelid, 1, true), i.indisunique AND i.indnkeyatts = 1 FROM pg_catalog.pg_index i \
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam \
    WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'hash')";

fn in_table(source: &Source, email: &str) -> SpiResult<Result<Option<RecordRef>, Refusal>> {
    let mapped = ADDRESS_FIELDS
        .into_iter()
        .find_map(|(target, name)| source.maps.get(&target)?.field_named(name));
    let Some((_, field)) = mapped.filter(|_| source.reads_itself()) else {
        return Ok(Ok(None));
    };
    let rows = source.attempt(Access::ReadTable, |opened| {
        let indexed = select(INDEXED, &[source.oid.into()], |row| row.get::<String>(1))?;
        let column = source.column(opened, Relation::Table, &field.column);
        let Some(condition) = condition(&column, indexed.iter().flatten(), "$1") else {
            return Ok(Vec::new());
        };
        let key: Vec<String> = source
            .key_columns(opened, Relation::Table)
            .iter()
            .map(|column| format!("t.{}::text", column.name))
            .collect();
        let statement = format!(
            "SELECT ARRAY[{}] FROM {} t WHERE {condition} LIMIT 1",
            key.join(", "),
            opened.table
        );
        select(&statement, &[email.into()], |row| row.get::<Vec<String>>(1))
    });
    Ok(rows.map(|rows| {
        rows.into_iter().flatten().next().map(|parts| RecordRef {
            source: source.id,
            key: RecordKey::from_parts(&parts),
        })
    }))
}

/// Returns the look-up that one of the indexes answers.
fn condition<'a>(
    column: &Column,
    mut indexed: impl Iterator<Item = &'a String> + Clone,
    email: &str,
) -> Option<String> {
    let Column { name, type_name } = column;
    let lower = [format!("lower({name})"), format!("lower({name}::text)")];
    if indexed.clone().any(|first| lower.contains(first)) {
        return Some(format!("lower(t.{name}) = {email}"));
    }
    indexed
        .any(|first| first == name)
        .then(|| format!("t.{name} = {email}::{type_name}"))
}

/// How many rows with one address are looked at; with more, no look-up helps.
const MOST_ALIKE: usize = 100;

/// Returns the rows of a contact table with these addresses (lower case), each with its address,
/// where an index answers. If the index allows an address one row only, they count as `others` only
/// in another table than the one that asks.
pub fn with_addresses(
    source: &Source,
    emails: &[String],
    asks: bool,
) -> SpiResult<Vec<(String, RecordRef)>> {
    let mapped = source.maps.get(&Target::Mailchimp);
    let mapped = mapped.and_then(|map| map.field_named("email_address"));
    let Some((_, field)) = mapped.filter(|_| source.reads_itself()) else {
        return Ok(Vec::new());
    };
    let rows = source.run(Access::ReadTable, |opened| {
        let indexed = select(INDEXED, &[source.oid.into()], |row| {
            Ok((row.get::<String>(1)?, row.get::<bool>(2)?.unwrap_or(false)))
        })?;
        let column = source.column(opened, Relation::Table, &field.column);
        let of = |unique: bool| {
            let fit = indexed.iter().filter(move |(_, only)| *only || !unique);
            let firsts = fit.filter_map(|(first, _)| first.as_ref());
            condition(&column, firsts, "k.email")
        };
        let Some(condition) = of(false).filter(|_| !asks || of(true).is_none()) else {
            return Ok(Vec::new());
        };
        let key: Vec<String> = source
            .key_columns(opened, Relation::Table)
            .iter()
            .map(|column| format!("t.{}::text", column.name))
            .collect();
        let statement = format!(
            "SELECT k.email, r.key FROM pg_catalog.unnest($1::text[]) AS k(email) CROSS JOIN LATERAL \
             (SELECT ARRAY[{}] AS key FROM {} t WHERE {condition} LIMIT {MOST_ALIKE}) AS r",
            key.join(", "),
            opened.table
        );
        select(&statement, &[emails.to_vec().into()], |row| {
            let parts = row.get::<Vec<String>>(2)?.unwrap_or_default();
            let record = RecordRef {
                source: source.id,
                key: RecordKey::from_parts(&parts),
            };
            Ok((row.get::<String>(1)?.unwrap_or_default(), record))
        })
    });
    // A table that cannot be read is held, and reported there.
    Ok(rows.unwrap_or_default())
}
