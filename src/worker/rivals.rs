//! Several rows, one e-mail address: who has it, who inherits it, who has to wait.

use integration_engine::call::Work;
use integration_engine::queue::RecordRef;
use integration_engine::record::{Entity, Target};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::World;
use super::fill::{self, Move};
use super::target::{Flight, TargetWorker};
use crate::store::links::{self, Entry, Holder as Known};
use crate::store::sources::Source;
use crate::store::withheld;

/// The records of one source that are being planned, side by side.
pub struct Block<'a> {
    pub source: &'a Source,
    pub flights: &'a mut [Flight],
    pub works: &'a mut [Work],
}

/// What the row behind a link is like now.
enum Holder {
    /// It still has the address.
    Keeps,
    /// It has another one, which the service has not been told yet.
    Moved,
    Gone,
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
    moves: &mut Vec<Move>,
) -> SpiResult<Vec<usize>> {
    let mut waits = Vec::new();
    if block.source.entity != Entity::Contact {
        return Ok(waits);
    }
    let wanted = wanted(world, block, worker.target);
    let addresses: Vec<String> = wanted
        .iter()
        .map(|(_, place)| place.address.clone())
        .collect();
    let mut holders = links::holders(worker.target, &addresses)?;
    for (index, place) in wanted {
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
        match look_at(world, worker.target, &other, &place)? {
            Holder::Keeps => block.works[index].rival = Some(describe(world, block.source, &other)),
            Holder::Gone if inherit(worker, world, block, index, &other, moves)? => {
                // One heir only.
                let others = holders.get_mut(&place.address).into_iter();
                others.for_each(|others| others.retain(|known| known.record != other));
            }
            Holder::Gone | Holder::Moved => waits.push(index),
        }
    }
    Ok(waits)
}

/// Where a row wants to be known: under its address, at Mailchimp in its audience.
#[derive(PartialEq, Eq)]
struct Place {
    address: String,
    audience: Option<String>,
}

impl Place {
    fn of_row(
        world: &World,
        source: &Source,
        target: Target,
        row: &[Option<String>],
    ) -> Option<Place> {
        Some(Place {
            address: address(source, target, row)?,
            audience: fill::named(world, source.maps.get(&target)?, row),
        })
    }

    /// Where it is known already.
    fn is_known(&self, work: &Work, world: &World) -> bool {
        work.link.as_ref().is_some_and(|link| {
            let list = link.membership.list.as_deref();
            link.remote_key.as_ref() == Some(&self.address) && self.is_in(list, world)
        })
    }

    fn is_in(&self, list: Option<&str>, world: &World) -> bool {
        let default = world.settings.mailchimp_api.list.as_str();
        let audience = self.audience.as_deref();
        audience.is_none_or(|audience| audience == list.unwrap_or(default))
    }

    fn is_held_by(&self, holder: &Known, mine: &RecordRef, world: &World) -> bool {
        holder.record != *mine && self.is_in(holder.list.as_deref(), world)
    }
}

fn wanted(world: &World, block: &Block, target: Target) -> Vec<(usize, Place)> {
    let works = block.works.iter().enumerate();
    works
        .filter_map(|(index, work)| {
            let row = work.row.as_deref()?;
            Some((index, Place::of_row(world, block.source, target, row)?))
        })
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
    let rows = source.read(map, &[&holder.key])?;
    Ok(match rows.get(&holder.key) {
        None => Holder::Gone,
        Some(row) if Place::of_row(world, source, target, row).as_ref() == Some(wanted) => {
            Holder::Keeps
        }
        Some(_) => Holder::Moved,
    })
}

/// Gives the link of a row that is gone to the new row with its address; `false` when it has to
/// wait, because the old link is in use or the new row has one of its own.
fn inherit(
    worker: &TargetWorker,
    world: &World,
    block: &mut Block,
    index: usize,
    from: &RecordRef,
    moves: &mut Vec<Move>,
) -> SpiResult<bool> {
    if block.works[index].link.is_some() || is_erased(world, from)? {
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
        to: Entry {
            record: block.flights[index].record.clone(),
            link,
        },
    });
    Ok(true)
}

/// Whether a record is being erased: who comes after it is not to get what it had.
fn is_erased(world: &World, record: &RecordRef) -> SpiResult<bool> {
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
