//! Connection tests: who are we, and what may we do? Asked by `integration.test_connection()`,
//! whatever the target's state, but not by a copy that may not send.

use integration_engine::record::{Entity, Target, Timestamp};
use integration_engine::wire::{Reply, Request, TransportError};
use integration_hubspot::{oauth, scopes};
use integration_mailchimp as mailchimp;

use super::target::TargetWorker;
use super::target::account::{self, SeenAccount};
use super::{Context, answers, auth, properties};
use crate::config::{Credential, Endpoint};
use crate::http::SecretBody;
use crate::secret::Secret;
use crate::store::server::accounts::Tested;

/// A test under way.
pub struct Test {
    asked_at: Timestamp,
    /// Who we are, once that is known.
    seen: Option<SeenAccount>,
    /// A second refusal of a new token is final.
    pub resent: bool,
    /// There is no token to ask with yet.
    pub waiting: bool,
}

/// What a test asks in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestQuestion {
    Who,
    What,
}

impl Test {
    pub fn begin(now: Timestamp) -> Test {
        Test {
            asked_at: now,
            seen: None,
            resent: false,
            waiting: false,
        }
    }

    /// The test is over.
    pub fn end(self, target: Target, ok: bool, detail: String) -> Tested {
        Tested {
            target,
            asked_at: self.asked_at,
            ok,
            account: self.seen.map(|seen| seen.account),
            detail,
        }
    }
}

/// Why a target cannot be asked at all.
pub fn hindrance(worker: &TargetWorker, context: &Context) -> Option<String> {
    if let Err(why) = context.settings.endpoint(worker.target) {
        return Some(format!("unconfigured: {why}"));
    }
    worker.fenced.then(|| {
        format!(
            "fenced: {}",
            worker.fenced_why.as_deref().unwrap_or_default()
        )
    })
}

/// The request that asks a question.
pub fn request(
    worker: &TargetWorker,
    question: TestQuestion,
    context: &Context,
    session: Option<&auth::Session>,
    token: Option<&Secret>,
) -> (Request, Option<SecretBody>) {
    match (worker.target, question) {
        (target, TestQuestion::Who) => (answers::probe(target, context), None),
        (Target::Mailchimp, TestQuestion::What) => match used_audiences(worker, context).as_slice()
        {
            [_, _, ..] => (mailchimp::audiences_request(), None),
            _ => (
                mailchimp::audience_request(&context.settings.mailchimp_api.list),
                None,
            ),
        },
        (Target::HubSpot, TestQuestion::What) => match (session, token) {
            (Some(session), Some(token)) => {
                let (request, body) = session.introspection(token);
                (request, Some(body))
            }
            (_, token) => {
                let token = token.map_or("", Secret::reveal);
                let body = serde_json::json!({"tokenKey": token}).to_string();
                (
                    oauth::token_info_request(),
                    Some(SecretBody::Json(Secret::of(body))),
                )
            }
        },
    }
}

/// Takes in who we are. The error ends the test.
pub fn hear_who(
    test: &mut Test,
    target: Target,
    context: &Context,
    result: &Result<Reply, TransportError>,
) -> Result<(), String> {
    test.seen = Some(account::read(target, context, result)?);
    Ok(())
}

/// Takes in what we may do, and ends the test.
pub fn hear_what(
    test: Test,
    worker: &TargetWorker,
    context: &Context,
    result: &Result<Reply, TransportError>,
) -> Tested {
    let target = worker.target;
    let (mut ok, more) = match target {
        Target::HubSpot => hubspot(&properties::entities(worker, context), result),
        Target::Mailchimp => mailchimp(worker, context, result),
    };
    let seen = test.seen.as_ref();
    let mut detail: Vec<String> = seen
        .map(|seen| seen.detail.clone())
        .into_iter()
        .chain(more)
        .filter(|part| !part.is_empty())
        .collect();
    let used = worker.account.stored.as_ref();
    if let Some((seen, used)) = seen
        .zip(used)
        .filter(|(seen, used)| seen.account != used.account)
    {
        ok = false;
        detail.push(format!(
            "account {} is not the one that records have been sent to so far ({}); to accept it: SELECT integration.resume('{target}');",
            seen.account, used.account
        ));
    }
    let detail = detail.join("; ");
    test.end(target, ok, detail)
}

fn hubspot(entities: &[Entity], result: &Result<Reply, TransportError>) -> (bool, Vec<String>) {
    let Some(info) = scopes::read_token_info(result.as_ref()) else {
        return (
            true,
            vec!["HubSpot does not tell this token's scopes".to_owned()],
        );
    };
    let missing = scopes::missing_scopes(&info, entities);
    let app = info.app_id.map(|app| format!("app {app}"));
    let scopes = if missing.is_empty() {
        format!("scopes {}", info.scopes.join(", "))
    } else {
        format!(
            "the token lacks the scopes {}; grant them in HubSpot",
            missing.join(", ")
        )
    };
    (
        missing.is_empty(),
        app.into_iter().chain([scopes]).collect(),
    )
}

fn used_audiences(worker: &TargetWorker, context: &Context) -> Vec<String> {
    worker
        .audiences
        .in_use(&context.settings.mailchimp_api.list)
}

fn mailchimp(
    worker: &TargetWorker,
    context: &Context,
    result: &Result<Reply, TransportError>,
) -> (bool, Vec<String>) {
    let centre = context
        .settings
        .endpoint(Target::Mailchimp)
        .ok()
        .and_then(data_centre);
    let used = used_audiences(worker, context);
    let read = match used.len() {
        0 | 1 => mailchimp::read_audience(result.as_ref(), &context.settings.mailchimp_api)
            .map(|audience| (true, vec![audience])),
        _ => mailchimp::read_audiences(result.as_ref(), &used, &context.settings.mailchimp_api),
    };
    let (ok, audiences) = read.unwrap_or_else(|why| (false, vec![why]));
    (ok, centre.into_iter().chain(audiences).collect())
}

fn data_centre(endpoint: &Endpoint) -> Option<String> {
    let Credential::Fixed(key) = &endpoint.credential else {
        return None;
    };
    mailchimp::data_centre(key.reveal()).map(|centre| format!("data centre {centre}"))
}
