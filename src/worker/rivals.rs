//! Several rows, one e-mail address: who has it, who inherits it, who has to wait.

mod claims;

pub use claims::{Claims, Place};

use std::collections::{BTreeMap, HashMap};

use integration_engine::delivery::call::Work;
use integration_engine::delivery::circle::{self, Chain};
use integration_engine::delivery::settlement::{Flight, LinkEntry};
use integration_engine::limits::retry::Retry;
use integration_engine::record::{Entity, Lane, Op, RecordRef, Target};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::World;
use super::fill::{Move, Planning};
use super::objections;
use super::rings;
use super::target::TargetWorker;
use crate::store::changes;
use crate::store::dead_letters;
use crate::store::holds;
use crate::store::links;
use crate::store::sources::Source;
use crate::store::withheld;

/// The records of one source that are being planned, side by side.
pub struct Block<'a> {
    pub source: &'a Source,
    /// Where their rows want to be known.
    pub places: &'a [Option<Place>],
    pub flights: &'a mut [Flight],
    pub works: &'a mut [Work],
}

/// What the row behind a link is like now.
enum Holder {
    /// It still has the address.
    Keeps,
    /// It has another one, which the service has not been told yet, or none.
    Moved,
    Gone,
    /// Nobody knows: it cannot be read at present.
    Unread,
}

/// Attempts after which a change of the holder that is not in the queue will not come any more.
const PATIENCE: u32 = 2;

/// A record has to wait for the address it wants.
pub struct Wait {
    /// Whether that counts as an attempt: nothing is known to be on its way that would end it.
    pub counted: bool,
    /// Who has the address at the service.
    pub holder: String,
}

/// Looks at records of ours that are known to the target under the address another one wants.
///
/// A holder that keeps it is named as rival. A new row whose holder is gone takes its place: the
/// row's key changed, or it moved to another partition. Gives the records that have to wait until
/// the target has been told of their holder's change.
pub fn resolve(
    worker: &TargetWorker,
    world: &World,
    block: &mut Block,
    planning: &mut Planning,
) -> SpiResult<BTreeMap<usize, Wait>> {
    let mut waits = BTreeMap::new();
    let mut wants = HashMap::new();
    if block.source.entity != Entity::Contact {
        return Ok(waits);
    }
    let wanted = wanted(world, block);
    let addresses: Vec<String> = wanted
        .iter()
        .map(|(_, place)| place.address.clone())
        .collect();
    let mut holders = links::holders(worker.target, &addresses)?;
    for (index, place) in wanted {
        if place.is_known(&block.works[index], world) {
            continue;
        }
        let mine = block.flights[index].record.clone();
        let others = holders.get_mut(&place.address);
        let Some(other) = others
            .and_then(|others| {
                others
                    .iter()
                    .find(|other| place.is_held_by(other, &mine, world))
            })
            .map(|other| other.record.clone())
        else {
            continue;
        };
        let name = describe(world, block.source, &other);
        let wait = |counted| Wait {
            counted,
            holder: name.clone(),
        };
        match look_at(world, worker.target, &other, place)? {
            Holder::Keeps => {
                block.works[index].rival = Some(name);
                if let Some(map) = block.source.maps.get(&Target::Mailchimp)
                    && worker.target == Target::Mailchimp
                {
                    let record = (&block.flights[index], &block.works[index]);
                    objections::heed(worker, world, map, record, &other, planning);
                }
            }
            Holder::Gone if inherit(worker, world, block, index, &other, &mut planning.moves)? => {
                // One heir only.
                let others = holders.get_mut(&place.address).into_iter();
                others.for_each(|others| others.retain(|known| known.record != other));
            }
            Holder::Moved => {
                let flight = &block.flights[index];
                let chain = chain(world, flight, worker.target, &mut wants)?;
                let on_its_way = is_on_its_way(worker, &other)?;
                let wait = wait(chain != Chain::Open || !on_its_way);
                let settled = match (worker.target, &chain) {
                    (Target::HubSpot, chain) => {
                        let gives_way = chain.gives_way(flight.attempts);
                        block.works[index].gives_way = gives_way;
                        gives_way
                    }
                    (Target::Mailchimp, Chain::Circle(ring)) => {
                        rings::turn(worker, world, block, ring, planning)?
                    }
                    // Nothing is sent for whoever is opted out, nor for a row that was given up
                    // on: the member stays at its former address, and is that address's.
                    (Target::Mailchimp, _) if !on_its_way && flight.attempts >= PATIENCE => {
                        inherit(worker, world, block, index, &other, &mut planning.moves)?
                    }
                    (Target::Mailchimp, _) => false,
                };
                if !settled {
                    waits.insert(index, wait);
                }
            }
            Holder::Gone => {
                waits.insert(index, wait(true));
            }
            Holder::Unread => {
                waits.insert(index, wait(false));
            }
        }
    }
    Ok(waits)
}

