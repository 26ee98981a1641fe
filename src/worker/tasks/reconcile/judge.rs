//! What answers of a comparison come to: differences, what is done about them, what to ask next.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use integration_engine::delivery::call::Link;
use integration_engine::delivery::settlement::LinkEntry;
use integration_engine::record::mapping::SourceMap;
use integration_engine::record::{Lane, RecordKey, RecordRef, RemoteId, Target, Timestamp};
use integration_engine::service::failure::Class;
use integration_engine::sync::drift::{Difference, Page, Record};
use integration_engine::wire::{Reply, TransportError};
use integration_hubspot::listing::{self, ListingKind};
use integration_mailchimp as mailchimp;
use integration_mailchimp::listing::MembersCursor;
use pgrx::spi::SpiResult;

use super::repairs::RepairRead;
use super::{Advance, Ask, Asked, walk};
use crate::capture;
use crate::inbound::ApplyContext;
use crate::inbound::fields::{FieldOutcome, Knowledge, Reported, Taken};
use crate::services;
use crate::store::crm::reading::Rows;
use crate::store::jobs::drift::{self, Course, DriftKind, DriftRow, ReconcileStage, Repair};
use crate::store::links;
use crate::store::queue::withheld;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::target::TargetWorker;

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
    place: &MembersCursor,
    default: &str,
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
    let class = services::classify(target, result.as_ref());
    let lost = matches!(asked.ask, Ask::Lost(..) | Ask::LostMember(..));
    let listed = matches!(asked.ask, Ask::Page | Ask::PageAgain(_)) && place.list != default;
    match (class, result) {
        // An audience of former days that is not there any more has no members.
        (Class::NotFound, _) if lost || (listed && target == Target::Mailchimp) => {
            Understood::Answer(asked, Page::default())
        }
        (Class::Answered, Ok(reply)) => {
            let alone = |record| Page {
                records: vec![record],
                after: None,
            };
            let page = match (target, lost) {
                (Target::HubSpot, true) => listing::read_single(reply).map(alone),
                (Target::HubSpot, false) => listing::read_page(reply),
                (Target::Mailchimp, true) => mailchimp::listing::read_member(reply).map(alone),
                (Target::Mailchimp, false) => mailchimp::listing::read_page(reply, place.offset),
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
        (Class::Forbidden { why }, _) => Understood::Refused(why),
        (_, Err(TransportError::TooLarge(_))) => {
            Understood::Refused("a record is too large to be read".to_owned())
        }
        _ => Understood::Later,
    }
}

/// Rows that are judged: those that cannot be read are left out. An SQL error if none can. Read by
/// the snapshot that the queue was read by: what is newer is in nobody's queue yet.
pub(super) fn judged_rows(source: &Source, map: &SourceMap, keys: &[&RecordKey]) -> Rows {
    let reading = source.read_by_snapshot(map, keys);
    reading.unwrap_or_else(|refusal| refusal.raise()).rows
}

/// How records are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Many at once: those that are to be repaired in the CRM are set apart.
    Together,
    /// One, for the last time perhaps.
    Alone { last: bool },
}

