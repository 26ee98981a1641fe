//! What answers of a comparison come to: differences, what is done about them, what to ask next.

use std::collections::{HashMap, HashSet, VecDeque};

use integration_engine::call::{Link, Reply, TransportError};
use integration_engine::drift::{Difference, Page, Record, depends_on_time, differences};
use integration_engine::failure::{self, Class};
use integration_engine::hubspot::census::{self, HISTORY_MAX, Wanted};
use integration_engine::mailchimp;
use integration_engine::mapping::SourceMap;
use integration_engine::queue::RecordRef;
use integration_engine::record::{Lane, RecordKey, RemoteId, Target, Timestamp};
use pgrx::spi::SpiResult;

use super::{Advance, Ask, Asked};
use crate::capture;
use crate::inbound::Scene;
use crate::inbound::fields::{Done, Knowledge, Reported, Taken};
use crate::store::drift::{self, Course, Found, Kind, Repair, Stage};
use crate::store::links::{self, Cause, Entry};
use crate::store::sources::Source;
use crate::worker::target::TargetWorker;
use crate::worker::{World, now_ms};

/// What an answer is.
pub(super) enum Understood {
    Answer(Asked, Page),
    /// It was too large: to be asked in parts.
    Smaller(Vec<Ask>),
    /// The target cannot answer now.
    Later,
    Refused(String),
}

pub(super) fn understand(
    target: Target,
    offset: u64,
    asked: Asked,
    result: &Result<Reply, TransportError>,
) -> Understood {
    if let (Err(TransportError::TooLarge(_)), Ask::Linked(pairs, wanted)) = (result, &asked.ask)
        && pairs.len() > 1
    {
        let halves = pairs.chunks(pairs.len().div_ceil(2));
        return Understood::Smaller(
            halves
                .map(|half| Ask::Linked(half.to_vec(), *wanted))
                .collect(),
        );
    }
    let class = failure::classify(target, result.as_ref());
    let lost = matches!(asked.ask, Ask::Lost(..));
    match (class, result) {
        (Class::NotFound, _) if lost => Understood::Answer(asked, Page::default()),
        (Class::Answered, Ok(reply)) => {
            let alone = |record| Page {
                records: vec![record],
                after: None,
            };
            let page = match (target, lost) {
                (Target::HubSpot, true) => census::read_single(reply).map(alone),
                (Target::HubSpot, false) => census::read_page(reply),
                (Target::Mailchimp, true) => mailchimp::census::read_member(reply).map(alone),
                (Target::Mailchimp, false) => mailchimp::census::read_page(reply, offset),
            };
            match page {
                Ok(page) => Understood::Answer(asked, page),
                Err(why) => Understood::Refused(why),
            }
        }
        (Class::Rejected | Class::NotFound, Ok(reply)) => Understood::Refused(format!(
            "the service refuses to list records (HTTP {})",
            reply.status
        )),
        (_, Err(TransportError::TooLarge(_))) => {
            Understood::Refused("a record is too large to be read".to_owned())
        }
        _ => Understood::Later,
    }
}

