//! An opt-out on any row of an address is an opt-out. Rows that are met with one address are noted, and
//! looked at before anybody with it is opted in, or takes their opt-in along to another address.
//! What the notes come to is decided in the engine (`consent::shared`).

use std::collections::{BTreeMap, BTreeSet};

use integration_engine::consent::Consent;
use integration_engine::consent::shared::{self, Mine, Other, Weight};
use integration_engine::crypto::subscriber_hash;
use integration_engine::delivery::call::Work;
use integration_engine::delivery::outcome::MemberStatus;
use integration_engine::delivery::settlement::Flight;
use integration_engine::limits::retry::Retry;
use integration_engine::record::mapping::SourceMap;
use integration_engine::record::{Entity, Lane, Op, RecordRef, Target};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::World;
use super::address_owner::describe;
use super::fill::Planning;
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

/// What planning has found out about rows with one address. Planning itself writes nothing.
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

    /// Whether a row was found that is to be looked at from now on.
    pub fn has_found(&self) -> bool {
        !self.found.is_empty()
    }

    /// Stores them, in the transaction that has the members' rows looked at.
    pub fn store(&self) -> SpiResult<()> {
        self.stale.iter().try_for_each(objections::drop)?;
        self.found.iter().try_for_each(objections::note)
    }

    fn meets(&mut self, hash: &str, record: &RecordRef, opted_out: bool) {
        self.found.insert(Objection {
            hash: hash.to_owned(),
            record: record.clone(),
            opted_out,
        });
    }

    fn is_over(&mut self, note: &Objection) {
        self.stale.insert(note.clone());
    }

    /// Two rows that are to be sent in one round have one address.
    pub fn meet(&mut self, map: &SourceMap, work: &Work, first: &RecordRef) {
        let said = work.row.as_deref().and_then(|row| says(map, row));
        if let Some(said) = said.filter(|said| said.consent == Consent::OptedIn) {
            self.meets(&said.hash, &record_of(work), false);
            self.meets(&said.hash, first, false);
        }
    }
}

fn record_of(work: &Work) -> RecordRef {
    RecordRef {
        source: work.source,
        key: work.key.clone(),
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
        Consent::OptedIn => Lane::Retry,
        Consent::Unknown => return,
    };
    let notes = &mut planning.objections;
    notes.meets(&said.hash, holder, false);
    notes.meets(&said.hash, &flight.record, lane == Lane::OptOut);
    if lane == Lane::Retry && !world.objections {
        return;
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
        recall_noted(world, source, works, notes)?;
    }
    look_around(world, source, works, notes)
}

/// Whoever is about to be opted in for the first time, or anew, or under another address: whether
/// there are other rows with the address that are opted out, be it that nobody has noted it yet.
fn look_around(
    world: &World,
    source: &Source,
    works: &mut [Work],
    notes: &mut Notes,
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
                if look_at(world, &record, &hash) == Other::Here(Consent::OptedOut) {
                    work.objection = Some(describe(world, source, &record));
                    notes.meets(&hash, &record, true);
                    notes.meets(&hash, &record_of(work), false);
                }
            }
        }
    }
    Ok(())
}

/// The address of a record that is opted in and gets no mail there yet.
fn opted_in_anew(map: &SourceMap, work: &Work) -> Option<String> {
    let row = work.row.as_deref()?;
    let (index, field) = map.field_named("status")?;
    let opted_in = field.consent(row.get(index)?.as_deref()) == Consent::OptedIn;
    let (index, _) = map.field_named("email_address").filter(|_| opted_in)?;
    let address = value::email_key(row.get(index)?.as_deref()?).ok()?;
    let gets_mail = work.link.as_ref().is_some_and(|link| {
        let mailed = matches!(
            link.member_status,
            Some(MemberStatus::Subscribed | MemberStatus::Pending)
        );
        mailed && link.remote_key.as_ref() == Some(&address)
    });
    (!gets_mail).then_some(address)
}

