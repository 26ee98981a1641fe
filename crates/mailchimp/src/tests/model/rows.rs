//! Two rows, and what they have to do with each other where they have one address: as the worker's
//! `address_owner` and `objections` do it.

use super::{super::*, Crm, Person, address, service::On};
use integration_engine::{
    consent::shared::{self, Meeting, Mine, Other, Weight},
    record::consent::Consent,
};

/// Whether a noted row was opted out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    OptedOut,
    Met,
}

fn gets_mail(link: &Link) -> bool {
    matches!(
        link.member_status,
        Some(MemberStatus::Subscribed | MemberStatus::Pending)
    )
}

fn says(row: &Person) -> Consent {
    match row.opted_in {
        true => Consent::OptedIn,
        false => Consent::OptedOut,
    }
}

fn noted(opted_out: bool) -> Note {
    match opted_out {
        true => Note::OptedOut,
        false => Note::Met,
    }
}

impl Crm {
    pub(super) fn row(&self, key: u8) -> Option<&Person> {
        self.rows.iter().flatten().find(|row| row.key == key)
    }

    pub(super) fn row_mut(&mut self, key: u8) -> Option<&mut Person> {
        self.rows.iter_mut().flatten().find(|row| row.key == key)
    }

    /// A row with this address.
    pub(super) fn at(&self, wanted: &str) -> Option<&Person> {
        let mut rows = self.rows.iter().flatten();
        rows.find(|row| address(row.address) == wanted)
    }

    /// The other row, if it has the same address.
    pub(super) fn namesake(&self, row: &Person) -> Option<&Person> {
        let other = self.rows[1 - row.which].as_ref();
        other.filter(|other| other.address == row.address)
    }

    /// Whether a row opts its person in, and so does the other one if that has its address.
    pub(super) fn opts_in(&self, row: &Person) -> bool {
        row.opted_in && self.namesake(row).is_none_or(|other| other.opted_in)
    }

    pub(super) fn on_behalf_of(&self, key: u8) -> On {
        let row = self.row(key);
        On {
            opted_in: row.is_some_and(|row| self.opts_in(row)),
            refuses: row.is_some_and(|row| self.refuses[row.which]),
        }
    }

    /// What is seen when a record's turn comes: of two rows with one address, one of them opted out,
    /// the other one is, too.
    pub(super) fn observe(&mut self, key: u8) {
        let Some(row) = self.row(key).cloned() else {
            return;
        };
        if let Some(other) = self.namesake(&row).cloned() {
            let seen = self.planned[other.which] == Some(other.address);
            if seen && !row.opted_in && other.opted_in {
                self.refuses[other.which] = true;
            }
            let mailed = self.is_mailed(&row);
            if row.opted_in && !other.opted_in && (seen || !mailed) {
                self.refuses[row.which] = true;
            }
        }
        self.planned[row.which] = Some(row.address);
    }

    fn holds(&self, link: &Link, wanted: &str, list: &str) -> bool {
        !link.is_nowhere()
            && link.remote_key.as_deref() == Some(wanted)
            && self.list_of(link) == list
    }

    /// Whose member has the address that a row wants.
    fn holder(&self, row: &Person) -> Option<u8> {
        let (wanted, list) = (address(row.address), Crm::named(row));
        let known = self.links.get(&row.key);
        if known.is_some_and(|link| {
            link.remote_key.as_ref() == Some(&wanted) && self.list_of(link) == list
        }) {
            return None;
        }
        let mut others = self.links.iter().filter(|(key, _)| **key != row.key);
        others
            .find(|(_, link)| self.holds(link, &wanted, list))
            .map(|(key, _)| *key)
    }

