//! The Mailchimp side: audiences, members, merge fields, webhooks; and the map from paths below
//! `/3.0` to them.

mod admin;
mod body;
mod bulk;
pub(crate) mod errors;
mod groups;
mod lists;
mod members;
mod people;
mod reports;
mod status;
mod store;
mod validate;
pub mod webhooks;
mod write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;

pub use admin::AudienceField;
pub use people::{ListMember, MemberAction, Subscribed};
pub use reports::Engagement;
pub use status::{Actor, Status};

use crate::call::Call;
use crate::config::MailchimpConfig;
use crate::reply::Reply;
use errors::Problem;
use store::Audience;
use write::Moment;

/// The account.
#[derive(Debug)]
pub(crate) struct Mailchimp {
    pub config: MailchimpConfig,
    audiences: Vec<Audience>,
    pub outgoing: webhooks::Outgoing,
    campaigns: Vec<reports::Campaign>,
    rng: Rng,
    pub overlaps: u64,
    /// Every time a member became subscribed.
    pub subscribed: Vec<Subscribed>,
    /// Requests refused for too many connections.
    pub refused: u64,
}

impl Mailchimp {
    pub(crate) fn new(config: MailchimpConfig, seed: u64, capacity: usize) -> Self {
        let audience = |(number, list): (u64, &String)| {
            let mut audience = Audience::new(list, config.double_optin);
            audience.first_web_id += 100_000_000 * number;
            let hook = config.webhook.as_ref().map(webhooks::Hook::configured);
            audience.hooks.extend(hook);
            audience
        };
        let lists = std::iter::once(&config.list_id).chain(&config.other_lists);
        Self {
            audiences: (0..).zip(lists).map(audience).collect(),
            outgoing: webhooks::Outgoing::new(capacity),
            campaigns: Vec::new(),
            rng: Rng::with_seed(seed),
            overlaps: 0,
            subscribed: Vec::new(),
            refused: 0,
            config,
        }
    }

    /// Somebody deletes an audience in the web app, with all its members.
    pub(crate) fn delete_audience(&mut self, list_id: &str) {
        self.audiences.retain(|audience| audience.id != list_id);
    }

    /// Answers a request; `path` begins after `/3.0`. `connections` are those at work now.
    pub(crate) fn answer(&mut self, call: &Call<'_>, path: &str, connections: usize) -> Reply {
        if self
            .config
            .max_connections
            .is_some_and(|most| connections > most)
        {
            self.refused += 1;
            return match self.config.throttle_with_403 {
                true => Reply::html(403),
                false => errors::for_status(429),
            };
        }
        if let Err(problem) = self.authorize(call.authorization) {
            return problem.reply();
        }
        let moment = Moment {
            now: call.now,
            arrived: call.arrived,
            answered: call.answered,
            by: Actor::Api,
        };
        self.route(call, path, &moment)
            .unwrap_or_else(|problem| problem.reply())
    }

    /// Mailchimp: Basic with any user name, or Bearer.
    fn authorize(&self, authorization: Option<&str>) -> Result<(), Problem> {
        let Some(value) = authorization.filter(|value| !value.is_empty()) else {
            let detail = "Your request did not include an API key.";
            return Err(Problem::new(401, "API Key Missing", detail));
        };
        let key = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Some(token.trim().to_owned())
            }
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("basic") => STANDARD
                .decode(token.trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|pair| pair.split_once(':').map(|(_, key)| key.to_owned())),
            _ => None,
        };
        if key.as_deref() == Some(&self.config.api_key) {
            return Ok(());
        }
        let detail =
            "Your API key may be invalid, or you've attempted to access the wrong datacenter.";
        Err(Problem::new(401, "API Key Invalid", detail))
    }

    fn route(&mut self, call: &Call<'_>, path: &str, moment: &Moment) -> Result<Reply, Problem> {
        let decoded: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
        match (call.method, &segments[..]) {
            ("GET", []) => Ok(Reply::value(
                200,
                &json!({
                    "account_id": self.config.account_id, "login_id": "1", "account_name": "Sandbox", "email": "owner@example.com",
                    "role": "owner", "account_timezone": "Europe/Berlin", "total_subscribers": 0,
                }),
            )),
            ("GET", ["ping"]) => Ok(Reply::value(
                200,
                &json!({"health_status": "Everything's Chimpy!"}),
            )),
            ("GET", ["lists"]) => {
                let lists: Vec<_> = (0..self.audiences.len())
                    .map(|list| self.list_json(list))
                    .collect();
                Ok(Reply::value(
                    200,
                    &json!({"lists": lists, "total_items": lists.len()}),
                ))
            }
            (method, ["lists", id, rest @ ..]) => {
                let list = self
                    .audiences
                    .iter()
                    .position(|audience| audience.id == *id)
                    .ok_or_else(Problem::not_found)?;
                match (method, rest) {
                    ("GET", []) => Ok(Reply::value(200, &self.list_json(list))),
                    ("POST", []) => self.bulk(list, &call.query, call.body, moment),
                    (_, ["members", rest @ ..]) => {
                        self.members(list, method, rest, &call.query, call.body, moment)
                    }
                    (_, ["merge-fields", rest @ ..]) => {
                        self.merge_fields(list, method, rest, &call.query, call.body)
                    }
                    (_, ["webhooks", rest @ ..]) => self.hooks(list, method, rest, call.body),
                    ("GET", ["interest-categories", rest @ ..]) => {
                        self.categories(list, rest, &call.query)
                    }
                    _ => Err(Problem::not_found()),
                }
            }
            ("GET", ["campaigns"]) => self.campaigns(&call.query),
            ("GET", ["reports", campaign, report]) => self.report(campaign, report, &call.query),
            _ => Err(Problem::not_found()),
        }
    }
}

/// Reads a JSON body, or says what is wrong with it.
fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Problem::field("", format!("Schema describes a different type: {error}"))
        }
        _ => Problem::new(
            400,
            "JSON Parse Exception",
            format!("We encountered an unspecified JSON parsing error: {error}"),
        ),
    })
}
