//! Who the API key belongs to, and the audience.

use serde::Deserialize;
use serde_json::Value;

use crate::{Mailchimp, MailchimpSettings};
use integration_engine::{
    record::Target,
    service::failure::{Class, classify},
    wire::{Reply, Request, TransportError},
};

/// Where a credential is good. Mailchimp: an API key ends in a hyphen and its data centre, such as
/// `us19`, which is part of the host. Whatever names none (an OAuth access token) goes to the host
/// that Mailchimp's newer documentation gives for all.
pub fn host_of(credential: &str) -> String {
    match data_centre(credential) {
        Some(centre) => format!("https://{centre}.api.mailchimp.com"),
        None => "https://api.mailchimp.com".to_owned(),
    }
}

/// The data centre that a credential names; no part of the secret.
pub fn data_centre(credential: &str) -> Option<&str> {
    let (_, centre) = credential.rsplit_once('-')?;
    let (letters, digits) = centre.split_at_checked(2)?;
    let right = letters.bytes().all(|byte| byte.is_ascii_lowercase())
        && (1..=3).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    right.then_some(centre)
}

/// The account an API key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub account_id: String,
    /// Its name and the role of the key's user, for people.
    pub detail: String,
}

/// Asks which account the key belongs to.
pub fn account_request() -> Request {
    Request::get(Target::Mailchimp, "/".to_owned())
}