    /// Who else has the address that a row wants; `None`: it has to wait.
    pub(super) fn resolve(&mut self, row: &Person) -> Option<Option<u8>> {
        let Some(holder) = self.holder(row) else {
            return Some(None);
        };
        let key = row.key;
        let theirs = self.row(holder).cloned();
        let keeps =
            |other: &Person| other.address == row.address && Crm::named(other) == Crm::named(row);
        match theirs {
            Some(other) if keeps(&other) => Some(Some(holder)),
            None if !self.links.contains_key(&key) => {
                self.inherit(holder, key);
                Some(None)
            }
            None => None,
            Some(other) => {
                if self.holder(&other) == Some(key) && self.links.contains_key(&key) {
                    if other.address == row.address {
                        // They change audiences: that its person left there goes with the member.
                        self.refuses.swap(0, 1);
                    }
                    // Each takes over the other's member.
                    let (mine, theirs) = (self.links.remove(&key), self.links.remove(&holder));
                    self.links.extend(theirs.map(|link| (key, link)));
                    self.links.extend(mine.map(|link| (holder, link)));
                    let now = self.now;
                    let other = self.row_mut(holder)?;
                    other.changed_at.get_or_insert(now);
                    return Some(None);
                }
                let attempts = self.attempts.entry(key).or_default();
                *attempts += 1;
                let waits = *attempts <= 2 || other.changed_at.is_some();
                if waits || self.links.contains_key(&key) {
                    return None;
                }
                self.inherit(holder, key);
                Some(None)
            }
        }
    }

    fn inherit(&mut self, from: u8, to: u8) {
        let link = self.links.remove(&from);
        self.links.extend(link.map(|link| (to, link)));
    }

    /// A row that is gone leaves its member to one that was refused for it.
    pub(super) fn bequeath(&mut self, key: u8) {
        let Some(link) = self.links.get(&key).filter(|_| self.row(key).is_none()) else {
            return;
        };
        let mut heirs = self.rows.iter().flatten().filter(|row| {
            let refused = self.letters.contains(&row.key);
            refused
                && !self.links.contains_key(&row.key)
                && self.holds(link, &address(row.address), Crm::named(row))
        });
        if let Some(heir) = heirs.next().map(|row| row.key) {
            self.inherit(key, heir);
            let now = self.now;
            if let Some(row) = self.row_mut(heir) {
                row.changed_at.get_or_insert(now);
            }
        }
    }

    fn meet(&mut self, number: u8, key: u8, note: Note) {
        let known = self.notes.entry((number, key)).or_insert(note);
        if note == Note::OptedOut {
            *known = note;
        }
    }

    /// The members that have a row's address, in whatever audience. Returns the one whose row is
    /// opted out.
    fn meet_members(&mut self, row: &Person) -> Option<u8> {
        let written = |link: &Link| link.remote_key.as_ref() == Some(&address(row.address));
        let others = self.links.iter().filter(|(key, _)| **key != row.key);
        let others = others
            .filter(|(_, link)| written(link))
            .map(|(key, _)| *key);
        let mut objection = None;
        for other in others.collect::<Vec<_>>() {
            let meeting = shared::meet(says(row), self.look_at(other, row.address));
            match meeting {
                Meeting::Nothing => continue,
                Meeting::Met => {}
                Meeting::OptsOut => self.look_again(other),
                Meeting::OptedOut => objection = objection.or(Some(other)),
            }
            self.meet(row.address, other, noted(meeting == Meeting::OptedOut));
            self.meet(row.address, row.key, noted(!row.opted_in));
        }
        objection
    }

    fn look_again(&mut self, key: u8) {
        let now = self.now;
        if let Some(row) = self.row_mut(key) {
            row.changed_at.get_or_insert(now);
        }
    }

    fn look_at(&self, key: u8, number: u8) -> Other {
        match self.row(key) {
            Some(row) if row.address == number => Other::Here(says(row)),
            Some(row) => Other::Elsewhere(says(row)),
            None => Other::Gone,
        }
    }

    /// The row that is opted out against a record's opt-in.
    pub(super) fn recall(&mut self, key: u8) -> Option<u8> {
        let Some(row) = self.row(key).cloned() else {
            self.notes
                .retain(|(_, noted), note| *noted != key || *note == Note::OptedOut);
            return None;
        };
        let objection = self.meet_members(&row);
        let objection = self.recall_noted(&row, objection);
        objection.or_else(|| self.look_around(&row))
    }