/// Judges by what the tables say at one moment.
pub(super) struct Judge<'a> {
    pub(super) apply_context: ApplyContext<'a>,
    pub(super) course: Course,
    /// Records whose remote record is gone.
    pub(super) unlinked: Vec<RecordRef>,
    pub(super) manner: Manner,
    /// The fields that were asked for, and when.
    pub(super) asked: Option<(Vec<String>, Timestamp)>,
    /// Records that are to be repaired.
    pub(super) apart: Vec<RepairRead>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        context: &'a Context,
        targets: &'a [TargetWorker],
        course: Course,
    ) -> Judge<'a> {
        Judge {
            apply_context: ApplyContext::new(context.now, context, targets),
            course,
            unlinked: Vec::new(),
            manner: Manner::Together,
            asked: None,
            apart: Vec::new(),
        }
    }

    pub(super) fn source(&self) -> Option<&'a Source> {
        self.apply_context.context.sources.get(&self.course.source)
    }

    pub(super) fn mapped(&self) -> Option<(&'a Source, &'a SourceMap)> {
        let source = self.source()?;
        Some((source, source.maps.get(&self.course.target)?))
    }

    /// Mailchimp's audiences that records are in.
    fn audiences(&self) -> Vec<String> {
        let mut workers = self.apply_context.targets.iter();
        workers
            .find(|worker| worker.target == Target::Mailchimp)
            .map(|worker| walk::audiences(worker, self.apply_context.context))
            .unwrap_or_default()
    }

    /// Where the walk through Mailchimp's members is.
    fn place(&self) -> MembersCursor {
        MembersCursor::read(self.course.after.as_deref(), &self.audiences())
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
            .apply_context
            .targets
            .iter()
            .find(|worker| worker.target == self.course.target)
            .map(|worker| &worker.queue);
        let texts: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
        let (source, target) = (self.course.source, self.course.target);
        let mut moving = drift::moving(source, target, &texts, since)?;
        if self.apply_context.context.withheld {
            // What was erased, or deleted there on purpose, is not missing.
            moving.extend(withheld::among(source, target, &texts)?);
        }
        let waits = |key: &RecordKey| {
            queue.is_some_and(|queue| queue.changed_at(&self.record(key)).is_some())
        };
        let still = keys
            .iter()
            .filter(|key| !moving.contains(**key) && !waits(key));
        Ok(still.map(|key| (*key).clone()).collect())
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
                if let Some(link) = link {
                    let record = self.record(key);
                    self.unlinked.push(record.clone());
                    self.unlink(record, link)?;
                }
                self.queue(key);
                Repair::Done(format!("sent to {}", self.course.target))
            }
        };
        let id = id.map(|id| id.as_str().to_owned());
        self.put(Some(key), id, DriftKind::MissingRemote, None, repair)
    }

    fn unlink(&self, record: RecordRef, link: Link) -> SpiResult<()> {
        let Some(link) = link.forgotten() else {
            return links::remove(self.course.target, &[record]);
        };
        let entry = LinkEntry { record, link };
        links::write(self.course.target, links::LinkCause::Noted, &[entry].into())
    }

    pub(super) fn queue(&self, key: &RecordKey) {
        let target = self.course.target;
        capture::enqueue(target, self.course.source, Lane::Reconcile, [key.as_str()]);
    }

    pub(super) fn put(
        &self,
        key: Option<&RecordKey>,
        remote_id: Option<String>,
        kind: DriftKind,
        remote: Option<String>,
        repair: Repair,
    ) -> SpiResult<()> {
        let found = DriftRow {
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

    /// Judges an answer. Returns where the walk goes on after a page.
    pub(super) fn answer(
        &mut self,
        asked: Asked,
        page: Page,
        todo: &mut VecDeque<Ask>,
    ) -> SpiResult<Option<Advance>> {
        self.asked = Some((asked.names.clone(), asked.at));
        match &asked.ask {
            Ask::Linked(pairs, ListingKind::Archived) => {
                self.archived(pairs, &asked, &page, todo)?
            }
            Ask::Linked(pairs, wanted) => self.linked(pairs, *wanted, &asked, &page, todo)?,
            Ask::LostMember(key, id, list) => {
                self.lost_member(key, id, list, &asked, page.records.first())?;
            }
            Ask::PageAgain(ids) => {
                let list = self.place().list;
                self.members(&list, &page.records, asked.at, Some(ids), None)?;
            }
            Ask::Lost(key, id) => self.lost(key, id, &asked, page.records.first(), todo)?,
            Ask::Strangers(_) => self.strangers(&page.records, asked.at, None)?,
            Ask::Page => {
                let place = self.place();
                match self.course.target {
                    Target::HubSpot => self.strangers(&page.records, asked.at, Some(todo))?,
                    Target::Mailchimp => {
                        self.members(&place.list, &page.records, asked.at, None, Some(todo))?;
                    }
                }
                let after = match self.course.target {
                    Target::HubSpot => page.after,
                    Target::Mailchimp => place.next(page.after.as_deref(), &self.audiences()),
                };
                return Ok(Some(Advance {
                    stage: match (&after, self.course.target, self.course.stage) {
                        (Some(_), _, stage) => stage,
                        (None, Target::HubSpot, _) => ReconcileStage::Finished,
                        (None, Target::Mailchimp, ReconcileStage::Remote) => {
                            ReconcileStage::Archived
                        }
                        (None, Target::Mailchimp, _) => ReconcileStage::Rows,
                    },
                    mark: None,
                    after,
                    looked_at: page.records.len() as u64,
                }));
            }
        }
        Ok(None)
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
                Some(FieldOutcome::Written) => Repair::Done("written to the CRM".to_owned()),
                Some(FieldOutcome::Kept { sent: true }) => {
                    Repair::Done(format!("sent to {}", self.course.target))
                }
                Some(FieldOutcome::Kept { sent: false }) => {
                    Repair::Refused("the CRM's value stays, and is not sent".to_owned())
                }
                Some(FieldOutcome::Refused(why)) => Repair::Refused(why.text.clone()),
                Some(FieldOutcome::Unreadable(why)) => Repair::Refused(why.clone()),
            };
            let entry = DriftRow {
                key: Some(key.clone()),
                remote_id: Some(record.id.clone()),
                kind: DriftKind::Field,
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
    ) -> SpiResult<HashMap<String, FieldOutcome>> {
        let values: Vec<(String, Option<String>)> = found
            .iter()
            .map(|difference| {
                let name = map.fields[difference.index].remote.clone();
                (name, difference.remote.clone())
            })
            .collect();
        let state = Reported {
            apply_context: &self.apply_context,
            source,
            target: self.course.target,
            knowledge: Knowledge::State,
            record: self.record(key),
            link,
            moved: false,
            at: self.apply_context.now.timestamp,
        };
        let now = self.apply_context.now.timestamp;
        let taken = state.enter(&values, |name| {
            record.written.get(name).copied().unwrap_or(now)
        })?;
        if let Taken::Refused(why) = &taken {
            self.unless_in_vain(why);
        }
        self.apply_context.raise_alerts(self.course.target)?;
        Ok(match taken {
            Taken::Took(done) => done.into_iter().collect(),
            Taken::Refused(why) => found
                .iter()
                .map(|difference| {
                    let column = map.fields[difference.index].column.clone();
                    (column, FieldOutcome::Refused(why.clone()))
                })
                .collect(),
            Taken::Pointless(_) => HashMap::new(),
        })
    }
}
