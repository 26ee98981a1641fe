//! What may happen, in any order.

use proptest::prelude::*;

use super::{super::*, Crm, Person, address};
use integration_engine::consent::{Party, ReportedConsent};

#[derive(Clone, Debug)]
pub enum Step {
    Consent(bool),
    Address(u8),
    Audience(bool),
    /// A second row has this address and is opted out, or is opted in again.
    Other {
        address: u8,
        opted_in: bool,
    },
    /// The row is deleted, and perhaps comes back as the same person under this key.
    Delete,
    Insert {
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

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<bool>().prop_map(Step::Consent),
        2 => (0u8..3).prop_map(Step::Address),
        2 => any::<bool>().prop_map(Step::Audience),
        1 => (0u8..3, any::<bool>()).prop_map(|(address, opted_in)| Step::Other { address, opted_in }),
        2 => Just(Step::Delete),
        4 => (0u8..3, 0u8..3, any::<bool>(), any::<bool>()).prop_map(|(key, address, elsewhere, opted_in)| {
            Step::Insert { key, address, elsewhere, opted_in }
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
    pub fn apply(&mut self, step: &Step) {
        self.now += 1_000;
        let now = self.now;
        self.service.now = now;
        match step {
            Step::Consent(_) | Step::Address(_) | Step::Audience(_) => self.edit(step),
            Step::Other { address, opted_in } => {
                let before = self.opted_in();
                match opted_in {
                    true => self.others.remove(address),
                    false => self.others.insert(*address),
                };
                // An opt-in anew.
                self.service.refuses &= before || !self.opted_in();
            }
            Step::Delete if self.uncertain => {}
            Step::Delete => self.row = None,
            Step::Insert {
                key,
                address,
                elsewhere,
                opted_in,
            } => self.insert(*key, *address, *elsewhere, *opted_in),
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
                    let row = self.row.as_ref().and_then(|row| self.links.get(&row.key));
                    if row.is_some_and(known) {
                        self.service.has_left_address((list.clone(), old.clone()));
                    }
                    if *told {
                        self.hear_of_move(&list, &old, &to);
                    }
                }
            }
            Step::Removes => self.removes(),
            Step::Confirms => {
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

    fn edit(&mut self, step: &Step) {
        let (uncertain, before) = (self.uncertain, self.opted_in());
        let Some(row) = &mut self.row else { return };
        match step {
            Step::Consent(opted_in) => {
                // An opt-in anew.
                self.service.refuses &= row.opted_in || !*opted_in;
                row.opted_in = *opted_in;
            }
            Step::Address(address) if !uncertain => {
                row.address = *address;
                self.service.entered(&super::address(*address));
            }
            Step::Audience(elsewhere) => row.elsewhere = *elsewhere,
            _ => return,
        }
        row.changed_at = Some(self.now);
        // As is an address that no other row objects to.
        self.service.refuses &= before || !self.opted_in();
    }

    fn insert(&mut self, key: u8, address: u8, elsewhere: bool, opted_in: bool) {
        if self.row.is_some() {
            return;
        }
        self.service.refuses = false;
        // Under its old key while a change of address is uncertain, it has the address it had.
        if self.uncertain && self.links.contains_key(&key) {
            return;
        }
        self.service.entered(&super::address(address));
        self.row = Some(Person {
            key,
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
            let of_row = self.row.as_ref().and_then(|row| self.links.get(&row.key));
            // A bounce is about the address.
            self.service.refuses |=
                of_row.is_some_and(ours) && status == MemberStatus::UnsubscribedByMember;
            let half_way = self.links.values().any(|link| {
                link.remote_key.as_ref() == Some(&address)
                    && (link.membership.leaving || link.is_nowhere())
            });
            if half_way && status != MemberStatus::Archived {
                // Only Mailchimp's event tells of it, and it comes in time.
                self.webhook(usize::MAX, false);
                if let Some(row) = &mut self.row {
                    row.opted_in = false;
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
    pub fn ends_well(&mut self) -> Result<(), TestCaseError> {
        let keeps = self.settings.on_delete == OnDelete::Ignore;
        self.crashes = false;
        self.now += 1_000;
        for key in self.keys().repeat(3) {
            self.sync_all(key, false, false);
        }
        let row = self.row.clone();
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
            keeps || ours.len() <= 1,
            "{ours:?} {:?} {:?}",
            self.links,
            self.service
        );
        let Some(row) = row else { return Ok(()) };
        let keys = [row.key];
        let link = self.links.get(&row.key);
        let member = link.filter(|link| {
            let known = (link.member_status, link.remote_key.as_deref());
            row.opted_in && known == (Some(MemberStatus::Subscribed), Some(&address(row.address)))
        });
        let dropped = member.is_some() && self.service.was_dropped(&here(&row));
        prop_assert!(!dropped, "{:?} {:?}", self.links, self.service);
        if let Some(present) = &mut self.row {
            (present.opted_in, present.changed_at) = (false, Some(self.now));
        }
        for key in self.keys().repeat(3) {
            self.sync_all(key, false, false);
        }
        // They may have been found elsewhere.
        let row = self.row.clone().unwrap_or(row);
        let member = self.links.get(&keys[0]);
        let id = member.and_then(|link| link.remote_id.as_ref().zip(Some(self.list_of(link))));
        let mailed = id.is_some_and(|(id, list)| self.service.mails(&list, id.as_str()));
        prop_assert!(keeps || !mailed, "{:?} {:?}", self.links, self.service);
        let here = here(&row);
        let still =
            self.service.subscribed().contains(&here) && !self.service.came_alone(&here.0, &here.1);
        prop_assert!(keeps || !still, "{:?} {:?}", self.links, self.service);
        Ok(())
    }
}

/// Where a row wants to be a member, and under which address.
fn here(row: &Person) -> (String, String) {
    (Crm::named(row).to_owned(), address(row.address))
}
