//! What `integration` decides, as plain Rust: which bytes to send for a record, what an answer
//! means, when to try again, which side wins. Nothing here knows Postgres, sockets, a clock or a
//! source of randomness; `now`, jitter and settings are arguments.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "tables of cases are long")
)]

pub mod consent;
pub mod crypto;
pub mod definitions;
pub mod delivery;
pub mod erasure;
pub mod event_order;
pub mod jobs;
pub mod limits;
pub mod now;
pub mod queue;
pub mod record;
pub mod refusal;
pub mod server;
pub mod service;
pub mod sync;
pub mod value;
pub mod webhook;
pub mod wire;
