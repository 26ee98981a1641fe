//! When to read definitions, owners and pipelines, and how far to trust them.
//!
//! They are read once for the fields that are mapped, and again when a value or an answer casts
//! doubt on them. A doubt that proves unfounded is not followed again at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    call::{HubSpotSettings, Reply, Request, TransportError},
    failure::{Class, classify},
    mapping::SourceMap,
    record::{Entity, Target},
};

use super::{
    definitions::{self, Catalog, Owners, PIPELINE, STAGE},
    property::told,
};

/// After a doubt that proved unfounded, what was read counts as true for so long (microseconds).
const TRUSTED: u64 = 5_000_000;
/// What could not be read, or lacked something, is asked for again so much later, if there is work
/// then.
const AGAIN: u64 = 60_000_000;

/// Something that is read from HubSpot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Properties(Entity),
    Owners,
    Pipelines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Asked,
    Settled,
}

#[derive(Clone, Debug)]
struct Lookup {
    state: State,
    /// Doubts before then change nothing.
    trusted_until: u64,
    /// It could not be read, or something that is mapped was not there.
    again_at: Option<u64>,
    /// Why it could not be read.
    refused: Option<String>,
    /// Where the next page begins.
    after: Option<String>,
}

impl Lookup {
    const NEW: Lookup = Lookup {
        state: State::Wanted,
        trusted_until: 0,
        again_at: None,
        refused: None,
        after: None,
    };
}

/// What an answer has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Maps have to be refined anew, or there is something to tell.
    News,
    Nothing,
    /// The target as a whole cannot answer now: it says itself when it will be asked again.
    Later,
}

