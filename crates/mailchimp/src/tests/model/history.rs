//! What may happen, in any order.

use proptest::prelude::*;

use super::{super::*, Crm, Person, address};
use integration_engine::consent::{Party, ReportedConsent};

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// One of the two rows is edited.
    Consent(usize, bool),
    Address(usize, u8),
    Audience(usize, bool),
    /// A row is deleted, and perhaps comes back as the same person under this key.
    Delete(usize),
    Insert {
        which: usize,
        key: u8,
        address: u8,
        elsewhere: bool,
        opted_in: bool,
    },
    /// Which of the records that something is owed of.
    Sync {
        which: usize,
        request_lost: bool,
        answer_lost: bool,
    },
    Leaves,
    Bounces,
    SignsUp {
        address: u8,
        elsewhere: bool,
    },
    Confirms,
    /// A colleague archives whoever is subscribed.
    Archives,
    /// Somebody changes their address at Mailchimp, which tells of it, or does not.
    Moves {
        to: u8,
        told: bool,
    },
    /// Members known to be subscribed are not known at Mailchimp any more, and nothing is told.
    Removes,
    /// Mandrill tells of an unsubscription, or of a bounce.
    Mail {
        address: u8,
        bounce: bool,
    },
    /// One of the webhooks that wait is delivered; it may be delivered again.
    Webhook {
        which: usize,
        again: bool,
    },
    /// Webhooks that wait get lost.
    Lost,
    /// The worker ends while its next call is under way.
    Crash,
}

/// Which of the two rows: mostly the first one, so that it is often alone as well.
fn row() -> impl Strategy<Value = usize> {
    prop::bool::weighted(0.35).prop_map(usize::from)
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (row(), any::<bool>()).prop_map(|(which, opted_in)| Step::Consent(which, opted_in)),
        2 => (row(), 0u8..3).prop_map(|(which, address)| Step::Address(which, address)),
        2 => (row(), any::<bool>()).prop_map(|(which, elsewhere)| Step::Audience(which, elsewhere)),
        2 => row().prop_map(Step::Delete),
        4 => (row(), 0u8..3, 0u8..3, any::<bool>(), any::<bool>()).prop_map(|(which, key, address, elsewhere, opted_in)| {
            Step::Insert { which, key, address, elsewhere, opted_in }
        }),
        10 => (any::<usize>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(which, request_lost, answer_lost)| Step::Sync { which, request_lost, answer_lost }),
        2 => Just(Step::Leaves),
        1 => Just(Step::Bounces),
        1 => (0u8..3, any::<bool>()).prop_map(|(address, elsewhere)| Step::SignsUp { address, elsewhere }),
        1 => Just(Step::Confirms),
        1 => Just(Step::Archives),
        2 => (0u8..4, any::<bool>()).prop_map(|(to, told)| Step::Moves { to, told }),
        1 => Just(Step::Removes),
        2 => (0u8..3, any::<bool>()).prop_map(|(address, bounce)| Step::Mail { address, bounce }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, again)| Step::Webhook { which, again }),
        1 => Just(Step::Lost),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..30)
}

