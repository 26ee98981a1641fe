//! Reading the definitions of the properties that are mapped, owners and pipelines.

use std::collections::{BTreeMap, BTreeSet};

pub use crate::lookups::Heard;
use crate::{
    call::{HubSpotSettings, Reply, Request, TransportError},
    lookups::{Lookups, Read, replace},
    mapping::SourceMap,
    record::{Entity, Target},
};

use super::{
    definitions::{self, Catalog, Owners, PIPELINE, STAGE},
    property::told,
};

/// Something that is read from HubSpot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Properties(Entity),
    Owners,
    Pipelines,
}

/// What is known of an account, and what has to be asked for. Times are monotonic microseconds.
#[derive(Clone, Debug, Default)]
pub struct Preflight {
    pub catalog: Catalog,
    lookups: Lookups<Subject>,
    names: BTreeMap<Entity, Vec<String>>,
    /// Pages of owners read so far.
    pages: Owners,
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
            subjects.insert(Subject::Properties(map.entity));
            let known = names.entry(map.entity).or_default();
            known.extend(map.fields.iter().map(|field| field.remote.clone()));
            for field in &map.fields {
                if self.catalog.is_owner(map.entity, field) {
                    subjects.insert(Subject::Owners);
                }
                if map.entity == Entity::Deal && [PIPELINE, STAGE].contains(&field.remote.as_str())
                {
                    subjects.insert(Subject::Pipelines);
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

    /// What is to be asked for now.
    pub fn due(&self, now: u64) -> Option<Subject> {
        self.lookups.due(now)
    }

    /// The request for it, which counts as made.
    pub fn ask(&mut self, subject: Subject, settings: &HubSpotSettings) -> Request {
        let after = self.lookups.ask(&subject);
        match subject {
            Subject::Properties(entity) => definitions::properties_request(settings, entity),
            Subject::Owners => definitions::owners_request(settings, after),
            Subject::Pipelines => definitions::pipelines_request(settings),
        }
    }

    /// Takes in the answer. What cannot be read is gone without: what was known before stays.
    pub fn hear(
        &mut self,
        subject: Subject,
        reply: Result<&Reply, &TransportError>,
        now: u64,
    ) -> Heard {
        let Preflight {
            catalog,
            lookups,
            names,
            pages,
        } = self;
        lookups.hear(Target::HubSpot, &subject, reply, now, told, |body, _| {
            read(catalog, names, pages, subject, body)
        })
    }

    /// A record of this object was refused for what its definitions are, or are thought to be.
    /// Gives whether it is worth planning anew because they are being read again.
    pub fn doubt(&mut self, entity: Entity, now: u64) -> bool {
        self.lookups.doubt(now, |subject| match subject {
            Subject::Properties(other) => *other == entity,
            Subject::Owners => true,
            Subject::Pipelines => entity == Entity::Deal,
        })
    }

    /// Why some of it cannot be read.
    pub fn refusals(&self) -> Vec<String> {
        let refused = self.lookups.refusals().map(|(subject, why)| {
            let what = match subject {
                Subject::Properties(entity) => format!("properties of {}", entity.name()),
                Subject::Owners => "owners".to_owned(),
                Subject::Pipelines => "deal pipelines".to_owned(),
            };
            format!("{what}: {why}")
        });
        refused.collect()
    }
}

fn read(
    catalog: &mut Catalog,
    names: &BTreeMap<Entity, Vec<String>>,
    pages: &mut Owners,
    subject: Subject,
    body: &[u8],
) -> Result<Read, String> {
    let mut lacks = false;
    let changed = match subject {
        Subject::Properties(entity) => {
            let names = names.get(&entity).map_or(&[][..], Vec::as_slice);
            let read = definitions::read_properties(body, names)?;
            lacks = names.iter().any(|name| !read.has(name));
            replace(catalog.objects.entry(entity).or_default(), read)
        }
        Subject::Owners => {
            let (page, after) = definitions::read_owners(body)?;
            pages.0.extend(page.0);
            if let Some(after) = after {
                return Ok(Read::Page(after));
            }
            replace(&mut catalog.owners, Some(std::mem::take(pages).into()))
        }
        Subject::Pipelines => {
            let read = Some(definitions::read_pipelines(body)?.into());
            replace(&mut catalog.pipelines, read)
        }
    };
    Ok(Read::All { changed, lacks })
}
