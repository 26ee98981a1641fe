//! The HubSpot side: records, definitions, associations, limits, webhooks; and the map from
//! paths to them. Dated paths (`/crm/objects/2026-09/…`), v3 and v4 lead to the same calls.

mod account;
mod admin;
mod associations;
mod batch;
mod batch_checks;
mod definitions;
pub(crate) mod errors;
mod inputs;
pub(crate) mod limits;
mod merge;
mod people;
mod properties;
mod render;
mod rules;
mod schemas;
mod scopes;
mod search;
pub mod signature;
mod single;
mod store;
mod types;
mod validate;
pub(crate) mod webhooks;
mod write;

use std::collections::HashSet;

use fastrand::Rng;
use percent_encoding::percent_decode_str;

pub use people::{Association, HubSpotRecord};
pub use schemas::NewObject;
pub use types::ObjectType;
pub(crate) use types::every_scope;
pub(crate) use validate::is_email;

use crate::call::Call;
use crate::config::HubSpotConfig;
use crate::reply::Reply;
use batch::Verb;
use errors::Problem;
use store::{ChangeSource, Store};
use write::Moment;

/// The account.
#[derive(Debug)]
pub(crate) struct HubSpot {
    pub config: HubSpotConfig,
    stores: Vec<Store>,
    associations: associations::Associations,
    owners: Vec<admin::Owner>,
    pipelines: Vec<admin::Pipeline>,
    schemas: Vec<schemas::Schema>,
    pub events: webhooks::Events,
    pub limits: limits::Limits,
    issued: Vec<account::Issued>,
    /// Where refresh tokens are rotated: the one configured, and the latest that descends from it.
    rotated: Option<(String, String)>,
    /// Addresses that a GDPR deletion keeps out.
    blocked: HashSet<String>,
    rng: Rng,
    /// Writes that arrived while another write of the same record was unanswered.
    pub overlaps: u64,
}

impl HubSpot {
    pub(crate) fn new(config: HubSpotConfig, seed: u64, webhook_capacity: usize) -> Self {
        Self {
            stores: ObjectType::ALL
                .iter()
                .map(|&object| Store::new(object, config.first_id))
                .collect(),
            config,
            associations: associations::Associations::default(),
            owners: admin::first_owner(),
            pipelines: admin::first_pipelines(),
            schemas: Vec::new(),
            events: webhooks::Events::new(webhook_capacity),
            limits: limits::Limits::default(),
            issued: Vec::new(),
            rotated: None,
            blocked: HashSet::new(),
            rng: Rng::with_seed(seed),
            overlaps: 0,
        }
    }

