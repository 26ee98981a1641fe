//! What is stored of records' identities before calls leave.

use std::collections::VecDeque;

use integration_engine::delivery::call::{Item, Leaver, Link};
use integration_engine::membership::to_note;
use integration_engine::record::once::Once;
use integration_engine::record::{RecordRef, Target};
use integration_engine::standing::{EVERYWHERE, News, Remembered};
use pgrx::spi::SpiResult;

use super::World;
use super::fill::Move;
use super::target::Planned;
use crate::store::associations::{self as table, Association};
use crate::store::links::{self, Cause, Entry, intents};
use crate::store::standings::{self, SignUps};

/// Whether something has to be stored before a call leaves.
pub fn is_to_note(planned: &Planned) -> bool {
    let mut records = planned.call.items.iter().zip(&planned.flights);
    records.any(|(item, flight)| to_note(flight.link.as_ref(), item, &planned.call.kind).is_some())
}

/// Notes, before a call is made, which records it may create: should the answer be lost, the
/// record is looked for instead of being created twice. `true` when there is something to note.
pub fn note_intents(target: Target, planned: &mut VecDeque<Planned>) -> SpiResult<bool> {
    let (mut entries, mut asked, mut noted) = (Once::default(), Vec::new(), false);
    for planned in planned {
        let mut creates = Vec::new();
        for (item, flight) in planned.call.items.iter_mut().zip(&mut planned.flights) {
            let Some(link) = to_note(flight.link.as_ref(), item, &planned.call.kind) else {
                continue;
            };
            (item.intent, item.beside.note) = (false, false);
            if item.leaver == Leaver::Asked {
                asked.extend(asks(item, planned.call.kind.list(), &link));
            }
            let known = flight.link.replace(link.clone());
            let entry = Entry {
                record: flight.record.clone(),
                link,
            };
            match known.is_none() && entry.link.is_to_be() {
                true => creates.push(entry),
                false => entries.push(entry),
            }
        }
        noted |= !creates.is_empty();
        intents::note(target, &creates)?;
    }
    links::write(target, Cause::Noted, &entries)?;
    standings::remember(&asked, SignUps::OfLeavers, "outbox")?;
    Ok(noted || !entries.is_empty())
}

/// That somebody who left is about to be asked whether they want to come back: the only time for
/// what is known of them by now.
fn asks(item: &Item, list: Option<&str>, link: &Link) -> Vec<Remembered> {
    let Some(address) = &item.remote_key else {
        return Vec::new();
    };
    let former = link.membership.former.iter().map(String::as_str);
    let lists = list.into_iter().chain([EVERYWHERE]).chain(former);
    lists
        .map(|list| Remembered {
            list: list.to_owned(),
            address: address.clone(),
            news: News::Asked,
        })
        .collect()
}

/// Stores links under the keys their rows have by now.
pub fn move_links(target: Target, world: &World, moves: Vec<Move>) -> SpiResult<()> {
    for moved in moves.iter().filter(|_| target == Target::HubSpot) {
        let of_source = |known: &&Association| known.source == moved.from.source;
        for association in world.associations.iter().filter(of_source) {
            table::move_record(association, &moved.from.key, &moved.to.record.key)?;
        }
    }
    let (from, to): (Vec<RecordRef>, Once<Entry>) = moves
        .into_iter()
        .map(|moved| (moved.from, moved.to))
        .unzip();
    links::remove(target, &from)?;
    links::write(target, Cause::Noted, &to)
}
