//! When to read what a service says of itself (definitions, and what belongs to them), and how far
//! to trust it.
//!
//! It is read once, and again when a value or an answer casts doubt on it. A doubt that proves
//! unfounded is not followed again at once. What cannot be read is gone without.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    service::{
        Service,
        failure::{Class, classify},
    },
    wire::{Reply, TransportError},
};

/// After a doubt that proved unfounded, what was read counts as true for so long (microseconds).
const TRUSTED: u64 = 5_000_000;
/// What could not be read, or lacked something, is asked for again so much later, if there is work
/// then.
const AGAIN: u64 = 60_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LookupState {
    Wanted,
    Asked,
    Settled,
}

#[derive(Clone, Debug)]
struct Lookup {
    state: LookupState,
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
        state: LookupState::Wanted,
        trusted_until: 0,
        again_at: None,
        refused: None,
        after: None,
    };
}

/// What an answer has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// Maps have to be refined anew, or there is something to tell.
    News,
    Nothing,
    /// The target as a whole cannot answer now: it says itself when it will be asked again.
    Later,
}

/// Why there is nothing to read.
pub struct Unread {
    pub status: Option<u16>,
    /// In words.
    pub why: String,
}

/// What an answer held.
pub enum Read {
    /// All of it. `lacks`: something that is mapped is not there.
    All { changed: bool, lacks: bool },
    /// There is more, from here on.
    Page(String),
}

/// See the module's documentation. `S` is something that is read. Times are monotonic microseconds.
#[derive(Clone, Debug)]
pub struct Lookups<S>(BTreeMap<S, Lookup>);

impl<S> Default for Lookups<S> {
    fn default() -> Self {
        Lookups(BTreeMap::new())
    }
}

impl<S: Ord + Clone> Lookups<S> {
    /// Just these are needed. What has not been read will be asked for.
    pub fn expect(&mut self, subjects: BTreeSet<S>) {
        self.0.retain(|subject, _| subjects.contains(subject));
        for subject in subjects {
            self.0.entry(subject).or_insert(Lookup::NEW);
        }
    }

    /// As if it had never been read.
    pub fn renew(&mut self, subject: S) {
        self.0.insert(subject, Lookup::NEW);
    }

    /// Somebody may have put right what was refused or lacking: it is asked for again.
    pub fn recheck(&mut self) {
        for lookup in self.0.values_mut() {
            if lookup.again_at.take().is_some() {
                lookup.state = LookupState::Wanted;
            }
        }
    }

    /// Whether all that is needed has been read, or cannot be.
    pub fn is_known(&self) -> bool {
        self.0
            .values()
            .all(|lookup| lookup.state == LookupState::Settled)
    }

    /// Whether one has been read, or cannot be. `None`: it is not needed.
    pub fn is_settled(&self, subject: &S) -> Option<bool> {
        let lookup = self.0.get(subject)?;
        Some(lookup.state == LookupState::Settled)
    }

    /// What is to be asked for now.
    pub fn due(&self, now: u64) -> Option<S> {
        let is_due = |lookup: &Lookup| match lookup.state {
            LookupState::Wanted => true,
            LookupState::Asked => false,
            LookupState::Settled => lookup.again_at.is_some_and(|at| at <= now),
        };
        let mut due = self.0.iter().filter(|(_, lookup)| is_due(lookup));
        due.next().map(|(subject, _)| subject.clone())
    }

    /// Marks it as asked for, and returns where the page begins.
    pub fn ask(&mut self, subject: &S) -> Option<&str> {
        let lookup = self.0.entry(subject.clone()).or_insert(Lookup::NEW);
        lookup.state = LookupState::Asked;
        lookup.after.as_deref()
    }

    /// Takes in the answer. What cannot be read is gone without: what was known before stays.
    /// `told` puts a refusal into words; `read` is given the body, or that, and where its page began.
    pub fn hear<V: Service>(
        &mut self,
        subject: &S,
        reply: Result<&Reply, &TransportError>,
        now: u64,
        told: impl Fn(&Class, Option<&Reply>) -> String,
        read: impl FnOnce(Result<&[u8], Unread>, Option<&str>) -> Result<Read, String>,
    ) -> LookupResult {
        // Nobody needs it any more, or something else by now: then it is asked for again.
        let Some(lookup) = self
            .0
            .get_mut(subject)
            .filter(|lookup| lookup.state == LookupState::Asked)
        else {
            return LookupResult::Nothing;
        };
        let unread = |class: &Class, reply: Option<&Reply>| Unread {
            status: reply.map(|reply| reply.status),
            why: told(class, reply),
        };
        let answer = match (classify::<V>(reply), reply) {
            (Class::Answered, Ok(reply)) => Ok(&*reply.body),
            (class, Ok(reply)) if reply.status == 403 => Err(unread(&class, Some(reply))),
            (
                Class::Throttled { .. }
                | Class::DailyLimit { .. }
                | Class::Crowded { .. }
                | Class::Unauthorized { .. },
                _,
            )
            | (_, Err(TransportError::Connect(_))) => {
                (lookup.state, lookup.after) = (LookupState::Wanted, None);
                return LookupResult::Later;
            }
            (class, reply) => Err(unread(&class, reply.ok())),
        };
        let read = read(answer, lookup.after.as_deref());
        let (trusted_until, refused, changed, again) = match read {
            Ok(Read::Page(after)) => {
                (lookup.state, lookup.after) = (LookupState::Wanted, Some(after));
                return LookupResult::Nothing;
            }
            Ok(Read::All {
                changed: true,
                lacks,
            }) => (0, None, true, lacks),
            Ok(Read::All { lacks, .. }) => (now + TRUSTED, None, false, lacks),
            Err(why) => (now + AGAIN, Some(why), false, true),
        };
        let news = changed || lookup.refused != refused;
        *lookup = Lookup {
            state: LookupState::Settled,
            trusted_until,
            again_at: again.then_some(now + AGAIN),
            refused,
            after: None,
        };
        if news {
            LookupResult::News
        } else {
            LookupResult::Nothing
        }
    }

    /// A record was refused for what is thought to be so. Returns whether it is worth planning anew
    /// because some of what is `concerned` is being read again.
    pub fn doubt(&mut self, now: u64, concerned: impl Fn(&S) -> bool) -> bool {
        let mut again = false;
        for (_, lookup) in self.0.iter_mut().filter(|(subject, _)| concerned(subject)) {
            if lookup.state == LookupState::Settled && lookup.trusted_until <= now {
                lookup.state = LookupState::Wanted;
            }
            again |= lookup.state != LookupState::Settled;
        }
        again
    }

    /// What cannot be read, and why.
    pub fn refusals(&self) -> impl Iterator<Item = (&S, &str)> {
        self.0
            .iter()
            .filter_map(|(subject, lookup)| Some((subject, lookup.refused.as_deref()?)))
    }
}

/// Takes over what was read; whether it is anything new.
pub fn replace<T: PartialEq>(known: &mut T, read: T) -> bool {
    let changed = *known != read;
    *known = read;
    changed
}
