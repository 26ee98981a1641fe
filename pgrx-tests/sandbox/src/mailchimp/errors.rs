//! Mailchimp's error documents: `application/problem+json`.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::reply::Reply;

/// A refusal.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub status: u16,
    pub title: &'static str,
    pub detail: Cow<'static, str>,
    /// `errors[]`: field and message.
    pub fields: Vec<(String, String)>,
}

impl Problem {
    pub(crate) fn new(
        status: u16,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
            fields: Vec::new(),
        }
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "Invalid Resource", detail)
    }

    /// A resource that does not fit its schema.
    pub(crate) fn field(field: &str, message: impl Into<String>) -> Self {
        let mut problem = Self::invalid(
            "The resource submitted could not be validated. For field-specific details, see the 'errors' array.",
        );
        problem.fields.push((field.to_owned(), message.into()));
        problem
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            404,
            "Resource Not Found",
            "The requested resource could not be found.",
        )
    }

    pub(crate) fn compliance(address: &str) -> Self {
        Self::new(
            400,
            "Member In Compliance State",
            format!(
                "{address} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
            ),
        )
    }

    pub(crate) fn forgotten(address: &str) -> Self {
        Self::new(
            400,
            "Forgotten Email Not Subscribed",
            format!(
                "{address} was permanently deleted and cannot be re-imported. The contact must re-subscribe to get back on the list."
            ),
        )
    }

    pub(crate) fn reply(&self) -> Reply {
        let mut value = json!({
            "type": "https://mailchimp.com/developer/marketing/docs/errors/", "title": self.title, "status": self.status,
            "detail": self.detail, "instance": INSTANCE,
        });
        if !self.fields.is_empty() {
            let errors: Vec<Value> = self
                .fields
                .iter()
                .map(|(field, message)| json!({"field": field, "message": message}))
                .collect();
            value["errors"] = Value::from(errors);
        }
        let mut reply = Reply::value(self.status, &value);
        reply.content_type = "application/problem+json; charset=utf-8";
        reply.with("x-request-id", INSTANCE)
    }
}

/// Real ones differ per call; nothing may depend on them.
const INSTANCE: &str = "00000000-0000-0000-0000-000000000002";

/// The document that goes with a status when a fault asks for one.
pub(crate) fn for_status(code: u16) -> Reply {
    match code {
        400 => Problem::invalid("The resource submitted could not be validated."),
        401 => Problem::new(
            401,
            "API Key Invalid",
            "Your API key may be invalid, or you've attempted to access the wrong datacenter.",
        ),
        403 => Problem::new(
            403,
            "Forbidden",
            "You don't have permission to access the requested resource.",
        ),
        404 => Problem::not_found(),
        429 => Problem::new(
            429,
            "TooManyRequests",
            "You have exceeded the limit of 10 simultaneous connections.",
        ),
        _ => Problem::new(
            code,
            "InternalServerError",
            "An unexpected internal error has occurred.",
        ),
    }
    .reply()
}
