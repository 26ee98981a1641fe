//! Creates under way: noted before the call leaves, one row for the records of a call, and turned
//! into links when the call is settled.
//!
//! Until then the note stands in for such a record's link. The worker, which alone writes links,
//! has the notes in memory; the table is for the next worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use integration_engine::crypto::subscriber_hash;
use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::{RecordKey, RecordRef, SourceId, Target};
use pgrx::spi::SpiResult;

use super::{Holder, LinkCause};
use crate::store::{column, execute, returned};

thread_local! {
    static OPEN: RefCell<Open> = RefCell::default();
}

/// What was noted about a record.
struct Intent {
    key: RecordKey,
    remote_key: Option<Box<str>>,
    /// The table of links has newer information.
    stored: bool,
}

/// The records of a noted call.
struct NotedCall {
    target: Target,
    source: SourceId,
    list: Option<String>,
    intents: Vec<Intent>,
}

impl NotedCall {
    fn record(&self, intent: &Intent) -> RecordRef {
        RecordRef {
            source: self.source,
            key: intent.key.clone(),
        }
    }

    fn link(&self, intent: &Intent) -> Link {
        let address = intent.remote_key.as_deref().map(str::to_owned);
        Link::to_be(address, self.list.clone())
    }
}

/// Hash of the name looked for, call, and position in the call. There may be many records; this
/// takes less memory than maps of their names.
type Spot = (u64, i64, usize);

#[derive(Default)]
struct Open {
    calls: HashMap<i64, NotedCall>,
    by_record: BTreeSet<Spot>,
    by_address: BTreeSet<Spot>,
    /// Notes that were superseded since the last attempt began, which may be undone.
    superseded: Vec<(i64, usize)>,
}

fn hash(target: Target, source: Option<SourceId>, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (target, source, text).hash(&mut hasher);
    hasher.finish()
}

impl Open {
    fn at(spots: &BTreeSet<Spot>, hash: u64) -> impl Iterator<Item = &Spot> {
        spots.range((hash, i64::MIN, 0)..=(hash, i64::MAX, usize::MAX))
    }

    fn spot(&self, target: Target, source: SourceId, key: &str) -> Option<Spot> {
        if self.by_record.is_empty() {
            return None;
        }
        let is_it = |spot: &&Spot| {
            self.calls.get(&spot.1).is_some_and(|call| {
                let named = (call.target, call.source) == (target, source);
                named && call.intents[spot.2].key.as_str() == key
            })
        };
        let mut spots = Open::at(&self.by_record, hash(target, Some(source), key));
        spots.find(is_it).copied()
    }

    /// Returns what is noted about a record, unless a link has been stored since.
    fn get(&self, target: Target, source: SourceId, key: &str) -> Option<(&NotedCall, &Intent)> {
        let (_, id, place) = self.spot(target, source, key)?;
        let call = self.calls.get(&id)?;
        let intent = &call.intents[place];
        (!intent.stored).then_some((call, intent))
    }

