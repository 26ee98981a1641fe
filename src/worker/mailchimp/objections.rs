//! An opt-out on any row of an address is an opt-out. Rows that are met with one address are noted, and
//! looked at before anybody with it is opted in, or takes their opt-in along to another address.
//! What the notes come to is decided in the engine (`consent::shared`).

mod members;

use std::collections::{BTreeMap, BTreeSet};

use integration_engine::consent::shared::{self, Mine, Other, Weight};
use integration_engine::crypto::subscriber_hash;
use integration_engine::delivery::call::Work;
use integration_engine::delivery::settlement::InFlight;
use integration_engine::limits::retry::Retry;
use integration_engine::record::consent::{Consent, MemberStatus};
use integration_engine::record::mapping::SourceMap;
use integration_engine::record::{Lane, Op, RecordKey, RecordRef, Target};
use integration_engine::value;
use pgrx::spi::SpiResult;

use crate::pg::fence::Refusal;
use crate::store::consent::objections::{self, Objection};
use crate::store::crm::people;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::address_owner::describe;
use crate::worker::lane::plan::Planning;
use crate::worker::target::TargetWorker;

/// What a row says, and of whom.
struct Says {
    consent: Consent,
    address: String,
}

impl Says {
    fn hash(&self) -> String {
        subscriber_hash(&self.address)
    }
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
        address: value::email_key(email?).ok()?,
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
            let hash = said.hash();
            self.meets(&hash, &record_of(work), false);
            self.meets(&hash, first, false);
        }
    }
}

fn record_of(work: &Work) -> RecordRef {
    RecordRef {
        source: work.source,
        key: work.key.clone(),
    }
}

/// A record that is being planned, and what its row says.
struct PlannedRow<'a> {
    flight: &'a InFlight,
    work: &'a mut Work,
    said: Option<Says>,
}

/// What is known of the other rows with the addresses of a block, before anything is decided about it.
pub fn recall(
    worker: &TargetWorker,
    context: &Context,
    source: &Source,
    (flights, works): (&[InFlight], &mut [Work]),
    planning: &mut Planning,
) -> SpiResult<()> {
    if worker.target != Target::Mailchimp || !source.entity.is_person() {
        return Ok(());
    }
    let Some(map) = source.maps.get(&Target::Mailchimp) else {
        return Ok(());
    };
    let mut rows: Vec<PlannedRow> = flights
        .iter()
        .zip(works)
        .map(|(flight, work)| PlannedRow {
            flight,
            said: work.row.as_deref().and_then(|row| says(map, row)),
            work,
        })
        .collect();
    let (noted, about) = match context.objections {
        true => noted(source, &rows)?,
        false => Default::default(),
    };
    members::meet(worker, context, source, &mut rows, &noted, planning)?;
    if !noted.is_empty() {
        for row in &mut rows {
            let nowhere = BTreeSet::new();
            let former = about.get(&row.work.key).unwrap_or(&nowhere);
            match &row.said {
                Some(_) => recall_one(context, source, row, former, &noted, planning),
                None => forget_own(row.work, former, &noted, &mut planning.objections),
            }
        }
    }
    look_around(context, source, &mut rows, &mut planning.objections)
}

/// Whoever is about to be opted in for the first time, or anew, or under another address: whether
/// there are other rows with the address that are opted out, be it that nobody has noted it yet.
fn look_around(
    context: &Context,
    source: &Source,
    rows: &mut [PlannedRow],
    notes: &mut Notes,
) -> SpiResult<()> {
    let mut wanted: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        if let Some(address) = opted_in_anew(row) {
            wanted.entry(address.to_owned()).or_default().push(index);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let emails: Vec<String> = wanted.keys().cloned().collect();
    let contacts = context
        .sources
        .values()
        .filter(|other| other.entity.is_person());
    for other in contacts {
        let asks = other.id == source.id;
        let found = people::with_addresses(other, &emails, asks)?;
        for (email, record) in found {
            let hash = subscriber_hash(&email);
            for index in wanted.get(&email).into_iter().flatten() {
                let work = &mut *rows[*index].work;
                let mine = asks && record.key == work.key;
                if mine || work.objection.is_some() {
                    continue;
                }
                if look_at(context, &record, &hash) == Other::Here(Consent::OptedOut) {
                    work.objection = Some(describe(context, source, &record));
                    notes.meets(&hash, &record, true);
                    notes.meets(&hash, &record_of(work), false);
                }
            }
        }
    }
    Ok(())
}

/// The address of a record that is opted in and gets no mail there yet.
fn opted_in_anew<'a>(row: &'a PlannedRow) -> Option<&'a str> {
    let said = row.said.as_ref()?;
    let gets_mail = row.work.link.as_ref().is_some_and(|link| {
        let mailed = matches!(
            link.member_status,
            Some(MemberStatus::Subscribed | MemberStatus::Pending)
        );
        mailed && link.remote_key.as_ref() == Some(&said.address)
    });
    (said.consent == Consent::OptedIn && !gets_mail).then_some(said.address.as_str())
}