/// Reads the answer to [`account_request`]; the error is a sentence.
pub fn read_account(reply: Result<&Reply, &TransportError>) -> Result<Account, String> {
    let reply = match (classify::<Mailchimp>(reply), reply) {
        (Class::Answered, Ok(reply)) => reply,
        (class, reply) => {
            if let Some(why) = class.trouble() {
                return Err(why.to_owned());
            }
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

/// Asks for the audience that contacts are sent to.
pub fn audience_request(list: &str) -> Request {
    let path = format!("/lists/{list}?fields=id,name,double_optin");
    Request::get(Target::Mailchimp, path)
}

/// Asks for all audiences of the account. Mailchimp: at most 1,000 in a page.
pub fn audiences_request() -> Request {
    let path = "/lists?count=1000&fields=lists.id,lists.name,lists.double_optin".to_owned();
    Request::get(Target::Mailchimp, path)
}

#[derive(Deserialize)]
struct AudiencesBody {
    lists: Vec<Value>,
}

/// Reads the answer to [`audiences_request`]: lines about the audiences in use for people, first
/// those that the account lacks. Whether all are there.
pub fn read_audiences(
    reply: Result<&Reply, &TransportError>,
    used: &[String],
    settings: &MailchimpSettings,
) -> Result<(bool, Vec<String>), String> {
    let reply = match (classify::<Mailchimp>(reply), reply) {
        (Class::Answered, Ok(reply)) => reply,
        (class, reply) => {
            let status = reply.map_or(0, |reply| reply.status);
            let why = format!("Mailchimp does not tell its audiences (HTTP {status})");
            return Err(class.trouble().map_or(why, str::to_owned));
        }
    };
    let body: AudiencesBody = serde_json::from_slice(&reply.body)
        .map_err(|error| format!("Mailchimp's audiences cannot be read: {error}"))?;
    let find = |list: &String| {
        let id = |held: &&Value| held.get("id").and_then(Value::as_str) == Some(list);
        body.lists.iter().find(id)
    };
    let missing = used.iter().filter(|list| find(list).is_none());
    let mut lines: Vec<String> = missing
        .map(|list| format!("the account has no audience {list}"))
        .collect();
    let complete = lines.is_empty();
    lines.extend(
        used.iter()
            .filter_map(|list| Some(described(list, find(list)?, settings.double_opt_in))),
    );
    Ok((complete, lines))
}

/// Reads the answer to [`audience_request`]: a line about it for people; the error is one too.
pub fn read_audience(
    reply: Result<&Reply, &TransportError>,
    settings: &MailchimpSettings,
) -> Result<String, String> {
    let list = &settings.list;
    let reply = match (classify::<Mailchimp>(reply), reply) {
        (Class::Answered, Ok(reply)) => reply,
        (Class::NotFound, _) => {
            return Err(format!(
                "the account has no audience {list}; check integration.mailchimp_list_id"
            ));
        }
        (class, reply) => {
            if let Some(why) = class.trouble() {
                return Err(why.to_owned());
            }
            let status = reply.map_or(0, |reply| reply.status);
            return Err(format!(
                "Mailchimp does not tell about audience {list} (HTTP {status})"
            ));
        }
    };
    let body: Value = serde_json::from_slice(&reply.body)
        .map_err(|error| format!("Mailchimp's audience cannot be read: {error}"))?;
    Ok(described(list, &body, settings.double_opt_in))
}

/// `asks`: new members are asked to confirm. Mailchimp: who is added as `subscribed` is not asked,
/// whatever the audience's own setting.
fn described(list: &str, body: &Value, asks: bool) -> String {
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    let double_opt_in = match (body.get("double_optin").and_then(Value::as_bool), asks) {
        (Some(true), true) => ", double opt-in on",
        (Some(true), false) => {
            ", double opt-in on (but whom the CRM opts in is not asked: \
             integration.mailchimp_double_opt_in is off)"
        }
        (Some(false), _) => ", double opt-in off",
        (None, _) => "",
    };
    format!("audience {list} \u{201c}{name}\u{201d}{double_opt_in}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OnDelete, Resubscribe};

    #[test]
    fn hosts_follow_from_keys() {
        for (credential, host) in [
            ("0123456789abcdef-us19", "us19.api.mailchimp.com"),
            (
                "00000000000000000000000000000000-us1",
                "us1.api.mailchimp.com",
            ),
            ("an-oauth-token-us6", "us6.api.mailchimp.com"),
            ("0123456789abcdef", "api.mailchimp.com"),
            ("an-oauth-token", "api.mailchimp.com"),
            ("key-", "api.mailchimp.com"),
            ("key-us", "api.mailchimp.com"),
            ("key-us1234", "api.mailchimp.com"),
            ("key-us1.evil.example/", "api.mailchimp.com"),
            ("key-\u{fc}1", "api.mailchimp.com"),
            ("", "api.mailchimp.com"),
        ] {
            assert_eq!(
                host_of(credential),
                format!("https://{host}"),
                "{credential}"
            );
        }
    }

    #[test]
    fn audiences_are_described() {
        let settings = MailchimpSettings {
            list: "a6".to_owned(),
            several: false,
            resubscribe: Resubscribe::Never,
            double_opt_in: false,
            on_delete: OnDelete::Archive,
        };
        let cases = [
            (
                200,
                r#"{"id":"a6","name":"News","double_optin":true}"#,
                "Ok audience a6 “News”, double opt-in on (but whom the CRM opts in is not asked",
            ),
            (
                200,
                r#"{"id":"a6","name":"News","double_optin":false}"#,
                "Ok audience a6 “News”, double opt-in off",
            ),
            (200, "<html>", "Err Mailchimp's audience cannot be read"),
            (
                404,
                r#"{"title":"Resource Not Found"}"#,
                "Err the account has no audience a6",
            ),
            (401, "{}", "Err Mailchimp does not accept the credential"),
            (500, "", "Err Mailchimp answered HTTP 500"),
            (
                400,
                "{}",
                "Err Mailchimp does not tell about audience a6 (HTTP 400)",
            ),
        ];
        for (status, body, expected) in cases {
            let reply = Reply {
                status,
                headers: Vec::new(),
                body: body.as_bytes().to_vec(),
            };
            let said = match read_audience(Ok(&reply), &settings) {
                Ok(line) => format!("Ok {line}"),
                Err(line) => format!("Err {line}"),
            };
            assert!(
                said.to_lowercase().starts_with(&expected.to_lowercase()),
                "{status} {body}: {said}"
            );
        }
    }
}