    /// Returns the same for all records noted under an address.
    fn under<'a>(
        &'a self,
        target: Target,
        address: &'a str,
    ) -> impl Iterator<Item = (&'a NotedCall, &'a Intent)> {
        Open::at(&self.by_address, hash(target, None, address))
            .filter_map(|(_, id, place)| {
                let call = self.calls.get(id)?;
                Some((call, &call.intents[*place]))
            })
            .filter(move |(call, intent)| {
                let named = intent.remote_key.as_deref() == Some(address);
                named && call.target == target && !intent.stored
            })
    }

    fn of_source(&self, target: Target, source: SourceId) -> impl Iterator<Item = &Intent> {
        let calls = self.calls.values();
        calls
            .filter(move |call| (call.target, call.source) == (target, source))
            .flat_map(|call| call.intents.iter().filter(|intent| !intent.stored))
    }

    fn supersede(&mut self, target: Target, record: &RecordRef) {
        let spot = self.spot(target, record.source, record.key.as_str());
        if let Some((_, id, place)) = spot
            && let Some(call) = self.calls.get_mut(&id)
            && !std::mem::replace(&mut call.intents[place].stored, true)
        {
            self.superseded.push((id, place));
        }
    }

    fn add(&mut self, id: i64, call: NotedCall) {
        for (place, intent) in call.intents.iter().enumerate() {
            let (target, key) = (call.target, intent.key.as_str());
            // It may have been in an earlier call that did not leave.
            if let Some(spot) = self.spot(target, call.source, key) {
                self.by_record.remove(&spot);
            }
            let named = hash(target, Some(call.source), key);
            self.by_record.insert((named, id, place));
            if let Some(address) = &intent.remote_key {
                self.by_address
                    .insert((hash(target, None, address), id, place));
            }
        }
        self.calls.insert(id, call);
    }

    /// Forgets a call, and returns those of its records for which nothing has been stored since.
    fn end(&mut self, id: i64) -> Option<(Target, Vec<LinkEntry>)> {
        let call = self.calls.remove(&id)?;
        let mut left = Vec::new();
        for (place, intent) in call.intents.iter().enumerate() {
            let named = hash(call.target, Some(call.source), intent.key.as_str());
            let present = self.by_record.remove(&(named, id, place));
            if let Some(address) = &intent.remote_key {
                self.by_address
                    .remove(&(hash(call.target, None, address), id, place));
            }
            if present && !intent.stored {
                left.push(LinkEntry {
                    record: call.record(intent),
                    link: call.link(intent),
                });
            }
        }
        Some((call.target, left))
    }
}

const NOTE: &str = "\
    INSERT INTO integration._intent (target, source, list_id, record_keys, remote_keys) VALUES ($1, $2, $3, $4, $5) RETURNING id";

/// Notes that records without a link may be created from now on.
pub fn note(target: Target, entries: &[LinkEntry]) -> SpiResult<()> {
    let mut groups: BTreeMap<(SourceId, Option<&str>), Vec<&LinkEntry>> = BTreeMap::new();
    for entry in entries {
        let list = entry.link.membership.list.as_deref();
        let of_call = groups.entry((entry.record.source, list)).or_default();
        of_call.push(entry);
    }
    for ((source, list), entries) in groups {
        let args = [
            target.number().into(),
            source.0.into(),
            list.into(),
            column(&entries, |entry| entry.record.key.as_str()),
            column(&entries, |entry| entry.link.remote_key.as_deref()),
        ];
        let intent = |entry: &&LinkEntry| Intent {
            key: entry.record.key.clone(),
            remote_key: entry.link.remote_key.as_deref().map(Box::from),
            stored: false,
        };
        let call = NotedCall {
            target,
            source,
            list: list.map(str::to_owned),
            intents: entries.iter().map(intent).collect(),
        };
        let ids = returned(NOTE, &args, |row| row.get::<i64>(1))?;
        if let Some(id) = ids.into_iter().flatten().next() {
            OPEN.with_borrow_mut(|open| open.add(id, call));
        }
    }
    Ok(())
}

/// Returns the noted call that a record is in.
pub fn call_of(target: Target, record: &RecordRef) -> Option<i64> {
    let spot = |open: &Open| open.spot(target, record.source, record.key.as_str());
    OPEN.with_borrow(spot).map(|(_, id, _)| id)
}

/// Returns whether nothing is known about a record but that it may be created.
pub(super) fn is_open(target: Target, record: &RecordRef) -> bool {
    let key = record.key.as_str();
    OPEN.with_borrow(|open| open.get(target, record.source, key).is_some())
}

/// Gives way to the table of links, which has the newer information from now on.
pub(super) fn supersede(target: Target, record: &RecordRef) {
    OPEN.with_borrow_mut(|open| open.supersede(target, record));
}

/// Begins an attempt: what is stored from here on may be undone.
pub fn begin_attempt() {
    OPEN.with_borrow_mut(|open| open.superseded.clear());
}

/// Undoes what was superseded since the attempt began.
pub fn undo_attempt() {
    OPEN.with_borrow_mut(|open| {
        for (id, place) in std::mem::take(&mut open.superseded) {
            if let Some(call) = open.calls.get_mut(&id) {
                call.intents[place].stored = false;
            }
        }
    });
}

