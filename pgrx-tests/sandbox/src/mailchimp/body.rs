//! A member as it is sent: its form, and what of it is kept as it is.

use super::errors::Problem;
use super::status::Status;
use super::store::Pairs;
use crate::clock::{self};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A member as sent, in single calls and in bulk.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Body<'a> {
    #[serde(borrow)]
    pub email_address: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub status: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub status_if_new: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub email_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub language: Option<Cow<'a, str>>,
    pub vip: Option<bool>,
    #[serde(borrow)]
    pub merge_fields: Option<Pairs<'a>>,
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    // What follows is checked for form and kept as it is.
    pub interests: Option<Map<String, Value>>,
    pub location: Option<Map<String, Value>>,
    pub marketing_permissions: Option<Vec<Value>>,
    pub ip_signup: Option<String>,
    pub ip_opt: Option<String>,
    pub timestamp_signup: Option<String>,
    pub timestamp_opt: Option<String>,
}

impl Body<'_> {
    /// Addresses must be IP addresses, times must be times; `""` is allowed for times.
    pub(super) fn check_details(&self) -> Result<(), Problem> {
        for (name, ip) in [("ip_signup", &self.ip_signup), ("ip_opt", &self.ip_opt)] {
            if ip
                .as_ref()
                .is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_err())
            {
                return Err(Problem::field(name, "This value is not a valid IP."));
            }
        }
        for (name, time) in [
            ("timestamp_signup", &self.timestamp_signup),
            ("timestamp_opt", &self.timestamp_opt),
        ] {
            if time
                .as_ref()
                .is_some_and(|time| !time.is_empty() && clock::parse_mailchimp(time).is_none())
            {
                return Err(Problem::field(name, "This value is not a valid datetime."));
            }
        }
        Ok(())
    }

    pub(super) fn store_details(&self, kept: &mut Map<String, Value>) {
        let mut keep = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                kept.insert(name.to_owned(), value);
            }
        };
        keep("location", self.location.clone().map(Value::Object));
        keep("ip_signup", self.ip_signup.clone().map(Value::String));
        keep("ip_opt", self.ip_opt.clone().map(Value::String));
        for (name, time) in [
            ("timestamp_signup", &self.timestamp_signup),
            ("timestamp_opt", &self.timestamp_opt),
        ] {
            let time = time.as_ref().map(|time| {
                clock::parse_mailchimp(time).map_or(String::new(), clock::mailchimp_iso)
            });
            keep(name, time.map(Value::String));
        }
    }
}

/// Reads a status that may be sent.
pub(crate) fn status(field: &str, text: Option<&str>) -> Result<Option<Status>, Problem> {
    text.map(|text| {
        Status::parse(text).ok_or_else(|| {
            Problem::field(
                field,
                "Value must be one of: subscribed, unsubscribed, cleaned, pending, transactional",
            )
        })
    })
    .transpose()
}
