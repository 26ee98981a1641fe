//! Registering an audience's webhook: which there are, which of them is the one, creating it.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::fault::refusal;
use integration_engine::{
    record::Target,
    wire::{Method, Reply, Request},
};

/// Mailchimp: events of e-mail audiences.
const EVENTS: [&str; 6] = [
    "subscribe",
    "unsubscribe",
    "profile",
    "upemail",
    "cleaned",
    "campaign",
];

/// A webhook that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedWebhook {
    pub url: String,
    pub list: String,
    /// One with this URL whose secret is not known here is deleted and made anew.
    pub replace: bool,
}

impl WantedWebhook {
    /// Returns a text for people, such as Mailchimp's own words, without the URL's path.
    pub fn conceal(&self, text: &str) -> String {
        text.replace(&self.url, &without_path(&self.url))
    }
}

/// Returns a webhook's URL as it may be shown: whoever knows its path may pretend to be Mailchimp.
pub fn without_path(url: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    match url[host..].find('/') {
        Some(at) if host + at + 1 < url.len() => format!("{}***", &url[..=host + at]),
        _ => url.to_owned(),
    }
}

/// How a webhook that there is stands to the one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExistingWebhook {
    /// There is none with this URL.
    None,
    /// This one, by its id, has the URL.
    Same { id: String, signing: bool },
}

/// A webhook that was created. The secret is shown once only.
#[derive(Clone, PartialEq, Eq)]
pub struct CreatedWebhook {
    pub id: String,
    pub secret: Option<String>,
}

/// Why a webhook cannot be had under this URL; `None`: it can.
pub fn unfit(url: &str) -> Option<&'static str> {
    let rest = match url.split_once("://") {
        Some(("https", rest)) => rest,
        Some(("http", rest)) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let name = match host.strip_prefix('[') {
                Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
                None => host.split(':').next().unwrap_or_default(),
            };
            if !["localhost", "127.0.0.1", "::1"].contains(&name) {
                return Some("it is not https; plain http is for loopback only");
            }
            rest
        }
        _ => return Some("it is not https"),
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || host.contains('@') {
        Some("it has no plain host name")
    } else if url.contains('?') || url.contains('#') {
        Some(
            "it has a query; Mailchimp takes URLs that differ in their queries for one, so what \
             tells them apart, such as a secret, belongs into the path",
        )
    } else if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("it has blanks")
    } else if url.len() > 2_000 {
        Some("it is longer than 2,000 characters")
    } else {
        None
    }
}

pub fn list_request(wanted: &WantedWebhook) -> Request {
    Request::get(
        Target::Mailchimp,
        format!("/lists/{}/webhooks", wanted.list),
    )
}

/// Which of the audience's webhooks has the URL.
pub fn read_list(wanted: &WantedWebhook, reply: &Reply) -> Result<ExistingWebhook, String> {
    #[derive(Deserialize)]
    struct WebhooksBody {
        #[serde(default)]
        webhooks: Vec<Hook>,
    }
    #[derive(Deserialize)]
    struct Hook {
        id: String,
        #[serde(default)]
        url: String,
        #[serde(default)]
        signing_enabled: bool,
    }
    let body: WebhooksBody = match reply.status {
        200 => serde_json::from_slice(&reply.body).map_err(|why| unreadable(&why))?,
        404 => {
            return Err(format!(
                "Mailchimp does not know the audience {}",
                wanted.list
            ));
        }
        _ => return Err(refusal(reply)),
    };
    let plain = |url: &str| {
        url.split('?')
            .next()
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_owned()
    };
    let same = body
        .webhooks
        .into_iter()
        .find(|hook| plain(&hook.url) == plain(&wanted.url));
    Ok(
        same.map_or(ExistingWebhook::None, |hook| ExistingWebhook::Same {
            id: hook.id,
            signing: hook.signing_enabled,
        }),
    )
}

/// All events; of what the API does nothing, for that is what we do.
pub fn create_request(wanted: &WantedWebhook) -> Request {
    let events: serde_json::Map<String, Value> = EVENTS
        .iter()
        .map(|event| ((*event).to_owned(), Value::Bool(true)))
        .collect();
    let body = json!({
        "url": wanted.url,
        "events": events,
        "sources": {"user": true, "admin": true, "api": false},
    });
    Request {
        target: Target::Mailchimp,
        method: Method::Post,
        path: format!("/lists/{}/webhooks", wanted.list),
        body: Some(body.to_string().into_bytes()),
    }
}

pub fn read_created(reply: &Reply) -> Result<CreatedWebhook, String> {
    #[derive(Deserialize)]
    struct CreatedBody {
        id: String,
        signing_secret: Option<String>,
    }
    if reply.status != 200 {
        return Err(refusal(reply));
    }
    let body: CreatedBody = serde_json::from_slice(&reply.body).map_err(|why| unreadable(&why))?;
    Ok(CreatedWebhook {
        id: body.id,
        secret: body.signing_secret.filter(|secret| !secret.is_empty()),
    })
}

