//! An opt-out on any row of an address is an opt-out: of the rows that are not the one the member is
//! linked to, those that are opted out are noted, and looked at before anybody with their address is
//! opted in.

use std::collections::{BTreeMap, BTreeSet};

use integration_engine::consent::Consent;
use integration_engine::delivery::call::Work;
use integration_engine::delivery::outcome::MemberStatus;
use integration_engine::delivery::settlement::Flight;
use integration_engine::limits::retry::Retry;
use integration_engine::mailchimp::subscriber_hash;
use integration_engine::record::mapping::SourceMap;
use integration_engine::record::{Entity, Lane, Op, RecordRef, Target};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::World;
use super::fill::Planning;
use super::rivals::describe;
use super::target::TargetWorker;
use crate::pg::fence::Refusal;
use crate::store::objections::{self, Objection};
use crate::store::people;
use crate::store::sources::Source;

/// What a row says, and of whom.
struct Says {
    consent: Consent,
    hash: String,
}

fn says(map: &SourceMap, row: &[Option<String>]) -> Option<Says> {
    let text = |name: &str| {
        let (index, field) = map.field_named(name)?;
        Some((field, row.get(index)?.as_deref()))
    };
    let (field, consent) = text("status")?;
    let (_, email) = text("email_address")?;
    Some(Says {
        consent: field.consent(consent),
        hash: subscriber_hash(&value::email_key(email?).ok()?),
    })
}

/// What planning has found out about rows that are opted out beside another row's member. Planning
/// itself writes nothing.
#[derive(Default)]
pub struct Notes {
    found: BTreeSet<Objection>,
    /// Noted before, and counts no longer.
    stale: BTreeSet<Objection>,
}

impl Notes {
    /// Whether there is something to store.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.stale.is_empty()
    }

    /// Whether a row was found that is opted out.
    pub fn has_found(&self) -> bool {
        !self.found.is_empty()
    }

    /// Stores them, in the transaction that has the members' rows looked at.
    pub fn store(&self) -> SpiResult<()> {
        let stale = self.stale.difference(&self.found);
        stale.into_iter().try_for_each(objections::drop)?;
        self.found.iter().try_for_each(objections::note)
    }
}

/// A row whose address is another row's member (`holder`): its opt-out is noted and reaches the
/// member; its opt-in, where it was noted, has the holder looked at again.
pub fn heed(
    worker: &TargetWorker,
    world: &World,
    map: &SourceMap,
    (flight, work): (&Flight, &Work),
    holder: &RecordRef,
    planning: &mut Planning,
) {
    let Some(said) = work.row.as_deref().and_then(|row| says(map, row)) else {
        return;
    };
    let change = worker.queue.change(flight.handle);
    // Taken back, even if what stands there now says nothing.
    let taken_back = change.is_some_and(|change| change.lane == Lane::OptOut);
    let lane = match said.consent {
        Consent::OptedOut => Lane::OptOut,
        Consent::Unknown if taken_back => Lane::OptOut,
        Consent::OptedIn if world.objections => Lane::Retry,
        Consent::OptedIn | Consent::Unknown => return,
    };
    if lane == Lane::OptOut {
        planning.objections.found.insert(Objection {
            hash: said.hash,
            record: flight.record.clone(),
        });
    }
    planning.heirs.push(Retry {
        record: holder.clone(),
        op: Op::Upsert,
        lane,
        attempts: 0,
        wait_ms: 0,
        why: format!(
            "record {} has the same e-mail address, and its consent changed",
            flight.record.key.as_str()
        ),
        enqueued_at: flight.changed_at,
    });
}

/// What is known of the other rows with the addresses of a block, before anything is decided about it.
pub fn recall(
    worker: &TargetWorker,
    world: &World,
    source: &Source,
    works: &mut [Work],
    notes: &mut Notes,
) -> SpiResult<()> {
    if worker.target != Target::Mailchimp || source.entity != Entity::Contact {
        return Ok(());
    }
    if world.objections {
        recall_noted(world, source, works, &mut notes.stale)?;
    }
    look_around(world, source, works, &mut notes.found)
}

