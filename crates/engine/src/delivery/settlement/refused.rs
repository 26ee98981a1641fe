//! People who cannot be subscribed, whatever the CRM says.

use super::{ConsentChange, ConsentWriteback, Identity, InFlight, LinkEntry, Settling};
use crate::{consent::Party, delivery::call::Link, record::consent::MemberStatus};

impl Settling<'_> {
    /// Somebody who cannot be subscribed, and whose link is to say so, as the CRM is.
    pub(super) fn kept_out(&mut self, flight: &InFlight, status: MemberStatus) {
        self.effects.writebacks.push(ConsentWriteback {
            record: flight.record.clone(),
            status,
        });
        let stranger = || {
            let identity = flight.identity.as_ref();
            identity.map(Identity::link).unwrap_or_default()
        };
        let known = flight.link.clone().unwrap_or_else(stranger);
        let attempt = flight.attempt();
        if attempt.is_some_and(|attempt| attempt.spares_member(status)) {
            return;
        }
        self.refused(flight, &known, status);
        self.effects.noted.push(LinkEntry {
            record: flight.record.clone(),
            link: known.unsubscribed(status),
        });
    }

    /// Somebody is opted in, and cannot be subscribed: it is remembered that they left, or Mailchimp
    /// says so.
    pub(super) fn refused(&mut self, flight: &InFlight, known: &Link, status: MemberStatus) {
        if known.member_status == Some(status) {
            return;
        }
        let left = flight.left();
        self.effects.consent.push(ConsentChange {
            record: flight.record.clone(),
            address: known.remote_key.clone(),
            by: match (left, status) {
                (_, MemberStatus::UnsubscribedByCrm) => Party::Crm,
                (Some(standing), _) => standing.by,
                (None, _) => Party::Mailchimp,
            },
            before: known.member_status,
            after: status,
            at: self.rules.now,
            event: None,
            reason: Some(match (left, status) {
                (_, MemberStatus::UnsubscribedByCrm) => "another row with the address".to_owned(),
                (_, MemberStatus::Archived) => "archived there".to_owned(),
                (Some(_), _) => "remembered of the address".to_owned(),
                (None, _) => "refused".to_owned(),
            }),
        });
    }
}
