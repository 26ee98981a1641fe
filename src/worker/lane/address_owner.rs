//! Several rows, one e-mail address: who has it, who inherits it, who has to wait.

mod rings;

use std::collections::{BTreeMap, HashMap};

use integration_engine::delivery::address_owner::chain::{self, Chain};
use integration_engine::delivery::address_owner::{self, Claims, Contest, Holding, Place, Step};
use integration_engine::delivery::call::Work;
use integration_engine::delivery::settlement::{InFlight, LinkEntry};
use integration_engine::limits::retry::Retry;
use integration_engine::record::{Lane, Op, RecordRef, Target};
use integration_engine::value;
use pgrx::spi::SpiResult;

use crate::store::holds;
use crate::store::links::{self, Holder as Known};
use crate::store::queue::changes;
use crate::store::queue::dead_letters;
use crate::store::queue::withheld;
use crate::store::sources::Source;
use crate::worker::Context;
use crate::worker::lane::plan::{self, Move, Planning};
use crate::worker::target::TargetWorker;

/// The records of one source that are being planned, side by side.
pub struct Block<'a> {
    pub source: &'a Source,
    /// Where their rows want to be known.
    pub places: &'a [Option<Place>],
    pub flights: &'a mut [InFlight],
    pub works: &'a mut [Work],
}

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
/// row's key changed, or it moved to another partition. Returns the records that have to wait until
/// the target has been told of their holder's change.
pub fn resolve(
    worker: &TargetWorker,
    context: &Context,
    block: &mut Block,
    planning: &mut Planning,
) -> SpiResult<BTreeMap<usize, Wait>> {
    let mut waits = BTreeMap::new();
    let mut wants = HashMap::new();
    if !block.source.entity.is_person() {
        return Ok(waits);
    }
    let wanted = wanted(context, block);
    let addresses: Vec<String> = wanted
        .iter()
        .map(|(_, place)| place.address.clone())
        .collect();
    let mut holders = links::holders(worker.target, &addresses)?;
    for (index, place) in wanted {
        if is_known(place, &block.works[index], context) {
            continue;
        }
        let mine = &block.flights[index].record;
        let others = holders.get(&place.address).into_iter().flatten();
        let mut others = others.filter(|other| is_held_by(place, other, mine, context));
        let Some(other) = others.next().map(|other| other.record.clone()) else {
            continue;
        };
        let holding = look_at(context, worker.target, &other, place)?;
        let ruling = address_owner::rule(worker.target, holding, || {
            let flight = &block.flights[index];
            Ok::<_, pgrx::spi::Error>(Contest {
                chain: chain(context, flight, worker.target, &mut wants)?,
                on_its_way: is_on_its_way(worker, &other)?,
                attempts: flight.attempts,
            })
        })?;
        if !follow(
            worker,
            context,
            block,
            (index, &other),
            ruling.step,
            planning,
        )? {
            waits.insert(
                index,
                Wait {
                    counted: ruling.counted,
                    holder: describe(context, block.source, &other),
                },
            );
        } else if holding == Holding::Gone {
            // One heir only.
            let others = holders.get_mut(&place.address).into_iter();
            others.for_each(|others| others.retain(|known| known.record != other));
        }
    }
    Ok(waits)
}

/// Does what is to be done about a record and the holder of its address; `false`: not now.
fn follow(
    worker: &TargetWorker,
    context: &Context,
    block: &mut Block,
    (index, other): (usize, &RecordRef),
    step: Step,
    planning: &mut Planning,
) -> SpiResult<bool> {
    match step {
        Step::Refuse => {
            block.works[index].rival = Some(describe(context, block.source, other));
            block.flights[index].holder = Some(other.clone());
            Ok(true)
        }
        Step::Inherit => inherit(worker, context, block, index, other, &mut planning.moves),
        Step::GiveWay => {
            block.works[index].gives_way = true;
            Ok(true)
        }
        Step::PassOn(ring) => rings::turn(worker, context, block, &ring, planning),
        Step::Wait => Ok(false),
    }
}

/// Whose address each record wants, as far as that has been looked up.
type Wants = HashMap<RecordRef, Option<RecordRef>>;

/// Who waits for whom: rows that swap their addresses would do so for ever. HubSpot lets a contact
/// be without an address for a while; at Mailchimp the members are passed on, all at once.
fn chain(
    context: &Context,
    flight: &InFlight,
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
        Target::HubSpot => chain::FAR,
        Target::Mailchimp => rings::LONGEST,
    };
    chain::follow(flight.record.clone(), far, |record| {
        if let Some(known) = wants.get(record) {
            return Ok(known.clone());
        }
        let from = wants_from(context, target, record)?;
        wants.insert(record.clone(), from.clone());
        Ok(from)
    })
}

/// Whether the target will hear of a record's change by itself.
pub fn is_on_its_way(worker: &TargetWorker, record: &RecordRef) -> SpiResult<bool> {
    Ok(worker.queue.changed_at(record).is_some() || changes::is_retried(worker.target, record)?)
}

/// Whose address a record of ours wants.
fn wants_from(
    context: &Context,
    target: Target,
    record: &RecordRef,
) -> SpiResult<Option<RecordRef>> {
    let source = context.sources.get(&record.source);
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
        .and_then(|row| place_of(context, source, target, &row));
    let Some(place) = place else { return Ok(None) };
    let mut holders = links::holders(target, std::slice::from_ref(&place.address))?;
    let holders = holders.remove(&place.address).unwrap_or_default();
    let other = holders
        .into_iter()
        .find(|holder| is_held_by(&place, holder, record, context));
    Ok(other.map(|holder| holder.record))
}

