//! What a verdict comes to for a record: what is stored of it, and whether it leaves the queue.

use std::time::Duration;

use integration_engine::consent::{self, Party};
use integration_engine::delivery::call::{Beside, HubSpotOnDelete, Link};
use integration_engine::delivery::outcome::{Category, MemberStatus, Relink, Verdict};
use integration_engine::limits::retry::{self, Next, Retry};
use integration_engine::queue::Handle;
use integration_engine::record::{Entity, Lane, RecordRef, RemoteId, Target, Timestamp};
use integration_engine::sync::clock::{Tick, Writer};
use integration_engine::{mailchimp, standing};

use super::Ledger;
use crate::store::consent_log::Change;
use crate::store::letters::{Deed, Letter};
use crate::store::links::Entry;
use crate::worker::standings::Identity;
use crate::worker::target::{Flight, TargetWorker};
use crate::worker::{Outcome, World};

/// Rounds of `Verdict::Again` in a row before a record has to back off: enough to halve a batch of
/// 500 down to one, with some to spare for identities.
const MOST_ROUNDS: u32 = 16;

/// How long a record waits until an event about it has been applied.
const TOLD: Duration = Duration::from_millis(100);

/// What we wrote may be dated so much later by the service's clock, in milliseconds.
const ECHO: i64 = 5_000;

/// Enters outcomes into the ledger.
pub(super) struct Clerk<'a> {
    pub worker: &'a mut TargetWorker,
    pub world: &'a World,
    pub ledger: &'a mut Ledger,
}

/// What the service says of a record that it took.
struct Delivery {
    remote_id: Option<RemoteId>,
    remote_key: Option<String>,
    member_status: Option<MemberStatus>,
    ticks: Vec<Tick>,
}

/// Why a record could not be delivered.
struct Failure {
    why: String,
    status: Option<u16>,
    /// What was sent, JSON.
    request: Option<String>,
}

impl Failure {
    fn new(why: String, status: Option<u16>, request: Option<String>) -> Failure {
        Failure {
            why,
            status,
            request,
        }
    }
}

