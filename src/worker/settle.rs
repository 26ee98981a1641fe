//! From verdicts to the tables: links, retries, dead letters, settled queue rows, in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use integration_engine::call::{HubSpotOnDelete, Link};
use integration_engine::clock::{Tick, Writer};
use integration_engine::consent::{self, Party};
use integration_engine::outcome::{Category, MemberStatus, Relink, Verdict};
use integration_engine::queue::RecordRef;
use integration_engine::record::{Entity, Lane, Op, RemoteId, Target, Timestamp};
use integration_engine::retry::{self, Next};
use integration_engine::scan::Position;
use integration_engine::standing::{self, Remembered};
use pgrx::spi::SpiResult;

use super::associations::{self, Settled};
use super::deciders;
use super::standings::Identity;
use super::target::{Flight, RowId, TargetWorker};
use super::{Outcome, World, now_ms};
use super::{adopt, process};
use crate::store::changes::{self, Retry};
use crate::store::consent_log::{self, Change};
use crate::store::erasures;
use crate::store::letters::{self, Deed, Letter};
use crate::store::links::{self, Cause, Entry, intents};
use crate::store::standings::{self, SignUps};

/// Rounds of `Verdict::Again` in a row before a record has to back off: enough to halve a batch of
/// 500 down to one, with some to spare for identities.
const MOST_ROUNDS: u32 = 16;

/// What we wrote may be dated so much later by the service's clock, in milliseconds.
const ECHO: i64 = 5_000;

/// What is to be written; collected first, so that every table is written once.
#[derive(Default)]
pub struct Ledger {
    pushed: Vec<Entry>,
    pub noted: Vec<Entry>,
    unlinked: Vec<RecordRef>,
    /// Contacts that went to HubSpot's recycle bin.
    archived: Vec<(RecordRef, RemoteId)>,
    /// Another record at the service than before.
    readopted: Vec<RecordRef>,
    pub retries: Vec<Retry>,
    done: Vec<RecordRef>,
    /// Nothing is to be sent for them, nor are their associations.
    withheld: Vec<RecordRef>,
    superseded: Vec<RecordRef>,
    letters: Vec<Letter>,
    consent: Vec<Change>,
    remembered: Vec<Remembered>,
    rows: Vec<RowId>,
    /// Calls of which it was noted that they may create records.
    intents: BTreeSet<i64>,
    /// What is noted has to be safe on disk before the next call leaves.
    durable: bool,
}

/// What the CRM has to be told about a person's consent.
pub struct ConsentNews {
    pub record: RecordRef,
    pub status: MemberStatus,
}

/// Settles a target's outcomes. Gives what has to be recorded in the CRM.
pub fn settle(
    worker: &mut TargetWorker,
    world: &World,
    outcomes: Vec<Outcome>,
    empty: Vec<RowId>,
) -> SpiResult<Vec<ConsentNews>> {
    let mut ledger = Ledger {
        rows: empty,
        ..Ledger::default()
    };
    let mut news = Vec::new();
    for outcome in outcomes {
        let intent = intents::call_of(worker.target, &outcome.flight.record);
        ledger.intents.extend(intent);
        if let Verdict::Dead {
            member_status: Some(status),
            ..
        } = &outcome.verdict
        {
            news.push(ConsentNews {
                record: outcome.flight.record.clone(),
                status: *status,
            });
        }
        let outcome = adopt::judge(worker, world, outcome, &mut ledger)?;
        enter(worker, world, outcome, &mut ledger);
    }
    write(worker, world, ledger)?;
    // Whoever sees in the tables that all is done sees it in the figures, too.
    process::publish_gauges(worker, world);
    Ok(news)
}

