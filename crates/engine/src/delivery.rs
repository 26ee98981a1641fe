//! What is sent for a record, and what its answer means.

pub mod address_owner;
pub(crate) mod batch;
pub mod call;
pub mod circle;
pub mod failure;
pub mod intents;
pub mod notice;
pub mod outcome;
pub mod settlement;
pub mod target_state;
pub(crate) mod verdicts;