/// Whose address each record wants, as far as that has been looked up.
type Wants = HashMap<RecordRef, Option<RecordRef>>;

/// Who waits for whom: rows that swap their addresses would do so for ever. HubSpot lets a contact
/// be without an address for a while; at Mailchimp the members are passed on, all at once.
fn chain(
    world: &World,
    flight: &Flight,
    target: Target,
    wants: &mut Wants,
) -> SpiResult<Chain<RecordRef>> {
    let known = flight
        .link
        .as_ref()
        .and_then(|link| link.remote_key.as_ref());
    if known.is_none() {
        return Ok(Chain::Open);
    }
    let far = match target {
        Target::HubSpot => circle::FAR,
        Target::Mailchimp => rings::LONGEST,
    };
    circle::follow(flight.record.clone(), far, |record| {
        if let Some(known) = wants.get(record) {
            return Ok(known.clone());
        }
        let from = wants_from(world, target, record)?;
        wants.insert(record.clone(), from.clone());
        Ok(from)
    })
}

/// Whether the target will hear of a record's change by itself.
pub fn is_on_its_way(worker: &TargetWorker, record: &RecordRef) -> SpiResult<bool> {
    Ok(worker.queue.changed_at(record).is_some() || changes::is_retried(worker.target, record)?)
}

/// Whose address a record of ours wants.
fn wants_from(world: &World, target: Target, record: &RecordRef) -> SpiResult<Option<RecordRef>> {
    let source = world.sources.get(&record.source);
    let Some((source, map)) = source.and_then(|source| Some((source, source.maps.get(&target)?)))
    else {
        return Ok(None);
    };
    if holds::is_held_for(source.id, target) {
        return Ok(None);
    }
    let mut rows = source.try_read(map, &[&record.key]).unwrap_or_default();
    let place = rows
        .remove(&record.key)
        .and_then(|row| Place::of_row(world, source, target, &row));
    let Some(place) = place else { return Ok(None) };
    let mut holders = links::holders(target, std::slice::from_ref(&place.address))?;
    let holders = holders.remove(&place.address).unwrap_or_default();
    let other = holders
        .into_iter()
        .find(|holder| place.is_held_by(holder, record, world));
    Ok(other.map(|holder| holder.record))
}

fn wanted<'a>(world: &World, block: &Block<'a>) -> Vec<(usize, &'a Place)> {
    let places = block.places.iter().enumerate();
    places
        .filter_map(|(index, place)| Some((index, place.as_ref()?)))
        .filter(|(index, place)| !place.is_known(&block.works[*index], world))
        .collect()
}

/// The e-mail address in a row, in the form links keep it.
fn address(source: &Source, target: Target, row: &[Option<String>]) -> Option<String> {
    let name = match target {
        Target::HubSpot => "email",
        Target::Mailchimp => "email_address",
    };
    let (index, _) = source.maps.get(&target)?.field_named(name)?;
    value::email_key(row.get(index)?.as_deref()?).ok()
}

fn look_at(world: &World, target: Target, holder: &RecordRef, wanted: &Place) -> SpiResult<Holder> {
    let source = world.sources.get(&holder.source);
    let Some((source, map)) = source.and_then(|source| Some((source, source.maps.get(&target)?)))
    else {
        return Ok(Holder::Keeps);
    };
    if holds::is_held_for(source.id, target) {
        return Ok(Holder::Unread);
    }
    let Ok(rows) = source.try_read(map, &[&holder.key]) else {
        return Ok(Holder::Unread);
    };
    Ok(match rows.get(&holder.key) {
        None => match source.is_gone(&holder.key) {
            Ok(true) => Holder::Gone,
            Ok(false) => Holder::Keeps,
            Err(_) => Holder::Unread,
        },
        Some(row) => match Place::of_row(world, source, target, row) {
            Some(place) if place == *wanted => Holder::Keeps,
            _ => Holder::Moved,
        },
    })
}

