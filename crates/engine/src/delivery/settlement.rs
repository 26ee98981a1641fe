//! Settlement: a record's verdict, what was known of it when it was planned, and the time become
//! effects. The caller stores them in one transaction and applies them to its queue.

mod delivered;
mod effects;
mod flight;
mod refused;
mod relink;
#[cfg(test)]
mod tests;
mod uncertain;

use std::time::Duration;

use crate::{
    consent::standing,
    delivery::outcome::{Category, Verdict},
    limits::retry::{self, AfterFailure, Policy, Retry},
    record::{Lane, Timestamp},
    sync::clock::Tick,
};

use delivered::Delivery;
pub use effects::{
    AddressChange, Attempted, ConsentChange, ConsentWriteback, DeadLetter, Effects, LinkEntry,
    QueueStep,
};
pub use flight::{Identity, InFlight, Outcome};

/// Rounds of `Verdict::Again` in a row before a record has to back off: enough to halve a batch of
/// 500 down to one, with some to spare for identities.
const MOST_ROUNDS: u32 = 16;

/// How long a record waits until an event about it has been applied.
const TOLD: Duration = Duration::from_millis(100);

/// What settling goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub retry: &'a Policy,
    /// People who are removed go to a recycle bin at the service, where erasing them has to find
    /// them.
    pub recycles: bool,
    pub now: Timestamp,
}

/// Why a record could not be delivered.
#[derive(Clone, Debug, Default)]
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

/// Adds what one record's verdict comes to. `jitter` in `[0, 1)` spreads what has to be repeated.
pub fn settle(outcome: Outcome, rules: &Rules<'_>, jitter: f64, effects: &mut Effects) {
    Settling {
        rules,
        jitter,
        effects,
    }
    .enter(outcome);
}

/// The settlement of one record.
struct Settling<'a> {
    rules: &'a Rules<'a>,
    jitter: f64,
    effects: &'a mut Effects,
}

impl Settling<'_> {
    #[expect(clippy::too_many_lines, reason = "one arm a verdict")]
    fn enter(&mut self, outcome: Outcome) {
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
                self.dead_letter(&flight, Category::Validation, failure);
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
                self.effects.withheld.push(flight.record);
                self.effects.queue.push(QueueStep::Leave(flight.handle));
            }
            Verdict::Removed => self.removed(flight),
            Verdict::Again {
                relink,
                batch_cap,
                why,
            } => match relink.is_some_and(|relink| self.relink(&flight, relink)) {
                true => self.back_off(flight, Some(TOLD), true, Failure::new(why, None, request)),
                false => self.again(flight, batch_cap, why),
            },
            Verdict::Retry { .. } if resting => {
                self.effects.queue.push(QueueStep::PutBack(flight.handle));
            }
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
                self.give_up(flight, category, Failure::new(why, status, request));
            }
        }
    }

    /// Remembers what the answer says of the address beyond the life of the row.
    fn learn(&mut self, flight: &InFlight, verdict: &Verdict) {
        let learnt = flight
            .attempt()
            .into_iter()
            .flat_map(|attempt| standing::learnt(&attempt, verdict, self.rules.now));
        self.effects.remembered.extend(learnt);
    }

    /// The call was made, and its answer says nothing of these fields.
    fn doubt(&mut self, flight: &mut InFlight, doubtful: &[Tick]) {
        if doubtful.is_empty() {
            return;
        }
        if let Some(link) = flight.link.as_mut()
            && link.clock.doubt(doubtful)
        {
            self.effects.noted.push(LinkEntry {
                record: flight.record.clone(),
                link: link.clone(),
            });
        }
    }

    fn again(&mut self, flight: InFlight, batch_cap: Option<usize>, why: String) {
        if flight.rounds < MOST_ROUNDS {
            self.effects
                .queue
                .push(QueueStep::Again(flight.handle, batch_cap));
        } else {
            // It goes round in circles.
            self.back_off(flight, None, true, Failure::new(why, None, None));
        }
    }

    fn back_off(
        &mut self,
        flight: InFlight,
        wait: Option<Duration>,
        counted: bool,
        failure: Failure,
    ) {
        let policy = self.rules.retry;
        match retry::after_failure(flight.attempts, counted, wait, policy, self.jitter) {
            AfterFailure::Exhausted => {
                let why = format!(
                    "given up after {} attempts; the last one: {}",
                    flight.attempts + 1,
                    failure.why
                );
                self.give_up(flight, Category::Exhausted, Failure { why, ..failure });
            }
            AfterFailure::RetryIn(delay, attempts) => {
                self.effects.retries.push(Retry {
                    record: flight.record,
                    op: flight.op,
                    lane: match flight.lane {
                        Lane::OptOut => Lane::OptOut,
                        _ => Lane::Retry,
                    },
                    attempts,
                    wait_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
                    why: failure.why,
                    enqueued_at: flight.changed_at,
                });
                self.effects.queue.push(QueueStep::Leave(flight.handle));
            }
        }
    }

    fn give_up(&mut self, flight: InFlight, category: Category, failure: Failure) {
        self.dead_letter(&flight, category, failure);
        self.done(flight);
    }

    fn dead_letter(&mut self, flight: &InFlight, category: Category, failure: Failure) {
        self.effects.dead_letters.push(DeadLetter {
            record: flight.record.clone(),
            attempted: Attempted::Write(flight.op),
            category,
            status: failure.status,
            why: failure.why,
            request: failure.request.filter(|text| !text.is_empty()),
            attempts: flight.attempts + 1,
            enqueued_at: flight.changed_at,
            holder: match category {
                Category::Conflict | Category::Taken => flight.holder.clone(),
                _ => None,
            },
            column: None,
        });
    }

    /// Nothing is left to be done, nor to be repeated of what was given up before.
    fn settled(&mut self, flight: InFlight) {
        self.effects.superseded.push(flight.record.clone());
        self.done(flight);
    }

    fn done(&mut self, flight: InFlight) {
        self.effects.queue.push(QueueStep::Leave(flight.handle));
        self.effects.done.push(flight.record);
    }
}
