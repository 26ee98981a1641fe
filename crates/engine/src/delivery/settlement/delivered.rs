//! What the service took, or removed.

use super::{ConsentChange, InFlight, LinkEntry, Settling};
use crate::{
    consent,
    delivery::call::{Beside, Link},
    record::{RemoteId, consent::MemberStatus},
    sync::clock::{Tick, Writer},
};

/// What the service says of a record that it took.
pub(super) struct Delivery {
    pub remote_id: Option<RemoteId>,
    pub remote_key: Option<String>,
    pub member_status: Option<MemberStatus>,
    pub ticks: Vec<Tick>,
}

impl Settling<'_> {
    pub(super) fn delivered(&mut self, mut flight: InFlight, delivery: Delivery, beside: Beside) {
        let Delivery {
            remote_id,
            remote_key,
            member_status,
            ticks,
        } = delivery;
        let link = flight.link.take().unwrap_or_default();
        if remote_id.is_some() && link.remote_id.is_some() && remote_id != link.remote_id {
            self.effects.readopted.push(flight.record.clone());
        }
        let mut link = link.settled(member_status == Some(MemberStatus::Subscribed));
        link.remote_id = remote_id.or(link.remote_id);
        link.remote_key = remote_key.or(link.remote_key);
        if let Some(status) = member_status {
            self.accepted(&flight, &mut link, status);
        }
        for tick in ticks {
            // What we wrote in between is older than what we write now.
            let before = link.clock.get(tick.field);
            let before = before.filter(|before| before.by == Writer::Crm);
            let at = before.map_or(tick.at, |before| before.at.max(tick.at));
            link.clock.set(Tick { at, ..tick });
        }
        link.membership.given = beside.given.unwrap_or(link.membership.given);
        self.effects.pushed.push(LinkEntry {
            record: flight.record.clone(),
            link,
        });
        if beside.more {
            let why = "more was to be sent than one call takes".to_owned();
            self.again(flight, None, why);
        } else {
            self.settled(flight);
        }
    }

    /// Mailchimp took a status: if the member had another one, that is a change of their consent.
    pub(super) fn accepted(&mut self, flight: &InFlight, link: &mut Link, status: MemberStatus) {
        if link.member_status == Some(status) {
            return;
        }
        let by = match flight.left().filter(|known| known.status == status) {
            Some(known) => known.by,
            None => consent::decided_by(link.member_status, status),
        };
        let before = link.member_status.replace(status);
        self.effects.consent.push(ConsentChange {
            record: flight.record.clone(),
            address: link.remote_key.clone(),
            by,
            before,
            after: status,
            at: flight.changed_at,
            event: None,
            reason: None,
        });
    }

    pub(super) fn removed(&mut self, flight: InFlight) {
        let link = flight.link.as_ref();
        let recycled = self.rules.recycles && flight.entity.is_person();
        let id = link.and_then(|link| link.remote_id.clone());
        let archived = id.filter(|_| recycled);
        let archived = archived.map(|id| (flight.record.clone(), id));
        self.effects.archived.extend(archived);
        self.effects.unlinked.push(flight.record.clone());
        self.settled(flight);
    }
}
