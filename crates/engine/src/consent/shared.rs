//! Rows with one address: an opt-out of any of them is one of all, and none of them is opted in by
//! taking another address.
//!
//! Noted are rows that have been met with one address, and which of them were opted out there. A row
//! that is opted in, and whose opt-in another one's opt-out has outweighed, opts in anew when it has
//! been opted out itself in between, or when the other one is opted in where it opted out.

use crate::record::consent::Consent;

/// What a row that is noted under an address is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// It still has the address.
    Here(Consent),
    /// It has another one by now.
    Elsewhere(Consent),
    Gone,
    /// It cannot be read at present.
    Unread,
}

/// The row in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mine {
    pub consent: Consent,
    /// It is a member, or was met with the address: the other row's opt-out was its own, too.
    pub met: bool,
    /// It still has the address.
    pub here: bool,
}

/// What comes of it that another row's member has a row's address, be it in another audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    Nothing,
    /// Both are noted.
    Met,
    /// Both are noted, and the member is opted out.
    OptsOut,
    /// Both are noted, and the row is not opted in, for the member's row is opted out.
    OptedOut,
}

/// Returns what comes of it. `mine`: what the row says; `other`: what the member's row is like now.
pub fn meet(mine: Consent, other: Other) -> Meeting {
    match (mine, other) {
        (Consent::Unknown, _) | (_, Other::Elsewhere(_) | Other::Gone) => Meeting::Nothing,
        // Of whom nobody knows what they say, the next look finds out.
        (Consent::OptedOut, Other::Here(Consent::OptedIn) | Other::Unread) => Meeting::OptsOut,
        (Consent::OptedIn, Other::Here(Consent::OptedOut)) => Meeting::OptedOut,
        (Consent::OptedIn | Consent::OptedOut, Other::Here(_) | Other::Unread) => Meeting::Met,
    }
}

/// What a note about another row comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Nobody is opted in against it.
    Counts,
    /// It says nothing here.
    Nothing,
    /// It says nothing any more, unless to other rows that were met with the address.
    Over,
}

/// Weighs a note about another row. `opted_out`: it was, under the address in question.
pub fn weigh(opted_out: bool, other: Other, mine: Mine) -> Weight {
    match (opted_out, other) {
        (true, Other::Here(Consent::OptedIn)) => Weight::Over,
        (true, Other::Here(_) | Other::Unread) => Weight::Counts,
        // That it went is no opt-in of whom it opted out.
        (true, Other::Elsewhere(_) | Other::Gone) => {
            match mine.consent == Consent::OptedIn && mine.met {
                true => Weight::Counts,
                false => Weight::Over,
            }
        }
        // Of two rows with one address, one is refused for the other at any rate.
        (false, _) if mine.here => Weight::Nothing,
        (false, Other::Here(Consent::OptedOut) | Other::Elsewhere(Consent::OptedOut)) => {
            Weight::Counts
        }
        (false, Other::Unread) => Weight::Counts,
        (false, _) => Weight::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opt_out_of_either_is_one_of_both() {
        use Consent::{OptedIn, OptedOut, Unknown};
        use Other::{Elsewhere, Gone, Here, Unread};
        let cases = [
            (OptedOut, Here(OptedIn), Meeting::OptsOut),
            (OptedOut, Unread, Meeting::OptsOut),
            // Neither is mailed for what it says itself.
            (OptedOut, Here(OptedOut), Meeting::Met),
            (OptedOut, Here(Unknown), Meeting::Met),
            (OptedIn, Here(OptedOut), Meeting::OptedOut),
            (OptedIn, Here(OptedIn), Meeting::Met),
            (OptedIn, Here(Unknown), Meeting::Met),
            (OptedIn, Unread, Meeting::Met),
            // It says nothing of anybody.
            (Unknown, Here(OptedIn), Meeting::Nothing),
            (Unknown, Here(OptedOut), Meeting::Nothing),
            // The member is about to be somebody else's.
            (OptedOut, Elsewhere(OptedIn), Meeting::Nothing),
            (OptedIn, Elsewhere(OptedOut), Meeting::Nothing),
            (OptedOut, Gone, Meeting::Nothing),
        ];
        for (mine, other, expected) in cases {
            assert_eq!(meet(mine, other), expected, "{mine:?} {other:?}");
        }
    }

    #[test]
    fn every_note_has_its_weight() {
        use Consent::{OptedIn, OptedOut, Unknown};
        use Other::{Elsewhere, Gone, Here, Unread};
        use Weight::{Counts, Nothing, Over};
        let mine = |consent, met, here| Mine { consent, met, here };
        let (member, moved) = (mine(OptedIn, true, true), mine(OptedIn, true, false));
        let (fresh, out) = (mine(OptedIn, false, true), mine(OptedOut, true, true));
        let cases = [
            // It has the address, and is opted out: nobody with it is opted in, nor who left it.
            (true, Here(OptedOut), member, Counts),
            (true, Here(Unknown), moved, Counts),
            (true, Here(OptedOut), fresh, Counts),
            (true, Unread, fresh, Counts),
            // It is opted in.
            (true, Here(OptedIn), member, Over),
            (true, Here(OptedIn), moved, Over),
            // That it moved or went is no opt-in of those who were met with it.
            (true, Elsewhere(OptedOut), member, Counts),
            (true, Elsewhere(OptedIn), member, Counts),
            (true, Gone, moved, Counts),
            // A row that is new there never was opted out by it; one that is opted out itself
            // speaks for itself from now on.
            (true, Gone, fresh, Over),
            (true, Elsewhere(OptedOut), out, Over),
            (true, Gone, mine(Unknown, true, false), Over),
            // It was opted in when they met. As long as both have the address, that is enough.
            (false, Here(OptedOut), member, Nothing),
            (false, Here(OptedIn), moved, Nothing),
            (false, Gone, moved, Nothing),
            (false, Elsewhere(Unknown), moved, Nothing),
            // Whoever leaves takes along what the other says by now.
            (false, Here(OptedOut), moved, Counts),
            (false, Elsewhere(OptedOut), moved, Counts),
            (false, Unread, moved, Counts),
        ];
        for (opted_out, other, mine, expected) in cases {
            let weight = weigh(opted_out, other, mine);
            assert_eq!(weight, expected, "{opted_out} {other:?} {mine:?}");
        }
    }
}