    fn recall_noted(&mut self, row: &Person, objection: Option<u8>) -> Option<u8> {
        let key = row.key;
        let mut numbers: Vec<u8> = self
            .notes
            .keys()
            .filter(|(_, noted)| *noted == key)
            .map(|(number, _)| *number)
            .collect();
        numbers.push(row.address);
        numbers.sort_unstable();
        numbers.dedup();
        let (mut objection, mut over) = (objection, Vec::new());
        for number in &numbers {
            let here = *number == row.address;
            let own = self.notes.get(&(*number, key)).copied();
            let mine = Mine {
                consent: says(row),
                met: own == Some(Note::Met) || (here && self.links.contains_key(&key)),
                here,
            };
            if own == Some(Note::OptedOut) && !here {
                continue;
            }
            let others = self.notes.iter();
            for ((_, noted), note) in
                others.filter(|((at, noted), _)| at == number && *noted != key)
            {
                let opted_out = *note == Note::OptedOut;
                if objection.is_some() || (!opted_out && here) {
                    continue;
                }
                match shared::weigh(opted_out, self.look_at(*noted, *number), mine) {
                    Weight::Counts if row.opted_in => objection = Some(*noted),
                    Weight::Over if !self.is_others(*number, *noted, key) => {
                        over.push((*number, *noted));
                    }
                    Weight::Counts | Weight::Over | Weight::Nothing => {}
                }
            }
        }
        over.iter().for_each(|note| {
            self.notes.remove(note);
        });
        if objection.is_some() {
            self.meet(row.address, key, Note::Met);
            return objection;
        }
        for number in numbers {
            let elsewhere = number != row.address;
            let Some(note) = self.notes.get(&(number, key)).copied() else {
                continue;
            };
            let is_over = match row.opted_in {
                true => elsewhere || note == Note::OptedOut,
                false => note == Note::Met,
            };
            if is_over {
                self.notes.remove(&(number, key));
                if !elsewhere {
                    self.meet(number, key, noted(!row.opted_in));
                }
                if !elsewhere && row.opted_in {
                    let met = self.notes.keys().filter(|(at, _)| *at == number);
                    let others: Vec<u8> = met.map(|(_, other)| *other).collect();
                    others
                        .into_iter()
                        .filter(|other| *other != key)
                        .for_each(|other| self.look_again(other));
                }
            }
        }
        None
    }

    fn is_others(&self, number: u8, noted: u8, mine: u8) -> bool {
        self.notes.iter().any(|((at, key), note)| {
            *at == number && *note == Note::Met && *key != mine && *key != noted
        })
    }

    /// Whether it gets mail at the address it has.
    fn is_mailed(&self, row: &Person) -> bool {
        self.links.get(&row.key).is_some_and(|link| {
            gets_mail(link) && link.remote_key.as_ref() == Some(&address(row.address))
        })
    }

    fn look_around(&mut self, row: &Person) -> Option<u8> {
        let mailed = self.is_mailed(row);
        let other = self.namesake(row).filter(|other| !other.opted_in)?.key;
        if !row.opted_in || mailed {
            return None;
        }
        self.meet(row.address, other, Note::OptedOut);
        self.meet(row.address, row.key, Note::Met);
        Some(other)
    }

    /// Their own word counts for all rows.
    pub(super) fn opt_in_all(&mut self, number: u8) {
        let noted: Vec<u8> = self
            .notes
            .iter()
            .filter(|((at, _), note)| *at == number && **note == Note::OptedOut)
            .map(|((_, key), _)| *key)
            .collect();
        let now = self.now;
        for key in noted {
            self.notes.remove(&(number, key));
            if let Some(row) = self.row_mut(key).filter(|row| row.address == number) {
                (row.opted_in, row.changed_at) = (true, Some(now));
            }
        }
    }
}
