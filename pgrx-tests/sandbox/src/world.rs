//! Everything behind the one lock: both services, the faults, the request log, the counters.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::call::Call;
use crate::clock::{Millis, Now};
use crate::config::{Config, Service};
use crate::delivery::Delivery;
use crate::faults::Faults;
use crate::hubspot::HubSpot;
use crate::mailchimp::Mailchimp;
use crate::query::Query;
use crate::reply::{Cut, Reply};

/// One request that was answered.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedRequest {
    /// Counts from 1 and goes on over [`crate::Sandbox::reset_log`].
    pub number: u64,
    pub service: Service,
    pub method: String,
    /// With the query.
    pub path: String,
    pub status: u16,
    /// Records in the request: batch inputs, bulk members, or one.
    pub inputs: usize,
    /// Milliseconds since 1970.
    pub at: i64,
    /// Whether the client got the whole answer, as far as the sandbox is concerned.
    pub answered: bool,
    #[serde(skip)]
    pub arrived: Instant,
    /// The request's body, if `keep_bodies` is on.
    pub body: Option<String>,
}

/// Totals since the start or the last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub requests: u64,
    pub hubspot_requests: u64,
    pub mailchimp_requests: u64,
    /// Records in write requests that were answered with 2xx.
    pub records_written: u64,
    /// 429 by the sandbox's own limits (and Mailchimp's body-less 403), not by faults.
    pub throttled: u64,
    /// Answers of 400 and above, and connections that were closed instead of answered.
    pub failed: u64,
    /// Writes that arrived while another write of the same record was unanswered.
    pub overlaps: u64,
    pub in_flight: usize,
    pub max_in_flight: usize,
    pub webhooks_waiting: usize,
    pub webhooks_dropped: u64,
    pub contacts: usize,
    pub companies: usize,
    pub deals: usize,
    pub members: usize,
}

/// A request that is all there, whatever becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub service: Service,
    pub method: &'a str,
    /// With the query.
    pub path: &'a str,
    pub body: &'a [u8],
}

type Tell = dyn Fn(Seen<'_>) + Send;

/// Is told of every request; see [`crate::Sandbox::watch`].
#[derive(Default)]
pub(crate) struct Watcher(pub Option<Box<Tell>>);

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watcher").field(&self.0.is_some()).finish()
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub config: Config,
    pub hubspot: HubSpot,
    pub mailchimp: Mailchimp,
    pub faults: Faults,
    pub log: VecDeque<LoggedRequest>,
    pub keep_bodies: bool,
    pub watcher: Watcher,
    totals: Stats,
    numbered: u64,
    pub hubspot_in_flight: usize,
    pub mailchimp_in_flight: usize,
}

/// What to put on the wire, and when.
pub(crate) struct Outcome {
    pub reply: Reply,
    pub cut: Cut,
    pub delay: Duration,
}

/// A request as the server hands it over.
pub(crate) struct Incoming<'a> {
    pub service: Service,
    pub method: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub authorization: Option<&'a str>,
    pub body: &'a [u8],
    pub arrived: Instant,
}

