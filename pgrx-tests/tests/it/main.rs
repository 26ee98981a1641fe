//! Black-box tests: a PostgreSQL with the extension, its worker, and the sandbox. A file a promise.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

mod associations;
mod bad_input;
mod bulk;
mod capture;
mod consent;
mod copies;
mod crash;
mod delivery;
mod failures;
mod harness;
mod inbound;
mod lifecycle;
mod operate;
mod poison;
mod secrets;
mod shapes;