/// See the module's documentation. Times are monotonic microseconds.
#[derive(Clone, Debug, Default)]
pub struct Preflight {
    pub catalog: Catalog,
    lookups: BTreeMap<Subject, Lookup>,
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
        self.lookups.retain(|subject, _| subjects.contains(subject));
        for (entity, names) in &mut names {
            names.sort_unstable();
            names.dedup();
            if self.names.get(entity) != Some(names) {
                // Read for other names, it would say of the new ones that they do not exist.
                self.catalog.objects.remove(entity);
                self.lookups
                    .insert(Subject::Properties(*entity), Lookup::NEW);
            }
        }
        self.names = names;
        for subject in subjects {
            self.lookups.entry(subject).or_insert(Lookup::NEW);
        }
    }

    /// Somebody may have put right what was refused or lacking: it is asked for again.
    pub fn recheck(&mut self) {
        for lookup in self.lookups.values_mut() {
            if lookup.again_at.take().is_some() {
                lookup.state = State::Wanted;
            }
        }
    }

    /// Whether all that is needed has been read, or cannot be.
    pub fn is_known(&self) -> bool {
        self.lookups
            .values()
            .all(|lookup| lookup.state == State::Settled)
    }

    /// What is to be asked for now.
    pub fn due(&self, now: u64) -> Option<Subject> {
        let is_due = |lookup: &Lookup| match lookup.state {
            State::Wanted => true,
            State::Asked => false,
            State::Settled => lookup.again_at.is_some_and(|at| at <= now),
        };
        let mut due = self.lookups.iter().filter(|(_, lookup)| is_due(lookup));
        due.next().map(|(subject, _)| *subject)
    }

    /// The request for it, which counts as made.
    pub fn ask(&mut self, subject: Subject, settings: &HubSpotSettings) -> Request {
        let lookup = self.lookups.entry(subject).or_insert(Lookup::NEW);
        lookup.state = State::Asked;
        match subject {
            Subject::Properties(entity) => definitions::properties_request(settings, entity),
            Subject::Owners => definitions::owners_request(settings, lookup.after.as_deref()),
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
        // Nobody needs it any more, or something else by now: then it is asked for again.
        let asked = self.lookups.get(&subject).map(|lookup| lookup.state);
        if asked != Some(State::Asked) {
            return Heard::Nothing;
        }
        let read = match (classify(Target::HubSpot, reply), reply) {
            (Class::Answered, Ok(reply)) => self.read(subject, &reply.body),
            (class, Ok(reply)) if reply.status == 403 => Err(told(&class, Some(reply))),
            (
                Class::Throttled { .. }
                | Class::DailyLimit { .. }
                | Class::Crowded { .. }
                | Class::Unauthorized { .. },
                _,
            )
            | (_, Err(TransportError::Connect(_))) => {
                self.want(subject, None);
                return Heard::Later;
            }
            (class, reply) => Err(told(&class, reply.ok())),
        };
        let (trusted_until, refused, changed) = match read {
            Ok(Read::Page(after)) => {
                self.want(subject, Some(after));
                return Heard::Nothing;
            }
            Ok(Read::Changed) => (0, None, true),
            Ok(Read::Same) => (now + TRUSTED, None, false),
            Err(why) => (now + AGAIN, Some(why), false),
        };
        let incomplete = refused.is_some() || self.lacks(subject);
        let lookup = self.lookups.entry(subject).or_insert(Lookup::NEW);
        let news = changed || lookup.refused != refused;
        *lookup = Lookup {
            state: State::Settled,
            trusted_until,
            again_at: incomplete.then_some(now + AGAIN),
            refused,
            after: None,
        };
        if news { Heard::News } else { Heard::Nothing }
    }

    fn want(&mut self, subject: Subject, after: Option<String>) {
        let lookup = self.lookups.entry(subject).or_insert(Lookup::NEW);
        lookup.state = State::Wanted;
        lookup.after = after;
    }

    /// Whether something that is mapped is not there.
    fn lacks(&self, subject: Subject) -> bool {
        let Subject::Properties(entity) = subject else {
            return false;
        };
        let (known, names) = (self.catalog.objects.get(&entity), self.names.get(&entity));
        known
            .zip(names)
            .is_some_and(|(known, names)| names.iter().any(|name| !known.has(name)))
    }

    fn read(&mut self, subject: Subject, body: &[u8]) -> Result<Read, String> {
        let changed = match subject {
            Subject::Properties(entity) => {
                let names = self.names.get(&entity).map_or(&[][..], Vec::as_slice);
                let read = definitions::read_properties(body, names)?;
                replace(self.catalog.objects.entry(entity).or_default(), read)
            }
            Subject::Owners => {
                let (page, after) = definitions::read_owners(body)?;
                self.pages.0.extend(page.0);
                if let Some(after) = after {
                    return Ok(Read::Page(after));
                }
                let read = Some(std::mem::take(&mut self.pages).into());
                replace(&mut self.catalog.owners, read)
            }
            Subject::Pipelines => {
                let read = Some(definitions::read_pipelines(body)?.into());
                replace(&mut self.catalog.pipelines, read)
            }
        };
        Ok(if changed { Read::Changed } else { Read::Same })
    }

    /// A record of this object was refused for what its definitions are, or are thought to be.
    /// Gives whether it is worth planning anew because they are being read again.
    pub fn doubt(&mut self, entity: Entity, now: u64) -> bool {
        let mut again = false;
        for (subject, lookup) in &mut self.lookups {
            let concerned = match subject {
                Subject::Properties(other) => *other == entity,
                Subject::Owners => true,
                Subject::Pipelines => entity == Entity::Deal,
            };
            if concerned && lookup.state == State::Settled && lookup.trusted_until <= now {
                lookup.state = State::Wanted;
            }
            again |= concerned && lookup.state != State::Settled;
        }
        again
    }

    /// Why some of it cannot be read.
    pub fn refusals(&self) -> Vec<String> {
        let refused = self.lookups.iter().filter_map(|(subject, lookup)| {
            let what = match subject {
                Subject::Properties(entity) => format!("properties of {}", entity.name()),
                Subject::Owners => "owners".to_owned(),
                Subject::Pipelines => "deal pipelines".to_owned(),
            };
            lookup.refused.as_ref().map(|why| format!("{what}: {why}"))
        });
        refused.collect()
    }
}

enum Read {
    Changed,
    Same,
    /// There is more, from here on.
    Page(String),
}

fn replace<T: PartialEq>(known: &mut T, read: T) -> bool {
    let changed = *known != read;
    *known = read;
    changed
}
