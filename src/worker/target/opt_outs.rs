//! Opt-outs while nothing else may be sent: whether one may, and how such calls fare.

use std::time::{Duration, Instant};

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::limits::retry::backoff;
use integration_engine::record::{Lane, Target};

use super::TargetWorker;
use crate::config::Settings;

/// Mailchimp: at most 10 connections at a time.
const MOST_CONNECTIONS: usize = 10;

/// Between calls that are refused: doubled each time, up to the latter.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How the calls fare that go out of turn.
#[derive(Default)]
pub struct Urgent {
    pub underway: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Urgent {
    /// Takes note of an answer.
    pub fn hear(&mut self, signal: &TargetSignal, now: Instant) {
        self.underway = false;
        if *signal == TargetSignal::Healthy {
            *self = Urgent::default();
            return;
        }
        let wait = backoff(self.failures, FIRST_WAIT, LONGEST_WAIT);
        self.failures += 1;
        self.not_before = Some(now + wait);
    }

    fn rests(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|until| until > now)
    }
}

impl TargetWorker {
    /// Whether opt-outs are sent though nothing else may be. Not where somebody stopped the target,
    /// or has to set something right.
    pub fn lets_opt_outs_through(&self, settings: &Settings, now: Instant) -> bool {
        self.target == Target::Mailchimp
            && self.account.known()
            && self.status(settings, now).state.may_send_opt_outs()
    }

    /// Whether a call that carries opt-outs may leave now.
    pub fn may_send_opt_out(&self, settings: &Settings, now: Instant) -> bool {
        !self.urgent.underway
            && !self.urgent.rests(now)
            && self.calls_in_flight < MOST_CONNECTIONS
            && self.lets_opt_outs_through(settings, now)
    }

    /// How long until an opt-out that waits may be tried again.
    pub fn opt_out_in(&self, settings: &Settings, now: Instant) -> Option<Duration> {
        let waits = self.queue.has_ready(Lane::OptOut) && !self.urgent.underway;
        let until = self.urgent.not_before.filter(|until| *until > now)?;
        (waits && self.lets_opt_outs_through(settings, now)).then(|| until - now)
    }
}