/// Judges by what the tables say at one moment.
pub(super) struct Judge<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) course: Course,
    /// Records whose other self is gone.
    pub(super) unlinked: Vec<RecordRef>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(world: &'a World, targets: &'a [TargetWorker], course: Course) -> Judge<'a> {
        Judge {
            scene: Scene { world, targets },
            course,
            unlinked: Vec::new(),
        }
    }

    fn source(&self) -> Option<&'a Source> {
        self.scene.world.sources.get(&self.course.source)
    }

    pub(super) fn mapped(&self) -> Option<(&'a Source, &'a SourceMap)> {
        let source = self.source()?;
        Some((source, source.maps.get(&self.course.target)?))
    }

    pub(super) fn record(&self, key: &RecordKey) -> RecordRef {
        RecordRef {
            source: self.course.source,
            key: key.clone(),
        }
    }

    /// Those of the records that nothing is on its way for since.
    pub(super) fn at_rest(
        &self,
        keys: &[&RecordKey],
        since: Timestamp,
    ) -> SpiResult<HashSet<RecordKey>> {
        let queue = self
            .scene
            .targets
            .iter()
            .find(|worker| worker.target == self.course.target)
            .map(|worker| &worker.queue);
        let texts: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
        let moving = drift::moving(self.course.source, self.course.target, &texts, since)?;
        let waits = |key: &RecordKey| {
            queue.is_some_and(|queue| queue.changed_at(&self.record(key)).is_some())
        };
        let still = keys
            .iter()
            .filter(|key| !moving.contains(**key) && !waits(key));
        Ok(still.map(|key| (*key).clone()).collect())
    }

    /// Rows that are not linked are missing there; the others are asked for.
    pub(super) fn rows(&mut self, keys: &[RecordKey], todo: &mut VecDeque<Ask>) -> SpiResult<()> {
        let Some(source) = self.source() else {
            return Ok(());
        };
        let texts: Vec<&str> = keys.iter().map(RecordKey::as_str).collect();
        let mut known = links::read(source.id, self.course.target, &texts)?;
        let mut pairs = Vec::new();
        let mut alone = Vec::new();
        for key in keys {
            match known.remove(key).and_then(|link| link.remote_id) {
                Some(id) => pairs.push((key.clone(), id)),
                None => alone.push(key),
            }
        }
        let still = self.at_rest(&alone, Timestamp(now_ms()))?;
        for key in alone.into_iter().filter(|key| still.contains(*key)) {
            self.send_again(key, None, None)?;
        }
        if !pairs.is_empty() {
            todo.push_back(Ask::Linked(pairs, Wanted::Values));
        }
        Ok(())
    }

    /// Notes a record that is missing there, and has it sent whole if that is wanted.
    pub(super) fn send_again(
        &mut self,
        key: &RecordKey,
        link: Option<Link>,
        id: Option<&RemoteId>,
    ) -> SpiResult<()> {
        let repair = match self.course.repair {
            false => Repair::Nothing,
            true => {
                if link.is_some() {
                    let record = self.record(key);
                    links::remove(self.course.target, std::slice::from_ref(&record))?;
                    self.unlinked.push(record);
                }
                self.queue(key);
                Repair::Done(format!("sent to {}", self.course.target))
            }
        };
        let id = id.map(|id| id.as_str().to_owned());
        self.put(Some(key), id, Kind::MissingRemote, None, repair)
    }

    pub(super) fn queue(&self, key: &RecordKey) {
        let target = self.course.target;
        capture::enqueue(target, self.course.source, Lane::Reconcile, [key.as_str()]);
    }

    pub(super) fn put(
        &self,
        key: Option<&RecordKey>,
        remote_id: Option<String>,
        kind: Kind,
        remote: Option<String>,
        repair: Repair,
    ) -> SpiResult<()> {
        let found = Found {
            key: key.cloned(),
            remote_id,
            kind,
            field: None,
            crm: None,
            remote,
            agreed: None,
            repair,
        };
        drift::put(&self.course, &found)
    }

    /// Judges an answer. Gives where the walk goes on after a page.
    pub(super) fn answer(
        &mut self,
        asked: Asked,
        page: Page,
        todo: &mut VecDeque<Ask>,
    ) -> SpiResult<Option<Advance>> {
        match &asked.ask {
            Ask::Linked(pairs, Wanted::Archived) => self.archived(pairs, &asked, &page, todo)?,
            Ask::Linked(pairs, wanted) => self.linked(pairs, *wanted, &asked, &page, todo)?,
            Ask::Lost(key, id) if self.course.target == Target::Mailchimp => {
                self.lost_member(key, id, &asked, page.records.first())?;
            }
            Ask::PageAgain(ids) => self.members(&page.records, asked.at, Some(ids), None)?,
            Ask::Lost(key, id) => self.lost(key, id, &asked, page.records.first(), todo)?,
            Ask::Strangers(_) => self.strangers(&page.records, asked.at, None)?,
            Ask::Page => {
                match self.course.target {
                    Target::HubSpot => self.strangers(&page.records, asked.at, Some(todo))?,
                    Target::Mailchimp => {
                        self.members(&page.records, asked.at, None, Some(todo))?;
                    }
                }
                return Ok(Some(Advance {
                    stage: match (&page.after, self.course.target, self.course.stage) {
                        (Some(_), _, stage) => stage,
                        (None, Target::HubSpot, _) => Stage::Finished,
                        (None, Target::Mailchimp, Stage::Remote) => Stage::Archived,
                        (None, Target::Mailchimp, _) => Stage::Rows,
                    },
                    mark: None,
                    after: page.after,
                    looked_at: page.records.len() as u64,
                }));
            }
        }
        Ok(None)
    }

    /// The rows' own records: which fields differ, which records are not there.
    fn linked(
        &mut self,
        pairs: &[(RecordKey, RemoteId)],
        wanted: Wanted,
        asked: &Asked,
        page: &Page,
        todo: &mut VecDeque<Ask>,
    ) -> SpiResult<()> {
        let Some((source, map)) = self.mapped() else {
            return Ok(());
        };
        let held: HashMap<&str, &Record> = page
            .records
            .iter()
            .map(|record| (record.id.as_str(), record))
            .collect();
        let keys: Vec<&RecordKey> = pairs.iter().map(|(key, _)| key).collect();
        let texts: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
        let rows = source.read(map, &keys)?;
        let mut known = links::read(source.id, self.course.target, &texts)?;
        let still = self.at_rest(&keys, asked.at)?;
        let (mut missing, mut suspects) = (Vec::new(), Vec::new());
        let mut differing = Vec::new();
        for (key, id) in pairs.iter().filter(|(key, _)| still.contains(key)) {
            let link = known
                .remove(key)
                .filter(|link| link.remote_id.as_ref() == Some(id));
            let (Some(row), Some(link)) = (rows.get(key), link) else {
                continue;
            };
            let Some(record) = held.get(id.as_str()) else {
                missing.push((key.clone(), id.clone()));
                continue;
            };
            let found = compare(map, row, &link, record, &asked.names);
            if found.is_empty() {
                continue;
            }
            let timed = found
                .iter()
                .any(|difference| depends_on_time(&map.fields[difference.index]));
            if self.course.repair && wanted == Wanted::Values && timed {
                suspects.push((key.clone(), id.clone()));
            } else {
                differing.push((key, link, *record, found));
            }
        }
        for (key, link, record, found) in differing {
            self.differing(source, map, key, link, record, found)?;
        }
        for some in suspects.chunks(HISTORY_MAX) {
            todo.push_back(Ask::Linked(some.to_vec(), Wanted::Times));
        }
        if !missing.is_empty() {
            todo.push_back(Ask::Linked(missing, Wanted::Archived));
        }
        Ok(())
    }

    pub(super) fn differing(
        &mut self,
        source: &Source,
        map: &SourceMap,
        key: &RecordKey,
        link: Link,
        record: &Record,
        found: Vec<Difference>,
    ) -> SpiResult<()> {
        let agreed = link.clock.clone();
        let done = match self.course.repair {
            true => self.repair(source, map, key, link, record, &found)?,
            false => HashMap::new(),
        };
        for difference in found {
            let field = &map.fields[difference.index];
            let repair = match done.get(&field.column) {
                None => Repair::Nothing,
                Some(Done::Written) => Repair::Done("written to the CRM".to_owned()),
                Some(Done::Kept { sent: true }) => {
                    Repair::Done(format!("sent to {}", self.course.target))
                }
                Some(Done::Kept { sent: false }) => {
                    Repair::Refused("the CRM's value stays, and is not sent".to_owned())
                }
                Some(Done::Refused(why)) => Repair::Refused(why.clone()),
            };
            let entry = Found {
                key: Some(key.clone()),
                remote_id: Some(record.id.clone()),
                kind: Kind::Field,
                field: Some(field.remote.clone()),
                crm: difference.crm,
                remote: difference.remote,
                agreed: agreed
                    .get(field.id)
                    .map(|tick| format!("{:016x}", tick.hash.0)),
                repair,
            };
            drift::put(&self.course, &entry)?;
        }
        Ok(())
    }

    fn repair(
        &self,
        source: &Source,
        map: &SourceMap,
        key: &RecordKey,
        link: Link,
        record: &Record,
        found: &[Difference],
    ) -> SpiResult<HashMap<String, Done>> {
        let values: Vec<(String, Option<String>)> = found
            .iter()
            .map(|difference| {
                let name = map.fields[difference.index].remote.clone();
                (name, difference.remote.clone())
            })
            .collect();
        let state = Reported {
            scene: &self.scene,
            source,
            target: self.course.target,
            knowledge: Knowledge::State,
            record: self.record(key),
            link,
            moved: false,
            at: Timestamp(now_ms()),
        };
        let now = Timestamp(now_ms());
        let taken = state.enter(&values, |name| {
            record.written.get(name).copied().unwrap_or(now)
        })?;
        Ok(match taken {
            Taken::Took(done) => done.into_iter().collect(),
            Taken::Moved => found
                .iter()
                .map(|difference| {
                    let column = map.fields[difference.index].column.clone();
                    (
                        column,
                        Done::Refused("the row was being changed".to_owned()),
                    )
                })
                .collect(),
            Taken::Pointless(_) => HashMap::new(),
        })
    }

    /// HubSpot keeps what people delete in its recycle bin for 90 days. What is there was meant to
    /// go; what is not may have been merged.
    fn archived(
        &mut self,
        pairs: &[(RecordKey, RemoteId)],
        asked: &Asked,
        page: &Page,
        todo: &mut VecDeque<Ask>,
    ) -> SpiResult<()> {
        let deleted: HashSet<&str> = page.records.iter().map(|each| each.id.as_str()).collect();
        let keys: Vec<&RecordKey> = pairs.iter().map(|(key, _)| key).collect();
        let still = self.at_rest(&keys, asked.at)?;
        for (key, id) in pairs.iter().filter(|(key, _)| still.contains(key)) {
            if !deleted.contains(id.as_str()) {
                todo.push_back(Ask::Lost(key.clone(), id.clone()));
                continue;
            }
            let repair = match self.course.repair {
                true => Repair::Refused("it was deleted in HubSpot, and stays so".to_owned()),
                false => Repair::Nothing,
            };
            let (id, there) = (id.as_str().to_owned(), "in the recycle bin".to_owned());
            self.put(
                Some(key),
                Some(id),
                Kind::MissingRemote,
                Some(there),
                repair,
            )?;
        }
        Ok(())
    }

    /// A record that is neither there nor in the recycle bin: merged into another one, or gone.
    fn lost(
        &mut self,
        key: &RecordKey,
        id: &RemoteId,
        asked: &Asked,
        record: Option<&Record>,
        todo: &mut VecDeque<Ask>,
    ) -> SpiResult<()> {
        let Some(source) = self.source() else {
            return Ok(());
        };
        let link = links::read(source.id, self.course.target, &[key.as_str()])?
            .remove(key)
            .filter(|link| link.remote_id.as_ref() == Some(id));
        let still = !self.at_rest(&[key], asked.at)?.is_empty();
        let Some(link) = link.filter(|_| still) else {
            return Ok(());
        };
        let Some(record) = record else {
            return self.send_again(key, Some(link), Some(id));
        };
        if record.id == id.as_str() {
            return Ok(());
        }
        let holder = self.holder(&record.id)?;
        let repair = match (self.course.repair, holder) {
            (false, _) => Repair::Nothing,
            (true, Some(other)) => Repair::Refused(format!(
                "record {} is linked to it; the two are one at HubSpot",
                other.key.as_str()
            )),
            (true, None) => {
                let to = RemoteId::from(record.id.as_str());
                let link = Link {
                    remote_id: Some(to.clone()),
                    ..link
                };
                let record = self.record(key);
                links::write(self.course.target, Cause::Noted, &[Entry { record, link }])?;
                todo.push_back(Ask::Linked(vec![(key.clone(), to)], Wanted::Values));
                Repair::Done("linked to the record it was merged into".to_owned())
            }
        };
        let (old, new) = (id.as_str().to_owned(), record.id.clone());
        self.put(Some(key), Some(old), Kind::WrongLink, Some(new), repair)
    }

    /// Who is linked to a record of this kind.
    fn holder(&self, id: &str) -> SpiResult<Option<RecordRef>> {
        let entity = self.source().map(|source| source.entity);
        let found = links::by_remote_id(self.course.target, id)?;
        // Ids are unique within an object type only.
        let of_kind = |record: &RecordRef| {
            let source = self.scene.world.sources.get(&record.source);
            source.map(|source| source.entity) == entity
        };
        Ok(found
            .into_iter()
            .map(|(record, _)| record)
            .find(|record| of_kind(record)))
    }

    /// Records that no row is linked to, or whose row is gone. With `todo`, they are asked for once
    /// more: one that was deleted since the question would be taken for a stranger.
    fn strangers(
        &mut self,
        records: &[Record],
        since: Timestamp,
        todo: Option<&mut VecDeque<Ask>>,
    ) -> SpiResult<()> {
        let Some(source) = self.source() else {
            return Ok(());
        };
        let own = &self.scene.world.settings.hubspot_api.external_id_property;
        let mut unknown = Vec::new();
        for record in records {
            match self.holder(&record.id)? {
                Some(holder) if holder.source != source.id => {}
                Some(holder) => unknown.push((record, Some(holder.key), true)),
                None => {
                    let key = record.properties.get(own);
                    unknown.push((record, key.map(|key| RecordKey::from(key.as_str())), false));
                }
            }
        }
        let keys: Vec<&RecordKey> = unknown
            .iter()
            .filter_map(|(_, key, _)| key.as_ref())
            .collect();
        let there = existing(source, &keys)?;
        let still = self.at_rest(&keys, since)?;
        unknown.retain(|(_, key, linked)| {
            let exists = key.as_ref().is_some_and(|key| there.contains(key));
            key.as_ref().is_none_or(|key| still.contains(key)) && !(*linked && exists)
        });
        if let Some(todo) = todo {
            let ids = unknown
                .iter()
                .map(|(record, ..)| RemoteId::from(record.id.as_str()));
            let ids: Vec<RemoteId> = ids.collect();
            if !ids.is_empty() {
                todo.push_back(Ask::Strangers(ids));
            }
            return Ok(());
        }
        for (record, key, _) in unknown {
            match key.filter(|key| there.contains(key)) {
                Some(key) => self.second(source, &key, record)?,
                None => {
                    let named = record.properties.get(own).cloned();
                    let id = Some(record.id.clone());
                    self.put(None, id, Kind::MissingLocal, named, Repair::Nothing)?;
                }
            }
        }
        Ok(())
    }

    /// A record that carries the key of a row which is not linked to it.
    fn second(&mut self, source: &Source, key: &RecordKey, record: &Record) -> SpiResult<()> {
        let link = links::read(source.id, self.course.target, &[key.as_str()])?.remove(key);
        if link.as_ref().is_some_and(|link| link.remote_id.is_some()) {
            let id = Some(record.id.clone());
            return self.put(Some(key), id, Kind::Duplicate, None, Repair::Nothing);
        }
        drift::unmiss(&self.course, key)?;
        let repair = match self.course.repair {
            false => Repair::Nothing,
            true => {
                let link = Link {
                    remote_id: Some(RemoteId::from(record.id.as_str())),
                    ..link.unwrap_or_default()
                };
                let record = self.record(key);
                links::write(self.course.target, Cause::Noted, &[Entry { record, link }])?;
                self.queue(key);
                Repair::Done("linked to the record that carries its key".to_owned())
            }
        };
        let id = Some(record.id.clone());
        self.put(Some(key), id, Kind::WrongLink, None, repair)
    }
}

/// Of the fields that were asked for.
fn compare(
    map: &SourceMap,
    row: &[Option<String>],
    link: &Link,
    record: &Record,
    names: &[String],
) -> Vec<Difference> {
    differences(
        map,
        row,
        |field| {
            let asked = names.contains(&field.remote);
            asked.then(|| record.properties.get(&field.remote).map(String::as_str))
        },
        |field| link.clock.get(field.id).copied(),
    )
}

/// Which of these rows there are. A key that is none of the table's kind has no row.
fn existing(source: &Source, keys: &[&RecordKey]) -> SpiResult<HashSet<RecordKey>> {
    let read = crate::owner::guarded(std::panic::AssertUnwindSafe(|| {
        source.read_columns(&[], keys)
    }));
    match read {
        Ok(rows) => Ok(rows?.into_keys().collect()),
        // One of them is not even a key: each for itself.
        Err(_) => {
            let mut found = HashSet::new();
            for key in keys {
                let one = std::panic::AssertUnwindSafe(|| source.read_columns(&[], &[*key]));
                if let Ok(rows) = crate::owner::guarded(one) {
                    found.extend(rows?.into_keys());
                }
            }
            Ok(found)
        }
    }
}
