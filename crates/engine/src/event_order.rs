//! The order of events that wait: none overtakes an earlier one of the same record, unless nothing
//! depends on it.
//!
//! Most events could: clocks decide which of two values is the newer one. But one that tells who a
//! record is (an address, a merge, a deletion and its undoing) decides whom later ones are about, and
//! Mailchimp's clock does not tell apart what happens within a second.

use std::collections::{HashMap, HashSet};

use crate::{
    hubspot::webhook::{HubSpotAction, HubSpotSubject},
    mailchimp::webhook::{MailchimpSubject, MandrillSubject},
    record::Timestamp,
    value,
    webhook::Subject,
};

/// How much of a record an event touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Values of fields.
    #[default]
    Fields,
    /// Who the record is, or what the person decided.
    Record,
    /// The person wants no more mail, or can get none: that waits for no field.
    OptOut,
}

/// Whom an event is about, and in which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    names: Vec<Box<str>>,
    reach: Reach,
}

impl Claim {
    /// What a stored event lays claim to.
    pub fn of(subject: &Subject) -> Claim {
        match subject {
            Subject::HubSpot(subject) => of_hubspot(subject),
            Subject::Mailchimp(subject) => of_mailchimp(subject),
            Subject::Mandrill(subject) => of_mandrill(subject),
        }
    }
}

fn of_hubspot(subject: &HubSpotSubject) -> Claim {
    let kind = subject
        .entity
        .map_or(subject.object_type.as_str(), |entity| entity.name());
    let merged = match &subject.action {
        HubSpotAction::Merge { merged, surviving } => {
            [merged.as_slice(), std::slice::from_ref(surviving)].concat()
        }
        _ => Vec::new(),
    };
    let ids = subject.object_id.iter().chain(&merged);
    let reach = match subject.action {
        HubSpotAction::PropertyChange { .. } | HubSpotAction::Redacted { .. } => Reach::Fields,
        _ => Reach::Record,
    };
    Claim {
        names: ids.map(|id| format!("{kind} {id}").into()).collect(),
        reach,
    }
}

fn of_mailchimp(subject: &MailchimpSubject) -> Claim {
    let (addresses, reach) = match subject {
        MailchimpSubject::Subscribe { email, .. } => (vec![email], Reach::Record),
        MailchimpSubject::Unsubscribe { email, .. } | MailchimpSubject::Cleaned { email, .. } => {
            (vec![email], Reach::OptOut)
        }
        MailchimpSubject::Profile { email, .. } => (vec![email], Reach::Fields),
        MailchimpSubject::EmailChange {
            old_email,
            new_email,
            ..
        } => (vec![old_email, new_email], Reach::Record),
        MailchimpSubject::Campaign { .. } | MailchimpSubject::Other(_) => {
            (Vec::new(), Reach::Fields)
        }
    };
    of_addresses(addresses.into_iter().map(String::as_str), reach)
}

fn of_mandrill(subject: &MandrillSubject) -> Claim {
    let reach = match subject.member_status() {
        Some(_) => Reach::OptOut,
        None => Reach::Fields,
    };
    of_addresses(subject.email.as_deref().into_iter(), reach)
}

fn of_addresses<'a>(addresses: impl Iterator<Item = &'a str>, reach: Reach) -> Claim {
    let keys = addresses.filter_map(|address| value::email_key(address).ok());
    Claim {
        names: keys.map(String::into_boxed_str).collect(),
        reach,
    }
}

/// An event's place among all: when it happened, and its number.
pub type Place = (Timestamp, i64);

/// The events that wait, by number.
#[derive(Default)]
pub struct EventOrder {
    waiting: HashMap<i64, (Timestamp, Claim)>,
    by_name: HashMap<Box<str>, HashSet<i64>>,
}

impl EventOrder {
    /// Takes in an event that has to wait.
    pub fn park(&mut self, (at, id): Place, claim: Claim) {
        self.release(id);
        for name in &claim.names {
            self.by_name.entry(name.clone()).or_default().insert(id);
        }
        self.waiting.insert(id, (at, claim));
    }

