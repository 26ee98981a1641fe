//! Who the API key belongs to.

use serde_json::Value;

use crate::{
    call::{Method, Reply, Request, TransportError},
    failure::{Class, classify},
    record::Target,
};

/// The account an API key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub account_id: String,
    /// Its name and the role of the key's user, for people.
    pub detail: String,
}

/// Asks which account the key belongs to.
pub fn account_request() -> Request {
    Request {
        target: Target::Mailchimp,
        method: Method::Get,
        path: "/".to_owned(),
        body: None,
    }
}

/// Reads the answer to [`account_request`]; the error is a sentence.
pub fn read_account(reply: Result<&Reply, &TransportError>) -> Result<Account, String> {
    let reply = match (classify(Target::Mailchimp, reply), reply) {
        (Class::Answered, Ok(reply)) => reply,
        (
            Class::Failing { why, .. }
            | Class::Throttled { why, .. }
            | Class::DailyLimit { why, .. }
            | Class::Crowded { why, .. }
            | Class::Unauthorized { why },
            _,
        ) => return Err(why),
        (_, reply) => {
            let status = reply.map_or(0, |reply| reply.status);
            return Err(format!(
                "Mailchimp does not answer as expected (HTTP {status}); check \
                 integration.mailchimp_base_url"
            ));
        }
    };
    let body: Value = serde_json::from_slice(&reply.body)
        .map_err(|error| format!("Mailchimp's account details cannot be read: {error}"))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let account_id = text("account_id")
        .ok_or("Mailchimp's account details name no account_id")?
        .to_owned();
    let detail: Vec<&str> = ["account_name", "role"]
        .iter()
        .filter_map(|name| text(name))
        .collect();
    Ok(Account {
        account_id,
        detail: detail.join(", "),
    })
}