/// Gives the link of a row that is gone, or has another address by now, to the new row with its
/// address; `false` when it has to wait, because the old link is in use or the new row has one of its own.
fn inherit(
    worker: &TargetWorker,
    world: &World,
    block: &mut Block,
    index: usize,
    from: &RecordRef,
    moves: &mut Vec<Move>,
) -> SpiResult<bool> {
    let is_free = block.works[index].link.is_none() && !is_moving(moves, from);
    if !is_free || is_erased(world, from)? {
        return Ok(false);
    }
    let beside = block
        .flights
        .iter()
        .position(|flight| flight.record == *from);
    let link = match beside {
        Some(beside) => {
            block.flights[beside].link = None;
            block.works[beside].link.take()
        }
        None if worker.queue.is_flying(from) => None,
        None => links::read(from.source, worker.target, &[from.key.as_str()])?.remove(&from.key),
    };
    let Some(link) = link else {
        return Ok(false);
    };
    block.works[index].link = Some(link.clone());
    block.flights[index].link = Some(link.clone());
    moves.push(Move {
        from: from.clone(),
        to: LinkEntry {
            record: block.flights[index].record.clone(),
            link,
        },
    });
    Ok(true)
}

/// Whether a record's link, as it is stored, is no longer what planning has come to.
pub fn is_moving(moves: &[Move], record: &RecordRef) -> bool {
    moves
        .iter()
        .any(|moved| moved.from == *record || moved.to.record == *record)
}

/// Whether a record is being erased: who comes after it is not to get what it had.
pub fn is_erased(world: &World, record: &RecordRef) -> SpiResult<bool> {
    let key = record.key.as_str();
    let withheld = |target| withheld::among(record.source, target, &[key]);
    Ok(world.withheld
        && (withheld(Target::HubSpot)?.contains(&record.key)
            || withheld(Target::Mailchimp)?.contains(&record.key)))
}

pub fn describe(world: &World, seen_from: &Source, record: &RecordRef) -> String {
    match world.sources.get(&record.source) {
        Some(source) if source.id != seen_from.id => {
            format!("{} of {}", record.key.as_str(), source.name)
        }
        _ => record.key.as_str().to_owned(),
    }
}

/// Rows that are gone leave their members to rows that were refused for having the same address:
/// nobody is archived while another row wants them. Gives the heirs, to be sent again.
pub fn bequeath(
    worker: &TargetWorker,
    world: &World,
    block: &mut Block,
    moves: &mut Vec<Move>,
) -> SpiResult<Vec<Retry>> {
    let gone = |work: &Work| work.row.is_none() && work.link.is_some();
    let nobody = worker.target != Target::Mailchimp
        || world.dead(worker.target) == 0
        || !block.works.iter().any(gone);
    if nobody {
        return Ok(Vec::new());
    }
    let refused = dead_letters::conflicts(worker.target)?;
    let mut heirs = Vec::new();
    for (work, flight) in block.works.iter_mut().zip(block.flights.iter_mut()) {
        let Some(place) = work
            .link
            .as_ref()
            .filter(|_| work.row.is_none())
            .and_then(|link| Place::of_link(link, world))
        else {
            continue;
        };
        let named = format!("e-mail address {}, ", place.address);
        for (heir, _) in refused.iter().filter(|(_, why)| why.contains(&named)) {
            let free = *heir != flight.record
                && !is_moving(moves, heir)
                && !worker.queue.is_flying(heir)
                && matches!(look_at(world, worker.target, heir, &place)?, Holder::Keeps)
                && links::read(heir.source, worker.target, &[heir.key.as_str()])?.is_empty();
            let Some(link) = work.link.take_if(|_| free) else {
                continue;
            };
            flight.link = None;
            moves.push(Move {
                from: flight.record.clone(),
                to: LinkEntry {
                    record: heir.clone(),
                    link,
                },
            });
            heirs.push(Retry {
                record: heir.clone(),
                op: Op::Upsert,
                lane: Lane::Retry,
                attempts: 0,
                wait_ms: 0,
                why: format!(
                    "record {} had the same e-mail address and is gone",
                    flight.record.key.as_str()
                ),
                enqueued_at: flight.changed_at,
            });
            break;
        }
    }
    Ok(heirs)
}
