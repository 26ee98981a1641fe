//! Intents: what has to be stored before calls leave whose answers may get lost, so that whoever
//! comes after a crash looks for the records instead of creating them twice, and treats people as if
//! the call had arrived.

use super::{
    call::{Call, CallKind, Item, Leaver, Link},
    outbound::Outbound,
    settlement::{InFlight, LinkEntry},
};
use crate::{
    consent::standing::{EVERYWHERE, News, Remembered},
    record::once::Once,
};

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Intents {
    /// Records without a link that may exist from now on, together with those of the same call.
    pub creates: Vec<Vec<LinkEntry>>,
    /// Links that say what may be the case from now on.
    pub noted: Once<LinkEntry>,
    /// People who left and are about to be asked whether they want to come back.
    pub asked: Vec<Remembered>,
}

impl Intents {
    /// Whether records have to be stored before anything leaves.
    pub fn is_empty(&self) -> bool {
        self.creates.is_empty() && self.noted.is_empty()
    }

    /// Adds those of a call. From here on its records are planned as they are noted, and nothing has
    /// to be noted of them again.
    pub fn note<S: Outbound>(&mut self, call: &mut Call<S>, flights: &mut [InFlight]) {
        let mut creates = Vec::new();
        for (item, flight) in call.items.iter_mut().zip(flights) {
            let Some(link) = S::to_note(flight.link.as_ref(), item, &call.kind) else {
                continue;
            };
            (item.intent, item.beside.note) = (false, false);
            if item.leaver == Leaver::Asked {
                self.asked.extend(asks(item, call.kind.list(), &link));
            }
            let known = flight.link.replace(link.clone());
            let entry = LinkEntry {
                record: flight.record.clone(),
                link,
            };
            match known.is_none() && entry.link.is_to_be() {
                true => creates.push(entry),
                false => self.noted.push(entry),
            }
        }
        if !creates.is_empty() {
            self.creates.push(creates);
        }
    }
}

/// Whether something has to be stored before a call leaves.
pub fn are_needed<S: Outbound>(call: &Call<S>, flights: &[InFlight]) -> bool {
    let mut records = call.items.iter().zip(flights);
    records.any(|(item, flight)| S::to_note(flight.link.as_ref(), item, &call.kind).is_some())
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

#[cfg(test)]
mod tests;
