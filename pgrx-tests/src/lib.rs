//! Harness of the black-box tests: throw-away servers, a small CRM, and the sandbox beside it.
//!
//! Only processes started here are ever ended, and by their number.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

pub mod cluster;
mod contract;
pub mod crm;
pub mod equal;
pub mod people;
pub mod portal;
pub mod process;
pub mod remote;
pub mod sql;
pub mod traces;
pub mod uncommitted;
pub mod wait;

mod janitor;
