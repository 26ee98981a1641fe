//! Records as JSON.

use super::definitions::PropertyKey;
use super::store::{Record, State, Store};
use crate::clock;
use crate::json;

/// Which properties of a record an answer shows.
pub(crate) struct Shape<'a> {
    keys: Keys<'a>,
    history: Vec<(PropertyKey, &'a str)>,
    /// `new` of an upsert.
    created: Option<bool>,
}

enum Keys<'a> {
    /// Write answers hold what was written (and the stamps), not the whole record.
    Written(&'a [(PropertyKey, std::borrow::Cow<'a, str>)]),
    Asked(Vec<PropertyKey>),
}

impl<'a> Shape<'a> {
    pub(crate) fn written(
        values: &'a [(PropertyKey, std::borrow::Cow<'a, str>)],
        created: Option<bool>,
    ) -> Self {
        Self {
            keys: Keys::Written(values),
            history: Vec::new(),
            created,
        }
    }

    /// Unknown names are left out silently; none at all means the default set.
    pub(crate) fn asked(store: &Store, properties: &[&'a str], history: &[&'a str]) -> Self {
        let key = |name: &&'a str| store.definitions.find(name).map(|(key, _)| key);
        let names = if properties.is_empty() {
            store.object.default_properties()
        } else {
            properties
        };
        let mut keys: Vec<PropertyKey> = names.iter().filter_map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        let history = history
            .iter()
            .filter_map(|name| Some((key(name)?, *name)))
            .collect();
        Self {
            keys: Keys::Asked(keys),
            history,
            created: None,
        }
    }
}

/// Appends a record.
pub(crate) fn record(
    out: &mut Vec<u8>,
    store: &Store,
    position: usize,
    shape: &Shape<'_>,
    portal: u64,
) {
    let record = &store.records[position];
    out.extend_from_slice(b"{\"id\":\"");
    json::push_u64(out, record.id);
    out.extend_from_slice(b"\",\"properties\":{");
    match &shape.keys {
        Keys::Written(values) => values
            .iter()
            .for_each(|(key, _)| property(out, store, record, *key)),
        Keys::Asked(keys) => keys
            .iter()
            .for_each(|key| property(out, store, record, *key)),
    }
    stamps(out, store, record);
    out.push(b'}');
    if !shape.history.is_empty() {
        history(out, record, &shape.history);
    }
    out.extend_from_slice(b",\"createdAt\":\"");
    clock::push_iso(out, record.created);
    out.extend_from_slice(b"\",\"updatedAt\":\"");
    clock::push_iso(out, record.updated);
    out.extend_from_slice(b"\",\"archived\":");
    match record.state {
        State::Archived(at) => {
            out.extend_from_slice(b"true,\"archivedAt\":\"");
            clock::push_iso(out, at);
            out.push(b'"');
        }
        _ => out.extend_from_slice(b"false"),
    }
    if let Some(created) = shape.created {
        out.extend_from_slice(if created {
            b",\"new\":true"
        } else {
            b",\"new\":false"
        });
    }
    out.extend_from_slice(b",\"url\":\"https://app.hubspot.com/contacts/");
    json::push_u64(out, portal);
    out.extend_from_slice(b"/record/");
    out.extend_from_slice(store.object.number().as_bytes());
    out.push(b'/');
    json::push_u64(out, record.id);
    out.extend_from_slice(b"\"}");
}

fn property(out: &mut Vec<u8>, store: &Store, record: &Record, key: PropertyKey) {
    let name = &store.definitions.get(key).name;
    if is_stamp(store, name) {
        return;
    }
    json::comma(out);
    json::push_str(out, name);
    out.push(b':');
    match record.value(key) {
        Some(stored) if !stored.value.is_empty() => json::push_str(out, &stored.value),
        _ => out.extend_from_slice(b"null"),
    }
}

/// Written by [`stamps`] whatever was asked for.
fn is_stamp(store: &Store, name: &str) -> bool {
    name == "hs_object_id"
        || name == store.object.created_property()
        || name == store.object.modified_property()
}

fn stamps(out: &mut Vec<u8>, store: &Store, record: &Record) {
    json::comma(out);
    out.extend_from_slice(b"\"hs_object_id\":\"");
    json::push_u64(out, record.id);
    for (name, at) in [
        (store.object.created_property(), record.created),
        (store.object.modified_property(), record.updated),
    ] {
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":\"");
        clock::push_iso(out, at);
    }
    out.push(b'"');
}

/// The sandbox keeps the present value of each property only: a history of one.
fn history(out: &mut Vec<u8>, record: &Record, names: &[(PropertyKey, &str)]) {
    out.extend_from_slice(b",\"propertiesWithHistory\":{");
    for (key, name) in names {
        json::comma(out);
        json::push_str(out, name);
        out.extend_from_slice(b":[");
        if let Some(stored) = record.value(*key) {
            out.extend_from_slice(b"{\"value\":");
            json::push_str(out, &stored.value);
            out.extend_from_slice(b",\"timestamp\":\"");
            clock::push_iso(out, stored.at);
            out.extend_from_slice(b"\",\"sourceType\":\"");
            out.extend_from_slice(stored.source.label().as_bytes());
            out.extend_from_slice(b"\"}");
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// Value of any property as text, computed ones too.
pub(crate) fn text_of(store: &Store, record: &Record, name: &str) -> Option<String> {
    if name == "hs_object_id" {
        return Some(record.id.to_string());
    }
    if name == store.object.created_property() {
        return Some(clock::iso(record.created));
    }
    if name == store.object.modified_property() {
        return Some(clock::iso(record.updated));
    }
    let stored = record.value(store.definitions.find(name)?.0)?;
    (!stored.value.is_empty()).then(|| stored.value.to_string())
}