/// Looks up, at once for all, which rows were met with the addresses of a block, present and former,
/// and under which addresses each record was.
fn noted(source: &Source, rows: &[PlannedRow]) -> SpiResult<(Noted, About)> {
    let keys: Vec<&str> = rows.iter().map(|row| row.work.key.as_str()).collect();
    let about = objections::about(source.id, &keys)?;
    let mut hashes: BTreeSet<String> = about.values().flatten().cloned().collect();
    let said = rows.iter().filter_map(|row| row.said.as_ref());
    hashes.extend(said.map(Says::hash));
    let mut noted: Noted = BTreeMap::new();
    for note in objections::of(&hashes)? {
        noted.entry(note.hash.clone()).or_default().push(note);
    }
    Ok((noted, about))
}

/// Under which addresses records were met.
type About = BTreeMap<RecordKey, BTreeSet<String>>;

/// Notes by the MD5 of the address.
type Noted = BTreeMap<String, Vec<Objection>>;

/// A row that says nothing of anybody was met with nobody any more; that it was opted out stays.
fn forget_own(work: &Work, former: &BTreeSet<String>, noted: &Noted, notes: &mut Notes) {
    let record = record_of(work);
    let own = former.iter().filter_map(|hash| noted.get(hash)).flatten();
    own.filter(|note| note.record == record && !note.opted_out)
        .for_each(|note| notes.is_over(note));
}

/// Whether a record is opted in while another row that was met with its address, present or former,
/// is opted out, or was when the member was unsubscribed for it.
fn recall_one(
    context: &Context,
    source: &Source,
    row: &mut PlannedRow,
    former: &BTreeSet<String>,
    noted: &Noted,
    planning: &mut Planning,
) {
    let PlannedRow { flight, work, said } = row;
    let Some(said) = said else { return };
    let notes = &mut planning.objections;
    let record = flight.record.clone();
    let opted_in = said.consent == Consent::OptedIn;
    let mut objection = work.objection.take();
    let present = said.hash();
    let hashes = former.iter().chain(std::iter::once(&present));
    for hash in hashes.collect::<BTreeSet<_>>() {
        let Some(of_address) = noted.get(hash) else {
            continue;
        };
        let here = *hash == present;
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
            match shared::weigh(note.opted_out, look_at(context, &note.record, hash), mine) {
                Weight::Counts if opted_in => {
                    objection = Some(describe(context, source, &note.record));
                }
                Weight::Over if !is_others(of_address, note, &record) => notes.is_over(note),
                Weight::Counts | Weight::Over | Weight::Nothing => {}
            }
        }
    }
    if objection.is_some() {
        notes.meets(&present, &record, false);
        work.objection = objection;
        return;
    }
    // It speaks for itself from now on: opted in, or opted out, so that its next opt-in is one anew.
    for note in former.iter().filter_map(|hash| noted.get(hash)).flatten() {
        let elsewhere = note.hash != present;
        let over = match opted_in {
            true => elsewhere || note.opted_out,
            false => !note.opted_out,
        };
        if note.record == record && over {
            notes.is_over(note);
            if !elsewhere {
                notes.meets(&note.hash, &record, !opted_in);
            }
            if !elsewhere && opted_in {
                // Those whom it had opted out.
                let others = noted.get(&note.hash).into_iter().flatten();
                let others = others.filter(|other| other.record != record);
                let again = others.map(|other| looked_at_again(flight, &other.record, Lane::Retry));
                planning.heirs.extend(again);
            }
        }
    }
}

/// A record that was met with another one, whose consent changed.
fn looked_at_again(changed: &InFlight, other: &RecordRef, lane: Lane) -> Retry {
    Retry {
        record: other.clone(),
        op: Op::Upsert,
        lane,
        attempts: 0,
        wait_ms: 0,
        why: format!(
            "record {} has the same e-mail address, and its consent changed",
            changed.record.key.as_str()
        ),
        enqueued_at: changed.changed_at,
    }
}

/// Whether other rows were met with a note's address.
fn is_others(of_address: &[Objection], note: &Objection, mine: &RecordRef) -> bool {
    let mut others = of_address.iter();
    others.any(|other| !other.opted_out && other.record != *mine && other.record != note.record)
}

/// What a row that was met with an address is like now.
fn look_at(context: &Context, record: &RecordRef, hash: &str) -> Other {
    match stands(context, record) {
        Ok(Some(said)) if said.hash() == hash => Other::Here(said.consent),
        Ok(Some(said)) => Other::Elsewhere(said.consent),
        Ok(None) => Other::Gone,
        // What was noted of it stands.
        Err(_) => Other::Unread,
    }
}

fn stands(context: &Context, record: &RecordRef) -> Result<Option<Says>, Refusal> {
    let source = context.sources.get(&record.source);
    let Some((source, map)) =
        source.and_then(|source| Some((source, source.maps.get(&Target::Mailchimp)?)))
    else {
        return Ok(None);
    };
    let rows = source.try_read(map, &[&record.key])?;
    Ok(rows.get(&record.key).and_then(|row| says(map, row)))
}
