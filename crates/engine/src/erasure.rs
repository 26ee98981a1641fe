//! Erasing a record at the services: which requests that takes, and what their answers mean.
//!
//! Every request can be repeated without harm, and one that finds nothing has found what was wanted.

use std::collections::BTreeSet;

use crate::{
    crypto::subscriber_hash,
    delivery::call::Link,
    record::{Entity, RemoteId, Target},
    service::{
        Service,
        failure::{Class, classify},
    },
    wire::{Reply, Request, TransportError},
};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErasureStep {
    /// Is there a HubSpot record that carries the row's external id, though none is linked?
    Look(String),
    /// HubSpot: a contact, by id.
    Erase(RemoteId),
    /// HubSpot: whoever has this address.
    EraseAddress(String),
    /// HubSpot: a record of a kind that cannot be erased.
    Archive(RemoteId),
    /// Mailchimp: a member of an audience.
    EraseMember { list: String, hash: String },
}

/// A step as it is stored: what is done, to whom, and where.
pub type Stored<'a> = (&'static str, &'a str, Option<&'a str>);

impl ErasureStep {
    pub const fn target(&self) -> Target {
        match self {
            ErasureStep::Look(_)
            | ErasureStep::Erase(_)
            | ErasureStep::EraseAddress(_)
            | ErasureStep::Archive(_) => Target::HubSpot,
            ErasureStep::EraseMember { .. } => Target::Mailchimp,
        }
    }

    pub fn stored(&self) -> Stored<'_> {
        match self {
            ErasureStep::Look(id) => ("look", id, None),
            ErasureStep::Erase(id) => ("erase", id.as_str(), None),
            ErasureStep::EraseAddress(email) => ("erase_address", email, None),
            ErasureStep::Archive(id) => ("archive", id.as_str(), None),
            ErasureStep::EraseMember { list, hash } => ("erase_member", hash, Some(list)),
        }
    }

    /// `None`: nothing that this version stores.
    pub fn from_stored(action: &str, name: &str, list: Option<&str>) -> Option<ErasureStep> {
        Some(match (action, list) {
            ("look", _) => ErasureStep::Look(name.to_owned()),
            ("erase", _) => ErasureStep::Erase(RemoteId::from(name)),
            ("erase_address", _) => ErasureStep::EraseAddress(name.to_owned()),
            ("archive", _) => ErasureStep::Archive(RemoteId::from(name)),
            ("erase_member", Some(list)) => ErasureStep::EraseMember {
                list: list.to_owned(),
                hash: name.to_owned(),
            },
            _ => return None,
        })
    }

    /// The request's path for the log, which is to hold nothing about who was erased.
    pub fn logged_path(&self, request: &Request) -> String {
        match self {
            ErasureStep::EraseMember { hash, .. } => request.path.replace(hash.as_str(), ERASED),
            _ => request.path.clone(),
        }
    }

    /// What an answer leads to. `own`: the addresses that are the record's alone.
    ///
    /// HubSpot: a contact that is not there under its id may have been merged into another one, and
    /// be there under its address.
    pub fn next(
        &self,
        entity: Entity,
        answer: ErasureAnswer,
        own: &BTreeSet<String>,
    ) -> Vec<ErasureStep> {
        match (self, answer) {
            (_, ErasureAnswer::Found(id)) => vec![ErasureStep::remove(entity, id)],
            (ErasureStep::Erase(_), ErasureAnswer::Absent) => {
                own.iter().cloned().map(ErasureStep::EraseAddress).collect()
            }
            _ => Vec::new(),
        }
    }

    /// How a record that [`ErasureStep::Look`] found is removed.
    pub fn remove(entity: Entity, id: RemoteId) -> ErasureStep {
        match entity.is_person() {
            true => ErasureStep::Erase(id),
            false => ErasureStep::Archive(id),
        }
    }
}

/// Whether a 2xx is the service's own: both answer 204, or perhaps some day with JSON, and no proxy
/// on the way does.
pub fn is_confirmed(reply: &Reply) -> bool {
    reply.status == 204 || serde_json::from_slice::<serde_json::Value>(&reply.body).is_ok()
}

/// Whether an answer is about the step, by the service itself; `Err`: what is wrong, the step is taken
/// again.
pub fn answered<'r, S: Service>(
    reply: Result<&'r Reply, &TransportError>,
) -> Result<(Class, &'r Reply), ErasureAnswer> {
    let class = classify::<S>(reply);
    match (&class, reply) {
        (Class::Answered | Class::Rejected | Class::NotFound, Ok(reply)) => Ok((class, reply)),
        _ => Err(ErasureAnswer::Not(
            class.trouble().unwrap_or_default().to_owned(),
        )),
    }
}

/// What stands in the log instead of a name.
pub const ERASED: &str = "[erased]";