/// Looks up, at once for all, which records of a block are opted in while another row that was met
/// with their address, present or former, is opted out, or was when the member was unsubscribed for it.
fn recall_noted(
    world: &World,
    source: &Source,
    works: &mut [Work],
    notes: &mut Notes,
) -> SpiResult<()> {
    let Some(map) = source.maps.get(&Target::Mailchimp) else {
        return Ok(());
    };
    let said: Vec<Option<Says>> = works
        .iter()
        .map(|work| says(map, work.row.as_deref()?))
        .collect();
    let keys: Vec<&str> = works.iter().map(|work| work.key.as_str()).collect();
    let met = objections::about(source.id, &keys)?;
    let mut hashes: BTreeSet<String> = met.values().flatten().cloned().collect();
    hashes.extend(said.iter().flatten().map(|said| said.hash.clone()));
    let mut noted: Noted = BTreeMap::new();
    for note in objections::of(&hashes)? {
        noted.entry(note.hash.clone()).or_default().push(note);
    }
    if noted.is_empty() {
        return Ok(());
    }
    for (work, said) in works.iter_mut().zip(&said) {
        let nowhere = BTreeSet::new();
        let former = met.get(&work.key).unwrap_or(&nowhere);
        match said {
            Some(said) => recall_one(world, source, (work, said), former, &noted, notes),
            None => forget_own(work, former, &noted, notes),
        }
    }
    Ok(())
}

/// Notes by the MD5 of the address.
type Noted = BTreeMap<String, Vec<Objection>>;

/// A row that says nothing of anybody was met with nobody any more; that it was opted out stays.
fn forget_own(work: &Work, former: &BTreeSet<String>, noted: &Noted, notes: &mut Notes) {
    let record = record_of(work);
    let own = former.iter().filter_map(|hash| noted.get(hash)).flatten();
    own.filter(|note| note.record == record && !note.opted_out)
        .for_each(|note| notes.is_over(note));
}

fn recall_one(
    world: &World,
    source: &Source,
    (work, said): (&mut Work, &Says),
    former: &BTreeSet<String>,
    noted: &Noted,
    notes: &mut Notes,
) {
    let record = record_of(work);
    let opted_in = said.consent == Consent::OptedIn;
    let mut objection = None;
    let hashes = former.iter().chain(std::iter::once(&said.hash));
    for hash in hashes.collect::<BTreeSet<_>>() {
        let Some(of_address) = noted.get(hash) else {
            continue;
        };
        let here = *hash == said.hash;
        let own = of_address.iter().find(|note| note.record == record);
        // What it was opted out under before is over, once it is opted in.
        let met = own.is_some_and(|own| !own.opted_out) || (here && work.link.is_some());
        let mine = Mine {
            consent: said.consent,
            met,
            here,
        };
        for note in of_address.iter().filter(|note| note.record != record) {
            if objection.is_some() || (own.is_some_and(|own| own.opted_out) && !here) {
                break;
            }
            if !note.opted_out && mine.here {
                continue;
            }
            match shared::weigh(note.opted_out, look_at(world, &note.record, hash), mine) {
                Weight::Counts if opted_in => {
                    objection = Some(describe(world, source, &note.record));
                }
                Weight::Over if !is_others(of_address, note, &record) => notes.is_over(note),
                Weight::Counts | Weight::Over | Weight::Nothing => {}
            }
        }
    }
    if objection.is_some() {
        notes.meets(&said.hash, &record, false);
        work.objection = objection;
        return;
    }
    // It speaks for itself from now on: opted in, or opted out, so that its next opt-in is one anew.
    for note in former.iter().filter_map(|hash| noted.get(hash)).flatten() {
        let elsewhere = note.hash != said.hash;
        let over = match opted_in {
            true => elsewhere || note.opted_out,
            false => !note.opted_out,
        };
        if note.record == record && over {
            notes.is_over(note);
            if !elsewhere {
                notes.meets(&note.hash, &record, !opted_in);
            }
        }
    }
}

/// Whether other rows were met with a note's address.
fn is_others(of_address: &[Objection], note: &Objection, mine: &RecordRef) -> bool {
    let mut others = of_address.iter();
    others.any(|other| !other.opted_out && other.record != *mine && other.record != note.record)
}

/// What a row that was met with an address is like now.
fn look_at(world: &World, record: &RecordRef, hash: &str) -> Other {
    match stands(world, record) {
        Ok(Some(said)) if said.hash == hash => Other::Here(said.consent),
        Ok(Some(said)) => Other::Elsewhere(said.consent),
        Ok(None) => Other::Gone,
        // What was noted of it stands.
        Err(_) => Other::Unread,
    }
}

fn stands(world: &World, record: &RecordRef) -> Result<Option<Says>, Refusal> {
    let source = world.sources.get(&record.source);
    let Some((source, map)) =
        source.and_then(|source| Some((source, source.maps.get(&Target::Mailchimp)?)))
    else {
        return Ok(None);
    };
    let rows = source.try_read(map, &[&record.key])?;
    Ok(rows.get(&record.key).and_then(|row| says(map, row)))
}
