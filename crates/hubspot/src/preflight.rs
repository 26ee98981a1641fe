//! Reading the definitions of the properties that are mapped, owners and pipelines.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::HubSpot;
use crate::HubSpotSettings;
pub use integration_engine::definitions::LookupResult;
use integration_engine::{
    definitions::{Lookups, Read, Unread, replace},
    record::{Entity, field_type::Owners, mapping::SourceMap},
    wire::{Reply, Request, TransportError},
};

use super::{
    definitions::{self, Definitions, PortalDefinitions, Sensitivity},
    objects,
    property::told,
    schema,
};

/// Something that is read from HubSpot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Of a custom object. First: without it there is nothing to ask for.
    Schema(Entity),
    Properties(Entity),
    Owners,
    Pipelines(Entity),
}

/// What is known of an account, and what has to be asked for. Times are monotonic microseconds.
#[derive(Clone, Debug, Default)]
pub struct Preflight {
    pub catalog: PortalDefinitions,
    lookups: Lookups<Subject>,
    names: BTreeMap<Entity, Vec<String>>,
    pages: Pages,
}

/// What has been read so far of what takes several answers.
#[derive(Clone, Debug, Default)]
struct Pages {
    owners: Owners,
    properties: BTreeMap<Entity, Definitions>,
}

impl Preflight {
    /// Another account, perhaps: nothing is known.
    pub fn forget(&mut self) {
        *self = Preflight::default();
    }

    /// Takes note of what is mapped. What is needed and has not been read will be asked for.
    pub fn expect<'a>(&mut self, maps: impl Iterator<Item = &'a SourceMap>) {
        let mut subjects = BTreeSet::new();
        let mut names: BTreeMap<Entity, Vec<String>> = BTreeMap::new();
        for map in maps {
            if objects::is_custom(map.entity) {
                subjects.insert(Subject::Schema(map.entity));
            }
            if !self.catalog.is_there(map.entity) {
                continue;
            }
            subjects.insert(Subject::Properties(map.entity));
            let known = names.entry(map.entity).or_default();
            known.extend(map.fields.iter().map(|field| field.remote.clone()));
            for field in &map.fields {
                if self.catalog.is_owner(map.entity, field) {
                    subjects.insert(Subject::Owners);
                }
                let pipeline = objects::of(map.entity).pipeline;
                if pipeline.is_some_and(|names| names.has(&field.remote)) {
                    subjects.insert(Subject::Pipelines(map.entity));
                }
            }
        }
        self.lookups.expect(subjects);
        for (entity, names) in &mut names {
            names.sort_unstable();
            names.dedup();
            if self.names.get(entity) != Some(names) {
                // Read for other names, it would say of the new ones that they do not exist.
                self.catalog.objects.remove(entity);
                self.lookups.renew(Subject::Properties(*entity));
            }
        }
        self.names = names;
    }

    /// Somebody may have put right what was refused or lacking: it is asked for again.
    pub fn recheck(&mut self) {
        self.lookups.recheck();
    }

    /// Whether all that is needed has been read, or cannot be.
    pub fn is_known(&self) -> bool {
        self.lookups.is_known()
    }

    /// Why nothing can be sent of a custom object; `None`: something can, or HubSpot is being asked.
    pub fn refused(&self, entity: Entity) -> Option<&str> {
        let settled = self.lookups.is_settled(&Subject::Schema(entity));
        let why = self.catalog.refused.get(&entity);
        why.map(String::as_str).filter(|_| settled == Some(true))
    }

    /// What is to be asked for now.
    pub fn due(&self, now: u64) -> Option<Subject> {
        self.lookups.due(now)
    }

    /// The request for it, which counts as made.
    pub fn ask(&mut self, subject: Subject, settings: &HubSpotSettings) -> Request {
        let after = self.lookups.ask(&subject);
        match subject {
            Subject::Properties(entity) => {
                let list = after.and_then(Sensitivity::from_name);
                definitions::properties_request(settings, entity, list)
            }
            Subject::Schema(entity) => schema::request(settings, entity),
            Subject::Owners => definitions::owners_request(settings, after),
            Subject::Pipelines(entity) => definitions::pipelines_request(settings, entity),
        }
    }

    /// Takes in the answer. What cannot be read is gone without: what was known before stays.
    pub fn hear(
        &mut self,
        subject: Subject,
        reply: Result<&Reply, &TransportError>,
        now: u64,
    ) -> LookupResult {
        let Preflight {
            catalog,
            lookups,
            names,
            pages,
        } = self;
        let read = |answer: Result<&[u8], Unread>, after: Option<&str>| match subject {
            Subject::Properties(entity) => {
                let names = names.get(&entity).map_or(&[][..], Vec::as_slice);
                let pages = pages.properties.entry(entity).or_default();
                let list = after.and_then(Sensitivity::from_name);
                let (lacks, all) = match read_properties(pages, names, answer, list)? {
                    Listing::Next(list) => return Ok(Read::Page(list.name().to_owned())),
                    Listing::End { lacks, all } => (lacks, all),
                };
                let changed = replace(catalog.objects.entry(entity).or_default(), all);
                Ok(Read::All { changed, lacks })
            }
            Subject::Schema(entity) => read_schema(catalog, entity, answer),
            Subject::Owners => read_owners(catalog, &mut pages.owners, whole(answer)?),
            Subject::Pipelines(entity) => {
                let read = definitions::read_pipelines(whole(answer)?)?;
                let read = Arc::new(read);
                let known = catalog.pipelines.insert(entity, read.clone());
                Ok(Read::All {
                    changed: known.as_ref() != Some(&read),
                    lacks: false,
                })
            }
        };
        lookups.hear::<HubSpot>(&subject, reply, now, told, read)
    }

    /// A record of this object was refused for what its definitions are, or are thought to be.
    /// Returns whether it is worth planning anew because they are being read again.
    pub fn doubt(&mut self, entity: Entity, now: u64) -> bool {
        self.lookups.doubt(now, |subject| match subject {
            Subject::Schema(other) | Subject::Properties(other) | Subject::Pipelines(other) => {
                *other == entity
            }
            Subject::Owners => true,
        })
    }

    /// Why some of it cannot be read.
    pub fn refusals(&self) -> Vec<String> {
        let refused = self.lookups.refusals().map(|(subject, why)| {
            let what = match subject {
                Subject::Properties(entity) => format!("properties of {}", entity.name()),
                Subject::Schema(entity) => format!("schema of {}", entity.name()),
                Subject::Owners => "owners".to_owned(),
                Subject::Pipelines(entity) => format!("{} pipelines", entity.name()),
            };
            format!("{what}: {why}")
        });
        refused.collect()
    }
}