impl Clerk<'_> {
    pub fn enter(&mut self, outcome: Outcome) {
        let Outcome {
            mut flight,
            verdict,
            request,
            doubtful,
            resting,
            beside,
        } = outcome;
        self.learn(&flight, &verdict);
        self.doubt(&mut flight, &doubtful);
        match verdict {
            Verdict::Delivered {
                remote_id,
                remote_key,
                member_status,
                ticks,
                ..
            } => {
                let delivery = Delivery {
                    remote_id,
                    remote_key,
                    member_status,
                    ticks,
                };
                self.delivered(flight, delivery, beside);
            }
            Verdict::Overruled {
                remote_id,
                remote_key,
                ticks,
                why,
            } => {
                let failure = Failure::new(why, None, request);
                self.write_off(&flight, Category::Validation, failure);
                let delivery = Delivery {
                    remote_id: Some(remote_id),
                    remote_key,
                    member_status: None,
                    ticks,
                };
                self.delivered(flight, delivery, beside);
            }
            Verdict::Unchanged | Verdict::NoConsent => self.settled(flight),
            Verdict::Withheld => {
                self.ledger.withheld.push(flight.record);
                self.leave_queue(flight.handle);
            }
            Verdict::Removed => self.removed(flight),
            Verdict::Again {
                relink:
                    Some(Relink::Found {
                        address,
                        status,
                        ticks,
                    }),
                batch_cap,
                why,
            } => match self.found(&flight, &address, status, &ticks) {
                // Not before that has been applied.
                true => self.back_off(flight, Some(TOLD), true, Failure::new(why, None, request)),
                false => self.again(flight, batch_cap, why),
            },
            Verdict::Again {
                relink,
                batch_cap,
                why,
            } => {
                if let Some(relink) = relink {
                    self.relink(&flight, relink);
                }
                self.again(flight, batch_cap, why);
            }
            Verdict::Retry { .. } if resting => self.worker.queue.put_back(flight.handle),
            Verdict::Retry {
                why,
                status,
                wait,
                counted,
            } => self.back_off(flight, wait, counted, Failure::new(why, status, request)),
            Verdict::Dead {
                category,
                status,
                why,
                member_status,
            } => {
                if let Some(member_status) = member_status {
                    self.kept_out(&flight, member_status);
                }
                self.bury(flight, category, Failure::new(why, status, request));
            }
        }
    }

    /// What the answer says about whose address it is, beyond the life of the row.
    fn learn(&mut self, flight: &Flight, verdict: &Verdict) {
        let identity = flight.identity.as_ref();
        let learnt = identity.into_iter().flat_map(|identity| {
            let attempt = identity.attempt(flight.link.as_ref());
            standing::learnt(&attempt, verdict, self.world.now.timestamp)
        });
        self.ledger.remembered.extend(learnt);
    }

    /// The call was made, and its answer says nothing of these fields.
    fn doubt(&mut self, flight: &mut Flight, doubtful: &[Tick]) {
        if doubtful.is_empty() {
            return;
        }
        if let Some(link) = flight.link.as_mut()
            && link.clock.doubt(doubtful)
        {
            self.ledger.noted.push(Entry {
                record: flight.record.clone(),
                link: link.clone(),
            });
        }
    }

    fn delivered(&mut self, mut flight: Flight, delivery: Delivery, beside: Beside) {
        let Delivery {
            remote_id,
            remote_key,
            member_status,
            ticks,
        } = delivery;
        let link = flight.link.take().unwrap_or_default();
        if remote_id.is_some() && link.remote_id.is_some() && remote_id != link.remote_id {
            self.ledger.readopted.push(flight.record.clone());
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
        self.ledger.pushed.push(Entry {
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
    fn accepted(&mut self, flight: &Flight, link: &mut Link, status: MemberStatus) {
        if link.member_status == Some(status) {
            return;
        }
        let identity = flight.identity.as_ref();
        let remembered = identity.and_then(|identity| identity.standing);
        let remembered = remembered.filter(|known| known.has_left());
        let by = match remembered.filter(|known| known.status == status) {
            Some(known) => known.by,
            None => consent::decided_by(link.member_status, status),
        };
        let before = link.member_status.replace(status);
        self.ledger.consent.push(Change {
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

    fn removed(&mut self, flight: Flight) {
        let archived = self.archived(&flight);
        self.ledger.archived.extend(archived);
        self.ledger.unlinked.push(flight.record.clone());
        self.settled(flight);
    }

    /// What erasing the person later on has to go by.
    fn archived(&self, flight: &Flight) -> Option<(RecordRef, RemoteId)> {
        let source = self.world.sources.get(&flight.record.source)?;
        let kept = self.worker.target == Target::HubSpot
            && source.entity == Entity::Contact
            && self.world.settings.hubspot_api.on_delete == HubSpotOnDelete::Archive;
        let id = flight.link.as_ref()?.remote_id.clone()?;
        kept.then(|| (flight.record.clone(), id))
    }

    /// Somebody who cannot be subscribed, and whose link is to say so.
    fn kept_out(&mut self, flight: &Flight, status: MemberStatus) {
        let identity = flight.identity.as_ref();
        let stranger = || identity.map(Identity::link).unwrap_or_default();
        let known = flight.link.clone().unwrap_or_else(stranger);
        let attempt = identity.map(|identity| identity.attempt(flight.link.as_ref()));
        if attempt.is_some_and(|attempt| attempt.spares_member(status)) {
            return;
        }
        self.refused(flight, &known, status);
        self.ledger.noted.push(Entry {
            record: flight.record.clone(),
            link: known.unsubscribed(status),
        });
    }

    /// Somebody is opted in, and cannot be subscribed: it is remembered that they left, or Mailchimp
    /// says so.
    fn refused(&mut self, flight: &Flight, known: &Link, status: MemberStatus) {
        if known.member_status == Some(status) {
            return;
        }
        let identity = flight.identity.as_ref();
        let remembered = identity.and_then(|identity| identity.standing);
        let remembered = remembered.filter(|standing| standing.has_left());
        self.ledger.consent.push(Change {
            record: flight.record.clone(),
            address: known.remote_key.clone(),
            by: match (remembered, status) {
                (_, MemberStatus::UnsubscribedByCrm) => Party::Crm,
                (Some(standing), _) => standing.by,
                (None, _) => Party::Mailchimp,
            },
            before: known.member_status,
            after: status,
            at: self.world.now.timestamp,
            event: None,
            reason: Some(match (remembered, status) {
                (_, MemberStatus::UnsubscribedByCrm) => "another row with the address".to_owned(),
                (Some(_), _) => "remembered of the address".to_owned(),
                (None, _) => "refused".to_owned(),
            }),
        });
    }

    fn relink(&mut self, flight: &Flight, relink: Relink) {
        match relink {
            Relink::Adopt(id) => {
                let known = flight
                    .link
                    .as_ref()
                    .and_then(|link| link.remote_id.as_ref());
                if known.is_some_and(|known| *known != id) {
                    self.ledger.readopted.push(flight.record.clone());
                }
                self.moved(flight, |link| Link {
                    remote_id: Some(id),
                    clock: Default::default(),
                    ..link
                });
            }
            Relink::Vacant => {
                // The record is created next. Should a crash undo this note, nobody would look for it.
                self.ledger.durable = true;
                self.moved(flight, |_| Link::default());
            }
            Relink::Forget => match flight.link.clone().and_then(Link::forgotten) {
                Some(link) => self.moved(flight, |_| link),
                None => self.ledger.unlinked.push(flight.record.clone()),
            },
            Relink::Unaddressed(ticks) => self.moved(flight, |mut link| {
                link.remote_key = None;
                // When the service tells of it, that is no news, even if its clock is ahead of ours.
                let at = Timestamp(self.world.now.timestamp.0 + ECHO);
                ticks
                    .into_iter()
                    .for_each(|tick| link.clock.set(Tick { at, ..tick }));
                link
            }),
            Relink::Leave { ask } => self.moved(flight, |link| link.leave(ask)),
            Relink::Left { list, ask, .. } => self.moved(flight, |link| link.left(&list, ask)),
            Relink::Unsubscribed { how, ticks } => {
                let known = flight.link.clone().unwrap_or_default();
                self.refused(flight, &known, how);
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
                let known = flight.link.clone().unwrap_or_default();
                let how = known.how_gone();
                self.refused(flight, &known, how);
                self.moved(flight, |link| link.unsubscribed(how));
            }
            // See `found`.
            Relink::Found { .. } => {}
        }
    }

    /// The member goes on under another address. `true`: the CRM is to be told, for it still has the
    /// old one; as by an event of Mailchimp's, by which the link follows.
    fn found(
        &mut self,
        flight: &Flight,
        address: &str,
        status: MemberStatus,
        ticks: &[Tick],
    ) -> bool {
        let mut link = flight.link.clone().unwrap_or_default();
        self.accepted(flight, &mut link, status);
        let link = link.found(status, ticks);
        let identity = flight.identity.as_ref();
        let present = identity.and_then(|identity| identity.address.as_deref());
        let old = link.remote_key.clone();
        let told = present.is_some() && present == old.as_deref();
        if let (Some(old), Some(identity), true) = (old, identity, told) {
            self.ledger.found.push(mailchimp::address_change(
                &identity.list,
                &old,
                address,
                flight.changed_at,
                self.world.now.timestamp,
            ));
        }
        self.ledger.noted.push(Entry {
            record: flight.record.clone(),
            link: if told {
                link
            } else {
                link.readdressed(address)
            },
        });
        told
    }

    /// A step on the way to where the record shall be.
    fn moved(&mut self, flight: &Flight, step: impl FnOnce(Link) -> Link) {
        let link = flight.link.clone().unwrap_or_default();
        self.ledger.noted.push(Entry {
            record: flight.record.clone(),
            link: step(link),
        });
    }

    fn again(&mut self, flight: Flight, batch_cap: Option<usize>, why: String) {
        if self.worker.queue.rounds(flight.handle) < MOST_ROUNDS {
            self.worker.queue.again(flight.handle, batch_cap);
        } else {
            // It goes round in circles.
            self.back_off(flight, None, true, Failure::new(why, None, None));
        }
    }

    fn back_off(
        &mut self,
        flight: Flight,
        wait: Option<Duration>,
        counted: bool,
        failure: Failure,
    ) {
        let (settings, now) = (&self.world.settings.retry, self.world.now);
        let jitter = now.jitter(flight.record.hash());
        let next = retry::after_failure(flight.attempts, counted, wait, settings, jitter);
        match next {
            Next::Exhausted => {
                let why = format!(
                    "given up after {} attempts; the last one: {}",
                    flight.attempts + 1,
                    failure.why
                );
                self.bury(flight, Category::Exhausted, Failure { why, ..failure });
            }
            Next::RetryIn(delay, attempts) => {
                let queue = &self.worker.queue;
                let lane = queue.change(flight.handle).map(|change| change.lane);
                self.ledger.retries.push(Retry {
                    record: flight.record,
                    op: flight.op,
                    lane: match lane {
                        Some(Lane::OptOut) => Lane::OptOut,
                        _ => Lane::Retry,
                    },
                    attempts,
                    wait_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
                    why: failure.why,
                    enqueued_at: flight.changed_at,
                });
                self.leave_queue(flight.handle);
                let at = now.instant + delay;
                let next = &mut self.worker.next_retry;
                *next = Some(next.map_or(at, |known| known.min(at)));
            }
        }
    }

    fn bury(&mut self, flight: Flight, category: Category, failure: Failure) {
        self.write_off(&flight, category, failure);
        self.close(flight.handle, flight.record);
    }

    fn write_off(&mut self, flight: &Flight, category: Category, failure: Failure) {
        self.ledger.letters.push(Letter {
            record: flight.record.clone(),
            deed: Deed::Write(flight.op),
            category,
            status: failure.status,
            why: failure.why,
            request: failure.request.filter(|text| !text.is_empty()),
            attempts: flight.attempts + 1,
            enqueued_at: flight.changed_at,
        });
    }

    /// Nothing is left to be done, nor to be retried of what was given up before.
    fn settled(&mut self, flight: Flight) {
        self.ledger.superseded.push(flight.record.clone());
        self.close(flight.handle, flight.record);
    }

    fn close(&mut self, handle: Handle, record: RecordRef) {
        self.leave_queue(handle);
        self.worker.counted.remove(&record);
        self.ledger.done.push(record);
    }

    fn leave_queue(&mut self, handle: Handle) {
        self.ledger
            .rows
            .extend(self.worker.queue.close(handle).rows);
    }
}