pub fn delete_request(wanted: &WantedWebhook, id: &str) -> Request {
    Request {
        target: Target::Mailchimp,
        method: Method::Delete,
        path: format!("/lists/{}/webhooks/{id}", wanted.list),
        body: None,
    }
}

/// Gone already is as good.
pub fn read_deleted(reply: &Reply) -> Result<(), String> {
    match reply.status {
        200..=299 | 404 => Ok(()),
        _ => Err(refusal(reply)),
    }
}

/// Says nothing of the body: it may hold a secret.
fn unreadable(why: &serde_json::Error) -> String {
    let what = match why.classify() {
        serde_json::error::Category::Data => "something is missing",
        _ => "it is no JSON",
    };
    format!("Mailchimp answered with a body that cannot be read: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn wanted() -> WantedWebhook {
        WantedWebhook {
            url: "https://crm.example.com/mc/secret".into(),
            list: "a1".into(),
            replace: false,
        }
    }

    #[test]
    fn paths_are_not_shown() {
        for (url, shown) in [
            (
                "https://crm.example.com/mc/secret",
                "https://crm.example.com/***",
            ),
            ("http://[::1]:8080/secret", "http://[::1]:8080/***"),
            ("https://crm.example.com/", "https://crm.example.com/"),
            ("https://crm.example.com", "https://crm.example.com"),
        ] {
            assert_eq!(without_path(url), shown);
        }
        assert_eq!(
            wanted().conceal("https://crm.example.com/mc/secret does not answer"),
            "https://crm.example.com/*** does not answer"
        );
    }

    #[test]
    fn urls_are_https_and_have_no_query() {
        for fit in [
            "https://crm.example.com/mc/secret",
            "https://crm.example.com:8443/",
            "http://127.0.0.1:3000/mc",
            "http://localhost/mc",
            "http://[::1]:80/mc",
        ] {
            assert_eq!(unfit(fit), None, "{fit}");
        }
        for bad in [
            "",
            "crm.example.com",
            "ftp://crm.example.com/",
            "http://crm.example.com/mc",
            "http://127.0.0.1.example.com/mc",
            "http://localhost@example.com/mc",
            "https://",
            "https://user:word@crm.example.com/",
            "https://crm.example.com/mc?secret=1",
            "https://crm.example.com/mc#x",
            "https://crm.example.com/a b",
        ] {
            assert!(unfit(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn one_with_the_same_path_is_found() {
        let hooks = |url: &str| {
            format!(
                r#"{{"webhooks":[{{"id":"h0","url":"https://else.example.com/"}},{{"id":"h1","url":"{url}","signing_enabled":true}}]}}"#
            )
        };
        let found = |url: &str| read_list(&wanted(), &reply(200, &hooks(url))).unwrap();
        let same = ExistingWebhook::Same {
            id: "h1".into(),
            signing: true,
        };
        assert_eq!(found("https://crm.example.com/mc/secret"), same);
        assert_eq!(found("https://crm.example.com/mc/secret?old=1"), same);
        assert_eq!(
            found("https://crm.example.com/mc/other"),
            ExistingWebhook::None
        );
        let unknown = read_list(&wanted(), &reply(404, "{}"));
        assert!(unknown.unwrap_err().contains("audience a1"));
    }

    #[test]
    fn requests_ask_for_all_events_but_our_own() {
        let request = create_request(&wanted());
        assert_eq!(request.path, "/lists/a1/webhooks");
        let body: Value = serde_json::from_slice(request.body.as_deref().unwrap()).unwrap();
        assert_eq!(
            body["sources"],
            json!({"user": true, "admin": true, "api": false})
        );
        assert_eq!(body["events"].as_object().unwrap().len(), 6);
        let created = read_created(&reply(200, r#"{"id":"h1","signing_secret":"whsec"}"#)).unwrap();
        assert_eq!(
            (created.id.as_str(), created.secret.as_deref()),
            ("h1", Some("whsec"))
        );
        let refused = reply(
            400,
            r#"{"title":"Invalid Resource","detail":"The resource submitted could not be validated.",
                "errors":[{"field":"url","message":"We couldn't verify the URL is working. Please double check and try again. HTTP Code: 403"}]}"#,
        );
        let why = read_created(&refused)
            .map(|created| created.id)
            .unwrap_err();
        assert!(why.contains("HTTP Code: 403"), "{why}");
        let odd = read_created(&reply(200, r#"{"signing_secret":"whsec"}"#));
        assert!(!odd.map(|created| created.id).unwrap_err().contains("whsec"));
    }
}