fn whole(answer: Result<&[u8], Unread>) -> Result<&[u8], String> {
    answer.map_err(|unread| unread.why)
}

/// Reads what a custom object is like. One that HubSpot does not have, or does not show, is asked for
/// again later.
fn read_schema(
    catalog: &mut PortalDefinitions,
    entity: Entity,
    answer: Result<&[u8], Unread>,
) -> Result<Read, String> {
    let (status, why) = match answer {
        Ok(body) => match schema::read(body)? {
            Some(schema) => {
                objects::learn(entity, &schema.type_id);
                let known = catalog.schemas.get(&entity) == Some(&schema);
                let changed = catalog.refused.remove(&entity).is_some() || !known;
                if !known {
                    // Those of one that was deleted, perhaps.
                    catalog.objects.remove(&entity);
                }
                catalog.schemas.insert(entity, schema);
                return Ok(Read::All {
                    changed,
                    lacks: false,
                });
            }
            None => (None, String::new()),
        },
        Err(unread) if matches!(unread.status, Some(400 | 403 | 404)) => {
            (unread.status, unread.why)
        }
        Err(unread) => return Err(unread.why),
    };
    let why = schema::refusal(entity, status, &why);
    catalog.refused.insert(entity, why);
    // While it was asked for, it did not count as refused.
    Ok(Read::All {
        changed: true,
        lacks: true,
    })
}

/// What is known after one of the lists of an object's properties.
enum Listing {
    /// Something is missing that another list may have.
    Next(Sensitivity),
    End {
        lacks: bool,
        all: Definitions,
    },
}

/// Reads one of the lists of an object's properties. HubSpot leaves sensitive ones out of the usual
/// one: what is missing there is looked for in theirs.
fn read_properties(
    pages: &mut Definitions,
    names: &[String],
    answer: Result<&[u8], Unread>,
    list: Option<Sensitivity>,
) -> Result<Listing, String> {
    match (list, answer) {
        (None, Ok(body)) => *pages = definitions::read_properties(body, names)?,
        (Some(_), Ok(body)) => pages.add(definitions::read_sensitive(body, names)?),
        (Some(list), Err(unread)) if unread.status == Some(403) => pages.hide(list),
        // An account, or an object, that has none of them.
        (Some(_), Err(unread)) if matches!(unread.status, Some(400 | 404)) => {}
        (_, Err(unread)) => return Err(unread.why),
    }
    let lacks = names.iter().any(|name| !pages.has(name));
    Ok(match Sensitivity::after(list).filter(|_| lacks) {
        Some(next) => Listing::Next(next),
        None => Listing::End {
            lacks,
            all: std::mem::take(pages),
        },
    })
}

/// Reads a page of owners.
fn read_owners(
    catalog: &mut PortalDefinitions,
    pages: &mut Owners,
    body: &[u8],
) -> Result<Read, String> {
    let (page, after) = definitions::read_owners(body)?;
    pages.0.extend(page.0);
    if let Some(after) = after {
        return Ok(Read::Page(after));
    }
    let read = Some(std::mem::take(pages).into());
    Ok(Read::All {
        changed: replace(&mut catalog.owners, read),
        lacks: false,
    })
}
