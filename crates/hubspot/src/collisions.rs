//! Whether a table names its records as somebody else names theirs: another table, another database
//! or a program that writes to the same portal.
//!
//! The rule: of the records of a table that were looked up, at least [`FEWEST`] and at least half
//! belong to others. Fewer may be single people whom two databases know; so many are a table whose
//! names are wrong, and a dead letter for each of its rows would tell nobody more.

use crate::{EMAIL, HubSpotCall};
use integration_engine::delivery::outcome::{Category, Relink, Verdict};

/// Fewer are told one by one.
pub const FEWEST: u32 = 10;

/// So many count at a time: what was long ago says little of now.
const WINDOW: u32 = 200;

/// Whose a record is that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The row's own, or nobody's so far.
    Row,
    Another,
}

/// What an answer says of whose a record is; `None`: nothing. That there is none with a name of ours
/// is no news, but that there is none with somebody's address is.
pub fn owner(kind: &HubSpotCall, verdict: &Verdict) -> Option<Owner> {
    match (kind, verdict) {
        (
            _,
            Verdict::Dead {
                category: Category::Taken,
                ..
            },
        ) => Some(Owner::Another),
        (
            HubSpotCall::Find { id_property, .. },
            Verdict::Again {
                relink: Some(Relink::Forget),
                ..
            },
        ) => (id_property == EMAIL).then_some(Owner::Row),
        (
            HubSpotCall::Find { .. } | HubSpotCall::Match { .. },
            Verdict::Again {
                relink: Some(Relink::Adopt(_) | Relink::Vacant),
                ..
            },
        ) => Some(Owner::Row),
        _ => None,
    }
}

/// Records of one table that were looked up lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub looked: u32,
    pub others: u32,
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, owner: Owner) {
        if self.looked >= WINDOW {
            self.looked /= 2;
            self.others /= 2;
        }
        self.looked += 1;
        self.others += u32::from(owner == Owner::Another);
    }

    /// Whether the table's names are wrong.
    pub fn is_systematic(self) -> bool {
        self.others >= FEWEST && 2 * self.others >= self.looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::named::{COMPANY, CONTACT};
    use integration_engine::record::RemoteId;

    #[test]
    fn what_counts_as_looked_up() {
        let find = |property: &str| HubSpotCall::Find {
            entity: CONTACT,
            id_property: property.to_owned(),
        };
        let matching = HubSpotCall::Match {
            entity: COMPANY,
            property: "domain".to_owned(),
        };
        let again = |relink| Verdict::Again {
            relink,
            batch_cap: None,
            why: String::new(),
        };
        let adopt = || again(Some(Relink::Adopt(RemoteId::from("7"))));
        let dead = |category| Verdict::Dead {
            category,
            status: None,
            why: String::new(),
            member_status: None,
        };
        let cases = [
            (find("crm_id"), dead(Category::Taken), Some(Owner::Another)),
            (find("crm_id"), dead(Category::Conflict), None),
            (find("crm_id"), adopt(), Some(Owner::Row)),
            (find("crm_id"), again(Some(Relink::Forget)), None),
            (find("email"), again(Some(Relink::Forget)), Some(Owner::Row)),
            (
                matching.clone(),
                again(Some(Relink::Vacant)),
                Some(Owner::Row),
            ),
            (matching.clone(), adopt(), Some(Owner::Row)),
            (matching, again(None), None),
        ];
        for (kind, verdict, expected) in cases {
            assert_eq!(owner(&kind, &verdict), expected, "{kind:?} {verdict:?}");
        }
    }

    #[test]
    fn ten_and_half_of_them_are_systematic() {
        // Others' before and after those that are ours.
        let cases = [
            (9, 0, 0, false),
            (10, 0, 0, true),
            (0, 10, 9, false),
            (0, 10, 10, true),
            (5, 0, 5, true),
            (0, 100, 50, false),
            (0, 10_000, 99, false),
            (0, 10_000, 101, true),
            (9, 10_000, 9, false),
        ];
        for (first, ours, then, expected) in cases {
            let mut tally = Tally::default();
            (0..first).for_each(|_| tally.count(Owner::Another));
            (0..ours).for_each(|_| tally.count(Owner::Row));
            (0..then).for_each(|_| tally.count(Owner::Another));
            assert_eq!(
                tally.is_systematic(),
                expected,
                "{first} {ours} {then} {tally:?}"
            );
        }
    }
}
