//! Several rows, one e-mail address: who has it, who inherits it, who has to wait.

use integration_engine::call::Work;
use integration_engine::queue::RecordRef;
use integration_engine::record::{Entity, Target};
use integration_engine::value;
use pgrx::spi::SpiResult;

use super::World;
use super::fill::Move;
use super::target::{Flight, TargetWorker};
use crate::store::links::{self, Entry};
use crate::store::sources::Source;

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
    let wanted = wanted(block, worker.target);
    let addresses: Vec<String> = wanted.iter().map(|(_, address)| address.clone()).collect();
    let mut holders = links::holders(worker.target, &addresses)?;
    for (index, address) in wanted {
        let mine = block.flights[index].record.clone();
        let others = holders.get_mut(&address);
        let Some(other) = others
            .and_then(|others| others.iter().find(|other| **other != mine))
            .cloned()
        else {
            continue;
        };
        match look_at(world, worker.target, &other, &address)? {
            Holder::Keeps => block.works[index].rival = Some(describe(world, block.source, &other)),
            Holder::Gone if inherit(worker, block, index, &other, moves)? => {
                // One heir only.
                holders.remove(&address);
            }
            Holder::Gone | Holder::Moved => waits.push(index),
        }
    }
    Ok(waits)
}

fn wanted(block: &Block, target: Target) -> Vec<(usize, String)> {
    let known = |work: &Work| work.link.as_ref().and_then(|link| link.remote_key.clone());
    let works = block.works.iter().enumerate();
    works
        .filter_map(|(index, work)| {
            Some((index, address(block.source, target, work.row.as_deref()?)?))
        })
        .filter(|(index, address)| known(&block.works[*index]).as_ref() != Some(address))
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

fn look_at(world: &World, target: Target, holder: &RecordRef, wanted: &str) -> SpiResult<Holder> {
    let source = world.sources.get(&holder.source);
    let Some((source, map)) = source.and_then(|source| Some((source, source.maps.get(&target)?)))
    else {
        return Ok(Holder::Keeps);
    };
    let rows = source.read(map, &[&holder.key])?;
    Ok(match rows.get(&holder.key) {
        None => Holder::Gone,
        Some(row) if address(source, target, row).as_deref() == Some(wanted) => Holder::Keeps,
        Some(_) => Holder::Moved,
    })
}

/// Gives the link of a row that is gone to the new row with its address; `false` when it has to
/// wait, because the old link is in use or the new row has one of its own.
fn inherit(
    worker: &TargetWorker,
    block: &mut Block,
    index: usize,
    from: &RecordRef,
    moves: &mut Vec<Move>,
) -> SpiResult<bool> {
    if block.works[index].link.is_some() {
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

pub fn describe(world: &World, seen_from: &Source, record: &RecordRef) -> String {
    match world.sources.get(&record.source) {
        Some(source) if source.id != seen_from.id => {
            format!("{} of {}", record.key.as_str(), source.name)
        }
        _ => record.key.as_str().to_owned(),
    }
}