/// Whoever is about to be opted in for the first time, or anew: whether there are other rows with
/// their address that are opted out, be it that nobody has had a reason to note it yet.
fn look_around(
    world: &World,
    source: &Source,
    works: &mut [Work],
    noted: &mut BTreeSet<Objection>,
) -> SpiResult<()> {
    let Some(map) = source.maps.get(&Target::Mailchimp) else {
        return Ok(());
    };
    let mut wanted: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, work) in works.iter().enumerate() {
        if let Some(address) = opted_in_anew(map, work) {
            wanted.entry(address).or_default().push(index);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let emails: Vec<String> = wanted.keys().cloned().collect();
    let contacts = world
        .sources
        .values()
        .filter(|other| other.entity == Entity::Contact);
    for other in contacts {
        let asks = other.id == source.id;
        let found = people::with_addresses(other, &emails, asks)?;
        for (email, record) in found {
            let hash = subscriber_hash(&email);
            for index in wanted.get(&email).into_iter().flatten() {
                let work = &mut works[*index];
                let mine = asks && record.key == work.key;
                if mine || work.objection.is_some() {
                    continue;
                }
                let other = consent_of(world, &record, &hash);
                if other.is_ok_and(|other| other == Some(Consent::OptedOut)) {
                    work.objection = Some(describe(world, source, &record));
                    noted.insert(Objection {
                        hash: hash.clone(),
                        record: record.clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// The address of a record that is opted in and gets no mail yet.
fn opted_in_anew(map: &SourceMap, work: &Work) -> Option<String> {
    let status = work.link.as_ref().and_then(|link| link.member_status);
    let gets_mail = matches!(
        status,
        Some(MemberStatus::Subscribed | MemberStatus::Pending)
    );
    let row = work.row.as_deref().filter(|_| !gets_mail)?;
    let (index, field) = map.field_named("status")?;
    let opted_in = field.consent(row.get(index)?.as_deref()) == Consent::OptedIn;
    let (index, _) = map.field_named("email_address").filter(|_| opted_in)?;
    value::email_key(row.get(index)?.as_deref()?).ok()
}

/// Looks up, at once for all, which records of a block are opted in while another row with the same
/// address is opted out, or was when the member was unsubscribed for it.
fn recall_noted(
    world: &World,
    source: &Source,
    works: &mut [Work],
    stale: &mut BTreeSet<Objection>,
) -> SpiResult<()> {
    let Some(map) = source.maps.get(&Target::Mailchimp) else {
        return Ok(());
    };
    let said: Vec<Option<Says>> = works
        .iter()
        .map(|work| says(map, work.row.as_deref()?))
        .collect();
    let hashes = said.iter().flatten().map(|said| said.hash.clone());
    let mut noted: BTreeMap<String, Vec<RecordRef>> = BTreeMap::new();
    for Objection { hash, record } in objections::of(&hashes.collect())? {
        noted.entry(hash).or_default().push(record);
    }
    if noted.is_empty() {
        return Ok(());
    }
    for (work, said) in works.iter_mut().zip(&said) {
        let Some(said) = said else { continue };
        for record in noted.get(&said.hash).into_iter().flatten() {
            let mine = record.source == work.source && record.key == work.key;
            let opted_in = said.consent == Consent::OptedIn;
            let counts = match consent_of(world, record, &said.hash) {
                Ok(Some(other)) => other != Consent::OptedIn,
                // It cannot be read now: what was noted of it stands.
                Err(_) => true,
                // It is gone, or somebody else's by now. Whom it opted out is opted in by a row that
                // is new, or that was opted out itself since.
                Ok(None) => opted_in && work.link.is_some(),
            };
            if !counts {
                stale.insert(Objection {
                    hash: said.hash.clone(),
                    record: record.clone(),
                });
            } else if opted_in && !mine {
                work.objection = Some(describe(world, source, record));
            }
        }
    }
    Ok(())
}

/// What a row says, if it still has the address.
fn consent_of(world: &World, record: &RecordRef, hash: &str) -> Result<Option<Consent>, Refusal> {
    let source = world.sources.get(&record.source);
    let Some((source, map)) =
        source.and_then(|source| Some((source, source.maps.get(&Target::Mailchimp)?)))
    else {
        return Ok(None);
    };
    let rows = source.try_read(map, &[&record.key])?;
    let said = rows.get(&record.key).and_then(|row| says(map, row));
    Ok(said
        .filter(|said| said.hash == hash)
        .map(|said| said.consent))
}
