//! Black-box tests: a PostgreSQL with the extension, its worker, and the sandbox. A folder a promise.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

mod audiences;
mod consent;
mod crash;
mod delivery;
mod documents;
mod harness;
mod hubspot;
mod inbound;
mod jobs;
mod official_clients;
mod operate;
mod safety;
