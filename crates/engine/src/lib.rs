//! What `integration` decides, as plain Rust: which bytes to send for a record, what an answer
//! means, when to try again, which side wins. Nothing here knows Postgres, sockets, a clock or a
//! source of randomness; `now`, jitter and settings are arguments.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bars;
mod batch;
pub mod breaker;
pub mod call;
pub mod circle;
pub mod clock;
pub mod conflict;
pub mod consent;
pub mod daily;
pub mod drift;
pub mod erasure;
pub mod event_order;
pub mod failure;
pub mod form;
pub mod hubspot;
pub mod incarnation;
mod json;
pub mod keys;
mod lookups;
pub mod mailchimp;
pub mod mapping;
pub mod membership;
pub mod notice;
pub mod once;
pub mod outcome;
pub mod pace;
pub mod progress;
pub mod queue;
pub mod rate;
pub mod record;
pub mod refusal;
pub mod retry;
pub mod roster;
pub mod scan;
pub mod seal;
pub mod signature;
#[cfg(test)]
mod specs;
pub mod standing;
pub mod traces;
pub mod value;
mod verdicts;
pub mod webhook;