impl Crm {
    pub(super) fn apply(&mut self, step: &Step) {
        self.now += 1_000;
        let now = self.now;
        self.service.now = now;
        match step {
            Step::Consent(which, _) | Step::Address(which, _) | Step::Audience(which, _) => {
                self.edit(*which, step);
            }
            Step::Delete(_) if self.uncertain => {}
            Step::Delete(which) => {
                self.rows[*which] = None;
                self.planned[*which] = None;
            }
            Step::Insert {
                which,
                key,
                address,
                elsewhere,
                opted_in,
            } => self.insert(
                *which,
                10 * *which as u8 + key,
                (*address, *elsewhere, *opted_in),
            ),
            Step::Sync {
                which,
                request_lost,
                answer_lost,
            } => {
                let keys = self.keys();
                if !keys.is_empty() {
                    let key = keys[which % keys.len()];
                    self.sync_all(key, *request_lost, *answer_lost);
                }
            }
            Step::Leaves => self.members_do("unsubscribed", MemberStatus::UnsubscribedByMember),
            Step::Bounces => self.members_do("cleaned", MemberStatus::Cleaned),
            Step::Archives => self.members_do("archived", MemberStatus::Archived),
            Step::SignsUp { address, elsewhere } => {
                let list = if *elsewhere { "b2" } else { "a1" };
                self.service.signs_up(list, &super::address(*address), now);
                self.refuses = [false; 2];
                self.told(list, &super::address(*address), MemberStatus::Subscribed);
            }
            Step::Moves { .. } if self.uncertain => {}
            Step::Moves { to, told } => {
                let to = super::address(*to);
                if let Some((list, old)) = self.service.moves(&to) {
                    let known = |link: &Link| {
                        let here = link.remote_key.as_ref() == Some(&old);
                        here && link.remote_id.is_some() && self.list_of(link) == list
                    };
                    // Another row with the address is somebody the CRM entered.
                    let mut of_rows = self.rows.iter().flatten();
                    let known = |row: &Person| self.links.get(&row.key).is_some_and(known);
                    let theirs = of_rows.clone().any(known);
                    let entered =
                        of_rows.any(|row| super::address(row.address) == old && !known(row));
                    if theirs && !entered {
                        self.service.has_left_address((list.clone(), old.clone()));
                    }
                    if *told {
                        self.hear_of_move(&list, &old, &to);
                    }
                }
            }
            Step::Removes => self.removes(),
            Step::Confirms => {
                self.refuses = [false; 2];
                for (list, address) in self.service.confirm(now) {
                    self.told(&list, &address, MemberStatus::Subscribed);
                }
            }
            Step::Mail { address, bounce } => {
                let status = match bounce {
                    true => MemberStatus::Cleaned,
                    false => MemberStatus::UnsubscribedByMember,
                };
                self.inbox.push(super::Event {
                    list: self.settings.list.clone(),
                    address: super::address(*address),
                    reported: ReportedConsent {
                        status,
                        by: Party::Mandrill,
                        at: Timestamp(now),
                        elsewhere: false,
                    },
                });
            }
            Step::Webhook { which, again } => self.webhook(*which, *again),
            Step::Lost => self.inbox.clear(),
            Step::Crash => self.crashes = true,
        }
    }

    fn edit(&mut self, which: usize, step: &Step) {
        let (uncertain, now) = (self.uncertain, self.now);
        let Some(row) = &mut self.rows[which] else {
            return;
        };
        match step {
            Step::Consent(_, opted_in) => {
                let anew = !row.opted_in && *opted_in;
                row.opted_in = *opted_in;
                if anew {
                    self.refuses[which] = false;
                    // Of whom this row had opted out as well.
                    self.refuses[1 - which] = false;
                }
            }
            Step::Address(_, address) if !uncertain => {
                row.address = *address;
                self.service.entered(&super::address(*address));
            }
            Step::Audience(_, elsewhere) => row.elsewhere = *elsewhere,
            _ => return,
        }
        if let Some(row) = &mut self.rows[which] {
            row.changed_at = Some(now);
        }
    }

    fn insert(&mut self, which: usize, key: u8, row: (u8, bool, bool)) {
        if self.rows[which].is_some() {
            return;
        }
        let (address, elsewhere, opted_in) = row;
        // Under its old key while a change of address is uncertain, it has the address it had.
        if self.uncertain && self.links.contains_key(&key) {
            return;
        }
        self.refuses[which] = false;
        self.service.entered(&super::address(address));
        self.rows[which] = Some(Person {
            key,
            which,
            opted_in,
            address,
            elsewhere,
            changed_at: Some(self.now),
        });
    }

    /// Nobody can know of those who were members without our knowing, nor of those who were left
    /// alone when their row was deleted.
    fn removes(&mut self) {
        if self.uncertain || self.settings.on_delete == OnDelete::Ignore {
            return;
        }
        for link in self.links.values() {
            let known = (link.remote_key.clone(), link.remote_id.as_ref());
            if let (Some(address), Some(id)) = known
                && link.member_status == Some(MemberStatus::Subscribed)
            {
                let at = (self.list_of(link), address);
                if self.service.is_contact(&at, id.as_str()) {
                    self.service.removes(at);
                }
            }
        }
    }

