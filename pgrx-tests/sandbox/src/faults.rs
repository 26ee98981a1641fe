//! Trouble on request: what goes wrong, for which requests, and when.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::config::Service;
use crate::reply::{Cut, Reply};

/// One kind of trouble. `Fault::new(kind, when)` hits every request; narrow it with
/// [`Fault::service`], [`Fault::method`] and [`Fault::path`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    #[serde(default)]
    pub matcher: Matcher,
    pub kind: FaultKind,
    #[serde(default)]
    pub when: When,
}

/// Which requests a fault is for; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    pub service: Option<Service>,
    pub method: Option<String>,
    /// Substring of the path.
    pub path: Option<String>,
    /// Substring of the request body: hits the request that carries a certain record.
    pub body: Option<String>,
}

/// What happens instead of, or in addition to, the normal answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Nothing is applied and this is answered.
    Status {
        code: u16,
        #[serde(default)]
        body: FaultBody,
        #[serde(default)]
        retry_after: Option<u32>,
    },
    /// The request is carried out at once and answered this much later.
    Delay { ms: u64 },
    /// Nothing is applied and the connection closes without an answer.
    Reset,
    /// The change is applied and the connection closes without an answer.
    AnswerLost,
    /// The change is applied, and the network in front of the service answers with a page of HTML and
    /// this status, for it took too long.
    Gateway { code: u16 },
    /// The change is applied and the body of the answer stops half-way.
    Truncate,
    /// Nothing is applied and a page of HTML is answered with status 200, as captive proxies do.
    Html,
}

/// Body of a [`FaultKind::Status`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultBody {
    /// The service's usual error document.
    #[default]
    Json,
    Html,
    Empty,
    Text(String),
}

/// Which of the matching requests are hit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    UntilCleared,
    NextN(u64),
    /// The k-th, 2k-th, … matching request.
    EveryKth(u64),
    Probability {
        p: f64,
        seed: u64,
    },
}

impl Fault {
    pub fn new(kind: FaultKind, when: When) -> Self {
        Self {
            matcher: Matcher::default(),
            kind,
            when,
        }
    }

    pub fn service(mut self, service: Service) -> Self {
        self.matcher.service = Some(service);
        self
    }

    pub fn method(mut self, method: &str) -> Self {
        self.matcher.method = Some(method.to_owned());
        self
    }

    pub fn path(mut self, part: &str) -> Self {
        self.matcher.path = Some(part.to_owned());
        self
    }

    pub fn body(mut self, part: &str) -> Self {
        self.matcher.body = Some(part.to_owned());
        self
    }
}

impl Matcher {
    fn fits(&self, service: Service, method: &str, path: &str, body: &[u8]) -> bool {
        self.service.is_none_or(|wanted| wanted == service)
            && self
                .method
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_deref().is_none_or(|part| path.contains(part))
            && self.body.as_deref().is_none_or(|part| {
                let part = part.as_bytes();
                part.is_empty() || body.windows(part.len()).any(|window| window == part)
            })
    }
}

/// A fault at work: how many requests it saw and hit.
#[derive(Debug, Clone, Serialize)]
pub struct ActiveFault {
    pub id: u64,
    pub fault: Fault,
    pub seen: u64,
    pub hit: u64,
    #[serde(skip)]
    rng: Rng,
}

/// The faults in force, in the order they were added.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    active: Vec<ActiveFault>,
    next_id: u64,
}

/// What the faults make of one request.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub delay_ms: u64,
    pub cut: Cut,
    /// Answered instead of carrying the request out.
    pub instead: Option<Reply>,
    /// Answered after carrying it out.
    pub after: Option<Reply>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> u64 {
        self.next_id += 1;
        let seed = if let When::Probability { seed, .. } = fault.when {
            seed
        } else {
            0
        };
        self.active.push(ActiveFault {
            id: self.next_id,
            fault,
            seen: 0,
            hit: 0,
            rng: Rng::with_seed(seed),
        });
        self.next_id
    }

    pub(crate) fn clear(&mut self) {
        self.active.clear();
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.active.retain(|active| active.id != id);
    }

    pub(crate) fn list(&self) -> &[ActiveFault] {
        &self.active
    }

    /// Delays add up; of the others, the first that hits decides.
    pub(crate) fn judge(
        &mut self,
        service: Service,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Verdict {
        let mut verdict = Verdict {
            delay_ms: 0,
            cut: Cut::Whole,
            instead: None,
            after: None,
        };
        let mut decided = false;
        for active in &mut self.active {
            let is_delay = matches!(active.fault.kind, FaultKind::Delay { .. });
            if (decided && !is_delay)
                || !active.fault.matcher.fits(service, method, path, body)
                || !active.strikes()
            {
                continue;
            }
            decided |= !is_delay;
            match &active.fault.kind {
                FaultKind::Delay { ms } => verdict.delay_ms += ms,
                FaultKind::Status {
                    code,
                    body,
                    retry_after,
                } => {
                    verdict.instead = Some(status_reply(service, *code, body, *retry_after));
                }
                FaultKind::Gateway { code } => verdict.after = Some(Reply::html(*code)),
                FaultKind::Html => verdict.instead = Some(Reply::html(200)),
                FaultKind::Reset => {
                    verdict.instead = Some(Reply::empty(500));
                    verdict.cut = Cut::Nothing;
                }
                FaultKind::AnswerLost => verdict.cut = Cut::Nothing,
                FaultKind::Truncate => verdict.cut = Cut::Half,
            }
        }
        verdict
    }
}

impl ActiveFault {
    fn strikes(&mut self) -> bool {
        self.seen += 1;
        let strikes = match self.fault.when {
            When::UntilCleared => true,
            When::NextN(n) => self.hit < n,
            When::EveryKth(k) => self.seen.is_multiple_of(k.max(1)),
            When::Probability { p, .. } => self.rng.f64() < p,
        };
        self.hit += u64::from(strikes);
        strikes
    }
}

fn status_reply(service: Service, code: u16, body: &FaultBody, retry_after: Option<u32>) -> Reply {
    let reply = match (body, service) {
        (FaultBody::Empty, _) => Reply::empty(code),
        (FaultBody::Html, _) => Reply::html(code),
        (FaultBody::Text(text), _) => Reply::json(code, text.clone().into_bytes()),
        (FaultBody::Json, Service::HubSpot) => crate::hubspot::errors::for_status(code),
        (FaultBody::Json, Service::Mailchimp) => crate::mailchimp::errors::for_status(code),
    };
    match retry_after {
        Some(seconds) => reply.with("retry-after", seconds.to_string()),
        None => reply,
    }
}
