//! HubSpot's error documents.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::reply::Reply;

/// A refusal: of a whole call, or of one input of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub status: u16,
    pub category: &'static str,
    pub sub_category: Option<&'static str>,
    pub message: Cow<'static, str>,
    /// `errors[]`
    pub details: Vec<Value>,
    /// Entries of `context`; their values are arrays of strings.
    pub context: Vec<(&'static str, Vec<String>)>,
}

impl Problem {
    pub(crate) fn new(
        status: u16,
        category: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            category,
            sub_category: None,
            message: message.into(),
            details: Vec::new(),
            context: Vec::new(),
        }
    }

    pub(crate) fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "VALIDATION_ERROR", message)
    }

    /// 404 for a record or a path; HubSpot often leaves the category out.
    pub(crate) fn not_found() -> Self {
        Self::new(404, "OBJECT_NOT_FOUND", "resource not found")
    }

    pub(crate) fn context(mut self, name: &'static str, values: Vec<String>) -> Self {
        self.context.push((name, values));
        self
    }

    pub(crate) fn sub(mut self, sub_category: &'static str) -> Self {
        self.sub_category = Some(sub_category);
        self
    }

    fn context_value(&self) -> Value {
        self.context
            .iter()
            .map(|(name, values)| ((*name).to_owned(), json!(values)))
            .collect()
    }

    /// As an entry of a batch answer's `errors`.
    pub(crate) fn as_batch_error(&self) -> Value {
        let mut value = json!({
            "status": "error", "category": self.category, "message": self.message, "context": self.context_value(),
        });
        if let Some(sub) = self.sub_category {
            value["subCategory"] = json!(sub);
        }
        if !self.details.is_empty() {
            value["errors"] = json!(self.details);
        }
        value
    }

    /// As the answer to the call.
    pub(crate) fn reply(&self) -> Reply {
        let mut value = json!({
            "status": "error", "message": self.message, "correlationId": CORRELATION, "category": self.category,
        });
        if let Some(sub) = self.sub_category {
            value["subCategory"] = json!(sub);
        }
        if !self.details.is_empty() {
            value["errors"] = json!(self.details);
        }
        if !self.context.is_empty() {
            value["context"] = self.context_value();
        }
        Reply::value(self.status, &value).with("x-hubspot-correlation-id", CORRELATION)
    }
}

/// Real ones differ per call; nothing may depend on them.
pub(crate) const CORRELATION: &str = "00000000-0000-4000-8000-000000000001";

/// The document that goes with a status when a fault asks for one.
pub(crate) fn for_status(code: u16) -> Reply {
    match code {
        401 => expired_token(42),
        403 => missing_scopes(&["crm.objects.contacts.write".to_owned()]),
        404 => Problem::not_found().reply(),
        409 => Problem::new(409, "CONFLICT", "Contact already exists").reply(),
        429 => super::limits::refused(
            "TEN_SECONDLY_ROLLING",
            "You have reached your ten_secondly_rolling limit.",
        ),
        400 => Problem::validation("Invalid input JSON").reply(),
        _ => Reply::value(
            code,
            &json!({"status": "error", "message": "internal error", "correlationId": CORRELATION}),
        ),
    }
}

pub(crate) fn expired_token(seconds: u64) -> Reply {
    let message =
        format!("The OAuth token used to make this call expired {seconds} second(s) ago.");
    Problem::new(401, "EXPIRED_AUTHENTICATION", message).reply()
}

pub(crate) fn bad_token() -> Reply {
    let message = "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find \
                   more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview";
    Problem::new(401, "INVALID_AUTHENTICATION", message).reply()
}

pub(crate) fn missing_scopes(scopes: &[String]) -> Reply {
    let mut problem = Problem::new(
        403,
        "MISSING_SCOPES",
        "This app hasn't been granted all required scopes to make this call. Read more about required scopes here: \
         https://developers.hubspot.com/scopes.",
    );
    problem.details.push(json!({
        "message": "One or more of the following scopes are required.",
        "context": {"requiredGranularScopes": scopes},
    }));
    problem.reply()
}
