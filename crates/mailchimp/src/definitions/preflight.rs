//! Reading what audiences are made of, before records are sent to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::Mailchimp;
pub use integration_engine::definitions::LookupResult;
use integration_engine::{
    definitions::{Lookups, Read, replace},
    record::{
        field_type::{MergeType, NamedInterest},
        mapping::SourceMap,
    },
    service::failure::Class,
    wire::{Reply, Request, TransportError},
};

use crate::answer::fault::MemberRefusal;
use crate::definitions::{self, AudienceDefinitions, Mapped};

/// Something that is read of an audience.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub list: String,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Fields,
    Interests,
    Permissions,
}

/// What is known of the audiences in use, and what has to be asked for. Times are monotonic
/// microseconds.
#[derive(Clone, Debug, Default)]
pub struct Preflight {
    pub catalog: AudienceDefinitions,
    lookups: Lookups<Subject>,
    lists: BTreeSet<String>,
    /// Mailchimp does not know these; a record that is sent there will be told so.
    absent: BTreeSet<String>,
    mapped: Mapped,
    /// What pages have brought so far.
    pages: BTreeMap<String, Pages>,
}

#[derive(Clone, Debug, Default)]
struct Pages {
    fields: BTreeMap<String, MergeType>,
    /// Categories that are still to be read.
    categories: Vec<(String, String)>,
    interests: Vec<NamedInterest>,
}

impl Preflight {
    /// Another account, perhaps: nothing is known.
    pub fn forget(&mut self) {
        *self = Preflight::default();
    }

    /// Takes note of what is mapped, and of the audiences in use. What is needed and has not been
    /// read will be asked for.
    pub fn expect<'a>(
        &mut self,
        maps: impl Iterator<Item = &'a SourceMap>,
        lists: impl Iterator<Item = String>,
    ) {
        let mapped = Mapped::of(maps);
        let news = mapped != self.mapped;
        self.mapped = mapped;
        let there = lists.filter(|list| !list.is_empty() && !self.absent.contains(list));
        self.lists.extend(there);
        self.ask_for_all();
        if news {
            // What was read before somebody mapped a tag may be older than the tag.
            let audiences = self.catalog.0.iter();
            let lacking = audiences.filter(|(_, audience)| {
                let known = audience.fields.as_ref();
                known.is_some_and(|known| self.mapped.lacks_some_of(known))
            });
            let lacking: Vec<String> = lacking.map(|(list, _)| list.clone()).collect();
            lacking.iter().for_each(|list| self.outdate(list));
        }
    }

    /// A record belongs to this audience.
    pub fn use_audience(&mut self, list: &str) {
        if !self.absent.contains(list) && self.lists.insert(list.to_owned()) {
            self.ask_for_all();
        }
    }

    fn ask_for_all(&mut self) {
        let Mapped {
            tags,
            interests,
            permissions,
        } = &self.mapped;
        let parts = [
            (Part::Fields, !tags.is_empty()),
            (Part::Interests, *interests),
            (Part::Permissions, *permissions),
        ];
        let of = |list: &String| {
            let wanted = parts.into_iter().filter(|(_, wanted)| *wanted);
            let subject = |(part, _)| Subject {
                list: list.clone(),
                part,
            };
            wanted.map(subject).collect::<Vec<_>>()
        };
        self.lookups
            .expect(self.lists.iter().flat_map(of).collect());
    }

    /// The audiences in use.
    pub fn lists(&self) -> impl Iterator<Item = &String> {
        self.lists.iter()
    }

    /// Whether all that is needed of an audience has been read, or cannot be.
    pub fn is_audience_known(&self, list: &str) -> bool {
        self.absent.contains(list) || (self.lists.contains(list) && self.settled(list))
    }

    fn settled(&self, list: &str) -> bool {
        let parts = [Part::Fields, Part::Interests, Part::Permissions];
        parts.into_iter().all(|part| {
            let list = list.to_owned();
            self.lookups.is_settled(&Subject { list, part }) != Some(false)
        })
    }

    /// Somebody may have put right what was refused or lacking: it is asked for again.
    pub fn recheck(&mut self) {
        self.absent.clear();
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
    pub fn ask(&mut self, subject: &Subject) -> Request {
        let after = self.lookups.ask(subject).map(str::to_owned);
        let list = &subject.list;
        match (subject.part, after) {
            (Part::Fields, after) => {
                let offset = after.and_then(|after| after.parse().ok()).unwrap_or(0);
                definitions::fields_request(list, offset)
            }
            (Part::Interests, None) => definitions::categories_request(list),
            (Part::Interests, Some(category)) => definitions::interests_request(list, &category),
            (Part::Permissions, _) => definitions::permissions_request(list),
        }
    }

    /// Takes in the answer. What cannot be read is gone without: what was known before stays.
    pub fn hear(
        &mut self,
        subject: &Subject,
        reply: Result<&Reply, &TransportError>,
        now: u64,
    ) -> LookupResult {
        if reply.is_ok_and(|reply| reply.status == 404) {
            let list = &subject.list;
            self.absent.insert(list.clone());
            self.lists.remove(list);
            self.catalog.0.remove(list);
            self.ask_for_all();
            return LookupResult::Nothing;
        }
        let Preflight {
            catalog,
            lookups,
            mapped,
            pages,
            ..
        } = self;
        lookups.hear::<Mailchimp>(subject, reply, now, told, |answer, after| {
            let body = answer.map_err(|unread| unread.why)?;
            let pages = pages.entry(subject.list.clone()).or_default();
            read(catalog, mapped, pages, subject, body, after)
        })
    }

    /// A record for this audience was refused for what its definitions are, or are thought to be.
    /// Returns whether it is worth planning anew because they are being read again.
    pub fn doubt(&mut self, list: &str, now: u64) -> bool {
        self.lookups.doubt(now, |subject| subject.list == list)
    }

    /// Its merge fields are another ones than those that were read.
    pub(crate) fn outdate(&mut self, list: &str) {
        if self.lists.contains(list) && !self.mapped.tags.is_empty() {
            self.lookups.renew(Subject {
                list: list.to_owned(),
                part: Part::Fields,
            });
        }
    }

    /// Why some of it cannot be read.
    pub fn refusals(&self) -> Vec<String> {
        let refused = self.lookups.refusals().map(|(subject, why)| {
            let what = match subject.part {
                Part::Fields => "merge fields",
                Part::Interests => "interest groups",
                Part::Permissions => "marketing permissions",
            };
            format!("{what} of audience {}: {why}", subject.list)
        });
        refused.collect()
    }
}

