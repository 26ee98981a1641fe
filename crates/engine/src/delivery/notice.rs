//! What a service says beside its answer: that something is going away, or was not taken as sent.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    value::json::shortened,
    wire::{Reply, Request},
};

/// A remark worth a person's attention, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    /// What it is about; the same remark made again has the same.
    pub about: String,
    /// What is said about it.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// A header `Deprecation`, `Sunset` or `Warning`.
    Deprecation,
    /// HubSpot (2026-09): `warnings` in the answer to a write.
    Warning,
}

impl NoticeKind {
    /// As in `integration.alert.kind`.
    pub const fn name(self) -> &'static str {
        match self {
            NoticeKind::Deprecation => "deprecation",
            NoticeKind::Warning => "warning",
        }
    }
}

/// No service documents that it sends these (RFC 9745, RFC 8594, RFC 9110).
const HEADERS: [&str; 3] = ["deprecation", "sunset", "warning"];

/// Finds the remarks in an answer.
pub fn notices(request: &Request, reply: &Reply) -> Vec<Notice> {
    let from_headers = HEADERS.into_iter().filter_map(|name| {
        let value = reply.header(name)?;
        Some(Notice {
            kind: NoticeKind::Deprecation,
            about: format!(
                "{name} on {} {}",
                request.method.name(),
                general(&request.path)
            ),
            text: shortened(value, 200).into_owned(),
        })
    });
    from_headers.chain(warnings(&reply.body)).collect()
}

/// The path without what differs from record to record.
fn general(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let segments = path.split('/').map(|segment| {
        let digits = segment.bytes().all(|byte| byte.is_ascii_digit());
        let hash = segment.len() == 32 && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
        let address = segment.contains('@') || segment.contains("%40");
        if !segment.is_empty() && (digits || hash || address) {
            "…"
        } else {
            segment
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

#[derive(Deserialize)]
struct Warned {
    #[serde(default)]
    results: Vec<Results>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    warnings: Vec<Warning>,
}

#[derive(Deserialize)]
struct Warning {
    #[serde(default)]
    category: String,
    /// A map of strings or of lists of strings.
    #[serde(default)]
    context: Value,
}

/// The category and the property, but not the message: that may quote a person's data.
fn warnings(body: &[u8]) -> Vec<Notice> {
    let said = std::str::from_utf8(body)
        .ok()
        .filter(|text| text.contains("\"warnings\""))
        .and_then(|text| serde_json::from_str::<Warned>(text).ok());
    let Some(said) = said else { return Vec::new() };
    let all = said
        .results
        .into_iter()
        .flat_map(|result| result.warnings)
        .chain(said.warnings);
    let mut notices: Vec<Notice> = Vec::new();
    for warning in all {
        let about = match properties(&warning.context) {
            names if names.is_empty() => warning.category.clone(),
            names => format!("{} of {names}", warning.category),
        };
        if !about.is_empty() && notices.iter().all(|known| known.about != about) {
            notices.push(Notice {
                kind: NoticeKind::Warning,
                about,
                text:
                    "a value sent is kept in another form than it was sent in, or not as expected"
                        .to_owned(),
            });
        }
    }
    notices
}

fn properties(context: &Value) -> String {
    let names: Vec<&str> = match context.get("propertyName") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::Target, wire::Method};

    fn said(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<String> {
        let request = Request {
            target: Target::HubSpot,
            method: Method::Post,
            path: path.to_owned(),
            body: None,
        };
        let reply = Reply {
            status: 200,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.as_bytes().to_vec(),
        };
        notices(&request, &reply)
            .into_iter()
            .map(|notice| format!("{}: {}", notice.kind.name(), notice.about))
            .collect()
    }

    #[test]
    fn remarks_are_found_and_name_no_record() {
        let path = "/crm/objects/2026-09/contacts/batch/upsert";
        let normalized = r#"{"category":"PROPERTY_VALUE_NORMALIZED","message":"1.1.2026","context":{"propertyName":["born"],"rawValue":["1.1.2026"]}}"#;
        type Headers = &'static [(&'static str, &'static str)];
        let cases: Vec<(&str, Headers, String, Vec<&str>)> = vec![
            (path, &[("date", "x")], "{}".to_owned(), vec![]),
            (
                path,
                &[("deprecation", "@1"), ("sunset", "Mon")],
                String::new(),
                vec![
                    "deprecation: deprecation on POST /crm/objects/2026-09/contacts/batch/upsert",
                    "deprecation: sunset on POST /crm/objects/2026-09/contacts/batch/upsert",
                ],
            ),
            (
                "/lists/a6b5da1054/members/62eeb292278cc15f5817cb78f7790b08?x=1",
                &[("warning", "299 - x")],
                String::new(),
                vec!["deprecation: warning on POST /lists/a6b5da1054/members/…"],
            ),
            (
                "/crm/objects/2026-09/contacts/512",
                &[("warning", "x")],
                String::new(),
                vec!["deprecation: warning on POST /crm/objects/2026-09/contacts/…"],
            ),
            (
                path,
                &[],
                format!(r#"{{"results":[{{"id":"1","warnings":[{normalized},{normalized}]}}]}}"#),
                vec!["warning: PROPERTY_VALUE_NORMALIZED of born"],
            ),
            (
                path,
                &[],
                format!(r#"{{"results":[],"warnings":[{normalized}]}}"#),
                vec!["warning: PROPERTY_VALUE_NORMALIZED of born"],
            ),
            (
                path,
                &[],
                r#"{"warnings":[{"category":"X","context":{"propertyName":"a"}},{}]}"#.to_owned(),
                vec!["warning: X of a"],
            ),
            (path, &[], r#"{"warnings":"#.to_owned(), vec![]),
            (
                path,
                &[],
                r#"{"results":[{"properties":{"warnings":"x"}}]}"#.to_owned(),
                vec![],
            ),
        ];
        for (path, headers, body, expected) in cases {
            assert_eq!(said(path, headers, &body), expected, "{path} {body}");
        }
    }
}