    /// Whoever is subscribed becomes this.
    fn members_do(&mut self, word: &'static str, status: MemberStatus) {
        for (list, address) in self.service.become_all(word) {
            self.told(&list, &address, status);
            let ours = |link: &Link| {
                link.remote_key.as_ref() == Some(&address) && self.list_of(link) == list
            };
            // A bounce is about the address.
            let left = status == MemberStatus::UnsubscribedByMember;
            let theirs = |row: &Person| self.links.get(&row.key).is_some_and(ours);
            let refuse = [0, 1].map(|which: usize| self.rows[which].as_ref().is_some_and(theirs));
            for which in [0, 1] {
                self.refuses[which] |= left && refuse[which];
            }
            let half_way = self.links.values().any(|link| {
                link.remote_key.as_ref() == Some(&address)
                    && (link.membership.leaving || link.is_nowhere())
            });
            if half_way && status != MemberStatus::Archived {
                // Only Mailchimp's event tells of it, and it comes in time.
                self.webhook(usize::MAX, false);
                for row in self.rows.iter_mut().flatten() {
                    row.opted_in &= super::address(row.address) != address;
                }
            }
        }
    }

    fn told(&mut self, list: &str, address: &str, status: MemberStatus) {
        self.inbox.push(super::Event {
            list: list.to_owned(),
            address: address.to_owned(),
            reported: ReportedConsent {
                status,
                by: Party::Mailchimp,
                at: Timestamp(self.now),
                elsewhere: false,
            },
        });
    }

    fn webhook(&mut self, which: usize, again: bool) {
        if self.inbox.is_empty() {
            return;
        }
        let at = match which {
            usize::MAX => self.inbox.len() - 1,
            which => which % self.inbox.len(),
        };
        let event = match again {
            true => self.inbox[at].clone(),
            false => self.inbox.remove(at),
        };
        self.hear(&event);
    }

    /// Nothing gets lost any more: who is opted in gets mail at one address in one audience, who is
    /// opted out at none.
    pub(super) fn ends_well(&mut self) -> Result<(), TestCaseError> {
        let keeps = self.settings.on_delete == OnDelete::Ignore;
        self.crashes = false;
        self.now += 1_000;
        for key in self.keys().repeat(3) {
            self.sync_all(key, false, false);
        }
        let rows: Vec<Person> = self.rows.iter().flatten().cloned().collect();
        let subscribed = self.service.subscribed();
        // Who was left alone when their row was deleted, or signed up by themselves, is no row's.
        let ours: Vec<_> = subscribed
            .iter()
            .filter(|(_, address)| {
                self.links
                    .values()
                    .any(|link| link.remote_key.as_ref() == Some(address))
            })
            .filter(|(list, address)| !self.service.came_alone(list, address))
            .collect();
        prop_assert!(
            keeps || ours.len() <= rows.len().max(1),
            "{ours:?} {:?} {:?}",
            self.links,
            self.service
        );
        for row in &rows {
            let link = self.links.get(&row.key);
            let member = link.filter(|link| {
                let known = (link.member_status, link.remote_key.as_deref());
                self.opts_in(row)
                    && known == (Some(MemberStatus::Subscribed), Some(&address(row.address)))
            });
            // Where it is: it may wait for another row's member to leave where it wants to be.
            let place = member.map(|link| (self.list_of(link), address(row.address)));
            let dropped = place.is_some_and(|place| self.service.was_dropped(&place));
            prop_assert!(!dropped, "{:?} {:?}", self.links, self.service);
        }
        for present in self.rows.iter_mut().flatten() {
            (present.opted_in, present.changed_at) = (false, Some(self.now));
        }
        for key in self.keys().repeat(3) {
            self.sync_all(key, false, false);
        }
        for row in rows {
            // They may have been found elsewhere.
            let present = self.rows[row.which].clone().unwrap_or(row);
            let member = self.links.get(&present.key);
            let id = member.and_then(|link| link.remote_id.as_ref().zip(Some(self.list_of(link))));
            let mailed = id.is_some_and(|(id, list)| self.service.mails(&list, id.as_str()));
            prop_assert!(keeps || !mailed, "{:?} {:?}", self.links, self.service);
            let here = here(&present);
            let still = self.service.subscribed().contains(&here)
                && !self.service.came_alone(&here.0, &here.1);
            prop_assert!(keeps || !still, "{:?} {:?}", self.links, self.service);
        }
        Ok(())
    }
}

/// Where a row wants to be a member, and under which address.
fn here(row: &Person) -> (String, String) {
    (Crm::named(row).to_owned(), address(row.address))
}