    /// The event waits no longer: it is tried now, or over.
    pub fn release(&mut self, id: i64) {
        let Some((_, claim)) = self.waiting.remove(&id) else {
            return;
        };
        for name in claim.names {
            if let Some(ids) = self.by_name.get_mut(&name) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_name.remove(&name);
                }
            }
        }
    }

    /// An event that waits and has to be applied before the one with this place and claim.
    pub fn before(&self, place: Place, claim: &Claim) -> Option<i64> {
        let sharing = claim
            .names
            .iter()
            .filter_map(|name| self.by_name.get(name))
            .flatten();
        sharing.copied().find(|id| {
            self.waiting.get(id).is_some_and(|(at, earlier)| {
                let alone = earlier.reach == Reach::Fields && claim.reach == Reach::OptOut;
                (*at, *id) < place && !alone
            })
        })
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.by_name.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{hubspot, mailchimp};

    fn hubspot(payload: serde_json::Value) -> Claim {
        Claim::of(&Subject::HubSpot(
            hubspot::webhook::replay(&payload).unwrap(),
        ))
    }

    fn mailchimp(payload: serde_json::Value) -> Claim {
        Claim::of(&Subject::Mailchimp(mailchimp::webhook::replay(&payload)))
    }

    fn event(kind: &str, id: u64, more: serde_json::Value) -> Claim {
        let mut event =
            json!({"subscriptionType": kind, "portalId": 1, "objectId": id, "occurredAt": 1});
        let more = more.as_object().cloned().unwrap_or_default();
        event.as_object_mut().unwrap().extend(more);
        hubspot(event)
    }

    fn waits(earlier: &Claim, later: &Claim) -> bool {
        let mut order = EventOrder::default();
        order.park((Timestamp(5), 1), earlier.clone());
        order.before((Timestamp(6), 2), later) == Some(1)
    }

    #[test]
    fn what_waits_for_what() {
        let change = |id| {
            event(
                "contact.propertyChange",
                id,
                json!({"propertyName": "phone", "propertyValue": "1"}),
            )
        };
        let gone = event("contact.deletion", 7, json!({}));
        let back = event("contact.restore", 7, json!({}));
        let merge = event(
            "contact.merge",
            9,
            json!({"primaryObjectId": 7, "mergedObjectIds": [7, 8], "newObjectId": 9}),
        );
        let of = |kind: &str, email: &str| {
            mailchimp(json!({"type": kind, "data": {"list_id": "l", "email": email}}))
        };
        let moved = mailchimp(
            json!({"type": "upemail", "data": {"list_id": "l", "old_email": "a@b.co", "new_email": "c@d.co"}}),
        );
        let cases = [
            (&change(7), &change(7), true),
            (&change(7), &change(8), false),
            (&gone, &back, true),
            (&change(7), &merge, true),
            (&merge, &change(9), true),
            (&merge, &change(10), false),
            // A company is nobody's contact.
            (&event("company.deletion", 7, json!({})), &change(7), false),
            (
                &of("subscribe", "A@b.co"),
                &of("unsubscribe", "a@b.co"),
                true,
            ),
            (
                &of("unsubscribe", "a@b.co"),
                &of("subscribe", "a@b.co"),
                true,
            ),
            (&of("unsubscribe", "a@b.co"), &of("profile", "a@b.co"), true),
            // Nobody's opt-out waits for a field.
            (
                &of("profile", "a@b.co"),
                &of("unsubscribe", "a@b.co"),
                false,
            ),
            (&of("profile", "a@b.co"), &of("cleaned", "a@b.co"), false),
            (&of("profile", "a@b.co"), &of("subscribe", "a@b.co"), true),
            // But for who it is about.
            (&moved, &of("unsubscribe", "c@d.co"), true),
            (&moved, &of("unsubscribe", "a@b.co"), true),
            (&moved, &of("unsubscribe", "e@f.co"), false),
        ];
        for (earlier, later, expected) in cases {
            assert_eq!(waits(earlier, later), expected, "{earlier:?} {later:?}");
        }
    }

    #[test]
    fn who_is_released_holds_up_nobody() {
        let claim = || mailchimp(json!({"type": "subscribe", "data": {"email": "a@b.co"}}));
        let place = |id| (Timestamp(5), id);
        let mut order = EventOrder::default();
        order.park(place(1), claim());
        order.park(place(2), claim());
        order.park(place(2), claim());
        assert!(order.before(place(3), &claim()).is_some());
        order.release(1);
        assert_eq!(order.before(place(3), &claim()), Some(2));
        // Nor does a later one.
        assert_eq!(order.before(place(1), &claim()), None);
        assert_eq!(order.before((Timestamp(4), 9), &claim()), None);
        order.release(2);
        order.release(3);
        assert_eq!(order.before(place(3), &claim()), None);
        assert!(order.is_empty());
    }

    proptest! {
        // Of one record's events, whichever are refused how often, all are applied in their order.
        #[test]
        fn events_of_a_record_keep_their_order(
            people in prop::collection::vec(0u8..3, 1..12),
            refusals in prop::collection::vec(any::<bool>(), 0..40),
        ) {
            let claim = |person: u8| {
                mailchimp(json!({"type": "subscribe", "data": {"email": format!("{person}@b.co")}}))
            };
            let mut order = EventOrder::default();
            let mut left: Vec<(i64, u8)> = (0..).zip(people).collect();
            let mut refusals = refusals.into_iter();
            let mut applied: Vec<(i64, u8)> = Vec::new();
            while !left.is_empty() {
                for (id, person) in std::mem::take(&mut left) {
                    order.release(id);
                    let place = (Timestamp(id / 2), id);
                    let blocked = order.before(place, &claim(person)).is_some();
                    if blocked || refusals.next().unwrap_or(false) {
                        order.park(place, claim(person));
                        left.push((id, person));
                    } else {
                        applied.push((id, person));
                    }
                }
            }
            prop_assert!(order.is_empty());
            for person in 0..3 {
                let ids: Vec<i64> = applied.iter().filter(|(_, of)| *of == person).map(|(id, _)| *id).collect();
                prop_assert!(ids.is_sorted());
            }
        }
    }
}