/// What an answer means for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErasureAnswer {
    /// It is done.
    Done,
    /// There is no such record (any more).
    Absent,
    /// There is one, under this id.
    Found(RemoteId),
    /// Not now, and why: the step is taken again.
    Not(String),
}

/// What is known of the record that is to be erased.
#[derive(Clone, Debug)]
pub struct ErasureFacts {
    pub entity: Entity,
    /// HubSpot: what its unique property says of the record.
    pub external_id: String,
    /// The services to be told.
    pub targets: BTreeSet<Target>,
    pub hubspot: Option<Link>,
    pub mailchimp: Option<Link>,
    /// Ids of HubSpot records that were this one, and to which there is no link any more.
    pub former_ids: Vec<RemoteId>,
    /// All the record's addresses, in lower case.
    pub addresses: BTreeSet<String>,
    /// Mailchimp's hashes of addresses that are known by those alone.
    pub hashes: BTreeSet<String>,
    /// Addresses by which HubSpot knows another row.
    pub taken: BTreeSet<String>,
    /// Members, by audience and hash, that are other rows'.
    pub taken_members: BTreeSet<(String, String)>,
    /// Mailchimp's audience of rows that name none.
    pub default_list: String,
    /// All audiences that are or were written to.
    pub audiences: Vec<String>,
}

impl ErasureFacts {
    /// The addresses that are the record's alone.
    pub fn own_addresses(&self) -> BTreeSet<&str> {
        let elsewhere: BTreeSet<&str> = self
            .taken_members
            .iter()
            .map(|(_, hash)| hash.as_str())
            .collect();
        let own = |address: &&String| {
            let hash = subscriber_hash(address);
            !self.taken.contains(*address) && !elsewhere.contains(hash.as_str())
        };
        self.addresses
            .iter()
            .filter(own)
            .map(String::as_str)
            .collect()
    }

    /// The hashes that are the record's alone.
    pub fn own_hashes(&self) -> BTreeSet<String> {
        let elsewhere = |hash: &String| self.taken_members.iter().any(|(_, taken)| taken == hash);
        let of_addresses = self.own_addresses();
        let named = of_addresses
            .into_iter()
            .map(subscriber_hash)
            .chain(self.hashes.iter().cloned());
        named.filter(|hash| !elsewhere(hash)).collect()
    }

    /// Whether anything of the person's is another row's as well.
    pub fn shares(&self) -> bool {
        self.own_addresses().len() < self.addresses.len()
    }
}

/// The steps it takes.
pub fn steps(known: &ErasureFacts) -> Vec<ErasureStep> {
    let mut steps = Vec::new();
    if known.targets.contains(&Target::HubSpot) {
        at_hubspot(known, &mut steps);
    }
    if known.targets.contains(&Target::Mailchimp) && known.entity.is_person() {
        at_mailchimp(known, &mut steps);
    }
    steps
}

fn at_hubspot(known: &ErasureFacts, steps: &mut Vec<ErasureStep>) {
    let link = known.hubspot.as_ref();
    let id = link.and_then(|link| link.remote_id.clone());
    let linked = id.is_some();
    for id in id.iter().chain(&known.former_ids) {
        steps.push(ErasureStep::remove(known.entity, id.clone()));
    }
    if !linked {
        steps.push(ErasureStep::Look(known.external_id.clone()));
    }
    if known.entity.is_person() {
        // The linked contact goes with the address it has.
        let covered = link
            .filter(|_| linked)
            .and_then(|link| link.remote_key.as_deref());
        let others = known
            .addresses
            .iter()
            .filter(|address| Some(address.as_str()) != covered && !known.taken.contains(*address));
        steps.extend(others.cloned().map(ErasureStep::EraseAddress));
    }
}

/// Wherever the person is, was, or may be by default; if nothing tells, in every audience.
fn at_mailchimp(known: &ErasureFacts, steps: &mut Vec<ErasureStep>) {
    let mut lists: BTreeSet<&str> = BTreeSet::from([known.default_list.as_str()]);
    match &known.mailchimp {
        Some(link) => {
            lists.extend(link.membership.list.as_deref());
            lists.extend(link.membership.former.iter().map(String::as_str));
        }
        None => lists.extend(known.audiences.iter().map(String::as_str)),
    }
    let of_addresses = known
        .addresses
        .iter()
        .map(|address| subscriber_hash(address));
    let hashes: BTreeSet<String> = of_addresses.chain(known.hashes.iter().cloned()).collect();
    for list in lists.into_iter().filter(|list| !list.is_empty()) {
        for hash in &hashes {
            let member = (list.to_owned(), hash.clone());
            if !known.taken_members.contains(&member) {
                let (list, hash) = member;
                steps.push(ErasureStep::EraseMember { list, hash });
            }
        }
    }
}

#[cfg(test)]
mod tests;