impl Incoming<'_> {
    fn path_and_query(&self) -> String {
        match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_owned(),
        }
    }
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            hubspot: HubSpot::new(config.hubspot.clone(), config.seed, config.webhook_capacity),
            mailchimp: Mailchimp::new(
                config.mailchimp.clone(),
                config.seed,
                config.webhook_capacity,
            ),
            config,
            faults: Faults::default(),
            log: VecDeque::new(),
            keep_bodies: false,
            watcher: Watcher::default(),
            totals: Stats::default(),
            numbered: 0,
            hubspot_in_flight: 0,
            mailchimp_in_flight: 0,
        }
    }

    /// Forgets all records, faults, logs and webhooks; the configuration stays.
    pub(crate) fn reset(&mut self) {
        let (hubspot, mailchimp) = (self.hubspot_in_flight, self.mailchimp_in_flight);
        let (numbered, keep_bodies) = (self.numbered, self.keep_bodies);
        let watcher = std::mem::take(&mut self.watcher);
        *self = Self {
            watcher,
            hubspot_in_flight: hubspot,
            mailchimp_in_flight: mailchimp,
            numbered,
            keep_bodies,
            ..Self::new(self.config.clone())
        };
    }

    /// Takes new settings over; what both services hold stays.
    pub(crate) fn configure(&mut self, config: Config) {
        self.hubspot.config = config.hubspot.clone();
        self.mailchimp.config = config.mailchimp.clone();
        self.config = config;
    }

    pub(crate) fn enter(&mut self, service: Service) {
        match service {
            Service::HubSpot => self.hubspot_in_flight += 1,
            Service::Mailchimp => self.mailchimp_in_flight += 1,
        }
        self.totals.max_in_flight = self
            .totals
            .max_in_flight
            .max(self.hubspot_in_flight + self.mailchimp_in_flight);
    }

    pub(crate) fn leave(&mut self, service: Service) {
        match service {
            Service::HubSpot => self.hubspot_in_flight -= 1,
            Service::Mailchimp => self.mailchimp_in_flight -= 1,
        }
    }

    /// Carries a request out.
    pub(crate) fn handle(&mut self, request: &Incoming<'_>) -> Outcome {
        if let Watcher(Some(watcher)) = &self.watcher {
            watcher(Seen {
                service: request.service,
                method: request.method,
                path: &request.path_and_query(),
                body: request.body,
            });
        }
        let verdict =
            self.faults
                .judge(request.service, request.method, request.path, request.body);
        let delay = Duration::from_millis(self.config.delay_ms + verdict.delay_ms);
        let now = Now::read();
        let reply = match verdict.instead {
            Some(reply) => reply,
            None => self.serve(request, now, delay),
        };
        let reply = verdict.after.unwrap_or(reply);
        self.note(request, now.wall, &reply, verdict.cut);
        Outcome {
            reply,
            cut: verdict.cut,
            delay,
        }
    }

    fn serve(&mut self, request: &Incoming<'_>, now: Now, delay: Duration) -> Reply {
        let call = Call {
            method: request.method,
            path: request.path,
            query: Query::parse(request.query),
            authorization: request.authorization,
            body: request.body,
            arrived: request.arrived,
            now,
            answered: now.mono + delay,
        };
        match request.service {
            Service::HubSpot => self.hubspot.answer(&call),
            Service::Mailchimp => {
                let path = call.path.split_once("/3.0").map_or("", |(_, path)| path);
                self.mailchimp.answer(&call, path, self.mailchimp_in_flight)
            }
        }
    }

    fn note(&mut self, request: &Incoming<'_>, wall: Millis, reply: &Reply, cut: Cut) {
        let inputs = count_inputs(request);
        self.totals.requests += 1;
        match request.service {
            Service::HubSpot => self.totals.hubspot_requests += 1,
            Service::Mailchimp => self.totals.mailchimp_requests += 1,
        }
        if reply.status >= 400 || cut != Cut::Whole {
            self.totals.failed += 1;
        } else if request.method != "GET"
            && !request.path.ends_with("/read")
            && !request.path.ends_with("/search")
        {
            self.totals.records_written += inputs as u64;
        }
        self.numbered += 1;
        if self.config.log_capacity == 0 {
            return;
        }
        if self.log.len() >= self.config.log_capacity {
            self.log.pop_front();
        }
        self.log.push_back(LoggedRequest {
            number: self.numbered,
            service: request.service,
            method: request.method.to_owned(),
            path: request.path_and_query(),
            status: reply.status,
            inputs,
            at: wall,
            answered: cut == Cut::Whole,
            arrived: request.arrived,
            body: self
                .keep_bodies
                .then(|| String::from_utf8_lossy(request.body).into_owned()),
        });
    }

    pub(crate) fn stats(&self) -> Stats {
        use crate::hubspot::ObjectType;
        Stats {
            throttled: self.hubspot.limits.refused + self.mailchimp.refused,
            overlaps: self.hubspot.overlaps + self.mailchimp.overlaps,
            in_flight: self.hubspot_in_flight + self.mailchimp_in_flight,
            webhooks_waiting: self.hubspot.events.len() + self.mailchimp.outgoing.len(),
            webhooks_dropped: self.hubspot.events.dropped + self.mailchimp.outgoing.dropped,
            contacts: self.hubspot.count(ObjectType::Contact),
            companies: self.hubspot.count(ObjectType::Company),
            deals: self.hubspot.count(ObjectType::Deal),
            members: self.mailchimp.count(),
            ..self.totals
        }
    }

    /// Empties the log and sets the counters to zero.
    pub(crate) fn reset_log(&mut self) {
        self.log.clear();
        self.totals = Stats::default();
        (self.hubspot.overlaps, self.mailchimp.overlaps) = (0, 0);
        (self.hubspot.limits.refused, self.mailchimp.refused) = (0, 0);
    }

    pub(crate) fn take_webhooks(&mut self) -> Vec<Delivery> {
        let now = Now::read().wall;
        let mut all = self.hubspot.take_webhooks(now);
        all.extend(self.mailchimp.outgoing.take(now));
        all
    }

    pub(crate) fn clear_webhooks(&mut self) {
        self.hubspot.events.clear();
        self.mailchimp.outgoing.clear();
    }
}

/// How many records a request holds, without parsing it: each input and each member names
/// itself once in a way that nothing else in these bodies does.
fn count_inputs(request: &Incoming<'_>) -> usize {
    if request.method == "GET" {
        return 0;
    }
    let marker: &[u8] = if request.path.contains("/batch/create") {
        b"\"properties\""
    } else if request.path.contains("/batch/") {
        b"\"id\""
    } else if request.service == Service::Mailchimp && request.body.starts_with(b"{\"members\"") {
        b"\"email_address\""
    } else {
        return 1;
    };
    // The first byte is a quote, so let that be found fast.
    request
        .body
        .windows(marker.len())
        .filter(|window| *window == marker)
        .count()
        .max(1)
}