    /// Access tokens given out so far stop working.
    pub(crate) fn expire_tokens(&mut self) {
        let now = std::time::Instant::now();
        for issued in &mut self.issued {
            issued.expires = issued.expires.min(now);
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, call: &Call<'_>) -> Reply {
        let reply = self.admit(call);
        match &self.config.deprecation {
            Some(value) => reply.with("deprecation", value.clone()),
            None => reply,
        }
    }

    fn admit(&mut self, call: &Call<'_>) -> Reply {
        let moment = Moment {
            now: call.now,
            arrived: call.arrived,
            answered: call.answered,
            source: ChangeSource::Integration,
            since_2026_09: call.path.contains("/2026-09"),
        };
        let segments: Vec<&str> = call
            .path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        if let ["oauth", rest @ ..] = &segments[..] {
            return self.oauth(call.method, rest, call.body, &moment);
        }
        if let Err(refusal) = self.authorize(call.authorization, call.now.mono) {
            return refusal;
        }
        if let Some(lacking) = scopes::lacking(&self.config.scopes, call.method, &segments) {
            return errors::missing_scopes(&lacking);
        }
        let family = limits::Family::of(&segments);
        if let Err(refusal) = self.limits.admit(&self.config, family, call.now.mono) {
            return refusal;
        }
        let reply = self
            .route(call, &segments, &moment)
            .unwrap_or_else(|problem| problem.reply());
        self.limits.with_headers(reply, &self.config, family)
    }

    fn route(
        &mut self,
        call: &Call<'_>,
        segments: &[&str],
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let (family, version, rest) = match segments {
            ["crm", family, version, rest @ ..] if is_version(version) => (*family, *version, rest),
            ["crm", version, family, rest @ ..] if is_version(version) => (*family, *version, rest),
            ["account-info", version, rest @ ..] if is_version(version) => {
                return self.account_info(rest);
            }
            ["crm-object-schemas", version, "schemas", rest @ ..] if is_version(version) => {
                return self.schemas(call.method, rest);
            }
            _ => return Err(Problem::not_found()),
        };
        if family == "owners" {
            return self.list_owners(rest, &call.query);
        }
        let [object, rest @ ..] = rest else {
            return Err(Problem::not_found());
        };
        let object = self.object_type(object)?;
        match family {
            "objects" => self.objects(object, rest, call, moment),
            "properties" => {
                self.properties(object, call.method, rest, &call.query, call.body, moment)
            }
            "pipelines" => self.list_pipelines(object, rest),
            "associations" => match (call.method, rest) {
                ("POST", [to, "batch", verb @ ..]) => {
                    let to = self.object_type(to)?;
                    self.batch_associate(
                        object,
                        to,
                        &verb.join("/"),
                        version != "v4",
                        call.body,
                        moment,
                    )
                }
                _ => Err(Problem::not_found()),
            },
            _ => Err(Problem::not_found()),
        }
    }

    fn objects(
        &mut self,
        object: ObjectType,
        rest: &[&str],
        call: &Call<'_>,
        moment: &Moment,
    ) -> Result<Reply, Problem> {
        let body = call.body;
        if matches!(
            (call.method, rest),
            ("POST", ["batch", "upsert" | "update" | "create"] | []) | ("PATCH", [_])
        ) {
            let lacking = self.lacking_to_write(object, body);
            if !lacking.is_empty() {
                return Ok(errors::missing_scopes(&lacking));
            }
        }
        match (call.method, rest) {
            ("POST", ["batch", "upsert"]) => self.batch_write(object, Verb::Upsert, body, moment),
            ("POST", ["batch", "update"]) => self.batch_write(object, Verb::Update, body, moment),
            ("POST", ["batch", "create"]) => self.batch_write(object, Verb::Create, body, moment),
            ("POST", ["batch", "archive"]) => self.batch_archive(object, body, moment),
            ("POST", ["batch", "read"]) => {
                self.batch_read(object, call.query.flag("archived"), body, moment)
            }
            ("POST", ["search"]) => self.search(object, body, moment),
            ("POST", ["merge"]) => self.merge_call(object, body, moment),
            ("POST", ["gdpr-delete"]) => self.gdpr_delete(object, body, moment),
            ("GET", []) => self.list(object, &call.query),
            ("POST", []) => self.create_one(object, body, moment),
            ("GET", [id]) => self.read_one(object, &decode(id), &call.query),
            ("PATCH", [id]) => self.update_one(object, &decode(id), &call.query, body, moment),
            ("DELETE", [id]) => self.delete_one(object, &decode(id), moment),
            ("GET", [id, "associations", to]) => {
                self.list_associations((object, id), self.object_type(to)?)
            }
            ("PUT", [id, "associations", "default", to, to_id]) => {
                self.associate_one((object, id), (self.object_type(to)?, to_id), None, moment)
            }
            ("PUT", [id, "associations", to, to_id]) => self.associate_one(
                (object, id),
                (self.object_type(to)?, to_id),
                Some(body),
                moment,
            ),
            ("DELETE", [id, "associations", to, to_id]) => {
                self.dissociate_one((object, id), (self.object_type(to)?, to_id), moment)
            }
            (_, ["batch", ..] | []) => Err(Problem::new(
                405,
                "METHOD_NOT_ALLOWED",
                "Method Not Allowed",
            )),
            _ => Err(Problem::not_found()),
        }
    }
}

fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// `v3`, `v4`, `2026-09`, `2026-09-beta`.
fn is_version(text: &str) -> bool {
    matches!(text, "v3" | "v4")
        || (text.len() >= 7 && text.starts_with("20") && text.as_bytes()[4] == b'-')
}
