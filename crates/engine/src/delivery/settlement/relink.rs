//! Steps on the way to where a record shall be at the service.

use super::{AddressChange, InFlight, LinkEntry, Settling};
use crate::{
    delivery::{call::Link, outcome::Relink},
    record::{RemoteId, Timestamp, consent::MemberStatus},
    sync::clock::Tick,
};

/// What we wrote may be dated so much later by the service's clock, in milliseconds.
const ECHO: i64 = 5_000;

impl Settling<'_> {
    /// Whether the record has to wait until the CRM has been told of something.
    pub(super) fn relink(&mut self, flight: &InFlight, relink: Relink) -> bool {
        match relink {
            Relink::Adopt(id) => self.adopt(flight, id),
            Relink::Vacant => {
                // The record is created next. Should a crash undo this note, nobody would look for it.
                self.effects.durable = true;
                self.moved(flight, |_| Link::default());
            }
            Relink::Forget => match flight.link.clone().and_then(Link::forgotten) {
                Some(link) => self.moved(flight, |_| link),
                None => self.effects.unlinked.push(flight.record.clone()),
            },
            Relink::Unaddressed(ticks) => {
                // When the service tells of it, that is no news, even if its clock is ahead of ours.
                let at = Timestamp(self.rules.now.0 + ECHO);
                self.moved(flight, |mut link| {
                    link.remote_key = None;
                    ticks
                        .into_iter()
                        .for_each(|tick| link.clock.set(Tick { at, ..tick }));
                    link
                });
            }
            Relink::Leave { ask } => self.moved(flight, |link| link.leave(ask)),
            Relink::Left { list, ask, .. } => self.moved(flight, |link| link.left(&list, ask)),
            Relink::Unsubscribed { how, ticks } => {
                self.refused(flight, &flight.known(), how);
                self.moved(flight, |link| {
                    let mut link = link.unsubscribed(how);
                    ticks.into_iter().for_each(|tick| link.clock.set(tick));
                    link
                });
            }
            Relink::ErasedIn(list) => self.moved(flight, |link| link.erased_in(&list)),
            Relink::Displaced => self.moved(flight, Link::displaced),
            Relink::Discarded => self.moved(flight, Link::discarded),
            Relink::Gone => {
                let known = flight.known();
                let how = known.how_gone();
                self.refused(flight, &known, how);
                self.moved(flight, |link| link.unsubscribed(how));
            }
            Relink::Found {
                address,
                status,
                ticks,
            } => return self.found(flight, &address, status, &ticks),
        }
        false
    }

    fn adopt(&mut self, flight: &InFlight, id: RemoteId) {
        let link = flight.link.as_ref();
        let known = link.and_then(|link| link.remote_id.as_ref());
        if known.is_some_and(|known| *known != id) {
            self.effects.readopted.push(flight.record.clone());
        }
        let attempt = flight.attempt();
        let removed = attempt.filter(|attempt| attempt.is_removed(&id));
        let present = removed.and_then(|attempt| attempt.address.map(str::to_owned));
        self.moved(flight, |link| Link {
            // Of another record nothing is known; under another name of the same one, what was
            // uncertain still is.
            clock: match link.is_known_by_address() {
                true => link.clock.uncertain(),
                false => Default::default(),
            },
            remote_id: Some(id),
            remote_key: present.or(link.remote_key),
            ..link
        });
    }

    /// The member goes on under another address. `true`: the CRM is to be told, for it still has the
    /// old one; as by an event of Mailchimp's, by which the link follows.
    fn found(
        &mut self,
        flight: &InFlight,
        address: &str,
        status: MemberStatus,
        ticks: &[Tick],
    ) -> bool {
        let mut link = flight.known();
        self.accepted(flight, &mut link, status);
        let link = link.found(status, ticks);
        let identity = flight.identity.as_ref();
        let present = identity.and_then(|identity| identity.address.as_deref());
        let old = link.remote_key.clone();
        let told = present.is_some() && present == old.as_deref();
        if let (Some(old), Some(identity), true) = (old, identity, told) {
            self.effects.address_changes.push(AddressChange {
                list: identity.list.clone(),
                old,
                new: address.to_owned(),
                changed_at: flight.changed_at,
            });
        }
        self.effects.noted.push(LinkEntry {
            record: flight.record.clone(),
            link: if told {
                link
            } else {
                link.readdressed(address)
            },
        });
        told
    }

    fn moved(&mut self, flight: &InFlight, step: impl FnOnce(Link) -> Link) {
        self.effects.noted.push(LinkEntry {
            record: flight.record.clone(),
            link: step(flight.known()),
        });
    }
}
