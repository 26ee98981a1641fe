//! The order of events that wait: none overtakes an earlier one of the same record, unless nothing
//! depends on it.
//!
//! Most events could: clocks decide which of two values is the newer one. But one that tells who a
//! record is (an address, a merge, a deletion and its undoing) decides whom later ones are about, and
//! Mailchimp's clock does not tell apart what happens within a second.

use std::collections::{HashMap, HashSet};

use crate::{record::Timestamp, value};

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
pub struct Affected {
    names: Vec<Box<str>>,
    reach: Reach,
}

impl Affected {
    /// About what has these names.
    pub fn new(names: impl Iterator<Item = String>, reach: Reach) -> Affected {
        Affected {
            names: names.map(String::into_boxed_str).collect(),
            reach,
        }
    }

    /// About whoever has these addresses.
    pub fn of_addresses<'a>(addresses: impl Iterator<Item = &'a str>, reach: Reach) -> Affected {
        let keys = addresses.filter_map(|address| value::email_key(address).ok());
        Affected::new(keys, reach)
    }
}

/// An event's place among all: when it happened, and its number.
pub type Place = (Timestamp, i64);

/// The events that wait, by number.
#[derive(Default)]
pub struct EventOrder {
    waiting: HashMap<i64, (Timestamp, Affected)>,
    by_name: HashMap<Box<str>, HashSet<i64>>,
}

impl EventOrder {
    /// Takes in an event that has to wait.
    pub fn park(&mut self, (at, id): Place, claim: Affected) {
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
    pub fn before(&self, place: Place, claim: &Affected) -> Option<i64> {
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
    use super::*;
    use proptest::prelude::*;

    fn of(address: &str, reach: Reach) -> Affected {
        Affected::of_addresses([address].into_iter(), reach)
    }

    #[test]
    fn nobodys_opt_out_waits_for_a_field() {
        use Reach::{Fields, OptOut, Record};
        for (earlier, later, waits) in [
            (Fields, Fields, true),
            (Fields, Record, true),
            (Fields, OptOut, false),
            (Record, OptOut, true),
            (OptOut, Record, true),
            (OptOut, Fields, true),
        ] {
            let mut order = EventOrder::default();
            order.park((Timestamp(5), 1), of("A@b.co", earlier));
            let found = order.before((Timestamp(6), 2), &of("a@b.co", later));
            assert_eq!(found == Some(1), waits, "{earlier:?} {later:?}");
            assert_eq!(order.before((Timestamp(6), 2), &of("c@b.co", later)), None);
        }
    }

    #[test]
    fn who_is_released_holds_up_nobody() {
        let claim = || of("a@b.co", Reach::Record);
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
            let claim = |person: u8| of(&format!("{person}@b.co"), Reach::Record);
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