fn enter(worker: &mut TargetWorker, world: &World, outcome: Outcome, ledger: &mut Ledger) {
    let Outcome {
        mut flight,
        verdict,
        request,
        doubtful,
        resting,
        beside,
    } = outcome;
    let identity = flight.identity.as_ref();
    ledger
        .remembered
        .extend(identity.into_iter().flat_map(|identity| {
            let attempt = identity.attempt(flight.link.as_ref());
            standing::learnt(&attempt, &verdict, Timestamp(now_ms()))
        }));
    if let Some(link) = flight.link.as_mut().filter(|_| !doubtful.is_empty())
        && link.clock.doubt(&doubtful)
    {
        ledger.noted.push(Entry {
            record: flight.record.clone(),
            link: link.clone(),
        });
    }
    match verdict {
        Verdict::Delivered {
            remote_id,
            remote_key,
            member_status,
            ticks,
            ..
        } => {
            let mut link = flight.link.unwrap_or_default();
            if remote_id.is_some() && link.remote_id.is_some() && remote_id != link.remote_id {
                ledger.readopted.push(flight.record.clone());
            }
            link = link.settled(member_status == Some(MemberStatus::Subscribed));
            link.remote_id = remote_id.or(link.remote_id);
            link.remote_key = remote_key.or(link.remote_key);
            if let Some(status) = member_status.filter(|status| link.member_status != Some(*status))
            {
                let remembered = identity.and_then(|identity| identity.standing);
                let remembered = remembered.filter(|known| known.has_left());
                let by = match remembered.filter(|known| known.status == status) {
                    Some(known) => known.by,
                    None => consent::decided_by(link.member_status, status),
                };
                let before = link.member_status.replace(status);
                ledger.consent.push(Change {
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
            for tick in ticks {
                // What we wrote in between is older than what we write now.
                let before = link.clock.get(tick.field);
                let before = before.filter(|before| before.by == Writer::Crm);
                let at = before.map_or(tick.at, |before| before.at.max(tick.at));
                link.clock.set(Tick { at, ..tick });
            }
            link.membership.given = beside.given.unwrap_or(link.membership.given);
            ledger.pushed.push(Entry {
                record: flight.record.clone(),
                link: link.clone(),
            });
            if beside.more {
                let flight = Flight {
                    link: Some(link),
                    ..flight
                };
                let why = "more was to be sent than one call takes".to_owned();
                again(worker, world, flight, None, None, why, ledger);
            } else {
                ledger.superseded.push(flight.record.clone());
                close(worker, flight.handle, flight.record, ledger);
            }
        }
        Verdict::Overruled {
            remote_id,
            remote_key,
            ticks,
            why,
        } => {
            ledger.letters.push(Letter {
                record: flight.record.clone(),
                deed: Deed::Write(flight.op),
                category: Category::Validation,
                status: None,
                why,
                request: request.filter(|text| !text.is_empty()),
                attempts: flight.attempts + 1,
                enqueued_at: flight.changed_at,
            });
            let verdict = Verdict::Delivered {
                remote_id: Some(remote_id),
                remote_key,
                member_status: None,
                ticks,
                met: false,
            };
            let outcome = Outcome {
                flight,
                verdict,
                request: None,
                doubtful: Vec::new(),
                beside,
                resting,
            };
            enter(worker, world, outcome, ledger);
        }
        Verdict::Unchanged | Verdict::NoConsent => {
            ledger.superseded.push(flight.record.clone());
            close(worker, flight.handle, flight.record, ledger);
        }
        Verdict::Withheld => {
            ledger.withheld.push(flight.record);
            ledger.rows.extend(worker.queue.close(flight.handle).rows);
        }
        Verdict::Removed => {
            ledger
                .archived
                .extend(archived(worker.target, world, &flight));
            ledger.unlinked.push(flight.record.clone());
            ledger.superseded.push(flight.record.clone());
            close(worker, flight.handle, flight.record, ledger);
        }
        Verdict::Again {
            relink,
            batch_cap,
            why,
        } => again(worker, world, flight, relink, batch_cap, why, ledger),
        Verdict::Retry {
            why,
            status,
            wait,
            counted,
        } => {
            if resting {
                worker.queue.put_back(flight.handle);
            } else {
                back_off(
                    worker, world, flight, why, status, wait, counted, request, ledger,
                );
            }
        }
        Verdict::Dead {
            category,
            status,
            why,
            member_status,
        } => {
            if let Some(member_status) = member_status {
                let stranger = || identity.map(Identity::link).unwrap_or_default();
                let known = flight.link.clone().unwrap_or_else(stranger);
                let attempt = identity.map(|identity| identity.attempt(flight.link.as_ref()));
                if !attempt.is_some_and(|attempt| attempt.spares_member(member_status)) {
                    refused(&flight, &known, member_status, ledger);
                    ledger.noted.push(Entry {
                        record: flight.record.clone(),
                        link: known.unsubscribed(member_status),
                    });
                }
            }
            bury(worker, flight, category, status, why, request, ledger);
        }
    }
}

/// What erasing the person later on has to go by.
fn archived(target: Target, world: &World, flight: &Flight) -> Option<(RecordRef, RemoteId)> {
    let source = world.sources.get(&flight.record.source)?;
    let kept = target == Target::HubSpot
        && source.entity == Entity::Contact
        && world.settings.hubspot_api.on_delete == HubSpotOnDelete::Archive;
    let id = flight.link.as_ref()?.remote_id.clone()?;
    kept.then(|| (flight.record.clone(), id))
}

/// Somebody is opted in, and cannot be subscribed: it is remembered that they left, or Mailchimp
/// says so.
fn refused(flight: &Flight, known: &Link, status: MemberStatus, ledger: &mut Ledger) {
    if known.member_status == Some(status) {
        return;
    }
    let identity = flight.identity.as_ref();
    let remembered = identity.and_then(|identity| identity.standing);
    let remembered = remembered.filter(|standing| standing.has_left());
    ledger.consent.push(Change {
        record: flight.record.clone(),
        address: known.remote_key.clone(),
        by: remembered.map_or(Party::Mailchimp, |standing| standing.by),
        before: known.member_status,
        after: status,
        at: Timestamp(now_ms()),
        event: None,
        reason: Some(match remembered {
            Some(_) => "remembered of the address".to_owned(),
            None => "refused".to_owned(),
        }),
    });
}

fn close(
    worker: &mut TargetWorker,
    handle: integration_engine::queue::Handle,
    record: RecordRef,
    ledger: &mut Ledger,
) {
    ledger.rows.extend(worker.queue.close(handle).rows);
    worker.counted.remove(&record);
    ledger.done.push(record);
}

fn again(
    worker: &mut TargetWorker,
    world: &World,
    flight: Flight,
    relink: Option<Relink>,
    batch_cap: Option<usize>,
    why: String,
    ledger: &mut Ledger,
) {
    match relink {
        Some(Relink::Adopt(id)) => {
            let link = flight.link.clone().unwrap_or_default();
            if link.remote_id.as_ref().is_some_and(|known| *known != id) {
                ledger.readopted.push(flight.record.clone());
            }
            let link = Link {
                remote_id: Some(id),
                clock: Default::default(),
                ..link
            };
            ledger.noted.push(Entry {
                record: flight.record.clone(),
                link,
            });
        }
        Some(Relink::Vacant) => {
            // The record is created next. Should a crash undo this note, nobody would look for it.
            ledger.durable = true;
            ledger.noted.push(Entry {
                record: flight.record.clone(),
                link: Link::default(),
            });
        }
        Some(Relink::Forget) => match flight.link.clone().and_then(Link::forgotten) {
            Some(link) => ledger.noted.push(Entry {
                record: flight.record.clone(),
                link,
            }),
            None => ledger.unlinked.push(flight.record.clone()),
        },
        Some(Relink::Unaddressed(ticks)) => moved(&flight, ledger, |mut link| {
            link.remote_key = None;
            // When the service tells of it, that is no news, even if its clock is ahead of ours.
            let at = Timestamp(now_ms() + ECHO);
            ticks
                .into_iter()
                .for_each(|tick| link.clock.set(Tick { at, ..tick }));
            link
        }),
        Some(Relink::Leave { ask }) => moved(&flight, ledger, |link| link.leave(ask)),
        Some(Relink::Left { list, ask, .. }) => {
            moved(&flight, ledger, |link| link.left(&list, ask))
        }
        Some(Relink::Unsubscribed { how, ticks }) => {
            let known = flight.link.clone().unwrap_or_default();
            refused(&flight, &known, how, ledger);
            moved(&flight, ledger, |link| {
                let mut link = link.unsubscribed(how);
                ticks.into_iter().for_each(|tick| link.clock.set(tick));
                link
            });
        }
        Some(Relink::ErasedIn(list)) => moved(&flight, ledger, |link| link.erased_in(&list)),
        None => {}
    }
    if worker.queue.rounds(flight.handle) < MOST_ROUNDS {
        worker.queue.again(flight.handle, batch_cap);
    } else {
        // It goes round in circles.
        back_off(worker, world, flight, why, None, None, true, None, ledger);
    }
}

/// A step on the way to where the record shall be.
fn moved(flight: &Flight, ledger: &mut Ledger, step: impl FnOnce(Link) -> Link) {
    let link = flight.link.clone().unwrap_or_default();
    ledger.noted.push(Entry {
        record: flight.record.clone(),
        link: step(link),
    });
}

#[allow(clippy::too_many_arguments, reason = "the parts of one verdict")]
fn back_off(
    worker: &mut TargetWorker,
    world: &World,
    flight: Flight,
    why: String,
    status: Option<u16>,
    wait: Option<Duration>,
    counted: bool,
    request: Option<String>,
    ledger: &mut Ledger,
) {
    match retry::after_failure(
        flight.attempts,
        counted,
        wait,
        &world.settings.retry,
        fastrand::f64(),
    ) {
        Next::Exhausted => {
            let why = format!(
                "given up after {} attempts; the last one: {why}",
                flight.attempts + 1
            );
            bury(
                worker,
                flight,
                Category::Exhausted,
                status,
                why,
                request,
                ledger,
            );
        }
        Next::RetryIn(delay, attempts) => {
            let lane = worker.queue.change(flight.handle).map(|change| change.lane);
            ledger.retries.push(Retry {
                record: flight.record.clone(),
                op: flight.op,
                lane: match lane {
                    Some(Lane::OptOut) => Lane::OptOut,
                    _ => Lane::Retry,
                },
                attempts,
                wait_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
                why,
                enqueued_at: flight.changed_at,
            });
            ledger.rows.extend(worker.queue.close(flight.handle).rows);
            let at = Instant::now() + delay;
            worker.next_retry = Some(worker.next_retry.map_or(at, |known| known.min(at)));
        }
    }
}

fn bury(
    worker: &mut TargetWorker,
    flight: Flight,
    category: Category,
    status: Option<u16>,
    why: String,
    request: Option<String>,
    ledger: &mut Ledger,
) {
    ledger.letters.push(Letter {
        record: flight.record.clone(),
        deed: Deed::Write(flight.op),
        category,
        status,
        why,
        request: request.filter(|text| !text.is_empty()),
        attempts: flight.attempts + 1,
        enqueued_at: flight.changed_at,
    });
    close(worker, flight.handle, flight.record, ledger);
}

fn write(worker: &mut TargetWorker, world: &World, mut ledger: Ledger) -> SpiResult<()> {
    let target = worker.target;
    if ledger.durable {
        process::commit_durably()?;
    }
    links::write(target, Cause::Pushed, &ledger.pushed)?;
    links::write(target, Cause::Noted, &ledger.noted)?;
    links::remove(target, &ledger.unlinked)?;
    intents::end(&ledger.intents)?;
    erasures::note_archived(&ledger.archived)?;
    let settled = Settled {
        done: &ledger.done,
        pushed: &ledger.pushed,
        readopted: &ledger.readopted,
        unlinked: &ledger.unlinked,
    };
    associations::note(worker, world, settled)?;
    if worker.retrying > 0 {
        changes::drop_retries(target, &ledger.done)?;
        changes::drop_retries(target, &ledger.withheld)?;
    }
    changes::put_retries(target, &ledger.retries)?;
    deciders::attribute(world, &mut ledger.consent)?;
    consent_log::write(&ledger.consent)?;
    standings::remember(&ledger.remembered, SignUps::OfLeavers, "outbox")?;
    // What was delivered but for one value has a new letter in place of its old one.
    if world.dead(target) > 0 {
        letters::supersede(target, &ledger.superseded)?;
    }
    letters::bury(target, &ledger.letters)?;
    if !ledger.letters.is_empty() || world.dead(target) > 0 {
        world.set_dead(target, letters::count(target)?);
    }
    if worker.retrying > 0 || !ledger.retries.is_empty() {
        outlook(worker)?;
    }
    let chunks = ledger.rows.iter().filter(|row| row.lane == Lane::Backfill);
    worker.chunks = worker.chunks.saturating_sub(chunks.count());
    delete_rows(target, ledger.rows)
}

/// Looks up when the next retry is due, and how many there are.
pub fn outlook(worker: &mut TargetWorker) -> SpiResult<()> {
    let outlook = changes::retry_outlook(worker.target)?;
    worker.retrying = outlook.count;
    worker.retrying_opt_outs = outlook.opt_outs;
    worker.next_retry = outlook.next_in_ms.map(|ms| {
        // What is due already may be in memory: it is not asked for more than once in a while.
        Instant::now() + Duration::from_millis(ms.max(20).unsigned_abs())
    });
    Ok(())
}

fn delete_rows(target: Target, rows: Vec<RowId>) -> SpiResult<()> {
    let mut by_lane: BTreeMap<Lane, Vec<Position>> = BTreeMap::new();
    for row in rows {
        by_lane.entry(row.lane).or_default().push(row.position);
    }
    for (lane, positions) in by_lane {
        changes::settle(target, lane, &positions)?;
    }
    Ok(())
}

/// Whether a flight takes a record out of the target: what the guard counts.
pub fn deletes(flight: &Flight) -> bool {
    flight.op == Op::Delete
        && flight
            .link
            .as_ref()
            .is_some_and(|link| link.remote_id.is_some())
}
