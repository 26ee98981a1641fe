//! Mailchimp: records become members of one audience, answers become verdicts.
//!
//! Facts about the API are those of its public documentation as of November 2026.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "tables of cases are long")
)]

mod answer;
mod audience;
mod calls;
mod consent;
pub mod definitions;
pub mod engagement;
pub mod erasure;
mod fields;
pub mod hooks;
mod intents;
mod kind;
pub mod listing;
pub mod mandrill;
mod member;
mod plan;
mod service;
mod settings;
pub mod webhook;

pub use {
    audience::account::{
        Account, account_request, audience_request, audiences_request, data_centre, host_of,
        read_account, read_audience, read_audiences,
    },
    audience::{audience_of, unknown_audience},
    consent::identity::{Sought, seek},
    definitions::{needs_definitions, preflight, provision, type_of},
    fields::{merge, values::CONVENTIONS},
    kind::{Leaving, MailchimpCall},
    plan::displaced::address_change,
    plan::list_of,
    service::Mailchimp,
    settings::{MailchimpSettings, OnDelete, Resubscribe},
};

use integration_engine::delivery::call;
use integration_engine::delivery::given::{INTERESTS, PERMISSIONS, TAGS};

/// Mailchimp: at most 500 members in a bulk call.
pub const BULK_MAX: usize = 500;

/// A call that carries records to Mailchimp.
pub type Call = call::Call<Mailchimp>;
type Decision = call::Decision<Mailchimp>;

/// The field an address goes to, and by which a member is known.
pub(crate) const EMAIL_ADDRESS: &str = "email_address";
/// The field that carries consent.
pub(crate) const STATUS: &str = "status";
/// The field that names a record's audience.
pub(crate) const LIST_ID: &str = "list_id";
const LANGUAGE: &str = "language";

/// An address as part of a path, where Mailchimp takes it in place of the hash.
fn in_path(address: &str) -> String {
    let mut path = String::with_capacity(address.len() + 16);
    for byte in address.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests;