fn wanted<'a>(context: &Context, block: &Block<'a>) -> Vec<(usize, &'a Place)> {
    let places = block.places.iter().enumerate();
    places
        .filter_map(|(index, place)| Some((index, place.as_ref()?)))
        .filter(|(index, place)| !is_known(place, &block.works[*index], context))
        .collect()
}

/// Where the rows of some records want to be known; nothing where they are no people.
pub fn places(
    target: Target,
    context: &Context,
    source: &Source,
    works: &[Work],
) -> Vec<Option<Place>> {
    if !source.entity.is_person() {
        return Vec::new();
    }
    let rows = works.iter().map(|work| work.row.as_deref());
    rows.map(|row| place_of(context, source, target, row?))
        .collect()
}

/// Where a row wants to be known.
fn place_of(
    context: &Context,
    source: &Source,
    target: Target,
    row: &[Option<String>],
) -> Option<Place> {
    Some(Place {
        address: address(source, target, row)?,
        audience: plan::named(context, source.maps.get(&target)?, row),
    })
}

/// The record that was first, of those that are planned together and want to be known where this
/// one's row does.
pub fn first_of<'c>(
    claims: &'c Claims,
    work: &Work,
    place: Option<&Place>,
    context: &Context,
) -> Option<&'c RecordRef> {
    if claims.is_empty() || work.rival.is_some() {
        return None;
    }
    claims.first(place.filter(|place| !is_known(place, work, context))?)
}

/// Whether a record is known there already.
pub fn is_known(place: &Place, work: &Work, context: &Context) -> bool {
    place.is_known(work.link.as_ref(), &context.settings.mailchimp_api.list)
}

fn is_held_by(place: &Place, holder: &Known, mine: &RecordRef, context: &Context) -> bool {
    let default = &context.settings.mailchimp_api.list;
    holder.record != *mine && place.is_in(holder.list.as_deref(), default)
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

fn look_at(
    context: &Context,
    target: Target,
    holder: &RecordRef,
    wanted: &Place,
) -> SpiResult<Holding> {
    let source = context.sources.get(&holder.source);
    let Some((source, map)) = source.and_then(|source| Some((source, source.maps.get(&target)?)))
    else {
        return Ok(Holding::Keeps);
    };
    if holds::is_held_for(source.id, target) {
        return Ok(Holding::Unread);
    }
    let Ok(rows) = source.try_read(map, &[&holder.key]) else {
        return Ok(Holding::Unread);
    };
    Ok(match rows.get(&holder.key) {
        None => match source.is_gone(&holder.key) {
            Ok(true) => Holding::Gone,
            Ok(false) => Holding::Keeps,
            Err(_) => Holding::Unread,
        },
        Some(row) => match place_of(context, source, target, row) {
            Some(place) if place == *wanted => Holding::Keeps,
            _ => Holding::Moved,
        },
    })
}

/// Passes on the link of a row that is gone, or has another address by now, to the new row with its
/// address; `false` when it has to wait, because the old link is in use or the new row has one of its own.
fn inherit(
    worker: &TargetWorker,
    context: &Context,
    block: &mut Block,
    index: usize,
    from: &RecordRef,
    moves: &mut Vec<Move>,
) -> SpiResult<bool> {
    let is_free = block.works[index].link.is_none() && !is_moving(moves, from);
    if !is_free || is_erased(context, from)? {
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
pub fn is_erased(context: &Context, record: &RecordRef) -> SpiResult<bool> {
    let key = record.key.as_str();
    let withheld = |target| withheld::among(record.source, target, &[key]);
    Ok(context.withheld
        && (withheld(Target::HubSpot)?.contains(&record.key)
            || withheld(Target::Mailchimp)?.contains(&record.key)))
}

pub fn describe(context: &Context, seen_from: &Source, record: &RecordRef) -> String {
    match context.sources.get(&record.source) {
        Some(source) if source.id != seen_from.id => {
            format!("{} of {}", record.key.as_str(), source.name)
        }
        _ => record.key.as_str().to_owned(),
    }
}

/// Rows that are gone leave their members to rows that were refused for having the same address:
/// nobody is archived while another row wants them. Returns the heirs, to be sent again.
pub fn bequeath(
    worker: &TargetWorker,
    context: &Context,
    block: &mut Block,
    moves: &mut Vec<Move>,
) -> SpiResult<Vec<Retry>> {
    if worker.target != Target::Mailchimp || context.dead(worker.target) == 0 {
        return Ok(Vec::new());
    }
    let works = block.works.iter().enumerate();
    let gone = works.filter(|(_, work)| work.row.is_none() && work.link.is_some());
    let gone: Vec<usize> = gone.map(|(at, _)| at).collect();
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let records: Vec<RecordRef> = gone
        .iter()
        .map(|at| block.flights[*at].record.clone())
        .collect();
    let mut heirs = Vec::new();
    for (holder, heir) in dead_letters::refused_for(worker.target, &records)? {
        let Some(at) = gone.get(holder) else { continue };
        let (work, flight) = (&mut block.works[*at], &mut block.flights[*at]);
        let default = &context.settings.mailchimp_api.list;
        let link = work.link.as_ref();
        let Some(place) = link.and_then(|link| Place::of_link(link, default)) else {
            continue;
        };
        let free = heir != flight.record
            && !is_moving(moves, &heir)
            && !worker.queue.is_flying(&heir)
            && look_at(context, worker.target, &heir, &place)? == Holding::Keeps
            && links::read(heir.source, worker.target, &[heir.key.as_str()])?.is_empty();
        let Some(link) = work.link.take_if(|_| free) else {
            continue;
        };
        flight.link = None;
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
        moves.push(Move {
            from: flight.record.clone(),
            to: LinkEntry { record: heir, link },
        });
    }
    Ok(heirs)
}
