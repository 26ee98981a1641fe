//! How much a service is asked for at once: requests side by side, and records in one of them.
//! Less as soon as it is too much for the service, and step by step more again while all is well.
//!
//! Nothing tells how much it stands: Mailchimp allows 10 connections at a time to all programs of
//! a user together, and sends no headers about it.

use std::time::Duration;

/// What an answer, or its absence, says about how much was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strain {
    /// It answered as it should.
    None,
    /// Too many requests at the same time.
    Crowded,
    /// It took too long over one.
    Slow,
}

/// One request of which the end is known. Times are microseconds of a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub now: u64,
    /// How long it took.
    pub took: u64,
    /// Requests that were under way, this one included.
    pub beside: usize,
    pub records: usize,
    pub strain: Strain,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Concurrency {
    /// Requests at once; `None`: as many as are allowed. As below.
    level: Option<usize>,
    records: Option<usize>,
    /// So many at once were too much, and are not tried again before that moment.
    ceiling: Option<(usize, u64)>,
    /// How often it was too much lately.
    setbacks: u32,
    /// When everything was last allowed again.
    whole_at: u64,
    /// Refusals in a row.
    refusals: u32,
    /// Good answers since the last step.
    good: usize,
    /// What was sent before says nothing new.
    reduced_at: u64,
    shortened_at: u64,
}

/// What was too much is tried again after this time, then after twice as long, and so on.
const PATIENCE: u64 = 10_000_000;
/// Whoever stands everything for longer starts anew.
const MOST_PATIENCE: u64 = 320_000_000;
/// Fewer records are no relief: a call has costs of its own.
const FEWEST_RECORDS: usize = 10;
/// Calls that take longer than this do not grow. Mailchimp: a call is ended after 120 s.
const LONG: u64 = 60_000_000;
/// Calls grow by this part of the most they may hold.
const STEPS: usize = 10;
/// A service that goes on refusing is left alone for longer and longer, but opt-outs wait as well.
const MOST_WAIT: Duration = Duration::from_secs(60);

impl Concurrency {
    /// Requests that may be under way at once, of `most` that the settings allow.
    pub fn requests(&self, most: usize) -> usize {
        self.level.unwrap_or(most).min(most).max(1)
    }

    /// Records that a call may hold, of `most` that the service takes.
    pub fn records(&self, most: usize) -> usize {
        self.records.unwrap_or(most).min(most).max(1)
    }

    /// How long to leave it alone after a refusal that asks for `wait`.
    pub fn wait(&self, wait: Duration) -> Duration {
        let factor = 2u32.saturating_pow(self.refusals.saturating_sub(1).min(16));
        wait.saturating_mul(factor).min(MOST_WAIT).max(wait)
    }

    /// Takes note of a request that is over. `most`: requests and records that are allowed.
    pub fn note(&mut self, end: &Finished, most: (usize, usize)) {
        let sent_at = end.now.saturating_sub(end.took);
        match end.strain {
            Strain::None => self.recover(end, most),
            Strain::Crowded => {
                if self.reduce(end, sent_at) {
                    self.refusals = self.refusals.saturating_add(1);
                }
            }
            Strain::Slow => {
                self.reduce(end, sent_at);
                self.shorten(end, sent_at, most.1);
            }
        }
    }

    /// In words, what is held back; `None`: nothing.
    pub fn held_back(&self, most: (usize, usize)) -> Option<String> {
        let (requests, records) = (self.requests(most.0), self.records(most.1));
        let mut parts = Vec::new();
        if requests < most.0 {
            parts.push(format!("{requests} of {} requests at once", most.0));
        }
        if records < most.1 {
            parts.push(format!("{records} of {} records in a call", most.1));
        }
        (!parts.is_empty()).then(|| format!("at most {} for now", parts.join(", ")))
    }

    /// Halves the requests, once for all that were under way together.
    fn reduce(&mut self, end: &Finished, sent_at: u64) -> bool {
        if self.level.is_some() && sent_at < self.reduced_at {
            return false;
        }
        let were = self.level.unwrap_or(end.beside).min(end.beside).max(1);
        if self.level.is_none() && end.now.saturating_sub(self.whole_at) > MOST_PATIENCE {
            self.setbacks = 0;
        }
        let patience = PATIENCE << self.setbacks.min(5);
        self.setbacks = self.setbacks.saturating_add(1);
        self.level = Some((were / 2).max(1));
        self.ceiling = Some((were, end.now + patience));
        self.reduced_at = end.now;
        self.good = 0;
        true
    }

    fn shorten(&mut self, end: &Finished, sent_at: u64, most: usize) {
        if end.records < 2 || (self.records.is_some() && sent_at < self.shortened_at) {
            return;
        }
        let were = self.records(most).min(end.records);
        self.records = Some((were / 2).max(FEWEST_RECORDS).min(most));
        self.shortened_at = end.now;
    }

    /// One request more after as many good answers as may be under way at once; below what was too
    /// much it stops for a while. Calls grow when full ones were answered in good time.
    fn recover(&mut self, end: &Finished, most: (usize, usize)) {
        self.refusals = 0;
        if let Some(records) = self.records
            && end.records >= records.min(most.1)
            && end.took < LONG
        {
            let grown = records.saturating_add((most.1 / STEPS).max(1));
            self.records = (grown < most.1).then_some(grown);
        }
        let Some(level) = self.level else { return };
        self.good += 1;
        if self.good < level {
            return;
        }
        let stays = |(ceiling, until)| level + 1 >= ceiling && end.now < until;
        if self.ceiling.is_some_and(stays) {
            return;
        }
        self.good = 0;
        self.level = Some(level + 1);
        if level + 1 >= most.0 {
            (self.level, self.ceiling) = (None, None);
            self.whole_at = end.now;
        }
    }
}

#[cfg(test)]
mod tests;