fn told(class: &Class, reply: Option<&Reply>) -> String {
    if let Some(why) = class.trouble() {
        return why.to_owned();
    }
    let status = reply.map_or(0, |reply| reply.status);
    let fault = reply.map(|reply| MemberRefusal::of_body(&reply.body).quoted());
    format!(
        "Mailchimp answered HTTP {status}: {}",
        fault.unwrap_or_default()
    )
}

fn read(
    catalog: &mut AudienceDefinitions,
    mapped: &Mapped,
    pages: &mut Pages,
    subject: &Subject,
    body: &[u8],
    after: Option<&str>,
) -> Result<Read, String> {
    let audience = catalog.0.entry(subject.list.clone()).or_default();
    let (changed, lacks) = match subject.part {
        Part::Fields => {
            let offset = after.and_then(|after| after.parse().ok()).unwrap_or(0);
            let (fields, next) = definitions::read_fields(body, offset)?;
            if offset == 0 {
                pages.fields.clear();
            }
            pages.fields.extend(fields);
            if let Some(next) = next {
                return Ok(Read::Page(next.to_string()));
            }
            let fields = std::mem::take(&mut pages.fields);
            let lacks = mapped.lacks_some_of(&fields);
            (replace(&mut audience.fields, Some(fields)), lacks)
        }
        Part::Interests => {
            match after {
                None => {
                    pages.interests.clear();
                    pages.categories = definitions::read_categories(body)?;
                    pages.categories.reverse();
                }
                Some(id) => {
                    let (_, title) = pages
                        .categories
                        .pop_if(|(known, _)| known == id)
                        .unwrap_or_default();
                    let read = definitions::read_interests(body, &title)?;
                    pages.interests.extend(read);
                }
            }
            if let Some((next, _)) = pages.categories.last() {
                return Ok(Read::Page(next.clone()));
            }
            let read = std::mem::take(&mut pages.interests);
            (replace(&mut audience.interests, Some(read.into())), false)
        }
        Part::Permissions => {
            let read = definitions::read_permissions(body)?;
            // Without a member there is nothing to see: as soon as there is one, it is worth a look.
            let unseen = read.is_none();
            let changed = !unseen && replace(&mut audience.permissions, read);
            (changed || unseen, false)
        }
    };
    Ok(Read::All { changed, lacks })
}