const END: &str = "DELETE FROM integration._intent i WHERE i.id = ANY ($1)";

/// Ends settled calls: a record for which nothing was stored may still exist.
pub fn end(calls: &BTreeSet<i64>) -> SpiResult<()> {
    if calls.is_empty() {
        return Ok(());
    }
    for call in calls {
        let ended = OPEN.with_borrow_mut(|open| open.end(*call));
        if let Some((target, left)) = ended {
            let left: Vec<&LinkEntry> = left.iter().collect();
            super::insert(target, LinkCause::Noted, &left)?;
        }
    }
    execute(END, &[column(calls, |one| *one)]).map(|_| ())
}

/// Turns notes about a record into links, so that only its link has to be looked at.
pub fn end_for(target: Target, record: &RecordRef) -> SpiResult<()> {
    end(&call_of(target, record).into_iter().collect())
}

const RECOVER: &str = "\
    INSERT INTO integration._link (target, source, record_key, remote_key, list_id) \
    SELECT i.target, i.source, n.record_key, n.remote_key, i.list_id \
    FROM integration._intent i CROSS JOIN LATERAL unnest(i.record_keys, i.remote_keys) AS n(record_key, remote_key) \
    ON CONFLICT (source, target, record_key) DO NOTHING";
const FORGET: &str = "DELETE FROM integration._intent";

/// Restores the notes at the start: what an earlier worker was about to create may exist.
pub fn recover() -> SpiResult<()> {
    execute(RECOVER, &[])?;
    execute(FORGET, &[]).map(|_| ())
}

/// Returns what is noted about some records of a source.
pub(super) fn read(source: SourceId, target: Target, keys: &[&str]) -> Vec<(RecordKey, Link)> {
    OPEN.with_borrow(|open| {
        if open.calls.is_empty() {
            return Vec::new();
        }
        let noted = |key: &&str| {
            let (call, intent) = open.get(target, source, key)?;
            Some((intent.key.clone(), call.link(intent)))
        };
        keys.iter().filter_map(noted).collect()
    })
}

/// Returns all noted records of a source.
pub(super) fn keys(source: SourceId, target: Target) -> Vec<RecordKey> {
    OPEN.with_borrow(|open| {
        let noted = open.of_source(target, source);
        noted.map(|intent| intent.key.clone()).collect()
    })
}

/// Returns the records noted under an address.
pub(super) fn by_remote_key(target: Target, key: &str) -> Vec<(RecordRef, Link)> {
    OPEN.with_borrow(|open| {
        open.under(target, key)
            .map(|(call, intent)| (call.record(intent), call.link(intent)))
            .collect()
    })
}

/// Returns the same for several addresses, with nothing but the record's location.
pub(super) fn holders(target: Target, keys: &[String]) -> Vec<(String, Holder)> {
    OPEN.with_borrow(|open| {
        let holder = |(call, intent): (&NotedCall, &Intent)| Holder {
            record: call.record(intent),
            list: call.list.clone(),
        };
        let under = |key: &String| {
            let known = open.under(target, key).map(holder);
            known.map(|known| (key.clone(), known)).collect::<Vec<_>>()
        };
        keys.iter().flat_map(under).collect()
    })
}

/// Returns those noted for Mailchimp under addresses with these hashes, with their audiences.
pub fn members(hashes: &[String], but: &RecordRef) -> Vec<(String, Option<String>)> {
    OPEN.with_borrow(|open| {
        let mut members = Vec::new();
        let calls = open.calls.values();
        for call in calls.filter(|call| call.target == Target::Mailchimp) {
            for intent in call.intents.iter().filter(|intent| !intent.stored) {
                let hash = intent.remote_key.as_deref().map(subscriber_hash);
                if let Some(hash) = hash.filter(|hash| hashes.contains(hash))
                    && call.record(intent) != *but
                {
                    members.push((hash, call.list.clone()));
                }
            }
        }
        members
    })
}
