//! What answers of a comparison with HubSpot come to.

use std::collections::{HashMap, HashSet, VecDeque};

use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::external_id::ExternalIdMeaning;
use integration_engine::record::mapping::SourceMap;
use integration_engine::record::{RecordKey, RecordRef, RemoteId, Timestamp};
use integration_engine::sync::drift::{Difference, Page, Record, depends_on_time, differences};
use integration_hubspot::HubSpot;
use integration_hubspot::listing::{HISTORY_MAX, ListingKind};
use pgrx::spi::SpiResult;

use super::judge::{Judge, judged_rows};
use super::{Ask, Asked};
use crate::store::jobs::drift::{self, DriftKind, Repair};
use crate::store::links::{self, LinkCause};
use crate::store::sources::Source;
use crate::worker::hubspot::adopt::{self, Claim};

impl Judge<'_> {
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
        let still = self.at_rest(&alone, self.apply_context.now.timestamp)?;
        for key in alone.into_iter().filter(|key| still.contains(*key)) {
            self.send_again(key, None, None)?;
        }
        if !pairs.is_empty() {
            todo.push_back(Ask::Linked(pairs, ListingKind::Values));
        }
        Ok(())
    }

    /// The rows' own records: which fields differ, which records are not there.
    pub(super) fn linked(
        &mut self,
        pairs: &[(RecordKey, RemoteId)],
        wanted: ListingKind,
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
        let rows = judged_rows(source, map, &keys);
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
            if self.course.repair && wanted == ListingKind::Values && timed {
                suspects.push((key.clone(), id.clone()));
            } else {
                differing.push((key, link, *record, found));
            }
        }
        for (key, link, record, found) in differing {
            let again = Ask::Linked(
                vec![(key.clone(), RemoteId::from(record.id.as_str()))],
                wanted,
            );
            if self.set_apart(key, DriftKind::Field, again, record) {
                continue;
            }
            self.differing(source, map, key, link, record, found)?;
        }
        for some in suspects.chunks(HISTORY_MAX) {
            todo.push_back(Ask::Linked(some.to_vec(), ListingKind::Times));
        }
        if !missing.is_empty() {
            todo.push_back(Ask::Linked(missing, ListingKind::Archived));
        }
        Ok(())
    }

    /// HubSpot keeps what people delete in its recycle bin for 90 days. What is there was meant to
    /// go; what is not may have been merged.
    pub(super) fn archived(
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
                DriftKind::MissingRemote,
                Some(there),
                repair,
            )?;
        }
        Ok(())
    }

    /// A record that is neither there nor in the recycle bin: merged into another one, or gone.
    pub(super) fn lost(
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
        let to = RemoteId::from(record.id.as_str());
        let repair = match self.course.repair {
            false => Repair::Nothing,
            true => self.follow(key, link, to, todo)?,
        };
        let (old, new) = (id.as_str().to_owned(), record.id.clone());
        self.put(
            Some(key),
            Some(old),
            DriftKind::WrongLink,
            Some(new),
            repair,
        )
    }

    /// Links a row to the record that its own was merged into, unless that is another row's.
    fn follow(
        &self,
        key: &RecordKey,
        link: Link,
        to: RemoteId,
        todo: &mut VecDeque<Ask>,
    ) -> SpiResult<Repair> {
        let (context, record) = (self.apply_context.context, self.record(key));
        Ok(match adopt::claim(context, &record, &to, [].iter())? {
            Claim::Kept(holder, other) => {
                let holder = (&holder.record, other.as_str());
                Repair::Refused(adopt::give_up_merged(context, &record, &to, holder)?)
            }
            Claim::Leaving(other) => Repair::Refused(format!(
                "record {other} is linked to it, whose row is gone; compare once that is known there"
            )),
            Claim::Free => {
                let link = Link {
                    remote_id: Some(to.clone()),
                    ..link
                };
                links::write(
                    self.course.target,
                    LinkCause::Noted,
                    &[LinkEntry { record, link }].into(),
                )?;
                todo.push_back(Ask::Linked(vec![(key.clone(), to)], ListingKind::Values));
                Repair::Done("linked to the record it was merged into".to_owned())
            }
        })
    }

    /// Who is linked to a record of this kind.
    fn holder(&self, id: &str) -> SpiResult<Option<RecordRef>> {
        let entity = self.source().map(|source| source.entity);
        let found = links::by_remote_id(self.course.target, id)?;
        // Ids are unique within an object type only.
        let of_kind = |record: &RecordRef| {
            let source = self.apply_context.context.sources.get(&record.source);
            source.map(|source| source.entity) == entity
        };
        Ok(found
            .into_iter()
            .map(|(record, _)| record)
            .find(|record| of_kind(record)))
    }

    /// Records that no row is linked to, or whose row is gone. With `todo`, they are asked for once
    /// more: one that was deleted since the question would be taken for a stranger.
    pub(super) fn strangers(
        &mut self,
        records: &[Record],
        since: Timestamp,
        todo: Option<&mut VecDeque<Ask>>,
    ) -> SpiResult<()> {
        let Some(source) = self.source() else {
            return Ok(());
        };
        let own = &self
            .apply_context
            .context
            .settings
            .hubspot_api
            .external_id_property;
        let mut unknown = Vec::new();
        for record in records {
            match self.holder(&record.id)? {
                Some(holder) if holder.source != source.id => {}
                Some(holder) => unknown.push((record, Some(holder.key), true)),
                None => match self.meaning(record.properties.get(own)) {
                    Some(ExternalIdMeaning::Key(key)) => unknown.push((record, Some(key), false)),
                    Some(ExternalIdMeaning::Hashed | ExternalIdMeaning::Foreign) => {
                        unknown.push((record, None, false))
                    }
                    None => {}
                },
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
                    self.put(None, id, DriftKind::MissingLocal, named, Repair::Nothing)?;
                }
            }
        }
        Ok(())
    }

    /// What a record's value of the unique property says to the table. `None`: it is another one's.
    fn meaning(&self, held: Option<&String>) -> Option<ExternalIdMeaning> {
        let held = held.map_or("", String::as_str);
        let source = self.source()?;
        let of = |source: &Source| {
            let map = source.maps.get(&self.course.target);
            map.map_or(ExternalIdMeaning::Foreign, |map| {
                map.external_ids.meaning(held)
            })
        };
        let mine = of(source);
        let others = self.apply_context.context.sources.values();
        let mut others = others.filter(|other| {
            let bare = |map: &SourceMap| map.external_ids.prefix.is_empty();
            let map = other.maps.get(&self.course.target);
            other.id != source.id && other.entity == source.entity && !map.is_none_or(bare)
        });
        let is_anothers = others.any(|other| of(other) != ExternalIdMeaning::Foreign);
        (!is_anothers).then_some(mine)
    }

    /// A record that carries the key of a row which is not linked to it.
    fn second(&mut self, source: &Source, key: &RecordKey, record: &Record) -> SpiResult<()> {
        let link = links::read(source.id, self.course.target, &[key.as_str()])?.remove(key);
        if link.as_ref().is_some_and(|link| link.remote_id.is_some()) {
            let id = Some(record.id.clone());
            return self.put(Some(key), id, DriftKind::Duplicate, None, Repair::Nothing);
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
                links::write(
                    self.course.target,
                    LinkCause::Noted,
                    &[LinkEntry { record, link }].into(),
                )?;
                self.queue(key);
                Repair::Done("linked to the record that carries its key".to_owned())
            }
        };
        let id = Some(record.id.clone());
        self.put(Some(key), id, DriftKind::WrongLink, None, repair)
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
    differences::<HubSpot>(
        map,
        row,
        |field| {
            let asked = names.contains(&field.remote);
            asked.then(|| record.properties.get(&field.remote).map(String::as_str))
        },
        |field| link.clock.agreed(field.id),
    )
}

/// Which of these rows there are. A key that is none of the table's kind has no row.
fn existing(source: &Source, keys: &[&RecordKey]) -> SpiResult<HashSet<RecordKey>> {
    Ok(source
        .existing(keys)
        .unwrap_or_else(|refusal| refusal.raise()))
}
